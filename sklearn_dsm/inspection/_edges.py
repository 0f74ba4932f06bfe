"""The edges of a fitted estimator, whatever kind of graph it has."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from sklearn.utils.validation import check_is_fitted


class Edges(NamedTuple):
    """A graph with weights.

    Attributes
    ----------
    present : ndarray of shape (d, d), bool
        Entry [i, j]: an edge from i to j; symmetric where edges have no direction.
    strength : ndarray of shape (d, d)
    pvalues : ndarray of shape (d, d) or None
    directed : bool
    names : list of str
    """

    present: np.ndarray
    strength: np.ndarray
    pvalues: np.ndarray | None
    directed: bool
    names: list[str]

    def pairs(self) -> list[tuple[int, int]]:
        """Every edge once."""
        kept = self.present if self.directed else np.triu(self.present, 1)
        return [(int(i), int(j)) for i, j in np.argwhere(kept)]


def is_tested(estimator) -> bool:
    """Whether tests decide which edges there are."""
    undirected = not hasattr(estimator, "order_")
    return undirected and getattr(estimator, "edge_pvalues_", None) is not None


def edges_of(estimator, level: float, correction: str | None = None) -> Edges:
    """The edges of a fitted estimator.

    Those that tests at a level find, or where there are no p-values, those of its matrix that are
    not zero.
    """
    check_is_fitted(estimator)
    if correction is not None and not (is_tested(estimator) and hasattr(estimator, "adjacency")):
        raise ValueError(
            f"correction={correction!r} has no effect: the edges of {type(estimator).__name__} are "
            "not chosen by tests. Leave correction out."
        )
    pvalues = getattr(estimator, "edge_pvalues_", None)
    if hasattr(estimator, "order_"):
        present = np.asarray(estimator.adjacency_) != 0
        strength = present.astype(float)
        if pvalues is not None:
            # Tests of many samples give p-values of zero.
            strength = np.where(present, -np.log10(np.maximum(pvalues, 1e-300)), 0.0)
        return Edges(present, strength, pvalues, True, names_of(estimator))
    for name in ("interaction_", "precision_", "adjacency_"):
        if hasattr(estimator, name):
            strength = np.array(getattr(estimator, name), dtype=np.float64)
            break
    else:
        raise TypeError(
            f"{type(estimator).__name__} has no graph: none of order_, interaction_, precision_ "
            "and adjacency_. Pass an estimator of sklearn_dsm.graphical or sklearn_dsm.causal, or "
            "one with precision_, such as GraphicalLassoCV."
        )
    if name == "precision_":
        root = np.sqrt(np.abs(np.diag(strength)))
        strength = -strength / np.outer(root, root)
    np.fill_diagonal(strength, 0)
    if pvalues is None:
        present = strength != 0
    elif correction is None:
        present = np.asarray(pvalues) <= level
    else:
        present = estimator.adjacency(level, correction)
    np.fill_diagonal(present, False)
    return Edges(present, np.abs(strength), pvalues, False, names_of(estimator))


def names_of(estimator) -> list[str]:
    """The features' names, x0, x1 and so on where it was fitted without names."""
    names = getattr(estimator, "feature_names_in_", None)
    if names is None:
        return [f"x{j}" for j in range(estimator.n_features_in_)]
    return [str(name) for name in names]
