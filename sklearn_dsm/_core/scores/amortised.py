"""A log-density in one network pass: a regression on what solving the ODE gives."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..precision import half_precision
from .network import ScoreNetwork

# The log-SNRs at which the score network's layers are taken over.
HEAD_LEVELS = (-2.0, 0.0, 2.0, 4.0, 7.0)
HEAD_WIDTH = 128


class LogDensityHead(nn.Module):
    r"""The difference between a model's log-density and its reference's, by regression.

    .. math:: h(z) = c + s\, v^T f\left(V [\phi_1(z), ..., \phi_K(z)] + b\right)

    Every :math:`\phi_k` starts as the hidden layers of the score network at one noise level,
    with :math:`|\epsilon|^2` and :math:`\epsilon \cdot z` of its output :math:`\epsilon`,
    which the likelihood identity is made of; all of it is trained further.

    Parameters
    ----------
    network : ScoreNetwork
    generator : torch.Generator
        Source of the head's own weights.
    levels : sequence of float
    width : int
    """

    radius: Tensor
    center: Tensor
    spread: Tensor

    def __init__(
        self,
        network: ScoreNetwork,
        generator: torch.Generator,
        levels: Sequence[float] = HEAD_LEVELS,
        width: int = HEAD_WIDTH,
    ):
        super().__init__()
        self.activations, self.half_precision = network.activations, network.half_precision
        self.branches = nn.ModuleList(self._branch(network, level) for level in levels)
        n_in = len(levels) * (network.hidden_layer_sizes[-1] + 2)
        # Their usual weights would come from torch's global generator.
        self.mix = nn.utils.skip_init(nn.Linear, n_in, width)
        self.out = nn.utils.skip_init(nn.Linear, width, 1)
        with torch.no_grad():
            self.mix.weight.normal_(std=1 / math.sqrt(n_in), generator=generator)
            for zero in (self.mix.bias, self.out.weight, self.out.bias):
                zero.zero_()
        for name in ("radius", "spread"):
            self.register_buffer(name, torch.ones(()))
        self.register_buffer("center", torch.zeros(()))

    @staticmethod
    def _branch(network: ScoreNetwork, level: float) -> nn.ParameterList:
        """Weights and shifts of the layers at a level, the output's matrix last."""
        log_snr = network.output.new_tensor(level)
        matrices, shifts, output = network.layers_at(log_snr)
        first = torch.sigmoid(log_snr).sqrt() * matrices[0]
        parts = [first, *matrices[1:], *shifts, output]
        return nn.ParameterList(part.detach().clone() for part in parts)

    def forward(self, z: Tensor) -> Tensor:
        """Differences (n,) in nats; a row farther out than any learned from is drawn nearer."""
        norm = torch.linalg.vector_norm(z, dim=-1, keepdim=True)
        # The origin has no direction.
        norm = norm.clamp(min=torch.finfo(norm.dtype).tiny)
        z = (z * (self.radius / norm).clamp(max=1)).to(self.out.weight.dtype)
        # What rounding adds to a log-density is a small part of the head's own error.
        with half_precision(z.device, self.half_precision and z.dtype == torch.float32):
            features = torch.cat([self._features(branch, z) for branch in self.branches], -1)
            hidden = nn.functional.silu(self.mix(features))
        found: Tensor = self.center + self.spread * self.out(hidden.to(z.dtype)).squeeze(-1)
        return found

    def _features(self, branch: Any, z: Tensor) -> Tensor:
        n, h = len(self.activations), z
        for matrix, shift, f in zip(branch[:n], branch[n : 2 * n], self.activations, strict=True):
            h = f(nn.functional.linear(h, matrix, shift))
        noise = nn.functional.linear(h, branch[-1])
        summands = [(noise * other).sum(-1, keepdim=True) for other in (noise, z)]
        return torch.cat([h, *summands], -1)
