"""Training with Muon's steps for hidden matrices and with AdamW alone, in the same seconds.

python benchmarks/optimizer.py --data FOLDER

The network corrects a Gaussian behind gaussianised columns, so that nothing else differs.
"""

from __future__ import annotations

import argparse
import math
import warnings
from pathlib import Path
from unittest.mock import patch

import numpy as np
from _report import Report
from _tables import default_folder, load
from sklearn.exceptions import ConvergenceWarning

from sklearn_dsm import DSMDensityEstimator

# By the name of the report.
TABLES = {
    "optimizer": ("power", "magic_gamma", "pendigits", "wine_white", "miniboone"),
    "optimizer_few_rows": ("ionosphere", "breast_cancer+noise", "diabetes+noise", "wine+noise"),
}
SECONDS, N_SEEDS, MAX_TEST_ROWS = 20.0, 3, 1000
# By the rows from which on Muon's steps are taken.
OPTIMIZERS = {"AdamW": math.inf, "Muon": 0}


def log_density(optimizer: str, table, seed: int) -> tuple[float, int]:
    """The mean over test rows, and the epochs that there was time for."""
    density = DSMDensityEstimator(
        marginals="gaussianize", reference="gaussian", max_fit_time=SECONDS, random_state=seed
    )
    with patch("sklearn_dsm._training.run.MIN_MUON_ROWS", OPTIMIZERS[optimizer]):
        density.fit(table.train)
    return density.score(table.test[:MAX_TEST_ROWS]), density.n_epochs_


def line(name: str, folder: Path) -> str:
    found = []
    for seed in range(N_SEEDS):
        table = load(name, folder, seed)
        found.append([log_density(optimizer, table, seed) for optimizer in OPTIMIZERS])
    values, epochs = np.moveaxis(np.array(found), -1, 0)
    gains = values[:, 1] - values[:, 0]
    each = ", ".join(f"{gain:+.3f}" for gain in gains)
    means = "".join(f"{mean:12.3f}" for mean in values.mean(0))
    counts = "".join(f"{mean:8.0f}" for mean in epochs.mean(0))
    return f"{name:<20}{means}{gains.mean():+10.3f}  ({each}){counts}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=default_folder(), help="the tables' folder")
    parser.add_argument("--reports", nargs="+", default=list(TABLES), choices=list(TABLES))
    options = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    for name in options.reports:
        report_on(name, options.data)


def report_on(name: str, folder: Path) -> None:
    title = f"Held-out log-density in nats a row after {SECONDS:g} s, mean over {N_SEEDS} splits"
    report = Report(name, title)
    names = "".join(f"{name:>12}" for name in OPTIMIZERS)
    report(f"{'':<20}{names}      gain  of each split, epochs of both")
    for table in TABLES[name]:
        report(line(table, folder))
        report.save()


if __name__ == "__main__":
    main()
