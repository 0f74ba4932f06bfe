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

    Attributes
    ----------
    categorical : list of int
    """

    def __init__(self, X, categorical: list[int]):
        self.categorical = categorical
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
            found[:, self.categorical] = self._codes.transform(_objects(X, self.categorical))
        return found

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


def categorical_columns(X) -> list[int]:
    """Columns of a DataFrame that hold categories: strings, booleans, or categories by type."""
    if not hasattr(X, "iloc"):
        return []
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    return [
        j for j, dtype in enumerate(X.dtypes) if not is_numeric_dtype(dtype) or is_bool_dtype(dtype)
    ]
