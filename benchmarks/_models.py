"""Exact mixtures that several benchmarks share."""

from __future__ import annotations

import torch

from sklearn_dsm._core.distributions.gaussian import GaussianScore
from sklearn_dsm._core.distributions.mixture import GaussianMixtureScore

DTYPE = torch.float64


def random_mixture(n_features: int, n_components: int = 4, seed: int = 0, width: float = 0.05):
    """A mixture's score, its moment-matched Gaussian, and a function that draws rows."""
    generator = torch.Generator().manual_seed(seed)
    draw = {"generator": generator, "dtype": DTYPE}
    weights = torch.rand(n_components, **draw) + 0.2
    weights /= weights.sum()
    means = torch.randn(n_components, n_features, **draw)
    factors = 0.3 * torch.randn(n_components, n_features, n_features, **draw)
    covariances = factors @ factors.mT / n_features + width * torch.eye(n_features, dtype=DTYPE)
    mean = weights @ means
    covariance = torch.einsum("k,kde->de", weights, covariances)
    covariance += torch.einsum("k,kd,ke->de", weights, means - mean, means - mean)
    return GaussianMixtureScore(weights, means, covariances), GaussianScore(mean, covariance)
