"""An affine transform to zero mean and unit covariance, with a covariance shrunk where needed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.covariance import ledoit_wolf_shrinkage

from .._core.arrays import tensor_of
from .._validation import effective_number
from .transform import ArrayTransform

SHRINKAGES = (0.0, 1e-4, 1e-3, 1e-2, 0.1)
# The least variance of a principal axis of columns of unit variance: collinear ones keep it.
MIN_VARIANCE = 1e-6
# The same of a deviation, in units of the largest, where nothing is shrunk.
MIN_DEVIATION = 1e-10
# Those of a correlation that are no rounding.
DECIMALS = 12


@dataclass(frozen=True, eq=False)
class Whitening(ArrayTransform):
    r"""z = (x - m) W, whose log-Jacobian is :math:`\log |\det W|` everywhere.

    Attributes
    ----------
    mean : ndarray of shape (d,)
    matrix : ndarray of shape (d, d)
        W, with which centred samples have unit covariance.
    coloring : ndarray of shape (d, d)
        Its inverse.
    log_determinant : ndarray of shape ()
        Logarithm of the absolute determinant of W.
    """

    mean: np.ndarray
    matrix: np.ndarray
    coloring: np.ndarray
    log_determinant: np.ndarray

    @property
    def description(self) -> str:
        return "whitening"

    def forward(self, X, context=None):
        # By torch, whose threads then stay the only ones.
        Z = (tensor_of(X - self.mean) @ tensor_of(self.matrix)).numpy()
        return Z, np.full(len(X), self.log_determinant)

    def inverse(self, Z, context=None):
        return Z @ self.coloring + self.mean

    def pull_back(self, X, gradient, context=None):
        return gradient @ self.matrix.T

    def in_column_order(self) -> Whitening:
        """The whitening whose column j is column j less its regression on those before."""
        factor = np.linalg.cholesky(self.coloring.T @ self.coloring)
        return Whitening(self.mean, np.linalg.inv(factor).T, factor.T, self.log_determinant)


def fit_whitening(
    Z: np.ndarray,
    weight: np.ndarray,
    held_out: np.ndarray,
    used: np.ndarray | slice,
    drawn_together: np.ndarray,
    units: np.ndarray,
) -> Whitening:
    """Fit mean and covariance to the samples ``used``; the validation set chooses the shrinkage.

    Parameters
    ----------
    Z : ndarray of shape (n, d)
    weight : ndarray of shape (n,), positive
    held_out : ndarray of shape (n,), bool
        The validation set; where it is empty the shrinkage is that of Ledoit and Wolf.
    used : ndarray of shape (n,), bool, or slice
    drawn_together : ndarray of int
        The columns whose standard deviations in input units are shrunk towards each other.
    units : ndarray of shape (d,)
        What a unit of each column is in the units of the input.
    """
    mean, covariance = _moments(Z[used], weight[used])
    scale = np.sqrt(np.diag(covariance))
    Y = (Z - mean) / scale
    shrinkage = _choose_shrinkage(Y, weight, held_out)
    matrix, coloring, log_det = _factors(covariance / np.outer(scale, scale), shrinkage)
    if len(drawn_together) > 3:
        scale = _drawn_together(scale, drawn_together, units, Y[used], weight[used])
    log_determinant = np.asarray(log_det - float(np.log(scale).sum()))
    return Whitening(mean, matrix / scale[:, None], coloring * scale, log_determinant)


def exact_whitening(Z: np.ndarray, weight: np.ndarray) -> Whitening:
    """Zero mean and unit covariance, without shrinkage, by the singular values of the samples.

    They tell directions apart whose deviations differ by a factor of 1e10, which the eigenvalues of
    a covariance do not.
    """
    mean = np.average(Z, axis=0, weights=weight)
    rows = (Z - mean) * np.sqrt(weight / weight.sum())[:, None]
    _, deviations, axes = np.linalg.svd(np.linalg.qr(rows, mode="r"))
    deviations = np.maximum(deviations, MIN_DEVIATION * deviations[0])
    log_determinant = np.asarray(-float(np.log(deviations).sum()))
    return Whitening(mean, axes.T / deviations, deviations[:, None] * axes, log_determinant)


def _moments(Z: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mean = np.average(Z, axis=0, weights=weight)
    centered = Z - mean
    return mean, (centered * weight[:, None]).T @ centered / weight.sum()


def _factors(covariance: np.ndarray, shrinkage: float) -> tuple[np.ndarray, np.ndarray, float]:
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
    """The shrinkage whose Gaussian, fitted on the training set, suits the validation set best.

    That of Ledoit and Wolf where nothing is held out.
    """
    if not held_out.any():
        return ledoit_wolf(Z, weight)
    mean, covariance = _moments(Z[~held_out], weight[~held_out])
    rows = Z[held_out] - mean

    def log_likelihood(shrinkage: float) -> float:
        matrix, _, log_det = _factors(covariance, shrinkage)
        squares = ((rows @ matrix) ** 2).sum(1)
        return log_det - 0.5 * float(np.average(squares, weights=weight[held_out]))

    candidates = {*SHRINKAGES, ledoit_wolf(Z[~held_out], weight[~held_out])}
    return max(sorted(candidates), key=log_likelihood)


def ledoit_wolf(Z: np.ndarray, weight: np.ndarray) -> float:
    """The shrinkage by Ledoit and Wolf, each row's square counted as often as it weighs."""
    if len(Z) < 2:
        return 0.0
    centered = Z - np.average(Z, axis=0, weights=weight)
    rows = centered * np.sqrt(weight / weight.mean())[:, None]
    return float(ledoit_wolf_shrinkage(rows, assume_centered=True))


def _drawn_together(
    scale: np.ndarray, columns: np.ndarray, units: np.ndarray, Y: np.ndarray, weight: np.ndarray
) -> np.ndarray:
    r"""Standard deviations (d,), those of some columns nearer to their geometric mean.

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
    logs = np.log(scale * units)[columns]
    kurtosis = np.median(np.average(Y[:, columns] ** 4, axis=0, weights=weight))
    chance = (kurtosis - 1) / (4 * effective_number(weight))
    away = logs - logs.mean()
    share = min(1.0, (len(columns) - 3) * chance / max((away**2).sum(), 1e-300))
    together = scale.copy()
    together[columns] *= np.exp(-share * away)
    return together
