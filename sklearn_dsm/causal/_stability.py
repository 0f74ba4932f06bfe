"""How often edges and orders return in random halves of the samples."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ._structure import Options, full_graph, learn


class Stability(NamedTuple):
    """Shares of resamples in which an edge from i to j returns, and in which i is before j."""

    edges: np.ndarray
    order: np.ndarray
    n_bootstrap: int


def resampled(
    X: np.ndarray, options: Options, n_bootstrap: int, random: np.random.RandomState
) -> Stability:
    """Learn a structure from so many halves."""
    half = len(X) // 2
    if half < 2:
        raise ValueError(f"stability needs at least 4 samples; fit had {len(X)}.")
    edges, order = np.zeros((2, X.shape[1], X.shape[1]))
    for _ in range(n_bootstrap):
        rows = np.sort(random.choice(len(X), half, replace=False))
        structure = learn(X[rows], options)
        edges += structure.adjacency
        order += full_graph(structure.order)
    return Stability(edges / n_bootstrap, order / n_bootstrap, n_bootstrap)
