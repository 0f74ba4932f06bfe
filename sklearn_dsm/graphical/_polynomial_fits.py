"""Local fits of a polynomial family, in the units of the input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from .._polynomials.monomials import in_shifted_units, maximal_cliques, merged
from .._polynomials.polynomial import Polynomial
from ._polynomial_moments import LocalEquations
from ._polynomial_solvers import L1Problem, SingularEquations, inverse


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
        self.converged, self.n_iter = True, 0

    @property
    def unshrunk(self) -> PlainFit:
        """The fit itself, whose estimates have a sandwich covariance."""
        return self

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


@dataclass(frozen=True)
class L1:
    """How coefficients are shrunk: a ball of radius ``bound``, or ``alpha`` times the norm."""

    alpha: float
    bound: float | None
    tol: float
    max_iter: int


class L1Fit:
    """Fits with an l1 penalty or in an l1 ball, of the coefficients in the units of the input."""

    def __init__(self, exponents, base: Polynomial, X, weight, l1: L1):
        self.equations, self.l1 = LocalEquations(exponents, base), l1
        self.gram = self.equations.moments(X, weight)
        self.converged, self.n_iter = True, 0

    @property
    def unshrunk(self) -> None:
        """Shrunk estimates have no standard errors."""
        return None

    def solve(self, kept: np.ndarray) -> np.ndarray:
        """As :meth:`PlainFit.solve`.

        Raises
        ------
        UnboundedLoss
        """
        return np.array([self.solve_at(i, kept) for i in range(len(self.equations.nodes))])

    def solve_at(self, i: int, kept: np.ndarray) -> np.ndarray:
        """The coefficients (n_terms,) at one node."""
        node = self.equations.nodes[i].only(kept)
        H, b = node.equations(self.gram, self.equations.constant)
        problem = L1Problem(H, b, self.l1.tol, self.l1.max_iter)
        local = np.zeros(len(kept))
        if self.l1.bound is None:
            local[node.terms] = problem.penalised(self.l1.alpha)
        else:
            local[node.terms] = problem.bounded(self.l1.bound)
        self.converged = self.converged and problem.converged
        self.n_iter += problem.n_iter
        return local


class BoundedFit:
    """Fits in an l1 ball, which are those without it where these lie inside."""

    def __init__(self, plain: PlainFit, bounded: L1Fit, bound: float):
        self.plain, self.bounded, self.bound = plain, bounded, bound
        self.is_active = True

    @property
    def unshrunk(self) -> PlainFit | None:
        """The fit without bound, where the bound changes nothing."""
        return None if self.is_active else self.plain

    @property
    def converged(self) -> bool:
        return self.bounded.converged

    @property
    def n_iter(self) -> int:
        return self.bounded.n_iter

    def solve(self, kept: np.ndarray) -> np.ndarray:
        """As :meth:`PlainFit.solve`."""
        try:
            local = self.plain.solve(kept)
        except SingularEquations:
            self.is_active = True
            return self.bounded.solve(kept)
        outside = [i for i, own in enumerate(local) if np.abs(own).sum() > self.bound]
        self.is_active = bool(outside)
        for i in outside:
            local[i] = self.bounded.solve_at(i, kept)
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
