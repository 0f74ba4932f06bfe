"""Graphs as other libraries represent them."""

from __future__ import annotations

import numpy as np

from .._extras import extra


def as_frame(adjacency: np.ndarray, names: np.ndarray | None):
    """A pandas DataFrame with the features' names, or the array where they have none."""
    if names is None:
        return adjacency
    otherwise = "adjacency_ is the same as an array."
    with extra("graphs", "adjacency_matrix_ needs pandas", otherwise):
        import pandas as pd
    return pd.DataFrame(adjacency, index=names, columns=names)


def as_networkx(adjacency, order, names, pvalues, noise_variances):
    """A networkx.DiGraph, its nodes in causal order."""
    otherwise = "adjacency_ is the same graph as an array."
    with extra("graphs", "A networkx graph needs networkx", otherwise):
        import networkx as nx
    nodes = [int(j) if names is None else str(names[j]) for j in range(len(adjacency))]
    graph = nx.DiGraph()
    for j in order:
        graph.add_node(nodes[j], noise_variance=float(noise_variances[j]))
    for i, j in zip(*np.nonzero(adjacency), strict=True):
        attributes = {} if pvalues is None else {"pvalue": float(pvalues[i, j])}
        graph.add_edge(nodes[i], nodes[j], **attributes)
    return graph
