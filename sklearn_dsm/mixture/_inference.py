"""Standard errors of a mixture's parameters, by the sandwich formula."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from .._core.arrays import tensor_of
from .._core.constants import LOG_2PI
from .._core.distributions.mixture_algebra import MixtureTerms
from .._core.distributions.mixture_network import MixtureScores
from .._core.forward_mode import load_forward_mode
from .._core.noise.level import NoiseLevel
from .._core.random import torch_generator
from .._evaluation.latent_density import chunks
from .._mixtures.parameters import Parameters, all_covariances
from .._random import seed_from
from ._likelihood import likelihood_covariance
from ._row_losses import RowLosses, row_losses
from ._units import Units, of_kind

# Derivatives in every parameter of every row's loss take time and memory.
MAX_ROWS, CHUNK_NUMBERS = 5000, 2**22


def natural_covariance(
    parameters: Parameters,
    units: Units,
    kind: str,
    Z: np.ndarray,
    weight: np.ndarray,
    loss: tuple[str, int | None],
    random: np.random.RandomState,
) -> np.ndarray:
    """Covariance of weights, means and covariances in the units of the input, flattened.

    Denoising over all levels with the expected noise is maximum likelihood. Otherwise ``loss`` has
    the name of a loss and the number of its noise vectors.
    """

    def natural(found: Parameters) -> Tensor:
        outside = units.outside(found, "full")
        parts = outside.weights, outside.means, of_kind(outside.covariances, kind)
        return torch.cat([part.flatten() for part in parts])

    rows, counts = tensor_of(Z), tensor_of(weight)
    name, n_noise = loss
    if name == "dsm" and n_noise is None:
        return likelihood_covariance(parameters, kind, rows, counts, natural)
    n_used = min(len(Z), MAX_ROWS)
    chosen = random.choice(len(Z), n_used, replace=False) if n_used < len(Z) else slice(None)
    losses = row_losses(name, n_noise or 1, rows[chosen], torch_generator(seed_from(random)))
    entries = EntriesMixture(parameters, kind)
    n_free = sum(parameter.numel() for parameter in entries.parameters())
    # Derivatives in all parameters at once take as many times the memory.
    chunk = losses.rows_within(CHUNK_NUMBERS // n_free, len(parameters.means))
    share = float(counts[chosen].sum() / counts.sum())
    return share * sandwich(entries, losses, counts[chosen], chunk, natural).numpy()


class EntriesMixture(MixtureScores):
    """A mixture by the entries of its covariances.

    A loss of new noise has a slope at the minimiser of another. In the angles of the axes its
    curvature is the slope's own, by chance of any size, where two eigenvalues are close; in the
    entries it is that of the loss.
    """

    def __init__(self, parameters: Parameters, kind: str):
        super().__init__()
        self.kind = kind
        self.logits = nn.Parameter(parameters.weights.log())
        self.means = nn.Parameter(parameters.means.clone())
        covariances = all_covariances(parameters, kind)
        covariances = covariances[:1] if kind == "tied" else covariances
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

    def natural(self) -> Parameters:
        """The parameters, whose covariances are full."""
        k, d = self.means.shape
        return Parameters(self.logits.softmax(0), self.means, self.covariances().expand(k, d, d))


def sandwich(
    entries: EntriesMixture,
    losses: RowLosses,
    weight: Tensor,
    chunk: int,
    natural: Callable[[Parameters], Tensor],
) -> Tensor:
    r"""Covariance (q, q) of functions of a mixture that minimises a mean of row losses.

    .. math:: J A^+ B A^+ J^T, \qquad A = \sum_i w_i \nabla^2 \ell_i, \qquad
        B = \sum_i w_i \nabla\ell_i \nabla\ell_i^T,

    with the Jacobian J of the functions in the free parameters: the logits of the weights, the
    means, and the entries of the covariances. A weight w stands for w equal rows.
    """
    load_forward_mode()
    names = [f"network.{name}" for name, _ in entries.named_parameters()]
    free = [p.detach() for p in entries.parameters()]
    sizes = [p.numel() for p in free]

    def unpacked(theta: Tensor) -> dict[str, Tensor]:
        parts = theta.split(sizes)
        return {n: part.reshape(p.shape) for n, part, p in zip(names, parts, free, strict=True)}

    def losses_of(part: slice, theta: Tensor) -> Tensor:
        return functional_call(_Call(entries, losses, part), unpacked(theta), ())

    def functions(theta: Tensor) -> Tensor:
        return natural(functional_call(_Natural(entries), unpacked(theta), ()))

    theta = torch.cat([p.flatten() for p in free])
    bread, meat = theta.new_zeros(2, len(theta), len(theta))
    for part in chunks(len(weight), chunk):
        w, of_rows = weight[part].double(), partial(losses_of, part)
        bread = bread + torch.func.hessian(partial(_dot, w, of_rows))(theta)
        slopes = torch.func.jacfwd(of_rows)(theta)
        meat = meat + slopes.T @ (w[:, None] * slopes)
    inverse = torch.linalg.pinv(bread, hermitian=True)
    jacobian = torch.func.jacrev(functions)(theta)
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

    def forward(self) -> Parameters:
        return self.network.natural()
