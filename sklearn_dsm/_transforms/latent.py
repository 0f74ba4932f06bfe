"""From input units to the latent space and back: column maps, whitening, a map of white rows."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from sklearn.covariance import ledoit_wolf_shrinkage

from .._validation import effective_number
from .autoregressive import TriangularMap
from .marginal import ColumnMaps, fit_column_maps, linear_columns
from .radial import RadialMap, fit_radial_map

# With fewer rows a column, maps of all rows would tell too much of the held-out ones.
MIN_ROWS_PER_COLUMN = 5
SHRINKAGES = (0.0, 1e-4, 1e-3, 1e-2, 0.1)
# The least variance of a principal axis of columns of unit variance: collinear ones keep it.
MIN_VARIANCE = 1e-6
# Those of a correlation that are no rounding.
DECIMALS = 12
AFFINE_FIELDS = ("mean", "whitening", "coloring", "log_slope")
LAST_MAPS: dict[str, type[RadialMap | TriangularMap]] = {
    "radial_": RadialMap,
    "triangular_": TriangularMap,
}


class LatentMap(NamedTuple):
    """Column maps, an affine map to zero mean and unit covariance, and perhaps one map more.

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
    last : RadialMap, TriangularMap or None
        A map of the white rows.
    """

    columns: ColumnMaps
    mean: np.ndarray
    whitening: np.ndarray
    coloring: np.ndarray
    log_slope: float
    last: RadialMap | TriangularMap | None = None

    def forward(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Latent rows (n, d) and the log-Jacobian of each row (n,)."""
        Z, log_slopes = self.columns.forward(X)
        Z, log_slope = self._white(Z), log_slopes.sum(1) + self.log_slope
        if self.last is None:
            return Z, log_slope
        Z, log_stretch = self.last.forward(Z)
        return Z, log_slope + log_stretch

    def _white(self, Z: np.ndarray) -> np.ndarray:
        """White rows from mapped columns; by torch, whose threads then stay the only ones."""
        return (torch.from_numpy(Z - self.mean) @ torch.from_numpy(self.whitening)).numpy()

    def inverse(self, Z: np.ndarray) -> np.ndarray:
        """Rows in input units from latent ones."""
        Z = Z if self.last is None else self.last.inverse(Z)
        return self.columns.inverse(Z @ self.coloring + self.mean)

    def pull_back(self, X: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        """Gradient of a log-density in input units from its latent gradient."""
        if self.last is not None:
            Z = self._white(self.columns.forward(X)[0])
            gradient = self.last.pull_back(Z, gradient)
        return self.columns.pull_back(X, gradient @ self.whitening.T)

    def as_affine(self) -> tuple[np.ndarray, np.ndarray]:
        """Shift and matrix with forward(X) = (X - shift) @ matrix, where all maps are linear."""
        shift = self.columns.location + self.columns.scale * self.mean
        return shift, self.whitening / self.columns.scale[:, None]

    def in_column_order(self) -> LatentMap:
        """The map whose white column j is mapped column j less its regression on those before."""
        factor = np.linalg.cholesky(self.coloring.T @ self.coloring)
        return self._replace(whitening=np.linalg.inv(factor).T, coloring=factor.T, last=None)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """The map as plain arrays."""
        rest = {name: np.asarray(getattr(self, name)) for name in AFFINE_FIELDS}
        arrays = self.columns._asdict() | rest
        if self.last is None:
            return arrays
        prefix = next(name for name, kind in LAST_MAPS.items() if isinstance(self.last, kind))
        return arrays | {prefix + name: value for name, value in self.last.to_arrays().items()}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> LatentMap:
        """The map that :meth:`to_arrays` wrote."""
        columns = ColumnMaps(*(arrays[name] for name in ColumnMaps._fields))
        mean, whitening, coloring, log_slope = (arrays[name] for name in AFFINE_FIELDS)
        last = None
        for prefix, kind in LAST_MAPS.items():
            found = {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
            last = kind.from_arrays(found) if found else last
        return cls(columns, mean, whitening, coloring, float(log_slope), last)


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
    """Whitening matrix with shrunk correlations, its inverse, and the log of its determinant."""
    shrunk = (1 - shrinkage) * covariance
    np.fill_diagonal(shrunk, np.diag(covariance))
    # Last digits must turn or swap no axes of uncorrelated columns, nor choose the sign of any
    # axis, which its first large entry does.
    eigenvalues, axes = np.linalg.eigh(np.round(shrunk, DECIMALS))
    size = np.abs(axes)
    first = (size > 0.5 * size.max(0)).argmax(0)
    axes = axes * np.sign(np.take_along_axis(axes, first[None], 0))
    deviations = np.sqrt(np.maximum(eigenvalues, MIN_VARIANCE))
    return axes / deviations, (axes * deviations).T, -float(np.log(deviations).sum())


def _choose_shrinkage(Z: np.ndarray, weight: np.ndarray, held_out: np.ndarray) -> float:
    """The shrinkage whose Gaussian, fitted on the other rows, suits the held-out ones best.

    That of Ledoit and Wolf where nothing is held out.
    """
    if not held_out.any():
        return _ledoit_wolf(Z, weight)
    mean, covariance = _moments(Z[~held_out], weight[~held_out])
    rows = Z[held_out] - mean

    def log_likelihood(shrinkage: float) -> float:
        whitening, _, log_det = _whitening(covariance, shrinkage)
        squares = ((rows @ whitening) ** 2).sum(1)
        return log_det - 0.5 * float(np.average(squares, weights=weight[held_out]))

    candidates = {*SHRINKAGES, _ledoit_wolf(Z[~held_out], weight[~held_out])}
    return max(sorted(candidates), key=log_likelihood)


def _ledoit_wolf(Z: np.ndarray, weight: np.ndarray) -> float:
    """The shrinkage by Ledoit and Wolf, each row's square counted as often as it weighs."""
    if len(Z) < 2:
        return 0.0
    centered = Z - np.average(Z, axis=0, weights=weight)
    rows = centered * np.sqrt(weight / weight.mean())[:, None]
    return float(ledoit_wolf_shrinkage(rows, assume_centered=True))


def are_few(X: np.ndarray) -> bool:
    """Whether there are too few rows a column for maps of all of them."""
    return len(X) < MIN_ROWS_PER_COLUMN * X.shape[1]


def mapped_rows(X: np.ndarray, held_out: np.ndarray) -> np.ndarray | slice:
    """Index of the rows that maps are fitted to: all, or those not held out where rows are few.

    As many rows as columns have a covariance that knows the directions of each of them, and a
    network that learns these would look good on held-out rows among them, and only there. A column
    that varies in held-out rows only needs them.
    """
    if are_few(X) and (~held_out).sum() > 1 and np.ptp(X[~held_out], axis=0).min() > 0:
        return ~held_out
    return slice(None)


def fit_latent_map(
    X: np.ndarray, weight: np.ndarray, held_out: np.ndarray, marginals: str | None
) -> LatentMap:
    """Fit the map; the held-out rows (a mask) choose the covariance's shrinkage.

    The white rows are not mapped further.
    """
    used = mapped_rows(X, held_out)
    columns = fit_column_maps(X[used], weight[used], marginals)
    return _whitened(columns, X, weight, held_out, used)


def of_all_rows(latent: LatentMap, X: np.ndarray, weight: np.ndarray) -> LatentMap:
    """The map with the whitening, and the radial map where there is one, fitted to all rows.

    The maps of single columns stay as they are.
    """
    whitened = _whitened(latent.columns, X, weight, np.zeros(len(X), dtype=bool), slice(None))
    radial = None if latent.last is None else with_radial_map(whitened, X, weight)
    return whitened if radial is None else radial


def _whitened(
    columns: ColumnMaps,
    X: np.ndarray,
    weight: np.ndarray,
    held_out: np.ndarray,
    used: np.ndarray | slice,
) -> LatentMap:
    """Column maps with a whitening of these rows behind them."""
    Z, _ = columns.forward(X)
    mean, covariance = _moments(Z[used], weight[used])
    scale = np.sqrt(np.diag(covariance))
    Y = (Z - mean) / scale
    shrinkage = _choose_shrinkage(Y, weight, held_out)
    whitening, coloring, log_det = _whitening(covariance / np.outer(scale, scale), shrinkage)
    if are_few(X):
        scale = _drawn_together(scale, columns, Y[used], weight[used])
    log_slope = log_det - float(np.log(scale).sum())
    return LatentMap(columns, mean, whitening / scale[:, None], coloring * scale, log_slope)


def _drawn_together(
    scale: np.ndarray, columns: ColumnMaps, Y: np.ndarray, weight: np.ndarray
) -> np.ndarray:
    r"""Scales of mapped columns, those of straight ones nearer to their geometric mean.

    The estimate of James and Stein for the logarithms l of d deviations in input units,

    .. math:: l_j - (l_j - \bar l) \min\Big(1, \frac{(d - 3) v}{\sum_k (l_k - \bar l)^2}\Big),
        \qquad v = \frac{\kappa - 1}{4 n},

    where v is by how much chance scatters one and :math:`\kappa` the median of the columns'
    kurtoses. Deviations of columns in one unit come together, those in many stay where they are,
    and the expected squared error is not above that of the deviations as they are.

    References
    ----------
    [JamesStein]_
    """
    straight = np.setdiff1d(np.arange(len(scale)), columns.curved)
    if len(straight) <= 3:
        return scale
    logs = np.log(scale * columns.scale)[straight]
    kurtosis = np.median(np.average(Y[:, straight] ** 4, axis=0, weights=weight))
    chance = (kurtosis - 1) / (4 * effective_number(weight))
    away = logs - logs.mean()
    share = min(1.0, (len(straight) - 3) * chance / max((away**2).sum(), 1e-300))
    together = scale.copy()
    together[straight] *= np.exp(-share * away)
    return together


def with_radial_map(latent: LatentMap, X: np.ndarray, weight: np.ndarray) -> LatentMap | None:
    """The map with a radial one behind it; None where the lengths are those of normal rows."""
    radial = fit_radial_map(latent.forward(X)[0], weight)
    return None if radial is None else latent._replace(last=radial)
