"""Gaussian mixtures, at every noise level."""

from __future__ import annotations

import torch
from torch import Tensor

from ..constants import LOG_2PI
from ..noise.level import NoiseLevel
from ..random import standard_normal
from ..scores.model import ExactScore


def choose_components(n: int, log_weights: Tensor, generator: torch.Generator) -> Tensor:
    """n indices of components, each as likely as its weight."""
    return torch.multinomial(log_weights.exp(), n, replacement=True, generator=generator)


class GaussianMixtureScore(ExactScore):
    r"""Data from :math:`\sum_k w_k N(\mu_k, \Sigma_k)`, a Gaussian mixture at every level.

    Parameters
    ----------
    weights : Tensor of shape (k,), positive, summing to 1
    means : Tensor of shape (k, d)
    covariances : Tensor of shape (k, d, d), positive definite
    """

    log_weights: Tensor
    eigenvalues: Tensor
    axes: Tensor
    rotated_means: Tensor

    def __init__(self, weights: Tensor, means: Tensor, covariances: Tensor):
        super().__init__()
        eigenvalues, axes = torch.linalg.eigh(covariances)
        self.register_buffer("log_weights", weights.log())
        self.register_buffer("eigenvalues", eigenvalues)
        self.register_buffer("axes", axes)
        self.register_buffer("rotated_means", torch.einsum("kd,kde->ke", means, axes))

    def _components(self, x: Tensor, level: NoiseLevel) -> tuple[Tensor, Tensor, Tensor]:
        """Weighted log-densities, pulls C_k^-1 (x - m_k) in the axes, and traces of C_k^-1."""
        a, v = level.a[..., None], level.v[..., None]
        variances = a**2 * self.eigenvalues + v
        k, d = self.rotated_means.shape
        rotated = (x @ self.axes.permute(1, 0, 2).reshape(d, k * d)).reshape(*x.shape[:-1], k, d)
        offsets = rotated - a * self.rotated_means
        pulls = offsets / variances
        log_joint = self.log_weights - 0.5 * (
            (offsets * pulls).sum(-1) + variances.log().sum(-1) + d * LOG_2PI
        )
        return log_joint, pulls, variances.reciprocal().sum(-1)

    def score_and_divergence(self, x: Tensor, level: NoiseLevel) -> tuple[Tensor, Tensor]:
        log_joint, pulls, traces = self._components(x, level)
        posterior = log_joint.softmax(-1)
        k, d = self.rotated_means.shape
        weighted = (posterior[..., None] * pulls).flatten(-2)
        score = -weighted @ self.axes.permute(0, 2, 1).reshape(k * d, d)
        curvature = pulls.square().sum(-1) - traces
        return score, (posterior * curvature).sum(-1) - score.square().sum(-1)

    def log_density(self, x: Tensor, level: NoiseLevel) -> Tensor:
        return self._components(x, level)[0].logsumexp(-1)

    def sample(self, n: int, level: NoiseLevel, generator: torch.Generator) -> Tensor:
        chosen = choose_components(n, self.log_weights, generator)
        noise = standard_normal((n, self.rotated_means.shape[1]), self.rotated_means, generator)
        deviations = (level.a**2 * self.eigenvalues[chosen] + level.v).sqrt()
        rotated = level.a * self.rotated_means[chosen] + noise * deviations
        return torch.einsum("ne,nde->nd", rotated, self.axes[chosen])
