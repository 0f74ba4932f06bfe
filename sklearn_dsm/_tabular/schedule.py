"""What trainings of small networks share: learning rates, batches, and averages of weights."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

WARM_UP_STEPS, LEAST_RATE = 20, 0.01
# Weights are averaged over about so many steps, and the averages are judged.
AVERAGED_STEPS = 50


def rate_factor(step: int, share: float) -> float:
    """Of the learning rate at a step, the first of which is 1, after a share of the training."""
    return min(1.0, step / WARM_UP_STEPS) * max(1 - share, LEAST_RATE)


def average(targets: Iterable[Tensor], sources: Iterable[Tensor], step: int) -> None:
    """Move averages towards the weights of a step."""
    moved, ahead = ([part.data for part in each] for each in (targets, sources))
    torch._foreach_lerp_(moved, ahead, max(1 / step, 1 / AVERAGED_STEPS))


class Batches:
    """Rows in random order, batch by batch, and again in another order.

    Parameters
    ----------
    n, size : int
        Rows, and rows of a batch.
    generator : torch.Generator
    """

    def __init__(self, n: int, size: int, generator: torch.Generator):
        self._n, self.size, self._generator = n, size, generator
        self._left = torch.empty(0, dtype=torch.long)

    def next(self) -> Tensor:
        """The rows of the next batch."""
        if len(self._left) < self.size:
            self._left = torch.randperm(self._n, generator=self._generator)
        rows, self._left = self._left[: self.size], self._left[self.size :]
        return rows
