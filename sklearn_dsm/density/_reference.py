"""Gaussian mixtures as references: chosen by BIC, moved to the latent space, as exact scores."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from ..scores import ExactScore, GaussianMixtureScore, GaussianScore

CANDIDATE_SIZES = (1, 2, 3, 4, 6, 8, 10, 12, 15, 18)
MAX_ROWS = 10000
REG_COVAR = 1e-5


def standard_gaussian(n_features: int) -> GaussianMixture:
    """N(0, I) as a one-component mixture."""
    return mixture_from(np.ones(1), np.zeros((1, n_features)), np.eye(n_features)[None])


def mixture_from(
    weights: np.ndarray, means: np.ndarray, covariances: np.ndarray
) -> GaussianMixture:
    """A fitted scikit-learn mixture with full covariances and these parameters."""
    mixture = GaussianMixture(len(weights), covariance_type="full")
    mixture.weights_, mixture.means_, mixture.covariances_ = weights, means, covariances
    factors = np.linalg.cholesky(np.linalg.inv(covariances))
    mixture.precisions_cholesky_ = factors
    mixture.precisions_ = factors @ factors.transpose(0, 2, 1)
    mixture.converged_, mixture.n_iter_, mixture.lower_bound_ = True, 0, np.nan
    mixture.n_features_in_ = means.shape[1]
    return mixture


def full_covariances(mixture: GaussianMixture) -> np.ndarray:
    """The components' covariances (k, d, d), whatever the mixture's covariance_type."""
    k, d = mixture.means_.shape
    covariances, eye = mixture.covariances_, np.eye(d)
    if mixture.covariance_type == "full":
        return covariances
    if mixture.covariance_type == "tied":
        return np.broadcast_to(covariances, (k, d, d)).copy()
    variances = covariances if covariances.ndim == 2 else covariances[:, None]
    return variances[:, :, None] * eye


def transformed(mixture: GaussianMixture, shift: np.ndarray, matrix: np.ndarray) -> GaussianMixture:
    """The mixture of (x - shift) @ matrix."""
    covariances = matrix.T @ full_covariances(mixture) @ matrix
    return mixture_from(mixture.weights_, (mixture.means_ - shift) @ matrix, covariances)


def choose_mixture(split, random_state: np.random.RandomState, clock) -> GaussianMixture:
    """The mixture of the training rows with the best Bayesian information criterion.

    Sizes grow until two in a row bring nothing or the time is up. Weighted rows are
    resampled, since scikit-learn's mixtures take no weights; at most ``MAX_ROWS`` rows are
    used.
    """
    rows, weight = split.train
    n, d = rows.shape
    if n > MAX_ROWS or np.ptp(weight) > 0:
        rows = rows[random_state.choice(n, min(n, MAX_ROWS), p=weight / weight.sum())]
    best, n_worse = standard_gaussian(d), 0
    best_criterion = best.bic(rows)
    for size in CANDIDATE_SIZES:
        if len(rows) < 3 * size or n_worse == 2 or clock.left() <= 0:
            break
        mixture = GaussianMixture(size, reg_covar=REG_COVAR, random_state=random_state)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            criterion = mixture.fit(rows).bic(rows)
        n_worse = 0 if criterion < best_criterion else n_worse + 1
        if criterion < best_criterion:
            best, best_criterion = mixture, criterion
    return best


def as_score(mixture: GaussianMixture) -> ExactScore:
    """The mixture as an exact score model, in float64."""
    means = torch.from_numpy(mixture.means_)
    covariances = torch.from_numpy(full_covariances(mixture))
    if len(means) == 1:
        return GaussianScore(means[0], covariances[0])
    return GaussianMixtureScore(torch.from_numpy(mixture.weights_), means, covariances)
