"""Which pairs of features are edges, by their p-values."""

from __future__ import annotations

import numpy as np
from scipy.stats import false_discovery_control


def corrected(pvalues: np.ndarray, correction: str | None) -> np.ndarray:
    """P-values (m,) adjusted for m tests."""
    m = len(pvalues)
    if correction == "bonferroni":
        return np.minimum(m * pvalues, 1.0)
    if correction == "fdr_bh":
        return false_discovery_control(pvalues)
    if correction == "holm":
        order = np.argsort(pvalues, kind="stable")
        adjusted = np.maximum.accumulate((m - np.arange(m)) * pvalues[order])
        return np.minimum(adjusted, 1.0)[np.argsort(order, kind="stable")]
    return pvalues


def graph_of(kept: np.ndarray, upper: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """The symmetric graph (p, p), bool, of which pairs above the diagonal are kept."""
    graph = np.zeros((upper[1].max() + 1,) * 2, dtype=bool)
    graph[upper] = kept
    return graph | graph.T
