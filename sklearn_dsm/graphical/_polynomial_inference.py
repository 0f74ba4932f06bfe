"""Sandwich standard errors of the coefficients of a polynomial family, and tests of edges."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy import stats

from ._polynomial_fits import PlainFit
from ._polynomial_solvers import inverse


@dataclass(frozen=True)
class Inference:
    """Standard errors and p-values, NaN for terms that were deleted.

    Attributes
    ----------
    coef_stderr, coef_pvalues : ndarray of shape (n_terms,)
    local_stderr : ndarray of shape (n_features, n_terms)
        0 for terms that do not hold the feature.
    edge_pvalues : ndarray of shape (n_features, n_features)
        1 where no term holds both features.
    """

    coef_stderr: np.ndarray
    coef_pvalues: np.ndarray
    local_stderr: np.ndarray
    edge_pvalues: np.ndarray


def infer(fit: PlainFit, exponents: np.ndarray, kept: np.ndarray, coef: np.ndarray) -> Inference:
    """Sandwich estimates of fits without penalty.

    A sample's influence on the coefficients of node i is -H^{-1} times the gradient of its loss;
    the influence on a coefficient is the mean over the nodes of the term.
    """
    d, n_terms = exponents.shape[1], len(exponents)
    nodes = [node.only(kept) for node in fit.equations.nodes]
    parts = [_Part(fit, node) for node in nodes]
    n_nodes = (exponents > 0).sum(1)
    edges = _edges(exponents, kept)
    covariances = {edge: np.zeros((len(terms), len(terms))) for edge, terms in edges.items()}
    variance, local_variance = np.zeros(n_terms), np.zeros((d, n_terms))
    for rows, values in fit.equations.batches(fit.Z, 2 * n_terms):
        weight, influence = fit.weight[rows], np.zeros((len(values), n_terms))
        for i, (node, part) in enumerate(zip(nodes, parts, strict=True)):
            local = node.gradients(values, part.theta) @ part.to_influence
            local_variance[i, node.terms] += weight @ local**2
            influence[:, node.terms] += local / n_nodes[node.terms]
        variance += weight @ influence**2
        for edge, terms in edges.items():
            own = influence[:, terms]
            covariances[edge] += (own * weight[:, None]).T @ own
    total = fit.weight.sum()
    stderr = np.where(kept, np.sqrt(variance) / total, np.nan)
    pvalues = 2 * stats.norm.sf(np.abs(coef) / stderr)
    local_stderr = np.where(kept, np.sqrt(local_variance) / total, np.nan)
    edge_pvalues = np.ones((d, d))
    for (i, j), terms in edges.items():
        pvalue = _wald(coef[terms], covariances[i, j] / total**2)
        edge_pvalues[i, j] = edge_pvalues[j, i] = pvalue
    return Inference(stderr, pvalues, local_stderr, edge_pvalues)


class _Part:
    """A node's solution for standardised features, and from gradients to influences."""

    def __init__(self, fit: PlainFit, node):
        H, b = node.equations(fit.gram, fit.equations.constant)
        inverted = inverse(H)
        self.theta = -inverted @ b
        self.to_influence = -inverted @ fit.matrix(node).T


def _edges(exponents, kept) -> dict[tuple[int, int], np.ndarray]:
    """The terms that hold both of a pair of features."""
    held = (exponents > 0) & kept[:, None]
    pairs = combinations(range(exponents.shape[1]), 2)
    terms = {pair: np.flatnonzero(held[:, pair].all(1)) for pair in pairs}
    return {pair: own for pair, own in terms.items() if len(own)}


def _wald(coef, covariance) -> float:
    """p-value of the hypothesis that all these coefficients are zero."""
    unit = np.sqrt(np.diag(covariance))
    scaled = coef / unit
    correlation = covariance / np.outer(unit, unit)
    return float(stats.chi2.sf(scaled @ np.linalg.lstsq(correlation, scaled)[0], len(coef)))
