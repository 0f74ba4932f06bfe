"""What a score model offers: grad log p at every noise level, and its derivatives."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod

import torch
from torch import Tensor, nn

from ..noise.conversions import convert
from ..noise.level import NoiseLevel


class ScoreModel(nn.Module, metaclass=ABCMeta):
    r"""The score :math:`\nabla \log p_s(x \mid c)` of data noised to a level, with its Jacobian.

    Rows x are tensors of shape (..., n, d); a level has fields of shape () or (n, 1). Scores and
    diagonals of Jacobians have the rows' shape, divergences (..., n). The context c, of shape
    (..., n, m), holds what the density is conditional on; None where it is not conditional, and
    a model of a density that is not conditional gives the same with any.
    """

    @abstractmethod
    def score_and_jacobian_diagonal(
        self, x: Tensor, level: NoiseLevel, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The score and the diagonal of its Jacobian in x."""

    def score_and_divergence(
        self, x: Tensor, level: NoiseLevel, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The score and the trace of its Jacobian, where that costs less than the diagonal."""
        score, diagonal = self.score_and_jacobian_diagonal(x, level, context)
        return score, diagonal.sum(-1)

    def score(self, x: Tensor, level: NoiseLevel, context: Tensor | None = None) -> Tensor:
        """The score alone."""
        return self.score_and_divergence(x, level, context)[0]

    def divergence(self, x: Tensor, level: NoiseLevel, context: Tensor | None = None) -> Tensor:
        """The trace of the score's Jacobian alone."""
        return self.score_and_divergence(x, level, context)[1]

    def jacobian(self, x: Tensor, level: NoiseLevel, context: Tensor | None = None) -> Tensor:
        """The whole Jacobian (..., n, d, d) of the score in x; entry i, j is d s_i / d x_j."""
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            score = self.score(x, level, context)
            rows = [
                torch.autograd.grad(score[..., i].sum(), x, retain_graph=True)[0]
                for i in range(x.shape[-1])
            ]
        return torch.stack(rows, -2)

    def posterior_mean(self, x: Tensor, level: NoiseLevel, context: Tensor | None = None) -> Tensor:
        r"""The clean row to expect, :math:`E[X_0 \mid X_s = x] = (x + v\,s(x)) / a`."""
        return convert(self.score(x, level, context), x, level, "score", "clean")


class ExactScore(ScoreModel, metaclass=ABCMeta):
    """A score model that knows the log-density of the noised data as well."""

    @abstractmethod
    def log_density(self, x: Tensor, level: NoiseLevel, context: Tensor | None = None) -> Tensor:
        """Log-density of the data noised to this level, shape (..., n)."""

    @abstractmethod
    def sample(
        self,
        n: int,
        level: NoiseLevel,
        generator: torch.Generator,
        context: Tensor | None = None,
    ) -> Tensor:
        """n draws of the data noised to this level, shape (n, d); context has shape (n, m)."""
