"""Samples of densities whose logarithm is a polynomial, by Metropolis within Gibbs."""

from __future__ import annotations

import numpy as np
from sklearn.utils import gen_batches

from .monomials import merged, monomials
from .polynomial import CHUNK_NUMBERS, Polynomial

# Proposals per feature and sweep; steps from an eighth of the scale to three times the scale.
N_PROPOSALS, LOG2_STEPS = 3, (-3.0, 1.5)
# After these sweeps the chains' own spread is the scale, for which there are so many chains.
ADAPTED_AFTER, MIN_CHAINS = (5, 10, 20, 40), 64


class Conditional:
    """One feature's log-density given the others, a polynomial in this feature."""

    def __init__(self, polynomial: Polynomial, feature: int):
        own = polynomial.exponents[:, feature] > 0
        powers = polynomial.exponents[own, feature]
        others = polynomial.exponents[own].copy()
        others[:, feature] = 0
        unique, (index,) = merged(others)
        self.features = np.flatnonzero(unique.any(0))
        self.exponents = unique[:, self.features]
        self.matrix = np.zeros((len(unique), powers.max(initial=0)))
        np.add.at(self.matrix, (index, powers - 1), polynomial.coef[own])

    def coefficients(self, X: np.ndarray) -> np.ndarray:
        """Coefficients (degree, n_samples) of the powers 1, 2, ... of the feature."""
        return self.matrix.T @ monomials(X[:, self.features], self.exponents).T


def horner(coefficients: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The polynomial without constant whose coefficients of 1, 2, ... are the rows."""
    value = np.zeros_like(x)
    for c in coefficients[::-1]:
        value = (value + c) * x
    return value


def sample_chains(polynomial: Polynomial, start: np.ndarray, n_sweeps: int, random) -> np.ndarray:
    """The last states of independent chains, one for each row of the start.

    Parameters
    ----------
    polynomial : Polynomial
        The log-density, up to a constant, of features of about unit scale.
    start : ndarray of shape (n_chains, n_features)
        At least ``MIN_CHAINS`` rows, whose spread adapts the steps.
    n_sweeps : int
    random : RandomState or Generator

    Returns
    -------
    ndarray of shape (n_chains, n_features)
    """
    polynomial = polynomial.without_zeros()
    conditionals = [Conditional(polynomial, j) for j in range(polynomial.n_features)]
    X = start.copy()
    n_at_once = max(MIN_CHAINS, CHUNK_NUMBERS // len(polynomial.coef))
    for rows in gen_batches(len(X), n_at_once, min_batch_size=MIN_CHAINS):
        _run(conditionals, X[rows], n_sweeps, random)
    return X


def _run(conditionals, X, n_sweeps, random) -> None:
    """Advance chains in place."""
    scale = np.ones(X.shape[1])
    for sweep in range(n_sweeps):
        if sweep in ADAPTED_AFTER and len(X) >= MIN_CHAINS:
            spread = X.std(0)
            scale = np.where(spread > 0, spread, scale)
        for j, conditional in enumerate(conditionals):
            coefficients = conditional.coefficients(X)
            _move(X[:, j], coefficients, scale[j], random)


def _move(x, coefficients, scale, random) -> None:
    """Metropolis steps of one feature in place, of many lengths."""
    current = horner(coefficients, x)
    for _ in range(N_PROPOSALS):
        step = scale * np.exp2(random.uniform(*LOG2_STEPS, size=len(x)))
        proposal = x + step * random.standard_normal(len(x))
        proposed = horner(coefficients, proposal)
        accepted = np.log(random.uniform(size=len(x))) < proposed - current
        x[accepted] = proposal[accepted]
        current[accepted] = proposed[accepted]
