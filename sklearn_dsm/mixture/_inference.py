"""Standard errors of a mixture's parameters, by the sandwich formula."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from .._core.arrays import tensor_of
from .._core.constants import LOG_2PI
from .._core.distributions.mixture_algebra import MixtureTerms
from .._core.distributions.mixture_network import MixtureNetwork, MixtureScores
from .._core.forward_mode import load_forward_mode
from .._core.noise.level import NoiseLevel
from .._core.random import torch_generator
from .._evaluation.latent_density import chunks
from .._random import seed_from
from ._row_losses import RowLosses, row_losses

# Derivatives in every parameter of every row's loss take time and memory.
MAX_ROWS, CHUNK_NUMBERS = 5000, 2**22


def covariance_of_some_rows(
    network: MixtureNetwork, Z: np.ndarray, weight: np.ndarray, loss: str, n_noise: int, random
) -> np.ndarray:
    """Sandwich covariance from at most ``MAX_ROWS`` standardised rows, scaled to all of them."""
    n_used, device = min(len(Z), MAX_ROWS), network.means.device
    chosen = random.choice(len(Z), n_used, replace=False) if n_used < len(Z) else slice(None)
    generator = torch_generator(seed_from(random), device)
    losses = row_losses(loss, n_noise, tensor_of(Z[chosen]).to(device), generator)
    rows_weight = tensor_of(weight[chosen]).to(device)
    n_free = sum(parameter.numel() for parameter in network.parameters())
    # Derivatives in all parameters at once take as many times the memory.
    chunk = losses.rows_within(CHUNK_NUMBERS // n_free, len(network.means))
    share = weight[chosen].sum() / weight.sum()
    return share * sandwich(network, losses, rows_weight, chunk).cpu().numpy()


def parameter_units(kind: str, n_components: int, scale: np.ndarray) -> np.ndarray:
    """What a parameter of standardised rows is multiplied by in the units of the input."""
    square = {"diag": scale**2, "spherical": scale[:1] ** 2}
    covariance = square.get(kind, np.outer(scale, scale).ravel())
    n_covariances = 1 if kind == "tied" else n_components
    means = np.tile(scale, n_components)
    return np.concatenate([np.ones(n_components), means, np.tile(covariance, n_covariances)])


class EntriesMixture(MixtureScores):
    """A mixture by the entries of its covariances.

    A loss of new noise has a slope at the minimiser of another. In the angles of the axes its
    curvature is the slope's own, by chance of any size, where two eigenvalues are close; in the
    entries it is that of the loss.
    """

    def __init__(self, mixture: MixtureNetwork):
        super().__init__()
        self.kind = mixture.kind
        self.logits, self.means = (
            nn.Parameter(part.detach().clone()) for part in (mixture.logits, mixture.means)
        )
        covariances = mixture.covariances().detach()
        self.n_features = covariances.shape[-1]
        self.lower = torch.tril_indices(self.n_features, self.n_features)
        if self.kind in ("full", "tied"):
            entries = covariances[:, *self.lower]
        else:
            entries = covariances.diagonal(dim1=1, dim2=2)
        self.entries = nn.Parameter(entries[:, :1] if self.kind == "spherical" else entries)

    def covariances(self) -> Tensor:
        d = self.n_features
        if self.kind not in ("full", "tied"):
            return torch.diag_embed(self.entries.expand(-1, d))
        (rows, columns), n = self.lower, len(self.entries)
        which = torch.arange(n)[:, None]
        lower = self.entries.new_zeros(n, d, d).index_put((which, rows, columns), self.entries)
        return lower + lower.mT - torch.diag_embed(lower.diagonal(dim1=1, dim2=2))

    def terms(self, x: Tensor, level: NoiseLevel) -> MixtureTerms:
        k, d = self.means.shape
        # Components come before the rows, all of which share a level's matrices.
        a, v = (part if part.dim() == 0 else part[..., None] for part in level)
        covariances = a**2 * self.covariances().expand(k, d, d) + v * torch.eye(d).to(x)
        inverses = torch.linalg.inv(covariances)
        offsets = x[..., None, :, :] - a * self.means[:, None]
        pulls = offsets @ inverses
        squares = (offsets * pulls).sum(-1) + (torch.logdet(covariances) + d * LOG_2PI)[..., None]
        log_joint = self.logits.log_softmax(0) - 0.5 * squares.mT
        precisions = inverses.diagonal(dim1=-2, dim2=-1)[..., None, :, :]
        axes = torch.eye(d).to(x).expand(k, d, d)
        return MixtureTerms(log_joint, pulls.transpose(-2, -3), precisions, axes)

    def natural(self) -> Tensor:
        """Weights, means and covariances of the kind, one after the other, shape (q,)."""
        covariances = self.covariances() if self.kind in ("full", "tied") else self.entries
        parts = self.logits.softmax(0), self.means, covariances
        return torch.cat([part.flatten() for part in parts])


def sandwich(network: MixtureNetwork, losses: RowLosses, weight: Tensor, chunk: int) -> Tensor:
    r"""Covariance (q, q) of the natural parameters of a minimiser of a mean of row losses.

    .. math:: J A^+ B A^+ J^T, \qquad A = \sum_i w_i \nabla^2 \ell_i, \qquad
        B = \sum_i w_i \nabla\ell_i \nabla\ell_i^T,

    with the Jacobian J of the natural parameters in those that are free, which are the logits
    of the weights, the means and the covariances' entries. A weight w stands for w equal rows.
    """
    load_forward_mode()
    entries = EntriesMixture(network).double()
    names = [f"network.{name}" for name, _ in entries.named_parameters()]
    free = [p.detach() for p in entries.parameters()]
    sizes = [p.numel() for p in free]

    def unpacked(theta: Tensor) -> dict[str, Tensor]:
        parts = theta.split(sizes)
        return {n: part.reshape(p.shape) for n, part, p in zip(names, parts, free, strict=True)}

    def losses_of(part: slice, theta: Tensor) -> Tensor:
        return functional_call(_Call(entries, losses, part), unpacked(theta), ())

    def natural(theta: Tensor) -> Tensor:
        return functional_call(_Natural(entries), unpacked(theta), ())

    theta = torch.cat([p.flatten() for p in free])
    bread, meat = theta.new_zeros(2, len(theta), len(theta))
    for part in chunks(len(weight), chunk):
        w, of_rows = weight[part].double(), partial(losses_of, part)
        bread = bread + torch.func.hessian(partial(_dot, w, of_rows))(theta)
        slopes = torch.func.jacfwd(of_rows)(theta)
        meat = meat + slopes.T @ (w[:, None] * slopes)
    inverse = torch.linalg.pinv(bread, hermitian=True)
    jacobian = torch.func.jacrev(natural)(theta)
    half = jacobian @ inverse
    return half @ meat @ half.T


def _dot(weight: Tensor, function, theta: Tensor) -> Tensor:
    return weight @ function(theta)


class _Call(torch.nn.Module):
    """Row losses as a module, whose parameters a functional call can replace."""

    def __init__(self, network: MixtureScores, losses: RowLosses, part: slice):
        super().__init__()
        self.network, self.losses, self.rows = network, losses, part

    def forward(self) -> Tensor:
        return self.losses.part(self.network, self.rows)


class _Natural(torch.nn.Module):
    def __init__(self, network: EntriesMixture):
        super().__init__()
        self.network = network

    def forward(self) -> Tensor:
        return self.network.natural()
