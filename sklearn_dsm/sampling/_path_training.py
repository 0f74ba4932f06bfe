"""The training of a sampler's network on paths of its own."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import nn

from .._budget import Budget
from .._core.averaging import WeightAverage
from .._training import NonFiniteLossError
from ._control import Control
from ._path_losses import PathLoss
from ._processes.process import Process
from ._target import Target

# Longer gradients are shortened to this.
MAX_GRADIENT = 1.0
# Share of the time for training; the rest is for the samples that measure the weights.
TRAINING_SHARE = 0.85
# Lines of verbose=1, and how many iterations a mean of the losses is over.
LINES, RECENT = 20, 50


class Sampler(nn.Module):
    """A process and the network that controls it."""

    def __init__(self, process: Process, control: Control):
        super().__init__()
        self.process, self.control = process, control


@dataclass
class SamplerRecord:
    """What a training left behind: the loss of each iteration, and why it ended."""

    losses: list[float] = field(default_factory=list)
    stop_reason: str = "max_iter"


def train(
    sampler: Sampler,
    loss: PathLoss,
    target: Target,
    *,
    max_iter: int,
    batch_size: int,
    learning_rate: float,
    budget: Budget,
    generator: torch.Generator,
    verbose: int = 0,
) -> tuple[Sampler, SamplerRecord]:
    """Train in place, and return a copy with averaged weights and the record.

    An interrupt ends the training; the record says so.
    """
    learned = [each for each in sampler.parameters() if each.requires_grad]
    optimizer = torch.optim.Adam(learned, lr=learning_rate)
    average, record, n_lines = WeightAverage(sampler), SamplerRecord(), 0
    try:
        for i in range(max_iter):
            share = max(i / max_iter, budget.share_taken / TRAINING_SHARE)
            if i and share >= 1:
                record.stop_reason = "max_fit_time"
                break
            optimizer.param_groups[0]["lr"] = learning_rate * _rate(share)
            found = loss(sampler.process, sampler.control, target, batch_size, generator)
            if not math.isfinite(found.value):
                raise NonFiniteLossError(
                    f"The loss is {found.value} in iteration {i + 1}. Lower learning_rate, or "
                    "choose a prior_scale nearer to the scale of the target."
                )
            optimizer.zero_grad()
            found.surrogate.backward()
            nn.utils.clip_grad_norm_(learned, MAX_GRADIENT)
            optimizer.step()
            average.update(sampler)
            record.losses.append(found.value)
            if verbose and (verbose > 1 or share * LINES >= n_lines):
                n_lines += 1
                _print_line(record, share, budget)
    except KeyboardInterrupt:
        if not record.losses:
            raise
        record.stop_reason = "interrupted"
    return average.module, record


def _rate(share: float) -> float:
    """The learning rate, in units of the largest, after a share of the training."""
    return 0.5 * (1 + math.cos(math.pi * min(share, 1.0))) + 1e-3


def _print_line(record: SamplerRecord, share: float, budget: Budget) -> None:
    recent = record.losses[-RECENT:]
    print(
        f"[{budget.taken:6.1f} s] {share:4.0%}: iteration {len(record.losses)}, "
        f"loss {sum(recent) / len(recent):.4g}",
        flush=True,
    )
