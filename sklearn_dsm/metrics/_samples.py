"""Two samples to be compared, checked and weighted."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from sklearn.utils import check_array

from .._columns import MAX_MAGNITUDE
from .._compat import Interval, check_sample_weight, validate_parameter_constraints

# Numbers held at once.
CHUNK_NUMBERS = 2**22

RANDOM_STATE = ["random_state", np.random.Generator]


class Sample(NamedTuple):
    """Rows (n, d) and their weights (n,), which sum to one."""

    rows: np.ndarray
    weight: np.ndarray

    @property
    def is_uniform(self) -> bool:
        return bool((self.weight == self.weight[0]).all())


def checked_pair(X, Y, X_weight, Y_weight) -> tuple[Sample, Sample]:
    """Both samples without the rows of weight zero."""
    first, second = _checked(X, X_weight, "X"), _checked(Y, Y_weight, "Y")
    columns = first.rows.shape[1], second.rows.shape[1]
    if columns[0] != columns[1]:
        raise ValueError(
            f"X has {columns[0]} columns and Y has {columns[1]}; rows can only be compared in "
            "the same columns."
        )
    return first, second


def _checked(X, weight, name: str) -> Sample:
    X = check_array(X, dtype=np.float64, input_name=name)
    if np.abs(X).max() > MAX_MAGNITUDE:
        raise ValueError(
            f"{name} holds values beyond {MAX_MAGNITUDE:g}, whose squares overflow; rescale X and "
            "Y alike."
        )
    if weight is None:
        return Sample(X, np.full(len(X), 1 / len(X)))
    try:
        weight = check_sample_weight(weight, X, dtype=np.float64, ensure_non_negative=True)
    except ValueError as error:
        raise ValueError(f"{name}_weight is no weight of the rows of {name}: {error}") from error
    counts = weight > 0
    return Sample(X[counts], weight[counts] / weight.sum())


def check_options(caller: str, constraints: dict, **options) -> None:
    """Check options as an estimator's parameters are checked."""
    validate_parameter_constraints(constraints, options, caller)


def at_least(least, kind) -> list:
    """The constraint to numbers of a kind from the least one on."""
    return [Interval(kind, least, None, closed="left")]
