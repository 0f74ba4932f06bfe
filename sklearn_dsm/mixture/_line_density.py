"""A density of one feature by its values at points, drawn from without error."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.special import log_ndtr, logsumexp, ndtri_exp
from scipy.stats import norm

from .._evaluation.latent_density import LatentDensity

# Segments whose ends differ by less, in nats, are level.
LEVEL = 1e-9


class LogLinearCurve:
    """A density whose logarithm is linear between points, and normal of mean zero beyond them.

    Parameters
    ----------
    points : ndarray of shape (k,)
        Increasing.
    values : ndarray of shape (k,)
        Log-densities at the points, up to a constant.
    deviation : float
        Standard deviation of the tails.
    """

    def __init__(self, points: np.ndarray, values: np.ndarray, deviation: float):
        self.points, self.deviation = points, deviation
        self.steps, rises = np.diff(points), np.diff(values)
        # The integral of e^(rise t) over t from 0 to 1, divided by its largest value.
        size = np.maximum(np.abs(rises), LEVEL)
        inside = np.log(self.steps) + np.maximum(values[:-1], values[1:])
        inside = inside + np.log(-np.expm1(-size) / size)
        ends = np.array([-points[0], points[-1]]) / deviation
        tails = values[[0, -1]] - norm.logpdf(ends) + log_ndtr(-ends) + np.log(deviation)
        logs = np.concatenate([tails[:1], inside, tails[1:]])
        self.log_mass = float(logsumexp(logs))
        self.values, self.rises = values - self.log_mass, rises
        self.cumulated = np.exp(logs - self.log_mass).cumsum()

    def log_density(self, z: np.ndarray) -> np.ndarray:
        """Log-densities (n,), normalised."""
        nearest = np.clip(z, self.points[0], self.points[-1])
        beyond = norm.logpdf(z, scale=self.deviation) - norm.logpdf(nearest, scale=self.deviation)
        return np.interp(nearest, self.points, self.values) + beyond

    def slope(self, z: np.ndarray) -> np.ndarray:
        """Derivatives (n,) of the log-density; at a point, of the segment to its right."""
        k = np.searchsorted(self.points, z, side="right") - 1
        inside = (k >= 0) & (k < len(self.steps))
        k = k.clip(0, len(self.steps) - 1)
        return np.where(inside, self.rises[k] / self.steps[k], -z / self.deviation**2)

    def quantile(self, u: np.ndarray) -> np.ndarray:
        """Where the distribution function (n,) is u."""
        edges = np.concatenate([[0.0], self.cumulated])
        k = np.searchsorted(self.cumulated, u, side="right").clip(max=len(self.cumulated) - 1)
        share = ((u - edges[k]) / np.maximum(edges[k + 1] - edges[k], 1e-300)).clip(0, 1)
        z = np.empty_like(u)
        left, right = k == 0, k == len(self.cumulated) - 1
        z[left] = -self._tail(share[left], -self.points[0])
        z[right] = self._tail(1 - share[right], self.points[-1])
        inside = ~(left | right)
        k, share = k[inside] - 1, share[inside]
        rise = self.rises[k]
        size = np.maximum(np.abs(rise), LEVEL)
        # From the end where the density is larger.
        part = np.where(rise > 0, 1 - share, share)
        part = -np.log1p(part * np.expm1(-size)) / size
        z[inside] = self.points[k] + self.steps[k] * np.where(rise > 0, 1 - part, part)
        return z

    def _tail(self, share: np.ndarray, end: float) -> np.ndarray:
        """Where a normal tail beyond the end has this share of its mass left."""
        logs = np.log(np.maximum(share, 1e-300)) + log_ndtr(-end / self.deviation)
        return -self.deviation * ndtri_exp(logs)


@dataclass(frozen=True)
class LineDensity(LatentDensity):
    """A density of one feature by its curve; scores at positive noise are the model's."""

    curve: LogLinearCurve = field(kw_only=True)

    def log_density(
        self, Z: np.ndarray, context: np.ndarray | None = None
    ) -> tuple[np.ndarray, int]:
        return self.curve.log_density(Z[:, 0]), 0

    def gradient(self, Z: np.ndarray, context: np.ndarray | None = None) -> np.ndarray:
        return self.curve.slope(Z[:, 0])[:, None]

    def sample(
        self, n: int, method: str, seed: int, context: np.ndarray | None = None
    ) -> np.ndarray:
        return self.curve.quantile(np.random.RandomState(seed).random_sample(n))[:, None]
