"""Gaussian mixtures as references: their size, moved to the latent space, as exact scores."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from itertools import chain

import numpy as np
import torch
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from sklearn.utils.validation import check_is_fitted

from .._random import seed_from
from ..scores import ExactScore, GaussianMixtureScore, GaussianScore
from ._candidates import Clock, Split

CANDIDATE_SIZES = (1, 2, 3, 4, 6, 8, 10, 12, 15, 18)
MAX_ROWS, ROWS_PER_COVARIANCE, ENOUGH_HELD_OUT_ROWS = 10000, 20, 200
REG_COVAR, MORE_ITERATIONS = 1e-5, 20
# Shares of max_fit_time after which mixtures are no longer sought, before the first training
# and after it.
FIRST_SEARCH_SHARE, SEARCH_SHARE = 0.1, 0.5
# A triangular map is sought where this share of the time is left, may take that one, and needs
# rows for its many numbers.
LEFT_SHARE, TRIANGULAR_SHARE, ROWS_PER_COLUMN = 0.3, 0.15, 150


def standard_gaussian(n_features: int) -> GaussianMixture:
    """N(0, I) as a one-component mixture."""
    return mixture_from(np.ones(1), np.zeros((1, n_features)), np.eye(n_features)[None])


def mixture_from(
    weights: np.ndarray, means: np.ndarray, covariances: np.ndarray
) -> GaussianMixture:
    """A fitted scikit-learn mixture with full covariances and these parameters."""
    mixture = GaussianMixture(len(weights), covariance_type="full")
    mixture.weights_, mixture.means_, mixture.covariances_ = weights, means, covariances
    factors = np.linalg.cholesky(np.linalg.inv(covariances))
    mixture.precisions_cholesky_ = factors
    mixture.precisions_ = factors @ factors.transpose(0, 2, 1)
    mixture.converged_, mixture.n_iter_, mixture.lower_bound_ = True, 0, np.nan
    mixture.n_features_in_ = means.shape[1]
    return mixture


def full_covariances(mixture) -> np.ndarray:
    """A fitted mixture's covariances (k, d, d), whatever its covariance_type."""
    k, d = mixture.means_.shape
    covariances, eye = mixture.covariances_, np.eye(d)
    if mixture.covariance_type == "full":
        return covariances
    if mixture.covariance_type == "tied":
        return np.broadcast_to(covariances, (k, d, d)).copy()
    variances = covariances if covariances.ndim == 2 else covariances[:, None]
    return variances[:, :, None] * eye


def transformed(mixture: GaussianMixture, shift: np.ndarray, matrix: np.ndarray) -> GaussianMixture:
    """The mixture of (x - shift) @ matrix."""
    covariances = matrix.T @ full_covariances(mixture) @ matrix
    return mixture_from(mixture.weights_, (mixture.means_ - shift) @ matrix, covariances)


class MixtureSearch:
    """Mixtures of growing size in the space of a split, until two in a row bring nothing.

    They are compared by held-out rows where there are enough, else by the Bayesian
    information criterion. Weighted rows are resampled, since scikit-learn's mixtures take no
    weights. Each is fitted to at most ``MAX_ROWS`` rows, then for some iterations to all, or
    to a number for each entry of a covariance. ``value`` is the mean log-density of the
    held-out rows, in input units, under the best so far.
    """

    def __init__(self, split: Split, random_state: np.random.RandomState):
        self.split, self.random_state = split, random_state
        self.rows, weight = split.train
        n, d = self.rows.shape
        n_used = min(n, max(MAX_ROWS, ROWS_PER_COVARIANCE * d**2))
        if n > MAX_ROWS or np.ptp(weight) > 0:
            chosen = random_state.choice(n, n_used, p=weight / weight.sum())
            self.rows = self.rows[chosen]
        self.sizes = [size for size in CANDIDATE_SIZES if n_used >= 3 * size]
        self.best, self.n_worse = standard_gaussian(d), 0
        self.value, self.merit = self._value_and_merit(self.best)

    def go_on(self, clock: Clock, share: float = 1.0) -> GaussianMixture:
        """Try more sizes while this share of the time lasts; the best mixture of all so far."""
        while self.sizes and self.n_worse < 2 and clock.left(share) > 0:
            mixture = self._fitted(self.sizes.pop(0))
            value, merit = self._value_and_merit(mixture)
            self.n_worse = 0 if merit > self.merit else self.n_worse + 1
            if merit > self.merit:
                self.best, self.value, self.merit = mixture, value, merit
        return self.best

    def _fitted(self, size: int) -> GaussianMixture:
        mixture = GaussianMixture(size, reg_covar=REG_COVAR, random_state=self.random_state)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            mixture.fit(self.rows[:MAX_ROWS])
            if len(self.rows) <= MAX_ROWS:
                return mixture
            start = {
                "weights_init": mixture.weights_,
                "means_init": mixture.means_,
                "precisions_init": mixture.precisions_,
            }
            again = clone(mixture).set_params(max_iter=MORE_ITERATIONS, **start)
            return again.fit(self.rows)

    def _value_and_merit(self, mixture: GaussianMixture) -> tuple[float, float]:
        value = self.split.score(mixture.score_samples)
        enough = len(self.split.held_out[0]) >= ENOUGH_HELD_OUT_ROWS
        return value, value if enough else -mixture.bic(self.rows)


def references(
    option: str | GaussianMixture | None,
    marginals: str | None,
    split_by: Callable[[str | None], Split],
    random_state: np.random.RandomState,
    clock: Clock,
    max_epochs: int,
    best_value: Callable[[], float],
) -> Iterator[tuple[Split, GaussianMixture, float]]:
    """What to correct: splits of a space, mixtures there, and values that training must reach.

    ``split_by`` gives the rows behind a kind of column maps. Where "auto" bends columns, lines are
    considered as well, and either with and without a radial map. Where a network is behind
    another mixture alone after part of its training, the rest of the time is for that mixture.
    Where time is left at the end, a triangular map follows that has to beat ``best_value``, what
    held-out rows say of the best so far, without any network.
    """
    split = split_by(marginals)
    d = split.train[0].shape[1]
    families = [[split]] if marginals != "auto" else _families(split, split_by)
    if isinstance(option, GaussianMixture):
        check_is_fitted(option)
        if option.means_.shape[1] != d:
            raise ValueError(
                f"The reference has {option.means_.shape[1]} columns, X has {d}; fit the "
                "GaussianMixture on the same columns."
            )
        yield split, transformed(option, *split.latent.as_affine()), -np.inf
    elif option == "auto":
        yield from _rivals(families, random_state, clock)
        if marginals == "auto" and d > 1 and clock.left(1 - LEFT_SHARE) > 0:
            yield from _triangular(families[-1][0], random_state, clock, max_epochs, best_value())
    else:
        best = max(chain(*families), key=_gaussian_value)
        mixture = standard_gaussian(d)
        if option == "gmm":
            mixture = MixtureSearch(best, random_state).go_on(Clock(None))
        yield best, mixture, -np.inf


def _families(split: Split, split_by: Callable[[str], Split]) -> list[list[Split]]:
    """Spaces by column maps, bent and straight, each without a radial map and with one."""
    # Columns with several modes may hide clusters that are plain in the rows themselves.
    bent = len(split.latent.columns.curved) > 0
    splits = [split, split_by("standardize")] if bent else [split]
    twins = [(each, each.with_radial_map()) for each in splits]
    return [[twin for twin in pair if twin is not None] for pair in twins]


def _gaussian_value(split: Split) -> float:
    return split.score(standard_gaussian(split.train[0].shape[1]).score_samples)


def _rivals(families, random_state, clock):
    """The Gaussian of one space, then the mixtures of all, the best first.

    Of a family's spaces a mixture decides, which tells whether a radial map tears clusters; of
    the families the Gaussian, which tells how far the columns are from normal.
    """
    searches = [[MixtureSearch(space, random_state) for space in family] for family in families]
    every = list(chain(*searches))
    for k, search in enumerate(every, 1):
        search.go_on(clock, FIRST_SEARCH_SHARE * k / len(every))
    chosen = [max(family, key=lambda search: search.value).split for family in searches]
    first = max(chosen, key=_gaussian_value)
    hurdle = max(search.value for search in every)
    yield first, standard_gaussian(first.train[0].shape[1]), hurdle
    for search in sorted(every, key=lambda search: search.value, reverse=True):
        if clock.left() > 0:
            yield search.split, search.go_on(clock, SEARCH_SHARE), -np.inf


def _triangular(straight, random_state, clock, max_epochs, wanted):
    """The Gaussian behind a triangular map of straight columns."""
    n, d = straight.train[0].shape
    if n < ROWS_PER_COLUMN * d:
        return
    seconds = TRIANGULAR_SHARE * clock.seconds
    split = straight.with_triangular_map(wanted, seconds, max_epochs, seed_from(random_state))
    if split is not None:
        yield split, standard_gaussian(d), -np.inf


def as_score(mixture: GaussianMixture) -> ExactScore:
    """The mixture as an exact score model, in float64."""
    means = torch.from_numpy(mixture.means_)
    covariances = torch.from_numpy(full_covariances(mixture))
    if len(means) == 1:
        return GaussianScore(means[0], covariances[0])
    return GaussianMixtureScore(torch.from_numpy(mixture.weights_), means, covariances)
