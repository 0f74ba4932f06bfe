"""Base densities: what a table's rows are given without a network, and in which space."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import NamedTuple

import numpy as np
from sklearn.mixture import GaussianMixture
from sklearn.utils.validation import check_is_fitted

from .._budget import Budget
from .._evaluation.references import Reference
from .._mixtures.parameters import standard_gaussian, transformed
from .._transforms.chain import Chain
from .._transforms.fitting import as_affine
from .._transforms.marginal import MarginalTransform
from .split import Split, Table
from .tuning import TUNING

NOT_FITTED = (
    "The reference is a %(name)s that is not fitted. Fit it first; within a search or a "
    "cross-validation, whose clones forget their fit, give FrozenEstimator(mixture)."
)


class Base(NamedTuple):
    """A fitted density in the space of a split, which a network may correct.

    Attributes
    ----------
    split : Split
    reference : GaussianMixture in the latent space, or BaseDensity with this latent space
    value : float
        Mean log-density of the validation rows, in input units.
    refit : callable (Budget) -> (Chain, GaussianMixture), optional
        The same fitted to training and validation rows, where no network corrects it.
    gain_of_refit : float
        What that is expected to bring, in nats a row.
    """

    split: Split
    reference: Reference
    value: float
    refit: Callable[[Budget], tuple[Chain, GaussianMixture]] | None = None
    gain_of_refit: float = 0.0

    @classmethod
    def of(cls, split: Split, reference: Reference, **options) -> Base:
        """A base with its value."""
        base = cls(split, reference, np.nan, **options)
        return base._replace(value=split.score(base.log_density))

    @property
    def expected_value_alone(self) -> float:
        """The value to expect of it where no network corrects it."""
        return self.value + self.gain_of_refit

    def log_density(self, Z: np.ndarray) -> np.ndarray:
        """Log-densities (n,) of latent rows."""
        if isinstance(self.reference, GaussianMixture):
            return self.reference.score_samples(Z)
        return self.reference._latent_density().log_density(Z)[0]

    def without_network(self, budget: Budget) -> tuple[Chain, Reference]:
        """The map and the density where no network corrects it, with all rows if they help."""
        return (self.split.latent, self.reference) if self.refit is None else self.refit(budget)


class Family(metaclass=ABCMeta):
    """Base densities of one kind, of which more time makes better ones.

    Attributes
    ----------
    name : str
        In words.
    value : float
        That of the best so far.
    """

    name: str
    value: float

    @abstractmethod
    def expected_value(self, budget: Budget) -> float:
        """The value to expect of growing."""

    @abstractmethod
    def grow(self, budget: Budget) -> None:
        """Take what time is left for something better."""

    @abstractmethod
    def base(self) -> Base:
        """The best so far."""


def gaussian(split: Split) -> Base:
    """N(0, I) in a space."""
    normal = standard_gaussian(split.n_features)
    return Base.of(split, normal, refit=lambda budget: (split.map_of_all_rows(), normal))


def given(reference: Reference, table: Table, marginals: str | None) -> Base:
    """A fitted density: behind its own transforms, or a mixture behind linear ones."""
    check_is_fitted(reference, msg=NOT_FITTED)
    n_features = table.X.shape[1]
    if reference.n_features_in_ != n_features:
        raise ValueError(
            f"The reference has {reference.n_features_in_} columns, X has {n_features}; fit the "
            f"{type(reference).__name__} on the same columns."
        )
    if isinstance(reference, GaussianMixture):
        split = table.split(marginals)
        return Base.of(split, transformed(reference, *as_affine(split.latent)))
    reference._require_level("references")
    return Base.of(Split(Chain.from_arrays(reference.latent_map_), table), reference)


def spaces(table: Table, marginals: str | None) -> list[list[Split]]:
    """Spaces by marginal transform, each without radial Gaussianization and with it.

    Where "auto" bends columns, lines are considered as well: columns with several modes may hide
    clusters that are plain in the rows themselves. Of few rows cross-validation takes one.
    """
    split = table.split(marginals)
    if marginals != "auto":
        return [[split]]
    splits = [split]
    if len(split.latent.part(MarginalTransform).curved) > 0:
        splits.append(table.split("standardize"))
        if split.is_of_few_rows:
            splits = [splits[int(np.argmax(_cross_validated(table)))]]
    twins = [(each, each.with_radial_map()) for each in splits]
    return [[twin for twin in pair if twin is not None] for pair in twins]


def best_gaussian(candidates: Iterable[Split]) -> Base:
    """The Gaussian of the best of these spaces."""
    return max(map(gaussian, candidates), key=attrgetter("value"))


def _cross_validated(table: Table) -> list[float]:
    """What the rows of every fold say of a Gaussian of the others, bent columns first."""
    n_folds = TUNING.n_folds
    fold = np.random.default_rng(table.seed).permutation(len(table.X)) % n_folds
    tables = [table._replace(held_out=fold == k) for k in range(n_folds)]
    return [
        float(np.mean([gaussian(each.split(marginals)).value for each in tables]))
        for marginals in ("auto", "standardize")
    ]
