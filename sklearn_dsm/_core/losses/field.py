"""What a loss shapes: the correction of the noise that a reference sees, as a function of rows."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod

import torch
from torch import Tensor

from ..distributions.mixture_network import MixtureScores
from ..noise.level import NoiseLevel
from ..scores.corrected import CorrectedScore


class Field(metaclass=ABCMeta):
    r"""The noise r that a reference sees in rows (..., n, d), and what a model adds to it, c.

    Attributes
    ----------
    scale : Tensor of shape (), (n, 1) or (m, 1, 1)
        :math:`\sigma` in :math:`E[Z \cdot c(X + \sigma Z)] = \sigma\,E[\nabla\cdot c]`, the
        standard deviation of the noise Z in the rows.
    """

    scale: Tensor

    @abstractmethod
    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """r and c, each (..., n, d)."""

    @abstractmethod
    def with_divergence(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """r, c and the divergence of c (..., n)."""


class NoisedField(Field):
    """That of a corrected score at noise levels."""

    def __init__(self, model: CorrectedScore, level: NoiseLevel, context: Tensor | None = None):
        self.model, self.level, self.context = model, level, context
        self.scale = level.v.sqrt()

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.model.noise_and_correction(x, self.level, self.context)

    def with_divergence(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.model.noise_correction_and_divergence(x, self.level, self.context)


class CleanField(Field):
    r"""Minus the score of a mixture at rows without noise, which no reference sees any in.

    The loss of a noised field, :math:`|c|^2 / 2 - \sigma \nabla\cdot c`, is then that of
    implicit score matching.
    """

    def __init__(self, mixture: MixtureScores, level: NoiseLevel):
        self.mixture, self.level = mixture, level
        self.scale = torch.ones_like(level.v)

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(x), -self.mixture.terms(x, self.level).score()

    def with_divergence(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        score, divergence = self.mixture.terms(x, self.level).score_and_divergence()
        return torch.zeros_like(x), -score, -divergence
