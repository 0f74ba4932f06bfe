"""Targets on a lattice, such as counts: cells around its points, instead of points."""

from __future__ import annotations

import numpy as np

# A target further from a point of the lattice, in steps, is not on it.
TOLERANCE = 1e-6


class Lattice:
    """Equally spaced values of one target; each stands for the cell half a step to both sides.

    The lowest and the highest value, where there are any, stand for all that is beyond as well.

    Parameters
    ----------
    y : ndarray of shape (n,)
        Targets, all on the lattice.
    step : float
        From a value to the next.
    low, high : float
        Bounds of values, which may be values themselves; infinite where there is none.

    Raises
    ------
    ValueError
        If targets are off the lattice or beyond a bound.
    """

    def __init__(self, y: np.ndarray, step: float, low: float, high: float):
        self.step = float(step)
        # The origin is a value of the data that is near zero, so that large targets stay exact.
        self.origin = float(y[np.argmin(np.abs(y))])
        off = np.flatnonzero(~self._is_near(self._position(y)))
        if len(off):
            row = int(off[0])
            raise ValueError(
                f"y is {y[row]:g} in sample {row}, which is not a multiple of y_step={step:g} away "
                f"from {self.origin:g}. Give the step between the values of y, or round y to it."
            )
        beyond = np.flatnonzero((y < low) | (y > high))
        if len(beyond):
            row = int(beyond[0])
            raise ValueError(
                f"y is {y[row]:g} in sample {row}, beyond a bound of y_bounds. Move the bounds, or "
                "leave them out."
            )
        self.first = np.ceil(self._position(low) - TOLERANCE)
        self.last = np.floor(self._position(high) + TOLERANCE)

    @property
    def limits(self) -> tuple[float, float]:
        """The lowest and the highest value; infinite where there is none."""
        return self._value(self.first), self._value(self.last)

    def spread(self, y: np.ndarray, random: np.random.RandomState) -> np.ndarray:
        """Targets with uniform noise over their cells."""
        return y + self.step * (random.uniform(size=len(y)) - 0.5)

    def holds(self, y: np.ndarray) -> np.ndarray:
        """Which targets (a mask) are values of the lattice."""
        k = self._position(y)
        return self._is_near(k) & (np.round(k) >= self.first) & (np.round(k) <= self.last)

    def cells(self, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper ends of cells; infinite ones beyond the last values."""
        k = np.round(self._position(y))
        low = np.where(k <= self.first, -np.inf, self._value(k - 0.5))
        return low, np.where(k >= self.last, np.inf, self._value(k + 0.5))

    def upper_ends(self, y: np.ndarray) -> np.ndarray:
        """Upper ends of the cells of the largest values up to y; -inf below all of them."""
        k = np.floor(self._position(y) + TOLERANCE)
        ends = np.where(k >= self.last, np.inf, self._value(k + 0.5))
        return np.where(k < self.first, -np.inf, ends)

    def nearest(self, y: np.ndarray) -> np.ndarray:
        """Values in whose cells y is; an upper end belongs to the cell below, as quantiles do."""
        k = np.ceil(self._position(y) - 0.5)
        return self._value(k.clip(self.first, self.last))

    def _position(self, y):
        return (np.asarray(y, dtype=float) - self.origin) / self.step

    def _value(self, k):
        return self.origin + self.step * k

    @staticmethod
    def _is_near(k: np.ndarray) -> np.ndarray:
        return np.isfinite(k) & (np.abs(k - np.round(k)) <= TOLERANCE)
