"""Mixed tables, the base measure of each of their columns, and their values as codes and numbers.

The measure is decided from a whole table before any fit and is the same for every method: a
probability for the values of a discrete column, for the cells of a rounded one, and for single
values that hold many rows; a density for what is left.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

FILES = {
    "shoppers": "shoppers.csv.gz",
    "diamonds": "diamonds.csv.gz",
    "penguins": "penguins.csv",
}
TINY = "tiny"
# A numeric column of no more values is discrete.
FEW_VALUES = 30
# A value that holds a larger share of the rows of a numeric column has a probability of its own.
POINT_SHARE = 0.02
MAX_DECIMALS = 6
TEST_SHARE = 0.2


class Column(NamedTuple):
    """A column's measure.

    "discrete": a probability for each of ``values``; "cells": one for each interval of width
    ``step`` around a value; "continuous": one for each of ``point_masses``, else a density.
    """

    name: str
    kind: str
    values: tuple = ()
    step: float = 0.0
    point_masses: tuple[float, ...] = ()

    @property
    def n_levels(self) -> int:
        """The number of codes: values, or "none of the point masses" and the point masses."""
        return len(self.values) if self.kind == "discrete" else 1 + len(self.point_masses)

    @property
    def ordered(self) -> bool:
        """Whether the values are numbers."""
        return self.kind != "discrete" or not isinstance(self.values[0], str)

    @property
    def override(self) -> str | dict:
        """What ``column_types`` of our estimator is told of it."""
        if self.kind == "cells":
            return {"kind": "cells", "step": self.step}
        if self.point_masses:
            return {"kind": "continuous", "point_masses": list(self.point_masses)}
        return self.kind

    def __str__(self) -> str:
        detail = {
            "discrete": f"mass of {len(self.values)} values",
            "cells": f"mass of cells of width {self.step:g}",
            "continuous": "density",
        }[self.kind]
        if self.point_masses:
            points = ", ".join(f"{v:.4g}" for v in self.point_masses)
            detail += f", mass at {points}"
        return f"{self.name}: {detail}"


@dataclass(frozen=True)
class Coded:
    """Rows as codes, -1 where missing, and as numbers, NaN where the code says it all."""

    columns: tuple[Column, ...]
    codes: np.ndarray
    numbers: np.ndarray

    def take(self, rows: np.ndarray) -> Coded:
        return Coded(self.columns, self.codes[rows], self.numbers[rows])

    @property
    def complete(self) -> np.ndarray:
        return (self.codes >= 0).all(1)

    def __len__(self) -> int:
        return len(self.codes)

    def values(self, j: int) -> np.ndarray:
        """Column ``j`` as numbers: codes of strings, else values; NaN where missing."""
        column, code = self.columns[j], self.codes[:, j]
        known = column.values if column.kind == "discrete" else (np.nan, *column.point_masses)
        levels = np.arange(len(known)) if not column.ordered else np.asarray(known, float)
        found = np.where(code < 0, np.nan, levels[np.maximum(code, 0)])
        return np.where(np.isnan(self.numbers[:, j]), found, self.numbers[:, j])


def measures(frame: pd.DataFrame) -> tuple[Column, ...]:
    """The measure of every column of a whole table."""
    return tuple(measure(frame[name]) for name in frame)


def measure(series: pd.Series) -> Column:
    seen = series.dropna()
    name = str(series.name)
    if not is_numeric(seen) or seen.nunique() <= FEW_VALUES:
        return Column(name, "discrete", values=tuple(sorted(seen.unique().tolist())))
    x = seen.to_numpy(float)
    step = grid_step(x)
    if step and np.ptp(x) / step <= len(x):
        return Column(name, "cells", step=step)
    values, counts = np.unique(x, return_counts=True)
    points = values[counts > POINT_SHARE * len(x)]
    return Column(name, "continuous", point_masses=tuple(points.tolist()))


def is_numeric(series: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(series) and not pd.api.types.is_bool_dtype(series)


def grid_step(x: np.ndarray) -> float | None:
    """The width of the decimal grid that all values lie on; None where there is none."""
    for decimals in range(MAX_DECIMALS + 1):
        scaled = x * 10.0**decimals
        if np.abs(scaled - np.round(scaled)).max() < 1e-6:
            whole = np.round(scaled).astype(np.int64)
            return float(np.gcd.reduce(whole - whole.min())) / 10**decimals
    return None


def coded(frame: pd.DataFrame, columns: tuple[Column, ...]) -> Coded:
    codes = np.empty(frame.shape, int)
    numbers = np.full(frame.shape, np.nan)
    for j, column in enumerate(columns):
        series = frame[column.name]
        if column.kind == "discrete":
            codes[:, j] = pd.Index(column.values).get_indexer(series)
            continue
        x = series.to_numpy(float)
        code = pd.Index(column.point_masses, dtype=float).get_indexer(x) + 1
        codes[:, j] = np.where(np.isnan(x), -1, code)
        numbers[code == 0, j] = x[code == 0]
    return Coded(columns, codes, numbers)


def decoded(rows: Coded) -> pd.DataFrame:
    """A frame of rows without missing values, rounded to the columns' cells."""
    data = {}
    for j, column in enumerate(rows.columns):
        if column.kind == "discrete":
            data[column.name] = pd.Series([column.values[code] for code in rows.codes[:, j]])
            continue
        x = rows.values(j)
        data[column.name] = np.round(x / column.step) * column.step if column.step else x
    return pd.DataFrame(data)


def located(file: str, folder: Path) -> Path:
    """A file in the folder of the data, or in its folder "mixed" or "density"."""
    places = [folder / file, folder / "mixed" / file, folder / "density" / file]
    return next((place for place in places if place.exists()), places[0])


def load(name: str, folder: Path) -> pd.DataFrame:
    """A table; a string that is no category, as in penguins, is a missing value."""
    if name == TINY:
        return tiny()
    frame = pd.read_csv(located(FILES[name], folder))
    return frame.mask(frame == ".")


def tiny(n: int = 300) -> pd.DataFrame:
    """A small artificial table of every kind of column, a hundredth of its values missing."""
    generator = np.random.default_rng(0)
    group = generator.integers(0, 3, n)
    frame = pd.DataFrame(
        {
            "group": np.array(["a", "b", "c"])[group],
            "length": np.round(generator.normal(40 + 5 * group, 2), 1),
            "duration": np.where(generator.random(n) < 0.4, 0.0, generator.gamma(2, 1 + group, n)),
            "flag": generator.random(n) < 0.2 + 0.3 * group,
        }
    )
    frame.loc[generator.random(n) < 0.04, "length"] = np.nan
    return frame


class Split(NamedTuple):
    """Rows to fit and to test as frames and coded, and how many were left out."""

    train: pd.DataFrame
    test: pd.DataFrame
    columns: tuple[Column, ...]
    n_unknown: int

    def coded(self) -> tuple[Coded, Coded]:
        return coded(self.train, self.columns), coded(self.test, self.columns)


def split(frame: pd.DataFrame, n_rows: int | None, seed: int, test_share=TEST_SHARE) -> Split:
    """A fifth of the rows to test, the others, at most ``n_rows``, to fit.

    A test row with a category that no row to fit has is left out for every method.
    """
    columns = measures(frame)
    order = np.random.default_rng(seed).permutation(len(frame))
    n_test = round(test_share * len(frame))
    train = frame.iloc[order[n_test:][:n_rows]].reset_index(drop=True)
    test = frame.iloc[order[:n_test]].reset_index(drop=True)
    fit, new = coded(train, columns), coded(test, columns)
    known = np.ones(len(test), bool)
    for j, column in enumerate(columns):
        if column.kind == "discrete":
            known &= np.isin(new.codes[:, j], [-1, *np.unique(fit.codes[:, j])])
    return Split(train, test[known].reset_index(drop=True), columns, int((~known).sum()))


def told(columns: tuple[Column, ...], frame: pd.DataFrame) -> list[str]:
    """A line on each column's measure, with the share of ties where it has a density."""
    lines = []
    for column in columns:
        line = str(column)
        if column.kind == "continuous":
            x = frame[column.name].dropna().to_numpy(float)
            rest = x[~np.isin(x, column.point_masses)]
            repeated = np.unique(rest, return_counts=True)[1]
            line += f" ({repeated[repeated > 1].sum() / len(rest):.0%} of the rest are repeated)"
        lines.append(line)
    return lines
