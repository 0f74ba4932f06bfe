"""Part "samples": drawn rows beside real ones that no method was fitted on."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, metadata
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
from _budget import timed
from _methods import Method
from _tables_jobs import aligned, completed, every_fit, number
from _tables_measure import TINY, Column, coded, load, split
from _tables_ours import OURS
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict

TABLES = ("shoppers", "diamonds")
MAX_DETECTED = 5000
METHODS = {
    OURS: Method("_tables_synthesisers:ours"),
    "independent columns": Method("_tables_synthesisers:independent"),
    "mixture of products": Method("_tables_synthesisers:mixture"),
    "fitted rows again": Method("_tables_synthesisers:repeated"),
    "SDV GaussianCopula": Method("_tables_synthesisers:gaussian_copula", "sdv"),
    "SDV CTGAN": Method("_tables_synthesisers:ctgan", "sdv"),
    "SDV TVAE": Method("_tables_synthesisers:tvae", "sdv"),
    "arfpy": Method("_tables_synthesisers:adversarial_forest", "arfpy"),
    "ForestDiffusion": Method("_tables_synthesisers:diffused_forest", "ForestDiffusion"),
}
SCORES = {
    "shapes": "column shapes",
    "trends": "pair trends",
    "boundary": "boundary adherence",
    "category": "category adherence",
    "dcr": "DCR overfitting protection",
}


def measure(job: dict) -> dict:
    """Scores of rows drawn by a method that was fitted on half of a table's complete rows."""
    frame = load(job["table"], Path(job["data"])).dropna().reset_index(drop=True)
    parts = split(frame, job["rows"], job["seed"], test_share=0.5)
    n = min(len(parts.test), MAX_DETECTED)
    draw = METHODS[job["method"]].load()
    (drawn, note), seconds = timed(
        lambda: draw(parts.train, parts.columns, n, job["seed"], job["seconds"])
    )
    drawn = like(drawn, parts.train)
    auc = detection(parts.test[:n], drawn, parts.columns, job["seed"])
    record = {"n_train": len(parts.train), "n_drawn": n, "seconds": job["seconds"], "note": note}
    record |= {"taken": seconds, "auc": auc, "undetected": 1 - 2 * abs(auc - 0.5)}
    return record | table_scores(parts.train, parts.test, drawn, parts.columns)


def like(drawn: pd.DataFrame, frame: pd.DataFrame) -> pd.DataFrame:
    """The drawn rows with the columns and types of the fitted ones."""
    drawn = drawn[list(frame)].reset_index(drop=True)
    return drawn.astype({name: frame[name].dtype for name in frame if drawn[name].notna().all()})


def detection(real: pd.DataFrame, drawn: pd.DataFrame, columns: tuple[Column, ...], seed) -> float:
    """The cross-validated area under the ROC curve of a classifier of real against drawn rows."""
    both = coded(pd.concat([real, drawn], ignore_index=True), columns)
    X = np.stack([both.values(j) for j in range(len(columns))], 1)
    y = np.repeat([0, 1], [len(real), len(drawn)])
    model = HistGradientBoostingClassifier(
        categorical_features=[not column.ordered for column in columns], random_state=seed
    )
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    p = cross_val_predict(model, X, y, cv=folds, method="predict_proba")[:, 1]
    return float(roc_auc_score(y, p))


def table_scores(fit, real, drawn, columns) -> dict:
    """Scores of sdmetrics: closeness to held-out rows, adherence to the fitted ones, and DCR."""
    if find_spec("sdmetrics") is None:
        return dict.fromkeys(SCORES)
    from sdmetrics.reports import QualityReport
    from sdmetrics.single_column import BoundaryAdherence, CategoryAdherence
    from sdmetrics.single_table import DCROverfittingProtection

    kinds = {True: {"sdtype": "categorical"}, False: {"sdtype": "numerical"}}
    described = {"columns": {c.name: kinds[c.kind == "discrete"] for c in columns}}
    described = {"tables": {"table": described}}
    report = QualityReport()
    report.generate({"table": real}, {"table": drawn}, described, verbose=False)
    shapes, trends = (
        float(report.get_properties().set_index("Property").loc[name, "Score"])
        for name in ("Column Shapes", "Column Pair Trends")
    )
    adherence = {"boundary": [], "category": []}
    for column in columns:
        kind, score = "boundary", BoundaryAdherence
        if column.kind == "discrete":
            kind, score = "category", CategoryAdherence
        pair = (fit[column.name], drawn[column.name])
        adherence[kind].append(score.compute(real_data=pair[0], synthetic_data=pair[1]))
    half = min(len(fit), len(real))
    dcr = DCROverfittingProtection.compute(
        fit[:half], drawn, real[:half], described, "table", num_rows_subsample=1000
    )
    scores = {"shapes": shapes, "trends": trends, "dcr": float(dcr)}
    return scores | {key: float(np.mean(v)) if v else None for key, v in adherence.items()}


def jobs(options: argparse.Namespace) -> Iterator[dict]:
    tables = [TINY] if options.smoke else options.tables or TABLES
    return every_fit("samples", tables, METHODS, options)


def tell(record: dict) -> str:
    scores = ", ".join(f"{key} {number(record[key])}" for key in SCORES)
    return (
        f"AUC {record['auc']:.3f}; {scores}; {record['taken']:.1f} s to fit and draw "
        f"{record['n_drawn']} rows; {record['note']}"
    )


def licences() -> str:
    """The versions and licences of the rivals that are installed."""
    found = []
    for name in ("sdv", "sdmetrics", "arfpy", "ForestDiffusion"):
        try:
            facts = metadata(name)
        except PackageNotFoundError:
            continue
        licence = facts.get("License-Expression") or facts.get("License") or "not declared"
        found.append(f"{name} {facts['Version']} ({licence.splitlines()[0]})")
    return ", ".join(found) or "none"


def part(report, options: argparse.Namespace) -> None:
    report("Rows drawn after a fit on half of the complete rows, beside the other half.")
    report("AUC: of boosted trees that tell real from drawn rows, cross-validated; .5 is ideal.")
    report("undetected: 1 - 2|AUC - .5|. For all others, of sdmetrics, 1 is ideal: ")
    report("  " + ", ".join(f"{key} = {name}" for key, name in SCORES.items()))
    report(f"Rivals: {licences()}. SDV under the Business Source License is run, not copied.")
    report("")
    found = completed("samples", jobs(options), METHODS, options, tell, report)
    for table in dict.fromkeys(record["table"] for record in found):
        records = [record for record in found if record["table"] == table]
        seeds = len({record["seed"] for record in records})
        report(f"{table}: {records[0]['n_train']} rows to fit, means over {seeds} seeds")
        rows = [["", "AUC", "undetected", *SCORES, "seconds", "", ""]]
        for name in dict.fromkeys(record["method"] for record in records):
            group = [record for record in records if record["method"] == name]
            cells = []
            for key in ("auc", "undetected", *SCORES):
                values = [record[key] for record in group]
                cells.append(number(None if None in values else float(np.mean(values))))
            taken = np.mean([record["taken"] for record in group])
            rows.append([name, *cells, f"{taken:.1f}", "", group[-1]["note"]])
        for line in aligned(rows):
            report("  " + line)
        report("")
