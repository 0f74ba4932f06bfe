"""The network that steers a sampler."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

# Frequencies of the time's Fourier features, and units that turn them into gains.
N_FREQUENCIES, TIME_UNITS = 16, 32
# Initial weights of last layers, in units of the usual ones.
SMALL = 1e-2


class _Linear(nn.Module):
    """A linear map whose weights come from a generator, never from the global seed."""

    def __init__(self, n_in: int, n_out: int, generator: torch.Generator, gain: float = 1.0):
        super().__init__()
        std = gain / math.sqrt(n_in)
        self.weight = nn.Parameter(std * torch.randn(n_out, n_in, generator=generator))
        self.bias = nn.Parameter(torch.zeros(n_out))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight, self.bias)


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
            _Linear(n_in, n_out, generator) for n_in, n_out in pairwise(widths)
        )
        self.shifts = nn.ModuleList(
            _Linear(n_times, n_out, generator, SMALL) for n_out in widths[1:]
        )
        # With a guide, half of the outputs scale it state by state.
        n_outputs = (1 + guided) * n_features
        self.last = _Linear(widths[-1], n_outputs, generator, SMALL)
        self.guided = guided
        if guided:
            self.gain = nn.Sequential(
                _Linear(n_times, TIME_UNITS, generator),
                nn.GELU(),
                _Linear(TIME_UNITS, n_features, generator, SMALL),
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
