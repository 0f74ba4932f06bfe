"""Exact scores of noised laws in the space in which a fit adds its noise.

A fit whose columns have lines for maps sees an affine image of the rows, and noises that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from sklearn_dsm.datasets import Funnel, GaussianMixtureLaw

# How many deviations of the funnel's first column the nodes cover, and how many nodes.
REACH, N_NODES = 8.0, 2401
CHUNK_ROWS = 500
# Deviations of a mode of the ring along it and across.
ALONG, ACROSS = 0.3, 0.1


class NoisedLaw(Protocol):
    """Rows can be drawn, and the score is exact at every noise level."""

    n_features: int

    def noised_score(self, X: np.ndarray, a: float, v: float) -> np.ndarray: ...


def ring(n_components: int = 8) -> GaussianMixtureLaw:
    """Narrow modes around a circle, of unit variance in both columns."""
    angles = 2 * np.pi * np.arange(n_components) / n_components
    outward = np.column_stack([np.cos(angles), np.sin(angles)])
    onward = np.column_stack([-np.sin(angles), np.cos(angles)])
    covariances = [
        ACROSS**2 * np.outer(o, o) + ALONG**2 * np.outer(t, t)
        for o, t in zip(outward, onward, strict=True)
    ]
    radius = np.sqrt(2 - ACROSS**2 - ALONG**2)
    return GaussianMixtureLaw(radius * outward, covariances)


class FunnelImage:
    """A funnel's rows less a shift, times a matrix.

    Given the first column u of the funnel, the noised image is Gaussian with an isotropic
    part and one that grows as e^u in fixed axes: its score is a sum over values of u, by the
    trapezoidal rule, whose error is negligible down to noise of a few nodes' distance.
    """

    def __init__(self, law: Funnel, shift: np.ndarray, matrix: np.ndarray):
        self.n_features = law.n_features
        u = np.linspace(-REACH, REACH, N_NODES) * law.scale
        self.log_weights = -0.5 * (u / law.scale) ** 2
        spread, self.axes = np.linalg.eigh(matrix[1:].T @ matrix[1:])
        self.variances = np.exp(u)[:, None] * np.maximum(spread, 0)
        self.centres = (np.outer(u, matrix[0]) - shift @ matrix) @ self.axes

    def noised_score(self, X: np.ndarray, a: float, v: float) -> np.ndarray:
        """Scores (n, d) of a times the image plus noise of variance v."""
        precisions = 1 / (a**2 * self.variances + v)
        pulls = a * self.centres * precisions
        constants = self.log_weights + 0.5 * (np.log(precisions) - a * self.centres * pulls).sum(1)
        scores = []
        for rows in np.array_split(X @ self.axes, max(1, len(X) // CHUNK_ROWS)):
            log_joint = constants - 0.5 * rows**2 @ precisions.T + rows @ pulls.T
            posterior = np.exp(log_joint - log_joint.max(1, keepdims=True))
            posterior /= posterior.sum(1, keepdims=True)
            scores.append(posterior @ pulls - rows * (posterior @ precisions))
        return np.concatenate(scores) @ self.axes.T


def image(law: Funnel | GaussianMixtureLaw, shift: np.ndarray, matrix: np.ndarray) -> NoisedLaw:
    """The law of (X - shift) @ matrix."""
    if isinstance(law, Funnel):
        return FunnelImage(law, shift, matrix)
    covariances = matrix.T @ law.covariances @ matrix
    return GaussianMixtureLaw((law.means - shift) @ matrix, covariances, law.weights)


def noise_errors(
    score: Callable[[np.ndarray, float, float], np.ndarray],
    truth: NoisedLaw,
    rows: np.ndarray,
    log_snrs: Sequence[float],
    seed: int,
) -> np.ndarray:
    """At each level the root mean squared error, a column, of the noise -sqrt(v) s in rows.

    ``score`` takes rows that are noised already, and the level's a and v.
    """
    random = np.random.default_rng(seed)
    errors = []
    for log_snr in log_snrs:
        v = 1 / (1 + np.exp(log_snr))
        a = np.sqrt(1 - v)
        noised = a * rows + np.sqrt(v) * random.normal(size=rows.shape)
        gap = score(noised, a, v) - truth.noised_score(noised, a, v)
        errors.append(np.sqrt(v * np.mean(gap**2)))
    return np.array(errors)
