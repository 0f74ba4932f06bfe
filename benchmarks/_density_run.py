"""One fit of the density benchmark, measured in a process of its own.

It is started with a job in JSON as its argument and writes its records to the job's file.
"""

from __future__ import annotations

import json
import re
import resource
import sys
import time
import warnings
from pathlib import Path

import numpy as np
from _budget import n_threads
from _own_process import write_outcome
from _rivals import FAST, METHODS, OURS
from _tables import Table, load

# Few test rows are repeated until a scoring takes longer than its calls.
WARM_UP_ROWS, TIMED_ROWS = 10, 5000
# The grid for the mass of two columns: this share of its points lies close to the rows.
NEAR_SHARE, NEAR_DEVIATIONS, FAR_DEVIATIONS = 0.8, 0.3, 4.0
# It is turned by an angle: edges that are parallel to the grid would add up their errors.
ANGLE = 1.0


def peak_mebibytes() -> float:
    """The most memory this process has held.

    Linux counts its parent's in ``ru_maxrss``, so its own high-water mark is read there.
    """
    status = Path("/proc/self/status")
    if status.exists() and (found := re.search(r"VmHWM:\s+(\d+) kB", status.read_text())):
        return int(found.group(1)) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 1024)


def reset_peak() -> None:
    """Let the peak start again from what is held now, where the system can."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def start_torch() -> None:
    """Set the threads, and take the first optimiser's imports out of the fit that is timed.

    A table or a method may have loaded it; where none has, there is nothing to set.
    """
    if "torch" not in sys.modules:
        return
    import torch

    torch.set_num_threads(n_threads())
    weight = torch.zeros(1, requires_grad=True)
    weight.sum().backward()
    torch.optim.AdamW([weight]).step()


def run(job: dict) -> list[dict]:
    """The records of a job."""
    table = load(job["table"], Path(job["data"]), job["seed"])
    fit = METHODS[job["method"]].load()
    start_torch()
    reset_peak()
    before, started = peak_mebibytes(), time.perf_counter()
    density = fit(table.train, job["budget"], job["seed"])
    fitted = {
        "n_train": len(table.train),
        "n_test": len(table.test),
        "d": table.train.shape[1],
        "fit_seconds": time.perf_counter() - started,
        "fit_mebibytes": peak_mebibytes() - before,
        "note": getattr(density, "note", ""),
        "table_note": table.note,
    }
    record = fitted | scored(density, job["method"], table, job, before)
    if job["method"] in (OURS, FAST):
        from _ours import facts

        record |= facts(density, table.test)
    return [record]


def failure(error: BaseException) -> dict:
    return {"status": "failed", "message": f"{type(error).__name__}: {error}"}


def scored(density, method: str, table: Table, job: dict, before: float) -> dict:
    """Held-out log-densities with their cost, and how far they are from the truth."""
    density.score_samples(table.test[:WARM_UP_ROWS])
    n_test = len(table.test)
    repeated = np.tile(table.test, (-(-TIMED_ROWS // n_test), 1))
    started = time.perf_counter()
    values = np.asarray(density.score_samples(repeated), dtype=np.float64)
    seconds = time.perf_counter() - started
    n_timed, values = len(values), values[:n_test]
    record = {
        "method": method,
        "status": "ok",
        "score_seconds": seconds,
        "rows_per_second": n_timed / seconds,
        "peak_mebibytes": peak_mebibytes() - before,
        "n_not_finite": int((~np.isfinite(values)).sum()),
        "finite_log_density": mean_and_error(values[np.isfinite(values)])[0],
        "rows": save_rows(values, method, job),
    }
    record["log_density"], record["standard_error"] = mean_and_error(values)
    if table.truth is not None:
        record["divergence"], record["divergence_error"] = mean_and_error(table.truth - values)
    if table.train.shape[1] == 2:
        record["mass"] = mass(density, table.train, job["mass_points"])
    return record


def mean_and_error(values: np.ndarray) -> tuple[float | None, float | None]:
    """The mean and its standard error; None where a value is not finite or there are not two."""
    if len(values) < 2 or not np.isfinite(values).all():
        return None, None
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))


def save_rows(values: np.ndarray, method: str, job: dict) -> str:
    """Keep every row's log-density for paired differences; the name of the file."""
    words = (job["table"], method, f"seed {job['seed']}", f"{job['budget']:g} s")
    name = "--".join(re.sub(r"[^\w.]+", "_", word).strip("_") for word in words) + ".npz"
    folder = Path(job["rows"])
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / name, log_density=values)
    return name


def mass(density, X: np.ndarray, n_points: int) -> float:
    """The integral of a density of two columns, by the trapezoid rule on a turned grid."""
    cos, sin, scale = np.cos(ANGLE), np.sin(ANGLE), X.std(axis=0)
    turn = np.array([[cos, -sin], [sin, cos]])
    first, second = (axis(column, n_points) for column in (X / scale @ turn).T)
    grid = np.stack(np.meshgrid(first, second, indexing="ij"), -1).reshape(-1, 2)
    values = np.exp(density.score_samples(grid @ turn.T * scale))
    values = values.reshape(len(first), len(second)) * scale.prod()
    return float(np.trapezoid(np.trapezoid(values, second, axis=1), first))


def axis(column: np.ndarray, n_points: int) -> np.ndarray:
    """Points that are dense around the rows and reach four deviations beyond them."""
    low, high, deviation = column.min(), column.max(), column.std()
    near, far = NEAR_DEVIATIONS * deviation, FAR_DEVIATIONS * deviation
    n_near = round(NEAR_SHARE * n_points)
    n_far = (n_points - n_near) // 2
    inner = np.linspace(low - near, high + near, n_near)
    below = np.linspace(low - far, low - near, n_far, endpoint=False)
    above = np.linspace(high + far, high + near, n_far, endpoint=False)[::-1]
    return np.concatenate([below, inner, above])


def identity(job: dict) -> dict:
    """What every record of a job starts with."""
    names = ("table", "method", "seed", "budget", "started", "processor")
    return {name: job[name] for name in names}


def main() -> None:
    job = json.loads(sys.argv[1])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        try:
            records = run(job)
        except Exception as error:
            records = [failure(error)]
    heard = sorted({f"{w.category.__name__}: {w.message}" for w in caught})
    records = [identity(job) | {"warnings": heard[:10]} | record for record in records]
    write_outcome(records, job)


if __name__ == "__main__":
    main()
