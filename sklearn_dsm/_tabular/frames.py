"""Data frames and arrays as columns of numbers or objects, and back."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


class RawColumn(NamedTuple):
    """A column as it was given.

    Attributes
    ----------
    name : str or int
    values : ndarray of shape (n,)
        float64 with NaN, or objects with None, where values are missing.
    """

    name: Any
    values: np.ndarray

    @property
    def is_numeric(self) -> bool:
        return self.values.dtype.kind == "f"

    @property
    def missing(self) -> np.ndarray:
        """Flags (n,) of missing values."""
        if self.is_numeric:
            return np.isnan(self.values)
        return np.array([value is None for value in self.values], dtype=bool)


class FrameKind(NamedTuple):
    """What a table has to be to look like the one fitted.

    Attributes
    ----------
    library : {"pandas", "polars", "numpy"}
    names : list
    dtypes : list
        One for each column; for an array, its own.
    """

    library: str
    names: list
    dtypes: list

    def build(self, columns: list[np.ndarray]) -> Any:
        """A table of such a kind from columns (n,) with NaN or None where values are missing."""
        if self.library == "numpy":
            dtype = self.dtypes[0]
            kinds = {column.dtype.kind for column in columns}
            found = np.empty((len(columns[0]), len(columns)), dtype if kinds <= {"f"} else object)
            for j, column in enumerate(columns):
                found[:, j] = column
            return found
        pairs = zip(self.names, columns, self.dtypes, strict=True)
        if self.library == "polars":
            import polars

            series = [
                polars.Series(name, _plain(c), dtype, strict=False) for name, c, dtype in pairs
            ]
            return polars.DataFrame(series)
        import pandas

        return pandas.DataFrame({name: _pandas_series(c, dtype) for name, c, dtype in pairs})


def read(X: Any) -> tuple[list[RawColumn], FrameKind]:
    """Columns of a pandas or polars frame, or of a two-dimensional array.

    Raises
    ------
    ValueError
        Where a column holds dates or anything else but numbers, strings, booleans and categories.
    """
    if hasattr(X, "iloc"):
        columns = [_column(name, X.iloc[:, j]) for j, name in enumerate(X.columns)]
        return columns, FrameKind("pandas", list(X.columns), list(X.dtypes))
    if hasattr(X, "columns") and hasattr(X, "schema"):
        columns = [_column(name, X[name]) for name in X.columns]
        return columns, FrameKind("polars", list(X.columns), list(X.dtypes))
    X = np.asarray(X)
    if X.ndim != 2:
        raise ValueError(
            f"Expected 2D array, got {X.ndim}D array instead. A table has a row for each sample: "
            "reshape one column with X.reshape(-1, 1), one sample with X.reshape(1, -1)."
        )
    columns = [_column(j, X[:, j]) for j in range(X.shape[1])]
    return columns, FrameKind("numpy", list(range(X.shape[1])), [X.dtype] * X.shape[1])


def _column(name: Any, column: Any) -> RawColumn:
    dtype: Any = getattr(column, "dtype", None)
    _refuse_dates(name, dtype)
    if hasattr(column, "iloc"):
        held = column.to_numpy(dtype=object, na_value=None)
        if dtype.kind in "fiu":
            held = column.to_numpy(dtype=np.float64, na_value=np.nan)
    elif hasattr(column, "to_list"):
        held = np.array([*column.to_list(), None], dtype=object)[:-1]
        if dtype.is_numeric():
            held = held.astype(np.float64)
    else:
        held = np.asarray(column)
    return RawColumn(name, _numbers_or_objects(name, held))


def _refuse_dates(name: Any, dtype: Any) -> None:
    text = str(dtype).lower()
    if any(kind in text for kind in ("date", "time", "duration")):
        raise ValueError(
            f"Column {name!r} of type {dtype} holds dates or times. Encode them as numbers, for "
            "instance days since the first date, or as month, weekday and hour."
        )


def _numbers_or_objects(name: Any, held: np.ndarray) -> np.ndarray:
    if held.dtype.kind == "c":
        raise ValueError(f"Complex data not supported: column {name!r} holds complex numbers.")
    if held.dtype.kind in "fiu":
        return _finite(name, held.astype(np.float64))
    missing = np.array([value is None or value != value for value in held], dtype=bool)
    some = [value for value in held[~missing]]
    if not some or all(_is_number(value) for value in some):
        found = np.full(len(held), np.nan)
        found[~missing] = some
        return _finite(name, found)
    for value in some:
        if not isinstance(value, str | bool | np.bool_ | int | float | np.number):
            kind = type(value).__name__
            raise TypeError(
                f"Column {name!r} holds {value!r} of type {kind}; argument must be a string or a "
                "number. Encode dates as days since the first one, and other objects as strings."
            )
    found = np.empty(len(held), dtype=object)
    found[~missing] = some
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool | np.bool_)


def _finite(name: Any, column: np.ndarray) -> np.ndarray:
    if np.isinf(column).any():
        raise ValueError(
            f"Column {name!r} holds an infinite value (inf). Replace it by the largest value that "
            "can be, or by NaN where the value is missing."
        )
    return column


def _plain(column: np.ndarray) -> list:
    """Python's own values, None where one is missing."""
    return [None if value is None or value != value else value for value in column.tolist()]


def _pandas_series(column: np.ndarray, dtype: Any) -> Any:
    import pandas

    values = _plain(column)
    has_holes = any(value is None for value in values)
    if has_holes and dtype.kind in "iub" and not pandas.api.types.is_extension_array_dtype(dtype):
        # Whole numbers and booleans of numpy cannot be missing.
        dtype = np.dtype(np.float64) if dtype.kind != "b" else np.dtype(object)
    return pandas.Series(values, dtype=dtype)
