"""How well the residual of each feature given the others predicts the feature's score."""

from __future__ import annotations

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.spatial.distance import cdist

from ._kernel_matrix import check_kernel_memory

N_FOLDS, RIDGE, GAMMA = 5, 0.01, 0.1


def residual_errors(X: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Mean squared error (d,) of each score predicted from its feature's residual alone.

    Residual and prediction are cross-validated kernel ridge regressions of standardised features.
    The error is in squared units of the score, as in the algorithm NoGAM.
    """
    check_kernel_memory(len(X), 'Use criterion="variance", or at most {most} samples.')
    Z = _standardized(X)
    errors = np.empty(X.shape[1])
    for j in range(X.shape[1]):
        others = np.delete(Z, j, axis=1)
        residual = Z[:, j] - _cross_predicted(others, Z[:, j]) if others.shape[1] else Z[:, j]
        predicted = _cross_predicted(_standardized(residual)[:, None], score[:, j])
        errors[j] = np.mean((score[:, j] - predicted) ** 2)
    return errors


def _standardized(values: np.ndarray) -> np.ndarray:
    deviation = values.std(0)
    return (values - values.mean(0)) / np.where(deviation > 0, deviation, 1.0)


def _cross_predicted(X: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Each sample's target, predicted from the folds that it is not in."""
    kernel = np.exp(-GAMMA * cdist(X, X, "sqeuclidean"))
    predicted = np.empty_like(y)
    for fold in range(min(N_FOLDS, len(X))):
        out = np.arange(len(X)) % N_FOLDS == fold
        gram = kernel[np.ix_(~out, ~out)]
        gram[np.diag_indices_from(gram)] += RIDGE
        mean = y[~out].mean()
        weights = cho_solve(cho_factor(gram, check_finite=False), y[~out] - mean)
        predicted[out] = mean + kernel[np.ix_(out, ~out)] @ weights
    return predicted
