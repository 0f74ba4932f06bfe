"""Known bounds and periods of features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real

import numpy as np

# Where the period of a feature starts if its support does not say.
START = 0.0


@dataclass(frozen=True, eq=False)
class Box:
    """Where a density is not zero: bounds of some features, one period of others.

    Attributes
    ----------
    low, high : ndarray of shape (d,)
        Infinite at open ends.
    periodic : ndarray of shape (d,), bool
        Whose bounds are the ends of a period.
    """

    low: np.ndarray
    high: np.ndarray
    periodic: np.ndarray

    @classmethod
    def of(cls, support, period, X: np.ndarray) -> Box | None:
        """The box that two parameters describe, for samples (n, d); None without either."""
        if support is None and period is None:
            return None
        d = X.shape[1]
        low, high = _bounds(support, d)
        periods = _periods(period, d)
        periodic = np.isfinite(periods)
        start = np.where(np.isfinite(low), low, START)
        stop = np.where(periodic, start + np.where(periodic, periods, 0), high)
        _check_one_period(periodic, high, stop)
        box = cls(np.where(periodic, start, low), stop, periodic)
        return box if np.isfinite(np.append(box.low, box.high)).any() else None

    @property
    def bounded(self) -> np.ndarray:
        """Features with a bound that is no end of a period."""
        ends = np.isfinite(self.low) | np.isfinite(self.high)
        return np.flatnonzero(ends & ~self.periodic)

    def wrapped(self, X: np.ndarray) -> np.ndarray:
        """Samples, with periodic features moved into the box by whole periods."""
        X, j = X.copy(), self.periodic
        X[:, j] = self.low[j] + np.mod(X[:, j] - self.low[j], self.high[j] - self.low[j])
        return X

    def contains(self, X: np.ndarray) -> np.ndarray:
        """Which samples are in the box."""
        return np.asarray(((self.low <= X) & (self.high >= X)).all(axis=1))

    def drawn_into(self, X: np.ndarray) -> np.ndarray:
        """Draws, none of them beyond a bound by rounding or at the end of a period."""
        X = np.clip(self.wrapped(X), self.low, self.high)
        return np.where(self.periodic & (self.high == X), self.low, X)

    def check(self, X: np.ndarray) -> None:
        """Refuse samples outside of the bounds."""
        outside = (self.low > X) | (self.high < X)
        for j in np.flatnonzero(outside.any(0)):
            raise ValueError(
                f"Samples from {X[:, j].min():g} to {X[:, j].max():g} in column {j} do not fit in "
                f"its support, {self.low[j]:g} to {self.high[j]:g}. Widen the support, or drop the "
                "samples beyond it."
            )

    def scales(self, X: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Means and standard deviations of the features, circular ones where periodic."""
        mean = np.average(X, axis=0, weights=weight)
        deviation = np.sqrt(np.average((X - mean) ** 2, axis=0, weights=weight))
        for j in np.flatnonzero(self.periodic):
            length = self.high[j] - self.low[j]
            turn = np.exp(2j * np.pi * (X[:, j] - self.low[j]) / length)
            resultant = abs(np.average(turn, weights=weight))
            # The circular deviation grows without bound as the angles become uniform.
            circular = length / (2 * np.pi) * np.sqrt(-2 * np.log(np.clip(resultant, 1e-6, 1)))
            mean[j] = self.low[j]
            deviation[j] = np.clip(circular, 1e-9 * length, length / np.sqrt(12))
        return mean, deviation

    def mapped(self, location: np.ndarray, scale: np.ndarray) -> Box:
        """The box of features that are shifted and divided."""
        low, high = (self.low - location) / scale, (self.high - location) / scale
        return Box(low, high, self.periodic)


def _bounds(support, d: int) -> tuple[np.ndarray, np.ndarray]:
    """The lower and the upper bounds (d,), infinite where there are none."""
    if support is None:
        return np.full(d, -np.inf), np.full(d, np.inf)
    single = d == 1 and len(support) == 2 and all(_is_end(end) for end in support)
    pairs = [support] if single else list(support)
    if len(pairs) != d:
        raise ValueError(
            f"support={support!r} must hold a pair (low, high), or None, for each of the {d} "
            "features of X."
        )
    ends = [_pair(pair, support) for pair in pairs]
    return np.array([low for low, _ in ends]), np.array([high for _, high in ends])


def _is_end(end) -> bool:
    return end is None or isinstance(end, Real)


def _pair(pair, support) -> tuple[float, float]:
    if pair is None:
        return -np.inf, np.inf
    valid = isinstance(pair, Sequence | np.ndarray) and len(pair) == 2
    if not (valid and all(_is_end(end) for end in pair)):
        raise ValueError(
            f"support={support!r}: {pair!r} must be a pair (low, high) of numbers, with None for "
            "an open end."
        )
    low, high = (
        open_end if end is None else float(end)
        for end, open_end in zip(pair, (-np.inf, np.inf), strict=True)
    )
    if not low < high:
        raise ValueError(
            f"support={support!r} must have the smaller number first in every pair; {pair!r} has "
            "not."
        )
    return low, high


def _periods(period, d: int) -> np.ndarray:
    """The periods (d,), infinite where there are none."""
    if period is None:
        return np.full(d, np.inf)
    listed = [period] if isinstance(period, Real) else list(period)
    if len(listed) != d:
        raise ValueError(
            f"period={period!r} must hold a number, or None, for each of the {d} features of X."
        )
    for each in listed:
        if each is not None and not (isinstance(each, Real) and 0 < float(each) < np.inf):
            raise ValueError(f"period={period!r}: {each!r} must be a positive number or None.")
    return np.array([np.inf if each is None else float(each) for each in listed])


def _check_one_period(periodic: np.ndarray, high: np.ndarray, stop: np.ndarray) -> None:
    """Refuse a support of a periodic feature that is not one period long."""
    wrong = periodic & np.isfinite(high) & ~np.isclose(high, stop, rtol=1e-6)
    if wrong.any():
        j = int(np.flatnonzero(wrong)[0])
        raise ValueError(
            f"The support of column {j} ends at {high[j]:g}, and one period from its start at "
            f"{stop[j]:g}. For a periodic feature, support is one period, or (start, None)."
        )
