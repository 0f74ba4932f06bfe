"""In how many pairs of nodes a found graph gives a wrong effect of an intervention."""

from __future__ import annotations

import numpy as np

from ._graphs import _pair


def structural_intervention_distance(true, found):
    """Count the pairs (i, j) for which the parents found for i do not identify its effect on j.

    The effect of an intervention on i is computed by adjusting for the parents of i in the graph
    that was found. It is wrong for some distribution with the true graph if these parents are not
    a valid adjustment set in the true graph. The distance counts such pairs. It is not symmetric:
    additional edges that agree with the true order cost nothing.

    Parameters
    ----------
    true : array-like of shape (n_nodes, n_nodes) or networkx.DiGraph
        The true graph, without cycles. Entry [i, j] is non-zero for an edge from i to j.
    found : array-like of shape (n_nodes, n_nodes) or networkx.DiGraph
        The graph that was found. Nodes with names are compared by name.

    Returns
    -------
    int
        From 0 to n_nodes (n_nodes - 1).

    Raises
    ------
    ValueError
        If the true graph has a cycle, a graph is not square, or the graphs have different nodes.

    References
    ----------
    [SID]_

    Examples
    --------
    >>> from sklearn_dsm.metrics import structural_intervention_distance
    >>> structural_intervention_distance([[0, 1], [0, 0]], [[0, 0], [1, 0]])
    2
    """
    truth, other = (matrix.astype(bool) for matrix in _pair(true, found))
    reach = _reachable(truth)
    if (reach & reach.T & ~np.eye(len(truth), dtype=bool)).any():
        raise ValueError(
            "true has a cycle, so no graph of interventions is defined. Pass an acyclic graph."
        )
    return int(sum(_wrong_effects(truth, reach, other[:, i], i).sum() for i in range(len(truth))))


def _reachable(adjacency: np.ndarray) -> np.ndarray:
    """Whether j is i or a descendant of i."""
    reach = adjacency | np.eye(len(adjacency), dtype=bool)
    for _ in range(int(np.ceil(np.log2(max(len(adjacency), 2)))) + 1):
        reach = reach.astype(np.int64) @ reach.astype(np.int64) > 0
    return reach


def _wrong_effects(truth, reach, adjusted, i) -> np.ndarray:
    """Whether the effect of i on each node is wrong after adjusting for the given nodes."""
    after = reach[i].copy()
    after[i] = False
    # Nodes after i whose descendants are adjusted for, though the effect passes through them.
    spoiling = after & (reach[:, adjusted].any(1))
    blocked_effect = (reach & spoiling[:, None]).any(0)
    connected = _open_paths(truth, adjusted, i, [j for j in np.flatnonzero(truth[:, i])], up=True)
    for child in np.flatnonzero(truth[i]):
        # A path from i through a child that the effect on j does not pass through.
        beside = ~reach[child]
        connected |= beside & _open_paths(truth, adjusted, i, [child], up=False)
    wrong = np.where(adjusted, after, blocked_effect | connected)
    wrong[i] = False
    return wrong


def _open_paths(truth, adjusted, i, starts, *, up) -> np.ndarray:
    """Nodes joined to i by a path that starts so and that the adjustment leaves open.

    The search walks over pairs of a node and whether it was reached from one of its children.
    """
    seen, stack = set(), [(int(node), up) for node in starts]
    reached = np.zeros(len(truth), dtype=bool)
    while stack:
        node, from_child = stack.pop()
        if (node, from_child) in seen or node == i:
            continue
        seen.add((node, from_child))
        reached[node] = True
        parents = [(int(j), True) for j in np.flatnonzero(truth[:, node])]
        children = [(int(j), False) for j in np.flatnonzero(truth[node])]
        if from_child:
            stack += [] if adjusted[node] else parents + children
        else:
            stack += parents if adjusted[node] else children
    return reached
