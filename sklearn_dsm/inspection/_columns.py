"""The features of an estimator, and tables as numbers to draw."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from inspect import signature
from typing import Any, NamedTuple

import numpy as np

from .._random import seed_from
from .._tabular.frames import read
from ._edges import names_of


class Feature(NamedTuple):
    """What is drawn of a feature.

    Attributes
    ----------
    name : str
    values : tuple or None
        Categories, which are drawn at 0, 1, ...; None for numbers.
    step : float or None
        Of numbers on a grid.
    """

    name: str
    values: tuple | None = None
    step: float | None = None

    @property
    def is_category(self) -> bool:
        return self.values is not None


def features_of(estimator) -> list[Feature]:
    """All features of a fitted density estimator, with the types that a table was found to have."""
    names = names_of(estimator)
    types = getattr(estimator, "column_types_", None)
    if types is None:
        return [Feature(name) for name in names]
    return [
        Feature(name, _values(kind), kind.get("step"))
        for name, kind in zip(names, types.values(), strict=True)
    ]


def _values(kind: dict) -> tuple | None:
    return tuple(kind["values"]) if kind["kind"] == "discrete" else None


def positions_of(features, names: list[str], default: int, fewest: int, most: int) -> list[int]:
    """Places of the features that a user named, or of the first ones."""
    if features is None:
        return list(range(min(default, len(names))))
    given = [features] if isinstance(features, (str, int, np.integer)) else list(features)
    places = [names.index(str(one)) if one in names else one for one in given]
    for one in places:
        if not isinstance(one, (int, np.integer)) or not 0 <= one < len(names):
            raise ValueError(
                f"features has {one!r}, which is no index below {len(names)} and none of the "
                f"names {names}."
            )
    if not fewest <= len(places) <= most or len(set(places)) < len(places):
        number = f"{fewest}" if fewest == most else f"{fewest} to {most}"
        raise ValueError(f"features={features!r} must name {number} features, each of them once.")
    return [int(one) for one in places]


def numbers_of(X, features: list[Feature]) -> np.ndarray:
    """A table (n, d) of numbers, and of categories by their place; NaN where it has neither."""
    columns, _ = read(X)
    if len(columns) != len(features):
        raise ValueError(
            f"X has {len(columns)} features, and the estimator was fitted to {len(features)}. Pass "
            "a table of all of them; the argument features chooses which are drawn."
        )
    return np.column_stack(
        [
            _places(column.values, feature.values) if feature.values else _as_numbers(column)
            for column, feature in zip(columns, features, strict=True)
        ]
    )


def word_of(value) -> str:
    """A value of a feature as people read it."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _places(values: np.ndarray, categories: tuple) -> np.ndarray:
    places = {category: k for k, category in enumerate(categories)}
    return np.array([places.get(value, np.nan) for value in values], dtype=float)


def _as_numbers(column) -> np.ndarray:
    if not column.is_numeric and not column.missing.all():
        raise ValueError(
            f"Column {column.name!r} holds categories, and held numbers in the fit. Convert it, "
            "for instance with astype()."
        )
    return column.values.astype(float)


def samples_of(estimator, n_samples: int, random_state) -> Any:
    """Samples of a density estimator of this package or of scikit-learn, as it gives them."""
    if "random_state" in signature(estimator.sample).parameters:
        return estimator.sample(n_samples, random_state=random_state)
    # Mixtures of scikit-learn draw by their own seed, and tell components as well.
    seeded = copy(estimator).set_params(random_state=seed_from(random_state))
    return seeded.sample(n_samples)[0]


@contextmanager
def without_names() -> Iterator[None]:
    """Let estimators that were fitted to a frame take a grid, which is an array."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="X does not have valid feature names")
        yield


def require_methods(estimator, display: str, *methods: str) -> None:
    """Raise a TypeError where an estimator lacks a method."""
    missing = [method for method in methods if not hasattr(estimator, method)]
    if missing:
        raise TypeError(
            f"{display} needs {' and '.join(missing)}, which {type(estimator).__name__} does not "
            "have. Pass a fitted density estimator, such as DSMDensityEstimator."
        )
