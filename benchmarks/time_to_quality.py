"""Seconds in which the default estimator reaches what the spline flows have after a minute.

python benchmarks/time_to_quality.py --data FOLDER

The flows' values are read from the density benchmark's records; the default estimator is fitted
with smaller and smaller budgets, every fit in a process of its own, on the same split.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from _report import RESULTS, Report
from _rivals import FLOW, NORMAL_FLOW, OURS
from _tables import default_folder
from density import completed, parsed

BUDGETS = (3.0, 6.0, 12.0, 24.0)
FULL, SHARE = 60.0, 0.2


def of_first_split(records: list[dict], method: str, budget: float) -> dict[str, dict]:
    """The record of every table that has a held-out log-density."""
    return {
        r["table"]: r
        for r in records
        if r["method"] == method
        and r["budget"] == budget
        and r["seed"] == 0
        and r.get("log_density") is not None
    }


def measured(options: argparse.Namespace, tables: list[str]) -> list[dict]:
    """Our records of every table and budget."""
    records: list[dict] = []
    for budget in BUDGETS:
        arguments = ["--tables", *tables, "--methods", OURS, "--mass-points", "10"]
        run = parsed([*arguments, "--data", str(options.data), "--budget", str(budget)])
        run.results = options.results / "time_to_quality"
        run.rows, run.resume = run.results / "rows", options.resume or budget != BUDGETS[0]
        records = completed(run).records
    return records


def seconds_needed(theirs: dict, ours: list[dict | None]) -> float:
    """How long the first of our fits took that has a flow's value; infinite where none has."""
    reached = [r for r in ours if r is not None and r["log_density"] >= theirs["log_density"]]
    return reached[0]["fit_seconds"] if reached else np.inf


def compare(report: Report, flow: str, theirs: dict, ours: dict[str, list[dict | None]]) -> None:
    """The seconds after which our values are a flow's."""
    heads = "".join(f"{f'{budget:g} s':>11}" for budget in (*BUDGETS, FULL))
    report(f"{flow} has, after {FULL:g} s:")
    report(f"{'table':<22}{'flow':>11}{heads}  reached in")
    needed = []
    for table, records in ours.items():
        needed.append(seconds_needed(theirs[table], records))
        values = [None if r is None else r["log_density"] for r in (theirs[table], *records)]
        line = "".join(f"{'-' if v is None else format(v, '.3f'):>11}" for v in values)
        end = f"{needed[-1]:.1f} s" if np.isfinite(needed[-1]) else "never"
        processors = {r["processor"] for r in (theirs[table], *records) if r is not None}
        report(f"{table:<22}{line}  {end}" + (" *" if len(processors) > 1 else ""))
    report(
        f"Median over {len(needed)} tables: {np.median(needed):.1f} s; a fifth of the flow's time "
        f"is {SHARE * FULL:g} s"
    )
    report("")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=default_folder())
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--resume", action="store_true", help="keep the records that are there")
    options = parser.parse_args()
    known = json.loads((options.results / "density.json").read_text())["records"]
    flows = {flow: of_first_split(known, flow, FULL) for flow in (FLOW, NORMAL_FLOW)}
    tables = [table for table in flows[FLOW] if table in flows[NORMAL_FLOW]]
    records = measured(options, tables)
    by_budget = [of_first_split(records, OURS, budget) for budget in BUDGETS]
    by_budget.append(of_first_split(known, OURS, FULL))
    ours = {table: [found.get(table) for found in by_budget] for table in tables}
    title = "Held-out log-density by seconds of fit, and the flows'"
    report = Report("time_to_quality", title, options.results)
    report("*: not all of these fits ran on the same processor")
    for flow, theirs in flows.items():
        compare(report, flow, theirs, ours)
    report.save()


if __name__ == "__main__":
    main()
