"""Jobs of the benchmark of mixed tables: one fit each, in a process of its own."""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from _own_process import outcome
from _tables_ours import OURS, there

RUN = Path(__file__).with_name("_tables_run.py")
DONE = ("ok", "failed", "timed out")
# A job's entries that do not bear on its figures.
PLACES = ("data", "rows_folder")


class Method(NamedTuple):
    """A function as "module:name", the package it needs, and the name of that among packages."""

    function: str
    needs: str = "sklearn"
    package: str = ""

    def load(self) -> Callable[..., Any]:
        module, name = self.function.split(":")
        return getattr(importlib.import_module(module), name)


def why_not(name: str, method: Method) -> str:
    """Why a method cannot be run; empty where it can."""
    if name == OURS:
        return "" if there() else "not there: this version of the package has no such class"
    if find_spec(method.needs) is None:
        return f"not installed: needs {method.package or method.needs}"
    return ""


class Records:
    """The records of one part, a line of JSON each, read again where a run is taken up."""

    def __init__(self, part: str, folder: Path, resume: bool):
        self.path = folder / f"tables_{part}.jsonl"
        self.all: list[dict] = []
        if resume and self.path.exists():
            lines = map(json.loads, self.path.read_text().splitlines())
            self.all = [record for record in lines if record["status"] in DONE]
        folder.mkdir(parents=True, exist_ok=True)
        self.path.write_text("".join(json.dumps(record) + "\n" for record in self.all))

    def of(self, job: dict) -> dict | None:
        same = identity(job).items()
        return next((record for record in self.all if same <= record.items()), None)

    def add(self, record: dict) -> None:
        self.all.append(record)
        with self.path.open("a") as file:
            file.write(json.dumps(record) + "\n")


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


def completed(
    part: str,
    jobs: Iterator[dict],
    methods: dict[str, Method],
    options: argparse.Namespace,
    tell: Callable[[dict], str],
    report: Callable[[str], None],
) -> list[dict]:
    """The records of all jobs, each told of as it comes."""
    records, found = Records(part, options.folder, options.resume), []
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


def aligned(rows: list[list[str]]) -> list[str]:
    """Lines of a table: the first cell to the left, the last, a note, as it is."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:-1], widths[1:], strict=True)]
        lines.append("  ".join([*cells, row[-1]]).rstrip())
    return lines
