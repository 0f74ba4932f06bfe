"""Tables from which structure is learned: checked, in float64."""

from __future__ import annotations

import numpy as np

from .._columns import as_numbers, check_rows


def checked_table(estimator, X, min_features: int = 1) -> np.ndarray:
    """The samples to fit, each of whose columns varies."""
    X = as_numbers(estimator, X, ensure_min_samples=2, ensure_min_features=min_features, copy=True)
    check_rows(X, getattr(estimator, "feature_names_in_", None))
    return X
