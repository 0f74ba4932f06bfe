"""What a score model offers: grad log p at every noise level, and its derivative."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod

import torch
from torch import Tensor, nn

from ..noise.conversions import convert
from ..noise.level import NoiseLevel


class ScoreModel(nn.Module, metaclass=ABCMeta):
    r"""The score :math:`\nabla \log p_s(x)` of data noised to a level, with its divergence.

    Rows are tensors of shape (..., n, d); a level has fields of shape () or (n, 1). Scores
    have the rows' shape, divergences (..., n).
    """

    @abstractmethod
    def score_and_divergence(self, x: Tensor, level: NoiseLevel) -> tuple[Tensor, Tensor]:
        """The score and the trace of its Jacobian."""

    def score(self, x: Tensor, level: NoiseLevel) -> Tensor:
        """The score alone."""
        return self.score_and_divergence(x, level)[0]

    def divergence(self, x: Tensor, level: NoiseLevel) -> Tensor:
        """The trace of the score's Jacobian alone."""
        return self.score_and_divergence(x, level)[1]

    def posterior_mean(self, x: Tensor, level: NoiseLevel) -> Tensor:
        r"""The clean row to expect, :math:`E[X_0 \mid X_s = x] = (x + v\,s(x)) / a`."""
        return convert(self.score(x, level), x, level, "score", "clean")


class ExactScore(ScoreModel, metaclass=ABCMeta):
    """A score model that knows the log-density of the noised data as well."""

    @abstractmethod
    def log_density(self, x: Tensor, level: NoiseLevel) -> Tensor:
        """Log-density of the data noised to this level, shape (..., n)."""

    @abstractmethod
    def sample(self, n: int, level: NoiseLevel, generator: torch.Generator) -> Tensor:
        """n draws of the data noised to this level, shape (n, d)."""
