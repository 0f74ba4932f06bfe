"""Gaussian kernel estimates, at every noise level."""

from __future__ import annotations

import torch
from torch import Tensor

from ..constants import LOG_2PI
from ..noise.level import NoiseLevel
from ..random import standard_normal
from ..scores.model import ExactScore
from .mixture import choose_components


class KernelScore(ExactScore):
    r"""Data from a Gaussian kernel estimate, :math:`\sum_i w_i N(x_i, h^2 I)`.

    Parameters
    ----------
    centers : Tensor of shape (k, d)
    bandwidth : float, positive
    weights : Tensor of shape (k,), positive, summing to 1; equal where None
    """

    centers: Tensor
    log_weights: Tensor

    def __init__(self, centers: Tensor, bandwidth: float, weights: Tensor | None = None):
        super().__init__()
        k = len(centers)
        equal = torch.full((k,), 1 / k, dtype=centers.dtype, device=centers.device)
        self.register_buffer("centers", centers)
        self.register_buffer("log_weights", (equal if weights is None else weights).log())
        self.bandwidth = bandwidth

    def _variance(self, level: NoiseLevel) -> Tensor:
        return level.a**2 * self.bandwidth**2 + level.v

    def _log_joint(self, x: Tensor, level: NoiseLevel) -> Tensor:
        variance, d = self._variance(level), x.shape[-1]
        # The centred rows keep the expanded square accurate; (n, k, d) is never formed.
        shift = self.centers.mean(0)
        x, centers = x - level.a * shift, self.centers - shift
        squared = (
            x.square().sum(-1, keepdim=True)
            - 2 * level.a * (x @ centers.T)
            + level.a**2 * centers.square().sum(-1)
        )
        return self.log_weights - 0.5 * (squared / variance + d * (variance.log() + LOG_2PI))

    def score_and_jacobian_diagonal(
        self, x: Tensor, level: NoiseLevel, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        variance = self._variance(level)
        shift = self.centers.mean(0)
        centers = self.centers - shift
        posterior = self._log_joint(x, level).softmax(-1)
        mean = posterior @ centers
        spread = posterior @ centers.square() - mean.square()
        pull = (x - level.a * (mean + shift)) / variance
        return -pull, (level.a**2 * spread / variance - 1) / variance

    def log_density(self, x: Tensor, level: NoiseLevel, context: Tensor | None = None) -> Tensor:
        return self._log_joint(x, level).logsumexp(-1)

    def sample(
        self,
        n: int,
        level: NoiseLevel,
        generator: torch.Generator,
        context: Tensor | None = None,
    ) -> Tensor:
        chosen = self.centers[choose_components(n, self.log_weights, generator)]
        noise = standard_normal(chosen.shape, chosen, generator)
        return level.a * chosen + self._variance(level).sqrt() * noise
