"""Parameters of a mixture in which each component is an exponential family."""

from __future__ import annotations

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

    def slope(self, parameters: Parameters, moments: Moments) -> Tensor:
        """Gradient of the mean log-density in the free numbers, from an E-step's moments."""
        (i, j), center = self.lower, self.moments(parameters)[0]
        squares = moments.second if moments.second.dim() == 2 else moments.second[:, i, j]
        sums = torch.cat([moments.first, self._halves() * squares], 1)
        pulls = sums - moments.mass[:, None] * center
        of_logits = moments.mass - moments.mass.sum() * parameters.weights
        return self.reduced(torch.cat([of_logits, pulls.flatten()]))

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
        n = self.lower.shape[1]
        eye = torch.eye(n, dtype=torch.float64)
        if self.kind == "full":
            return torch.eye(self.k * n, dtype=torch.float64)
        if self.kind == "tied":
            return eye.repeat(self.k, 1)
        if self.kind == "spherical":
            eye = eye.sum(1, keepdim=True)
        return torch.block_diag(*[eye] * self.k)

    def _selection(self) -> Tensor:
        """From all entries to the free ones, which are means over equal entries."""
        spread = self._spread()
        return spread / spread.sum(0)
