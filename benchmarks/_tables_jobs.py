"""Jobs of the benchmark of mixed tables: one fit each, in a process of its own."""

from __future__ import annotations

import argparse
import itertools
import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from _methods import Method
from _own_process import outcome
from _records import Records
from _tables_ours import OURS, there

RUN = Path(__file__).with_name("_tables_run.py")
# A job's entries that do not bear on its figures.
PLACES = ("data", "rows_folder")


def why_not(name: str, method: Method) -> str:
    """Why a method cannot be run; empty where it can."""
    if name == OURS:
        return "" if there() else "not there: this version of the package has no such class"
    if not method.installed:
        return f"not installed: needs {method.needs}"
    return ""


def identity(job: dict) -> dict:
    return {key: value for key, value in job.items() if key not in PLACES}


def run(job: dict, method: Method, options: argparse.Namespace) -> dict:
    """The record of a job, which says so where there is no figure."""
    if reason := why_not(job["method"], method):
        return identity(job) | {"status": "missing", "message": reason}
    limit = 10 * job["seconds"] + 300
    try:
        if options.smoke:
            from _tables_run import measured

            found = measured(job)
        else:
            found = outcome([str(RUN)], job, limit)
    except subprocess.TimeoutExpired:
        found = {"status": "timed out", "message": f"not done after {limit:g} s"}
    except ChildProcessError as error:
        found = {"status": "failed", "message": str(error)}
    return identity(job) | found


def every_fit(
    part: str,
    tables: Iterable[str],
    methods: dict[str, Method],
    options: argparse.Namespace,
    **more: Any,
) -> Iterator[dict]:
    """A job for each table, seed and method that is asked for."""
    for table, seed, method in itertools.product(
        tables, range(options.seeds), options.methods or methods
    ):
        if method in methods:
            yield {
                "part": part,
                "table": table,
                "method": method,
                "seed": seed,
                "seconds": options.seconds,
                "rows": options.rows,
                "data": str(options.data),
            } | more


def completed(
    part: str,
    jobs: Iterator[dict],
    methods: dict[str, Method],
    options: argparse.Namespace,
    tell: Callable[[dict], str],
    report: Callable[[str], None],
) -> list[dict]:
    """The records of all jobs, each told of as it comes."""
    path = options.folder / f"tables_{part}.jsonl"
    records, found = Records(path, identity, options.resume), []
    for job in jobs:
        record = records.of(job)
        if record is None:
            record = run(job, methods[job["method"]], options)
            records.add(record)
        found.append(record)
        head = f"{job['table']}, {job['method']}, seed {job['seed']}: "
        good = record["status"] == "ok"
        report(head + (tell(record) if good else f"{record['status']}: {record['message']}"))
    report("")
    return [record for record in found if record["status"] == "ok"]


def number(value: float | None) -> str:
    return "-" if value is None or np.isnan(value) else f"{value:.3f}"


def aligned(rows: list[list[str]]) -> list[str]:
    """Lines of a table: the first cell to the left, the last, a note, as it is."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:-1], widths[1:], strict=True)]
        lines.append("  ".join([*cells, row[-1]]).rstrip())
    return lines
