"""Column maps that competitors are fitted behind, with their Jacobians in the log-density."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from scipy.optimize import brentq

from sklearn_dsm._transforms.marginal import fit_marginal

# Neural splines are the identity outside [-5, 5].
SPLINE_BOUND = 5.0
CHUNK_ROWS = 2**14


class Columns(Protocol):
    def forward(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mapped rows (n, d) and the log-Jacobian of each row (n,)."""
        ...


class Standardized:
    """Columns of zero mean and unit deviation."""

    def __init__(self, X: np.ndarray):
        self.mean, self.deviation = X.mean(0), X.std(0)

    def forward(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        Z = (X - self.mean) / self.deviation
        return Z, np.full(len(X), -np.log(self.deviation).sum())


class TailsPulledIn:
    """Standardised columns; one with values beyond the splines' bound is bent to fit within.

    The bend is z -> s asinh(z / s), with the s that takes the farthest fitted value to the bound.
    """

    def __init__(self, X: np.ndarray, bound: float = SPLINE_BOUND):
        self.standardized = Standardized(X)
        farthest = np.abs(self.standardized.forward(X)[0]).max(0)
        self.bent = np.flatnonzero(farthest > bound)
        self.scale = np.array([self._scale(value, bound) for value in farthest[self.bent]])

    @staticmethod
    def _scale(value: float, bound: float) -> float:
        return brentq(lambda s: s * np.arcsinh(value / s) - bound, 1e-6, 1e6 * value)

    def forward(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        Z, log_jacobian = self.standardized.forward(X)
        ratio = Z[:, self.bent] / self.scale
        Z[:, self.bent] = self.scale * np.arcsinh(ratio)
        return Z, log_jacobian - 0.5 * np.log1p(ratio**2).sum(1)


class Gaussianized:
    """The one-dimensional mixtures by which ``DSMDensityEstimator`` makes columns normal."""

    def __init__(self, X: np.ndarray):
        self.marginal = fit_marginal(X, np.ones(len(X)), "gaussianize")

    def forward(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        parts = np.array_split(X, -(-len(X) // CHUNK_ROWS))
        mapped = [self.marginal.forward(part) for part in parts]
        Z, log_jacobian = (np.concatenate(each) for each in zip(*mapped, strict=True))
        return Z, log_jacobian


class Behind:
    """A density of mapped rows, scored in the units of the input."""

    def __init__(self, columns: Columns, density):
        self.columns, self.density = columns, density
        self.note = getattr(density, "note", "")

    def score_samples(self, X: np.ndarray) -> np.ndarray:
        Z, log_jacobian = self.columns.forward(X)
        return self.density.score_samples(Z) + log_jacobian
