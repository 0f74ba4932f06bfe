"""Training steps of the default network: against the ceiling for matrix products, eager and
compiled, on the processor and, where there is one, on a GPU, there also kernel by kernel."""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from _report import Report
from torch.profiler import ProfilerActivity, profile

from sklearn_dsm._core.distributions.gaussian import GaussianScore
from sklearn_dsm._core.losses.denoising import DSM
from sklearn_dsm._core.losses.loss import ROWS_PER_LEVEL, TrainingRows
from sklearn_dsm._core.noise.level_sampling import LogisticLevels
from sklearn_dsm._core.random import torch_generator
from sklearn_dsm._core.scores.corrected import CorrectedScore
from sklearn_dsm._core.scores.network import ScoreNetwork
from sklearn_dsm._training import TrainingSettings, train
from sklearn_dsm._training.optimizer import N_ITERATIONS

D, WIDTHS, N_REPEATS = 10, (128, 128, 128, 128), 3
# Recorded steps are many, to make little of their recording.
N_STEPS, N_RECORDED_STEPS, N_PROFILED = 200, 1000, 100
BATCHES = (512, 2048)
LEVELS = LogisticLevels(-12.0, 13.8)
CEILING_SIZE = {"cpu": 2048, "cuda": 8192}
# On a GPU steps are recorded as one graph, unless every kernel is to be launched.
EAGER, COMPILED, LAUNCHED = "eager", "compiled", "launched"
MODES = {
    EAGER: {},
    COMPILED: {"compile": True},
    LAUNCHED: {"record_steps": False},
}
MODES_OF = {"cpu": (EAGER, COMPILED), "cuda": (LAUNCHED, EAGER, COMPILED)}


class Steps(NamedTuple):
    """What the steps of one setting took."""

    device: str
    mode: str
    batch: int
    n_steps: int
    first_run: float
    seconds: float
    busy: float | None

    @property
    def rows_per_second(self) -> float:
        return self.batch / self.seconds


def wait_for(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def ceiling(device: str, dtype: torch.dtype) -> float:
    """Multiplications and additions a second in products of large square matrices."""
    size, seconds = CEILING_SIZE[device], []
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    for _ in range(N_REPEATS + 1):
        wait_for(device)
        started = time.perf_counter()
        a @ b
        wait_for(device)
        seconds.append(time.perf_counter() - started)
    return 2 * size**3 / min(seconds[1:])


def operations(batch: int) -> float:
    """Those of the matrix products of a step: forward, twice as many backward, the optimiser's."""
    network = ScoreNetwork(D, WIDTHS, torch_generator(0))
    layers = sum(w.numel() for w in network.weights) + network.output.numel()
    levels = network.level_hidden.weight.numel() + network.level_output.weight.numel()
    gradient = 3 * (2 * batch * layers + batch // ROWS_PER_LEVEL * levels)
    shapes = (sorted(matrix.shape) for matrix in network.hidden_matrices)
    orthogonal = N_ITERATIONS * sum(short**3 + 2 * short**2 * long for short, long in shapes)
    return 2 * (gradient + orthogonal)


class Training:
    """Runs of the package's own training loop, the held-out rows left out."""

    def __init__(self, device: str, mode: str, batch: int, n_steps: int):
        self.device, self.n_steps = device, n_steps
        self.rows = torch.randn(n_steps * batch, D, device=device)
        self.settings = TrainingSettings(
            max_epochs=1,
            batch_size=batch,
            learning_rate=2e-3,
            n_iter_no_change=1,
            held_out_draws=2,
            device=device,
            **MODES[mode],
        )

    def seconds(self) -> float:
        """The time of a step, in one run."""
        weight = torch.ones(len(self.rows), device=self.device)
        reference = GaussianScore(torch.zeros(D), torch.eye(D))
        network = ScoreNetwork(D, WIDTHS, torch_generator(0))
        model = CorrectedScore(reference, network).to(self.device)
        table = TrainingRows(self.rows, weight)
        held_out = TrainingRows(self.rows[:1], weight[:1])
        generator = torch_generator(0, self.device)
        wait_for(self.device)
        started = time.perf_counter()
        train(model, DSM(), LEVELS, table, held_out, self.settings, generator)
        wait_for(self.device)
        return (time.perf_counter() - started) / self.n_steps

    def busy_seconds(self) -> float:
        """The time that a GPU works on a step."""
        with profile(activities=[ProfilerActivity.CUDA], acc_events=True) as profiler:
            self.seconds()
        kernels = sum(event.self_device_time_total for event in profiler.key_averages())
        return 1e-6 * kernels / self.n_steps


def measured(device: str, mode: str, batch: int) -> Steps:
    """The first run, which compiles, and the median of those after it."""
    recorded = device == "cuda" and mode != LAUNCHED
    training = Training(device, mode, batch, N_RECORDED_STEPS if recorded else N_STEPS)
    first = training.seconds() * training.n_steps
    seconds = float(np.median([training.seconds() for _ in range(N_REPEATS)]))
    busy = None
    if device == "cuda":
        busy = Training(device, mode, batch, N_PROFILED).busy_seconds() / seconds
    return Steps(device, mode, batch, training.n_steps, first, seconds, busy)


class Ceilings(NamedTuple):
    """Operations a second of matrix products in float32 and bfloat16."""

    single: float
    half: float


def tell(report: Report, steps: Steps, ceilings: Ceilings) -> None:
    rate = operations(steps.batch) / steps.seconds
    report(
        f"  batch {steps.batch:>4}, {steps.mode:<9}{1e3 * steps.seconds:7.2f} ms a step, "
        f"{steps.rows_per_second:>9,.0f} rows/s, {rate / ceilings.single:4.0%} of the float32 "
        f"ceiling, {rate / ceilings.half:4.0%} of the bfloat16 ceiling, first {steps.n_steps} "
        f"steps {steps.first_run:.1f} s"
    )
    if steps.busy is not None:
        report(f"    the GPU is busy for {steps.busy:.0%} of the time")


def on_device(report: Report, device: str) -> list[Steps]:
    """Measure and report a device's steps; what cannot be compiled is told."""
    threads = f"{torch.get_num_threads()} threads"
    name = torch.cuda.get_device_name() if device == "cuda" else threads
    ceilings = Ceilings(*(ceiling(device, dtype) for dtype in (torch.float32, torch.bfloat16)))
    report(
        f"{device} ({name}): matrix products of size {CEILING_SIZE[device]} have "
        f"{ceilings.single / 1e9:,.0f} GFLOP/s in float32, {ceilings.half / 1e9:,.0f} in bfloat16"
    )
    found = []
    for batch, mode in product(BATCHES, MODES_OF[device]):
        try:
            found.append(measured(device, mode, batch))
        except RuntimeError as error:
            report(f"  batch {batch:>4}, {mode:<9} failed: {error}")
            continue
        tell(report, found[-1], ceilings)
        report.save()
    return found


def compare(report: Report, found: list[Steps]) -> None:
    """How many times as fast compiled steps are as eager ones, and a GPU's as the processor's."""
    rates = {(steps.device, steps.mode, steps.batch): steps.rows_per_second for steps in found}
    for (device, mode, batch), rate in rates.items():
        others = ((device, LAUNCHED, batch), (device, EAGER, batch), ("cpu", mode, batch))
        for other in others:
            if other in rates and other != (device, mode, batch):
                report(
                    f"batch {batch:>4}: {mode} on {device} is {rate / rates[other]:.2f} times as "
                    f"fast as {other[1]} on {other[0]}"
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", nargs="+", default=list(MODES_OF), choices=list(MODES_OF))
    devices = parser.parse_args().devices
    # What earlier runs compiled must not shorten the first steps.
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
        measure(devices)


def measure(devices: list[str]) -> None:
    name = "training_step_gpu" if torch.cuda.is_available() else "training_step"
    report = Report(name, f"Training step, {D} columns, layers {WIDTHS}")
    found = []
    for device in devices:
        if device == "cuda" and not torch.cuda.is_available():
            report("cuda: not measured, there is no such device here")
        else:
            found += on_device(report, device)
    compare(report, found)
    report.save()


if __name__ == "__main__":
    main()
