"""Columns of X as numbers for trees, and as contexts for networks."""

from __future__ import annotations

import numpy as np
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder

# Trees have so many bins, and a context as many numbers for a column of categories.
MAX_CATEGORIES, MAX_INDICATORS = 250, 20
# Standardised values of a context are within these.
LARGEST = 5.0


class Features:
    """The columns of a table, of numbers and of categories, of which values may be missing.

    Parameters
    ----------
    X : DataFrame or ndarray of shape (n_samples, n_features)
    categorical : list of int
        Columns of categories.
    strict : bool
        Whether categories that are not in X are errors, later on.
    names : sequence of str or None
        Names of the columns.

    Attributes
    ----------
    categorical : list of int
    """

    def __init__(self, X, categorical: list[int], strict: bool = False, names=None):
        self.categorical, self._strict, self._names = categorical, strict, names
        self._numeric = [j for j in range(X.shape[1]) if j not in set(categorical)]
        self._codes = OrdinalEncoder(
            handle_unknown="use_encoded_value",
            unknown_value=np.nan,
            encoded_missing_value=np.nan,
            max_categories=MAX_CATEGORIES,
        )
        self._indicators = OneHotEncoder(
            handle_unknown="infrequent_if_exist",
            max_categories=MAX_INDICATORS,
            sparse_output=False,
        )
        if categorical:
            chosen = _objects(X, categorical)
            self._codes.fit(chosen)
            self._indicators.fit(chosen)
        numbers = self.numbers(X)[:, self._numeric]
        with np.errstate(invalid="ignore"):
            known = np.isfinite(numbers)
            count = np.maximum(known.sum(0), 1)
            self._mean = np.where(known, numbers, 0).sum(0) / count
            square = np.where(known, numbers - self._mean, 0) ** 2
        scale = np.sqrt(square.sum(0) / count)
        self._scale = np.where(scale > 0, scale, 1.0)
        self._holed = np.flatnonzero(~known.all(0))

    def numbers(self, X) -> np.ndarray:
        """All columns as numbers (n, n_features): codes of categories, NaN where missing."""
        found = np.empty(X.shape, dtype=np.float64)
        for j in self._numeric:
            found[:, j] = _column(X, j)
            if np.isinf(found[:, j]).any():
                raise ValueError(
                    f"Column {j} holds infinite values. Replace them by the largest value that "
                    "can be, or by NaN for missing ones."
                )
        if self.categorical:
            chosen = _objects(X, self.categorical)
            if self._strict:
                self._check_known(chosen)
            found[:, self.categorical] = self._codes.transform(chosen)
        return found

    def _check_known(self, chosen: np.ndarray) -> None:
        for k, known in enumerate(self._codes.categories_):
            column = chosen[:, k]
            seen = {value for value in known if not _is_missing(value)}
            for row, value in enumerate(column):
                if value not in seen and not _is_missing(value):
                    j = self.categorical[k]
                    name = j if self._names is None else self._names[j]
                    raise ValueError(
                        f"Column {name!r} holds the category {value!r} in sample {row}, which fit "
                        "has not seen. Use handle_unknown='ignore' to take such categories as "
                        "missing or as rare ones."
                    )

    def context(self, X, numbers: np.ndarray) -> np.ndarray:
        """Standardised numbers, indicators of missing ones, and indicators of categories."""
        values = (numbers[:, self._numeric] - self._mean) / self._scale
        missing = ~np.isfinite(values)
        parts = [np.where(missing, 0.0, values.clip(-LARGEST, LARGEST)), missing[:, self._holed]]
        if self.categorical:
            parts.append(self._indicators.transform(_objects(X, self.categorical)))
        return np.concatenate(parts, axis=1, dtype=np.float64)


def _column(X, j: int) -> np.ndarray:
    column = X.iloc[:, j] if hasattr(X, "iloc") else X[:, j]
    return np.asarray(column, dtype=np.float64)


def _objects(X, columns: list[int]) -> np.ndarray:
    part = X.iloc[:, columns] if hasattr(X, "iloc") else X[:, columns]
    return np.asarray(part, dtype=object)


def _is_missing(value) -> bool:
    # NaN and pandas' NaT are not equal to themselves, and pandas' NA is not a truth value.
    return value is None or type(value).__name__ == "NAType" or value != value


def categorical_columns(X) -> list[int]:
    """Columns of a data frame that hold categories: strings, booleans, or categories by type."""
    if _is_polars(X):
        return [j for j, dtype in enumerate(X.dtypes) if not dtype.is_numeric()]
    if not hasattr(X, "iloc"):
        return []
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    return [
        j for j, dtype in enumerate(X.dtypes) if not is_numeric_dtype(dtype) or is_bool_dtype(dtype)
    ]


def table_of(X):
    """A data frame of pandas as it is, one of polars as an array of objects."""
    if not _is_polars(X):
        return X
    found = np.empty(X.shape, dtype=object)
    for j, column in enumerate(X.iter_columns()):
        found[:, j] = column.to_list()
    return found


def _is_polars(X) -> bool:
    return type(X).__module__.split(".")[0] == "polars" and hasattr(X, "iter_columns")
