"""Radial Gaussianization: lengths become those of normal vectors, by a mixture of scales."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import elementwise
from scipy.special import gammainc, gammaincc, gammainccinv, gammaincinv, gammaln, logsumexp

from .._core.constants import LOG_2PI
from .._validation import effective_number
from .em import expectation_maximization
from .transform import ArrayTransform

# In many columns a Gaussian's rows lie in a thin shell, and a smooth law takes many of them.
CANDIDATE_SIZES = (2, 3, 5, 8, 13, 21, 34)
ROWS_PER_COMPONENT, N_QUANTILES = 20, 2000
N_ITERATIONS, TOLERANCE = 200, 1e-6
# The narrowest and the widest Gaussian, in units of white rows.
MIN_SCALE, MAX_SCALE = 1e-2, 1e3
# Tails beyond this come from logarithms, lengths beyond that from the widest Gaussian alone.
MIN_TAIL, FAR = 1e-280, 1e5
# A row's influence on the covariance is taken off its length; never more than this share.
MAX_LEVERAGE = 0.9
N_SERIES, N_FRACTION = 400, 200


@dataclass(frozen=True, eq=False)
class RadialTransform(ArrayTransform):
    r"""z = :math:`x\,\rho(|x|) / |x|`, which makes a scale mixture of Gaussians normal.

    .. math:: p(x) = \sum_k w_k N(x; 0, s_k^2 I), \qquad
        C_d(\rho) = \sum_k w_k C_d(|x| / s_k),

    with C_d the distribution function of the length of d normal numbers. At the origin it is
    linear, and so it is far out, where the widest Gaussian rules.

    Attributes
    ----------
    log_weights, scales : ndarray of shape (k,)
        The widest Gaussian last.
    """

    log_weights: np.ndarray
    scales: np.ndarray

    @property
    def description(self) -> str:
        return "radial Gaussianization"

    def forward(self, X, context=None):
        r, rho, log_jacobian = self._lengths(X)
        return X * (rho / r)[:, None], log_jacobian

    def inverse(self, Z, context=None):
        d = Z.shape[1]
        rho = _length(Z)
        ends = rho * self.scales[0], rho * self.scales[-1]
        far = ends[1] > FAR * self.scales[-1]
        r = ends[1].copy()
        near = ~far

        def gap(r, rho):
            return _signed_tail(*self._log_tails(r, d)) - _signed_tail(*_log_tails(rho, d))

        bracket = (ends[0][near] * (1 - 1e-9), ends[1][near] * (1 + 1e-9))
        r[near] = elementwise.find_root(gap, bracket, args=(rho[near],)).x
        return Z * (r / rho)[:, None]

    def pull_back(self, X, gradient, context=None):
        d = X.shape[1]
        r, rho, log_jacobian = self._lengths(X)
        ratio, axis = (rho / r)[:, None], X / r[:, None]
        along = np.exp(log_jacobian - (d - 1) * np.log(ratio[:, 0]))[:, None]
        # The log-Jacobian is log p(x) less the log of the normal density of the transformed row.
        g = gradient + X * ratio
        g_along = (g * axis).sum(1, keepdims=True)
        log_joint = self._log_joint(r, d)
        posterior = np.exp(log_joint - logsumexp(log_joint, axis=1, keepdims=True))
        pull = (posterior / self.scales**2).sum(1)
        return ratio * (g - g_along * axis) + along * g_along * axis - X * pull[:, None]

    def _lengths(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Lengths before and after (n,), and the log-Jacobians."""
        d = X.shape[1]
        r = _length(X)
        rho = r / self.scales[-1]
        log_jacobian = np.full(len(r), -d * np.log(self.scales[-1]))
        near = rho < FAR
        lower, upper = self._log_tails(r[near], d)
        bounds = r[near] / self.scales[-1], r[near] / self.scales[0]
        rho[near] = _inverse_length(lower, upper, d, bounds)
        log_normal = -0.5 * (rho[near] ** 2 + d * LOG_2PI)
        log_jacobian[near] = logsumexp(self._log_joint(r[near], d), axis=1) - log_normal
        return r, rho, log_jacobian

    def _log_joint(self, r: np.ndarray, d: int) -> np.ndarray:
        y = r[:, None] / self.scales
        return self.log_weights - 0.5 * (y**2 + d * LOG_2PI) - d * np.log(self.scales)

    def _log_tails(self, r: np.ndarray, d: int) -> tuple[np.ndarray, np.ndarray]:
        """Logarithms of the mixture's mass below and above lengths (n,)."""
        lower, upper = _log_tails(r[:, None] / self.scales, d)
        return tuple(logsumexp(self.log_weights + tail, axis=1) for tail in (lower, upper))


def _length(Z: np.ndarray) -> np.ndarray:
    # The origin has no direction; any tiny length does.
    largest = np.abs(Z).max(1, keepdims=True).clip(1e-300)
    return (largest[:, 0] * np.sqrt(((Z / largest) ** 2).sum(1))).clip(1e-200)


def _log_tails(length: np.ndarray, d: int) -> tuple[np.ndarray, np.ndarray]:
    """Logarithms of the mass of normal vectors shorter and longer than this."""
    a, y = d / 2, 0.5 * length**2
    lower, upper = gammainc(a, y), gammaincc(a, y)
    log_lower, log_upper = (np.log(np.maximum(tail, MIN_TAIL)) for tail in (lower, upper))
    tiny = lower < MIN_TAIL
    if tiny.any():
        log_lower[tiny] = _log_lower_series(a, length[tiny])
    tiny = upper < MIN_TAIL
    if tiny.any():
        log_upper[tiny] = _log_upper_fraction(a, y[tiny])
    return log_lower, log_upper


def _log_lower_series(a: float, length: np.ndarray) -> np.ndarray:
    """log of the regularised lower incomplete gamma function of half the square, as a series."""
    y = 0.5 * length**2
    term, total = np.ones_like(y), np.ones_like(y)
    for n in range(1, N_SERIES):
        term = term * y / (a + n)
        total += term
    return a * (2 * np.log(length) - np.log(2)) - y - gammaln(a + 1) + np.log(total)


def _log_upper_fraction(a: float, y: np.ndarray) -> np.ndarray:
    """log of the regularised upper incomplete gamma function, by its continued fraction."""
    tail = np.zeros_like(y)
    for n in range(N_FRACTION, 0, -1):
        tail = n * (a - n) / (y + 2 * n + 1 - a + tail)
    return a * np.log(y) - y - gammaln(a) - np.log(y + 1 - a + tail)


def _signed_tail(log_lower: np.ndarray, log_upper: np.ndarray) -> np.ndarray:
    """Increasing in both: the log of the smaller tail, which keeps its digits, signed."""
    return np.where(log_lower < log_upper, log_lower + np.log(2), -log_upper - np.log(2))


def _inverse_length(
    log_lower: np.ndarray, log_upper: np.ndarray, d: int, bounds: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
    """Lengths of normal vectors with these tails."""
    a, below = d / 2, log_lower < log_upper
    half_square = np.where(
        below, gammaincinv(a, np.exp(log_lower)), gammainccinv(a, np.exp(log_upper))
    )
    length = np.sqrt(2 * half_square)
    rest = np.minimum(log_lower, log_upper) < np.log(MIN_TAIL)
    if rest.any():
        target = _signed_tail(log_lower[rest], log_upper[rest])

        def gap(length, target):
            return _signed_tail(*_log_tails(length, d)) - target

        low, high = (bound[rest] for bound in bounds)
        length[rest] = elementwise.find_root(
            gap, (low * (1 - 1e-9), high * (1 + 1e-9)), args=(target,)
        ).x
    return length


def fit_radial(Z: np.ndarray, weight: np.ndarray) -> RadialTransform | None:
    """Fit to white rows by the Bayesian information criterion; None where it prefers none.

    Parameters
    ----------
    Z : ndarray of shape (n, d)
        Of mean zero and unit covariance. A single column has a marginal transform.
    weight : ndarray of shape (n,), positive

    Notes
    -----
    A row makes the covariance larger in its own direction, so its length is that under the
    covariance of the other rows.
    """
    d = Z.shape[1]
    if d == 1:
        return None
    share = weight / weight.sum()
    squares = (Z**2).sum(1)
    leverage = np.minimum(share * squares, MAX_LEVERAGE)
    squares = squares * (1 - share) / (1 - leverage)
    n_effective = effective_number(share)
    squares, share = _quantiles(squares, share)
    best, criterion = None, n_effective * float(share @ (squares + d * LOG_2PI))
    for size in CANDIDATE_SIZES:
        if size * ROWS_PER_COMPONENT > n_effective:
            break
        candidate, log_likelihood = _fit_scales(squares, share, d, size)
        value = (2 * size - 1) * np.log(n_effective) - 2 * n_effective * log_likelihood
        if value >= criterion:
            break
        best, criterion = candidate, value
    return best


def _quantiles(squares: np.ndarray, share: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sorted values with their shares, or means of equal cells of them where they are many."""
    order = np.argsort(squares)
    squares, share = squares[order], share[order]
    if len(squares) <= N_QUANTILES:
        return squares, share
    cells = np.minimum((np.cumsum(share) * N_QUANTILES).astype(int), N_QUANTILES - 1)
    mass = np.bincount(cells, share, minlength=N_QUANTILES)
    sums = np.bincount(cells, share * squares, minlength=N_QUANTILES)
    used = mass > 0
    return sums[used] / mass[used], mass[used]


def _fit_scales(
    squares: np.ndarray, share: np.ndarray, d: int, size: int
) -> tuple[RadialTransform, float]:
    """A scale mixture by EM from equal cells of the sorted lengths, its mean log-likelihood."""
    cells = np.minimum((np.cumsum(share) * size).astype(int), size - 1)

    def parameters(mass: np.ndarray, sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mass = mass + 1e-12
        variances = (sums / (d * mass)).clip(MIN_SCALE**2, MAX_SCALE**2)
        return np.log(mass / mass.sum()), variances

    def expect(found: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, float]:
        log_weights, variances = found
        log_joint = log_weights - 0.5 * (
            squares[:, None] / variances + d * (np.log(variances) + LOG_2PI)
        )
        total = logsumexp(log_joint, axis=1)
        return share[:, None] * np.exp(log_joint - total[:, None]), float(share @ total)

    def maximize(posterior: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return parameters(posterior.sum(0), squares @ posterior)

    start = parameters(*(np.bincount(cells, w, minlength=size) for w in (share, share * squares)))
    (log_weights, variances), log_likelihood = expectation_maximization(
        start, expect, maximize, N_ITERATIONS, TOLERANCE
    )
    order = np.argsort(variances)
    return RadialTransform(log_weights[order], np.sqrt(variances[order])), log_likelihood
