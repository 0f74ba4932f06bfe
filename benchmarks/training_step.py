"""A training step of the default network against the machine's ceiling for matrix products."""

from __future__ import annotations

import time

import numpy as np
import torch
from _report import Report

from sklearn_dsm._random import torch_generator
from sklearn_dsm._training import TrainingSettings, train
from sklearn_dsm.levels import LogisticLevels
from sklearn_dsm.losses import DSM, ROWS_PER_LEVEL
from sklearn_dsm.networks import ScoreNetwork
from sklearn_dsm.scores import CorrectedScore, GaussianScore

D, WIDTHS, N_STEPS, N_REPEATS = 10, (128, 128, 128, 128), 200, 5
BATCHES = (512, 2048)
LEVELS = LogisticLevels(-12.0, 13.8)
CEILING_SIZE = 2048


def ceiling(dtype: torch.dtype) -> float:
    """Multiplications and additions a second in products of large square matrices."""
    a, b = (torch.randn(CEILING_SIZE, CEILING_SIZE).to(dtype) for _ in range(2))
    seconds = []
    for _ in range(N_REPEATS + 1):
        started = time.perf_counter()
        a @ b
        seconds.append(time.perf_counter() - started)
    return 2 * CEILING_SIZE**3 / min(seconds[1:])


def operations(batch: int) -> float:
    """Those of the matrix products of a step: forward, and twice as many backward."""
    network = ScoreNetwork(D, WIDTHS, torch_generator(0))
    layers = sum(w.numel() for w in network.weights) + network.output.numel()
    levels = network.level_hidden.weight.numel() + network.level_output.weight.numel()
    return 3 * 2 * (2 * batch * layers + batch // ROWS_PER_LEVEL * levels)


def step_seconds(batch: int) -> float:
    """Median time of a step of the package's own training loop, held-out rows left out."""
    rows = torch.randn(N_STEPS * batch, D, generator=torch_generator(1))
    weight, seconds = torch.ones(len(rows)), []
    settings = TrainingSettings(1, batch, 2e-3, n_iter_no_change=1, held_out_draws=2)
    for _ in range(N_REPEATS):
        network = ScoreNetwork(D, WIDTHS, torch_generator(0))
        model = CorrectedScore(GaussianScore(torch.zeros(D), torch.eye(D)), network)
        started = time.perf_counter()
        held_out = rows[:1], weight[:1]
        train(model, DSM(), LEVELS, (rows, weight), held_out, settings, torch_generator(0))
        seconds.append((time.perf_counter() - started) / N_STEPS)
    return float(np.median(seconds))


def main() -> None:
    report = Report("training_step", f"Training step, {D} columns, layers {WIDTHS}")
    single, half = (ceiling(dtype) for dtype in (torch.float32, torch.bfloat16))
    report(
        f"matrix products of size {CEILING_SIZE}: {single / 1e9:.0f} GFLOP/s in float32, "
        f"{half / 1e9:.0f} in bfloat16"
    )
    for batch in BATCHES:
        seconds = step_seconds(batch)
        rate = operations(batch) / seconds
        report(
            f"batch {batch:>4}: {1e3 * seconds:.2f} ms a step, its products "
            f"{operations(batch) / 1e6:.0f} MFLOP: {rate / single:.0%} of the float32 ceiling, "
            f"{rate / half:.0%} of the bfloat16 ceiling"
        )
    report.save()


if __name__ == "__main__":
    main()
