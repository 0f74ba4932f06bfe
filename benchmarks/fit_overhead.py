"""What training through skorch costs over a bare torch loop that does the same arithmetic."""

from __future__ import annotations

import time

import numpy as np
import torch
from _report import Report

from sklearn_dsm._core.averaging import WeightAverage
from sklearn_dsm._core.distributions.gaussian import GaussianScore
from sklearn_dsm._core.losses.denoising import DSM
from sklearn_dsm._core.losses.loss import TrainingRows
from sklearn_dsm._core.noise.level_sampling import LogisticLevels
from sklearn_dsm._core.precision import half_precision, product_type
from sklearn_dsm._core.random import torch_generator
from sklearn_dsm._core.scores.corrected import CorrectedScore
from sklearn_dsm._core.scores.network import ScoreNetwork
from sklearn_dsm._training import TrainingSettings, train
from sklearn_dsm._training.optimizer import MuonAdamW

D, N_ROWS, BATCH, EPOCHS, N_PAIRS = 4, 51_200, 512, 4, 7
LEVELS = LogisticLevels(-12.0, 13.8)


def fresh_model(width):
    network = ScoreNetwork(D, (width, width), torch_generator(0))
    return CorrectedScore(GaussianScore(torch.zeros(D), torch.eye(D)), network)


def bare_loop(rows, weight, width):
    """Shuffle, noise, step and average, with nothing around it."""
    model, loss, generator = fresh_model(width), DSM(), torch_generator(0)
    optimizer = MuonAdamW(
        model.parameters(),
        model.network.hidden_matrices,
        product_type(rows.device.type),
        lr=2e-3,
        weight_decay=0.0,
        fused=True,
    )
    average = WeightAverage(model)
    for _ in range(EPOCHS):
        order = torch.randperm(N_ROWS, generator=generator)
        for start in range(0, N_ROWS, BATCH):
            index = order[start : start + BATCH]
            optimizer.zero_grad()
            with half_precision(rows.device):
                value = loss(model, TrainingRows(rows[index], weight[index]), LEVELS, generator)
            value.backward()
            optimizer.step()
            average.update(model)


def through_skorch(rows, weight, width):
    # A held-out set of one row: its evaluation is no part of the loop compared here.
    settings = TrainingSettings(EPOCHS, BATCH, 2e-3, n_iter_no_change=EPOCHS, held_out_draws=2)
    table, held_out = TrainingRows(rows, weight), TrainingRows(rows[:1], weight[:1])
    train(fresh_model(width), DSM(), LEVELS, table, held_out, settings, torch_generator(0))


def seconds(function, *arguments):
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


def main():
    report = Report(
        "fit_overhead",
        f"Training step, batch {BATCH}, {D} columns: skorch over a bare loop, {N_PAIRS} pairs",
    )
    rows = torch.randn(N_ROWS, D, generator=torch_generator(1))
    weight = torch.ones(N_ROWS)
    for width in (32, 64, 256):
        pairs = [
            (seconds(through_skorch, rows, weight, width), seconds(bare_loop, rows, weight, width))
            for _ in range(N_PAIRS + 1)
        ][1:]
        ratios = np.array([ours / bare for ours, bare in pairs])
        step = np.median([bare for _, bare in pairs]) / (EPOCHS * N_ROWS / BATCH)
        report(
            f"two layers of {width:3d}: bare step {1e6 * step:6.0f} us; ratio median "
            f"{np.median(ratios):.3f} ({ratios.min():.3f} to {ratios.max():.3f})"
        )
    report.save()


if __name__ == "__main__":
    main()
