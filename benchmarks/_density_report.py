"""What the records of the density benchmark say: a text table for each data set, and a summary."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
from _rivals import FAST, FLOW, METHODS, OURS

# A difference counts where it is larger than this many of its standard errors.
N_ERRORS = 2.0
SINGULAR = {"wins": "win", "ties": "tie", "loses": "loss"}
# In the order of the report.
NAMES = (OURS, *(name for name in METHODS if name != OURS))
RIVALS = tuple(name for name in NAMES if name not in (OURS, FAST))
COLUMNS = (
    f"  {'method':<27}{'log-density':>13}{'s.e.':>9}{'minus ours':>12}{'s.e.':>9}{'fit s':>8}"
    f"{'rows/s':>11}{'fit MiB':>9}{'peak MiB':>9}{'KL':>9}{'s.e.':>8}{'mass':>8}"
    "  settings of the first seed"
)


class Figure(NamedTuple):
    """A mean over seeds and its standard error; a single seed has its own error."""

    mean: float
    error: float

    @classmethod
    def over_seeds(cls, pairs: list[tuple[float, float]]) -> Figure:
        """The larger of what the rows' errors and what the spread of the seeds imply."""
        means, errors = np.array(pairs).T
        within = np.sqrt((errors**2).sum()) / len(errors)
        between = means.std(ddof=1) / np.sqrt(len(means)) if len(means) > 1 else 0.0
        return cls(float(means.mean()), float(max(within, between)))


class Verdict(NamedTuple):
    """How our estimator does on a table against one competitor: what that has over ours."""

    table: str
    rival: str
    difference: Figure

    @property
    def word(self) -> str:
        if abs(self.difference.mean) <= N_ERRORS * self.difference.error:
            return "ties"
        return "loses" if self.difference.mean > 0 else "wins"


class Results:
    """The records of one budget, by table and method."""

    def __init__(self, head: dict, records: list[dict]):
        options = head["options"]
        self.head, self.tables = head, options["tables"]
        self.records = [r for r in records if r["budget"] == options["budget"]]

    def of(self, table: str, method: str | None = None) -> list[dict]:
        return [
            record
            for record in self.records
            if record["table"] == table and method in (None, record["method"])
        ]

    def figure(self, table: str, method: str, name: str, error: str) -> Figure | None:
        """A figure over the seeds; None where one of them has none."""
        records = self.of(table, method)
        if not records or any(record.get(name) is None for record in records):
            return None
        return Figure.over_seeds([(record[name], record[error]) for record in records])

    def mean(self, table: str, method: str, name: str) -> float | None:
        values = [r[name] for r in self.of(table, method) if r.get(name) is not None]
        return float(np.mean(values)) if values else None

    def is_alone(self, table: str) -> bool:
        """Whether ours kept no network on any split, so that its log-density is a formula."""
        records = self.of(table, OURS)
        return all(record.get("reference_alone", True) for record in records)

    def has_no_mean(self, table: str, method: str) -> bool:
        """Whether a fit that ended well gives a row no finite log-density."""
        return any(record.get("n_not_finite") for record in self.of(table, method))

    def log_density(self, table: str, method: str) -> Figure | None:
        return self.figure(table, method, "log_density", "standard_error")

    def difference(self, table: str, method: str) -> Figure | None:
        return self.figure(table, method, "difference", "difference_error")

    def divergence(self, table: str, method: str) -> Figure | None:
        return self.figure(table, method, "divergence", "divergence_error")

    def verdicts(self, table: str) -> list[Verdict]:
        """Against every competitor with a result, the best of them first.

        Where ours has none, it has lost to all who have.
        """
        lost = self.of(table, OURS) and self.log_density(table, OURS) is None
        if lost:
            with_result = [name for name in RIVALS if self.log_density(table, name) is not None]
            return [Verdict(table, name, Figure(np.inf, 0.0)) for name in with_result]
        rivals = ((name, self.difference(table, name)) for name in RIVALS)
        found = [Verdict(table, name, figure) for name, figure in rivals if figure is not None]
        return sorted(found, key=lambda verdict: -verdict.difference.mean)

    def against_best(self) -> list[Verdict]:
        """The verdict against the best competitor of every table that has one."""
        return [verdicts[0] for table in self.tables if (verdicts := self.verdicts(table))]

    def in_part(self, table: str) -> list[str]:
        """The competitors with a result on some of the splits only, which no verdict counts."""
        found = [name for name in RIVALS if self.mean(table, name, "log_density") is not None]
        return [name for name in found if self.log_density(table, name) is None]


def add_differences(records: list[dict], folder: Path) -> None:
    """Put each record's paired difference to ours into it, where both have kept their rows.

    One that is there stays as long as it is to the fit of ours that there is.
    """
    ours = {fit_key(record): record for record in records if record["method"] == OURS}
    for record in records:
        base = ours.get(fit_key(record), {})
        if record.get("difference_to") != base.get("started"):
            for name in ("difference", "difference_error", "difference_to"):
                record.pop(name, None)
        own_rows, base_rows = (kept_rows(each, folder) for each in (record, base))
        if record["method"] == OURS or own_rows is None or base_rows is None:
            continue
        difference = own_rows - base_rows
        record["difference"] = float(difference.mean())
        record["difference_error"] = float(difference.std(ddof=1) / np.sqrt(len(difference)))
        record["difference_to"] = base["started"]


def fit_key(record: dict) -> tuple:
    return record["table"], record["seed"], record["budget"]


def kept_rows(record: dict, folder: Path) -> np.ndarray | None:
    """The log-densities of a record's rows; None where one is not finite or none are kept."""
    path = folder / record.get("rows", "")
    if record.get("log_density") is None or not path.is_file():
        return None
    return np.load(path)["log_density"]


def write_report(head: dict, records: list[dict], path: Path) -> None:
    """Write the report and print it."""
    results = Results(head, records)
    text = "\n".join(report_lines(results)) + "\n"
    path.write_text(text)
    path.with_name("density_summary.txt").write_text("\n".join(overview_lines(results)) + "\n")
    print(text)


def overview_lines(results: Results):
    """One line a table: ours, the best competitor, the verdict, and the seconds of both."""
    head, options = results.head, results.head["options"]
    processors = sorted({record["processor"] for record in results.records})
    yield f"{' and '.join(processors)}, {head['machine']}; commit {head.get('commit', 'unknown')}"
    yield (
        f"{options['budget']:g} s of fit, {head['threads']} threads; nats a sample; a difference "
        f"of more than {N_ERRORS:g} standard errors is a win or a loss"
    )
    yield ""
    yield (
        f"{'table':<22}{'n to fit':>9}{'features':>9}{'ours':>10}  {'best competitor':<26}"
        f"{'ours minus it':>14}{'s.e.':>8}  {'':<5}{'fit, s':>13}{'samples/s':>21}"
    )
    for best in results.against_best():
        table, own = best.table, results.log_density(best.table, OURS)
        if own is None:
            yield f"{table:<22}no log-density of ours: a loss"
            continue
        shapes = results.of(table, OURS)
        seconds, rates = (
            [results.mean(table, method, name) for method in (OURS, best.rival)]
            for name in ("fit_seconds", "rows_per_second")
        )
        yield (
            f"{table:<22}{shapes[0]['n_train']:>9,}{shapes[0]['d']:>9}{own.mean:>10.3f}  "
            f"{best.rival:<26}{-best.difference.mean:>+14.3f}{best.difference.error:>8.3f}  "
            f"{SINGULAR[best.word]:<5}"
            f"{' / '.join(f'{each:.0f}' for each in seconds):>13}"
            f"{' / '.join(f'{each:,.0f}' for each in rates):>21}"
        )
    yield ""
    yield counts_line(results)


def counts_line(results: Results) -> str:
    return f"{OURS} against the best competitor of each table: {counts(results.against_best())}"


def report_lines(results: Results):
    options = results.head["options"]
    yield (
        f"Held-out log-density in nats a row and units of the input, {options['budget']:g} s of fit"
    )
    yield f"{results.head['machine']}; {results.head['threads']} threads in every fit"
    yield (
        "s.e.: standard error over the held-out rows, paired where it is of a difference; MiB: "
        "peak memory above what was held before the fit, at the end of the fit and of scoring"
    )
    for table in results.tables:
        yield ""
        yield from table_lines(results, table)
    yield ""
    yield from summary_lines(results)


def table_lines(results: Results, table: str):
    records = results.of(table)
    shapes = [record for record in records if "n_train" in record]
    if not shapes:
        reasons = sorted({f"{r['status']}: {r['message']}" for r in records}) or ["not run"]
        yield f"{table}: {'; '.join(reasons)}"
        return
    n_train, n_test, d = (shapes[0][key] for key in ("n_train", "n_test", "d"))
    note = f"; {shapes[0]['table_note']}" if shapes[0].get("table_note") else ""
    rows = f"{n_train} rows to fit, {n_test} to test, {d} columns"
    splits = len({record["seed"] for record in shapes})
    yield (
        f"{table}: {rows}{note}; {splits} split{'s' if splits > 1 else ''}, "
        f"{when_and_where(shapes)}"
    )
    yield COLUMNS
    for method in NAMES:
        yield from method_lines(results, table, method)


def when_and_where(records: list[dict]) -> str:
    """The days of the fits, and the processors."""
    days = sorted({record["started"].split()[0] for record in records})
    processors = sorted({record["processor"] for record in records})
    text = f"fits of {' to '.join({days[0]: 0, days[-1]: 0})} on {' and '.join(processors)}"
    home = {fit_key(record): record["processor"] for record in records if record["method"] == OURS}
    away = {r["method"] for r in records if r["processor"] != home.get(fit_key(r), r["processor"])}
    return text + (f", elsewhere than ours {', '.join(sorted(away))}" if away else "")


def method_lines(results: Results, table: str, method: str):
    records = results.of(table, method)
    if not records:
        yield f"  {method:<27} not run"
    good = [record for record in records if record["status"] == "ok"]
    if good:
        yield figures_line(results, table, method)
    for record in records:
        if record["status"] != "ok":
            message = f"{record['status']}, seed {record['seed']}: {record['message']}"
            yield f"  {method:<27} {' '.join(message.split())[:150]}"
    lost = sum(record["n_not_finite"] for record in good)
    if lost:
        others = results.mean(table, method, "finite_log_density")
        rest = "" if others is None else f"; the mean of the others is {others:.4f}"
        yield f"  {'':<27} {lost} of its log-densities are not finite{rest}"


def figures_line(results: Results, table: str, method: str) -> str:
    value = results.log_density(table, method)
    difference = results.difference(table, method)
    divergence = results.divergence(table, method)
    return (
        f"  {method:<27}"
        + pair(value, 13, 9)
        + pair(difference, 12, 9)
        + cell(results.mean(table, method, "fit_seconds"), 8, ".1f")
        + cell(results.mean(table, method, "rows_per_second"), 11, ",.0f")
        + cell(results.mean(table, method, "fit_mebibytes"), 9, ".0f")
        + cell(results.mean(table, method, "peak_mebibytes"), 9, ".0f")
        + pair(divergence, 9, 8)
        + cell(results.mean(table, method, "mass"), 8, ".4f")
        + f"  {results.of(table, method)[0].get('note', '')}"
    )


def cell(value: float | None, width: int, form: str) -> str:
    return f"{'-' if value is None else format(value, form):>{width}}"


def pair(figure: Figure | None, width: int, error_width: int) -> str:
    mean, error = (None, None) if figure is None else figure
    return cell(mean, width, ".4f") + cell(error, error_width, ".4f")


def summary_lines(results: Results):
    yield (
        f"Summary: a difference counts where it is beyond {N_ERRORS:g} standard errors, which are "
        "those over test rows, of one training a split, or of the splits where these are larger"
    )
    for table in results.tables:
        verdicts = results.verdicts(table)
        yield f"  {table}: {verdict_text(results, table, verdicts)}"
        if names := results.in_part(table):
            yield f"    without a result on some split, so not counted: {', '.join(names)}"
    yield counts_line(results)
    for name in RIVALS:
        own = [v for table in results.tables for v in results.verdicts(table) if v.rival == name]
        lost = [table for table in results.tables if results.has_no_mean(table, name)]
        without = f"; it has no finite mean on {', '.join(lost)}" if lost else ""
        if own or lost:
            yield f"  against {name}: {counts(own)}{without}"
    yield from divergence_lines(results)
    yield from bound_lines(results)
    yield from ode_error_lines(results)
    yield from speed_lines(results, OURS)
    yield from speed_lines(results, FAST)
    yield from amortised_lines(results)


def verdict_text(results: Results, table: str, verdicts: list[Verdict]) -> str:
    if results.log_density(table, OURS) is None:
        fault = "finite mean" if results.has_no_mean(table, OURS) else "result"
        return f"{OURS} has no {fault}" + (" and loses" if verdicts else "")
    if not verdicts:
        return f"best {OURS}, no competitor has a result"
    best = verdicts[0]
    mean, error = best.difference
    winner = OURS if mean < 0 else best.rival
    against = {"wins": "wins over", "ties": "ties with", "loses": "loses to"}[best.word]
    return f"best {winner}; {OURS} {against} {best.rival}, {-mean:+.4f} nats (s.e. {error:.4f})"


def counts(verdicts: list[Verdict]) -> str:
    words = Counter(verdict.word for verdict in verdicts)
    return f"wins {words['wins']}, ties {words['ties']}, loses {words['loses']} of {len(verdicts)}"


def divergence_lines(results: Results):
    """Distances from the truth: ours, and the smallest of the competitors'."""
    for table in results.tables:
        ours = results.divergence(table, OURS)
        rivals = {name: results.divergence(table, name) for name in RIVALS}
        known = {name: figure.mean for name, figure in rivals.items() if figure is not None}
        if ours is None or not known:
            continue
        best = min(known, key=known.__getitem__)
        yield (
            f"KL(truth || model) on {table}: {OURS} {ours.mean:.4f}, {best} {known[best]:.4f}, "
            f"ratio {ours.mean / known[best]:.2f}"
        )


def bound_lines(results: Results):
    """The held-out bound that training watched, beside the ODE's log-density of the test rows."""
    for table in results.tables:
        if results.is_alone(table):
            continue
        bound = results.mean(table, OURS, "validation_bound")
        value = results.mean(table, OURS, "log_density")
        if bound is not None and value is not None:
            yield f"{table}: bound of {OURS} on its own held-out rows {bound:.3f}, ODE {value:.3f}"


def ode_error_lines(results: Results):
    """How exact the ODE is at the default tolerance, where there is one."""
    for table in results.tables:
        if results.is_alone(table):
            continue
        mean = results.mean(table, OURS, "ode_error")
        largest = results.mean(table, OURS, "largest_ode_error")
        if mean is not None and largest is not None:
            yield (
                f"{table}: log-densities of {OURS} against a hundredth of the tolerance: "
                f"{mean:.1e} nats apart on average, {largest:.1e} at most"
            )


def speed_lines(results: Results, method: str):
    ratios = [
        own / other
        for table in results.tables
        if (own := results.mean(table, method, "rows_per_second"))
        and (other := results.mean(table, FLOW, "rows_per_second"))
    ]
    if ratios:
        yield (
            f"Rows scored a second, {method} over {FLOW}: median {median(ratios):.3f}, from "
            f"{min(ratios):.3f} to {max(ratios):.3f} ({len(ratios)} tables)"
        )


def amortised_lines(results: Results):
    """How far the amortised log-density is from the ODE of the same fit."""
    for table in results.tables:
        gap = results.figure(table, FAST, "gap_to_ode", "gap_to_ode_error")
        error = results.mean(table, FAST, "fast_error")
        if gap is not None and error is not None:
            yield (
                f"{FAST} minus the ODE of the same fit on {table}: mean {gap.mean:+.4f} "
                f"(s.e. {gap.error:.4f}); reported error {error:.4f}"
            )
