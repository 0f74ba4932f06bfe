"""Outliers: DSMOutlierDetector beside other detectors, with defaults everywhere.

python benchmarks/outliers.py --data FOLDER [--tables NAME ...] [--seeds N] [--smoke]

FOLDER, or its folder "anomaly", holds files ``NAME.npz`` with arrays ``X`` and ``y``, which is 1
for anomalies. Two protocols: "normal" fits half of the normal samples and tests on the rest and all
anomalies; "unsupervised" fits all samples and ranks the same. Features are standardised by the
samples of the fit for all detectors. A detector whose package is missing is left out.

Every result is added to ``outliers.jsonl`` as it comes; ``--resume`` goes on where a run was cut
off, and ``--report`` writes the report of what is there.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from _budget import n_threads
from _outlier_rivals import METHODS, OURS
from _records import Records
from _report import RESULTS, Report, commit
from _tables import default_folder
from scipy.stats import rankdata
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

TABLES = (
    *("annthyroid", "cardio", "glass", "landsat", "letter", "mammography", "optdigits", "pima"),
    *("satimage-2", "vertebral", "vowels", "wilt"),
)
PROTOCOLS = ("normal", "unsupervised")
# The seeds are of the splits and of methods; where all samples are fitted, there are no splits.
SEEDS, UNSPLIT_SEEDS = 5, 2
IDENTITY = ("table", "method", "seed", "protocol")


class Split(NamedTuple):
    """Samples to fit and to score, and which of the latter are anomalies."""

    fitted: np.ndarray
    scored: np.ndarray
    anomaly: np.ndarray


def parsed(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--data", type=Path, default=default_folder(), help="folder of the tables' files")
    add("--tables", nargs="+", default=list(TABLES), metavar="NAME")
    add("--methods", nargs="+", default=list(METHODS), choices=list(METHODS), metavar="NAME")
    add("--protocols", nargs="+", default=list(PROTOCOLS), choices=PROTOCOLS)
    add("--seeds", type=int, default=SEEDS)
    add("--results", type=Path, help="folder of the results (default: results beside this file)")
    add("--resume", action="store_true", help="keep the records that are there")
    add("--report", action="store_true", help="fit nothing, report the records that are there")
    add("--smoke", action="store_true", help="a drawn table, a temporary folder")
    options = parser.parse_args(arguments)
    if options.smoke:
        options.tables, options.seeds = ["drawn"], 1
        options.results = options.results or Path(tempfile.mkdtemp(prefix="outliers-"))
    options.results = options.results or RESULTS
    return options


def rows(name: str, folder: Path) -> tuple[np.ndarray, np.ndarray] | None:
    """Samples and whether each is an anomaly; None where there is no file."""
    if name == "drawn":
        random = np.random.default_rng(0)
        X = np.concatenate([random.normal(size=(200, 3)), random.uniform(-4, 4, size=(20, 3))])
        return X, np.repeat([False, True], [200, 20])
    paths = [folder / place / f"{name}.npz" for place in (".", "anomaly")]
    path = next((path for path in paths if path.exists()), None)
    if path is None:
        return None
    with np.load(path) as file:
        return file["X"].astype(float), file["y"].ravel() == 1


def seeds_of(protocol: str, most: int) -> int:
    return most if protocol == "normal" else min(most, UNSPLIT_SEEDS)


def split(X: np.ndarray, anomaly: np.ndarray, protocol: str, seed: int) -> Split:
    if protocol == "unsupervised":
        return Split(X, X, anomaly)
    normal = np.random.RandomState(seed).permutation(np.flatnonzero(~anomaly))
    half = len(normal) // 2
    scored = np.concatenate([normal[half:], np.flatnonzero(anomaly)])
    return Split(X[normal[:half]], X[scored], anomaly[scored])


def record(job: dict, data: tuple[np.ndarray, np.ndarray], method: Callable) -> dict:
    """The area under the ROC curve, and the seconds to fit and to score."""
    part = split(*data, job["protocol"], job["seed"])
    scaler = StandardScaler().fit(part.fitted)
    began = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        oddness, note = method(scaler.transform(part.fitted), scaler.transform(part.scored), job)
    seconds = time.process_time() - began
    area = roc_auc_score(part.anomaly, np.nan_to_num(oddness, posinf=1e300, neginf=-1e300))
    found = {"auc": float(area), "seconds": seconds, "note": note}
    return job | found | {"status": "ok", "n": len(part.fitted), "d": part.fitted.shape[1]}


def run(options: argparse.Namespace, records: Records) -> None:
    for table in options.tables:
        data = rows(table, options.data)
        if data is None:
            print(f"no file of {table} in {options.data}", flush=True)
            continue
        for protocol in options.protocols:
            for seed in range(seeds_of(protocol, options.seeds)):
                for name in options.methods:
                    job = {"table": table, "method": name, "seed": seed, "protocol": protocol}
                    if job in records or not METHODS[name].installed:
                        continue
                    found = record(job, data, METHODS[name].load())
                    records.add(found)
                    print(
                        f"{table}, {protocol}, seed {seed}, {name}: {found['auc']:.3f}, "
                        f"{found['seconds']:.1f} s {found['note']}",
                        flush=True,
                    )


def write_report(records: list[dict], options: argparse.Namespace) -> None:
    report = Report(
        "outliers", "Outliers: DSMOutlierDetector beside other detectors", options.results
    )
    report(f"{n_threads()} threads a fit; commit {commit()}")
    report(
        "Area under the ROC curve of anomalies, means over seeds; features standardised; defaults"
    )
    report("Rank: of the methods on each table and seed, 1 is the best, then means")
    report("Seconds: of the processor, to fit and score, mean over tables")
    for protocol in options.protocols:
        report("")
        report(TITLES[protocol])
        report_protocol(report, [r for r in records if r["protocol"] == protocol])
    report.save()


TITLES = {
    "normal": "Fitted to half of the normal samples, tested on the rest and all anomalies",
    "unsupervised": "Fitted to all samples, anomalies among them, which are ranked",
}


def report_protocol(report: Report, records: list[dict]) -> None:
    tables = [name for name in dict.fromkeys(r["table"] for r in records)]
    methods = [name for name in METHODS if any(r["method"] == name for r in records)]
    areas = np.full((len(methods), len(tables), 1 + max(r["seed"] for r in records)), np.nan)
    seconds = np.zeros((len(methods), len(tables)))
    for r in records:
        place = methods.index(r["method"]), tables.index(r["table"])
        areas[(*place, r["seed"])] = r["auc"]
        seconds[place] += r["seconds"] / areas.shape[2]
    ranks = rankdata(-areas, axis=0)
    spread = areas.std(2, ddof=1) if areas.shape[2] > 1 else np.zeros(areas.shape[:2])
    error = np.sqrt((spread**2).mean(1) / areas.shape[2] / len(tables))
    order = np.argsort(-areas.mean((1, 2)))
    short = [name[:6] for name in tables]
    report(
        f"{'':<18}" + "".join(f"{name:>7}" for name in short) + "   mean +- s.e.   rank  seconds"
    )
    for m in order:
        values = "".join(f"{value:7.3f}" for value in areas[m].mean(1))
        report(
            f"{methods[m]:<18}{values}  {areas[m].mean():.4f} {error[m]:.4f}  "
            f"{ranks[m].mean():5.2f}  {seconds[m].mean():7.2f}"
        )
    if OURS in methods:
        report_differences(report, areas, methods)
    notes = {r["table"]: [] for r in records}
    for r in records:
        if r["method"] == OURS:
            notes[r["table"]].append(r["note"])
    report(
        "Criterion of DSMOutlierDetector: "
        + "; ".join(f"{name} {', '.join(dict.fromkeys(found))}" for name, found in notes.items())
    )


def report_differences(report: Report, areas: np.ndarray, methods: list[str]) -> None:
    """Wins and losses of ours, table by table, beyond two standard errors over seeds."""
    ours = areas[methods.index(OURS)]
    for m, name in enumerate(methods):
        if name == OURS:
            continue
        difference = ours - areas[m]
        mean = difference.mean(1)
        error = difference.std(1, ddof=1) / np.sqrt(difference.shape[1]) if ours.shape[1] > 1 else 0
        wins, losses = (mean > 2 * error).sum(), (mean < -2 * error).sum()
        report(
            f"  minus {name:<18} {mean.mean():+.4f}; tables: {wins} won, {losses} lost, "
            f"{len(mean) - wins - losses} level"
        )


def main(arguments: list[str] | None = None) -> None:
    options = parsed(arguments)

    def identity(job: dict) -> dict:
        return {name: job[name] for name in IDENTITY}

    keep = options.resume or options.report
    records = Records(options.results / "outliers.jsonl", identity, keep)
    if not options.report:
        run(options, records)
    if records.all:
        write_report(records.all, options)


if __name__ == "__main__":
    main()
