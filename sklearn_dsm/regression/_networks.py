"""Small networks from features to mixtures of normals, one a member, computed together."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.special import ndtri
from torch import Tensor, nn
from torch.nn import functional

from .._tabular.heads import Normals

# The smallest scale of a component.
LEAST_LOG_SCALE = -6.0
# Linear combinations of inputs that go to the outputs as they are.
N_LINEAR = 8


class MixtureNetworks(nn.Module):
    """Networks of two hidden layers whose outputs move a mixture of normals away from its start.

    Parameters
    ----------
    visible : ndarray of bool, of shape (n_members, n_inputs)
        Inputs that each member sees.
    starts : ndarray of shape (n_members, 3, n_components)
        Log-weights, means and log-scales where the outputs are 0, as they are at first.
    width : int
        Of the hidden layers.
    """

    visible: Tensor
    starts: Tensor

    def __init__(self, visible, starts, width: int, generator: torch.Generator | None = None):
        super().__init__()
        (n_members, n_inputs), n_last = visible.shape, width + N_LINEAR
        n_outputs = 2 + 3 * starts.shape[-1]
        seen = torch.from_numpy(np.asarray(visible, dtype=np.float32))
        self.register_buffer("visible", seen[:, :, None])
        self.register_buffer("starts", torch.from_numpy(np.asarray(starts, dtype=np.float32)))

        def start(*size, scale):
            return nn.Parameter(scale * torch.randn(n_members, *size, generator=generator))

        self.first = start(n_inputs, n_last, scale=max(1, n_inputs) ** -0.5)
        self.first_bias = nn.Parameter(torch.zeros(n_members, 1, n_last))
        self.second = start(width, width, scale=width**-0.5)
        self.second_bias = nn.Parameter(torch.zeros(n_members, 1, width))
        self.last = nn.Parameter(torch.zeros(n_members, n_last, n_outputs))
        self.last_bias = nn.Parameter(torch.zeros(n_members, 1, n_outputs))

    def forward(self, inputs: Tensor, kept: tuple[Tensor, Tensor] | None = None) -> Normals:
        """Mixtures (n_members, n, n_components) from inputs (n, n_inputs), or of each member.

        Parameters
        ----------
        inputs : Tensor
        kept : pair of Tensor of shape (n_members, n, width), optional
            Factors of hidden units, 0 for those that are dropped out.
        """
        width = self.second.shape[-1]
        first = inputs @ (self.first * self.visible) + self.first_bias
        hidden = functional.silu(first[..., :width])
        if kept is not None:
            hidden = hidden * kept[0]
        more = functional.silu(hidden @ self.second + self.second_bias)
        if kept is not None:
            more = more * kept[1]
        last = torch.cat([hidden + more, first[..., width:]], -1)
        return self._mixtures(last @ self.last + self.last_bias)

    def _mixtures(self, outputs: Tensor) -> Normals:
        log_weight, mean, log_scale = self.starts[:, None].unbind(2)
        location, spread = outputs[..., :1], outputs[..., 1:2]
        logits, shifts, widths = outputs[..., 2:].split(mean.shape[-1], -1)
        return Normals(
            torch.log_softmax(log_weight + logits, -1),
            location + torch.exp(spread) * (mean + shifts),
            (spread + log_scale + widths).clamp_min(LEAST_LOG_SCALE),
        )


def of_state(state: dict[str, Tensor]) -> MixtureNetworks:
    """Networks with the weights of a state, to be evaluated in double precision."""
    visible, starts = state["visible"][..., 0].numpy(), state["starts"].numpy()
    networks = MixtureNetworks(visible, starts, state["second"].shape[-1])
    networks.load_state_dict(state)
    return networks.double()


def started(weights: np.ndarray, means: np.ndarray, scales: np.ndarray, least: int) -> np.ndarray:
    """A mixture (k,) as a start (3, n_components) with at least so many components.

    Its components are split into narrower ones, which lie at quantiles of it, and have its mean
    and variance together.
    """
    n_parts = -(-least // len(weights))
    places = ndtri((np.arange(n_parts) + 0.5) / n_parts)
    narrower = math.sqrt(1 - places.var())
    parts = (
        np.repeat(np.log(weights / n_parts), n_parts),
        (means[:, None] + scales[:, None] * places).ravel(),
        np.repeat(np.log(scales * narrower), n_parts),
    )
    return np.stack(parts)


def apart(n_components: int) -> np.ndarray:
    """A start (3, n_components) of equal components side by side, nearly standard normal."""
    places = np.linspace(-1, 1, n_components)
    scale = math.sqrt(1 - places.var())
    log_weight, log_scale = (np.full(n_components, np.log(v)) for v in (1 / n_components, scale))
    return np.stack([log_weight, places, log_scale])
