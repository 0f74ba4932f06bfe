"""Minima of quadratic losses: plain, with an l1 penalty, and in an l1 ball."""

from __future__ import annotations

import numpy as np
from scipy.linalg import cho_factor, cho_solve, lapack

from ._quadratic import UnboundedLoss

# What is left of a unit diagonal, given the others, where equations count as dependent.
MAX_LEFT = 1e-11
# Added to a unit diagonal, so that equations of any support have a solution.
RIDGE = 1e-11
# A solution so many times larger than the gradient at zero is one of the ridge alone.
MAX_GROWTH = 1e7
# Steps of Newton's method for the penalty whose solution has a given norm.
MAX_PENALTIES, NORM_TOLERANCE = 100, 1e-12


class SingularEquations(Exception):
    """The quadratic loss has no unique minimum."""


def inverse(H: np.ndarray) -> np.ndarray:
    """The inverse of a positive definite matrix, in units in which its diagonal is one.

    Raises
    ------
    SingularEquations
    """
    if not len(H):
        return H
    unit = np.sqrt(np.diag(H))
    if not (unit > 0).all():
        raise SingularEquations
    scaled = H / np.outer(unit, unit)
    _, _, rank, _ = lapack.dpstrf(scaled, tol=MAX_LEFT)
    if rank < len(H):
        raise SingularEquations
    factor, _ = lapack.dpotrf(scaled, lower=1)
    inverted, _ = lapack.dpotri(factor, lower=1)
    inverted = np.tril(inverted) + np.tril(inverted, -1).T
    return inverted / np.outer(unit, unit)


class L1Problem:
    """Quadratic loss theta' H theta / 2 + b' theta with an l1 norm, in units of a unit diagonal.

    Parameters
    ----------
    H : ndarray of shape (n_terms, n_terms)
    b : ndarray of shape (n_terms,)
    tol : float
        Largest violation of the conditions of a minimum, relative to the largest slope at zero.
    max_iter : int
        Largest number of steps.
    """

    def __init__(self, H, b, tol, max_iter):
        self.unit = 1 / np.sqrt(np.diag(H))
        self.H = H * np.outer(self.unit, self.unit) + RIDGE * np.eye(len(b))
        self.b = b * self.unit
        self.slack = tol * np.abs(self.b).max(initial=0)
        self.max_iter, self.n_iter, self.converged = max_iter, 0, True

    def penalised(self, alpha: float) -> np.ndarray:
        """The minimum with the penalty ``alpha * |theta|_1``.

        Raises
        ------
        UnboundedLoss
        """
        theta = self._minimum(alpha, np.zeros_like(self.b))
        if np.abs(theta).max(initial=0) > MAX_GROWTH * np.abs(self.b).max(initial=0):
            raise UnboundedLoss
        return theta * self.unit

    def bounded(self, bound: float) -> np.ndarray:
        """The minimum with ``|theta|_1 <= bound``, where the one without bound lies outside.

        The norm falls with the penalty, continuously and linearly from one support to the next,
        so that Newton's method finds the penalty whose solution lies on the bound.
        """
        low, high = 0.0, float(np.max(np.abs(self.b) / self.unit, initial=0))
        alpha, theta = high / 2, np.zeros_like(self.b)
        for _ in range(MAX_PENALTIES):
            theta = self._minimum(alpha, theta)
            excess = float(self.unit @ np.abs(theta)) - bound
            if abs(excess) <= NORM_TOLERANCE * bound or high - low <= NORM_TOLERANCE * high:
                break
            low, high = (alpha, high) if excess > 0 else (low, alpha)
            alpha -= excess / self._slope(theta)
            if not low < alpha < high:
                alpha = (low + high) / 2
        norm = float(self.unit @ np.abs(theta))
        return theta * self.unit * min(1.0, bound / norm if norm else 1.0)

    def _slope(self, theta: np.ndarray) -> float:
        """The derivative of the norm by the penalty."""
        on = np.flatnonzero(theta)
        pull = self.unit[on] * np.sign(theta[on])
        return -float(pull @ self._solve(on, pull)) if len(on) else -np.finfo(float).tiny

    def _solve(self, on: np.ndarray, right: np.ndarray) -> np.ndarray:
        return cho_solve(cho_factor(self.H[np.ix_(on, on)]), right)

    def _minimum(self, alpha: float, theta: np.ndarray) -> np.ndarray:
        """Feature-sign search: solve on a support with given signs, and change these one by one."""
        penalty = alpha * self.unit
        for _ in range(self.max_iter):
            gradient = self.H @ theta + self.b
            signs = np.sign(theta)
            missed = np.abs(gradient + penalty * signs)
            missed[theta == 0] = 0
            if missed.max(initial=0) <= self.slack:
                missed = np.where(theta == 0, np.abs(gradient) - penalty, 0)
                if missed.max(initial=0) <= self.slack:
                    return theta
                joining = missed.argmax()
                signs[joining] = -np.sign(gradient[joining])
            self.n_iter += 1
            on = np.flatnonzero(signs)
            target = -self._solve(on, self.b[on] + penalty[on] * signs[on])
            following = theta.copy()
            following[on] = self._best_on_way(on, theta[on], target, penalty[on])
            if (following == theta).all():
                # No step is left that the arithmetic can tell from none.
                return theta
            theta = following
        self.converged = False
        return theta

    def _best_on_way(self, on, start, target, penalty) -> np.ndarray:
        """The lowest of the target and the points before it where a sign changes."""
        way = target - start
        crossing = np.flatnonzero(start * target < 0)
        shares = np.append(-start[crossing] / way[crossing], 1.0)
        points = start + shares[:, None] * way
        points[np.arange(len(crossing)), crossing] = 0
        values = ((0.5 * points @ self.H[np.ix_(on, on)] + self.b[on]) * points).sum(1)
        return points[np.argmin(values + np.abs(points) @ penalty)]
