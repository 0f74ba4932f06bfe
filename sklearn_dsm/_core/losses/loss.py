"""What every score-matching loss shares: noised batches and an integral over noise levels."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from functools import partial
from numbers import Real
from typing import NamedTuple

import torch
from sklearn.utils._param_validation import Interval, StrOptions
from torch import Tensor

from ..noise.level import NoiseLevel
from ..noise.level_sampling import LevelLaw, LogisticLevels, SingleLevel, WeightedLevels
from ..noise.processes import NoiseProcess
from ..params import ParamsObject
from ..random import standard_normal
from ..scores.corrected import CorrectedScore
from .weighting import MEASURES

ROWS_PER_LEVEL = 8


class NoisedRows(NamedTuple):
    """A batch at its noise levels.

    Attributes
    ----------
    clean, noise : Tensor of shape (m, k, d)
    log_snr : Tensor of shape (m, 1)
        That of variance-preserving levels.
    """

    clean: Tensor
    noise: Tensor
    log_snr: Tensor

    @property
    def level(self) -> NoiseLevel:
        """Its fields have shape (m, 1, 1)."""
        return NoiseLevel.from_log_snr(self.log_snr[..., None])

    @property
    def rows(self) -> Tensor:
        """The noised rows."""
        return self.level.a * self.clean + self.level.v.sqrt() * self.noise


def gain_terms(
    model: CorrectedScore, rows: Tensor, noise: Tensor, log_snr: Tensor
) -> tuple[Tensor, Tensor]:
    """``r . c`` and ``|c|^2`` of rows (..., n, d) noised by Z: shapes (..., n) as the noise.

    c is what the model adds to the noise the reference sees, r the noise it misses. The
    squared error of the noise changes by ``|c|^2 - 2 r . c``.
    """
    batch = NoisedRows(rows, noise, log_snr)
    seen, correction = model.noise_and_correction(batch.rows, batch.level)
    return (correction * (noise - seen)).sum(-1), correction.square().sum(-1)


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
    antithetic = True
    weighting = "likelihood"
    noise_level: float | None = None

    @abstractmethod
    def terms(
        self, model: CorrectedScore, batch: NoisedRows, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Product and square of every noised row (m, k): the loss is square / 2 - product."""

    def __call__(
        self,
        model: CorrectedScore,
        rows: Tensor,
        weight: Tensor,
        levels: LevelLaw,
        generator: torch.Generator,
    ) -> Tensor:
        """The loss of a batch of rows (n, d) with weights (n,) of mean one over the table."""
        n, d = rows.shape
        shared = ROWS_PER_LEVEL if n % ROWS_PER_LEVEL == 0 else 1
        rows, weight = rows.reshape(-1, shared, d), weight.reshape(-1, shared)
        log_snr = levels.stratified(len(rows), generator, rows)[:, None]
        noise = self._noise_like(rows, generator)
        if self.antithetic:
            rows, weight = rows.repeat(1, 2, 1), weight.repeat(1, 2)
        product, square = self.terms(model, NoisedRows(rows, noise, log_snr), generator)
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

    def _noise_like(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Normal noise, with both signs where the loss is antithetic."""
        noise = standard_normal(rows.shape, rows, generator)
        return torch.cat([noise, -noise], 1) if self.antithetic else noise
