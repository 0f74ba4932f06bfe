"""The parts of a table's law in their order, and samples as arrays over these parts."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .coding import MISSING, Coded, DiscreteCode, NumericCode
from .frames import RawColumn

HOLE, STATE, VALUE = "hole", "state", "value"
# Inputs for a column's categories, the most frequent ones; scores are clipped as inputs.
MAX_INDICATORS, MAX_INPUT = 50, 6.0


class Field(NamedTuple):
    """One factor of the law: whether a value is missing, a column's state, or its number.

    Attributes
    ----------
    column : int
    part : {"hole", "state", "value"}
    n_states : int
        0 for a number.
    """

    column: int
    part: str
    n_states: int


class Samples(NamedTuple):
    """Samples as arrays of shape (n, n_fields).

    Attributes
    ----------
    have : ndarray of bool
        Whether the field has a value: it is seen, and a number is no point mass.
    state : ndarray of int
        ``n_states`` for a category that the fit has not seen.
    score, low, high, log_slope, standardised : ndarray
        As in :class:`~sklearn_dsm._tabular.coding.Coded`.
    """

    have: np.ndarray
    state: np.ndarray
    score: np.ndarray
    low: np.ndarray
    high: np.ndarray
    log_slope: np.ndarray
    standardised: np.ndarray

    def __len__(self) -> int:
        return len(self.have)

    def take(self, rows) -> Samples:
        """Some of the samples, or repeated ones; copies."""
        return Samples(*(part[rows] for part in self))


class Layout:
    """Fields of a table: missing patterns first, then states, then numbers, each by column.

    Parameters
    ----------
    codes : list of DiscreteCode or NumericCode
    holed : list of int
        Columns whose missing values are part of the law.
    """

    def __init__(self, codes: list[DiscreteCode | NumericCode], holed: list[int]):
        self.codes = codes
        holes = [Field(j, HOLE, 2) for j in holed]
        states = [
            Field(j, STATE, code.n_states)
            for j, code in enumerate(codes)
            if code.n_states > 1 or not code.has_value
        ]
        values = [Field(j, VALUE, 0) for j, code in enumerate(codes) if code.has_value]
        self.fields = [*holes, *states, *values]
        self._places: list[dict[str, int]] = [{} for _ in codes]
        for f, field in enumerate(self.fields):
            self._places[field.column][field.part] = f
        self._input_fields: list[int] = []
        self._indicators: list[np.ndarray] = []

    @property
    def n_fields(self) -> int:
        return len(self.fields)

    def of_column(self, column: int, part: str) -> int | None:
        """The index of a column's field, None where it has none of such a part."""
        return self._places[column].get(part)

    def encode(self, columns: list[RawColumn]) -> Samples:
        """Samples of a table with the columns of the fit."""
        coded = [code.encode(column) for code, column in zip(self.codes, columns, strict=True)]
        n = len(columns[0].values)
        found = self.empty(n)
        for f in range(self.n_fields):
            self._write(found, f, coded[self.fields[f].column], slice(None))
        return found

    def empty(self, n: int) -> Samples:
        """Samples of which nothing is known."""
        shape = (n, self.n_fields)
        numbers = [np.zeros(shape) for _ in range(5)]
        return Samples(np.zeros(shape, bool), np.zeros(shape, np.int64), *numbers)

    def write(self, samples: Samples, f: int, rows: np.ndarray, state, score) -> None:
        """Give field f of some samples new values: states, or scores of numbers."""
        field, code = self.fields[f], self.codes[self.fields[f].column]
        if field.part == HOLE:
            samples.have[rows, f], samples.state[rows, f] = True, state
            return
        values = code.decode(np.asarray(state), np.asarray(score))
        self._write(samples, f, code.encode(RawColumn(code.name, values)), rows)

    def decode(self, samples: Samples) -> list[np.ndarray]:
        """Columns of values, None or NaN where they are missing."""
        found = []
        for j, code in enumerate(self.codes):
            state, number = self.of_column(j, STATE), self.of_column(j, VALUE)
            hole = self.of_column(j, HOLE)
            states = np.full(len(samples), code.n_states - 1)
            seen = samples.have[:, number if state is None else state]
            if state is not None:
                states = samples.state[:, state].copy()
            scores = samples.score[:, number] if number is not None else np.zeros(len(samples))
            states[~seen] = MISSING
            if hole is not None:
                states[samples.state[:, hole] == 1] = MISSING
            found.append(code.decode(states, scores))
        return found

    def _write(self, samples: Samples, f: int, coded: Coded, rows) -> None:
        field, code = self.fields[f], self.codes[self.fields[f].column]
        seen = coded.state != MISSING
        if field.part == HOLE:
            samples.have[rows, f], samples.state[rows, f] = True, ~seen
            return
        if field.part == VALUE:
            seen = coded.state == code.n_states - 1
        samples.have[rows, f] = seen
        size = coded.standardised
        if field.part == STATE:
            samples.state[rows, f] = np.maximum(coded.state, 0)
            if code.has_value:
                # A number comes later than the news that it is no point mass.
                size = np.where(coded.state == code.n_states - 1, 0.0, size)
        else:
            for name in ("score", "low", "high", "log_slope"):
                getattr(samples, name)[rows, f] = getattr(coded, name)
        samples.standardised[rows, f] = size

    def set_inputs(self, samples: Samples) -> None:
        """Choose the inputs of networks by samples of the fit: which categories have their own."""
        self._input_fields, self._indicators = [], []
        for f, field in enumerate(self.fields):
            place = np.full(field.n_states + 1, MISSING)
            if field.n_states:
                states = samples.state[samples.have[:, f], f]
                counts = np.bincount(states, minlength=field.n_states)
                frequent = np.argsort(-counts, kind="stable")[:MAX_INDICATORS]
                place[frequent] = np.arange(len(frequent))
            self._indicators.append(place)
            self._input_fields += [f] * self._width(f)

    @property
    def input_fields(self) -> np.ndarray:
        """The field of each input, shape (n_inputs,)."""
        return np.array(self._input_fields)

    def _width(self, f: int) -> int:
        """A flag, and scores and numbers, or indicators and for numbers their size."""
        return 3 if not self.fields[f].n_states else self._indicators[f].max() + 3

    def inputs(self, samples: Samples) -> np.ndarray:
        """Inputs (n, n_inputs) of networks, 0 where a field has no value."""
        every = np.arange(len(samples))
        return np.hstack([self.field_inputs(samples, f, every) for f in range(self.n_fields)])

    def inputs_of(self, f: int) -> slice:
        """Where the inputs of a field are."""
        first = sum(self._width(g) for g in range(f))
        return slice(first, first + self._width(f))

    def field_inputs(self, samples: Samples, f: int, rows: np.ndarray) -> np.ndarray:
        """Inputs (len(rows), width) from one field of some samples."""
        have = samples.have[rows, f]
        found = np.zeros((len(rows), self._width(f)))
        found[:, 0] = have
        found[:, 1] = np.where(have, samples.standardised[rows, f], 0.0)
        if not self.fields[f].n_states:
            score = samples.score[rows, f].clip(-MAX_INPUT, MAX_INPUT)
            found[:, 2] = np.where(have, score, 0.0)
            return found
        place = self._indicators[f][samples.state[rows, f]]
        known = np.flatnonzero(have & (place != MISSING))
        found[known, 2 + place[known]] = 1.0
        return found
