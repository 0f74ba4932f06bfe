"""The covariance of a mixture's parameters at the largest likelihood, in closed form."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from .._mixtures.em import CHUNK_NUMBERS, log_joint_of
from .._mixtures.parameters import Parameters, all_covariances


class CanonicalForm:
    r"""A mixture's parameters in which every component is linear, and their statistics.

    .. math:: \log N(x; \mu, \Sigma) = h^T x - \tfrac12 x^T P x - A(h, P), \qquad
        P = \Sigma^{-1}, \quad h = P \mu

    The free numbers are the logits of the weights, every h, and the entries of P on and below
    the diagonal that the kind lets vary.

    Parameters
    ----------
    kind : {"full", "tied", "diag", "spherical"}
    n_components, n_features : int
    """

    def __init__(self, kind: str, n_components: int, n_features: int):
        self.kind, self.k, self.d = kind, n_components, n_features
        self.lower = torch.tril_indices(n_features, n_features)
        self.n_statistics = n_features + self.lower.shape[1]

    def free(self, parameters: Parameters) -> Tensor:
        """The free numbers of given parameters, one vector."""
        precisions = torch.linalg.inv(all_covariances(parameters, self.kind))
        heights = (precisions @ parameters.means[..., None]).squeeze(-1)
        entries = precisions[:, *self.lower]
        return torch.cat(
            [parameters.weights.log(), heights.flatten(), self._selection().T @ entries.flatten()]
        )

    def parameters(self, free: Tensor) -> Parameters:
        """The parameters, whose covariances are full."""
        k, d = self.k, self.d
        logits, heights, rest = free.split([k, k * d, len(free) - k - k * d])
        entries = (self._spread() @ rest).reshape(k, -1)
        rows, columns = self.lower
        lower = free.new_zeros(k, d, d).index_put(
            (torch.arange(k)[:, None], rows, columns), entries
        )
        precisions = lower + lower.mT - torch.diag_embed(lower.diagonal(dim1=1, dim2=2))
        covariances = torch.linalg.inv(precisions)
        means = (covariances @ heights.reshape(k, d, 1)).squeeze(-1)
        return Parameters(logits.softmax(0), means, covariances)

    def statistics(self, rows: Tensor) -> Tensor:
        """What multiplies h and the entries of P in the log-density, shape (n, s)."""
        i, j = self.lower
        return torch.cat([rows, self._halves() * rows[:, i] * rows[:, j]], 1)

    def moments(self, parameters: Parameters) -> tuple[Tensor, Tensor]:
        """Mean (k, s) and covariance (k, s, s) of the statistics under every component."""
        means, covariances = parameters.means, all_covariances(parameters, self.kind)
        (i, j), halves = self.lower, self._halves()
        products = covariances + means[:, :, None] * means[:, None]
        center = torch.cat([means, halves * products[:, i, j]], 1)
        linear = means[:, None, j] * covariances[:, :, i] + means[:, None, i] * covariances[:, :, j]
        linear = linear * halves
        square = (
            covariances[:, i][:, :, i] * products[:, j][:, :, j]
            + covariances[:, i][:, :, j] * products[:, j][:, :, i]
            + (means[:, i, None] * means[:, None, i]) * covariances[:, j][:, :, j]
            + (means[:, i, None] * means[:, None, j]) * covariances[:, j][:, :, i]
        )
        square = square * halves * halves[:, None]
        upper = torch.cat([covariances, linear], 2)
        return center, torch.cat([upper, torch.cat([linear.mT, square], 2)], 1)

    def reduced(self, by_component: Tensor) -> Tensor:
        """Slopes (..., k (1 + s)) in all numbers as slopes in those that are free."""
        return by_component @ self._reduction()

    def _reduction(self) -> Tensor:
        k, d, s = self.k, self.d, self.n_statistics
        spread = self._spread()
        n_free = k + k * d + spread.shape[1]
        whole = torch.zeros(k + k * s, n_free, dtype=torch.float64)
        whole[:k, :k] = torch.eye(k)
        for component in range(k):
            start = k + component * s
            whole[start : start + d, k + component * d : k + (component + 1) * d] = torch.eye(d)
            entries = spread[component * (s - d) : (component + 1) * (s - d)]
            whole[start + d : start + s, k + k * d :] = entries
        return whole

    def _halves(self) -> Tensor:
        """Minus a half for squares and minus one for products of two columns."""
        i, j = self.lower
        return torch.where(i == j, -0.5, -1.0).double()

    def _spread(self) -> Tensor:
        """From the free entries of precisions to all of them (k s', free)."""
        i, j = self.lower
        n, eye = len(i), torch.eye(len(i), dtype=torch.float64)
        if self.kind == "full":
            return torch.eye(self.k * n, dtype=torch.float64)
        if self.kind == "tied":
            return eye.repeat(self.k, 1)
        diagonal = eye[:, i == j]
        if self.kind == "spherical":
            diagonal = diagonal.sum(1, keepdim=True)
        return torch.block_diag(*[diagonal] * self.k)

    def _selection(self) -> Tensor:
        """From all entries to the free ones, which are means over equal entries."""
        spread = self._spread()
        return spread / spread.sum(0)


def likelihood_covariance(
    parameters: Parameters,
    kind: str,
    rows: Tensor,
    weight: Tensor,
    natural: Callable[[Parameters], Tensor],
) -> np.ndarray:
    r"""Sandwich covariance (q, q) of functions of the parameters with the largest likelihood.

    .. math:: J A^+ B A^+ J^T, \qquad A = -\sum_i w_i \nabla^2 \log p(x_i), \qquad
        B = \sum_i w_i \nabla \log p(x_i)\, \nabla \log p(x_i)^T,

    with Louis' formula for A, whose parts are moments of the rows and of the components. A weight w
    stands for w equal rows.

    Parameters
    ----------
    parameters : Parameters
    kind : {"full", "tied", "diag", "spherical"}
    rows : Tensor of shape (n, d)
    weight : Tensor of shape (n,)
    natural : callable
        From parameters of full covariances to the vector whose covariance is wanted.

    References
    ----------
    [Louis1982]_
    """
    form = CanonicalForm(kind, *parameters.means.shape)
    bread, meat = _information(form, parameters, rows, weight)
    free = form.free(parameters)
    jacobian = torch.func.jacrev(lambda each: natural(form.parameters(each)))(free)
    # Precisions of narrow components are many orders larger than logits.
    unit = bread.diagonal().clamp(min=torch.finfo(bread.dtype).tiny).rsqrt()
    inverse = torch.linalg.pinv(unit[:, None] * bread * unit, hermitian=True)
    half = (jacobian * unit) @ inverse * unit
    return (half @ meat @ half.T).numpy()


def _information(
    form: CanonicalForm, parameters: Parameters, rows: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor]:
    """The observed information and the sum of squared slopes, in the free numbers."""
    k, s = form.k, form.n_statistics
    shares = parameters.weights
    center, within = form.moments(parameters)
    size, log_joint = max(1, CHUNK_NUMBERS // (k * s)), log_joint_of(parameters, form.kind)
    n_all = k + k * s
    meat = shares.new_zeros(n_all, n_all)
    mass, pulls = shares.new_zeros(k), shares.new_zeros(k, s)
    squares = shares.new_zeros(k, s, s)
    for part, w in zip(rows.split(size), weight.split(size), strict=True):
        posterior = log_joint(part).softmax(0)
        offsets = form.statistics(part) - center[:, None]
        counted = posterior * w
        pulled = (posterior[..., None] * offsets).permute(1, 0, 2).flatten(1)
        gradient = torch.cat([(posterior - shares[:, None]).T, pulled], 1)
        meat += gradient.T @ (w[:, None] * gradient)
        mass += counted.sum(1)
        pulls += (counted[:, None] @ offsets).squeeze(1)
        squares += (counted[..., None] * offsets).mT @ offsets
    bread = meat.clone()
    total = mass.sum()
    away = torch.eye(k).to(shares) - shares
    bread[:k, :k] += total * (torch.diag(shares) - torch.outer(shares, shares))
    bread[:k, :k] -= away.T @ (mass[:, None] * away)
    for component in range(k):
        own = slice(k + component * s, k + (component + 1) * s)
        bread[own, own] += mass[component] * within[component] - squares[component]
        crossed = torch.outer(away[component], pulls[component])
        bread[:k, own] -= crossed
        bread[own, :k] -= crossed.T
    reduction = form.reduced(torch.eye(n_all, dtype=torch.float64))
    return reduction.T @ bread @ reduction, reduction.T @ meat @ reduction
