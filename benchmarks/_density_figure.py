"""A picture of what each competitor has over our estimator, table by table."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from _density_report import N_ERRORS, NAMES, OURS, Results

# Differences smaller than this are drawn on a linear scale.
LINEAR_NATS = 0.01


def draw(head: dict, records: list[dict], path: Path) -> None:
    """One line a table, one point a method, in nats a column, with two standard errors."""
    results = Results(head, records)
    tables = [table for table in results.tables if results.verdicts(table)]
    figure, panel = plt.subplots(figsize=(9, 1.8 + 0.55 * len(tables)), layout="constrained")
    methods = [name for name in NAMES if name != OURS]
    for index, method in enumerate(methods):
        draw_method(panel, results, tables, method, index / len(methods) - 0.5)
    panel.axvline(0, color="black", linewidth=1)
    panel.set_xscale("symlog", linthresh=LINEAR_NATS)
    panel.set_yticks(range(len(tables)), tables)
    panel.invert_yaxis()
    panel.grid(axis="x", alpha=0.3)
    panel.set_xlabel(f"log-density minus that of {OURS}, nats per feature")
    panel.set_title(
        f"Test samples, {head['options']['budget']:g} s of fit: left of 0 the default estimator is "
        "better\n(two standard errors; a method without a finite mean is not drawn)",
        fontsize="medium",
    )
    if tables:
        figure.legend(loc="outside lower center", ncols=3, fontsize="small")
    figure.savefig(path, dpi=130)
    plt.close(figure)


def draw_method(panel, results: Results, tables: list[str], method: str, shift: float) -> None:
    found = [(i, results.difference(table, method)) for i, table in enumerate(tables)]
    points = [
        (i + 0.7 * shift, difference.mean / d, N_ERRORS * difference.error / d)
        for i, difference in found
        if difference is not None and (d := results.mean(tables[i], method, "d"))
    ]
    if points:
        y, x, error = np.array(points).T
        panel.errorbar(x, y, xerr=error, fmt="o", markersize=4, capsize=2, label=method)
