"""Local fits of a polynomial family, in the units of the input."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import sparse

from .._polynomials.monomials import in_shifted_units, maximal_cliques, merged
from .._polynomials.polynomial import Polynomial
from ._polynomial_moments import LocalEquations
from ._polynomial_solvers import Constraint, SingularEquations, constrained_minima, inverse


class PlainFit:
    """Fits without penalty, of standardised features, whose equations are well conditioned.

    The terms of a family that hold a feature span the same functions, but for those without this
    feature, whatever the units and origins of the features; so the units change nothing else.
    """

    def __init__(self, exponents, base: Polynomial, X, weight):
        self.shift = np.average(X, axis=0, weights=weight)
        self.scale = np.sqrt(np.average((X - self.shift) ** 2, axis=0, weights=weight))
        self.n_terms = len(exponents)
        self.Z, self.weight = (X - self.shift) / self.scale, weight
        self.equations = LocalEquations(exponents, base.of_scaled(self.shift, self.scale))
        self.gram = self.equations.moments(self.Z, weight)
        self.to_input = _to_input_units(exponents, self.shift, self.scale)

    def solve(self, kept: np.ndarray) -> np.ndarray:
        """Local coefficients (n_features, n_terms) of the kept terms; 0 for the others.

        Raises
        ------
        SingularEquations
        """
        local = np.zeros((len(self.equations.nodes), self.n_terms))
        for i, node in enumerate(self.equations.nodes):
            node = node.only(kept)
            H, b = node.equations(self.gram, self.equations.constant)
            local[i, node.terms] = self.matrix(node) @ (-inverse(H) @ b)
        return local

    def matrix(self, node) -> np.ndarray:
        """From a node's coefficients of standardised features to those of the input."""
        return self.to_input[node.terms][:, node.terms].toarray()


class ConstrainedFit:
    """Fits with an l1 penalty or in an l1 ball, of the coefficients in the units of the input."""

    def __init__(self, exponents, base, X, weight, constraint: Constraint, tol, max_iter):
        self.n_terms, self.constraint, self.tol, self.max_iter = (
            len(exponents),
            constraint,
            tol,
            max_iter,
        )
        self.equations = LocalEquations(exponents, base)
        self.gram = self.equations.moments(X, weight)
        self.converged, self.n_iter = True, 0

    def solve(self, kept: np.ndarray) -> np.ndarray:
        """As :meth:`PlainFit.solve`."""
        nodes = [node.only(kept) for node in self.equations.nodes]
        problems = [node.equations(self.gram, self.equations.constant) for node in nodes]
        solutions, reached, n_iter = constrained_minima(
            problems, self.constraint, self.tol, self.max_iter
        )
        self.converged, self.n_iter = self.converged and reached, self.n_iter + n_iter
        local = np.zeros((len(nodes), self.n_terms))
        for row, node, solution in zip(local, nodes, solutions, strict=True):
            row[node.terms] = solution
        return local


class BoundedFit:
    """Fits in an l1 ball, which are those without it where these lie inside."""

    def __init__(self, plain: PlainFit, constrained: ConstrainedFit, bound: float):
        self.plain, self.constrained, self.bound = plain, constrained, bound
        self.is_active = True

    def solve(self, kept: np.ndarray) -> np.ndarray:
        try:
            local = self.plain.solve(kept)
            outside = np.abs(local).sum(1) > self.bound
        except SingularEquations:
            return self.constrained.solve(kept)
        self.is_active = bool(outside.any())
        if self.is_active:
            local[outside] = self.constrained.solve(kept)[outside]
        return local


def recover_structure(
    exponents: np.ndarray, solve: Callable, threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """Delete the maximal cliques without a large coefficient, until all have one.

    Returns
    -------
    ndarray of shape (n_terms,)
        Which terms are kept.
    ndarray of shape (n_features, n_terms)
        The local coefficients of a fit with these terms.
    """
    supports = exponents > 0
    kept = np.ones(len(exponents), dtype=bool)
    for _ in range(int(supports.sum(1).max()) + 1):
        local = solve(kept)
        large = (np.abs(local) > threshold).any(0)
        small = np.zeros_like(kept)
        for clique in maximal_cliques(exponents[kept]):
            factors = kept & (supports.sum(1) == len(clique)) & supports[:, clique].all(1)
            if not large[factors].any():
                small |= factors
        if not small.any():
            return kept, local
        kept = kept & ~small
    return kept, solve(kept)


def _to_input_units(exponents, shift, scale) -> sparse.csr_array:
    """(n_terms, n_terms): a column for each term of standardised features."""
    out, matrix = in_shifted_units(exponents, shift, scale)
    _, (own, where) = merged(exponents, out)
    position = np.full(max(own.max(), where.max()) + 1, -1)
    position[own] = np.arange(len(own))
    row = position[where]
    coo = matrix.tocoo()
    # The constant is no term.
    held = row[coo.row] >= 0
    entries = (coo.data[held], (row[coo.row[held]], coo.col[held]))
    return sparse.csr_array(entries, shape=(len(exponents), len(exponents)))
