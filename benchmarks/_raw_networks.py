"""Plain perceptrons that stand for the score as a paper has it, and how they are trained.

Two ways to write one and the same unknown, with a network n of a row and the clock:

- smoothed: the score at variance-preserving levels is -x + n(x);
- pinned: the drift of a pinned Brownian motion of scale 1 is n(Y).

Divided by the deviation of its level, a row of either process is the same row y at the same
log-SNR. With a^2 + v = 1 there, Y = a y, and the correction of the noise that standard normal
rows would hold is -sqrt(v) n(y) in the first form and -a sqrt(v) n(a y) in the second. So both
start as the same model, and differ in a factor a, which goes to 0 in the noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sklearn_dsm import PBM, VP
from sklearn_dsm._core.distributions.gaussian import GaussianScore
from sklearn_dsm._core.noise.level import NoiseLevel
from sklearn_dsm._core.noise.processes import NoiseProcess
from sklearn_dsm._core.scores.corrected import CorrectedScore
from sklearn_dsm._core.scores.follmer import foellmer_drift

N_WAVES, PERIOD = 8, 32.0
# The process times that are used end so far from 0 and 1.
MARGIN = 1e-3
LEARNING_RATE = 2e-3


class RawNetwork(nn.Module):
    """Two hidden layers of silu units on a row and on waves of the log-SNR.

    Parameters
    ----------
    n_features, width : int
    pinned : bool
        Whether the output is the drift of the pinned process, else the score less -x.
    generator : torch.Generator
    """

    whole = False

    def __init__(self, n_features: int, width: int, pinned: bool, generator: torch.Generator):
        super().__init__()
        sizes = (n_features + 2 * N_WAVES, width, width)
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(sizes))
        self.output = nn.Linear(width, n_features)
        self.pinned = pinned
        for layer in self.layers:
            nn.init.normal_(layer.weight, std=layer.in_features**-0.5, generator=generator)
            nn.init.zeros_(layer.bias)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def raw(self, x: Tensor, log_snr: Tensor) -> Tensor:
        """n(x), where x is in the space of its own process."""
        angles = log_snr * torch.arange(1, N_WAVES + 1).to(x) * (2 * math.pi / PERIOD)
        clock = torch.cat([angles.sin(), angles.cos()], -1).expand(*x.shape[:-1], -1)
        h = torch.cat([x, clock], -1)
        for layer in self.layers:
            h = nn.functional.silu(layer(h))
        return self.output(h)

    def forward(self, y: Tensor, log_snr: Tensor, context: Tensor | None = None) -> Tensor:
        """What the noise is more than standard normal rows would hold."""
        level = NoiseLevel.from_log_snr(log_snr)
        factor = level.a if self.pinned else torch.ones_like(level.a)
        return -level.v.sqrt() * factor * self.raw(factor * y, log_snr)


def raw_model(n_features: int, width: int, pinned: bool, seed: int) -> CorrectedScore:
    """An untrained model, which is the score of standard normal rows."""
    generator = torch.Generator().manual_seed(seed)
    reference = GaussianScore(torch.zeros(n_features), torch.eye(n_features))
    return CorrectedScore(reference, RawNetwork(n_features, width, pinned, generator))


class Clock(NamedTuple):
    """A process with the weight of the squared error of the noise at its times.

    For the pinned process (1 - t) |b - (X_0 - Y) / (1 - t)|^2 is the squared error over t.
    """

    process: NoiseProcess
    weight: Callable[[Tensor], Tensor]


CLOCKS = {
    "VP": Clock(VP(), torch.ones_like),
    "PBM": Clock(PBM(), lambda time: 1 / (1 - time)),
}


def train(
    model: CorrectedScore, clock: Clock, rows: Tensor, n_steps: int, batch_size: int, seed: int
) -> None:
    """Minimise the process's own loss, at times uniform in it, with the noise of both signs."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.network.parameters(), lr=LEARNING_RATE, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps)
    for _ in range(n_steps):
        clean = rows[torch.randint(len(rows), (batch_size,), generator=generator)].repeat(2, 1)
        noise = torch.randn(batch_size, rows.shape[1], generator=generator)
        noise = torch.cat([noise, -noise])
        time = MARGIN + (1 - 2 * MARGIN) * torch.rand(batch_size, 1, generator=generator)
        time = time.repeat(2, 1)
        level = clock.process.level(time)
        seen, learned = model.noise_and_correction(level.a * clean + level.v.sqrt() * noise, level)
        loss = (clock.weight(time) * (noise - seen - learned) ** 2).sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


def generation_drift(
    model: CorrectedScore, process: NoiseProcess, x: Tensor, time: Tensor
) -> Tensor:
    """The drift of the reverse diffusion per unit of generation time."""
    if isinstance(process, PBM):
        return foellmer_drift(model, process, x, time)
    drift, diffusion = process.drift_and_diffusion(time)
    return diffusion * model.score(x, process.level(time)) - drift * x


@torch.no_grad()
def generate(
    model: CorrectedScore, process: NoiseProcess, n_rows: int, n_steps: int, seed: int
) -> Tensor:
    """The reverse diffusion by equal Euler steps of process time, then the row to expect."""
    generator = torch.Generator().manual_seed(seed)
    shape = n_rows, len(model.reference.mean)
    times = torch.linspace(1 - MARGIN, MARGIN, n_steps + 1)
    x = process.level(times[0]).v.sqrt() * torch.randn(shape, generator=generator)
    for time, after in pairwise(times):
        diffusion = process.drift_and_diffusion(time)[1]
        x = x + (time - after) * generation_drift(model, process, x, time)
        x = x + (diffusion * (time - after)).sqrt() * torch.randn(shape, generator=generator)
    return model.posterior_mean(x, process.level(times[-1]))
