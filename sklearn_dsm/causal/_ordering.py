"""Orders of features, found by removing one leaf after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ._protocol import ScoreAtSamples, diagonals
from ._removal import Evaluation, marginal_score
from ._residuals import residual_errors


class Removed(NamedTuple):
    """A leaf, the features it was removed from, and the score at that time.

    ``place`` is the leaf's place among the features, ``jacobian`` the score's Jacobian or its
    diagonal.
    """

    features: np.ndarray
    place: int
    jacobian: np.ndarray

    @property
    def leaf(self) -> int:
        return int(self.features[self.place])

    @property
    def noise_variance(self) -> float:
        """-1 / E[H_ll], or NaN where the mean curvature is not negative."""
        curvature = diagonals(self.jacobian)[:, self.place].mean()
        return float(-1 / curvature) if curvature < 0 else float("nan")


# The score at the samples, of the given features.
ScoreOf = Callable[[np.ndarray], ScoreAtSamples]


def variance(estimate: ScoreAtSamples) -> np.ndarray:
    """Var(H_jj): zero for a leaf with Gaussian noise."""
    return diagonals(estimate.jacobian).var(0)


def relative_variance(estimate: ScoreAtSamples) -> np.ndarray:
    """Var(H_jj) / E[H_jj]^2, which does not depend on the units of the feature."""
    diagonal = diagonals(estimate.jacobian)
    return diagonal.var(0) / np.maximum(diagonal.mean(0) ** 2, np.finfo(float).tiny)


def mean(estimate: ScoreAtSamples) -> np.ndarray:
    """-E[H_jj], which children add to."""
    return -diagonals(estimate.jacobian).mean(0)


def residual(estimate: ScoreAtSamples) -> np.ndarray:
    """The error of the score predicted from the feature's residual."""
    return residual_errors(estimate.samples, estimate.score)


# A leaf has the least value.
CRITERIA = {
    "variance": variance,
    "relative_variance": relative_variance,
    "mean": mean,
    "residual": residual,
}


def removed_leaves(
    score_of: ScoreOf, n_features: int, criterion: Callable[[ScoreAtSamples], np.ndarray]
) -> list[Removed]:
    """Every feature in the order of its removal: the last leaf of the causal order first."""
    features, removals = np.arange(n_features), []
    while len(features):
        estimate = score_of(features)
        values = criterion(estimate) if len(features) > 1 else np.zeros(1)
        if not np.isfinite(values).all():
            raise ValueError(
                "The estimated score is not finite. Standardise the features, or choose other "
                "parameters of score_estimator."
            )
        removal = Removed(features, int(np.argmin(values)), estimate.jacobian)
        removals.append(removal)
        features = np.delete(features, removal.place)
    return removals


def marginals_of(evaluate: Evaluation, X: np.ndarray) -> ScoreOf:
    """Scores of fewer and fewer features from one score of all of them, which is not refitted."""

    moved, deviations = X, X.std(0)

    def score_of(features: np.ndarray) -> ScoreAtSamples:
        nonlocal moved
        leaves = np.setdiff1d(np.arange(X.shape[1]), features).tolist()
        score, jacobian, moved = marginal_score(evaluate, moved, leaves, deviations)
        return ScoreAtSamples(X[:, features], score, jacobian)

    return score_of
