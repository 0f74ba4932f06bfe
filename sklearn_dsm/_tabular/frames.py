"""Data frames and arrays as columns of numbers or objects, and back."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .frame_types import plain_type, type_of


class RawColumn(NamedTuple):
    """A column as it was given.

    Attributes
    ----------
    name : str or int
    values : ndarray of shape (n,)
        float64 with NaN, or objects with None, where values are missing.
    is_categorical : bool
        Whether its type says that it holds categories.
    """

    name: Any
    values: np.ndarray
    is_categorical: bool = False

    @property
    def is_numeric(self) -> bool:
        return self.values.dtype.kind == "f"

    @property
    def missing(self) -> np.ndarray:
        """Flags (n,) of missing values."""
        if self.is_numeric:
            return np.isnan(self.values)
        return np.array([value is None for value in self.values], dtype=bool)

    def like(self, other: RawColumn) -> RawColumn:
        """The column with numbers where the other one has numbers, and objects where it has others.

        Raises
        ------
        ValueError
            Where one of them holds numbers and the other one does not.
        """
        if self.is_numeric == other.is_numeric:
            return self
        if self.missing.all():
            return other.missing_values(len(self.values))
        held, had = ("numbers", "categories")[:: 1 if self.is_numeric else -1]
        raise ValueError(
            f"Column {self.name!r} holds {held}, and held {had} in the fit. Convert it, for "
            "instance with astype()."
        )

    def missing_values(self, n: int) -> RawColumn:
        """As many missing values, of numbers or of objects."""
        if self.is_numeric:
            return RawColumn(self.name, np.full(n, np.nan))
        return RawColumn(self.name, np.full(n, None, dtype=object))


class FrameKind(NamedTuple):
    """What a table has to be to look like the one fitted.

    Attributes
    ----------
    library : {"pandas", "polars", "numpy"}
    names : list
    dtypes : list
        One for each column, for an array its own; or such types as plain values.
    """

    library: str
    names: list
    dtypes: list

    def with_real(self, places: list[int]) -> FrameKind:
        """With plain types, of floating-point numbers in columns whose values need not be whole."""
        found = self.dtypes
        if self.library == "numpy":
            if places and found[0].kind in "iu":
                found = [np.dtype(float)] * len(self.names)
        else:
            change = _polars_real if self.library == "polars" else _pandas_real
            found = [change(d) if j in places else d for j, d in enumerate(found)]
        return self._replace(dtypes=[plain_type(self.library, d) for d in found])

    def of(self, places: list[int]) -> FrameKind:
        """Of some of the columns."""
        return FrameKind(
            self.library, [self.names[j] for j in places], [self.dtypes[j] for j in places]
        )

    def build(self, columns: list[np.ndarray]) -> Any:
        """A table of such a kind from columns (n,) with NaN or None where values are missing."""
        dtypes = [type_of(self.library, d) for d in self.dtypes]
        if self.library == "numpy":
            return _array(columns, dtypes[0])
        pairs = zip(self.names, columns, dtypes, strict=True)
        if self.library == "polars":
            import polars

            return polars.DataFrame([_polars_series(name, c, dtype) for name, c, dtype in pairs])
        import pandas

        return pandas.DataFrame({name: _pandas_series(c, dtype) for name, c, dtype in pairs})


def read(X: Any) -> tuple[list[RawColumn], FrameKind]:
    """Columns of a pandas or polars frame, or of a two-dimensional array.

    Raises
    ------
    ValueError
        Where a column holds dates or anything else but numbers, strings, booleans and categories.
    """
    names = list(getattr(X, "columns", []))
    twice = [name for k, name in enumerate(names) if name in names[:k]]
    if twice:
        raise ValueError(
            f"Two columns have the name {twice[0]!r}. Rename or drop one of them: types and "
            "conditions are told by name."
        )
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
    categorical = False
    if hasattr(column, "iloc"):
        _refuse_dates(name, dtype)
        categorical = str(dtype) == "category"
        held = column.to_numpy(dtype=object, na_value=None)
        if dtype.kind in "fiu":
            held = column.to_numpy(dtype=np.float64, na_value=np.nan)
    elif hasattr(column, "to_list"):
        _refuse_dates(name, dtype)
        held = np.array([*column.to_list(), None], dtype=object)[:-1]
        if dtype.is_numeric():
            held = held.astype(np.float64)
    else:
        held = np.asarray(column)
        _refuse_dates(name, held.dtype)
    return RawColumn(name, _numbers_or_objects(name, held), categorical)


def refuse_columns_of_dates(X: Any) -> None:
    """Raise an error where a column of a frame, or an array, holds dates or times."""
    if isinstance(X, np.ndarray):
        _refuse_dates(0, X.dtype)
    elif hasattr(X, "columns") and hasattr(X, "dtypes"):
        for name, dtype in zip(X.columns, X.dtypes, strict=True):
            _refuse_dates(name, dtype)


def _refuse_dates(name: Any, dtype: Any) -> None:
    """For types of numpy, pandas and polars."""
    if hasattr(dtype, "is_temporal"):
        has_dates = dtype.is_temporal()
    else:
        has_dates = dtype.kind in "mM" or str(dtype).startswith("period")
    if has_dates:
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


def _array(columns: list[np.ndarray], dtype: np.dtype) -> np.ndarray:
    numbers = all(column.dtype.kind == "f" for column in columns)
    if dtype.kind in "iu" and not (numbers and all(map(_is_whole, columns))):
        dtype = np.dtype(np.float64)
    whole = numbers or not any(value is None for column in columns for value in column)
    # Only missing values and numbers among categories need objects.
    fits = numbers if dtype.kind in "fiu" else whole and dtype.kind in "bU"
    return np.stack(columns, axis=1).astype(dtype if fits else object)


def _is_whole(column: np.ndarray) -> bool:
    """Whether all values can be integers; missing ones cannot."""
    return bool((column == np.round(column)).all())


def _pandas_real(dtype: Any) -> Any:
    if getattr(dtype, "kind", "") not in "iu":
        return dtype
    # Nullable types are written with a capital letter.
    return "Float64" if str(dtype)[0] in "IU" else np.dtype(np.float64)


def _polars_real(dtype: Any) -> Any:
    import polars

    return polars.Float64() if dtype.is_integer() else dtype


def _pandas_series(column: np.ndarray, dtype: Any) -> Any:
    import pandas

    values = _plain(column)
    known = [value for value in values if value is not None]
    if isinstance(dtype, pandas.CategoricalDtype):
        more = [value for value in dict.fromkeys(known) if value not in dtype.categories]
        if more:
            dtype = pandas.CategoricalDtype([*dtype.categories, *more], dtype.ordered)
        return pandas.Series(values, dtype=dtype)
    nullable = pandas.api.types.is_extension_array_dtype(dtype)
    kind = getattr(dtype, "kind", "O")
    if kind in "iu" and not all(value == round(value) for value in known):
        dtype = _pandas_real(dtype)
    elif kind in "iub" and not nullable and len(known) < len(values):
        # Whole numbers and booleans of numpy cannot be missing.
        dtype = np.dtype(np.float64) if kind != "b" else np.dtype(object)
    return pandas.Series(values, dtype=dtype)


def _polars_series(name: str, column: np.ndarray, dtype: Any) -> Any:
    import polars

    values = _plain(column)
    if dtype.is_integer() and not all(value == round(value) for value in values if value):
        dtype = polars.Float64
    if isinstance(dtype, polars.Enum):
        more = [v for v in dict.fromkeys(values) if v is not None and v not in dtype.categories]
        dtype = polars.Enum([*dtype.categories, *more]) if more else dtype
    return polars.Series(name, values, dtype, strict=False)
