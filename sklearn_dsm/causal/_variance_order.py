"""The order of the features by variance, which no causal claim should rest on."""

from __future__ import annotations

import numpy as np
from sklearn.utils import check_array

from ..metrics._graphs import as_adjacency
from ._structure import full_graph, spline_pvalues


def varsortability(X, graph) -> float:
    r"""Share of the directed paths of a graph along which the variance rises.

    Paths are counted by their ends and their length. A path between equal variances counts one
    half. If the value is close to 1, sorting the features by variance finds the causal order, and
    so may every method that depends on the units of the features. If it is close to 0.5, the
    variances say nothing.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
    graph : array-like of shape (n_features, n_features) or networkx.DiGraph
        The true graph. Entry [i, j] is 1 for an edge from i to j.

    Returns
    -------
    float
        Between 0 and 1. NaN if the graph has no edge.

    Raises
    ------
    ValueError
        If the shapes do not match, or X holds NaN or infinity.

    References
    ----------
    [Varsortability]_

    Examples
    --------
    >>> from sklearn_dsm.causal import varsortability
    >>> from sklearn_dsm.datasets import make_anm
    >>> anm = make_anm(500, 5, random_state=0)
    >>> 0 <= varsortability(anm.data, anm.adjacency) <= 1
    True
    """
    X = check_array(X, dtype=np.float64, ensure_min_samples=2)
    adjacency = as_adjacency(graph, "graph", len(X.T))
    variances = X.var(0)
    rises = np.sign(variances - variances[:, None])
    rises[np.isclose(variances, variances[:, None], rtol=1e-9, atol=0)] = 0.0
    paths, n_paths, n_rising = np.eye(len(adjacency), dtype=int), 0, 0.0
    for _ in range(len(adjacency) - 1):
        paths = (paths @ adjacency > 0).astype(int)
        n_paths += paths.sum()
        n_rising += (paths * (rises + 1) / 2).sum()
    return float(n_rising / n_paths) if n_paths else float("nan")


def sort_by_variance(X, *, alpha=1e-3):
    """Order the features by variance and prune the edges: the baseline of causal discovery.

    The order has no causal meaning, but agrees with the causal order of many synthetic datasets
    and of the data of :func:`sklearn_dsm.datasets.load_sachs`. A method that is not better than
    this baseline has learned nothing but the units of the features.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
    alpha : float, default=1e-3
        Level of the F-tests of the edges, as in :class:`~sklearn_dsm.ScoreCausalDiscovery`.

    Returns
    -------
    order : ndarray of shape (n_features,)
        The features by increasing variance.
    adjacency : ndarray of shape (n_features, n_features)
        Entry [i, j] is 1 for an edge from i to j.

    Raises
    ------
    ValueError
        If X holds NaN or infinity, or has fewer than two features.

    References
    ----------
    [Varsortability]_

    Examples
    --------
    >>> from sklearn_dsm.causal import sort_by_variance
    >>> from sklearn_dsm.datasets import load_sachs
    >>> order, adjacency = sort_by_variance(load_sachs().data)
    >>> adjacency.shape
    (11, 11)
    """
    X = check_array(X, dtype=np.float64, ensure_min_samples=2, ensure_min_features=2)
    order = np.argsort(X.var(0), kind="stable")
    allowed = full_graph(order).astype(bool)
    return order, (spline_pvalues(X, order, allowed) < alpha).astype(int)
