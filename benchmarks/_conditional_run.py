"""One fit of the benchmark of conditional densities, measured.

It is started with a job in JSON as its argument and writes its record to the job's file.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from pathlib import Path
from unittest.mock import patch

import numpy as np
from _conditional_rivals import METHODS
from _conditional_tables import Split, load
from _density_run import start_torch
from _own_process import write_outcome

# Pinball losses at these levels make the CRPS; the last two are the ends of the interval.
N_LEVELS, NOMINAL = 100, 0.9
LEVELS = (np.arange(N_LEVELS) + 0.5) / N_LEVELS
ENDS = np.array([(1 - NOMINAL) / 2, (1 + NOMINAL) / 2])
CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}
IDENTITY = ("table", "method", "split", "seconds", "clock", "most_rows")


def identity(job: dict) -> dict:
    """What every record of a job starts with."""
    return {name: job[name] for name in IDENTITY}


class Stopwatch:
    """Wall and processor seconds since the last reading."""

    def __init__(self):
        self.read()

    def read(self) -> tuple[float, float]:
        now = tuple(clock() for clock in CLOCKS.values())
        spent = tuple(b - a for a, b in zip(getattr(self, "last", now), now, strict=True))
        self.last = now
        return spent


def run(job: dict) -> dict:
    """The record of a job."""
    split = load(job["table"], Path(job["data"]), job["split"], job["most_rows"])
    method = METHODS[job["method"]]
    split, fit = split.tested_by(method.most_test_rows), method.load()
    start_torch()
    watch = Stopwatch()
    # What a budget's seconds are counted by, in the methods' own code as well.
    with patch("time.perf_counter", CLOCKS[job["clock"]]):
        density = fit(split.X, split.y, job["seconds"], job["split"])
    fit_wall, fit_processor = watch.read()
    log_density = np.asarray(density.log_density(split.X_test, split.y_test), dtype=np.float64)
    quantiles = density.quantiles(split.X_test, np.concatenate([LEVELS, ENDS]))
    predict_wall, predict_processor = watch.read()
    return identity(job) | {
        "status": "ok",
        "n_train": len(split.X),
        "n_test": len(split.X_test),
        "n_features": split.X.shape[1],
        "fit_wall": fit_wall,
        "fit_processor": fit_processor,
        "predict_wall": predict_wall,
        "predict_processor": predict_processor,
        "note": density.note,
        **measures(log_density, np.asarray(quantiles, dtype=np.float64), split),
    }


def measures(log_density: np.ndarray, quantiles: np.ndarray, split: Split) -> dict:
    """Mean loss, CRPS, coverage, and the divergence where the law is known.

    A mean that is not finite is None.
    """
    y = split.y_test[:, None]
    at_levels, (low, high) = quantiles[:, :N_LEVELS], quantiles[:, N_LEVELS:].T
    pinball = ((y < at_levels) - LEVELS) * (at_levels - y)
    inside = (low <= split.y_test) & (split.y_test <= high)
    found = {
        "nll": finite(-log_density.mean()),
        "n_not_finite": int((~np.isfinite(log_density)).sum()),
        "crps": finite(2 * pinball.mean()),
        "coverage": float(inside.mean()),
    }
    if split.truth is not None:
        found["divergence"] = finite((split.truth - log_density).mean())
        found["true_nll"] = -float(split.truth.mean())
    return found


def finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def failure(job: dict, error: BaseException) -> dict:
    message = f"{type(error).__name__}: {error}"
    return identity(job) | {"status": "failed", "message": message[:300]}


def outcome_of(job: dict) -> dict:
    """The record of a job, of its failure where it fails."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return run(job)
        except Exception as error:
            return failure(job, error)


def main() -> None:
    job = json.loads(sys.argv[1])
    write_outcome(outcome_of(job), job)


if __name__ == "__main__":
    main()
