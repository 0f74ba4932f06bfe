"""Conditional densities: DSMRegressor beside other packages, at the same seconds of fit.

python benchmarks/conditional.py --data FOLDER [--tables NAME ...] [--methods NAME ...]

FOLDER, or its folders "regression" and "density", holds files ``NAME.npz`` with arrays ``X`` and
``y``. Every fit runs in a process of its own. A table whose file is missing and a method that is
not installed are left out, and the report says so.

Every result is added to ``conditional.jsonl`` as it comes; ``--resume`` goes on where a run was
cut off, and ``--report`` writes the report of what is there.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from _budget import n_threads
from _conditional_report import write_report
from _conditional_rivals import METHODS, OURS
from _conditional_run import CLOCKS, identity, outcome_of
from _conditional_tables import DRAWN, TABLES, is_there, n_splits, seconds_of
from _own_process import outcome
from _records import Records
from _report import RESULTS, commit, machine
from _tables import default_folder

RUN = Path(__file__).with_name("_conditional_run.py")
EVERY = (*TABLES, *DRAWN)
SMOKE = {"tables": ["diabetes", "heteroscedastic_1000"], "splits": 2, "rows": 100, "seconds": 0.5}
SMOKE_METHODS = [OURS, "MDN ensemble", "HGB, cross-val."]


def parsed(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--data", type=Path, default=default_folder(), help="folder of the tables' files")
    add("--tables", nargs="+", default=list(EVERY), metavar="NAME")
    add("--methods", nargs="+", choices=list(METHODS), metavar="NAME")
    add("--splits", type=int, help="by default 20 of small tables, 5 of others and of laws")
    add("--rows", type=int, help="largest number of rows to fit")
    add("--seconds", type=float, help="of a fit (default: 15 of small tables and laws, or 60)")
    add("--clock", choices=list(CLOCKS), default="wall", help="what counts the seconds")
    add("--jobs", type=int, default=1, help="fits at once (default: 1)")
    add("--results", type=Path, help="folder of the results (default: results beside this file)")
    add("--resume", action="store_true", help="keep the records that are there")
    add("--report", action="store_true", help="fit nothing, report the records that are there")
    add("--smoke", action="store_true", help="tiny tables in this process, a temporary folder")
    options = parser.parse_args(arguments)
    if options.smoke:
        vars(options).update(SMOKE)
        options.methods = options.methods or SMOKE_METHODS
        options.results = options.results or Path(tempfile.mkdtemp(prefix="conditional-"))
    options.methods = options.methods or list(METHODS)
    options.results = options.results or RESULTS
    return options


def jobs(options: argparse.Namespace) -> Iterator[dict]:
    """Every fit; the methods of a split come one after the other, so all are cut off alike."""
    for table in options.tables:
        if not is_there(table, options.data):
            print(f"no file of {table} in {options.data}", flush=True)
            continue
        seconds = options.seconds or seconds_of(table, options.data)
        for split in range(options.splits or n_splits(table, options.data)):
            for method in options.methods:
                yield {
                    "table": table,
                    "method": method,
                    "split": split,
                    "seconds": seconds,
                    "most_rows": options.rows,
                    "clock": options.clock,
                    "data": str(options.data),
                }


def record_of(job: dict, here: bool = False) -> dict:
    """The record of a job, which says so where it could not be done."""
    method = METHODS[job["method"]]
    if not method.installed:
        return without_result(job, "not installed", f"needs {method.needs}")
    if here:
        return outcome_of(job)
    limit = 10 * job["seconds"] + 600
    try:
        return outcome([str(RUN)], job, limit)
    except subprocess.TimeoutExpired:
        return without_result(job, "timed out", f"not done after {limit:g} s")
    except ChildProcessError as error:
        return without_result(job, "failed", str(error)[:300])


def without_result(job: dict, status: str, message: str) -> dict:
    return identity(job) | {"status": status, "message": message}


def told(record: dict) -> str:
    """One line on a record as it comes."""
    head = f"{record['table']}, split {record['split']}, {record['method']}: "
    if record["status"] != "ok":
        return head + f"{record['status']}: {record['message']}"
    nll = "not finite" if record["nll"] is None else f"{record['nll']:.4f}"
    return (
        f"{head}NLL {nll}, CRPS {record['crps']:.4f}, coverage {record['coverage']:.3f}, "
        f"fit {record['fit_wall']:.1f} s; {record['note']}"
    )


def complete(options: argparse.Namespace, store: Records) -> None:
    """Make the records that are missing, and tell of them as they come."""
    missing = [job for job in jobs(options) if job not in store]
    with ThreadPoolExecutor(options.jobs) as pool:
        fits = [pool.submit(record_of, job, options.smoke) for job in missing]
        for fit in as_completed(fits):
            store.add(fit.result())
            print(told(fit.result()), flush=True)


def main(arguments: list[str] | None = None) -> None:
    options = parsed(arguments)
    path = options.results / "conditional.jsonl"
    store = Records(path, identity, options.resume or options.report)
    if not options.report:
        complete(options, store)
    head = f"{machine()}; {n_threads()} threads a fit, {options.jobs} at once; commit {commit()}"
    wanted = {"clock": options.clock, "most_rows": options.rows}
    wanted |= {"seconds": options.seconds} if options.seconds else {}
    records = [each for each in store.all if wanted.items() <= each.items()]
    write_report(records, options.results, head)
    print(f"results in {options.results}")


if __name__ == "__main__":
    main()
