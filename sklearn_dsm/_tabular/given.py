"""What is given of a table: values, ranges and lists of values of some columns."""

from __future__ import annotations

from typing import Any

import numpy as np

from .frames import RawColumn, read
from .law import Condition
from .layout import HOLE, Layout, Samples


class Given:
    """Conditions on columns, for one sample or for each row of a frame.

    Parameters
    ----------
    layout : Layout
    columns : list of RawColumn
        A missing value of each column.
    given : dict, Series, DataFrame or None
        A dict has a value, a pair (low, high), or a list of values for each column.

    Attributes
    ----------
    conditions : dict of int to Condition
        Ranges and lists, by column.
    """

    def __init__(self, layout: Layout, columns: list[RawColumn], given: Any):
        self.layout, self._columns = layout, columns
        self.conditions: dict[int, Condition] = {}
        self._values: dict[int, np.ndarray] = {}
        # What the ranges and lists say of values.
        self._allowed: dict[int, tuple[float, float] | list] = {}
        if given is None:
            return
        if hasattr(given, "columns"):
            self._values = self._read(given)
            return
        if not hasattr(given, "items"):
            raise ValueError(
                f"given={given!r} must be a dict, a Series or a data frame with names of columns."
            )
        for name, value in given.items():
            self._add(self._index(name), value)

    def samples(self) -> Samples:
        """Samples of which only what is given has values: one, or one for each row."""
        n = max((len(values) for values in self._values.values()), default=1)
        return self._encoded(self._values, n, set())

    def joined(self, X: Any) -> tuple[Samples, np.ndarray]:
        """Samples of a frame with some of the columns and with what is given.

        Also flags (n,) of samples whose values the ranges and lists allow.
        """
        if not hasattr(X, "columns"):
            raise ValueError(
                "score_samples of a conditional law takes a data frame, whose names say which "
                "columns it has."
            )
        values = self._read(X)
        twice = [j for j in values if j in self._values]
        if twice:
            name = self._columns[twice[0]].name
            raise ValueError(f"Column {name!r} is given, so X must not have it. Drop it from X.")
        n = len(X)
        allowed = np.ones(n, dtype=bool)
        for j, which in self._allowed.items():
            if j in values:
                allowed &= _is_allowed(RawColumn(None, values[j]), which)
        told = set(values)
        values |= {j: np.resize(held, n) for j, held in self._values.items()}
        return self._encoded(values, n, told), allowed

    def _read(self, frame: Any) -> dict[int, np.ndarray]:
        columns = read(frame)[0]
        if not columns or not len(columns[0].values):
            raise ValueError("A frame without rows or columns gives nothing.")
        places = [self._index(column.name) for column in columns]
        return {j: c.like(self._columns[j]).values for j, c in zip(places, columns, strict=True)}

    def _index(self, name: Any) -> int:
        names = [column.name for column in self._columns]
        if name not in names:
            raise ValueError(
                f"given or X names column {name!r}, which the table does not have. Its columns "
                f"are {names}."
            )
        return names.index(name)

    def _add(self, j: int, value: Any) -> None:
        if isinstance(value, tuple):
            self._allowed[j] = self._range(j, value)
            self.conditions[j] = self._within(j, *self._allowed[j])
        elif isinstance(value, list | set | np.ndarray):
            self._allowed[j] = list(value)
            self.conditions[j] = self._among(j, list(value))
        else:
            self._values[j] = self._held(j, [value])
        if j in self.conditions and not len(self.conditions[j].states):
            raise ValueError(
                f"{value!r} leaves column {self._columns[j].name!r} no value that it could have. "
                "Widen the range, or give other values."
            )

    def _range(self, j: int, ends: tuple) -> tuple[float, float]:
        name = self._columns[j].name
        if not self._columns[j].is_numeric:
            raise ValueError(
                f"Column {name!r} holds categories, for which a range such as {ends!r} means "
                "nothing. Give a list of categories."
            )
        try:
            low, high = ends
            low = -np.inf if low is None else float(low)
            high = np.inf if high is None else float(high)
        except (TypeError, ValueError):
            raise ValueError(
                f"The range {ends!r} of column {name!r} must be two numbers (low, high), with "
                "None for no end."
            ) from None
        if not low <= high:
            raise ValueError(f"The range {ends!r} of column {name!r} must have low <= high.")
        return low, high

    def _within(self, j: int, low: float, high: float) -> Condition:
        code = self.layout.codes[j]
        return Condition(code.states_within(low, high), *code.scores_within(low, high))

    def _among(self, j: int, values: list) -> Condition:
        code, name = self.layout.codes[j], self._columns[j].name
        if code.has_value:
            raise ValueError(
                f"Column {name!r} holds numbers, of which a list is given. Use a range (low, high)."
            )
        states = code.encode(RawColumn(name, self._held(j, values))).state
        unknown = [v for v, state in zip(values, states, strict=True) if state >= code.n_states]
        if unknown:
            raise ValueError(
                f"given has {unknown[0]!r} for column {name!r}, which was not among the samples of "
                "the fit. Leave it out."
            )
        return Condition(np.unique(states[states >= 0]), 0.0, 0.0)

    def _held(self, j: int, values: list) -> np.ndarray:
        dtype = self._columns[j].values.dtype
        try:
            held = np.array([*values, None], dtype=object)[:-1]
            return held.astype(dtype) if dtype.kind == "f" else held
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"given has {values!r} for column {self._columns[j].name!r}, which holds numbers."
            ) from error

    def _encoded(self, values: dict[int, np.ndarray], n: int, told: set[int]) -> Samples:
        """Samples, and of told columns also that values are missing."""
        columns = [
            RawColumn(column.name, np.resize(values.get(j, column.values), n))
            for j, column in enumerate(self._columns)
        ]
        samples = self.layout.encode(columns)
        for f, field in enumerate(self.layout.fields):
            if field.part == HOLE and field.column not in told:
                # A value that is not given may be missing or not.
                samples.have[:, f] = samples.state[:, f] == 0
        return samples


def _is_allowed(column: RawColumn, which: tuple[float, float] | list) -> np.ndarray:
    """Flags (n,) of values that a range or list has; a missing one can be any."""
    if isinstance(which, tuple):
        return column.missing | ((column.values >= which[0]) & (column.values <= which[1]))
    return column.missing | np.array([value in which for value in column.values], dtype=bool)
