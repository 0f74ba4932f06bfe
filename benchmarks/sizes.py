"""Small and large tables: seconds of fit and scoring, and the distance from a known law.

python benchmarks/sizes.py [--budget SECONDS] [--resume]

A nonlinear chain with 2 to 200 columns and 100 to 100,000 rows, for the default estimator and
competitors of each kind; every fit in a process of its own.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from _report import RESULTS, Report
from _rivals import NORMAL_FLOW, OURS
from _tables import CHAIN_COLUMNS, CHAIN_SIZES, default_folder, load
from density import completed, parsed
from scipy.stats import multivariate_normal
from sklearn.covariance import LedoitWolf

RIVALS = ("GaussianMixture", "KernelDensity", "MAF", NORMAL_FLOW)
COLUMNS = (
    f"{'columns':>8}{'rows':>8}{'fit s':>8}{'rows/s':>11}{'KL ours':>10}{'s.e.':>8}"
    f"{'best rival':>28}{'its KL':>10}{'gap':>9}{'s.e.':>8}{'Gaussian':>11}"
)


def measure(options: argparse.Namespace) -> list[dict]:
    """The records of every size and method."""
    tables = [f"chain_{d}x{n}" for d in CHAIN_COLUMNS for n in CHAIN_SIZES]
    # The mass of two columns is no figure here.
    run = parsed(["--tables", *tables, "--methods", OURS, *RIVALS, "--mass-points", "10"])
    run.budget, run.resume = options.budget, options.resume
    run.results, run.rows = options.results / "sizes", options.results / "sizes" / "rows"
    return completed(run).records


def figures(records: list[dict], d: int, n: int) -> dict | None:
    """Our record of one size, and that of the best competitor."""
    own = {r["method"]: r for r in records if r["table"] == f"chain_{d}x{n}"}
    known = {name: r for name, r in own.items() if r.get("divergence") is not None}
    if OURS not in known or len(known) == 1:
        return None
    ours = known.pop(OURS)
    return {"ours": ours, "best": min(known.values(), key=lambda r: r["divergence"])}


def gaussian_divergence(d: int, n: int) -> float:
    """KL(truth || Gaussian) for a covariance shrunk as Ledoit and Wolf do."""
    table = load(f"chain_{d}x{n}", default_folder(), 0)
    shrunk = LedoitWolf().fit(table.train)
    law = multivariate_normal(shrunk.location_, shrunk.covariance_)
    return float((table.truth - law.logpdf(table.test)).mean())


def draw(found: dict[tuple[int, int], dict], path: Path) -> None:
    """Three panels over the rows, a line for each number of columns."""
    panels = {
        "seconds of fit": lambda f: f["ours"]["fit_seconds"],
        "rows scored a second": lambda f: f["ours"]["rows_per_second"],
        "best rival minus ours,\nnats a column": lambda f: f["best"]["difference"] / f["ours"]["d"],
    }
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.8), layout="constrained")
    for panel, (label, value) in zip(axes, panels.items(), strict=True):
        for d in CHAIN_COLUMNS:
            points = [(n, value(found[d, n])) for n in CHAIN_SIZES if (d, n) in found]
            if points:
                panel.plot(*zip(*points, strict=True), marker="o", label=f"{d} columns")
        panel.set_xscale("log")
        panel.set_xlabel("rows to fit")
        panel.set_ylabel(label)
    axes[1].set_yscale("log")
    axes[2].axhline(0, color="black", linewidth=1)
    axes[0].legend()
    figure.savefig(path, dpi=130)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--budget", type=float, default=20.0, help="seconds of fit (default: 20)")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--resume", action="store_true", help="keep the records that are there")
    options = parser.parse_args()
    records = measure(options)
    title = f"A nonlinear chain in {options.budget:g} s of fit, one seed"
    report = Report("sizes", title, options.results)
    report("KL(truth || model) in nats on 2,000 fresh rows; gap: what the best rival is ahead by")
    report("Gaussian: the KL of one whose covariance is shrunk as Ledoit and Wolf do")
    report(COLUMNS)
    found = {}
    for d in CHAIN_COLUMNS:
        for n in CHAIN_SIZES:
            f = figures(records, d, n)
            if f is None:
                report(f"{d:>8}{n:>8}  no figure")
                continue
            found[d, n] = f
            ours, best = f["ours"], f["best"]
            report(
                f"{d:>8}{n:>8}{ours['fit_seconds']:>8.1f}{ours['rows_per_second']:>11,.0f}"
                f"{ours['divergence']:>10.4f}{ours['divergence_error']:>8.4f}{best['method']:>28}"
                f"{best['divergence']:>10.4f}{best['difference']:>9.4f}"
                f"{best['difference_error']:>8.4f}{gaussian_divergence(d, n):>11.4f}"
            )
    report.save()
    draw(found, options.results / "sizes.png")
    summary = options.results / "sizes.json"
    summary.write_text(json.dumps([r for r in records if "rows" in r], indent=1) + "\n")


if __name__ == "__main__":
    main()
