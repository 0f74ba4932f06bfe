"""Part "likelihood": held-out log-probabilities under a measure that is the same for all."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from _budget import timed
from _methods import Method
from _tables_jobs import aligned, completed, every_fit
from _tables_measure import TINY, load, measures, split, told
from _tables_ours import OURS, fitted, other_measures

TABLES = ("shoppers", "diamonds", "penguins")
TREES, LINES = "chain of boosted trees", "chain of linear models"
BEST_CHAIN = "better chain of the two"
METHODS = {
    OURS: Method("_tables_ours:fitted"),
    "independent columns": Method("_tables_marginals:Independent"),
    "mixture of products": Method("_tables_mixture:ProductMixture"),
    LINES: Method("_tables_chain:linear_chain"),
    TREES: Method("_tables_chain:boosted_chain"),
    "vine copula": Method("_tables_vine:Vine", "pyvinecopulib"),
}
MISSING = (
    "Missing values: our estimator and the mixture sum over them. The product of columns and the "
    "chains leave out their factors; trees get a missing feature as it is, linear models at the "
    "mean. The vine drops rows with missing values and scores complete rows only."
)


def measure(job: dict) -> dict:
    """Log-probabilities of test rows, and of those without missing values."""
    parts = split(load(job["table"], Path(job["data"])), job["rows"], job["seed"])
    parts = parts._replace(test=parts.test[: job["test_rows"]])
    train, test = parts.coded()
    if job["method"] == OURS:
        density, fit_seconds = timed(
            lambda: fitted(parts.train, parts.columns, job["seconds"], job["seed"])
        )
        values, score_seconds = timed(lambda: density.score_samples(parts.test))
        note = other_measures(density, parts.columns)
    else:
        fit = METHODS[job["method"]].load()
        density, fit_seconds = timed(lambda: fit(train, job["seed"]))
        values, score_seconds = timed(lambda: density.score(test))
        note = density.note
    values = np.asarray(values, float)
    name = f"{job['table']}--{job['method']}--{job['seed']}.npy".replace(" ", "_")
    folder = Path(job["rows_folder"])
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / name, values)
    return {
        "n_train": len(train.codes),
        "n_test": len(values),
        "n_unknown": parts.n_unknown,
        "all": mean_and_error(values),
        "complete": mean_and_error(values[test.complete]),
        "n_complete": int(test.complete.sum()),
        "fit_seconds": fit_seconds,
        "score_seconds": score_seconds,
        "note": note,
        "rows_file": name,
    }


def mean_and_error(values: np.ndarray) -> list[float] | None:
    """The mean and its standard error; None where a value is not a number."""
    if not np.isfinite(values).all() or len(values) < 2:
        return None
    return [float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))]


def shown(pair: list[float] | None) -> str:
    return "-" if pair is None else f"{pair[0]:.3f} +- {pair[1]:.3f}"


def jobs(options: argparse.Namespace) -> Iterator[dict]:
    tables = [TINY] if options.smoke else options.tables or TABLES
    return every_fit(
        "likelihood",
        tables,
        METHODS,
        options,
        test_rows=options.test_rows,
        rows_folder=str(options.folder / "tables_rows"),
    )


def tell(record: dict) -> str:
    return (
        f"{shown(record['all'])}, complete rows {shown(record['complete'])}; fit "
        f"{record['fit_seconds']:.1f} s, score {record['score_seconds']:.1f} s; {record['note']}"
    )


def part(report, options: argparse.Namespace) -> None:
    report("Held-out log-probability in nats a row, higher is better; the same measure for all.")
    report(MISSING)
    report("")
    for table in [TINY] if options.smoke else options.tables or TABLES:
        frame = load(table, options.data)
        report(f"{table}, {len(frame)} rows, the measure of each column:")
        for line in told(measures(frame), frame):
            report("  " + line)
    report("A method that puts peaks on repeated values of a column with a density gains by them.")
    report("")
    found = completed("likelihood", jobs(options), METHODS, options, tell, report)
    for table in dict.fromkeys(record["table"] for record in found):
        summarise([r for r in found if r["table"] == table], options.folder / "tables_rows", report)


def summarise(records: list[dict], folder: Path, report) -> None:
    """A table of means over seeds, and of paired differences to ours, or else to the best."""
    some = records[0]
    by_method = {
        name: [r for r in records if r["method"] == name]
        for name in dict.fromkeys(r["method"] for r in records)
    }
    means = {name: mean_over(rows, "complete") for name, rows in by_method.items()}
    if {TREES, LINES} <= set(means):
        better = max(TREES, LINES, key=lambda name: means[name])
        by_method[BEST_CHAIN], means[BEST_CHAIN] = by_method[better], means[better]
    base = OURS if OURS in means else max(means, key=means.get)
    report(
        f"{some['table']}: {some['n_train']} rows to fit, {some['n_test']} to test, of which "
        f"{some['n_complete']} complete; {some['n_unknown']} test rows with an unseen category "
        f"left out; {len(by_method[base])} seeds"
    )
    rows = [["", "all rows", "complete", "less than ours" if base == OURS else "less than best"]]
    rows[0] += ["fit s", "", ""]
    for name, group in by_method.items():
        gap = difference(by_method[base], group, folder)
        seconds = np.mean([r["fit_seconds"] for r in group])
        overall, complete = mean_over(group, "all"), means[name]
        cells = ["-" if np.isnan(v) else f"{v:.3f}" for v in (overall, complete)]
        rows.append([name, *cells, shown(gap), f"{seconds:.1f}", "", group[-1]["note"]])
    for line in aligned(rows):
        report("  " + line)
    report("")


def mean_over(records: list[dict], key: str) -> float:
    """The mean over seeds; NaN where one has no figure."""
    return float(np.mean([np.nan if r[key] is None else r[key][0] for r in records]))


def difference(base: list[dict], other: list[dict], folder: Path) -> list[float] | None:
    """The mean paired difference over rows and seeds that both have, with its standard error."""
    means, squares = [], []
    for first in base:
        for second in other:
            if first["seed"] == second["seed"]:
                pair = [np.load(folder / r["rows_file"]) for r in (first, second)]
                gap = pair[0] - pair[1]
                gap = gap[~np.isnan(gap)]
                means.append(gap.mean())
                squares.append(gap.var() / len(gap))
    if not means or not np.isfinite(means).all():
        return None
    return [float(np.mean(means)), float(np.sqrt(np.sum(squares)) / len(means))]
