"""Part "scale": cost of a fit, of log-probabilities and of draws on a large artificial table."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np
from _budget import timed
from _methods import Method
from _tables_jobs import aligned, completed
from _tables_law import FactorLaw
from _tables_measure import coded
from _tables_ours import OURS, fitted, other_measures

DEFAULT_ROWS, N_COLUMNS, N_SCORED, N_DRAWN = 100_000, 50, 2000, 2000
METHODS = {
    OURS: Method("_tables_ours:fitted"),
    "independent columns": Method("_tables_marginals:Independent"),
    "mixture of products": Method("_tables_scale:mixture"),
}


def mixture(train, seed):
    """One start of each size, of a size that doubles."""
    from _tables_mixture import ProductMixture

    return ProductMixture(train, seed, sizes=(4, 8, 16, 32, 64), restarts=1)


def measure(job: dict) -> dict:
    from _density_run import peak_mebibytes, reset_peak

    law = FactorLaw(job["columns"], job["seed"])
    train, test = law.sample(job["rows"], 1 + job["seed"]), law.sample(N_SCORED, 10_000)
    columns, truth = law.columns, law.log_prob(test)
    reset_peak()
    before = peak_mebibytes()
    if job["method"] == OURS:
        density, fit_seconds = timed(lambda: fitted(train, columns, job["seconds"], job["seed"]))
        values, score_seconds = timed(lambda: density.score_samples(test))
        _, draw_seconds = timed(lambda: density.sample(N_DRAWN, random_state=0))
        note = other_measures(density, columns)
    else:
        rows, new = coded(train, columns), coded(test, columns)
        fit = METHODS[job["method"]].load()
        density, fit_seconds = timed(lambda: fit(rows, job["seed"]))
        values, score_seconds = timed(lambda: density.score(new))
        _, draw_seconds = timed(lambda: density.sample(N_DRAWN, 0))
        note = density.note
    gap = truth - values
    return {
        "fit_seconds": fit_seconds,
        "peak_mebibytes": peak_mebibytes() - before,
        "scored_per_second": N_SCORED / score_seconds,
        "drawn_per_second": N_DRAWN / draw_seconds,
        "truth": float(truth.mean()),
        "divergence": float(gap.mean()),
        "divergence_error": float(gap.std() / np.sqrt(len(gap))),
        "note": note,
    }


def jobs(options: argparse.Namespace) -> Iterator[dict]:
    for method in options.methods or METHODS:
        if method in METHODS:
            yield {
                "part": "scale",
                "table": "factors",
                "method": method,
                "seed": 0,
                "seconds": options.seconds,
                "rows": options.rows or (1000 if options.smoke else DEFAULT_ROWS),
                "columns": 8 if options.smoke else N_COLUMNS,
            }


def tell(record: dict) -> str:
    return (
        f"fit {record['fit_seconds']:.1f} s, {record['peak_mebibytes']:.0f} MiB, "
        f"{record['divergence']:.3f} nats from the truth"
    )


def part(report, options: argparse.Namespace) -> None:
    report("An artificial table whose law is known: continuous columns, categories, counts and")
    report("numbers that are often zero, each hanging on one of five normal factors.")
    report("nats lost: the mean of the exact log-probability less the method's, on fresh rows.")
    report("MiB: the most memory held from the start of the fit on, less what was held before.")
    report("")
    found = completed("scale", jobs(options), METHODS, options, tell, report)
    if not found:
        return
    first = found[0]
    report(
        f"{first['rows']} rows, {first['columns']} columns; exact log-probability "
        f"{first['truth']:.3f}"
    )
    rows = [["", "nats lost", "fit s", "MiB", "rows scored/s", "rows drawn/s", "", ""]]
    for record in found:
        cells = [
            f"{record['divergence']:.3f} +- {record['divergence_error']:.3f}",
            f"{record['fit_seconds']:.1f}",
            f"{record['peak_mebibytes']:.0f}",
            f"{record['scored_per_second']:.0f}",
            f"{record['drawn_per_second']:.0f}",
        ]
        rows.append([record["method"], *cells, "", record["note"]])
    for line in aligned(rows):
        report("  " + line)
