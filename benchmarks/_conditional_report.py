"""The report of the benchmark of conditional densities: tables, differences and a summary."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from _conditional_rivals import METHODS, OURS
from _conditional_run import N_LEVELS, NOMINAL
from _conditional_tables import DRAWN

# A coverage this close to the nominal one is called right, and a difference of so many standard
# errors a win or a loss.
CLOSE, CLEAR = 0.02, 2.0
TITLE = "Conditional densities: DSMRegressor beside other packages"
RULES = (
    "NLL: mean of -log p(y | x) of test rows, in the units of the target; lower is better",
    f"CRPS: pinball losses at {N_LEVELS} levels; coverage: of the {NOMINAL:.0%} interval",
    "Means over splits +- standard errors (splits share rows, so these are a little too small)",
    "Differences are paired: the method minus the best rival on the same splits. Which is best is",
    "told by the same test rows, in favour of the rivals",
    "Seconds: of the wall, and of the processor, which other programs do not lengthen",
    "Rivals choose recipe and iterations by held-out rows while the seconds last, then fit all",
)


class Mean(NamedTuple):
    """A mean over splits with its standard error, which one split does not have."""

    value: float
    error: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Mean:
        values = np.asarray(values, dtype=float)
        n = len(values)
        return cls(values.mean(), values.std(ddof=1) / np.sqrt(n) if n > 1 else np.nan)

    def told(self, digits: int = 3, width: int = 9) -> str:
        error = " " * (digits + 5) if np.isnan(self.error) else f" +- {self.error:.{digits}f}"
        return f"{self.value:{width}.{digits}f}{error}"


class Table:
    """The records of one table."""

    def __init__(self, name: str, records: list[dict]):
        self.name = name
        self.by_method: dict[str, dict[int, dict]] = {}
        self.failures: dict[str, list[dict]] = {}
        for record in records:
            if record["status"] == "ok":
                self.by_method.setdefault(record["method"], {})[record["split"]] = record
            else:
                self.failures.setdefault(record["method"], []).append(record)
        self.splits = self._splits_of_all()
        self.complete = [name for name in METHODS if self._is_complete(name)]
        self.is_law = name in DRAWN

    def _splits_of_all(self) -> list[int]:
        """The splits on which every method was tried: an interruption may leave others."""
        tried: dict[str, set[int]] = {name: set(found) for name, found in self.by_method.items()}
        for method, failed in self.failures.items():
            splits = {r["split"] for r in failed if r["status"] != "not installed"}
            if splits:
                tried[method] = tried.get(method, set()) | splits
        return sorted(set.intersection(*tried.values())) if tried and self.by_method else []

    def _is_complete(self, method: str) -> bool:
        found = self.by_method.get(method, {})
        figures = ("nll", "crps")
        return bool(self.splits) and all(
            found.get(split, {}).get(figure) is not None
            for split in self.splits
            for figure in figures
        )

    @property
    def rivals(self) -> list[str]:
        return [method for method in self.complete if method != OURS]

    @property
    def can_compare(self) -> bool:
        return bool(self.splits and self.rivals and OURS in self.complete)

    def values(self, method: str, key: str) -> np.ndarray:
        found = self.by_method[method]
        return np.array([found[split][key] for split in self.splits])

    def mean(self, method: str, key: str) -> Mean:
        return Mean.of(self.values(method, key))

    def best(self, key: str, methods: list[str]) -> str:
        return min(methods, key=lambda method: self.values(method, key).mean())

    def difference(self, method: str, other: str, key: str = "nll") -> Mean:
        return Mean.of(self.values(method, key) - self.values(other, key))


def write_report(records: list[dict], folder: Path, head: str) -> None:
    """Write ``conditional.txt`` for people and ``conditional.json`` for programs."""
    names = dict.fromkeys(record["table"] for record in records)
    tables = [Table(n, [r for r in records if r["table"] == n]) for n in names]
    lines = [TITLE, head, *budget_lines(records), *RULES, ""]
    lines += ["Methods", *(f"  {n:<16} {m.about}" for n, m in METHODS.items()), *missing(records)]
    for table in tables:
        lines += ["", *table_lines(table)]
    lines += ["", *summary_lines(tables)]
    text = "\n".join(lines) + "\n"
    print(text)
    (folder / "conditional.txt").write_text(text)
    kept = {"head": head, "tables": [table_facts(table) for table in tables]}
    (folder / "conditional.json").write_text(json.dumps(kept, indent=1) + "\n")


def budget_lines(records: list[dict]) -> list[str]:
    seconds = sorted({f"{record['seconds']:g}" for record in records})
    most = sorted({record["most_rows"] for record in records if record["most_rows"]})
    capped = f", at most {most[0]} rows to fit" if most else ""
    clocks = " and ".join(sorted({record["clock"] for record in records}))
    return [f"{' and '.join(seconds)} s of fit by the {clocks} clock{capped}"] if records else []


def missing(records: list[dict]) -> list[str]:
    """The methods that are not installed."""
    found = {r["method"]: r["message"] for r in records if r["status"] == "not installed"}
    return [f"  not installed: {name} ({message})" for name, message in found.items()]


def table_lines(table: Table) -> list[str]:
    """Every method's figures, the lowest NLL first."""
    if not table.splits:
        return [f"{table.name}: no results", *failure_lines(table)]
    any_record = next(iter(table.by_method.values()))
    facts = any_record[min(any_record)]
    lines = [
        f"{table.name}: {facts['n_train']} rows to fit, {facts['n_test']} to test, "
        f"{facts['n_features']} features, {len(table.splits)} splits, {facts['seconds']:g} s a fit"
    ]
    if table.is_law:
        true_nll = np.mean([any_record[split]["true_nll"] for split in any_record])
        lines[0] += f"; NLL of the true density {true_nll:.3f}"
    best = table.best("nll", table.rivals) if table.rivals else None
    lines.append(heading(table, best))
    order = sorted(table.complete, key=lambda method: table.values(method, "nll").mean())
    lines += [method_line(table, method, best) for method in order]
    return lines + failure_lines(table)


def heading(table: Table, best: str | None) -> str:
    columns = (
        f"  {'':<16} {'NLL':>9}{'':9} {f'minus {best}' if best else '':>22} {'CRPS':>9}{'':10}"
    )
    columns += (
        f"{'coverage':>9}{'':9}   {'fit: wall':>9} {'proc. s':>8}  {'test: wall':>10} proc. s"
    )
    return columns + ("   KL(truth || model)" if table.is_law else "")


def method_line(table: Table, method: str, best: str | None) -> str:
    mean = table.mean
    compared = "" if best in (None, method) else table.difference(method, best).told(3, 8)
    line = f"  {method:<16} {mean(method, 'nll').told()} {compared:>22} "
    line += f"{mean(method, 'crps').told(4)}  {mean(method, 'coverage').told(3, 8)}   "
    line += f"{mean(method, 'fit_wall').value:9.1f} {mean(method, 'fit_processor').value:8.1f}  "
    line += f"{mean(method, 'predict_wall').value:10.2f} "
    line += f"{mean(method, 'predict_processor').value:7.2f}"
    return line + (f"   {mean(method, 'divergence').told(4, 8)}" if table.is_law else "")


def failure_lines(table: Table) -> list[str]:
    """What has no result on some split, and why."""
    lines = []
    for method in METHODS:
        found = [r for r in table.failures.get(method, []) if r["status"] != "not installed"]
        if found:
            statuses = " and ".join(sorted({record["status"] for record in found}))
            lines.append(f"  {method}: {len(found)} {statuses}: {found[0]['message']}")
        elif method in table.by_method and method not in table.complete:
            lines.append(f"  {method}: no finite NLL on some split")
    return lines


def summary_lines(tables: list[Table]) -> list[str]:
    """How often each method is best and covers, over tables and over laws."""
    tables = [table for table in tables if table.can_compare]
    lines = []
    for title, group in (
        ("Tables", [table for table in tables if not table.is_law]),
        ("Known laws", [table for table in tables if table.is_law]),
    ):
        if group:
            lines += [*counts(title, group), "", *against_best(group), ""]
    return lines[:-1]


def counts(title: str, tables: list[Table]) -> list[str]:
    n = len(tables)
    lines = [
        f"{title}, {n}; of these with the best NLL, with a coverage within {CLOSE:.0%} of "
        f"{NOMINAL:.0%}, and CRPS over the best method's (geometric mean, largest)"
    ]
    for method in METHODS:
        own = [table for table in tables if method in table.complete]
        if not own:
            continue
        n_best = sum(table.best("nll", table.complete) == method for table in own)
        n_close = sum(abs(t.mean(method, "coverage").value - NOMINAL) <= CLOSE for t in own)
        ratios = np.array([crps_ratio(table, method) for table in own])
        left_out = "" if len(own) == n else f"   (of {len(own)})"
        lines.append(
            f"  {method:<16} best NLL {n_best:2d}   coverage {n_close:2d}   CRPS "
            f"{np.exp(np.log(ratios).mean()):6.3f} {ratios.max():6.3f}{left_out}"
        )
    return lines


def crps_ratio(table: Table, method: str) -> float:
    best = table.best("crps", table.complete)
    return table.mean(method, "crps").value / table.mean(best, "crps").value


def against_best(tables: list[Table]) -> list[str]:
    """Ours against the best rival of each table, by NLL and by CRPS."""
    lines = [f"{OURS} minus the best rival (a win or a loss: {CLEAR:g} standard errors)"]
    outcomes = []
    for table in tables:
        best, sharpest = (table.best(key, table.rivals) for key in ("nll", "crps"))
        nll, crps = table.difference(OURS, best), table.difference(OURS, sharpest, "crps")
        outcomes.append((verdict(nll), verdict(crps)))
        line = f"  {table.name:<20} NLL {nll.told()} {outcomes[-1][0]:<4} ({best});  "
        line += f"CRPS {crps.told(4)} {outcomes[-1][1]:<4} ({sharpest})"
        lines.append(line + (divergence_ratio(table) if table.is_law else ""))
    for which, key in enumerate(("NLL", "CRPS")):
        found = [outcome[which] for outcome in outcomes]
        told = ", ".join(
            f"{word} {found.count(word)}" for word in ("win", "tie", "loss", "one split")
        )
        lines.append(f"  {key}: {told}")
    return lines


def verdict(difference: Mean) -> str:
    """Lower is better."""
    if np.isnan(difference.error):
        return "one split"
    if abs(difference.value) <= CLEAR * difference.error:
        return "tie"
    return "win" if difference.value < 0 else "loss"


def divergence_ratio(table: Table) -> str:
    best = table.best("divergence", table.rivals)
    ours, theirs = (table.mean(method, "divergence").value for method in (OURS, best))
    return f";  KL {ours:.4f}, {ours / theirs:.2f} times that of {best}"


def table_facts(table: Table) -> dict:
    keys = ("nll", "crps", "coverage", "fit_wall", "fit_processor")
    keys += ("predict_wall", "predict_processor")
    keys += ("divergence",) if table.is_law else ()
    methods = {
        method: {key: [float(x) for x in table.mean(method, key)] for key in keys}
        for method in table.complete
    }
    # A standard error that one split does not give is no JSON number.
    for figures in methods.values():
        for key, (value, error) in figures.items():
            figures[key] = [value, None if np.isnan(error) else error]
    return {"table": table.name, "n_splits": len(table.splits), "methods": methods}
