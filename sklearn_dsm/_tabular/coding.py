"""Columns as codes and normal scores, with what a log-probability needs of each."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import expit

from .._transforms.marginal import MarginalTransform, fit_marginal
from .columns import ColumnType
from .frames import RawColumn

# Normal scores, and standardised values, are kept within these.
MAX_SCORE, MAX_STANDARDISED = 60.0, 8.0
# A bend of the map at a bound is as narrow as this quantile of the values is far from it.
BEND_QUANTILE = 0.1
MISSING = -1


class Coded(NamedTuple):
    """Samples of one column, as the chain of conditional laws takes them.

    Attributes
    ----------
    state : ndarray of int, shape (n,)
        Category or point mass, the last one for all other numbers; -1 where the value is missing.
    score : ndarray of shape (n,)
        Normal scores of numbers that are no point mass, 0 for others.
    low, high : ndarray of shape (n,)
        Normal scores of the ends of cells.
    log_slope : ndarray of shape (n,)
        Log-derivative of the normal score, 0 for cells, -inf beyond bounds.
    standardised : ndarray of shape (n,)
        The numbers themselves, of mean 0 and variance 1.
    """

    state: np.ndarray
    score: np.ndarray
    low: np.ndarray
    high: np.ndarray
    log_slope: np.ndarray
    standardised: np.ndarray


class DiscreteCode:
    """Categories, booleans and numbers of few values.

    Parameters
    ----------
    column : RawColumn
    kind : ColumnType
    """

    has_value = False
    is_whole = True
    point_cells = np.empty((0, 2))

    def __init__(self, column: RawColumn, kind: ColumnType):
        self.type, self.name = kind, column.name
        self.n_states = len(kind.values)
        self._code = {value: k for k, value in enumerate(kind.values)}
        numbers = column.is_numeric
        self._numbers = np.array(kind.values, dtype=np.float64) if numbers else None
        if self._numbers is not None:
            spread = self._numbers.std()
            self._standard = (self._numbers - self._numbers.mean()) / (spread or 1.0)

    def encode(self, column: RawColumn) -> Coded:
        """Codes; ``n_states`` for categories that were not among the values."""
        values = column.values.tolist()
        state = np.array(
            [
                MISSING if value is None or value != value else self._code.get(value, self.n_states)
                for value in values
            ],
            dtype=np.int64,
        )
        zero = np.zeros(len(state))
        standardised = zero
        if self._numbers is not None:
            known = np.append(self._standard, [0.0, 0.0])
            standardised = known[state]
        return Coded(state, zero, zero, zero, zero, standardised)

    def decode(self, state: np.ndarray, score: np.ndarray) -> np.ndarray:
        """Values (n,) of codes, None or NaN where these are -1."""
        if self._numbers is not None:
            return np.append(self._numbers, np.nan)[state]
        table = np.empty(self.n_states + 1, dtype=object)
        table[:-1] = self.type.values
        return table[state]

    def scores_within(self, low: float, high: float) -> tuple[float, float]:
        """None of a column without scores."""
        return 0.0, 0.0

    def is_point_cell(self, score: np.ndarray) -> np.ndarray:
        """Whether scores lie in the cell of a point mass: never."""
        return np.zeros(len(score), dtype=bool)

    def states_within(self, low: float, high: float) -> np.ndarray:
        """Codes of numbers in a closed interval, none where these are no numbers."""
        if self._numbers is None:
            return np.empty(0, dtype=np.int64)
        return np.flatnonzero((self._numbers >= low) & (self._numbers <= high))


class NumericCode:
    """Numbers: a density or masses of cells, and point masses of their own.

    Parameters
    ----------
    column : RawColumn
        Samples of the fit.
    kind : ColumnType
    weight : ndarray of shape (n,)
    """

    point_cells = np.empty((0, 2))

    def __init__(self, column: RawColumn, kind: ColumnType, weight: np.ndarray):
        self.name = column.name
        seen = ~column.missing
        values, weight = column.values[seen], weight[seen]
        rest = ~np.isin(values, kind.point_masses)
        left = np.unique(values[rest])
        if len(left) < 2:
            # One value has no spread to learn, and is a point mass itself.
            kind = kind._replace(point_masses=sorted([*kind.point_masses, *left.tolist()]))
            rest[:] = False
        self.type = kind
        self.has_value = bool(rest.any())
        # Whether numbers that are drawn are whole where those of the fit were.
        self.is_whole = kind.kind == "cells" and kind.step == round(kind.step)
        self._points = np.array(kind.point_masses, dtype=np.float64)
        self.n_states = len(self._points) + self.has_value
        self._mean = np.average(values, weights=weight)
        self._spread = float(np.sqrt(np.average((values - self._mean) ** 2, weights=weight))) or 1.0
        if self.has_value:
            self._fit(values[rest], weight[rest])

    def _fit(self, values: np.ndarray, weight: np.ndarray) -> None:
        half = 0.5 * self.type.step
        self._low, self._high = self.type.bounds[0] - half, self.type.bounds[1] + half
        self._offset = float(values[0])
        near = np.quantile(values, [BEND_QUANTILE, 1 - BEND_QUANTILE])
        room = [near[0] - self._low, self._high - near[1]]
        self._bend = [float(width) if np.isfinite(width) and width > 0 else 1.0 for width in room]
        u = self._unbounded(values)[0]
        # The map must have a slope wherever samples lie at a bound.
        u = np.clip(u, *np.quantile(u[np.isfinite(u)], [0, 1]))
        self._marginal: MarginalTransform = fit_marginal(u[:, None], weight / weight.mean(), "auto")
        if self.type.step:
            low, high = self.type.bounds
            inside = self._points[(low <= self._points) & (self._points <= high)]
            self.point_cells = np.stack(self._cell_ends(inside), axis=1)

    def encode(self, column: RawColumn) -> Coded:
        x = column.values
        missing = column.missing
        state = np.full(len(x), len(self._points), dtype=np.int64)
        for k, point in enumerate(self._points):
            state[x == point] = k
        state[missing] = MISSING
        standardised = np.where(missing, 0.0, (x - self._mean) / self._spread)
        standardised = standardised.clip(-MAX_STANDARDISED, MAX_STANDARDISED)
        score, low, high, log_slope = np.zeros((4, len(x)))
        rest = state == len(self._points)
        if self.has_value and rest.any():
            values = self._on_grid(x[rest])
            score[rest], log_slope[rest] = self._scores(values)
            if self.type.step:
                low[rest], high[rest] = self._cell_ends(values)
                log_slope[rest] = 0.0
            beyond = (x < self.type.bounds[0]) | (x > self.type.bounds[1])
            log_slope[rest & beyond] = -np.inf
        return Coded(state, score, low, high, log_slope, standardised)

    def decode(self, state: np.ndarray, score: np.ndarray) -> np.ndarray:
        found = np.full(len(state), np.nan)
        point = (state >= 0) & (state < len(self._points))
        found[point] = self._points[state[point]]
        rest = state == len(self._points)
        if self.has_value and rest.any():
            u = self._marginal.inverse(score[rest, None])[:, 0]
            found[rest] = self._on_grid(self._bounded(u))
        return found

    def states_within(self, low: float, high: float) -> np.ndarray:
        """Point masses in a closed interval, and the state of other numbers if some are in it."""
        found = np.flatnonzero((self._points >= low) & (self._points <= high))
        if self.has_value:
            first, last = self.scores_within(low, high)
            found = np.append(found, len(self._points)) if first < last else found
        return found

    def scores_within(self, low: float, high: float) -> tuple[float, float]:
        """Normal scores of the ends of an interval, for cells of all whose middle is in it."""
        if not self.has_value:
            return 0.0, 0.0
        if self.type.step:
            step = self.type.step
            first = self._offset + step * np.ceil((low - self._offset) / step - 1e-9)
            last = self._offset + step * np.floor((high - self._offset) / step + 1e-9)
            low, high = first - 0.5 * step, last + 0.5 * step
        ends = self._edges(np.clip([low, high], self._low, self._high))
        return float(ends[0]), float(ends[1])

    def is_point_cell(self, score: np.ndarray) -> np.ndarray:
        """Whether scores lie in the cell of a point mass, which other numbers do not have."""
        low, high = self.point_cells.T
        return np.any((score[:, None] > low) & (score[:, None] < high), axis=1)

    def _on_grid(self, x: np.ndarray) -> np.ndarray:
        """Middles of cells, or numbers strictly within the bounds."""
        low, high = self.type.bounds
        if not self.type.step:
            return np.clip(x, np.nextafter(low, np.inf), np.nextafter(high, -np.inf))
        k = np.round((np.clip(x, low, high) - self._offset) / self.type.step)
        # Decimals as they are written, not as sums of steps.
        decimals = 10
        return np.round(self._offset + k * self.type.step, decimals)

    def _cell_ends(self, middle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        half = 0.5 * self.type.step
        return self._edges(middle - half), self._edges(middle + half)

    def _edges(self, x: np.ndarray) -> np.ndarray:
        """Normal scores of ends of cells, the largest ones at the bounds."""
        nudge = 1e-9 * (self.type.step or self._spread)
        below, above = x <= self._low + nudge, x >= self._high - nudge
        found = np.empty(len(x))
        within = ~(below | above)
        found[below], found[above] = -MAX_SCORE, MAX_SCORE
        if within.any():
            found[within] = self._scores(x[within])[0]
        return found

    def _scores(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        u, log_slope = self._unbounded(x)
        with np.errstate(invalid="ignore"):
            z, more = self._marginal.forward(np.nan_to_num(u, posinf=1e6, neginf=-1e6)[:, None])
        return z[:, 0].clip(-MAX_SCORE, MAX_SCORE), log_slope + more

    def _unbounded(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Numbers on the real line and the log-derivative: bent near the bounds."""
        low, high = self._low, self._high
        below, above = x - low, high - x
        with np.errstate(divide="ignore", invalid="ignore"):
            if np.isfinite(low) and np.isfinite(high):
                log_slope = np.log(high - low) - np.log(below) - np.log(above)
                return np.log(below) - np.log(above), log_slope
            if np.isfinite(low):
                return _bent(below, self._bend[0])
            if np.isfinite(high):
                u, log_slope = _bent(above, self._bend[1])
                return -u, log_slope
        return x, np.zeros(len(x))

    def _bounded(self, u: np.ndarray) -> np.ndarray:
        low, high = self._low, self._high
        if np.isfinite(low) and np.isfinite(high):
            return low + (high - low) * expit(u)
        if np.isfinite(low):
            return low + _unbent(u, self._bend[0])
        return high - _unbent(-u, self._bend[1]) if np.isfinite(high) else u


def _bent(distance: np.ndarray, width: float) -> tuple[np.ndarray, np.ndarray]:
    """The inverse of the softplus function: a logarithm at 0, a line from there on."""
    gap = -np.expm1(-distance / width)
    return distance + width * np.log(gap), -np.log(gap)


def _unbent(u: np.ndarray, width: float) -> np.ndarray:
    return width * np.logaddexp(0.0, u / width)


def code_for(column: RawColumn, kind: ColumnType, weight: np.ndarray) -> DiscreteCode | NumericCode:
    """The code of a column of a type."""
    if kind.kind == "discrete":
        return DiscreteCode(column, kind)
    return NumericCode(column, kind, weight)
