"""Averages of a module's weights over training steps."""

from __future__ import annotations

import copy
from typing import Any, Generic, TypeVar

import torch
from torch import nn

from .._compat import interpolate_
from .arrays import arrays_of, state_of

EMA_DECAY = 0.999

Module = TypeVar("Module", bound=nn.Module)


class WeightAverage(Generic[Module]):
    """A module whose weights are an exponential moving average, short at first."""

    def __init__(self, module: Module):
        self.module, self.n_updates = copy.deepcopy(module), 0

    @property
    def memory(self) -> dict[str, Any]:
        """The average as arrays, and of how many steps it is."""
        return {"n_updates": self.n_updates, "weights": arrays_of(self.module)}

    @memory.setter
    def memory(self, memory: dict[str, Any]) -> None:
        self.n_updates = memory["n_updates"]
        self.module.load_state_dict(state_of(memory["weights"]))

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Count the module's present weights."""
        n = self.n_updates = self.n_updates + 1
        averages, weights = tuple(self.module.parameters()), tuple(module.parameters())
        interpolate_(averages, weights, 1 - min(EMA_DECAY, n / (9 + n)))
