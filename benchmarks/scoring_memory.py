"""Scoring time and peak memory as the number of rows grows, up to 1,000,000 x 8.

Every size runs in a process of its own; its peak is read from the operating system, and
the peak before scoring is subtracted, so the data themselves are not counted.
"""

from __future__ import annotations

import pickle
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from _report import Report

from sklearn_dsm import DSMDensityEstimator

SIZES = (1_000, 10_000, 100_000, 1_000_000)


def table(n_rows):
    """Eight skewed, dependent columns."""
    rng = np.random.default_rng(0)
    Z = rng.normal(size=(n_rows, 8))
    Z[:, 1:] += 0.8 * np.sin(2 * Z[:, :-1])
    return np.exp(Z / 2)


def child(path, n_rows):
    """Score and print seconds and mebibytes above what was there before."""
    density = pickle.loads(Path(path).read_bytes())
    X = table(n_rows)
    density.score_samples(X[:10])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    density.score_samples(X)
    elapsed = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(elapsed, (peak - before) / 1024)


def main():
    report = Report(
        "scoring_memory",
        "score_samples on n x 8 rows, two layers of 64, tolerance 1e-2: "
        "seconds and memory above the data",
    )
    density = DSMDensityEstimator(
        hidden_layer_sizes=(64, 64),
        reference="gaussian",
        max_epochs=20,
        tolerance=1e-2,
        random_state=0,
    ).fit(table(5000))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "density.pickle"
        path.write_bytes(pickle.dumps(density))
        for n_rows in SIZES:
            command = [sys.executable, __file__, str(path), str(n_rows)]
            output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            elapsed, memory = map(float, output.split())
            report(
                f"{n_rows:>9,} rows: {elapsed:8.2f} s, {n_rows / elapsed:8.0f} rows/s, "
                f"{memory:7.0f} MiB above the data"
            )
    report.save()


if __name__ == "__main__":
    if len(sys.argv) == 3:
        child(sys.argv[1], int(sys.argv[2]))
    else:
        main()
