"""Part "missing": fits on rows with holes, judged by complete rows and by what was removed."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from _budget import timed
from _methods import Method
from _tables_jobs import aligned, completed, number
from _tables_measure import Column, coded, located
from _tables_mixture import ProductMixture
from _tables_ours import OURS, fitted
from scipy.stats import multivariate_normal
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer

TABLES, TINY = ("magic_gamma", "power"), "normal"
RATES, SMOKE_RATES = (0.0, 0.1, 0.3, 0.5), (0.0, 0.3)
DEFAULT_ROWS, TEST_SHARE, N_IMPUTATIONS, MAX_IMPUTED = 8000, 0.2, 20, 1000
GAUSSIAN = "Gaussian, complete rows"
METHODS = {
    OURS: Method("_tables_missing:ours"),
    "mixture of products": Method("_tables_missing:mixture"),
    GAUSSIAN: Method("_tables_missing:gaussian"),
    "iterative, 20 draws": Method("_tables_missing:iterative"),
    "iterative trees, a point": Method("_tables_missing:forests"),
    "nearest neighbours, a point": Method("_tables_missing:neighbours"),
}


class Fitted:
    """What a method offers: log-probabilities of rows, imputations of rows, or both."""

    def __init__(self, score: Callable | None = None, impute: Callable | None = None):
        self.score, self.impute = score, impute


def framed(X: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(X, columns=[f"x{j}" for j in range(X.shape[1])])


def columns_of(X: np.ndarray) -> tuple[Column, ...]:
    return tuple(Column(name, "continuous") for name in framed(X))


def ours(X: np.ndarray, seed: int, seconds: float) -> Fitted:
    density = fitted(framed(X), columns_of(X), seconds, seed)

    def impute(Y, n):
        draws = density.impute(framed(Y), n_imputations=n)
        draws = [draws] if n == 1 else draws
        return np.stack([np.asarray(draw, float) for draw in draws])

    return Fitted(lambda Y: density.score_samples(framed(Y)), impute)


def mixture(X: np.ndarray, seed: int, seconds: float) -> Fitted:
    columns = columns_of(X)
    model = ProductMixture(coded(framed(X), columns), seed)

    def impute(Y, n):
        rows = coded(framed(Y), columns)
        return np.stack([model.impute(rows, k).numbers for k in range(n)])

    return Fitted(lambda Y: model.score(coded(framed(Y), columns)), impute)


def gaussian(X: np.ndarray, seed: int, seconds: float) -> Fitted:
    if np.isnan(X).any():
        raise ValueError("complete rows only")
    return Fitted(multivariate_normal(X.mean(0), np.cov(X.T), allow_singular=True).logpdf)


def iterative(X: np.ndarray, seed: int, seconds: float) -> Fitted:
    model = IterativeImputer(sample_posterior=True, random_state=seed).fit(X)
    return Fitted(impute=lambda Y, n: np.stack([model.transform(Y) for _ in range(n)]))


def forests(X: np.ndarray, seed: int, seconds: float) -> Fitted:
    """As missForest does: a forest for each column, over and over."""
    trees = ExtraTreesRegressor(50, min_samples_leaf=3, random_state=seed, n_jobs=1)
    model = IterativeImputer(trees, max_iter=5, random_state=seed).fit(X)
    return Fitted(impute=lambda Y, n: model.transform(Y)[None])


def neighbours(X: np.ndarray, seed: int, seconds: float) -> Fitted:
    model = KNNImputer(n_neighbors=10).fit(X)
    return Fitted(impute=lambda Y, n: model.transform(Y)[None])


def rows_of(job: dict) -> tuple[np.ndarray, np.ndarray]:
    """Rows to fit and to test."""
    if job["table"] == TINY:
        X = np.random.default_rng(0).normal(size=(300, 3)) @ np.tri(3)
    else:
        X = np.load(located(f"{job['table']}.npz", Path(job["data"])))["X"].astype(float)
    order = np.random.default_rng(job["seed"]).permutation(len(X))[: job["rows"]]
    n_test = round(TEST_SHARE * len(order))
    return X[order[n_test:]], X[order[:n_test]]


def holed(X: np.ndarray, rate: float, generator: np.random.Generator) -> np.ndarray:
    """Values removed at random, but the last one of a row is kept."""
    gone = generator.random(X.shape) < rate
    empty = np.flatnonzero(gone.all(1))
    gone[empty, generator.integers(0, X.shape[1], len(empty))] = False
    return np.where(gone, np.nan, X)


def crps(truth: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """The continuous ranked probability score of draws, (k, n), for values; unbiased in k.

    Of one draw, a point, it is the absolute error.
    """
    k = len(draws)
    error = np.abs(draws - truth).mean(0)
    if k == 1:
        return error
    ordered = np.sort(draws, 0)
    weights = 2 * np.arange(1, k + 1) - k - 1
    return error - (weights[:, None] * ordered).sum(0) / (k * (k - 1))


def measure(job: dict) -> dict:
    """The log-probability of complete test rows, and the score of imputations of holed ones."""
    fit, test = rows_of(job)
    generator = np.random.default_rng(1000 + job["seed"])
    X = holed(fit, job["rate"], generator)
    holes = holed(test[:MAX_IMPUTED], job["rate"], generator)
    model, fit_seconds = timed(
        lambda: METHODS[job["method"]].load()(X, job["seed"], job["seconds"])
    )
    record = {"n_train": len(fit), "fit_seconds": fit_seconds, "log_prob": None, "crps": None}
    if model.score is not None:
        record["log_prob"] = float(np.mean(model.score(test)))
    gone = np.isnan(holes)
    if model.impute is not None and gone.any():
        draws, seconds = timed(lambda: model.impute(holes, N_IMPUTATIONS))
        units = np.broadcast_to(fit.std(0), gone.shape)[gone]
        truth = test[:MAX_IMPUTED][gone] / units
        record["crps"] = float(crps(truth, draws[:, gone] / units).mean())
        record["impute_seconds"] = seconds
    return record


def jobs(options: argparse.Namespace) -> Iterator[dict]:
    for table in [TINY] if options.smoke else options.tables or TABLES:
        for seed in range(options.seeds):
            for rate in SMOKE_RATES if options.smoke else RATES:
                for method in options.methods or METHODS:
                    # Without holes nothing is imputed, and a Gaussian is fitted without holes.
                    if method in list(METHODS)[: 3 if rate == 0 else None] and (
                        rate == 0 or method != GAUSSIAN
                    ):
                        yield {
                            "part": "missing",
                            "table": table,
                            "rate": rate,
                            "method": method,
                            "seed": seed,
                            "seconds": options.seconds,
                            "rows": options.rows or DEFAULT_ROWS,
                            "data": str(options.data),
                        }


def tell(record: dict) -> str:
    return (
        f"{record['rate']:.0%} removed: log-probability {number(record['log_prob'])}, CRPS "
        f"{number(record['crps'])}, fit {record['fit_seconds']:.1f} s"
    )


def part(report, options: argparse.Namespace) -> None:
    report("Values removed at random from the rows to fit and, to be imputed, from test rows.")
    report("log-prob.: mean log-density of complete test rows, nats. lost: the share of the gain")
    report("over a Gaussian of complete rows that is lost by the holes, for the same method.")
    report(f"CRPS of {N_IMPUTATIONS} imputations, or absolute error of a point, in deviations of")
    report("the column; lower is better.")
    report("")
    found = completed("missing", jobs(options), METHODS, options, tell, report)
    for table in dict.fromkeys(record["table"] for record in found):
        summarise([record for record in found if record["table"] == table], report)


def summarise(records: list[dict], report) -> None:
    def mean(method: str, rate: float, key: str) -> float:
        values = [r[key] for r in records if (r["method"], r["rate"]) == (method, rate)]
        return float(np.mean(values)) if values and None not in values else np.nan

    report(f"{records[0]['table']}: {records[0]['n_train']} rows to fit")
    floor = mean(GAUSSIAN, 0.0, "log_prob")
    rows = [["removed", "method", "log-prob.", "lost", "CRPS", "fit s", ""]]
    for rate in dict.fromkeys(record["rate"] for record in records):
        for name in dict.fromkeys(r["method"] for r in records if r["rate"] == rate):
            value, complete = mean(name, rate, "log_prob"), mean(name, 0.0, "log_prob")
            gain = complete - floor
            lost = f"{(complete - value) / gain:.1%}" if rate > 0 and gain > 0 else "-"
            crps_mean, seconds = mean(name, rate, "crps"), mean(name, rate, "fit_seconds")
            cells = [name, number(value), lost, number(crps_mean), f"{seconds:.1f}", ""]
            rows.append([f"{rate:.0%}", *cells])
    for line in aligned(rows):
        report("  " + line)
    report("")
