"""What every score-matching loss shares: noised batches and an integral over noise levels."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from functools import partial
from numbers import Real
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..._compat import Interval, StrOptions
from ..noise.level import NoiseLevel
from ..noise.level_sampling import LevelLaw, LogisticLevels, SingleLevel, WeightedLevels
from ..noise.processes import NoiseProcess
from ..params import ParamsObject
from ..random import standard_normal
from ..scores.corrected import CorrectedScore
from .field import Field, NoisedField
from .weighting import MEASURES

ROWS_PER_LEVEL = 8


class TrainingRows(NamedTuple):
    """Rows to train on, with what belongs to each.

    Attributes
    ----------
    rows : Tensor of shape (n, d)
    weight : Tensor of shape (n,)
        Of mean one over the table; importance weights where rows come from another density.
    context : Tensor of shape (n, m), optional
        What the density is conditional on.
    clean_score : Tensor of shape (n, d), optional
        Gradient of the rows' own log-density, where that is known.
    """

    rows: Tensor
    weight: Tensor
    context: Tensor | None = None
    clean_score: Tensor | None = None

    @property
    def present(self) -> dict[str, Tensor]:
        """Those that are given, by name."""
        return {name: part for name, part in self._asdict().items() if part is not None}


class NoisedRows(NamedTuple):
    """A batch at its noise levels.

    Attributes
    ----------
    clean, noise : Tensor of shape (m, k, d)
    log_snr : Tensor of shape (m, 1)
        That of variance-preserving levels.
    context : Tensor of shape (m, k, c), optional
    clean_score : Tensor of shape (m, k, d), optional
    """

    clean: Tensor
    noise: Tensor
    log_snr: Tensor
    context: Tensor | None = None
    clean_score: Tensor | None = None

    @property
    def level(self) -> NoiseLevel:
        """Its fields have shape (m, 1, 1)."""
        return NoiseLevel.from_log_snr(self.log_snr[..., None])

    @property
    def rows(self) -> Tensor:
        """The noised rows."""
        return self.level.a * self.clean + self.level.v.sqrt() * self.noise

    def field_of(self, model: CorrectedScore) -> NoisedField:
        """What the model makes of rows at these levels."""
        return NoisedField(model, self.level, self.context)


def gain_terms(field: Field, rows: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """``(t - r) . c`` and ``|c|^2`` of noised rows (..., n, d): shapes (..., n).

    c is what the model adds to the noise r that the reference sees, t the noise to regress on.
    The squared error changes by ``|c|^2 - 2 (t - r) . c``.
    """
    seen, correction = field(rows)
    return (correction * (target - seen)).sum(-1), correction.square().sum(-1)


class ScoreLoss(ParamsObject, metaclass=ABCMeta):
    r"""A training objective: rows in, one differentiable number out.

    Every loss is, up to a constant and in expectation,

    .. math:: L = \int E\left[ \tfrac12 |c|^2 - (Z - \hat\epsilon_{ref}) \cdot c \right]
        \mu(d\lambda)

    for the correction c of the noise that the reference sees; they differ in how they estimate
    the product with the unseen noise Z, :math:`E[Z \cdot c] = \sqrt v\, E[\nabla \cdot c]`.
    """

    _parameter_constraints = {
        "weighting": [StrOptions(set(MEASURES))],
        "noise_level": [Interval(Real, 0, 1, closed="both"), None],
    }
    # Whether products in bfloat16 are precise enough.
    half_precision = True
    # Whether calls of the network may leave out other units each.
    dropout = True
    # Whether it takes derivatives of the network, which a compiled one has not.
    differentiates = False
    # Whether every step does the same on the device and never waits for it, so that a GPU can
    # replay it.
    repeats = False
    # How often a row's score is taken.
    n_evaluations = 1
    antithetic = True
    weighting = "likelihood"
    noise_level: float | None = None

    @abstractmethod
    def terms(self, field: Field, rows: Tensor, drawn: Tensor) -> tuple[Tensor, Tensor]:
        """Product and square of every row (..., n): the loss is square / 2 - product.

        Parameters
        ----------
        field : Field
        rows : Tensor of shape (..., n, d)
        drawn : Tensor of shape (..., n, d)
            From :meth:`draw`: the directions in which derivatives are taken, or the noise that
            is regressed on.
        """

    def draw(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """What :meth:`terms` needs that is random, for rows (..., n, d)."""
        return rows.new_empty(0)

    def batch_terms(
        self, model: CorrectedScore, batch: NoisedRows, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Product and square of every noised row (m, k), with new draws."""
        rows = batch.rows
        return self.terms(batch.field_of(model), rows, self.draw(rows, generator))

    def __call__(
        self,
        model: CorrectedScore,
        examples: TrainingRows,
        levels: LevelLaw,
        generator: torch.Generator,
    ) -> Tensor:
        """The loss of a batch of training rows."""
        n = len(examples.rows)
        shared = ROWS_PER_LEVEL if n % ROWS_PER_LEVEL == 0 else 1
        parts = {
            name: part.reshape(-1, shared, *part.shape[1:])
            for name, part in examples.present.items()
        }
        rows = parts["rows"]
        log_snr = levels.stratified(len(rows), generator, rows)[:, None]
        noise = self._noise_like(rows, generator)
        if self.antithetic:
            parts = {name: torch.cat([part, part], 1) for name, part in parts.items()}
        clean, weight = parts.pop("rows"), parts.pop("weight")
        batch = NoisedRows(clean, noise, log_snr, **parts)
        product, square = self.batch_terms(model, batch, generator)
        return (weight * levels.importance(log_snr) * (square / 2 - product)).mean()

    def levels(self, process: NoiseProcess, law: LogisticLevels) -> LevelLaw:
        """What levels to train at, where ``law`` is for all of them.

        Raises
        ------
        ValueError
            Where the one level asked for has no score to learn.
        """
        if self.noise_level is not None:
            return SingleLevel(float(process.trained_level(self.noise_level).log_snr))
        if self.weighting == "likelihood":
            return law
        return WeightedLevels(law, partial(MEASURES[self.weighting], process))

    def started(self, model: CorrectedScore) -> ScoreLoss:
        """The loss of one training run, with what it has to remember."""
        return self

    @property
    def memory(self) -> dict[str, Any]:
        """What a run has to remember, as arrays and numbers."""
        return {}

    def _noise_like(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Normal noise, with both signs where the loss is antithetic."""
        noise = standard_normal(rows.shape, rows, generator)
        return torch.cat([noise, -noise], 1) if self.antithetic else noise
