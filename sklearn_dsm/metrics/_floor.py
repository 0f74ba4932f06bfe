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
    """Mean, standard deviation and values of a distance between samples of one distribution."""

    mean: float
    std: float
    values: np.ndarray


def distance_floor(metric, sample, n_samples, *, n_repeats=10, random_state=None):
    """Mean and standard deviation of a distance between two samples of the same distribution.

    A distance between finite samples is not zero, even if their distributions are equal. If the
    distance of a model's sample from the data is no larger than this floor, at the same sample
    sizes, the distance is no evidence against the model.

    Parameters
    ----------
    metric : callable
        ``metric(X, Y) -> float``. To set options of the metric, use :func:`functools.partial`.
    sample : callable or array-like of shape (n_rows, n_features)
        The source of the samples.

        - A callable ``sample(n_samples, random_state) -> X``, such as the ``sample`` method of a
          distribution in :mod:`sklearn_dsm.datasets` or of a density estimator.
        - An array, for data whose distribution is unknown. Two disjoint parts are drawn in each
          repeat. Repeats share rows, so ``std`` is too small unless the parts are a small share
          of all rows.
    n_samples : int or pair of int
        Size of both samples, or sizes of the first and the second.
    n_repeats : int, default=10
        Number of pairs of samples; at least two.
    random_state : int, RandomState, Generator or None, default=None
        Seed of the samples.

    Returns
    -------
    DistanceFloor
        A named tuple in the units of the metric: ``mean``, float; ``std``, float, with
        ``n_repeats - 1`` in its denominator; ``values``, ndarray of shape (n_repeats,).

    Raises
    ------
    ValueError
        If an option is out of range, or the array has fewer rows than both samples need.

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
