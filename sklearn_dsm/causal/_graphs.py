"""Graphs as other libraries represent them."""

from __future__ import annotations

import numpy as np

EXTRA = "pip install 'sklearn_dsm[graphs]'"


def as_frame(adjacency: np.ndarray, names: np.ndarray | None):
    """A pandas DataFrame with the features' names, or the array where they have none."""
    if names is None:
        return adjacency
    try:
        import pandas as pd
    except ImportError as error:
        raise ImportError(
            f"adjacency_matrix_ needs pandas, which is not installed: {EXTRA}. adjacency_ is the "
            "same as an array."
        ) from error
    return pd.DataFrame(adjacency, index=names, columns=names)


def as_networkx(adjacency, order, names, pvalues, noise_variances):
    """A networkx.DiGraph, its nodes in causal order."""
    try:
        import networkx as nx
    except ImportError as error:
        raise ImportError(
            f"A networkx graph needs networkx, which is not installed: {EXTRA}. adjacency_ is the "
            "same graph as an array."
        ) from error
    nodes = [int(j) if names is None else str(names[j]) for j in range(len(adjacency))]
    graph = nx.DiGraph()
    for j in order:
        graph.add_node(nodes[j], noise_variance=float(noise_variances[j]))
    for i, j in zip(*np.nonzero(adjacency), strict=True):
        attributes = {} if pvalues is None else {"pvalue": float(pvalues[i, j])}
        graph.add_edge(nodes[i], nodes[j], **attributes)
    return graph
