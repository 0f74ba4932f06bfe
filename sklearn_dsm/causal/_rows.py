"""Tables from which structure is learned: checked, in float64."""

from __future__ import annotations

import numpy as np
from sklearn.utils.validation import validate_data

from .._columns import check_rows, explained, named

# Columns of a higher correlation, in absolute value, hold the same values up to rounding.
COPIED = 1 - 1e-10


def checked_rows(estimator, X, **options) -> np.ndarray:
    """The samples in float64; an error names the column that could not be converted."""
    try:
        return validate_data(estimator, X, dtype=np.float64, **options)
    except (TypeError, ValueError) as error:
        better = explained(error, X)
        if better is error:
            raise
        raise better from error


def checked_table(estimator, X, min_features: int = 1) -> np.ndarray:
    """The samples to fit, each of whose columns varies."""
    X = checked_rows(
        estimator, X, ensure_min_samples=2, ensure_min_features=min_features, copy=True
    )
    check_rows(X, getattr(estimator, "feature_names_in_", None))
    return X


def check_copies(X: np.ndarray, names: np.ndarray | None) -> None:
    """Raise where one column is a linear function of another."""
    if len(X) < 3:
        return
    correlation = np.abs(np.corrcoef(X.T))
    first, second = np.nonzero(np.triu(correlation > COPIED, 1))
    if len(first):
        raise ValueError(
            f"Column {named([second[0]], names)} equals column {named([first[0]], names)} up to "
            "scale and offset, so no causal order of the two exists. Drop one of them."
        )
