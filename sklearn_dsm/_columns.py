"""Checks of a table's columns: what each holds, and what to do where no density exists."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.linalg import lapack
from sklearn.base import DensityMixin, OutlierMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from ._validation import check_weight
from ._warn import warn

# Columns are squared and multiplied; beyond these their squares overflow or vanish.
MAX_MAGNITUDE, MIN_RANGE = 1e150, 1e-150
# From here on float64 does not tell whole numbers apart.
MAX_WHOLE = 2.0**53
# A column of no more values, or with a value in so many of the rows, has no density there.
FEW_VALUES, MAX_TIED_SHARE = 10, 0.2
# Rows, from all over the table, in which repeated values are looked for.
MAX_LOOKED_AT = 10000
# What is left of a standardised column's variance, given the others, where it depends on them.
MAX_LEFT = 1e-9
# Columns of a higher correlation, in absolute value, hold the same values up to rounding.
COPIED = 1 - 1e-10
MAX_NAMED = 5


def as_numbers(estimator: Any, X: Any, **options: Any) -> np.ndarray:
    """The table in float64, checked by ``validate_data``; an error names the column at fault."""
    try:
        return validate_data(estimator, X, dtype=np.float64, **options)
    except (TypeError, ValueError) as error:
        better = explained(error, X, isinstance(estimator, DensityMixin | OutlierMixin))
        if better is error:
            raise
        raise better from error


def rows_to_fit(estimator: Any, X: Any, *, min_features: int = 1, copy: bool = False) -> np.ndarray:
    """The table of a fit in float64: two rows at least, and columns that vary."""
    X = as_numbers(estimator, X, ensure_min_samples=2, ensure_min_features=min_features, copy=copy)
    check_rows(X, getattr(estimator, "feature_names_in_", None))
    return X


def weighted_rows_to_fit(
    estimator: Any, X: Any, sample_weight: Any, *, min_features: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """The rows of a fit whose weight is positive, and their weights."""
    X = as_numbers(estimator, X, ensure_min_samples=2, ensure_min_features=min_features)
    weight = check_weight(sample_weight, X)
    X, weight = X[weight > 0], weight[weight > 0]
    check_rows(X, getattr(estimator, "feature_names_in_", None))
    return X, weight


def rows_to_evaluate(estimator: Any, X: Any) -> np.ndarray:
    """Rows in float64, for an estimator that is fitted to the same columns."""
    check_is_fitted(estimator)
    return as_numbers(estimator, X, reset=False)


def check_rows(X: np.ndarray, names: np.ndarray | None = None) -> None:
    """Raise where a column has no density: too few rows that count, or one value only."""
    if len(X) < 2:
        raise ValueError(
            f"Found {len(X)} sample with a positive weight; a density needs at least 2."
        )
    largest = np.abs(X).max(0)
    if largest.max() > MAX_MAGNITUDE:
        raise ValueError(
            f"Column {named([largest.argmax()], names)} holds {largest.max():.3g}; squares of "
            f"values beyond {MAX_MAGNITUDE:g} overflow. Rescale the column."
        )
    constant = np.ptp(X, axis=0) <= 8 * np.finfo(float).eps * largest
    merged = np.flatnonzero(constant & (largest >= MAX_WHOLE))
    if len(merged):
        raise ValueError(
            f"Column(s) {named(merged, names)} hold values of about {largest[merged[0]]:.3g}, "
            "which float64 cannot tell apart. Subtract an offset, for instance the smallest value, "
            "while they are whole numbers or dates."
        )
    if constant.any():
        raise ValueError(
            f"Column(s) {named(np.flatnonzero(constant), names)} hold one value only, so no "
            "density exists. Drop them, for instance with "
            "sklearn.feature_selection.VarianceThreshold() before this estimator."
        )
    ranges = np.ptp(X, axis=0)
    if ranges.min() < MIN_RANGE:
        raise ValueError(
            f"Values of column {named([ranges.argmin()], names)} differ by {ranges.min():.3g} at "
            f"most; squares of less than {MIN_RANGE:g} vanish. Rescale the column."
        )


def check_copies(X: np.ndarray, names: np.ndarray | None, consequence: str) -> None:
    """Raise where one column is a linear function of another; the consequence ends the reason."""
    # Any two columns of two samples are linear functions of each other.
    if len(X) < 3:
        return
    correlation = np.abs(np.corrcoef(X.T))
    first, second = np.nonzero(np.triu(correlation > COPIED, 1))
    if len(first):
        raise ValueError(
            f"Column {named([second[0]], names)} is a linear function of column "
            f"{named([first[0]], names)}, so {consequence}. Drop one of them."
        )


def warn_of_degenerate_columns(X: np.ndarray, names: np.ndarray | None = None) -> None:
    """Say which columns have no density, though the fit goes on: few values, or dependent ones."""
    some = X[:: -(-len(X) // MAX_LOOKED_AT)]
    discrete = [j for j in range(X.shape[1]) if _is_discrete(some[:, j])]
    if discrete:
        warn(
            f"Column(s) {named(discrete, names)} take few values, or one value in many samples. "
            "They have no density, and log-densities depend on how finely the values are resolved. "
            "Use TableDensityEstimator, which gives such values probabilities, or drop the "
            "columns. Or, for counts or rounded values, add uniform noise as wide as the smallest "
            "step between the values.",
            UserWarning,
        )
    dependent = dependent_columns(X)
    if len(dependent):
        warn(
            f"Column(s) {named(dependent, names)} are linear combinations of others, up to "
            "rounding, so the samples have no density in all columns together. Drop these columns.",
            UserWarning,
        )


def _is_discrete(column: np.ndarray) -> bool:
    counts = np.unique(column, return_counts=True)[1]
    # A value of a small sample may repeat by chance.
    return len(column) >= 5 * FEW_VALUES and bool(
        len(counts) <= FEW_VALUES or counts.max() > MAX_TIED_SHARE * len(column)
    )


def dependent_columns(X: np.ndarray) -> np.ndarray:
    """Columns that those before them determine, most independent first."""
    if len(X) <= X.shape[1]:
        return np.array([], dtype=int)
    correlation = np.atleast_2d(np.corrcoef(X.T))
    _, order, rank, _ = lapack.dpstrf(correlation, tol=MAX_LEFT)
    return np.sort(order[rank:] - 1)


def explained(error: Exception, X: Any, has_substitute: bool) -> Exception:
    """The error that a table gave when it was converted to numbers, with the column and a fix.

    ``has_substitute`` tells whether TableDensityEstimator can do what the estimator does.
    """
    kind_of_error = TypeError if isinstance(error, TypeError) else ValueError
    about_missing = "NaN" in str(error)
    for name, column in _columns(X):
        held = np.asarray(column)
        if held.dtype.kind == "c":
            return error
        try:
            # NumPy takes dates for numbers, of units that nobody chose.
            values = None if held.dtype.kind in "mM" else held.astype(np.float64)
        except (TypeError, ValueError):
            values = None
        if values is None:
            kind = getattr(column, "dtype", type(column).__name__)
            is_date = held.dtype.kind in "mM"
            # What numpy says of dates is about its own types.
            reason = "" if is_date else f" ({error})"
            return kind_of_error(
                f"Column {name!r} of type {kind} does not hold numbers. "
                f"{_fix_of_other_columns(is_date, has_substitute)}{reason}"
            )
        n_missing = int(np.isnan(values).sum()) if about_missing else 0
        if n_missing:
            table = ", or use TableDensityEstimator, which takes missing values" * has_substitute
            return kind_of_error(
                f"Input X contains NaN: column {name!r} has {n_missing} missing values in "
                f"{len(values)} samples. Drop these samples, or fill the values in, for instance "
                f"with sklearn.impute.SimpleImputer() before this estimator{table}."
            )
    return error


def _fix_of_other_columns(is_date: bool, has_substitute: bool) -> str:
    """What to do with a column that holds no numbers."""
    if is_date:
        return "Encode dates as days since the first date, or drop the column."
    if has_substitute:
        return (
            "If it holds categories, TableDensityEstimator takes them. Encode dates as days since "
            "the first date."
        )
    return (
        "Encode dates as days since the first date, fit one model per category, or drop the column."
    )


def refuse_odd_targets(y: Any) -> None:
    """Raise where targets are missing or no numbers: general messages do not name y."""
    if y is None:
        return
    values = np.asarray(y)
    if values.dtype.kind in "OUS":
        try:
            values = values.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"y must hold numbers ({error}). For classes, use a classifier, or "
                "TableDensityEstimator and its predict_proba."
            ) from None
    n_missing = int(np.isnan(values).sum()) if values.dtype.kind == "f" else 0
    if n_missing:
        raise ValueError(
            f"Input y contains NaN: {n_missing} of {values.size} targets are missing. Leave these "
            "samples out, or use TableDensityEstimator, which takes missing values."
        )


def _columns(X: Any) -> Iterator[tuple[Any, Any]]:
    """Names and columns of a frame or a two-dimensional array."""
    if hasattr(X, "columns") and hasattr(X, "__getitem__"):
        names = getattr(X, "column_names", X.columns)
        for name in names:
            yield name, X[name]
    elif isinstance(X, np.ndarray) and X.ndim == 2:
        yield from enumerate(X.T)


def named(columns: Any, names: np.ndarray | None) -> str:
    """Columns by name, or by number where they have none; the first of many."""
    shown = [int(j) if names is None else repr(str(names[j])) for j in columns[:MAX_NAMED]]
    more = f" and {len(columns) - MAX_NAMED} more" if len(columns) > MAX_NAMED else ""
    return ", ".join(map(str, shown)) + more
