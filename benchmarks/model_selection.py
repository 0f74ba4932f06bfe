"""What model selection sees on the way: base densities, and networks a fifth into their training.

python benchmarks/model_selection.py --data FOLDER

The constants of ``sklearn_dsm/_search/tuning.py`` rest on these figures: whether the space that
leads early leads at the end, whether a short training of a flow tells what it is worth, and whether
a network that wins in the end is ahead of the best base density when it may be pruned.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from pathlib import Path
from unittest.mock import patch

import torch
from _budget import n_threads
from _own_process import outcome, write_outcome
from _report import RESULTS, Report
from _tables import TABLES, default_folder, load
from density import missing_file

from sklearn_dsm import DSMDensityEstimator
from sklearn_dsm._search import selection
from sklearn_dsm._search.correction import Correction
from sklearn_dsm._search.flow_search import FlowSearch
from sklearn_dsm._search.tuning import TUNING

BUDGET = 60.0


class Observed:
    """The events of one fit, each with the seconds since its start."""

    def __init__(self):
        self.started, self.events = time.perf_counter(), []

    def add(self, kind: str, **facts) -> None:
        self.events.append({"kind": kind, "seconds": time.perf_counter() - self.started} | facts)

    def fit_bases(self, *options):
        """The base densities, and what they are worth."""
        start, families = FIT_BASES(*options)
        for family in families:
            name = "flow" if isinstance(family, FlowSearch) else "mixture"
            self.add(name, value=family.value)
        self.add("gaussian", value=start.value)
        return start, families

    def train(self, correction, base, prune_below):
        """A network's training, and its bound when it may be pruned."""
        began = time.perf_counter()
        seconds = correction._time_left
        marks = []
        plain = correction.epochs

        def watching(record):
            marks.append((time.perf_counter() - began, record.best_gain))
            return plain(record)

        watching.begin = plain.begin
        with patch.object(correction, "epochs", watching):
            record = TRAIN(correction, base, prune_below)
        early = [gain for t, gain in marks if t <= TUNING.pruned_between[0] * seconds]
        self.add(
            "network",
            base=base.value,
            wanted=base.value + prune_below,
            early=base.value + max(early, default=0.0),
            best=base.value + record.best_gain,
            stop_reason=record.stop_reason,
            share=marks[-1][0] / seconds if marks else 0.0,
        )
        return record


FIT_BASES, TRAIN = selection.fit_bases, Correction._train


def observed(job: dict) -> dict:
    """The events of a fit, and the held-out log-density of what it chose."""
    torch.set_num_threads(n_threads())
    table, seen = load(job["table"], Path(job["data"]), 0), Observed()
    density = DSMDensityEstimator(max_fit_time=job["budget"], random_state=0)
    with (
        warnings.catch_warnings(),
        patch.object(selection, "fit_bases", seen.fit_bases),
        patch.object(Correction, "_train", lambda *options: seen.train(*options)),
    ):
        warnings.simplefilter("ignore")
        density.fit(table.train)
    parts = len(density.reference_.weights_)
    chosen = ("network on " if density.network_weights_ else "") + (
        f"mixture of {parts}" if parts > 1 else "Gaussian"
    )
    flow = any(".autoregressive." in name for name in density.latent_map_)
    chosen += " behind a flow" if flow else ""
    return {"events": seen.events, "chosen": chosen, "value": float(density.score(table.test))}


def tell(report: Report, table: str, found: dict) -> None:
    """A paragraph on a table."""
    report(f"{table}: {found['chosen']}, {found['value']:.3f} on test rows")
    for event in found["events"]:
        head = f"  {event['seconds']:5.1f} s  {event['kind']:<9}"
        if event["kind"] == "network":
            report(
                head + f"from {event['base']:9.3f}: {event['early']:9.3f} after a fifth, to beat "
                f"{event['wanted']:9.3f}; {event['best']:9.3f} at the end, {event['stop_reason']} "
                f"after {event['share']:.0%}"
            )
        else:
            report(head + f"{event['value']:9.3f}")
    report("")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=default_folder(), help="the tables' folder")
    parser.add_argument("--tables", nargs="+", default=list(TABLES), metavar="NAME")
    parser.add_argument("--budget", type=float, default=BUDGET, help="seconds (default: 60)")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    title = "Log-densities of the validation rows in the course of model selection, one split"
    report = Report("model_selection", title, options.results)
    for table in options.tables:
        if missing_file(table, options.data):
            report(f"{table}: no file in {options.data}")
            continue
        job = {"table": table, "data": str(options.data), "budget": options.budget}
        tell(report, table, outcome([__file__], job))
    report.save()


if __name__ == "__main__":
    if len(sys.argv) == 2 and sys.argv[1].startswith("{"):
        task = json.loads(sys.argv[1])
        write_outcome(observed(task), task)
    else:
        main()
