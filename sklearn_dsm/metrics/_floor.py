"""What a distance is between samples of one and the same law."""

from __future__ import annotations

from numbers import Integral
from typing import NamedTuple

import numpy as np
from sklearn.utils import check_array

from .._random import numpy_random
from ._samples import RANDOM_STATE, at_least, check_options

MAX_SEED = np.iinfo(np.int32).max


class DistanceFloor(NamedTuple):
    """Mean and deviation of a distance between samples of one law, and its single values."""

    mean: float
    std: float
    values: np.ndarray


def distance_floor(metric, sample, n_samples, *, n_repeats=10, random_state=None):
    """Mean and deviation of a distance between two independent samples of one law.

    A distance between finite samples is not zero where their laws are the same. One that is
    no larger than its floor, at the same sample sizes, tells nothing against a model.

    Parameters
    ----------
    metric : callable
        ``metric(X, Y) -> float``. Options are bound with :func:`functools.partial`.
    sample : callable or array-like of shape (n_rows, n_features)
        ``sample(n_samples, random_state) -> X``, such as the method of a law in
        :mod:`sklearn_dsm.datasets` or of a density estimator. Of rows, two disjoint parts are
        drawn for each repeat; repeats then share rows, and their deviation is too small where
        the parts are not a small share of all.
    n_samples : int or pair of int
        Rows in both samples, or in the first and the second.
    n_repeats : int, default=10
        Pairs of samples, at least two.
    random_state : int, RandomState, Generator or None, default=None

    Returns
    -------
    DistanceFloor
        A named tuple, all in the units of the metric: ``mean`` and ``std``, float, the latter
        with ``n_repeats - 1`` in its denominator; ``values``, ndarray of shape (n_repeats,).

    Raises
    ------
    ValueError
        Where an option is out of range, or there are fewer rows than both samples need.

    Examples
    --------
    >>> from functools import partial
    >>> from sklearn_dsm.datasets import Funnel
    >>> from sklearn_dsm.metrics import distance_floor, sliced_wasserstein_distance
    >>> metric = partial(sliced_wasserstein_distance, random_state=0)
    >>> floor = distance_floor(metric, Funnel(3).sample, 200, random_state=0)
    >>> floor.values.shape, bool(floor.mean > 0)
    ((10,), True)
    """
    sizes = n_samples if isinstance(n_samples, tuple | list) else (n_samples, n_samples)
    if len(sizes) != 2:
        raise ValueError(f"n_samples={n_samples!r} must be one number of rows, or a pair.")
    constraints = {
        "metric": [callable],
        "n_samples": at_least(1, Integral),
        "n_repeats": at_least(2, Integral),
        "random_state": RANDOM_STATE,
    }
    options = {"metric": metric, "n_repeats": n_repeats, "random_state": random_state}
    for size in sizes:
        check_options("distance_floor", constraints, n_samples=size, **options)
    random = numpy_random(random_state)
    draw = _fresh_pair if callable(sample) else _disjoint_pair
    source = sample if callable(sample) else _checked_rows(sample, sizes)
    values = np.array([metric(*draw(source, sizes, random)) for _ in range(n_repeats)])
    return DistanceFloor(float(values.mean()), float(values.std(ddof=1)), values)


def _checked_rows(rows, sizes) -> np.ndarray:
    rows = check_array(rows, dtype=np.float64, input_name="sample")
    if len(rows) < sum(sizes):
        raise ValueError(
            f"sample has {len(rows)} rows, and disjoint samples of {sizes[0]} and {sizes[1]} need "
            f"{sum(sizes)}; ask for fewer."
        )
    return rows


def _fresh_pair(sample, sizes, random):
    # Integers, which every sampler takes as its seed.
    return [sample(n, int(seed)) for n, seed in zip(sizes, random.choice(MAX_SEED, 2), strict=True)]


def _disjoint_pair(rows, sizes, random):
    order = random.permutation(len(rows))[: sum(sizes)]
    return rows[order[: sizes[0]]], rows[order[sizes[0] :]]
