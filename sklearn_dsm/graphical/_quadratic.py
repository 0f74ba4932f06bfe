r"""Quadratic score-matching losses with an l1 penalty: their minima, and their covariances.

Where the log-density is linear in its parameters, the score-matching loss is
:math:`\frac12 \theta^T \Gamma \theta + g^T \theta`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

TINY = np.finfo(float).tiny
CG_STEPS, CG_TOLERANCE = 50, 1e-2
# Moves of entries, in units of scale, that no minimum is so far away for.
UNBOUNDED = 1e10


class UnboundedLoss(np.linalg.LinAlgError):
    """A quadratic loss without a minimum."""


class Minimum(NamedTuple):
    """Where coordinate descent stopped."""

    coef: np.ndarray
    n_iter: int
    converged: bool


def soft_threshold(values: np.ndarray, threshold: np.ndarray | float) -> np.ndarray:
    return np.sign(values) * np.maximum(np.abs(values) - threshold, 0.0)


def lasso(gram, linear, penalty, *, start=None, tol=1e-6, max_iter=1000) -> Minimum:
    """Minimise 0.5 th'Gamma th + g'th + sum(penalty * |th|), for many problems at once.

    ``gram`` (..., q, q) is broadcast to ``linear`` (..., q). An infinite penalty keeps a
    coefficient at zero.
    """
    q, shape = linear.shape[-1], linear.shape
    # One problem a row; those that have converged are left alone.
    whose = np.arange(gram[..., 0, 0].size).reshape(gram.shape[:-2])
    whose = np.broadcast_to(whose, shape[:-1]).ravel()
    gram, penalty = gram.reshape(-1, q, q), np.broadcast_to(penalty, shape).reshape(-1, q)
    diagonal = np.maximum(np.diagonal(gram, axis1=1, axis2=2), TINY)[whose]
    coef = np.zeros((len(whose), q)) if start is None else start.reshape(-1, q).copy()
    gradient = linear.reshape(-1, q).copy()
    if start is not None:
        gradient += (coef[:, None] @ gram[whose])[:, 0]
    going = np.arange(len(whose))
    for iteration in range(1, max_iter + 1):
        largest = np.zeros(len(whose))
        for c in range(q):
            curvature, old = diagonal[going, c], coef[going, c]
            free = curvature * old - gradient[going, c]
            step = soft_threshold(free, penalty[going, c]) / curvature - old
            nonzero = np.flatnonzero(step)
            if len(nonzero):
                moved, step = going[nonzero], step[nonzero]
                coef[moved, c] += step
                gradient[moved] += step[:, None] * gram[whose[moved], c]
                size = np.abs(step) * np.sqrt(curvature[nonzero])
                largest[moved] = np.maximum(largest[moved], size)
        if not largest.max() < UNBOUNDED:
            raise UnboundedLoss
        going = going[largest[going] > tol]
        if not len(going):
            return Minimum(coef.reshape(shape), iteration, True)
    return Minimum(coef.reshape(shape), max_iter, False)


def round_robin(m: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """All pairs of m nodes, in rounds in which each node has one partner at most."""
    even = m + m % 2
    circle, rounds = np.arange(1, even), []
    for _ in range(even - 1):
        seats = np.concatenate([[0], circle])
        first, second = seats[: even // 2], seats[even // 2 :][::-1]
        there = (first < m) & (second < m)
        rounds.append((first[there], second[there]))
        circle = np.roll(circle, 1)
    return rounds


class SymmetricDescent:
    r"""Coordinate descent for a symmetric matrix whose loss is a sum over its columns.

    .. math:: \sum_j (\tfrac12 k_j^T \Gamma_j k_j - g_j^T k_j) + \sum_{j \ne k} \lambda_{jk}
        |K_{jk}|

    Entries of pairs without a common node do not interact. Those of one round of a tournament
    therefore move at once, and each of them to its exact minimum.

    Parameters
    ----------
    blocks : ndarray of shape (m, m, m)
        The matrices :math:`\Gamma_j`.
    linear : ndarray of shape (m, m)
        The vectors :math:`g_j`, one a row.
    """

    def __init__(self, blocks: np.ndarray, linear: np.ndarray):
        self.blocks, self.linear = blocks, linear
        m = len(linear)
        self.nodes, self.rounds = np.arange(m), round_robin(m)
        self.own = np.maximum(blocks[self.nodes, self.nodes, self.nodes], TINY)
        # Curvature in K_jk of column j, and of columns j and k together.
        each = np.diagonal(blocks, axis1=1, axis2=2)
        self.curvature = np.maximum(each + each.T, TINY)

    def diagonal_only(self) -> np.ndarray:
        """The minimum among diagonal matrices."""
        return np.diag(np.diagonal(self.linear) / self.own)

    def largest_penalty(self) -> float:
        """The smallest penalty that keeps all entries off the diagonal at zero."""
        diagonal = np.diagonal(self.diagonal_only())
        slope = self.linear - self.blocks[self.nodes, :, self.nodes] * diagonal[:, None]
        slope = np.abs(slope + slope.T)
        np.fill_diagonal(slope, 0.0)
        return float(slope.max() / 2)

    def loss(self, K: np.ndarray) -> float:
        return float((K * (0.5 * self.products(K) - self.linear)).sum())

    def minimum(self, penalty, *, start=None, tol=1e-6, max_iter=1000) -> Minimum:
        """Minimise with a penalty, a number or a symmetric (m, m) matrix.

        After each sweep, conjugate gradients solve for the entries that are not zero. Sweeps alone
        are slow where features are strongly dependent.
        """
        penalty = np.broadcast_to(penalty, self.linear.shape)
        K = self.diagonal_only() if start is None else start.copy()
        for iteration in range(1, max_iter + 1):
            largest = self._sweep(K, self.products(K), penalty)
            if largest <= tol:
                return Minimum(K, iteration, True)
            if not largest < UNBOUNDED:
                raise UnboundedLoss
            K = self._newton_step(K, penalty)
        return Minimum(K, iteration, False)

    def products(self, K: np.ndarray) -> np.ndarray:
        """Rows k_j' Gamma_j."""
        if self.blocks.strides[0] == 0:
            return K @ self.blocks[0]
        return (self.blocks @ K[:, :, None])[..., 0]

    def _newton_step(self, K, penalty) -> np.ndarray:
        """Move towards the minimum on the support and the signs of K, as far as it descends."""
        kept = (K != 0) | np.eye(len(K), dtype=bool)
        signed = np.where(kept, penalty, 0.0) * np.sign(K)
        slope = self.products(K) - self.linear + signed
        step = self._conjugate_gradients(-slope, kept)
        moved = K + step
        crossed = kept & (penalty > 0) & (moved * K < 0)
        if not crossed.any():
            return moved
        # On the way to K + step the penalty is linear up to the first change of a sign.
        moved[crossed] = 0.0
        if self._objective(moved, penalty) < self._objective(K, penalty):
            return moved
        return K + step * (-K[crossed] / step[crossed]).min()

    def _conjugate_gradients(self, right, kept) -> np.ndarray:
        """Approximate solution on the symmetric matrices with the entries kept."""
        residual = np.where(kept, right + right.T, 0.0) / 2
        solution, direction = np.zeros_like(residual), np.zeros_like(residual)
        scaled = residual / (self.curvature / 2)
        square = float((residual * scaled).sum())
        least, before = CG_TOLERANCE**2 * square, np.inf
        for _ in range(CG_STEPS):
            if square <= least:
                break
            direction = scaled + square / before * direction
            image = self.products(direction)
            image = np.where(kept, image + image.T, 0.0) / 2
            length = float((direction * image).sum())
            if length <= 0:
                break
            solution += square / length * direction
            residual -= square / length * image
            scaled = residual / (self.curvature / 2)
            before, square = square, float((residual * scaled).sum())
        return solution

    def _objective(self, K, penalty) -> float:
        return self.loss(K) + float((np.where(K != 0, penalty, 0.0) * np.abs(K)).sum())

    def _sweep(self, K, products, penalty) -> float:
        """Move every entry to its minimum; the largest move in units of scale."""
        step = (np.diagonal(self.linear) - np.diagonal(products)) / self.own
        K[self.nodes, self.nodes] += step
        products += step[:, None] * self.blocks[self.nodes, self.nodes]
        largest = float((np.abs(step) * np.sqrt(self.own)).max())
        for i, j in self.rounds:
            curvature, old = self.curvature[i, j], K[i, j]
            free = self.linear[i, j] + self.linear[j, i] - products[i, j] - products[j, i]
            new = soft_threshold(free + curvature * old, 2 * penalty[i, j]) / curvature
            step = new - old
            moved = np.flatnonzero(step)
            if len(moved):
                i, j, step, new = i[moved], j[moved], step[moved], new[moved]
                K[i, j] = K[j, i] = new
                products[i] += step[:, None] * self.blocks[i, j]
                products[j] += step[:, None] * self.blocks[j, i]
                largest = max(largest, float((np.abs(step) * np.sqrt(curvature[moved])).max()))
        return largest


class EdgeEquation(NamedTuple):
    r"""One node's part in the estimates of its edges, all other parameters profiled out.

    For each edge e, the loss of the node is :math:`\frac12 s_e (\theta_e - b_e)^2` at the best
    values of its other parameters, which move along ``directions[e]`` as the edge does.
    """

    curvature: np.ndarray  # (n_edges,), s
    estimate: np.ndarray  # (n_edges,), b
    directions: np.ndarray  # (n_edges, q)
    coef: np.ndarray  # (n_edges, q), all parameters at the node's own estimate


def edge_equations(gram, linear, edges, supports) -> EdgeEquation:
    """Profile each edge's problem, restricted to its support (n_edges, q)."""
    q, n_edges = len(linear), len(edges)
    directions, coef = np.zeros((n_edges, q)), np.zeros((n_edges, q))
    curvature, estimate = np.empty(n_edges), np.empty(n_edges)
    if supports.all():
        inverse = np.linalg.inv(gram)
        curvature = 1 / np.diagonal(inverse)[edges]
        theta = -inverse @ linear
        return EdgeEquation(
            curvature,
            theta[edges],
            curvature[:, None] * inverse[edges],
            np.tile(theta, (n_edges, 1)),
        )
    for k, edge in enumerate(edges):
        inside = np.flatnonzero(supports[k])
        position = int(np.searchsorted(inside, edge))
        unit = np.zeros(len(inside))
        unit[position] = 1.0
        right = np.stack([unit, -linear[inside]], axis=1)
        column, theta = np.linalg.solve(gram[np.ix_(inside, inside)], right).T
        curvature[k], estimate[k] = 1 / column[position], theta[position]
        directions[k, inside], coef[k, inside] = column / column[position], theta
    return EdgeEquation(curvature, estimate, directions, coef)
