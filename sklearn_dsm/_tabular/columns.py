"""What the columns of a table hold: found from the values, or told by the user."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .frames import RawColumn

KINDS = ("continuous", "cells", "discrete")
OTHER_NAMES = {
    "categorical": "discrete",
    "boolean": "discrete",
    "integer": "cells",
    "rounded": "cells",
}
# A numeric column is discrete up to so many values, each seen so often on average.
MAX_DISCRETE, LEAST_REPEATS = 30, 8
MAX_CATEGORIES = 1000
# A value with such a share of the samples, and so many of them, is a point mass; in a column of
# cells only if it is so many times as frequent as its neighbours.
POINT_SHARE, POINT_COUNT, POINT_EXCESS, NEIGHBOURS = 0.02, 10, 4.0, 5
MAX_DECIMALS = 6
# A rounded column has so few distinct values for each sample, others are continuous.
DISTINCT_SHARE = 0.8
# A lower bound of 0 matters to values that come so close to it, in shares of the median.
CLOSE_TO_ZERO = 0.1


class ColumnType(NamedTuple):
    """What a column holds.

    Attributes
    ----------
    kind : {"continuous", "cells", "discrete"}
    values : list
        Of a discrete column.
    step : float
        Width of the cells.
    bounds : tuple of float
        Infinite where there is none.
    point_masses : list of float
        Values of a numeric column that have a probability of their own.
    """

    kind: str
    values: list = []
    step: float = 0.0
    bounds: tuple[float, float] = (-np.inf, np.inf)
    point_masses: list = []

    def as_dict(self) -> dict:
        """The entries that matter to this kind."""
        found: dict[str, Any] = {"kind": self.kind}
        if self.kind == "discrete":
            return found | {"values": self.values}
        if self.kind == "cells":
            found["step"] = self.step
        return found | {"bounds": self.bounds, "point_masses": self.point_masses}


def column_type(column: RawColumn, told: Any = None) -> ColumnType:
    """The type of a column, as far as it is not told.

    Parameters
    ----------
    column : RawColumn
    told : None, str or dict
        A kind, or the entries of :class:`ColumnType` that are to differ from what is inferred.

    Raises
    ------
    ValueError
        Where a column has no value at all, too many categories, or a type that does not suit it.
    """
    told = _checked(column.name, told)
    seen = column.values[~column.missing]
    if not len(seen):
        raise ValueError(
            f"All values of column {column.name!r} are missing, so nothing can be learned of it. "
            "Drop the column."
        )
    numeric = column.is_numeric
    kind = told.get("kind") or _kind_of(column, seen, told)
    if kind == "discrete":
        return ColumnType("discrete", _told_values(column.name, seen, told))
    if not numeric:
        raise ValueError(
            f"column_types says that column {column.name!r} is {kind!r}, but it holds "
            f"{seen[0]!r}. Use 'categorical'."
        )
    if "values" in told:
        raise ValueError(
            f"column_types gives values of column {column.name!r}, which is {kind!r}. Only a "
            "column that is 'discrete' has values; numbers have bounds and point_masses."
        )
    step = float(told.get("step") or _step(seen)) if kind == "cells" else 0.0
    if kind == "cells" and not step > 0:
        raise ValueError(
            f"column_types says that column {column.name!r} has cells, but its values lie on no "
            f"grid of up to {MAX_DECIMALS} decimals. Give the step: dict(kind='cells', step=...)."
        )
    points = told.get("point_masses")
    points = _point_masses(seen, step) if points is None else sorted(map(float, points))
    bounds = told.get("bounds")
    bounds = _bounds(seen, points, step) if bounds is None else _ends(column.name, bounds)
    outside = (seen < bounds[0]) | (seen > bounds[1])
    if outside.any():
        raise ValueError(
            f"Column {column.name!r} holds {seen[outside][0]:g}, outside of its bounds {bounds}. "
            "Widen the bounds in column_types."
        )
    return ColumnType(kind, [], step, bounds, points)


def _checked(name: Any, told: Any) -> dict:
    if told is None or (isinstance(told, str) and told == "auto"):
        return {}
    found = {"kind": told} if isinstance(told, str) else told
    is_dict = isinstance(found, dict)
    kind: Any = found.get("kind") if is_dict else told
    kind = OTHER_NAMES.get(kind, kind) if isinstance(kind, str) else kind
    if not is_dict or set(found) - set(ColumnType._fields) or kind not in (*KINDS, None):
        raise ValueError(
            f"column_types[{name!r}]={told!r} is not understood. Use a kind (one of "
            f"{', '.join((*KINDS, *OTHER_NAMES))}) or a dict with the keys kind, step, bounds, "
            "point_masses and values."
        )
    found = dict(found)
    if found.get("kind") == "integer":
        found.setdefault("step", 1.0)
    return found | {"kind": kind}


def _kind_of(column: RawColumn, seen: np.ndarray, told: dict) -> str:
    """The kind, where other entries that are told may leave only some."""
    if not column.is_numeric or column.is_categorical or "values" in told:
        return "discrete"
    if "step" in told:
        return "cells"
    kind = _kind(seen)
    if kind == "discrete" and {"bounds", "point_masses"} & set(told):
        return "cells" if _step(seen) > 0 else "continuous"
    return kind


def _told_values(name: Any, seen: np.ndarray, told: dict) -> list:
    extra = sorted({"step", "bounds", "point_masses"} & set(told))
    if extra:
        raise ValueError(
            f"column_types gives {extra[0]} of column {name!r}, which is discrete and has none. "
            "Say that it is 'cells' or 'continuous', or leave that out."
        )
    held = _values(name, seen)
    if told.get("values") is None:
        return held
    values = list(dict.fromkeys(told["values"]))
    unknown = [value for value in held if value not in values]
    if unknown:
        raise ValueError(
            f"Column {name!r} holds {unknown[0]!r}, which is not among the values {values} that "
            "column_types gives. Add it, or leave the values out."
        )
    return values


def _kind(seen: np.ndarray) -> str:
    distinct = np.unique(seen)
    if len(distinct) <= max(1, min(MAX_DISCRETE, len(seen) / LEAST_REPEATS)):
        return "discrete"
    whole = bool((seen == np.round(seen)).all())
    tied = whole or len(distinct) <= DISTINCT_SHARE * len(seen)
    return "cells" if tied and _step(seen) > 0 else "continuous"


def _values(name: Any, seen: np.ndarray) -> list:
    kinds = {type(value) for value in seen.tolist()}
    values = sorted(set(seen.tolist()), key=(lambda v: v) if len(kinds) == 1 else repr)
    if len(values) > MAX_CATEGORIES:
        raise ValueError(
            f"Column {name!r} has {len(values)} categories, and up to {MAX_CATEGORIES} can be "
            "modelled. Merge rare ones, drop identifiers, or hash the column into fewer. If the "
            f"column holds numbers, set column_types={{{name!r}: 'continuous'}} or 'cells'."
        )
    return values


def _step(seen: np.ndarray) -> float:
    """The largest step of a grid, of whole numbers or decimals, that all values lie on, or 0."""
    distinct = np.unique(seen)
    for decimals in range(MAX_DECIMALS + 1):
        scaled = distinct * 10.0**decimals
        if np.abs(scaled).max() >= 2**53:
            return 0.0
        whole = np.round(scaled)
        if np.abs(scaled - whole).max() <= 1e-6 * max(1.0, 1e-9 * np.abs(whole).max()):
            divisor = np.gcd.reduce(np.diff(whole).astype(np.int64)) if len(whole) > 1 else 1
            return float(divisor) / 10.0**decimals
    return 0.0


def _point_masses(seen: np.ndarray, step: float) -> list[float]:
    values, counts = np.unique(seen, return_counts=True)
    large = (counts >= POINT_SHARE * len(seen)) & (counts >= POINT_COUNT)
    if not step:
        # Ties at an end are an atom there, however small their share.
        large[[0, -1]] = counts[[0, -1]] >= POINT_COUNT
        return values[large].tolist()
    found = []
    for k in np.flatnonzero(large):
        near = np.abs(values - values[k]) <= (NEIGHBOURS + 0.5) * step
        others = counts[near].sum() - counts[k]
        # Half as many cells lie beside the first value as beside one in the middle.
        low, high = values[0] - 0.5 * step, values[-1] + 0.5 * step
        reach = (NEIGHBOURS + 0.5) * step
        n_cells = (min(values[k] + reach, high) - max(values[k] - reach, low)) / step - 1
        if counts[k] > POINT_EXCESS * others / max(n_cells, 1):
            found.append(float(values[k]))
    return found


def _bounds(seen: np.ndarray, points: list[float], step: float) -> tuple[float, float]:
    """The lowest value where it is a point mass or 0 is close, and the highest likewise.

    A density has no value at a bound, so 0 is none where some numbers are 0.
    """
    low, high = -np.inf, np.inf
    if seen.min() in points:
        low = float(seen.min())
    elif (step or seen.min() > 0) and 0 <= seen.min() < CLOSE_TO_ZERO * np.median(seen):
        low = 0.0
    if seen.max() in points:
        high = float(seen.max())
    return low, high


def _ends(name: Any, bounds: Any) -> tuple[float, float]:
    try:
        low, high = bounds
        found = (-np.inf if low is None else float(low), np.inf if high is None else float(high))
    except (TypeError, ValueError):
        found = (np.inf, -np.inf)
    if not found[0] < found[1]:
        raise ValueError(
            f"column_types gives the bounds {bounds!r} of column {name!r}. They must be a pair "
            "(low, high) with low < high, or None for no bound."
        )
    return found
