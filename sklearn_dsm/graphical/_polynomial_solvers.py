"""Minima of quadratic losses: plain, with an l1 penalty, and in an l1 ball."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import lapack

# What is left of a unit diagonal, given the others, where equations count as dependent.
MAX_LEFT = 1e-11
# How far a solution on a known support may miss the conditions of the others.
SLACK = 1e-6


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


@dataclass(frozen=True)
class Constraint:
    """A penalty ``alpha * |theta|_1`` or a bound ``|theta|_1 <= bound``; the other one is None."""

    alpha: float | None = None
    bound: float | None = None

    def proximal(self, v: np.ndarray, weight: np.ndarray, step: np.ndarray) -> np.ndarray:
        """The proximal operator of each row, where theta_k counts weight_k times in the norm."""
        if self.bound is not None:
            threshold = ball_multiplier(v, weight, self.bound)[:, None] * weight
        else:
            threshold = self.alpha * weight * step[:, None]
        return np.sign(v) * np.maximum(np.abs(v) - threshold, 0)

    def on_support(self, H, b, weight, theta) -> np.ndarray | None:
        """The exact solution with the signs of an approximate one; None where there is none."""
        support = np.flatnonzero(theta)
        pull = weight[support] * np.sign(theta[support])
        try:
            inner = inverse(H[np.ix_(support, support)])
        except SingularEquations:
            return None
        free, along = -inner @ b[support], inner @ pull
        multiplier = self.alpha
        if multiplier is None:
            norm = pull @ along
            multiplier = max(0.0, (pull @ free - self.bound) / norm) if norm > 0 else 0.0
        exact = np.zeros_like(theta)
        exact[support] = free - multiplier * along
        violation = np.abs(H @ exact + b) - multiplier * weight
        same = (np.sign(exact[support]) == np.sign(theta[support])).all()
        met = violation.max(initial=0) <= SLACK * np.abs(b).max(initial=0)
        return exact if same and met else None


def ball_multiplier(v: np.ndarray, weight: np.ndarray, bound: float) -> np.ndarray:
    """By how much of its weight each entry shrinks in the projection of rows onto an l1 ball."""
    size = np.abs(v)
    order = np.argsort(-size / weight, axis=1)
    sorted_size = np.take_along_axis(size, order, 1)
    sorted_weight = np.take_along_axis(weight, order, 1)
    norm = np.cumsum(sorted_weight * sorted_size, axis=1)
    multiplier = (norm - bound) / np.cumsum(sorted_weight**2, axis=1)
    last = (sorted_size > multiplier * sorted_weight).sum(1) - 1
    return np.maximum(np.take_along_axis(multiplier, last.clip(0)[:, None], 1)[:, 0], 0)


def constrained_minima(
    problems: list[tuple[np.ndarray, np.ndarray]], constraint: Constraint, tol: float, max_iter: int
) -> tuple[list[np.ndarray], bool, int]:
    """Minima of theta' H theta / 2 + b' theta under the constraint, of all problems at once.

    Accelerated proximal gradient descent finds the signs; linear equations then give the solution
    with these signs.

    Returns
    -------
    list of ndarray
    bool
        Whether every minimum was reached.
    int
        Iterations of the descent.
    """
    width = max(len(b) for _, b in problems)
    if not width:
        return [b for _, b in problems], True, 0
    H, b, weight = padded(problems, width)
    theta, reached, n_iter = _descend(H, b, weight, constraint, tol, max_iter)
    solutions = []
    for k, (_, own) in enumerate(problems):
        exact = constraint.on_support(H[k], b[k], weight[k], theta[k])
        if exact is not None:
            theta[k], reached[k] = exact, True
        solutions.append((theta[k] * weight[k])[: len(own)])
    return solutions, bool(reached.all()), n_iter


def padded(problems, width) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Problems of one size in units in which H has diagonal 1; the units are the weights."""
    H, b = np.zeros((len(problems), width, width)), np.zeros((len(problems), width))
    weight = np.ones((len(problems), width))
    for k, (own_H, own_b) in enumerate(problems):
        n = len(own_b)
        weight[k, :n] = 1 / np.sqrt(np.diag(own_H))
        H[k, :n, :n] = own_H * np.outer(weight[k, :n], weight[k, :n])
        b[k, :n] = own_b * weight[k, :n]
    return H, b, weight


def _descend(H, b, weight, constraint, tol, max_iter):
    largest = np.array([np.linalg.eigvalsh(each)[-1] for each in H])
    step = 1 / np.maximum(largest, np.finfo(float).tiny)
    theta = np.zeros_like(b)
    ahead, momentum = theta, np.ones(len(b))
    for n_iter in range(1, max_iter + 1):
        gradient = (H @ ahead[:, :, None])[:, :, 0] + b
        new = constraint.proximal(ahead - step[:, None] * gradient, weight, step)
        moved = new - theta
        residual = np.abs(new - ahead).max(1) / step
        reached = residual <= tol * np.abs(b).max(1)
        if reached.all():
            return new, reached, n_iter
        # Momentum that points uphill starts anew.
        momentum[((ahead - new) * moved).sum(1) > 0] = 1
        following = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        ahead = new + ((momentum - 1) / following)[:, None] * moved
        theta, momentum = new, following
    return theta, reached, max_iter
