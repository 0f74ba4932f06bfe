"""Monomials as rows of exponents: which there are, their values, and their derivatives."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
from scipy import sparse
from scipy.special import comb


def family_exponents(
    n_features: int, degree: int, interaction_order: int, multilinear: bool
) -> np.ndarray:
    """Exponents (n_terms, n_features) of all monomials of a family, without the constant.

    They are ordered by degree and then by feature, as
    :class:`sklearn.preprocessing.PolynomialFeatures` orders them.
    """
    rows = []
    for size in range(1, min(interaction_order, n_features, degree) + 1):
        largest = 1 if multilinear else degree - size + 1
        powers = [p for p in product(range(1, largest + 1), repeat=size) if sum(p) <= degree]
        for support in combinations(range(n_features), size):
            block = np.zeros((len(powers), n_features), dtype=int)
            block[:, support] = powers
            rows.append(block)
    exponents = np.concatenate(rows)
    return exponents[np.lexsort([*-exponents.T[::-1], exponents.sum(1)])]


def monomials(X: np.ndarray, exponents: np.ndarray) -> np.ndarray:
    """Values (n_samples, n_terms) of the monomials."""
    n, d = X.shape
    powers = np.empty((exponents.max(initial=0) + 1, d, n))
    powers[0] = 1.0
    for p in range(1, len(powers)):
        np.multiply(powers[p - 1], X.T, out=powers[p])
    table = powers.reshape(-1, n)
    values = np.ones((len(exponents), n))
    for feature, power in _factors(exponents):
        values *= table[power * d + feature]
    return values.T


def _factors(exponents: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Feature and power of every term's first factor, second factor and so on; 1 where none."""
    order = np.argsort(exponents == 0, axis=1, kind="stable")
    width = int((exponents > 0).sum(1).max(initial=0))
    rows = np.arange(len(exponents))
    return [(order[:, a], exponents[rows, order[:, a]]) for a in range(width)]


def derivative(exponents: np.ndarray, feature: int) -> tuple[np.ndarray, np.ndarray]:
    """Factors and exponents of the derivatives by one feature; factor 0 where it is zero."""
    factor = exponents[:, feature]
    lowered = exponents.copy()
    lowered[:, feature] = np.maximum(factor - 1, 0)
    return factor.astype(float), lowered


def merged(*exponents: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """Different rows of several tables, and where each table's rows are among them."""
    unique, inverse = np.unique(np.concatenate(exponents), axis=0, return_inverse=True)
    ends = np.cumsum([len(table) for table in exponents])[:-1]
    return unique, np.split(inverse.ravel(), ends)


def in_shifted_units(
    exponents: np.ndarray, shift: np.ndarray, scale: np.ndarray
) -> tuple[np.ndarray, sparse.csr_array]:
    """What monomials of (x - shift) / scale are as polynomials of x.

    Returns
    -------
    ndarray of shape (n_out, n_features)
        Exponents of the monomials of x.
    sparse array of shape (n_out, n_terms)
        The coefficients of each monomial of the scaled features, one column each.
    """
    rows: dict[tuple[int, ...], int] = {}
    where, term, value = [], [], []
    for k, powers in enumerate(exponents):
        support = np.flatnonzero(powers)
        own = powers[support]
        unit = np.prod(scale[support] ** -own.astype(float))
        for kept in product(*(range(0 if shift[j] else powers[j], powers[j] + 1) for j in support)):
            lost = own - kept
            row = np.zeros_like(powers)
            row[support] = kept
            where.append(rows.setdefault(tuple(row.tolist()), len(rows)))
            term.append(k)
            value.append(unit * np.prod(comb(own, kept) * (-shift[support]) ** lost))
    out = np.array(list(rows), dtype=int).reshape(len(rows), exponents.shape[1])
    shape = (len(rows), len(exponents))
    return out, sparse.csr_array((value, (where, term)), shape=shape)


def maximal_cliques(exponents: np.ndarray) -> list[tuple[int, ...]]:
    """Supports of the monomials that no other support holds strictly, sorted."""
    supports = {frozenset(np.flatnonzero(row).tolist()) for row in exponents} - {frozenset()}
    holders: dict[int, list[frozenset[int]]] = {}
    for support in supports:
        for feature in support:
            holders.setdefault(feature, []).append(support)
    found = (s for s in supports if not any(s < other for other in holders[min(s)]))
    return sorted(tuple(sorted(s)) for s in found)
