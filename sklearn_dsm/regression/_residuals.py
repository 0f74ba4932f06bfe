"""The density of standardised residuals: one mixture, the same for all samples."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from scipy.special import ndtr
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import KFold

from .._budget import Budget
from .._core.arrays import tensor_of
from .._mixtures.em import MAX_ITERATIONS, TOLERANCE, WeightedEM, start_posterior
from .._mixtures.parameters import full_covariances, mixture_from

# Numbers of components that are compared by cross-validation, and the least variance of each.
MAX_COMPONENTS, N_FOLDS, REG_COVAR = 5, 5, 2e-3


class FixedMixture(NamedTuple):
    """A mixture, and the log-densities (n,) of its samples by mixtures that did not see them."""

    mixture: GaussianMixture
    unseen: np.ndarray

    @property
    def parts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Weights, means and standard deviations (k,) of one dimension."""
        variances = full_covariances(self.mixture)[:, 0, 0]
        return self.mixture.weights_, self.mixture.means_[:, 0], np.sqrt(variances)

    def cdf(self, z: np.ndarray) -> np.ndarray:
        """Probabilities (n,) of values up to z (n,)."""
        weights, means, scales = self.parts
        return ndtr((z[:, None] - means) / scales) @ weights


def normal(z: np.ndarray, weight: np.ndarray) -> FixedMixture:
    """The normal distribution of residuals z (n, d)."""
    mean, d = np.average(z, axis=0, weights=weight), z.shape[1]
    covariance = np.cov(z.T, aweights=weight).reshape(1, d, d)
    mixture = mixture_from(np.ones(1), mean[None], covariance)
    return FixedMixture(mixture, mixture.score_samples(z))


def chosen_mixture(
    z: np.ndarray, weight: np.ndarray, seed: int, budget: Budget | None = None
) -> FixedMixture:
    """The mixture of residuals z (n, d) that cross-validation prefers, in number and start."""
    random, budget = np.random.RandomState(seed), budget or Budget()
    folds = list(KFold(min(N_FOLDS, len(z)), shuffle=True, random_state=random).split(z))
    n_distinct = min(len(np.unique(z[rows], axis=0)) for rows, _ in folds)
    most = min(n_distinct, len(folds[0][0]) // 2 // (z.shape[1] + 1))
    best, lead, unseen = (1, _clusters), -np.inf, np.empty(len(z))
    for k in range(1, MAX_COMPONENTS + 1):
        if k > 1 and (k > most or budget.is_over):
            break
        earlier = lead
        for start in (_clusters, _shells)[: min(k, 2)]:
            each = np.empty(len(z))
            for train_rows, test_rows in folds:
                found = _mixture(z[train_rows], weight[train_rows], k, start, random)
                each[test_rows] = found.score_samples(z[test_rows])
            total = float(weight @ each)
            if total > lead:
                best, lead, unseen = (k, start), total, each
        if lead <= earlier:
            break
    return FixedMixture(_mixture(z, weight, *best, random), unseen)


def _mixture(z, weight, n_components, start, random) -> GaussianMixture:
    em = WeightedEM(z, weight, "full", REG_COVAR)
    posterior = start(z, weight, n_components, random)
    return em.run(em.maximize(em.moments(posterior)), MAX_ITERATIONS, TOLERANCE).mixture


def _clusters(z, weight, n_components, random) -> torch.Tensor:
    """Shares (k, n) of clusters, for several modes."""
    return start_posterior(z, weight, n_components, random)


def _shells(z, weight, n_components, random) -> torch.Tensor:
    """Shares (k, n) of shells around the mean that each hold equally many, for heavy tails."""
    radius = np.linalg.norm(z - np.average(z, axis=0, weights=weight), axis=1)
    ends = np.quantile(radius, np.arange(1, n_components) / n_components)
    shells = np.searchsorted(ends, radius)
    return tensor_of(shells == np.arange(n_components)[:, None]).double()
