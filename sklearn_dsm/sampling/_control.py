"""The network that steers a sampler."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .._core.scores.network import SeededLinear

# Frequencies of the time's Fourier features, and units that turn them into gains.
N_FREQUENCIES, TIME_UNITS = 16, 32
# Initial weights of last layers, in units of the usual ones.
SMALL = 1e-2


class Schedule(NamedTuple):
    """Shifts (n_steps + 1, 1, width) of each layer, and factors of the guide if there is one."""

    shifts: list[Tensor]
    gain: Tensor | None


class Control(nn.Module):
    r"""The steering term :math:`n_\theta(x, t) + k_\theta(t) g`, with a guide g or without.

    Parameters
    ----------
    n_features : int
    n_steps : int
        States are numbered 0, the start, to ``n_steps``.
    hidden_layer_sizes : sequence of int
    guided : bool
        Whether there are guides: directions, mostly gradients of the log-density, that the
        network scales by a factor for each feature. The factors start at one.
    generator : torch.Generator
        For the initial weights.
    """

    times: Tensor

    def __init__(
        self,
        n_features: int,
        n_steps: int,
        hidden_layer_sizes: Sequence[int],
        guided: bool,
        generator: torch.Generator,
    ):
        super().__init__()
        share = torch.linspace(0, 1, n_steps + 1)[:, None]
        angles = math.pi * share * torch.arange(1, N_FREQUENCIES + 1)
        times = torch.cat([angles.sin(), angles.cos()], 1)
        self.register_buffer("times", times, persistent=False)
        n_times = times.shape[1]
        widths = [n_features, *hidden_layer_sizes]
        self.layers = nn.ModuleList(
            SeededLinear(n_in, n_out, generator) for n_in, n_out in pairwise(widths)
        )
        self.shifts = nn.ModuleList(
            SeededLinear(n_times, n_out, generator, SMALL) for n_out in widths[1:]
        )
        # With a guide, half of the outputs scale it state by state.
        n_outputs = (1 + guided) * n_features
        self.last = SeededLinear(widths[-1], n_outputs, generator, SMALL)
        self.guided = guided
        if guided:
            self.gain = nn.Sequential(
                SeededLinear(n_times, TIME_UNITS, generator),
                nn.GELU(),
                SeededLinear(TIME_UNITS, n_features, generator, SMALL),
            )

    def schedule(self) -> Schedule:
        """What the network adds and scales by at each state, for many states of a path."""
        gain = 1 + self.gain(self.times)[:, None] if self.guided else None
        return Schedule([shift(self.times)[:, None] for shift in self.shifts], gain)

    def forward(
        self, x: Tensor, steps: slice | int | Tensor, guide: Tensor | None, schedule: Schedule
    ) -> Tensor:
        """Controls (..., n, d) in float64 of states (..., n, d) with these numbers."""
        h = x.float()
        for layer, shifts in zip(self.layers, schedule.shifts, strict=True):
            h = nn.functional.gelu(layer(h) + shifts[steps])
        control = self.last(h)
        if guide is not None and schedule.gain is not None:
            control, gain = control.chunk(2, -1)
            control = control + (schedule.gain[steps] + gain) * guide.float()
        return control.double()
