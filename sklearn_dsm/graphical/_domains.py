"""Where data may lie, the weights that vanish at its boundary, and the checks of the samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .._columns import (
    check_copies,
    dependent_columns,
    named,
    rows_to_evaluate,
    rows_to_fit,
)

# Rows off the simplex by more than this, relative to their sum, are refused.
SUM_TOLERANCE = 1e-6
CAP = 3.0

# Weight and its derivative at a distance from the boundary.
WEIGHTS: dict[str, Callable] = {
    "min3": lambda t: (np.minimum(t, CAP), (t < CAP).astype(float)),
    "log1p": lambda t: (np.log1p(t), 1 / (1 + t)),
    "square": lambda t: (t**2, 2 * t),
    "identity": lambda t: (t, np.ones_like(t)),
}


class Box(NamedTuple):
    """A product of intervals; infinite where a feature has no bound."""

    low: np.ndarray
    high: np.ndarray

    def scaled(self, shift: np.ndarray, scale: np.ndarray) -> Box:
        return Box((self.low - shift) / scale, (self.high - shift) / scale)

    def weights(self, Z: np.ndarray, weight: str) -> tuple[np.ndarray, np.ndarray]:
        """Weights (n, m) of the distance to the nearer bound, and their derivatives.

        A feature without bounds has weight 1.
        """
        below, above = Z - self.low, self.high - Z
        distance, sign = np.minimum(below, above), np.where(below <= above, 1.0, -1.0)
        free = np.isinf(distance)
        value, slope = WEIGHTS[weight](np.where(free, 1.0, distance))
        return np.where(free, 1.0, value), np.where(free, 0.0, slope * sign)


def nonnegative(m: int) -> Box:
    return Box(np.zeros(m), np.full(m, np.inf))


def real(m: int) -> Box:
    return Box(np.full(m, -np.inf), np.full(m, np.inf))


def box_of(bounds, m: int) -> Box:
    """The box of a tuple (low, high), each a number, None or one value for each feature."""
    if len(bounds) != 2:
        raise ValueError(f"domain={bounds!r} must be a name or a pair (low, high).")
    sides = []
    for side, default in zip(bounds, (-np.inf, np.inf), strict=True):
        side = np.asarray(default if side is None else side, dtype=np.float64)
        if side.shape not in ((), (m,)):
            raise ValueError(
                f"A bound of domain={bounds!r} has shape {side.shape}, and X has {m} features. "
                "Give one number, or one for each feature."
            )
        sides.append(np.broadcast_to(side, m))
    if not (sides[0] < sides[1]).all():
        raise ValueError(f"domain={bounds!r} must have lower bounds below the upper ones.")
    return Box(*sides)


def checked_rows(estimator, X, *, reset: bool = True) -> np.ndarray:
    """The samples in float64; in a fit, with at least two features, all different."""
    if not reset:
        return rows_to_evaluate(estimator, X)
    X = rows_to_fit(estimator, X, min_features=2)
    names = getattr(estimator, "feature_names_in_", None)
    check_copies(X, names, "no interaction between the two exists")
    return X


def check_independent(X: np.ndarray, names) -> None:
    """Raise where others determine a feature."""
    dependent = dependent_columns(X)
    if len(dependent):
        raise ValueError(
            f"Column(s) {named(dependent, names)} are linear combinations of others, up to "
            "rounding, so no unique interactions exist. Drop these columns."
        )


def check_inside(X: np.ndarray, box: Box, names, what: str) -> None:
    """Raise where a sample lies outside of the box."""
    outside = ((box.low > X) | (box.high < X)).any(0)
    if outside.any():
        negative = "Negative values in data. " if not box.low.any() else ""
        column = int(np.flatnonzero(outside)[0])
        raise ValueError(
            f"{negative}{what} needs values from {box.low[column]:g} to {box.high[column]:g}; "
            f"column(s) {named(np.flatnonzero(outside), names)} hold others, the smallest of them "
            f"{X[:, column].min():g} and the largest {X[:, column].max():g} in column "
            f"{named([column], names)}. Choose another domain or family, or correct the values."
        )


def check_simplex(X: np.ndarray, names) -> None:
    """Raise where a sample is not positive, or does not sum to one."""
    if (X <= 0).any():
        raise ValueError(
            "domain='simplex' needs positive parts; column(s) "
            f"{named(np.flatnonzero((X <= 0).any(0)), names)} hold zero or negative values. Add a "
            "small constant to all parts and divide each sample by its sum."
        )
    off = np.abs(X.sum(1) - 1)
    if off.max() > SUM_TOLERANCE:
        raise ValueError(
            f"domain='simplex' needs samples that sum to 1; sample {int(off.argmax())} sums to "
            f"{X[off.argmax()].sum():.6g}. Divide each sample by its sum."
        )
