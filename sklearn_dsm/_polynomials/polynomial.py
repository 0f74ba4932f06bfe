"""Polynomials as log-densities: values, gradients, second derivatives, growth."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
from sklearn.utils import gen_batches

from .monomials import derivative, in_shifted_units, merged, monomials

# Numbers held at once while samples are evaluated.
CHUNK_NUMBERS = 2**21
# How the sphere is searched for a direction in which a polynomial grows.
N_DIRECTIONS, N_STEPS, LEAST_GROWTH = 2000, 60, 1e-9


@dataclass(frozen=True)
class Polynomial:
    """Sum of monomials with coefficients.

    Attributes
    ----------
    exponents : ndarray of shape (n_terms, n_features)
    coef : ndarray of shape (n_terms,)
    """

    exponents: np.ndarray
    coef: np.ndarray

    def __add__(self, other: Polynomial) -> Polynomial:
        unique, (own, others) = merged(self.exponents, other.exponents)
        coef = np.zeros(len(unique))
        np.add.at(coef, own, self.coef)
        np.add.at(coef, others, other.coef)
        return Polynomial(unique, coef)

    @property
    def n_features(self) -> int:
        return self.exponents.shape[1]

    def without_zeros(self) -> Polynomial:
        """The same polynomial, without terms of coefficient zero and without the constant."""
        kept = (self.coef != 0) & (self.exponents.sum(1) > 0)
        return Polynomial(self.exponents[kept], self.coef[kept])

    def of_scaled(self, shift: np.ndarray, scale: np.ndarray) -> Polynomial:
        """The polynomial of z whose value at z = (x - shift) / scale is the value of self at x."""
        out, matrix = in_shifted_units(self.exponents, -shift / scale, 1 / scale)
        return Polynomial(out, matrix @ self.coef)

    def derivative(self, feature: int) -> Polynomial:
        factor, lowered = derivative(self.exponents, feature)
        return Polynomial(lowered[factor > 0], (self.coef * factor)[factor > 0])

    def value(self, X: np.ndarray) -> np.ndarray:
        """(n_samples,)"""
        return evaluated([self], X)[:, 0]

    def gradient(self, X: np.ndarray) -> np.ndarray:
        """(n_samples, n_features)"""
        return evaluated([self.derivative(j) for j in range(self.n_features)], X)

    def hessian(self, X: np.ndarray) -> np.ndarray:
        """(n_samples, n_features, n_features)"""
        d = self.n_features
        pairs = list(combinations_with_replacement(range(d), 2))
        slopes = [self.derivative(j) for j in range(d)]
        values = evaluated([slopes[i].derivative(j) for i, j in pairs], X)
        hessian = np.empty((len(X), d, d))
        for (i, j), value in zip(pairs, values.T, strict=True):
            hessian[:, i, j] = hessian[:, j, i] = value
        return hessian

    def score_matching_loss(self, X: np.ndarray) -> np.ndarray:
        """(n_samples,): the Laplacian plus half the squared gradient."""
        d = self.n_features
        slopes = [self.derivative(j) for j in range(d)]
        curvatures = [slope.derivative(j) for j, slope in enumerate(slopes)]
        both = evaluated(slopes + curvatures, X)
        return both[:, d:].sum(1) + 0.5 * (both[:, :d] ** 2).sum(1)


def evaluated(polynomials: list[Polynomial], X: np.ndarray) -> np.ndarray:
    """Values (n_samples, n_polynomials) of several polynomials with common monomials."""
    unique, indices = merged(*(p.exponents for p in polynomials))
    matrix = np.zeros((len(unique), len(polynomials)))
    for column, (p, index) in enumerate(zip(polynomials, indices, strict=True)):
        np.add.at(matrix[:, column], index, p.coef)
    values = np.empty((len(X), len(polynomials)))
    n_at_once = max(1, CHUNK_NUMBERS // (len(unique) + X.shape[1] + len(polynomials)))
    for rows in gen_batches(len(X), n_at_once):
        values[rows] = monomials(X[rows], unique) @ matrix
    return values


def base_measure(n_features: int, base_degree: int | None) -> Polynomial:
    """The polynomial -sum_i x_i^base_degree; zero for None."""
    if base_degree is None:
        return Polynomial(np.zeros((0, n_features), dtype=int), np.zeros(0))
    return Polynomial(base_degree * np.eye(n_features, dtype=int), -np.ones(n_features))


def growing_direction(polynomial: Polynomial) -> np.ndarray | None:
    """A direction in which the polynomial does not fall, so that its exponential has no integral.

    Each axis is looked at by itself, and the terms of the highest degree in many directions and
    uphill from the best of these.

    Parameters
    ----------
    polynomial : Polynomial
        Of features in comparable units.

    Returns
    -------
    ndarray of shape (n_features,) or None
        None where no such direction was found.
    """
    polynomial = polynomial.without_zeros()
    d = polynomial.n_features
    degrees = polynomial.exponents.sum(1)
    for j in range(d):
        alone = polynomial.exponents[:, j] == degrees
        top = degrees[alone].max(initial=0)
        if top % 2 or not (polynomial.coef[alone & (degrees == top)] < 0).all() or not top:
            return np.eye(d)[j]
    highest = degrees == degrees.max()
    exponents = polynomial.exponents[highest]
    coef = polynomial.coef[highest]
    form = Polynomial(exponents, coef / np.abs(coef).max())
    directions = _uphill(form, np.random.default_rng(0).standard_normal((N_DIRECTIONS, d)))
    growth = form.value(directions)
    best = growth.argmax()
    return directions[best] if growth[best] > LEAST_GROWTH else None


def _uphill(form: Polynomial, directions: np.ndarray) -> np.ndarray:
    """Unit vectors, the best of which have climbed the form on the sphere."""
    directions = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    best = directions[np.argsort(form.value(directions))[-50:]]
    for k in range(N_STEPS):
        slope = form.gradient(best)
        slope -= (slope * best).sum(1, keepdims=True) * best
        length = np.linalg.norm(slope, axis=1, keepdims=True)
        best = best + 0.3 * 0.9**k * slope / np.maximum(length, np.finfo(float).tiny)
        best /= np.linalg.norm(best, axis=1, keepdims=True)
    return np.concatenate([directions, best])
