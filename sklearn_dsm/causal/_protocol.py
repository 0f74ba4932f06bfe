"""What causal discovery needs from a score estimator."""

from __future__ import annotations

from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from sklearn.base import clone


@runtime_checkable
class ScoreEstimator(Protocol):
    """An estimator of the Stein score and of the score's Jacobian.

    ``sample_indices_`` after ``fit`` are the rows of X at which the score is known. Without this
    attribute, the score is known everywhere.
    """

    def fit(self, X):
        """Estimate the score of the distribution of the samples X (n_samples, n_features)."""

    def stein_score(self, X):
        """Score at the samples X, shape (n_samples, n_features)."""

    def score_jacobian(self, X, *, diagonal=False):
        """Jacobian (n_samples, n_features, n_features), or its diagonal without the last axis."""


class ScoreAtSamples(NamedTuple):
    """Samples (n, d), their score (n, d) and its Jacobian (n, d, d), or the diagonal (n, d)."""

    samples: np.ndarray
    score: np.ndarray
    jacobian: np.ndarray


def diagonals(jacobian: np.ndarray) -> np.ndarray:
    """The diagonals (n, d) of Jacobians, which may be diagonals already."""
    return jacobian if jacobian.ndim == 2 else np.einsum("njj->nj", jacobian)


def check_score_estimator(estimator) -> None:
    """Raise where a method of the protocol is missing."""
    if isinstance(estimator, type) or not isinstance(estimator, ScoreEstimator):
        raise TypeError(
            f"score_estimator={estimator!r} must be an estimator with the methods fit(X), "
            "stein_score(X) and score_jacobian(X, diagonal=...). For a density estimator of this "
            "package, use DensityScoreEstimator(density)."
        )


def is_known_everywhere(fitted) -> bool:
    """Whether the score can be evaluated at samples that were not fitted."""
    return not hasattr(fitted, "sample_indices_")


def fitted_score(estimator, X: np.ndarray, diagonal: bool) -> ScoreAtSamples:
    """Fit a clone to X and evaluate it at the samples of X where it is known."""
    fitted = clone(estimator).fit(X)
    samples = X[getattr(fitted, "sample_indices_", slice(None))]
    jacobian = fitted.score_jacobian(samples, diagonal=diagonal)
    return ScoreAtSamples(samples, fitted.stein_score(samples), jacobian)
