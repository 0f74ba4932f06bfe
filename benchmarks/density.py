"""Held-out log-density of every method on every table, at the same seconds of fit.

python benchmarks/density.py --data FOLDER

Every fit runs in a process of its own on the same cores, all methods of a table one after
the other. Tables are files ``NAME.npz`` with an array ``X``; one whose file is not in the
folder, and a method that is not installed, are left out, and the report says so. What fails
or takes too long is reported as such.

The rows of a table and how they are split depend on the seed alone. Records are kept in
``density.json`` after every fit; ``--resume`` goes on where a run was cut off.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path

from _budget import n_threads
from _density_figure import draw
from _density_report import add_differences, write_report
from _density_run import identity
from _own_process import outcome
from _records import DONE
from _report import RESULTS, commit, processor, threads_and_versions
from _rivals import METHODS
from _tables import TABLES, TINY_TABLES, default_folder, file_of

RUN = Path(__file__).with_name("_density_run.py")
SMOKE = {"tables": list(TINY_TABLES), "budget": 1.0, "mass_points": 60}


def parsed(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--data", type=Path, default=default_folder(), help="folder of the tables' files")
    add("--tables", nargs="+", default=list(TABLES), metavar="NAME")
    add("--methods", nargs="+", default=list(METHODS), choices=list(METHODS), metavar="NAME")
    add("--budget", type=float, default=60.0, help="seconds of fit (default: 60)")
    add("--seeds", type=int, default=1, help="number of splits (default: 1)")
    add("--mass-points", type=int, default=300, help="grid points a column for the mass")
    add("--results", type=Path, help="folder of the results (default: results beside this file)")
    add("--rows", type=Path, help="folder of rows' log-densities (default: in the results)")
    add("--resume", action="store_true", help="keep the records that are there")
    add("--smoke", action="store_true", help="two tiny tables, one second, a temporary folder")
    options = parser.parse_args(arguments)
    if options.smoke:
        vars(options).update(SMOKE)
        options.results = options.results or Path(tempfile.mkdtemp(prefix="density-"))
    options.results = options.results or RESULTS
    options.rows = options.rows or options.results / "density_rows"
    return options


class Store:
    """The records, written to a file whenever one is added."""

    def __init__(self, options: argparse.Namespace):
        self.path = options.results / "density.json"
        self.records = self._earlier() if options.resume else []
        self.head = {
            "machine": threads_and_versions(),
            "threads": n_threads(),
            "commit": commit(),
            "options": shown(options),
        }

    def _earlier(self) -> list[dict]:
        records = json.loads(self.path.read_text())["records"] if self.path.exists() else []
        return [record for record in records if record["status"] in DONE]

    def __contains__(self, job: dict) -> bool:
        return any(same_fit(record, job) for record in self.records)

    def add(self, records: list[dict]) -> None:
        self.records += records
        self.save()

    def save(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps(self.head | {"records": self.records}, indent=1) + "\n")
        os.replace(part, self.path)


def same_fit(record: dict, job: dict) -> bool:
    return all(record[key] == job[key] for key in ("table", "method", "seed", "budget"))


def shown(options: argparse.Namespace) -> dict:
    """The options that bear on the figures."""
    names = ("tables", "methods", "budget", "seeds", "mass_points")
    return {name: getattr(options, name) for name in names}


def jobs(options: argparse.Namespace):
    """Every fit, a table's methods one after the other."""
    for table, seed, method in itertools.product(
        options.tables, range(options.seeds), options.methods
    ):
        yield {
            "table": table,
            "method": method,
            "seed": seed,
            "budget": options.budget,
            "started": time.strftime("%Y-%m-%d %H:%M:%S"),
            "processor": processor(),
            "data": str(options.data),
            "rows": str(options.rows),
            "mass_points": options.mass_points,
        }


def records_of(job: dict) -> list[dict]:
    """The records of a job, one of which says so where it could not be done."""
    if missing_file(job["table"], Path(job["data"])):
        return [without_result(job, "not found", "its file is not in the data folder")]
    method = METHODS[job["method"]]
    if not method.installed:
        return [without_result(job, "not installed", f"needs {method.needs}")]
    return measured(job)


def without_result(job: dict, status: str, message: str) -> dict:
    return identity(job) | {"status": status, "message": message}


def measured(job: dict) -> list[dict]:
    """The records that a process of its own writes."""
    limit = 4 * job["budget"] + 300
    try:
        return outcome([str(RUN)], job, limit)
    except subprocess.TimeoutExpired:
        return [without_result(job, "timed out", f"not done after {limit:g} s")]
    except ChildProcessError as error:
        return [without_result(job, "failed", str(error))]


def told(record: dict) -> str:
    """One line on a record as it comes."""
    head = f"{record['table']}, {record['method']}, seed {record['seed']}: "
    if record["status"] != "ok":
        return head + f"{record['status']}: {record['message']}"
    value = record["log_density"]
    value = f"{record['n_not_finite']} rows not finite" if value is None else f"{value:.4f}"
    return (
        head + f"{value}, fit {record['fit_seconds']:.1f} s, score {record['score_seconds']:.2f} s"
    )


def missing_file(name: str, folder: Path) -> bool:
    path = file_of(name, folder)
    return path is not None and not path.exists()


def completed(options: argparse.Namespace) -> Store:
    """The records of every fit, those that are missing made and told of as they come."""
    store = Store(options)
    for job in jobs(options):
        if job in store:
            continue
        records = records_of(job)
        store.add(records)
        for record in records:
            print(told(record), flush=True)
    add_differences(store.records, options.rows)
    store.save()
    return store


def main(arguments: list[str] | None = None) -> None:
    options = parsed(arguments)
    if missing := [name for name in options.tables if missing_file(name, options.data)]:
        print(f"no file in {options.data} for: {', '.join(missing)}", flush=True)
    store = completed(options)
    write_report(store.head, store.records, options.results / "density.txt")
    draw(store.head, store.records, options.results / "density.png")
    print(f"results in {options.results}")


if __name__ == "__main__":
    main()
