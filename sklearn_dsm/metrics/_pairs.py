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
    r"""Energy distance between two samples.

    .. math:: D^2(X, Y) = 2\, E|x - y| - E|x - x'| - E|y - y'|,

    of which the root is returned unless ``squared``, as by ``scipy.stats.energy_distance``,
    with which it agrees in one column. All means are over all pairs of rows, with those of a row
    and itself (V-statistic): this is the distance of the two empirical laws, which is zero for
    equal samples and never negative. With ``unbiased`` the last two means leave out the pairs of
    a row and itself (U-statistic): the expectation of the square is then that of the laws behind
    the samples, zero where they are equal, and single values can be negative.

    Parameters
    ----------
    X : array-like of shape (n_samples_X, n_features)
    Y : array-like of shape (n_samples_Y, n_features)
    squared : bool, default=False
        Return :math:`D^2`.
    unbiased : bool, default=False
        Needs ``squared=True``: a negative value has no root.
    X_weight, Y_weight : array-like of shape (n_samples_X,) and (n_samples_Y,), or None
        Weights of the rows, not negative, of any positive sum. None weighs all alike.

    Returns
    -------
    float
        The square in the units of X, its root in the root of these.

    Raises
    ------
    ValueError
        Where the samples have other columns, hold NaN or infinity or no row that counts, or
        where ``unbiased`` lacks ``squared`` or a second row.

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
    r"""Maximum mean discrepancy between two samples, with a Gaussian kernel.

    .. math:: \mathrm{MMD}^2(X, Y) = E\,k(x, x') + E\,k(y, y') - 2\, E\,k(x, y), \qquad
        k(x, y) = \exp\left( -\frac{|x - y|^2}{2 h^2} \right),

    of which the root is returned unless ``squared``. All means are over all pairs of rows, with
    those of a row and itself (V-statistic): this is the distance of the two empirical laws,
    which is zero for equal samples and never negative. With ``unbiased`` the first two means
    leave out the pairs of a row and itself (U-statistic): at a fixed bandwidth the expectation
    of the square is then that of the laws behind the samples, and single values can be negative.

    Parameters
    ----------
    X : array-like of shape (n_samples_X, n_features)
    Y : array-like of shape (n_samples_Y, n_features)
    bandwidth : float or "median", default="median"
        h in the units of X. "median" is the median distance between two different rows of both
        samples together, without regard to weights. To compare several samples with one, give
        all the same number.
    squared : bool, default=False
        Return the square.
    unbiased : bool, default=False
        Needs ``squared=True``: a negative value has no root.
    X_weight, Y_weight : array-like of shape (n_samples_X,) and (n_samples_Y,), or None
        Weights of the rows, not negative, of any positive sum. None weighs all alike.
    random_state : int, RandomState, Generator or None, default=None
        Seed of the 4000 rows of which the median is taken where there are more.

    Returns
    -------
    float
        At most the root of two, without units.

    Raises
    ------
    ValueError
        Where the samples have other columns, hold NaN or infinity or no row that counts, an
        option is out of range, the median distance is zero, or ``unbiased`` lacks ``squared`` or
        a second row.

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
            f"unbiased=True needs at least 2 rows that count, and {name} has "
            f"{len(sample.rows)}; add rows or take unbiased=False."
        )
    share = float(sample.weight @ sample.weight)
    return (mean - share * own) / (1 - share)


def _root(square: float, squared: bool, unbiased: bool) -> float:
    """The value asked for, where rounding can leave a square just below zero."""
    square = square if unbiased else max(square, 0.0)
    return square if squared else float(np.sqrt(square))
