"""Fits and scoring by a GPU and by two cores, the same code in the same seconds.

python benchmarks/gpu.py --data FOLDER

Every fit runs in a process of its own, which is kept to two cores of the processor also where
it uses the GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from _density_run import mean_and_error, start_torch
from _own_process import outcome, write_outcome
from _report import RESULTS, Report
from _tables import default_folder, load

from sklearn_dsm import DSMDensityEstimator
from sklearn_dsm._training import TrainingSettings
from sklearn_dsm._training.net import RowBatches

N_CORES = 2
TABLES = ("power", "pendigits+noise_0.01", "miniboone", "bsds300_patches", "two_moons")
DEVICES = ("cpu", "cuda")
# Rows are repeated until a GPU has something to do.
TIMED_ROWS = {"cpu": 2000, "cuda": 50_000}
SECONDS_BETWEEN_LOOKS = 0.1


class BusyShare:
    """How much of the time a GPU works, by its driver's own count."""

    def __enter__(self) -> BusyShare:
        self.looks: list[int] = []
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._look, daemon=True)
        self.thread.start()
        return self

    def _look(self) -> None:
        while not self.ended.wait(SECONDS_BETWEEN_LOOKS):
            try:
                self.looks.append(torch.cuda.utilization())
            except (RuntimeError, ModuleNotFoundError):
                return

    def __exit__(self, *error) -> None:
        self.ended.set()
        self.thread.join()

    @property
    def share(self) -> float | None:
        return float(np.mean(self.looks)) / 100 if self.looks else None


def fit_and_score(job: dict) -> dict:
    """The figures of one fit."""
    table = load(job["table"], Path(job["data"]), job["seed"])
    device = job["device"]
    start_torch()
    if device == "cuda":
        torch.zeros(1, device=device)
    density = DSMDensityEstimator(
        max_fit_time=job["budget"],
        device=device,
        compile=job["compile"],
        likelihood=job["likelihood"],
        random_state=job["seed"],
    )
    started = time.perf_counter()
    with BusyShare() as busy:
        density.fit(table.train)
    seconds = time.perf_counter() - started
    rows = np.resize(table.test, (TIMED_ROWS[device], table.test.shape[1]))
    density.score_samples(rows)
    started = time.perf_counter()
    density.score_samples(rows)
    speed = len(rows) / (time.perf_counter() - started)
    value, error = mean_and_error(density.score_samples(table.test))
    n_train = len(table.train)
    return {
        "log_density": value,
        "standard_error": error,
        "fit_seconds": seconds,
        "n_epochs": density.n_epochs_,
        "rows_trained": density.n_epochs_ * rows_per_epoch(density, n_train) / seconds,
        "rows_scored": speed,
        "busy": busy.share,
        "alone": not density.network_weights_,
    }


def rows_per_epoch(density: DSMDensityEstimator, n_rows: int) -> int:
    """Rows of an epoch's batches; an epoch of a small table passes over it several times."""
    n_train = n_rows - round(density.validation_fraction * n_rows)
    size = density._resolved_batch_size(n_train)
    batches = RowBatches((range(n_train),), size, torch.Generator(), TrainingSettings.min_batches)
    return len(batches) * size


def measured(job: dict) -> dict:
    """The same in a process of its own on some of the cores."""
    try:
        return outcome([__file__, "--job"], job, threads=N_CORES)
    except ChildProcessError as error:
        return {"message": str(error)}


def run_job(job: dict) -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:N_CORES])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write_outcome(fit_and_score(job), job)


def line(device: str, figures: dict) -> str:
    if "message" in figures:
        return f"  {device:<15} failed: {figures['message']}"
    busy = "-" if figures["busy"] is None else f"{figures['busy']:.0%}"
    alone = "  the reference alone" if figures["alone"] else ""
    return (
        f"  {device:<15}{figures['log_density']:>11.4f}{figures['standard_error']:>8.4f}"
        f"{figures['fit_seconds']:>8.1f}{figures['n_epochs']:>8}"
        f"{figures['rows_trained']:>15,.0f}{busy:>7}{figures['rows_scored']:>14,.0f}{alone}"
    )


def ratios(figures: dict[str, dict]) -> str:
    cpu, gpu = figures["cpu"], figures["cuda"]
    if not (cpu["n_epochs"] and gpu["n_epochs"]):
        return "  not compared: a fit had no time left for a network"
    trained, scored = (gpu[name] / cpu[name] for name in ("rows_trained", "rows_scored"))
    if cpu["alone"] != gpu["alone"]:
        return (
            f"  a GPU trains on {trained:.1f} times as many rows a second; one kept its reference"
        )
    return f"  a GPU trains on {trained:.1f} times as many rows a second and scores {scored:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--data", type=Path, default=default_folder(), help="folder of the tables' files")
    add("--tables", nargs="+", default=list(TABLES), metavar="NAME")
    add("--budget", type=float, default=20.0, help="seconds of fit (default: 20)")
    add("--seed", type=int, default=0)
    add("--compile", action="store_true", help="compile the network")
    add("--likelihood", default="ode", choices=("ode", "fast"))
    add("--results", type=Path, default=RESULTS)
    add("--job", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        run_job(json.loads(options.job))
        return
    torch.set_num_threads(N_CORES)
    title = f"Fits of {options.budget:g} s, scoring by the ODE"
    report = Report(f"gpu_{options.budget:g}_s", title, options.results)
    has_gpu = torch.cuda.is_available()
    report(f"cuda: {torch.cuda.get_device_name() if has_gpu else 'not measured, there is none'}")
    report(
        f"  {'device':<15}{'log-density':>11}{'s.e.':>8}{'fit s':>8}{'epochs':>8}"
        f"{'rows trained/s':>15}{'busy':>7}{'rows scored/s':>14}"
    )
    for table in options.tables:
        report(table)
        figures = {}
        for device in DEVICES[: 1 + has_gpu]:
            job = {name: getattr(options, name) for name in ("budget", "seed", "compile")}
            job |= {"table": table, "device": device, "data": str(options.data)}
            figures[device] = measured(job | {"likelihood": options.likelihood})
            report(line(device, figures[device]))
        if len(figures) == 2 and not any("message" in each for each in figures.values()):
            report(ratios(figures))
        report.save()


if __name__ == "__main__":
    main()
