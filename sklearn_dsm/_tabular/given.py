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
        if given is None:
            return
        if hasattr(given, "columns"):
            for column in read(given)[0]:
                self._values[self._index(column.name)] = column.values
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
        return self._encoded(self._values, n)

    def joined(self, X: Any) -> Samples:
        """Samples of a frame with some of the other columns, and with what is given."""
        if not hasattr(X, "columns"):
            raise ValueError(
                "score_samples of a conditional law takes a data frame, whose names say which "
                "columns it has."
            )
        values = {self._index(column.name): column.values for column in read(X)[0]}
        twice = [j for j in values if j in self._values]
        if twice:
            name = self._columns[twice[0]].name
            raise ValueError(f"Column {name!r} is given, so X must not have it. Drop it from X.")
        n = len(next(iter(values.values())))
        return self._encoded(values | {j: np.resize(v, n) for j, v in self._values.items()}, n)

    def _index(self, name: Any) -> int:
        names = [column.name for column in self._columns]
        if name not in names:
            raise ValueError(
                f"given or X names column {name!r}, which the table does not have. Its columns "
                f"are {names}."
            )
        return names.index(name)

    def _add(self, j: int, value: Any) -> None:
        code, name = self.layout.codes[j], self._columns[j].name
        if isinstance(value, tuple):
            if len(value) != 2:
                raise ValueError(f"The range {value!r} of column {name!r} must be (low, high).")
            low, high = (
                default if end is None else float(end)
                for end, default in zip(value, (-np.inf, np.inf), strict=True)
            )
            states = code.states_within(low, high)
            self.conditions[j] = Condition(states, *code.scores_within(low, high))
        elif isinstance(value, list | set | np.ndarray):
            if code.has_value:
                raise ValueError(
                    f"Column {name!r} holds numbers, of which a list is given. Use a range "
                    "(low, high)."
                )
            states = code.encode(RawColumn(name, self._held(j, list(value)))).state
            known = states[(states >= 0) & (states < code.n_states)]
            self.conditions[j] = Condition(known, 0.0, 0.0)
        else:
            self._values[j] = self._held(j, [value])
        if j in self.conditions and not len(self.conditions[j].states):
            raise ValueError(
                f"{value!r} leaves column {name!r} no value that it could have. Widen the range, "
                "or give other values."
            )

    def _held(self, j: int, values: list) -> np.ndarray:
        dtype = self._columns[j].values.dtype
        try:
            held = np.array([*values, None], dtype=object)[:-1]
            return held.astype(dtype) if dtype.kind == "f" else held
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"given has {values!r} for column {self._columns[j].name!r}, which holds numbers."
            ) from error

    def _encoded(self, values: dict[int, np.ndarray], n: int) -> Samples:
        columns = [
            RawColumn(column.name, np.resize(values.get(j, column.values), n))
            for j, column in enumerate(self._columns)
        ]
        samples = self.layout.encode(columns)
        for f, field in enumerate(self.layout.fields):
            if field.part == HOLE:
                # A value that is not given may be missing or not.
                samples.have[:, f] = samples.state[:, f] == 0
        return samples
