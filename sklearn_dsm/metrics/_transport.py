"""Wasserstein distances: exact, and averaged over projections to a line."""

from __future__ import annotations

from numbers import Integral, Real

import numpy as np
from scipy.spatial.distance import cdist
from sklearn.utils import gen_batches

from .._extras import extra
from .._random import numpy_random
from ..metrics import _samples
from ._samples import RANDOM_STATE, Sample, at_least, check_options, checked_pair

# Beyond what any two samples that fit in memory have needed.
MAX_PIVOTS = 100_000_000


def sliced_wasserstein_distance(
    X, Y, *, n_projections=200, p=2, X_weight=None, Y_weight=None, random_state=None
):
    r"""Wasserstein distance between projections onto a line, averaged over random directions.

    .. math:: \mathrm{SW}_p(X, Y) = \Big( \frac1L \sum_{l=1}^L
        W_p^p(\theta_l^T X, \theta_l^T Y) \Big)^{1/p}, \qquad
        \theta_l \text{ uniform on the unit sphere}.

    The distance of each projection is exact: it couples equal quantiles, and the samples may have
    different sizes. A translation by t has :math:`E\, \mathrm{SW}_2^2 = |t|^2 / d`, so values fall
    with the number d of features. Two samples of the same distribution have a distance above zero;
    :func:`distance_floor` estimates it.

    Parameters
    ----------
    X : array-like of shape (n_samples_X, n_features)
    Y : array-like of shape (n_samples_Y, n_features)
    n_projections : int, default=200
        Number L of directions.
    p : float, default=2
        Order of the distance; at least one.
    X_weight, Y_weight : array-like of shape (n_samples_X,) and (n_samples_Y,), or None
        Non-negative weights of the rows, of any positive sum. None gives equal weights.
    random_state : int, RandomState, Generator or None, default=None
        Seed of the directions.

    Returns
    -------
    float
        In the units of X.

    Raises
    ------
    ValueError
        If the samples differ in their features, hold NaN or infinity, or have no row of positive
        weight. If an option is out of range.

    References
    ----------
    [Bonneel2015]_

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_dsm.metrics import sliced_wasserstein_distance
    >>> X = np.random.RandomState(0).normal(size=(100, 1))
    >>> round(sliced_wasserstein_distance(X, X + 3.0, random_state=0), 6)
    3.0
    """
    constraints = {
        "n_projections": at_least(1, Integral),
        "p": at_least(1, Real),
        "random_state": RANDOM_STATE,
    }
    options = {"n_projections": n_projections, "p": p, "random_state": random_state}
    check_options("sliced_wasserstein_distance", constraints, **options)
    first, second = checked_pair(X, Y, X_weight, Y_weight)
    shape = n_projections, first.rows.shape[1]
    directions = numpy_random(random_state).standard_normal(shape)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    n_at_once = max(1, _samples.CHUNK_NUMBERS // (len(first.rows) + len(second.rows)))
    distances = [
        _sliced_distances(first, second, directions[part], p)
        for part in gen_batches(n_projections, n_at_once)
    ]
    return float(_power_mean(np.concatenate(distances), p))


def _power_mean(values: np.ndarray, p: float, weights: np.ndarray | None = None) -> np.ndarray:
    """The p-th root of the mean p-th power, in which only the small ones can vanish."""
    largest = values.max(0)
    shares = values / np.where(largest > 0, largest, 1.0)
    return largest * np.average(shares**p, axis=0, weights=weights) ** (1 / p)


def _sliced_distances(
    first: Sample, second: Sample, directions: np.ndarray, p: float
) -> np.ndarray:
    x, y = (sample.rows @ directions.T for sample in (first, second))
    if first.is_uniform and second.is_uniform:
        # The same quantile levels in every direction.
        x_levels, y_levels = (np.arange(1, len(z) + 1) / len(z) for z in (x, y))
        return _line_distance(np.sort(x, axis=0), np.sort(y, axis=0), x_levels, y_levels, p)
    weights = first.weight, second.weight
    pairs = zip(x.T, y.T, strict=True)
    return np.array([_weighted_line_distance(a, b, *weights, p) for a, b in pairs])


def _weighted_line_distance(x, y, x_weight, y_weight, p) -> float:
    x_order, y_order = np.argsort(x), np.argsort(y)
    x_levels, y_levels = np.cumsum(x_weight[x_order]), np.cumsum(y_weight[y_order])
    levels = x_levels / x_levels[-1], y_levels / y_levels[-1]
    return _line_distance(x[x_order], y[y_order], levels[0], levels[1], p)


def _line_distance(x, y, x_levels, y_levels, p):
    """The p-th mean of |x - y| over equal quantiles, of sorted numbers or sorted columns.

    The levels are the cumulative weights, the last of which is one.
    """
    levels = np.union1d(x_levels, y_levels)
    x_rows, y_rows = (np.searchsorted(part, levels) for part in (x_levels, y_levels))
    return _power_mean(np.abs(x[x_rows] - y[y_rows]), p, np.diff(levels, prepend=0.0))


def wasserstein_distance(X, Y, p=2, *, X_weight=None, Y_weight=None):
    r"""Wasserstein distance between two samples X and Y, by exact optimal transport.

    .. math:: W_p(X, Y) = \Big( \min_\pi \sum_{ij} \pi_{ij} |x_i - y_j|^p \Big)^{1/p},

    over all couplings :math:`\pi` of the rows. The package POT must be installed. The matrix of all
    distances is held in memory, and the time grows faster than the square of the sample size, so a
    few thousand rows are feasible. With many features, the distance converges slowly as the samples
    grow. Two samples of the same distribution have a distance above zero;
    :func:`distance_floor` estimates it.

    Parameters
    ----------
    X : array-like of shape (n_samples_X, n_features)
    Y : array-like of shape (n_samples_Y, n_features)
    p : float, default=2
        Order of the distance; at least one.
    X_weight, Y_weight : array-like of shape (n_samples_X,) and (n_samples_Y,), or None
        Non-negative weights of the rows, of any positive sum. None gives equal weights.

    Returns
    -------
    float
        In the units of X.

    Raises
    ------
    ImportError
        If POT is not installed.
    RuntimeError
        If the solver stops before its optimum.
    ValueError
        If the samples differ in their features, hold NaN or infinity, or have no row of positive
        weight. If p is less than one.

    References
    ----------
    [POT]_

    Examples
    --------
    >>> from sklearn_dsm.metrics import wasserstein_distance
    >>> wasserstein_distance([[0.0, 0.0], [1.0, 0.0]], [[1.0, 2.0], [0.0, 2.0]])
    2.0
    """
    check_options("wasserstein_distance", {"p": at_least(1, Real)}, p=p)
    first, second = checked_pair(X, Y, X_weight, Y_weight)
    ot = optimal_transport("wasserstein_distance", "sliced_wasserstein_distance")
    distances = cdist(first.rows, second.rows)
    # The solver's tolerances are absolute.
    largest = distances.max() or 1.0
    cost, log = ot.emd2(
        first.weight, second.weight, (distances / largest) ** p, numItermax=MAX_PIVOTS, log=True
    )
    if log["warning"] is not None:
        raise RuntimeError(f"The solver stopped before its optimum: {log['warning']}")
    return float(largest * max(cost, 0.0) ** (1 / p))


def optimal_transport(caller: str, without: str):
    with extra("metrics", f"{caller} needs POT", f"{without} does without."):
        import ot
    return ot
