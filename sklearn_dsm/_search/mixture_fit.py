"""Gaussian mixtures with full covariances by expectation-maximization, of weighted rows."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from sklearn.cluster import KMeans
from sklearn.mixture import GaussianMixture
from torch import Tensor

from .._core.arrays import tensor_of
from .._core.constants import LOG_2PI
from .._evaluation.mixtures import full_covariances, mixture_from
from .._transforms.em import expectation_maximization

# Nats a row; the default of scikit-learn's mixtures, and the iterations that these take at most.
TOLERANCE, MAX_ITERATIONS = 1e-3, 100


class FittedMixture(NamedTuple):
    """A mixture, and the iterations that it took."""

    mixture: GaussianMixture
    n_iterations: int


class _Parameters(NamedTuple):
    weights: Tensor
    means: Tensor
    covariances: Tensor


def fit_mixture(
    rows: np.ndarray,
    weight: np.ndarray,
    n_components: int,
    reg_covar: float,
    random_state: np.random.RandomState,
) -> FittedMixture:
    """Fit a mixture, starting from the clusters of k-means.

    scikit-learn's mixtures take no weights, and warn where their iterations run out, which cannot
    be silenced for one thread alone.

    Parameters
    ----------
    rows : ndarray of shape (n, d)
        With as many different ones as components at least.
    weight : ndarray of shape (n,)
    n_components : int
    reg_covar : float
        Added to the diagonals of the covariances.
    random_state : RandomState
    """
    clusters = KMeans(n_components, n_init=1, random_state=random_state)
    labels = clusters.fit(rows, sample_weight=weight).labels_
    posterior = tensor_of(labels == np.arange(n_components)[:, None]).double()
    em = _WeightedEM(rows, weight, reg_covar)
    return em.run(em.maximize(posterior), MAX_ITERATIONS)


def continue_mixture(
    mixture: GaussianMixture,
    rows: np.ndarray,
    weight: np.ndarray,
    reg_covar: float,
    n_iterations: int,
) -> FittedMixture:
    """The mixture after more iterations with these rows."""
    parts = (mixture.weights_, mixture.means_, full_covariances(mixture))
    start = _Parameters(*(tensor_of(np.ascontiguousarray(part)) for part in parts))
    return _WeightedEM(rows, weight, reg_covar).run(start, n_iterations)


class _WeightedEM:
    def __init__(self, rows: np.ndarray, weight: np.ndarray, reg_covar: float):
        self.rows = tensor_of(np.ascontiguousarray(rows))
        self.weight = tensor_of(weight / weight.sum())
        self.floor = reg_covar * torch.eye(rows.shape[1], dtype=torch.float64)
        self.n_iterations = 0

    def run(self, start: _Parameters, n_iterations: int) -> FittedMixture:
        found, _ = expectation_maximization(
            start, self.expect, self.maximize, n_iterations, TOLERANCE
        )
        mixture = mixture_from(*(part.numpy() for part in found))
        return FittedMixture(mixture, self.n_iterations)

    def expect(self, parameters: _Parameters) -> tuple[Tensor, float]:
        self.n_iterations += 1
        factors = torch.linalg.cholesky(parameters.covariances)
        log_joint = parameters.weights.log()[:, None] - 0.5 * torch.stack(
            [self._squares(*each) for each in zip(parameters.means, factors, strict=True)]
        )
        total = log_joint.logsumexp(0)
        return (log_joint - total).exp(), float(total @ self.weight)

    def maximize(self, posterior: Tensor) -> _Parameters:
        shares = posterior * self.weight
        mass = shares.sum(1) + torch.finfo(shares.dtype).eps
        means = shares @ self.rows / mass[:, None]
        covariances = torch.stack(
            [self._covariance(*each) for each in zip(shares, means, mass, strict=True)]
        )
        return _Parameters(mass / mass.sum(), means, covariances)

    def _squares(self, mean: Tensor, factor: Tensor) -> Tensor:
        """Minus twice the log-density (n,) of a component."""
        whitened = torch.linalg.solve_triangular(factor, (self.rows - mean).T, upper=False)
        log_determinant = 2 * factor.diagonal().log().sum()
        return whitened.square().sum(0) + log_determinant + len(mean) * LOG_2PI

    def _covariance(self, share: Tensor, mean: Tensor, mass: Tensor) -> Tensor:
        offsets = self.rows - mean
        return (offsets * share[:, None]).T @ offsets / mass + self.floor
