"""A causal structure learned from a table: order, parents, tests and noise variances."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from sklearn.base import clone

from ._ordering import CRITERIA, Removed, marginals_of, removed_leaves
from ._protocol import fitted_score, is_known_everywhere
from ._pruning import additive_pvalues, jacobian_candidates

# Level of the test that DAS makes before that of the splines.
JACOBIAN_LEVEL = 0.01


class Options(NamedTuple):
    """What a structure is learned with."""

    score_estimator: object
    criterion: str
    removal: str
    pruning: str | None
    alpha: float
    standardize: bool


class Structure(NamedTuple):
    """Order, sources first; adjacency; p-values of edges (None: no tests); noise variances."""

    order: np.ndarray
    adjacency: np.ndarray
    pvalues: np.ndarray | None
    noise_variances: np.ndarray


def learn(X: np.ndarray, options: Options) -> Structure:
    """Order the features, and keep the edges that pruning leaves."""
    deviations = X.std(0) if options.standardize else np.ones(X.shape[1])
    if options.standardize:
        X = (X - X.mean(0)) / deviations
    removals = _removals(X, options)
    noise = np.empty(X.shape[1])
    for removal in removals:
        noise[removal.leaf] = removal.noise_variance
    order = np.array([removal.leaf for removal in reversed(removals)])
    adjacency, pvalues = _edges(X, order, removals, options)
    return Structure(order, adjacency, pvalues, noise * deviations**2)


def _removals(X, options) -> list[Removed]:
    estimator, criterion = options.score_estimator, CRITERIA[options.criterion]
    if options.removal == "refit":
        diagonal = options.pruning != "das"

        def score_of(features):
            return fitted_score(estimator, X[:, features], diagonal)

        return removed_leaves(score_of, X.shape[1], criterion)
    fitted = clone(estimator).fit(X)
    if not is_known_everywhere(fitted):
        raise ValueError(
            f"removal='residue' needs the score at samples that were not fitted, and {estimator} "
            "knows it at the training samples only. Use removal='refit', or "
            "score_estimator=KernelExponentialFamily()."
        )

    def evaluate(samples):
        return fitted.stein_score(samples), fitted.score_jacobian(samples)

    return removed_leaves(marginals_of(evaluate, X), X.shape[1], criterion)


def full_graph(order: np.ndarray) -> np.ndarray:
    """The graph with an edge from every feature to all that come after it."""
    adjacency = np.zeros((len(order), len(order)), dtype=int)
    for place, feature in enumerate(order):
        adjacency[feature, order[place + 1 :]] = 1
    return adjacency


def _edges(X, order, removals, options):
    if options.pruning is None:
        return full_graph(order), None
    allowed = full_graph(order).astype(bool)
    if options.pruning == "das":
        allowed = _passed(removals)
    pvalues = spline_pvalues(X, order, allowed)
    return (pvalues < options.alpha).astype(int), pvalues


def spline_pvalues(X: np.ndarray, order: Iterable[int], allowed: np.ndarray) -> np.ndarray:
    """P-values (d, d) of the allowed edges; one for the other edges along the order, else NaN."""
    pvalues = np.full(allowed.shape, np.nan)
    before: list[int] = []
    for feature in order:
        pvalues[before, feature] = 1.0
        # In the order of the columns, so that the result depends on the set alone.
        parents = np.array([j for j in sorted(before) if allowed[j, feature]], dtype=int)
        pvalues[parents, feature] = additive_pvalues(X[:, feature], X[:, parents])
        before.append(feature)
    return pvalues


def _passed(removals: list[Removed]) -> np.ndarray:
    """Which edges into each leaf its Jacobian supports."""
    allowed = np.zeros((len(removals), len(removals)), dtype=bool)
    for removal in removals[:-1]:
        before = np.delete(removal.features, removal.place)
        effects = np.abs(np.delete(removal.jacobian[:, removal.place], removal.place, axis=1))
        allowed[before[jacobian_candidates(effects, JACOBIAN_LEVEL)], removal.leaf] = True
    return allowed
