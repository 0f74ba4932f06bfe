"""Stein's estimate of a score and of its Jacobian at the samples, in memory of order n squared."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.linalg import lapack
from scipy.spatial.distance import pdist, squareform

# The kernel matrix and the copy in which distances become kernels.
BYTES_PER_PAIR, MAX_BYTES = 16, 4 * 2**30


def check_kernel_memory(n: int, fix: str) -> None:
    """Raise before the kernel matrix of n samples would be allocated."""
    needed = BYTES_PER_PAIR * n**2
    if needed > MAX_BYTES:
        most = int((MAX_BYTES / BYTES_PER_PAIR) ** 0.5)
        raise ValueError(
            f"The kernel matrix of {n} samples needs {needed / 2**30:.1f} GiB of memory, more than "
            f"the limit of {MAX_BYTES / 2**30:g} GiB. {fix.format(most=most)}"
        )


class SteinEstimate(NamedTuple):
    """Score (n, d), Jacobian (n, d, d) or its diagonal (n, d), and the kernel's bandwidth."""

    score: np.ndarray
    jacobian: np.ndarray
    bandwidth: float


def median_distance(distances: np.ndarray, n: int) -> float:
    """Median of all n^2 distances, each sample's to itself included, from those of the pairs."""
    # Sorted, the n^2 distances are n zeros and then every pair twice.
    middle = np.array([(n * n - 1) // 2, n * n // 2])
    places = np.unique((middle - n) // 2)
    if places[0] < 0:
        # Of two samples, one of the two values in the middle is a zero.
        return float(distances[0] / 2)
    return float(np.partition(distances, places)[places].mean())


def stein_estimate(
    X: np.ndarray, eta: float, bandwidth: float | None, *, normalised: bool, diagonal: bool
) -> SteinEstimate:
    """Estimate at every row of X; the bandwidth None is the median of the distances."""
    X = X - X.mean(0)
    pairs = pdist(X)
    if bandwidth is None:
        bandwidth = median_distance(pairs, len(X))
    if bandwidth <= 0:
        raise ValueError(
            "The median distance between samples is zero, because most of the samples are equal. "
            "Drop repeated samples, or pass bandwidth as a number."
        )
    X = X / bandwidth
    np.multiply(pairs, pairs, out=pairs)
    pairs *= -0.5 / bandwidth**2
    kernel = squareform(np.exp(pairs, out=pairs), checks=False)
    del pairs
    np.fill_diagonal(kernel, 1.0)
    # A kernel divided by its bandwidth has the same estimate as a ridge multiplied by it.
    ridge = eta * bandwidth if normalised else eta
    first, second = _derivatives(kernel, X, diagonal)
    solved = _solve_in_place(kernel, ridge, np.hstack([first, second]))
    score, curvature = solved[:, : X.shape[1]], solved[:, X.shape[1] :]
    if diagonal:
        jacobian = curvature - score**2
    else:
        jacobian = _symmetric(curvature, X.shape[1])
        jacobian -= score[:, :, None] * score[:, None, :]
    return SteinEstimate(score / bandwidth, jacobian / bandwidth**2, bandwidth)


def _derivatives(kernel, X, diagonal):
    """Row sums of the kernel's first and second derivatives, for samples in bandwidths.

    The second ones are those of the upper triangle, or of the diagonal alone.
    """
    n, d = X.shape
    rows, columns = (np.arange(d), np.arange(d)) if diagonal else np.triu_indices(d)
    products = kernel @ np.hstack([np.ones((n, 1)), X, X[:, rows] * X[:, columns]])
    sums, means, squares = products[:, :1], products[:, 1 : d + 1], products[:, d + 1 :]
    first = means - X * sums
    second = X[:, rows] * X[:, columns] * sums + squares
    second -= X[:, rows] * means[:, columns] + X[:, columns] * means[:, rows]
    return first, second - (rows == columns) * sums


def _solve_in_place(kernel, ridge, targets):
    """(K + ridge I)^-1 targets; the kernel's memory takes its Cholesky factor."""
    kernel[np.diag_indices_from(kernel)] += ridge
    factor, info = lapack.dpotrf(kernel.T, lower=1, overwrite_a=1, clean=0)
    if info:
        raise ValueError(
            f"The kernel matrix with the ridge {ridge:.3g} is singular to rounding. Raise eta."
        )
    return lapack.dpotrs(factor, targets, lower=1)[0]


def _symmetric(upper, d):
    """Matrices (n, d, d) from their upper triangles (n, d (d + 1) / 2)."""
    rows, columns = np.triu_indices(d)
    full = np.empty((len(upper), d, d))
    full[:, rows, columns] = upper
    full[:, columns, rows] = upper
    return full
