"""Marginal transforms: each column becomes normal, by a one-dimensional mixture or a line."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from scipy.optimize import elementwise
from scipy.special import log_ndtr, logsumexp, ndtri_exp

from .._core.arrays import tensor_of
from .._core.constants import LOG_2PI
from .._validation import effective_number
from .em import expectation_maximization
from .transform import ArrayTransform

CANDIDATE_SIZES = (2, 4, 8, 12)
ROWS_PER_COMPONENT = 20
N_QUANTILES = 2000
N_ITERATIONS, TOLERANCE = 60, 1e-5
BLOCK_NUMBERS = 2**15
# In units of a column's own scale: the narrowest component.
MIN_SCALE = 3e-3
# A component is half as wide as the distance to so many rows at least: one row, or a few, must not
# buy themselves density that no other row has seen.
ROWS_IN_REACH = 5
# Where neither a distribution function nor a density comes close to zero, no logarithms of
# either are needed.
MIN_TAIL, MIN_DENSITY = 1e-6, 1e-250
# Normal scores beyond which the last digits of a squared score are worth a nat.
FAR = 1e5


@dataclass(frozen=True, eq=False)
class MarginalTransform(ArrayTransform):
    r"""z_j = \Phi^{-1}(F_j((x_j - l_j) / c_j)) for mixtures F_j; linear where F_j is normal.

    Attributes
    ----------
    location, scale : ndarray of shape (d,)
    log_weights, means, scales : ndarray of shape (d, k)
        The columns' mixtures in units of ``scale``; unused components have log-weight
        -inf. A linear column has k = 1 used component, N(0, 1).
    """

    location: np.ndarray
    scale: np.ndarray
    log_weights: np.ndarray
    means: np.ndarray
    scales: np.ndarray

    @property
    def description(self) -> str:
        n_curved, n = len(self.curved), len(self.location)
        return f"{n_curved} of {n} marginals Gaussianized" if n_curved else "linear marginals"

    @property
    def curved(self) -> np.ndarray:
        """Indices of the columns whose transform is not linear."""
        return np.flatnonzero(np.isfinite(self.log_weights).sum(1) > 1)

    @property
    def straight(self) -> np.ndarray:
        """Indices of the columns whose transform is linear."""
        return np.setdiff1d(np.arange(len(self.scale)), self.curved)

    def forward(self, X, context=None):
        Z, log_slopes = self._columns(X)
        return Z, log_slopes.sum(1)

    def inverse(self, Z, context=None):
        U = np.array(Z, dtype=np.float64)
        for j in self.curved:
            U[:, j] = self._invert(j, U[:, j])
        return self.location + self.scale * U

    def pull_back(self, X, gradient, context=None):
        Z, log_slopes = self._columns(X)
        pulled = gradient * np.exp(log_slopes)
        for j in self.curved:
            u = (X[:, j] - self.location[j]) / self.scale[j]
            pulled[:, j] += self._score(j, u) / self.scale[j]
            pulled[:, j] += Z[:, j] * np.exp(log_slopes[:, j])
        return pulled

    def _columns(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Transformed columns (n, d) and the log-derivative of each (n, d)."""
        Z = (X - self.location) / self.scale
        log_slopes = np.broadcast_to(-np.log(self.scale), Z.shape).copy()
        for j in self.curved:
            Z[:, j], log_slope = self._score_and_log_slope(j, Z[:, j])
            log_slopes[:, j] += log_slope
        return Z, log_slopes

    def _standardized(self, j: int, u: np.ndarray) -> np.ndarray:
        return (u[:, None] - self.means[j]) / self.scales[j]

    def _score_and_log_slope(self, j: int, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Normal scores and the log-slopes there, by logarithms only where these are needed."""
        # In torch throughout: the threads of numpy's products would be in the way of torch's.
        used = np.isfinite(self.log_weights[j])
        means, scales = (tensor_of(part[j, used]) for part in (self.means, self.scales))
        weights = tensor_of(np.exp(self.log_weights[j, used]))
        y = (tensor_of(np.ascontiguousarray(u))[:, None] - means) / scales
        centered = torch.erf(y / np.sqrt(2)) @ weights
        density = torch.exp(-0.5 * y**2) @ (weights / scales)
        plain = (centered.abs() < 1 - 2 * MIN_TAIL) & (density > MIN_DENSITY)
        scores = np.sqrt(2) * torch.erfinv(torch.where(plain, centered, 0))
        log_slopes = torch.log(torch.where(plain, density, 1)) + 0.5 * scores**2
        z, log_slope, rest = scores.numpy(), log_slopes.numpy(), ~plain.numpy()
        if rest.any():
            z[rest] = self._normal_score(j, u[rest])
            log_slope[rest] = self._log_slope(j, u[rest], z[rest])
        return z, log_slope

    def _log_joint(self, j: int, u: np.ndarray) -> np.ndarray:
        y = self._standardized(j, u)
        return self.log_weights[j] - np.log(self.scales[j]) - 0.5 * (y**2 + LOG_2PI)

    def _log_density(self, j: int, u: np.ndarray) -> np.ndarray:
        return logsumexp(self._log_joint(j, u), axis=1)

    def _log_slope(self, j: int, u: np.ndarray, z: np.ndarray) -> np.ndarray:
        log_slope = self._log_density(j, u) + 0.5 * (z**2 + LOG_2PI)
        far = np.abs(z) > FAR
        if far.any():
            # Both terms are huge there, and one component has all the mass.
            nearest = np.argmax(self._log_joint(j, u[far]), axis=1)
            log_slope[far] = -np.log(self.scales[j, nearest])
        return log_slope

    def _score(self, j: int, u: np.ndarray) -> np.ndarray:
        log_joint = self._log_joint(j, u)
        posterior = np.exp(log_joint - logsumexp(log_joint, axis=1, keepdims=True))
        return -(posterior * self._standardized(j, u) / self.scales[j]).sum(1)

    def _normal_score(self, j: int, u: np.ndarray) -> np.ndarray:
        y = self._standardized(j, u)
        below = logsumexp(self.log_weights[j] + log_ndtr(y), axis=1)
        z = ndtri_exp(below)
        # The smaller tail keeps its digits.
        upper = below > -np.log(2)
        z[upper] = -ndtri_exp(logsumexp(self.log_weights[j] + log_ndtr(-y[upper]), axis=1))
        return z

    def _invert(self, j: int, z: np.ndarray) -> np.ndarray:
        used = np.isfinite(self.log_weights[j])
        means, scales = self.means[j, used], self.scales[j, used]
        # F lies between its components' own distribution functions.
        ends = means + scales * z[:, None]
        low, high = ends.min(1) - 1e-9, ends.max(1) + 1e-9
        root = elementwise.find_root(
            lambda u, target: self._normal_score(j, u) - target, (low, high), args=(z,)
        )
        return root.x


def fit_marginal(X: np.ndarray, weight: np.ndarray, marginals: str | None) -> MarginalTransform:
    """Fit the transforms of all columns.

    Parameters
    ----------
    X : ndarray of shape (n, d)
    weight : ndarray of shape (n,), positive, of mean one
    marginals : {"auto", "gaussianize", "standardize", None}
        None changes nothing; "standardize" is linear; "gaussianize" gives every column a
        mixture of at least two components, where the rows allow two; "auto" lets the
        Bayesian information criterion choose between a line and a mixture for every column.
    """
    n, d = X.shape
    if marginals is None:
        return linear_marginal(np.zeros(d), np.ones(d))
    mean = np.average(X, axis=0, weights=weight)
    deviation = np.sqrt(np.average((X - mean) ** 2, axis=0, weights=weight))
    linear = linear_marginal(mean, deviation)
    if marginals == "standardize":
        return linear
    levels = (np.arange(min(n, N_QUANTILES)) + 0.5) / min(n, N_QUANTILES)
    quantiles = _weighted_quantiles(X, weight, levels)
    location, scale = _robust_location_scale(quantiles, mean, deviation)
    U = (quantiles - location) / scale
    n_effective = effective_number(weight)
    sizes = [size for size in CANDIDATE_SIZES if size * ROWS_PER_COMPONENT <= n_effective]
    width = max(sizes, default=1)
    best, criterion = _padded(linear, width), np.full(d, np.inf)
    if marginals == "auto":
        # -2 log-likelihood of a normal column, in the units of U.
        criterion = n_effective * (2 * np.log(deviation / scale) + LOG_2PI + 1)
        criterion += 2 * np.log(n_effective)
    for size in sizes:
        mixtures, log_likelihood = _fit_mixtures(U, size)
        candidate = (3 * size - 1) * np.log(n_effective) - 2 * n_effective * log_likelihood
        better = candidate < criterion
        criterion = np.where(better, candidate, criterion)
        fitted = MarginalTransform(location, scale, *mixtures)
        best = _choose(better, _padded(fitted, width), best)
    return best


def linear_marginal(location: np.ndarray, scale: np.ndarray) -> MarginalTransform:
    """The transform (x - location) / scale."""
    one = np.ones((len(location), 1))
    return MarginalTransform(location, scale, 0 * one, 0 * one, one)


def _padded(marginal: MarginalTransform, width: int) -> MarginalTransform:
    """The same transform with room for ``width`` components a column."""
    extra = ((0, 0), (0, width - marginal.means.shape[1]))
    return replace(
        marginal,
        log_weights=np.pad(marginal.log_weights, extra, constant_values=-np.inf),
        means=np.pad(marginal.means, extra),
        scales=np.pad(marginal.scales, extra, constant_values=1.0),
    )


def _choose(
    where: np.ndarray, first: MarginalTransform, second: MarginalTransform
) -> MarginalTransform:
    """The columns of the first where true, else those of the second."""
    names = [field.name for field in fields(first)]
    pairs = [(getattr(first, name), getattr(second, name)) for name in names]
    return MarginalTransform(
        *(np.where(where[:, None] if a.ndim == 2 else where, a, b) for a, b in pairs)
    )


def _weighted_quantiles(X: np.ndarray, weight: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Quantiles of every column, shape (len(levels), d)."""
    order = np.argsort(X, axis=0)
    mass = np.cumsum(weight[order], axis=0) / weight.sum()
    rows = [np.searchsorted(mass[:, j], levels - 1e-12) for j in range(X.shape[1])]
    index = np.minimum(np.stack(rows, 1), len(X) - 1)
    return np.take_along_axis(X, np.take_along_axis(order, index, 0), 0)


def _robust_location_scale(
    quantiles: np.ndarray, mean: np.ndarray, deviation: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Median and a tenth-to-ninetieth-percentile scale; mean and deviation where that is 0."""
    low, middle, high = np.quantile(quantiles, [0.1, 0.5, 0.9], axis=0)
    spread = (high - low) / 2.563
    robust = spread > 1e-6 * deviation
    return np.where(robust, middle, mean), np.where(robust, spread, deviation)


def _fit_mixtures(U: np.ndarray, size: int) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """EM for every column, started from equal cells of the sorted column.

    Returns the log-weights, means and scales, (d, size) each, and the mean
    log-likelihood of each column. A few columns at a time, whose posteriors a cache holds.
    """
    n_blocks = min(U.shape[1], -(-U.size * size // BLOCK_NUMBERS))
    fits = [_fit_block(block, size) for block in np.array_split(U, n_blocks, axis=1)]
    maps, log_likelihoods = zip(*fits, strict=True)
    parts = tuple(np.concatenate(part) for part in zip(*maps, strict=True))
    return parts, np.concatenate(log_likelihoods)


def _fit_block(U: np.ndarray, size: int) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    d = U.shape[1]
    U = np.sort(U, axis=0)
    cells = np.array_split(U, size)
    # Components first, (size, d), and rows last: the longest axis is the fastest to sum over.
    means = np.stack([cell.mean(0) for cell in cells])
    scales = np.maximum(np.stack([cell.std(0) for cell in cells]), MIN_SCALE)
    values = np.ascontiguousarray(U.T)

    def expect(mixtures: tuple[np.ndarray, ...]) -> tuple[np.ndarray, np.ndarray]:
        log_weights, means, scales = mixtures
        y = (values - means[:, :, None]) / scales[:, :, None]
        log_joint = (log_weights - np.log(scales))[:, :, None] - 0.5 * (y**2 + LOG_2PI)
        top = log_joint.max(0)
        posterior = np.exp(log_joint - top)
        total = posterior.sum(0)
        posterior /= total
        return posterior, (np.log(total) + top).mean(1)

    def maximize(posterior: np.ndarray) -> tuple[np.ndarray, ...]:
        mass = posterior.sum(2) + 1e-10
        means = (posterior * values).sum(2) / mass
        variances = (posterior * (values - means[:, :, None]) ** 2).sum(2) / mass
        floors = np.maximum(_reach(values, means.T).T / 2, MIN_SCALE)
        return np.log(mass / mass.sum(0)), means, np.maximum(np.sqrt(variances), floors)

    start: tuple[np.ndarray, ...] = (np.full((size, d), -np.log(size)), means, scales)
    mixtures, log_likelihood = expectation_maximization(
        start, expect, maximize, N_ITERATIONS, TOLERANCE
    )
    return tuple(part.T for part in mixtures), log_likelihood


def _reach(values: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Distance (d, k) from points to the ``ROWS_IN_REACH``-th nearest of sorted values (d, n)."""
    d, n = values.shape
    n_rows = min(ROWS_IN_REACH, n)
    place = np.stack([np.searchsorted(values[j], points[j]) for j in range(d)])
    # The nearest values are neighbours in the order, some of them below the point.
    first = np.clip(place[..., None] - np.arange(n_rows + 1), 0, n - n_rows)
    column = np.arange(d)[:, None, None]
    below = points[..., None] - values[column, first]
    above = values[column, first + n_rows - 1] - points[..., None]
    return np.maximum(below, above).min(-1)
