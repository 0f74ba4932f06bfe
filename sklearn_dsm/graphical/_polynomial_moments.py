"""The equations of score matching at each node of a polynomial family, from one table of moments.

At node i, with the terms f_k that hold x_i, F = (d_i f_k) and the base measure h, the loss is
theta' H theta / 2 + b' theta with H = E[F F'] and b = E[d_ii f + F d_i log h]. All entries are
moments of pairs of derivative monomials, many of which nodes share.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.utils import gen_batches

from .._polynomials.monomials import derivative, merged, monomials
from .._polynomials.polynomial import CHUNK_NUMBERS, Polynomial


@dataclass(frozen=True)
class Node:
    """What enters one node's equations, by position among the monomials.

    Attributes
    ----------
    terms : ndarray of shape (n_own,)
        Which terms of the family hold the node's feature.
    slope, slope_factor : ndarray of shape (n_own,)
        Monomial and factor of the first derivative of each of these terms.
    curvature, curvature_factor : ndarray of shape (n_own,)
        The same of the second derivative.
    base, base_factor : ndarray of shape (n_base,)
        The same of the terms of the derivative of the log base measure.
    """

    terms: np.ndarray
    slope: np.ndarray
    slope_factor: np.ndarray
    curvature: np.ndarray
    curvature_factor: np.ndarray
    base: np.ndarray
    base_factor: np.ndarray

    def only(self, kept: np.ndarray) -> Node:
        """The node of a family with fewer terms, which a mask over all terms tells."""
        own = kept[self.terms]
        return Node(
            self.terms[own],
            self.slope[own],
            self.slope_factor[own],
            self.curvature[own],
            self.curvature_factor[own],
            self.base,
            self.base_factor,
        )

    def equations(self, gram: np.ndarray, constant: int) -> tuple[np.ndarray, np.ndarray]:
        """H (n_own, n_own) and b (n_own,)."""
        factor = self.slope_factor
        H = factor[:, None] * gram[np.ix_(self.slope, self.slope)] * factor
        b = self.curvature_factor * gram[self.curvature, constant]
        return H, b + factor * (gram[np.ix_(self.slope, self.base)] @ self.base_factor)

    def gradients(self, values: np.ndarray, theta: np.ndarray) -> np.ndarray:
        """Gradient (n_samples, n_own) of each sample's loss, from the monomials' values."""
        F = values[:, self.slope] * self.slope_factor
        score = F @ theta + values[:, self.base] @ self.base_factor
        return F * score[:, None] + values[:, self.curvature] * self.curvature_factor


class LocalEquations:
    """The nodes of a family, and the monomials whose moments their equations need.

    Attributes
    ----------
    nodes : list of Node
    monomials : ndarray of shape (n_monomials, n_features)
        Exponents.
    constant : int
        Which monomial is 1.
    """

    def __init__(self, exponents: np.ndarray, base: Polynomial):
        d = exponents.shape[1]
        tables, factors, terms = [np.zeros((1, d), dtype=int)], [], []
        for j in range(d):
            own = np.flatnonzero(exponents[:, j])
            slope_factor, slope = derivative(exponents[own], j)
            second, curvature = derivative(slope, j)
            base_slope = base.derivative(j)
            tables += [slope, curvature, base_slope.exponents]
            factors.append((slope_factor, slope_factor * second, base_slope.coef))
            terms.append(own)
        self.monomials, (constant, *where) = merged(*tables)
        self.constant = int(constant[0])
        self.nodes = []
        for j, (first, second, of_base) in enumerate(factors):
            slope, curvature, base_index = where[3 * j : 3 * j + 3]
            self.nodes.append(Node(terms[j], slope, first, curvature, second, base_index, of_base))

    def batches(self, X: np.ndarray, width: int = 0):
        """Slices of the samples, and the monomials' values there, in bounded memory."""
        n_at_once = max(1, CHUNK_NUMBERS // (len(self.monomials) + width))
        for rows in gen_batches(len(X), n_at_once):
            yield rows, monomials(X[rows], self.monomials)

    def moments(self, X: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """Weighted means (n_monomials, n_monomials) of the products of all pairs of monomials."""
        gram = np.zeros((len(self.monomials), len(self.monomials)))
        for rows, values in self.batches(X):
            gram += (values * weight[rows, None]).T @ values
        return gram / weight.sum()
