"""Gaussian mixtures, at every noise level."""

from __future__ import annotations

import torch
from torch import Tensor

from ..noise.level import NoiseLevel
from ..random import standard_normal
from ..scores.model import ExactScore
from .mixture_algebra import MixtureTerms, mixture_terms


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

    def terms(self, x: Tensor, level: NoiseLevel) -> MixtureTerms:
        """The algebra of rows (..., n, d) at a level."""
        return mixture_terms(
            x, *level, self.log_weights, self.rotated_means, self.eigenvalues, self.axes
        )

    def score_and_jacobian_diagonal(
        self, x: Tensor, level: NoiseLevel, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        return self.terms(x, level).score_and_jacobian_diagonal()

    def score_and_divergence(
        self, x: Tensor, level: NoiseLevel, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        return self.terms(x, level).score_and_divergence()

    def score(self, x: Tensor, level: NoiseLevel, context: Tensor | None = None) -> Tensor:
        return self.terms(x, level).score()

    def log_density(self, x: Tensor, level: NoiseLevel, context: Tensor | None = None) -> Tensor:
        return self.terms(x, level).log_density()

    def sample(
        self,
        n: int,
        level: NoiseLevel,
        generator: torch.Generator,
        context: Tensor | None = None,
    ) -> Tensor:
        chosen = choose_components(n, self.log_weights, generator)
        noise = standard_normal((n, self.rotated_means.shape[1]), self.rotated_means, generator)
        deviations = (level.a**2 * self.eigenvalues[chosen] + level.v).sqrt()
        rotated = level.a * self.rotated_means[chosen] + noise * deviations
        return torch.einsum("ne,nde->nd", rotated, self.axes[chosen])
