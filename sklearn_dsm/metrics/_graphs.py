"""How far a graph that was found is from the true one."""

from __future__ import annotations

from numbers import Real
from typing import Any, NamedTuple

import numpy as np
from sklearn.metrics import roc_auc_score
from sklearn.utils import check_array

from ._samples import at_least, check_options


class _Labelled(NamedTuple):
    """A matrix over pairs of nodes, and the nodes' names where it has some."""

    matrix: np.ndarray
    names: list | None


def _labelled(graph: Any, name: str) -> _Labelled:
    """The matrix of an array, a data frame or a graph of networkx."""
    if hasattr(graph, "nodes") and hasattr(graph, "edges"):
        nodes = list(graph.nodes)
        if set(nodes) == set(range(len(nodes))):
            nodes = sorted(nodes)
        places = {node: k for k, node in enumerate(nodes)}
        matrix = np.zeros((len(nodes), len(nodes)))
        for source, target in graph.edges():
            matrix[places[source], places[target]] = 1
            if not graph.is_directed():
                matrix[places[target], places[source]] = 1
        return _Labelled(matrix, None if nodes == list(range(len(nodes))) else nodes)
    names = list(graph.columns) if hasattr(graph, "columns") else None
    matrix = check_array(graph, dtype=np.float64, input_name=name, ensure_all_finite="allow-nan")
    if matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"{name} has shape {matrix.shape}; an adjacency matrix is square.")
    return _Labelled(matrix, names)


def _binary(matrix: np.ndarray, name: str) -> np.ndarray:
    if np.isnan(matrix).any():
        raise ValueError(f"{name} holds NaN; entry [i, j] is 1 for an edge from i to j, else 0.")
    adjacency = (matrix != 0).astype(int)
    if np.diag(adjacency).any():
        loop = int(np.flatnonzero(np.diag(adjacency))[0])
        raise ValueError(f"{name} has an edge from node {loop} to itself. Set the diagonal to 0.")
    return adjacency


def as_adjacency(graph: Any, name: str, n_nodes: int | None = None) -> np.ndarray:
    """Entries [i, j] are 1 for an edge from i to j, else 0."""
    adjacency = _binary(_labelled(graph, name).matrix, name)
    if n_nodes is not None and len(adjacency) != n_nodes:
        raise ValueError(f"{name} has {len(adjacency)} nodes, and the data have {n_nodes}.")
    return adjacency


def numbered(graph: Any, name: str, features: list) -> np.ndarray:
    """The same of a graph whose nodes are features, in their order, or are numbered as they are."""
    matrix, names = _labelled(graph, name)
    if names is not None and set(names) <= set(features):
        whole = np.zeros((len(features), len(features)))
        places = [features.index(node) for node in names]
        whole[np.ix_(places, places)] = matrix
        matrix = whole
    return as_adjacency(matrix, name, len(features))


def _aligned(true: Any, found: Any, found_name: str = "found") -> tuple[np.ndarray, np.ndarray]:
    """Both matrices in the true graph's order of nodes; the second may hold weights."""
    truth, other = _labelled(true, "true"), _labelled(found, found_name)
    if truth.matrix.shape != other.matrix.shape:
        raise ValueError(
            f"true has {len(truth.matrix)} nodes and {found_name} has {len(other.matrix)}; both "
            "must have the same nodes."
        )
    matrix = other.matrix
    if truth.names is not None and other.names is not None:
        if set(truth.names) != set(other.names):
            raise ValueError(
                f"true and {found_name} have different nodes: {truth.names} and {other.names}."
            )
        places = [other.names.index(node) for node in truth.names]
        matrix = matrix[np.ix_(places, places)]
    return _binary(truth.matrix, "true"), matrix


def _pair(true: Any, found: Any) -> tuple[np.ndarray, np.ndarray]:
    adjacency, matrix = _aligned(true, found)
    return adjacency, _binary(matrix, "found")


def structural_hamming_distance(true, found, *, reversal_cost=1):
    """Count the pairs of nodes whose edge in one graph differs from that in the other.

    A missing edge, an additional edge, and a directed edge in place of an undirected one cost 1.

    Parameters
    ----------
    true, found : array-like of shape (n_nodes, n_nodes) or networkx graph
        Entry [i, j] is non-zero for an edge from i to j; entries [i, j] and [j, i] together are an
        undirected edge. Nodes with names are compared by name.
    reversal_cost : float, default=1
        Cost of an edge from i to j in place of one from j to i. Some authors count two: one
        missing and one additional edge.

    Returns
    -------
    int or float
        An int if ``reversal_cost`` is one.

    Raises
    ------
    ValueError
        If a graph is not square, has an edge from a node to itself, or the graphs have different
        nodes.

    References
    ----------
    [SHD]_

    Examples
    --------
    >>> from sklearn_dsm.metrics import structural_hamming_distance
    >>> structural_hamming_distance([[0, 1], [0, 0]], [[0, 0], [1, 0]])
    1
    """
    constraints = {"reversal_cost": at_least(0, Real)}
    check_options("structural_hamming_distance", constraints, reversal_cost=reversal_cost)
    truth, other = _pair(true, found)
    differ = np.triu((truth != other) | (truth != other).T, 1)
    reversed_ = differ & (truth == other.T) & (other == truth.T) & (truth != truth.T)
    return int(differ.sum() - reversed_.sum()) + int(reversed_.sum()) * reversal_cost


def order_divergence(order, true):
    """Count the edges of the true graph that an order of its nodes contradicts.

    The value is a lower bound of the structural Hamming distance of every graph with this order.

    Parameters
    ----------
    order : array-like of shape (n_nodes,)
        The nodes, sources first.
    true : array-like of shape (n_nodes, n_nodes) or networkx graph
        Entry [i, j] is non-zero for an edge from i to j. The order names a node by its number, or
        by its name if the graph has names.

    Returns
    -------
    int

    Raises
    ------
    ValueError
        If the order is not a permutation of the nodes, or the graph is not square.

    References
    ----------
    [SCORE]_

    Examples
    --------
    >>> from sklearn_dsm.metrics import order_divergence
    >>> order_divergence([1, 0, 2], [[0, 1, 1], [0, 0, 1], [0, 0, 0]])
    1
    """
    labelled = _labelled(true, "true")
    adjacency, nodes = _binary(labelled.matrix, "true"), list(order)
    if labelled.names is not None and set(nodes) == set(labelled.names):
        nodes = [labelled.names.index(node) for node in nodes]
    if sorted(nodes) != list(range(len(adjacency))):
        raise ValueError(
            f"order={list(order)!r} must name each of the {len(adjacency)} nodes of the graph once."
        )
    return int(np.tril(adjacency[np.ix_(nodes, nodes)]).sum())


def edge_f1(true, found, *, directed=True):
    r"""Harmonic mean of precision and recall of the edges that were found.

    .. math:: F_1 = \frac{2 TP}{2 TP + FP + FN}

    Parameters
    ----------
    true, found : array-like of shape (n_nodes, n_nodes) or networkx graph
        Entry [i, j] is non-zero for an edge from i to j.
    directed : bool, default=True
        Whether a reversed edge is wrong. If False, edges are pairs of nodes.

    Returns
    -------
    float
        Between 0 and 1; 1 if neither graph has an edge.

    Raises
    ------
    ValueError
        If a graph is not square, has an edge from a node to itself, or the graphs have different
        nodes.

    Examples
    --------
    >>> from sklearn_dsm.metrics import edge_f1
    >>> edge_f1([[0, 1], [0, 0]], [[0, 1], [1, 0]])
    0.6666666666666666
    """
    check_options("edge_f1", {"directed": ["boolean"]}, directed=directed)
    truth, other = _pair(true, found)
    if not directed:
        truth, other = np.triu(truth | truth.T), np.triu(other | other.T)
    n_edges = int(truth.sum() + other.sum())
    return float(2 * (truth & other).sum() / n_edges) if n_edges else 1.0


def edge_auc(true, weights, *, directed=True):
    """Area under the ROC curve of edges ranked by a weight.

    The area is the probability that an edge of the true graph has a larger weight than a pair of
    nodes without an edge.

    Parameters
    ----------
    true : array-like of shape (n_nodes, n_nodes) or networkx graph
        Entry [i, j] is non-zero for an edge from i to j.
    weights : array-like of shape (n_nodes, n_nodes)
        Larger for likelier edges: minus a p-value, or the absolute value of an interaction. NaN is
        less than every number. The diagonal has no effect.
    directed : bool, default=True
        Whether [i, j] and [j, i] are different edges. If False, edges are pairs of nodes, each
        with its larger weight.

    Returns
    -------
    float
        Between 0 and 1; 0.5 for an uninformative ranking.

    Raises
    ------
    ValueError
        If the shapes differ, or the true graph has no edge or every edge.

    Examples
    --------
    >>> from sklearn_dsm.metrics import edge_auc
    >>> edge_auc([[0, 1], [0, 0]], [[0.0, 0.9], [0.2, 0.0]])
    1.0
    """
    check_options("edge_auc", {"directed": ["boolean"]}, directed=directed)
    truth, ranks = _aligned(true, weights, "weights")
    places = ~np.eye(len(truth), dtype=bool)
    if not directed:
        truth, places = truth | truth.T, np.triu(places)
        ranks = np.fmax(ranks, ranks.T)
    ranks = np.where(np.isnan(ranks), -np.inf, ranks)[places]
    labels = truth[places]
    if labels.min() == labels.max():
        raise ValueError(
            "true has no edge, or an edge between every two nodes, so the area is not defined."
        )
    # Ranks in place of weights, which may be infinite.
    return float(roc_auc_score(labels, np.unique(ranks, return_inverse=True)[1]))
