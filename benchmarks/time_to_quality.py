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


def values(records: list[dict], method: str, budget: float) -> dict[str, float]:
    """The held-out log-density of every table that has one, of the first split."""
    return {
        r["table"]: r["log_density"]
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


def compare(report: Report, flow: str, theirs: dict, ours: dict[str, list[float]]) -> None:
    """The budgets after which our values are a flow's."""
    budgets = (*BUDGETS, FULL)
    heads = "".join(f"{f'{budget:g} s':>11}" for budget in budgets)
    report(f"{flow} has, after {FULL:g} s:")
    report(f"{'table':<22}{'flow':>11}{heads}  reached in")
    needed = []
    for table, values_of_table in ours.items():
        pairs = zip(budgets, values_of_table, strict=True)
        needed.append(min((b for b, v in pairs if v >= theirs[table]), default=np.inf))
        line = "".join(f"{value:>11.3f}" for value in (theirs[table], *values_of_table))
        report(f"{table:<22}{line}  " + (f"{needed[-1]:g} s" if needed[-1] <= FULL else "never"))
    report(
        f"Median over {len(needed)} tables: {np.median(needed):g} s; a fifth of the flow's time "
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
    flows = {flow: values(known, flow, FULL) for flow in (FLOW, NORMAL_FLOW)}
    full = values(known, OURS, FULL)
    tables = [table for table in flows[FLOW] if table in full and table in flows[NORMAL_FLOW]]
    records = measured(options, tables)
    ours = {
        table: [values(records, OURS, budget).get(table, np.nan) for budget in BUDGETS]
        + [full[table]]
        for table in tables
    }
    title = "Held-out log-density by seconds of fit, and the flows'"
    report = Report("time_to_quality", title, options.results)
    for flow, theirs in flows.items():
        compare(report, flow, theirs, ours)
    report.save()


if __name__ == "__main__":
    main()
