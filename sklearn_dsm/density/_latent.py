"""From input units to the space of the diffusion and back: column maps, then whitening."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from sklearn.covariance import ledoit_wolf_shrinkage

from ._column_maps import ColumnMaps, fit_column_maps, linear_columns

SHRINKAGES = (0.0, 1e-4, 1e-3, 1e-2, 0.1)
# The least variance of a principal axis of columns of unit variance: collinear ones keep it.
MIN_VARIANCE = 1e-6


class LatentMap(NamedTuple):
    """Column maps followed by an affine map to zero mean and unit covariance.

    Attributes
    ----------
    columns : ColumnMaps
    mean : ndarray of shape (d,)
        Mean of the mapped columns.
    whitening : ndarray of shape (d, d)
        Rows times this are white.
    coloring : ndarray of shape (d, d)
        Its inverse.
    log_slope : float
        Logarithm of the determinant of ``whitening``.
    """

    columns: ColumnMaps
    mean: np.ndarray
    whitening: np.ndarray
    coloring: np.ndarray
    log_slope: float

    def forward(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Latent rows (n, d) and the log-Jacobian of each row (n,)."""
        Z, log_slopes = self.columns.forward(X)
        return (Z - self.mean) @ self.whitening, log_slopes.sum(1) + self.log_slope

    def inverse(self, Z: np.ndarray) -> np.ndarray:
        """Rows in input units from latent ones."""
        return self.columns.inverse(Z @ self.coloring + self.mean)

    def pull_back(self, X: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        """Gradient of a log-density in input units from its latent gradient."""
        return self.columns.pull_back(X, gradient @ self.whitening.T)

    def as_affine(self) -> tuple[np.ndarray, np.ndarray]:
        """Shift and matrix with forward(X) = (X - shift) @ matrix, where every column is linear."""
        shift = self.columns.location + self.columns.scale * self.mean
        return shift, self.whitening / self.columns.scale[:, None]

    def to_arrays(self) -> dict[str, np.ndarray]:
        """The map as plain arrays."""
        rest = {name: np.asarray(getattr(self, name)) for name in self._fields[1:]}
        return self.columns._asdict() | rest

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> LatentMap:
        """The map that :meth:`to_arrays` wrote."""
        columns = ColumnMaps(*(arrays[name] for name in ColumnMaps._fields))
        return cls(
            columns,
            arrays["mean"],
            arrays["whitening"],
            arrays["coloring"],
            float(arrays["log_slope"]),
        )


def linear_map(location: np.ndarray, scale: np.ndarray) -> LatentMap:
    """The map that shifts and divides every column."""
    eye = np.eye(len(location))
    columns = linear_columns(location, scale)
    return LatentMap(columns, np.zeros(len(location)), eye, eye, 0.0)


def _moments(Z: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mean = np.average(Z, axis=0, weights=weight)
    centered = Z - mean
    return mean, (centered * weight[:, None]).T @ centered / weight.sum()


def _whitening(covariance: np.ndarray, shrinkage: float) -> tuple[np.ndarray, np.ndarray, float]:
    """Whitening matrix of a shrunk correlation, its inverse, and the log of its determinant."""
    correlation = (1 - shrinkage) * covariance
    np.fill_diagonal(correlation, 1.0)
    eigenvalues, axes = np.linalg.eigh(correlation)
    deviations = np.sqrt(np.maximum(eigenvalues, MIN_VARIANCE))
    return axes / deviations, (axes * deviations).T, -float(np.log(deviations).sum())


def _choose_shrinkage(Z: np.ndarray, weight: np.ndarray, held_out: np.ndarray) -> float:
    """The shrinkage whose Gaussian, fitted on the other rows, suits the held-out ones best.

    Ledoit's and Wolf's where nothing is held out.
    """
    if not held_out.any():
        return float(ledoit_wolf_shrinkage(Z)) if len(Z) > 1 else 0.0
    mean, covariance = _moments(Z[~held_out], weight[~held_out])
    rows = Z[held_out] - mean

    def log_likelihood(shrinkage: float) -> float:
        whitening, _, log_det = _whitening(covariance, shrinkage)
        squares = ((rows @ whitening) ** 2).sum(1)
        return log_det - 0.5 * float(np.average(squares, weights=weight[held_out]))

    candidates = set(SHRINKAGES)
    if np.sum(~held_out) > 1:
        candidates.add(float(ledoit_wolf_shrinkage(Z[~held_out])))
    return max(sorted(candidates), key=log_likelihood)


def fit_latent_map(
    X: np.ndarray, weight: np.ndarray, held_out: np.ndarray, marginals: str | None
) -> LatentMap:
    """Fit the map on all rows; the held-out ones (a mask) choose the covariance's shrinkage."""
    columns = fit_column_maps(X, weight, marginals)
    Z, _ = columns.forward(X)
    mean, covariance = _moments(Z, weight)
    scale = np.sqrt(np.diag(covariance))
    shrinkage = _choose_shrinkage((Z - mean) / scale, weight, held_out)
    whitening, coloring, log_det = _whitening(covariance / np.outer(scale, scale), shrinkage)
    log_slope = log_det - float(np.log(scale).sum())
    return LatentMap(columns, mean, whitening / scale[:, None], coloring * scale, log_slope)
