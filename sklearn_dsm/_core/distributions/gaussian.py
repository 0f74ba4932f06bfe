"""The Gaussian, at every noise level."""

from __future__ import annotations

import torch
from torch import Tensor

from ..constants import LOG_2PI
from ..noise.level import NoiseLevel
from ..random import standard_normal
from ..scores.model import ExactScore


class GaussianScore(ExactScore):
    r"""Data from :math:`N(\mu, \Sigma)`; at a level they are :math:`N(a\mu, a^2\Sigma + vI)`.

    Parameters
    ----------
    mean : Tensor of shape (d,)
    covariance : Tensor of shape (d, d), positive definite
    """

    mean: Tensor
    eigenvalues: Tensor
    axes: Tensor

    def __init__(self, mean: Tensor, covariance: Tensor):
        super().__init__()
        eigenvalues, axes = torch.linalg.eigh(covariance)
        self.register_buffer("mean", mean)
        self.register_buffer("eigenvalues", eigenvalues)
        self.register_buffer("axes", axes)

    def _standardize(self, x: Tensor, level: NoiseLevel) -> tuple[Tensor, Tensor]:
        variances = level.a**2 * self.eigenvalues + level.v
        return (x - level.a * self.mean) @ self.axes, variances

    def score_and_jacobian_diagonal(
        self, x: Tensor, level: NoiseLevel, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        y, variances = self._standardize(x, level)
        diagonal = -variances.reciprocal() @ self.axes.square().T
        return -(y / variances) @ self.axes.T, diagonal.expand(x.shape)

    def score_and_divergence(
        self, x: Tensor, level: NoiseLevel, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        y, variances = self._standardize(x, level)
        divergence = -variances.reciprocal().sum(-1).expand(x.shape[:-1])
        return -(y / variances) @ self.axes.T, divergence

    def log_density(self, x: Tensor, level: NoiseLevel, context: Tensor | None = None) -> Tensor:
        y, variances = self._standardize(x, level)
        return -0.5 * (y**2 / variances + variances.log() + LOG_2PI).sum(-1)

    def sample(
        self,
        n: int,
        level: NoiseLevel,
        generator: torch.Generator,
        context: Tensor | None = None,
    ) -> Tensor:
        noise = standard_normal((n, len(self.mean)), self.mean, generator)
        deviations = (level.a**2 * self.eigenvalues + level.v).sqrt()
        return level.a * self.mean + (noise * deviations) @ self.axes.T
