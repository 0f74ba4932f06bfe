"""Parameters of a mixture in which each component is an exponential family."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from .._mixtures.em import Moments
from .._mixtures.parameters import Parameters, all_covariances


class CanonicalForm:
    r"""A mixture's parameters in which every component is linear, and their statistics.

    .. math:: \log N(x; \mu, \Sigma) = h^T x - \tfrac12 x^T P x - A(h, P), \qquad
        P = \Sigma^{-1}, \quad h = P \mu

    The free numbers are the logits of the weights, every h, and the different entries of P that
    the kind lets vary.

    Parameters
    ----------
    kind : {"full", "tied", "diag", "spherical"}
    n_components, n_features : int
    """

    def __init__(self, kind: str, n_components: int, n_features: int):
        self.kind, self.k, self.d = kind, n_components, n_features
        # Which entries of a precision vary at all.
        self.lower = (
            torch.tril_indices(n_features, n_features)
            if kind in ("full", "tied")
            else torch.arange(n_features).expand(2, n_features)
        )
        i, j = self.lower
        # Squares count by minus a half, products of two columns by minus one.
        factors = torch.where(i == j, -0.5, -1.0).double()
        # From products of columns to what multiplies the numbers of one component.
        self.gather = factors[:, None] if kind == "spherical" else torch.diag(factors)
        self.n_statistics = n_features + self.gather.shape[1]

    def free(self, parameters: Parameters) -> Tensor:
        """The free numbers of given parameters, one vector."""
        precisions = torch.linalg.inv(all_covariances(parameters, self.kind))
        heights = (precisions @ parameters.means[..., None]).squeeze(-1)
        entries = precisions[:, *self.lower]
        if self.kind == "spherical":
            entries = entries[:, :1]
        if self.kind == "tied":
            entries = entries[:1]
        return torch.cat([parameters.weights.log(), heights.flatten(), entries.flatten()])

    def parameters(self, free: Tensor) -> Parameters:
        """The parameters, whose covariances are full."""
        k, d = self.k, self.d
        logits, heights, rest = free.split([k, k * d, len(free) - k - k * d])
        rows, columns = self.lower
        entries = rest.reshape(-1, self.gather.shape[1]).expand(k, len(rows))
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
        return torch.cat([rows, (rows[:, i] * rows[:, j]) @ self.gather], 1)

    def center(self, parameters: Parameters) -> Tensor:
        """Mean (k, s) of the statistics under every component."""
        means, covariances = parameters.means, all_covariances(parameters, self.kind)
        i, j = self.lower
        products = covariances[:, i, j] + means[:, i] * means[:, j]
        return torch.cat([means, products @ self.gather], 1)

    def spread(self, parameters: Parameters) -> Tensor:
        """Covariance (k, s, s) of the statistics under every component."""
        means, covariances = parameters.means, all_covariances(parameters, self.kind)
        i, j = self.lower
        products = covariances + means[:, :, None] * means[:, None]
        linear = means[:, None, j] * covariances[:, :, i] + means[:, None, i] * covariances[:, :, j]
        linear = linear @ self.gather
        square = (
            covariances[:, i][:, :, i] * products[:, j][:, :, j]
            + covariances[:, i][:, :, j] * products[:, j][:, :, i]
            + (means[:, i, None] * means[:, None, i]) * covariances[:, j][:, :, j]
            + (means[:, i, None] * means[:, None, j]) * covariances[:, j][:, :, i]
        )
        square = self.gather.T @ square @ self.gather
        upper = torch.cat([covariances, linear], 2)
        return torch.cat([upper, torch.cat([linear.mT, square], 2)], 1)

    def slope(self, parameters: Parameters, moments: Moments) -> Tensor:
        """Gradient of the mean log-density in the free numbers, from an E-step's moments."""
        i, j = self.lower
        squares = moments.second if moments.second.dim() == 2 else moments.second[:, i, j]
        sums = torch.cat([moments.first, squares @ self.gather], 1)
        pulls = sums - moments.mass[:, None] * self.center(parameters)
        of_logits = moments.mass - moments.mass.sum() * parameters.weights
        return torch.cat([of_logits, pulls.flatten()]) @ self.reduction

    @cached_property
    def reduction(self) -> Tensor:
        """Takes slopes (k (1 + s),) in all numbers to those in the free ones."""
        k, d, s = self.k, self.d, self.n_statistics
        n_shared = self.gather.shape[1]
        n_free = k + k * d + n_shared * (1 if self.kind == "tied" else k)
        whole = torch.zeros(k + k * s, n_free, dtype=torch.float64)
        whole[:k, :k] = torch.eye(k)
        for component in range(k):
            start = k + component * s
            whole[start : start + d, k + component * d : k + (component + 1) * d] = torch.eye(d)
            first = k + k * d + (0 if self.kind == "tied" else component * n_shared)
            whole[start + d : start + s, first : first + n_shared] = torch.eye(n_shared)
        return whole
