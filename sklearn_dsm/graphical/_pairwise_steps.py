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
# Numbers in the selections of the nodes that are fitted together.
GROUP_NUMBERS = 2**16
# A selection need not know the coefficients better than this, in units of their features.
SELECTION_TOLERANCE, SELECTION_SWEEPS, N_LOADINGS = 1e-4, 200, 2


class Equation(NamedTuple):
    """One node's samples: square roots of Gamma (n, q), and g (n, q)."""

    root: np.ndarray
    linear: np.ndarray


class EdgeEstimates(NamedTuple):
    interaction: np.ndarray  # (p, p), symmetric with zero diagonal
    covariance: np.ndarray  # (p, p, p), of the edges of each node
    null_variance: np.ndarray  # (p, p), of an edge if there is none
    dof: np.ndarray  # (p, p), degrees of freedom of the variance of an edge
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
    size = max(1, GROUP_NUMBERS // p**2)
    groups = Parallel(n_jobs=n_jobs)(
        delayed(_group_fit)(family, weight, Z, range(begin, min(begin + size, p)), lam)
        for begin in range(0, p, size)
    )
    fits = [fit for group in groups for fit in group]
    curvature, own = np.zeros((p, p)), np.zeros((p, p))
    sizes = np.zeros((p, p), dtype=int)
    for node, (equations, support, _) in enumerate(fits):
        others = others_of(node, p)
        curvature[node, others], own[node, others] = equations.curvature, equations.estimate
        sizes[node, others] = support
    # The edge itself is in the support of both of its nodes.
    sizes = sizes + sizes.T - 1
    np.fill_diagonal(sizes, 0)
    total = curvature + curvature.T + np.eye(p)
    weighted = curvature * own
    interaction = (weighted + weighted.T) / total
    moments = np.zeros((p, p, p))
    null_moments, fourth_moments = np.zeros((p, p)), np.zeros((p, p))
    equations = [fit[0] for fit in fits]
    for z, null in _influence(family, weight, Z, equations, interaction, total):
        moments += z.transpose(1, 2, 0) @ z.transpose(1, 0, 2)
        null_moments += (null**2).sum(0)
        fourth_moments += (z**4).sum(0)
    node_coef = np.stack([fit[2] for fit in fits])
    dof = _degrees_of_freedom(np.diagonal(moments, axis1=1, axis2=2), fourth_moments, n)
    # Each sample gives an edge two equations, which fit too well by the parameters estimated.
    inflation = np.sqrt(2 * n / np.maximum(2 * n - sizes, 1))
    moments *= inflation[:, :, None] * inflation[:, None, :] / n**2
    null_variance = null_moments * inflation**2 / n**2
    return EdgeEstimates(interaction, moments, null_variance, dof, node_coef, sizes)


def _degrees_of_freedom(squares, fourths, n: int) -> np.ndarray:
    """Those of the chi-squared law with the variation of a mean of n squares; NaN without any.

    A mean of n squares of kurtosis k has the relative variance (k - 1) / n, and a chi-squared
    variable with m degrees of freedom 2 / m.
    """
    squares = np.where(squares > 0, squares, np.nan)
    kurtosis = n * fourths / squares**2
    return 2 * n / np.maximum(kurtosis - 1, 2 / n)


class Scaled(NamedTuple):
    """A node's equation for statistics of unit size."""

    root: np.ndarray  # (n, q)
    linear: np.ndarray  # (n, q)
    scale: np.ndarray  # (q,)
    gram: np.ndarray  # (q, q)


def _scaled(equation: Equation) -> Scaled:
    scale = np.sqrt((equation.root**2).mean(0))
    root = equation.root / scale
    return Scaled(root, equation.linear / scale, scale, root.T @ root / len(root))


def _group_fit(family: Family, weight: str, Z, nodes, lam: float | None) -> list:
    """Of each node: profiled edges, the sizes of their supports, and the node's own terms."""
    scaled = [_scaled(node_equation(family, weight, Z, node)) for node in nodes]
    k, q = len(family.node_powers), len(scaled[0].scale)
    if lam is None:
        selected = np.ones((len(nodes), q), dtype=bool)
        supports = np.ones((len(nodes), q - k, q), dtype=bool)
    else:
        supports, selected = _supports(scaled, k, lam)
    return [_node_fit(*each, k) for each in zip(scaled, supports, selected, strict=True)]


def _node_fit(scaled: Scaled, supports, selected, k: int):
    if supports.sum(1).max() >= len(scaled.root):
        raise np.linalg.LinAlgError("as many parameters as samples")
    mean, edges = scaled.linear.mean(0), np.arange(k, len(scaled.scale))
    fit = edge_equations(scaled.gram, mean, edges, supports)
    inside = np.flatnonzero(selected)
    terms = -np.linalg.solve(scaled.gram[np.ix_(inside, inside)], mean[inside])
    # Back to the units of the statistics; an edge's direction has a 1 at the edge itself.
    own = scaled.scale[edges]
    fit = EdgeEquation(
        fit.curvature * own**2,
        fit.estimate / own,
        fit.directions * own[:, None] / scaled.scale,
        fit.coef / scaled.scale,
    )
    return fit, supports.sum(1), terms[:k] / scaled.scale[:k]


class Partial(NamedTuple):
    """A node's equation in its edges, with the node's own terms profiled out."""

    root: np.ndarray  # (n, q')
    linear: np.ndarray  # (n, q')
    fitted: np.ndarray  # (n,), by the node's own terms
    gram: np.ndarray  # (q', q')
    slope: np.ndarray  # (q',)

    def loading(self, coef: np.ndarray) -> np.ndarray:
        """Standard deviation of the derivative of the loss in each edge."""
        fitted = self.fitted + self.root @ coef
        return np.std(self.root * fitted[:, None] + self.linear, axis=0)

    def own_loading(self) -> np.ndarray:
        """The same for the regressions of the edges on each other, (q', q')."""
        loading = np.sqrt(self.root.T**2 @ self.root**2 / len(self.root))
        np.fill_diagonal(loading, np.inf)
        return loading


def _partial(scaled: Scaled, k: int) -> Partial:
    root, linear, _, gram = scaled
    own, mean = gram[:k, :k], linear[:, :k].mean(0)
    onto = np.linalg.solve(own, gram[:k, k:])
    return Partial(
        root[:, k:] - root[:, :k] @ onto,
        linear[:, k:] - linear[:, :k] @ onto,
        -root[:, :k] @ np.linalg.solve(own, mean),
        gram[k:, k:] - gram[k:, :k] @ onto,
        linear[:, k:].mean(0) - mean @ onto,
    )


def _supports(scaled: list[Scaled], k: int, lam: float):
    """Parameters in each edge's estimate, and those that each node's loss needs."""
    parts = [_partial(each, k) for each in scaled]
    gram, slope = (np.stack([each[i] for each in parts]) for i in (3, 4))
    coef = np.zeros_like(slope)
    for _ in range(N_LOADINGS):
        loadings = [part.loading(each) for part, each in zip(parts, coef, strict=True)]
        coef = _selection(gram, slope, lam * np.stack(loadings))
    own = np.ones((len(parts), k), dtype=bool)
    selected = np.concatenate([own, coef != 0], axis=1)
    loading = np.stack([part.own_loading() for part in parts])
    along = _selection(gram[:, None], -gram, lam * loading)
    supports = np.repeat(selected[:, None], gram.shape[1], axis=1)
    supports[..., k:] |= (along != 0) | np.eye(gram.shape[1], dtype=bool)
    return supports, selected


def _selection(gram, linear, penalty):
    return lasso(gram, linear, penalty, tol=SELECTION_TOLERANCE, max_iter=SELECTION_SWEEPS).coef


def _influence(family, weight, Z, fits, interaction, total) -> Iterator[tuple]:
    """Influence values (chunk, p, p) of the samples on the edges.

    At the estimates, and where an edge is zero and its other parameters are at their best. Both
    are those of leaving a sample out: divided by one minus the sample's share in the curvature.
    """
    n, p = Z.shape
    step = max(1, CHUNK_NUMBERS // p**2)
    for begin in range(0, n, step):
        rows = Z[begin : begin + step]
        values, squares = np.zeros((len(rows), p, p)), np.zeros((len(rows), p, p))
        for node, fit in enumerate(fits):
            others = others_of(node, p)
            equation = node_equation(family, weight, rows, node)
            residual = equation.root @ fit.directions.T
            gap = interaction[node, others] - fit.estimate
            fitted = equation.root @ fit.coef.T + gap * residual
            values[:, node, others] = residual * fitted + equation.linear @ fit.directions.T
            squares[:, node, others] = residual**2
        values += values.transpose(0, 2, 1)
        squares += squares.transpose(0, 2, 1)
        rest = total * (1 - squares / (n * total))
        yield -values / rest, (interaction * squares - values) / rest
