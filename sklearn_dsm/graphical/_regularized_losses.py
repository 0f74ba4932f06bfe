"""Score-matching losses of a symmetric matrix of interactions, with the linear terms profiled."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import ndtri
from scipy.stats import rankdata

from ._quadratic import Minimum, SymmetricDescent, UnboundedLoss, lasso


class MatrixFit(NamedTuple):
    """A matrix of interactions, its linear terms, and how its minimum was reached."""

    matrix: np.ndarray
    linear: np.ndarray
    n_iter: int
    converged: bool


def diagonal_multiplier(n: int, m: int, *, unbounded: bool) -> float:
    """The factor of the diagonal of Gamma that bounds the loss of n samples of m features.

    On a domain without bounds, ``unbounded``, the factor is that of normal data.
    """
    rate = np.log(m) / n
    if unbounded:
        return 2 - 1 / (1 + 80 * np.sqrt(rate))
    return 2 - 1 / (1 + 4 * np.e * max(6 * rate, np.sqrt(6 * rate)))


def normal_scores(X: np.ndarray) -> np.ndarray:
    """Standard normal quantiles of the ranks of each feature."""
    return ndtri(rankdata(X, axis=0) / (len(X) + 1))


def rank_correlation(X: np.ndarray) -> np.ndarray:
    """Correlations of the normal scores, 2 sin(pi/6 rho), from Spearman's rho, made positive."""
    ranks = rankdata(X, axis=0)
    correlation = 2 * np.sin(np.pi / 6 * np.corrcoef(ranks.T))
    values, vectors = np.linalg.eigh(correlation)
    if values[0] < 0:
        correlation = (vectors * values.clip(min=0)) @ vectors.T
        deviation = np.sqrt(np.diagonal(correlation))
        correlation /= np.outer(deviation, deviation)
    return correlation


class MatrixLoss:
    r"""Loss of :math:`\exp(-x^T K x / 2 + \eta^T x)`, a sum over the columns of K.

    Parameters
    ----------
    blocks, linear : ndarray of shape (m, m, m) and (m, m)
        :math:`\Gamma_j` and :math:`g_j`.
    n_samples : int
    eta : tuple of ndarray or None
        For :math:`\eta_j = (c_j - v_j^T k_j) / w_j`, the arrays c (m,), v (m, m) and w (m,). None
        for a model without linear terms.
    multiplier : float
        Factor of the diagonals of :math:`\Gamma_j`.
    """

    def __init__(self, blocks, linear, n_samples, *, eta=None, multiplier=1.0):
        self.eta, self.n_samples, self.plain = eta, n_samples, SymmetricDescent(blocks, linear)
        self.descent = self.plain
        if multiplier != 1:
            nodes = np.arange(len(linear))
            blocks = np.array(blocks)
            blocks[:, nodes, nodes] *= multiplier
            self.descent = SymmetricDescent(blocks, linear)

    def largest_alpha(self) -> float:
        return self.descent.largest_penalty()

    def minimum(self, alpha: float, *, start=None, tol=1e-6, max_iter=1000) -> MatrixFit:
        penalty = self._off_diagonal(alpha)
        return self._with_linear(
            self.descent.minimum(penalty, start=start, tol=tol, max_iter=max_iter)
        )

    def refit(self, K, *, tol=1e-6, max_iter=1000) -> MatrixFit | None:
        """The minimum without a penalty on the support of K; None where there is no minimum."""
        degree = (K != 0).sum(1).max()
        if degree + (self.eta is not None) >= self.n_samples:
            return None
        penalty = self._off_diagonal(np.where(K != 0, 0.0, np.inf))
        try:
            fit = self.plain.minimum(penalty, start=K, tol=tol, max_iter=max_iter)
        except UnboundedLoss:
            return None
        return self._with_linear(fit)

    def loss(self, K) -> float:
        return self.plain.loss(K)

    def curvatures(self, K) -> np.ndarray:
        """Second derivatives of the loss in each edge (j, k), j < k, of K."""
        return self.plain.curvature[np.triu(K, 1) != 0]

    def _off_diagonal(self, alpha):
        penalty = np.array(np.broadcast_to(alpha, self.plain.linear.shape), dtype=np.float64)
        np.fill_diagonal(penalty, 0.0)
        return penalty

    def _with_linear(self, fit: Minimum) -> MatrixFit:
        linear = np.zeros(len(fit.coef))
        if self.eta is not None:
            constant, slope, weight = self.eta
            linear = (constant - (slope * fit.coef).sum(1)) / weight
        return MatrixFit(fit.coef, linear, fit.n_iter, fit.converged)


def weighted_loss(Z, weight, slope, *, centered, multiplier=1.0) -> MatrixLoss:
    """The loss of samples (n, m) with weights h_j(z_j) (n, m) and their derivatives.

    Gamma_j = mean(h_j z z'), and g_j[k] = mean(h_j' z_k) + 1{j=k} mean(h_j).
    """
    n, m = Z.shape
    mean_weight = weight.mean(0)
    linear = slope.T @ Z / n + np.diag(mean_weight)
    same = (weight == 1).all()
    blocks = np.empty((1 if same else m, m, m))
    for j in range(len(blocks)):
        blocks[j] = (Z * weight[:, j : j + 1]).T @ Z / n
    eta = None
    if not centered:
        cross, constant = -weight.T @ Z / n, -slope.mean(0)
        eta = constant, cross, mean_weight
        scaled = cross / mean_weight[:, None]
        if same:
            blocks -= np.outer(cross[0], scaled[0])
        else:
            blocks -= cross[:, :, None] * scaled[:, None, :]
        linear = linear - scaled * constant[:, None]
    blocks = np.broadcast_to(blocks, (m, m, m))
    return MatrixLoss(blocks, linear, n, eta=eta, multiplier=multiplier)


def moment_loss(covariance, n_samples, *, multiplier=1.0) -> MatrixLoss:
    """The loss of a Gaussian, from an estimate of its covariance (m, m)."""
    m = len(covariance)
    blocks = np.broadcast_to(covariance, (m, m, m))
    return MatrixLoss(blocks, np.eye(m), n_samples, multiplier=multiplier)


def sample_loss(Z, weight, slope, matrix, linear) -> float:
    """The mean loss of samples at given parameters."""
    pull = Z @ matrix - linear
    terms = 0.5 * weight * pull**2 - slope * pull - weight * np.diagonal(matrix)
    return float(terms.sum(1).mean())


def edge_variances(Z, weight, slope, fit: MatrixFit, *, centered) -> np.ndarray:
    """Variances of the derivative of a sample's loss in each edge (j, k), j < k, of a fit."""
    pull = weight * (Z @ fit.matrix - fit.linear) - slope
    mean = np.zeros((Z.shape[1],) * 2)
    if not centered:
        mean = weight.T @ Z / weight.sum(0)[:, None]
    edges = np.argwhere(np.triu(fit.matrix, 1))
    values = [
        np.var(pull[:, j] * (Z[:, k] - mean[j, k]) + pull[:, k] * (Z[:, j] - mean[k, j]))
        for j, k in edges
    ]
    return np.array(values)


class SimplexLoss:
    r"""Loss of :math:`\exp(-z^T K z / 2 + \eta^T \log x)` with z = log x and :math:`K 1 = 0`.

    The density is that of the centred log-ratios, and its gradient is taken along their plane.
    K is a sum of :math:`-K_{jk} (e_j - e_k)(e_j - e_k)^T`, so its diagonal follows from the rest.
    """

    def __init__(self, X: np.ndarray):
        self.n_samples, self.m = X.shape
        self.pairs = np.triu_indices(self.m, 1)
        logs = np.log(X)
        n_pairs = len(self.pairs[0])
        gram = np.zeros((n_pairs + self.m, n_pairs + self.m))
        where = np.zeros((self.m, self.m), dtype=int)
        where[self.pairs] = np.arange(n_pairs)
        where += where.T
        shares = np.arange(n_pairs, n_pairs + self.m)
        for i in range(self.m):
            others = np.delete(np.arange(self.m), i)
            # Component i of the gradients of all statistics.
            fields = np.hstack(
                [logs[:, others] - logs[:, i : i + 1], np.eye(self.m)[i] - X[:, i : i + 1]]
            )
            index = np.concatenate([where[i, others], shares])
            gram[np.ix_(index, index)] += fields.T @ fields / self.n_samples
        linear = np.full(n_pairs + self.m, -2.0)
        linear[n_pairs:] = -(X * (1 - X)).sum(1).mean()
        self.own = slice(n_pairs, None)
        own, rest = gram[self.own, self.own], slice(0, n_pairs)
        self.onto = np.linalg.solve(own, gram[self.own, rest])
        self.constant = np.linalg.solve(own, linear[self.own])
        self.gram = gram[rest, rest] - gram[rest, self.own] @ self.onto
        self.linear = linear[rest] - linear[self.own] @ self.onto

    def largest_alpha(self) -> float:
        return float(np.abs(self.linear).max() / 2)

    def minimum(self, alpha: float, *, start=None, tol=1e-6, max_iter=1000) -> MatrixFit:
        coef = None if start is None else -start[self.pairs]
        fit = lasso(self.gram, self.linear, 2.0 * alpha, start=coef, tol=tol, max_iter=max_iter)
        return self._matrix(fit)

    def refit(self, K, *, tol=1e-6, max_iter=1000) -> MatrixFit | None:
        inside = K[self.pairs] != 0
        if (K != 0).sum(1).max() >= self.n_samples:
            return None
        coef = np.zeros(len(inside))
        try:
            coef[inside] = -np.linalg.solve(self.gram[np.ix_(inside, inside)], self.linear[inside])
        except np.linalg.LinAlgError:
            return None
        return self._matrix(Minimum(coef, 1, True))

    def loss(self, K) -> float:
        coef = -K[self.pairs]
        return float(coef @ (0.5 * self.gram @ coef + self.linear))

    def edge_variances(self, X, fit: MatrixFit) -> np.ndarray:
        """As the function of the same name, for compositions."""
        logs = np.log(X)
        pull = -logs @ fit.matrix + fit.linear - fit.linear.sum() * X
        own = pull - (X * pull).sum(1)[:, None] - (X * (1 - X)).sum(1)[:, None]
        edges = np.flatnonzero(fit.matrix[self.pairs])
        first, second = (side[edges] for side in self.pairs)
        values = [
            np.var(-(logs[:, j] - logs[:, k]) * (pull[:, j] - pull[:, k]) - own @ self.onto[:, e])
            for e, j, k in zip(edges, first, second, strict=True)
        ]
        return np.array(values)

    def curvatures(self, K) -> np.ndarray:
        return np.diagonal(self.gram)[K[self.pairs] != 0]

    def _matrix(self, fit: Minimum) -> MatrixFit:
        K = np.zeros((self.m, self.m))
        K[self.pairs] = -fit.coef
        K += K.T
        np.fill_diagonal(K, -K.sum(1))
        linear = -self.constant - self.onto @ fit.coef
        return MatrixFit(K, linear, fit.n_iter, fit.converged)


def simplex_sample_loss(X, matrix, linear) -> float:
    """The mean loss of compositions at given parameters."""
    pull = -np.log(X) @ matrix + linear - linear.sum() * X
    divergence = -np.trace(matrix) - linear.sum() * (X * (1 - X)).sum(1)
    return float((0.5 * (pull**2).sum(1) + divergence).mean())
