"""Conditional densities made of what rivals predict: scales, mixtures, draws and quantiles.

Each has ``log_density(X, y)`` (n,) and ``quantiles(X, levels)`` (n, n_levels).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import stats
from scipy.special import logsumexp, ndtr

# Steps that halve the bracket of a mixture's quantile: it ends 1e-9 of it wide.
HALVINGS, REACH = 30, 9.0
CHUNK = 250
WIDTHS = (0.5, 1.0, 2.0, 4.0)
KERNELS = {"normal": stats.norm, "t(3)": stats.t(3)}


class LocationScale:
    """A family of one shape, whose location and scale depend on the features."""

    def __init__(self, parameters: Callable[[np.ndarray], tuple], family: Any, note: str = ""):
        self.parameters, self.family, self.note = parameters, family, note

    def log_density(self, X: np.ndarray, y: np.ndarray) -> np.ndarray:
        location, scale = self.parameters(X)
        return self.family.logpdf(y, location, scale)

    def quantiles(self, X: np.ndarray, levels: np.ndarray) -> np.ndarray:
        location, scale = self.parameters(X)
        return location[:, None] + scale[:, None] * self.family.ppf(levels)


class NormalMixture:
    """Normal mixtures whose log-weights, means and scales (n, k) depend on the features."""

    def __init__(self, parameters: Callable[[np.ndarray], tuple], note: str = ""):
        self.parameters, self.note = parameters, note

    def log_density(self, X: np.ndarray, y: np.ndarray) -> np.ndarray:
        log_weights, means, scales = self.parameters(X)
        return logsumexp(log_weights + stats.norm.logpdf(y[:, None], means, scales), axis=1)

    def quantiles(self, X: np.ndarray, levels: np.ndarray) -> np.ndarray:
        parts = self.parameters(X)
        chunks = range(0, len(X), CHUNK)
        return np.concatenate(
            [mixture_quantiles(*(part[i : i + CHUNK] for part in parts), levels) for i in chunks]
        )


def mixture_quantiles(log_weights, means, scales, levels: np.ndarray) -> np.ndarray:
    """Quantiles (n, n_levels) of normal mixtures (n, k) by bisection."""
    weights = np.exp(log_weights)
    low = np.repeat((means - REACH * scales).min(1)[:, None], len(levels), axis=1)
    high = np.repeat((means + REACH * scales).max(1)[:, None], len(levels), axis=1)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        z = (middle[..., None] - means[:, None]) / scales[:, None]
        below = np.einsum("nlk,nk->nl", ndtr(z), weights) < levels
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return (low + high) / 2


class KernelOfDraws:
    """Kernel estimates of draws (n, n_draws), or of equidistant quantiles, of every row.

    The width is a factor times Silverman's rule; the factor and the kernel are those that are
    best on held-out rows. Quantiles are those of the draws, not of the kernel estimate.
    """

    def __init__(
        self,
        draws: Callable[[np.ndarray], np.ndarray],
        quantiles: Callable[[np.ndarray, np.ndarray], np.ndarray],
        least_width: float,
        kernel: str = "normal",
        factor: float = 1.0,
        note: str = "",
    ):
        self.draws, self.quantiles, self.least_width = draws, quantiles, least_width
        self.kernel, self.factor, self.note = kernel, factor, note

    def log_density(self, X: np.ndarray, y: np.ndarray) -> np.ndarray:
        return kernel_log_density(self.draws(X), y, self.kernel, self.factor, self.least_width)


def kernel_log_density(
    draws: np.ndarray, y: np.ndarray, kernel: str, factor: float, least_width: float
) -> np.ndarray:
    """Log-densities (n,) of y by the kernel estimates of its rows' draws (n, n_draws)."""
    quartiles = np.quantile(draws, [0.25, 0.75], axis=1)
    spread = np.minimum(draws.std(axis=1), (quartiles[1] - quartiles[0]) / 1.34)
    spread = np.where(spread > 0, spread, draws.std(axis=1))
    width = 0.9 * factor * spread * draws.shape[1] ** -0.2
    width = np.maximum(width, least_width)[:, None]
    z = (y[:, None] - draws) / width
    each = KERNELS[kernel].logpdf(z) - np.log(width)
    return logsumexp(each, axis=1) - np.log(draws.shape[1])


CHOICES = [(kernel, factor) for kernel in KERNELS for factor in WIDTHS]


def kernel_losses(draws: np.ndarray, y: np.ndarray, least_width: float) -> np.ndarray:
    """The mean loss of held-out targets by each of CHOICES."""
    return np.array(
        [-kernel_log_density(draws, y, *choice, least_width).mean() for choice in CHOICES]
    )
