"""The three steps that estimate every edge of a pairwise model, and their influence values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from joblib import Parallel, delayed

from ._domains import WEIGHTS
from ._pairwise_families import Family
from ._quadratic import EdgeEquation, edge_equations, lasso

# Numbers in one array of influence values.
CHUNK_NUMBERS = 2**22
# A selection need not know the coefficients better than this, in units of their features.
SELECTION_TOLERANCE, SELECTION_SWEEPS, N_LOADINGS = 1e-4, 200, 2


class Equation(NamedTuple):
    """One node's samples: square roots of Gamma (n, q), and g (n, q)."""

    root: np.ndarray
    linear: np.ndarray


class EdgeEstimates(NamedTuple):
    interaction: np.ndarray  # (p, p), symmetric with zero diagonal
    covariance: np.ndarray  # (p, p, p), of the edges of each node
    node_coef: np.ndarray  # (p, n_node_terms)
    support_sizes: np.ndarray  # (p, p), parameters in the estimate of each edge


def others_of(node: int, p: int) -> np.ndarray:
    return np.delete(np.arange(p), node)


def node_equation(family: Family, weight: str, Z: np.ndarray, node: int) -> Equation:
    """Gamma and g of the conditional score of a node."""
    first, second = family.derivatives(Z[:, node], np.delete(Z, node, axis=1))
    if not family.nonnegative:
        return Equation(first, second)
    value, slope = (each[:, None] for each in WEIGHTS[weight](Z[:, node]))
    return Equation(np.sqrt(value) * first, value * second + slope * first)


def estimate_edges(family: Family, weight: str, Z, lam: float | None, n_jobs) -> EdgeEstimates:
    """All edges, with the covariances of their estimates; ``lam`` None keeps every parameter."""
    n, p = Z.shape
    fits = Parallel(n_jobs=n_jobs)(
        delayed(_node_fit)(family, weight, Z, node, lam) for node in range(p)
    )
    curvature, own = np.zeros((p, p)), np.zeros((p, p))
    sizes = np.zeros((p, p), dtype=int)
    for node, (equations, support, _) in enumerate(fits):
        others = others_of(node, p)
        curvature[node, others], own[node, others] = equations.curvature, equations.estimate
        sizes[node, others] = support
    total = curvature + curvature.T + np.eye(p)
    weighted = curvature * own
    interaction = (weighted + weighted.T) / total
    moments = np.zeros((p, p, p))
    equations = [fit[0] for fit in fits]
    for z in _influence(family, weight, Z, equations, interaction, total):
        moments += z.transpose(1, 2, 0) @ z.transpose(1, 0, 2)
    node_coef = np.stack([fit[2] for fit in fits])
    # The edge itself is in the support of both of its nodes.
    return EdgeEstimates(interaction, moments / n**2, node_coef, sizes + sizes.T - 1)


def _node_fit(family: Family, weight: str, Z, node: int, lam: float | None):
    """A node's profiled edges, the sizes of their supports, and the node's own terms."""
    equation = node_equation(family, weight, Z, node)
    scale = np.sqrt((equation.root**2).mean(0))
    root, linear = equation.root / scale, equation.linear / scale
    gram, mean = root.T @ root / len(Z), linear.mean(0)
    k = len(family.node_powers)
    edges = np.arange(k, len(scale))
    if lam is None:
        supports = np.ones((len(edges), len(scale)), dtype=bool)
        selected = supports[0]
    else:
        supports, selected = _supports(root, linear, gram, k, lam)
    fit = edge_equations(gram, mean, edges, supports)
    inside = np.flatnonzero(selected)
    terms = -np.linalg.solve(gram[np.ix_(inside, inside)], mean[inside])
    # Back to the units of the statistics; an edge's direction has a 1 at the edge itself.
    own = scale[edges]
    fit = EdgeEquation(
        fit.curvature * own**2,
        fit.estimate / own,
        fit.directions * own[:, None] / scale,
        fit.coef / scale,
    )
    return fit, supports.sum(1), terms[:k] / scale[:k]


def _supports(root, linear, gram, k: int, lam: float):
    """Parameters in each edge's estimate: those that the loss or the edge itself depends on."""
    mean = linear.mean(0)
    q = len(mean)
    # The node's own terms carry no penalty, so they are profiled out.
    onto = np.linalg.solve(gram[:k, :k], gram[:k, k:])
    partial = gram[k:, k:] - gram[k:, :k] @ onto
    edge_root, edge_linear = root[:, k:] - root[:, :k] @ onto, linear[:, k:] - linear[:, :k] @ onto
    slope = mean[k:] - mean[:k] @ onto
    own = root[:, :k] @ np.linalg.solve(gram[:k, :k], mean[:k])
    coef = np.zeros(q - k)
    for _ in range(N_LOADINGS):
        fitted = edge_root @ coef - own
        loading = np.std(edge_root * fitted[:, None] + edge_linear, axis=0)
        coef = _selection(partial, slope, lam * loading)
    selected = np.concatenate([np.ones(k, dtype=bool), coef != 0])
    loading = np.sqrt(edge_root.T**2 @ edge_root**2 / len(root))
    np.fill_diagonal(loading, np.inf)
    along = _selection(partial, -partial, lam * loading)
    supports = np.zeros((q - k, q), dtype=bool)
    supports[:, k:] = (along != 0) | np.eye(q - k, dtype=bool)
    return supports | selected, selected


def _selection(gram, linear, penalty):
    return lasso(gram, linear, penalty, tol=SELECTION_TOLERANCE, max_iter=SELECTION_SWEEPS).coef


def _influence(family, weight, Z, fits, interaction, total) -> Iterator[np.ndarray]:
    """Influence values (chunk, p, p) of the samples on the edges."""
    n, p = Z.shape
    step = max(1, CHUNK_NUMBERS // p**2)
    for begin in range(0, n, step):
        rows = Z[begin : begin + step]
        values = np.zeros((len(rows), p, p))
        for node, fit in enumerate(fits):
            others = others_of(node, p)
            equation = node_equation(family, weight, rows, node)
            residual = equation.root @ fit.directions.T
            gap = interaction[node, others] - fit.estimate
            fitted = equation.root @ fit.coef.T + gap * residual
            values[:, node, others] = residual * fitted + equation.linear @ fit.directions.T
        yield -(values + values.transpose(0, 2, 1)) / total
