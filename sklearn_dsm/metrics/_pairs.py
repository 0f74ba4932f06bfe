"""Distances that are means over pairs of rows."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from numbers import Real

import numpy as np
from scipy.spatial.distance import cdist, pdist
from sklearn.utils import gen_batches

from .._compat import Interval, StrOptions
from .._random import numpy_random
from ..metrics import _samples
from ._samples import RANDOM_STATE, Sample, check_options, checked_pair

# The median of all distances between so many rows is taken exactly.
MEDIAN_ROWS = 4000

PairFunction = Callable[[np.ndarray, np.ndarray], np.ndarray]


def energy_distance(X, Y, *, squared=False, unbiased=False, X_weight=None, Y_weight=None):
    r"""Energy distance between two samples X and Y.

    .. math:: D^2(X, Y) = 2\, E|x - y| - E|x - x'| - E|y - y'|.

    The means are over all pairs of rows. The result is D, unless ``squared`` is true. With one
    feature, it equals ``scipy.stats.energy_distance``.

    - By default, a row is also paired with itself (V-statistic). The result is the distance of
      the two empirical distributions: never negative, and zero for equal samples.
    - With ``unbiased``, no row is paired with itself (U-statistic). The expectation of the square
      is that for the true distributions: zero if they are equal. A single value can be negative.

    Parameters
    ----------
    X : array-like of shape (n_samples_X, n_features)
    Y : array-like of shape (n_samples_Y, n_features)
    squared : bool, default=False
        Whether to return :math:`D^2`.
    unbiased : bool, default=False
        Whether to use the U-statistic. It needs ``squared=True``, because a negative value has no
        root.
    X_weight, Y_weight : array-like of shape (n_samples_X,) and (n_samples_Y,), or None
        Non-negative weights of the rows, of any positive sum. None gives equal weights.

    Returns
    -------
    float
        The square is in the units of X, the root in their square root.

    Raises
    ------
    ValueError
        If the samples differ in their features, hold NaN or infinity, or have no row of positive
        weight. If ``unbiased`` is used without ``squared``, or with a sample of one row.

    References
    ----------
    [SzekelyRizzo2013]_

    Examples
    --------
    >>> from sklearn_dsm.metrics import energy_distance
    >>> energy_distance([[0.0], [0.0]], [[3.0], [3.0]], squared=True)
    6.0
    """
    _check_flags("energy_distance", squared, unbiased)
    first, second = checked_pair(X, Y, X_weight, Y_weight)
    return _root(-_discrepancy(cdist, first, second, 0.0, unbiased), squared, unbiased)


def maximum_mean_discrepancy(
    X,
    Y,
    *,
    bandwidth="median",
    squared=False,
    unbiased=False,
    X_weight=None,
    Y_weight=None,
    random_state=None,
):
    r"""Maximum mean discrepancy between two samples X and Y, with a Gaussian kernel.

    .. math:: \mathrm{MMD}^2(X, Y) = E\,k(x, x') + E\,k(y, y') - 2\, E\,k(x, y), \qquad
        k(x, y) = \exp\left( -\frac{|x - y|^2}{2 h^2} \right).

    The means are over all pairs of rows. The result is the root, unless ``squared`` is true.

    - By default, a row is also paired with itself (V-statistic). The result is the distance of
      the two empirical distributions: never negative, and zero for equal samples.
    - With ``unbiased``, no row is paired with itself (U-statistic). At a fixed bandwidth, the
      expectation of the square is that for the true distributions. A single value can be negative.

    Parameters
    ----------
    X : array-like of shape (n_samples_X, n_features)
    Y : array-like of shape (n_samples_Y, n_features)
    bandwidth : float or "median", default="median"
        Bandwidth h of the kernel.

        - A number, in the units of X. To compare several samples with one, use the same number
          for all.
        - "median": the median distance over all pairs of rows of both samples together, without
          regard to weights.
    squared : bool, default=False
        Whether to return the square.
    unbiased : bool, default=False
        Whether to use the U-statistic. It needs ``squared=True``, because a negative value has no
        root.
    X_weight, Y_weight : array-like of shape (n_samples_X,) and (n_samples_Y,), or None
        Non-negative weights of the rows, of any positive sum. None gives equal weights.
    random_state : int, RandomState, Generator or None, default=None
        Seed of the 4000 rows between which the median distance is taken, if both samples together
        have more than 4000.

    Returns
    -------
    float
        Without units. The root of the V-statistic is at most the square root of two.

    Raises
    ------
    ValueError
        If the samples differ in their features, hold NaN or infinity, or have no row of positive
        weight. If an option is out of range, or the median distance is zero. If ``unbiased`` is
        used without ``squared``, or with a sample of one row.

    References
    ----------
    [Gretton2012]_

    Examples
    --------
    >>> from sklearn_dsm.metrics import maximum_mean_discrepancy
    >>> X = [[0.0], [1.0]]
    >>> maximum_mean_discrepancy(X, X)
    0.0
    >>> round(maximum_mean_discrepancy(X, [[100.0], [101.0]], bandwidth=1.0, squared=True), 3)
    1.607
    """
    _check_flags("maximum_mean_discrepancy", squared, unbiased)
    constraints = {
        "bandwidth": [Interval(Real, 0, None, closed="neither"), StrOptions({"median"})],
        "random_state": RANDOM_STATE,
    }
    options = {"bandwidth": bandwidth, "random_state": random_state}
    check_options("maximum_mean_discrepancy", constraints, **options)
    first, second = checked_pair(X, Y, X_weight, Y_weight)
    if bandwidth == "median":
        bandwidth = _median_distance(np.concatenate([first.rows, second.rows]), random_state)
    kernel = partial(_gaussian_kernel, bandwidth=bandwidth)
    return _root(_discrepancy(kernel, first, second, 1.0, unbiased), squared, unbiased)


def _check_flags(caller: str, squared, unbiased) -> None:
    constraints: dict = {"squared": ["boolean"], "unbiased": ["boolean"]}
    check_options(caller, constraints, squared=squared, unbiased=unbiased)
    if unbiased and not squared:
        raise ValueError(
            "unbiased=True needs squared=True: an unbiased estimate of the square can be "
            "negative, and then it has no root."
        )


def _median_distance(rows: np.ndarray, random_state) -> float:
    if len(rows) > MEDIAN_ROWS:
        rows = rows[numpy_random(random_state).permutation(len(rows))[:MEDIAN_ROWS]]
    median = float(np.median(pdist(rows)))
    if median == 0:
        raise ValueError(
            "The median distance between rows is zero, since most of them are equal; give the "
            "bandwidth as a number."
        )
    return median


def _gaussian_kernel(x: np.ndarray, y: np.ndarray, bandwidth: float) -> np.ndarray:
    return np.exp(-0.5 * (cdist(x, y) / bandwidth) ** 2)


def _discrepancy(
    function: PairFunction, first: Sample, second: Sample, own: float, unbiased: bool
) -> float:
    """Means within both samples less twice that between them; ``own`` is of a row and itself."""
    within = [_mean(function, sample, sample) for sample in (first, second)]
    if unbiased:
        samples = ((first, "X"), (second, "Y"))
        within = [
            _without_own_pairs(mean, sample, own, name)
            for mean, (sample, name) in zip(within, samples, strict=True)
        ]
    return within[0] + within[1] - 2 * _mean(function, first, second)


def _mean(function: PairFunction, first: Sample, second: Sample) -> float:
    """Weighted mean over all pairs, a bounded number of them at once."""
    batches = gen_batches(len(first.rows), max(1, _samples.CHUNK_NUMBERS // len(second.rows)))
    parts = (
        first.weight[rows] @ function(first.rows[rows], second.rows) @ second.weight
        for rows in batches
    )
    return float(sum(parts))


def _without_own_pairs(mean: float, sample: Sample, own: float, name: str) -> float:
    if len(sample.rows) < 2:
        raise ValueError(
            f"unbiased=True needs at least 2 rows of positive weight, and {name} has "
            f"{len(sample.rows)}; add rows or take unbiased=False."
        )
    share = float(sample.weight @ sample.weight)
    return (mean - share * own) / (1 - share)


def _root(square: float, squared: bool, unbiased: bool) -> float:
    """The value asked for, where rounding can leave a square just below zero."""
    square = square if unbiased else max(square, 0.0)
    return square if squared else float(np.sqrt(square))
