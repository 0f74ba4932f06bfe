"""Standard errors of a mixture's parameters, by the sandwich formula."""

from __future__ import annotations

import copy
from functools import partial

import torch
from torch import Tensor
from torch.func import functional_call

from .._forward_mode import load_forward_mode
from ..density._evaluation import chunks
from ..mixture_network import MixtureNetwork
from ._row_losses import RowLosses


def natural_parameters(network: MixtureNetwork) -> Tensor:
    """Weights, means and covariances of the network's kind, one after the other, shape (q,)."""
    covariances = network.covariances()
    if network.kind == "diag":
        covariances = covariances.diagonal(dim1=1, dim2=2)
    elif network.kind == "spherical":
        covariances = covariances[:, 0, 0]
    return torch.cat([network.logits.softmax(0), network.means.flatten(), covariances.flatten()])


def sandwich(network: MixtureNetwork, losses: RowLosses, weight: Tensor, chunk: int) -> Tensor:
    r"""Covariance (q, q) of the natural parameters of a minimiser of a mean of row losses.

    .. math:: J A^+ B A^+ J^T, \qquad A = \sum_i w_i \nabla^2 \ell_i, \qquad
        B = \sum_i w_i \nabla\ell_i \nabla\ell_i^T,

    with the Jacobian J of the natural parameters in those that are free. A weight w stands
    for w equal rows.
    """
    load_forward_mode()
    network = copy.deepcopy(network).double()
    names = [f"network.{name}" for name, _ in network.named_parameters()]
    free = [p.detach() for p in network.parameters()]
    sizes = [p.numel() for p in free]

    def unpacked(theta: Tensor) -> dict[str, Tensor]:
        parts = theta.split(sizes)
        return {n: part.reshape(p.shape) for n, part, p in zip(names, parts, free, strict=True)}

    def row_losses(part: slice, theta: Tensor) -> Tensor:
        return functional_call(_Call(network, losses, part), unpacked(theta), ())

    def natural(theta: Tensor) -> Tensor:
        return functional_call(_Natural(network), unpacked(theta), ())

    theta = torch.cat([p.flatten() for p in free])
    bread, meat = theta.new_zeros(2, len(theta), len(theta))
    for part in chunks(len(weight), chunk):
        w, of_rows = weight[part].double(), partial(row_losses, part)
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

    def __init__(self, network: MixtureNetwork, losses: RowLosses, part: slice):
        super().__init__()
        self.network, self.losses, self.rows = network, losses, part

    def forward(self) -> Tensor:
        return self.losses.part(self.network, self.rows)


class _Natural(torch.nn.Module):
    def __init__(self, network: MixtureNetwork):
        super().__init__()
        self.network = network

    def forward(self) -> Tensor:
        return natural_parameters(self.network)
