"""Gaussian mixtures beside scikit-learn's: seconds of a fit, and held-out log-density.

OMP_NUM_THREADS=1 python benchmarks/mixtures.py [--smoke]

Both estimators have their default options, standard errors included, and the same seed, table
by table, one after the other. The tables are drawn from mixtures of as many components as are
fitted. Four further tables are what reports of users had trouble with.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
from _budget import processor_timed
from _report import RESULTS, Report
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from sklearn_dsm import GMMScoreEstimator

N_SEEDS, SHORT_FITS, SHORT_SECONDS = 3, 5, 0.2
MAX_TEST_ROWS = 20_000


class Table(NamedTuple):
    """Rows, columns and components of a drawn table, and the kind of its covariances."""

    n: int
    d: int
    k: int
    kind: str

    def __str__(self) -> str:
        return f"{self.n:>7} x {self.d:<2} {self.k:>2} {self.kind}"

    def draw(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows to fit and rows to test, columns in units of their own."""
        random = np.random.default_rng(seed)
        means = random.normal(size=(self.k, self.d)) * (2 + 3 / np.sqrt(self.d))
        factors = self._factors(random)
        labels = random.choice(self.k, 2 * self.n, p=random.dirichlet(np.full(self.k, 5.0)))
        noise = random.normal(size=(2 * self.n, self.d))
        X = means[labels] + np.einsum("nd,nde->ne", noise, factors[labels])
        if self.kind != "spherical":
            X *= 10 ** random.uniform(-1, 1, self.d)
        return X[: self.n], X[self.n :][:MAX_TEST_ROWS]

    def _factors(self, random: np.random.Generator) -> np.ndarray:
        k, d = self.k, self.d
        if self.kind == "spherical":
            return random.uniform(0.5, 1.5, k)[:, None, None] * np.eye(d)
        if self.kind == "diag":
            return random.uniform(0.3, 1.7, (k, d))[:, :, None] * np.eye(d)
        n_factors = 1 if self.kind == "tied" else k
        factors = np.eye(d) + 0.5 * random.normal(size=(n_factors, d, d)) / np.sqrt(d)
        return np.broadcast_to(factors, (k, d, d))


TABLES = (
    Table(1_000, 1, 2, "full"),
    Table(3_000, 1, 4, "full"),
    Table(3_000, 4, 2, "full"),
    Table(2_000, 50, 20, "diag"),
    Table(5_000, 10, 5, "full"),
    Table(10_000, 2, 3, "tied"),
    Table(20_000, 5, 8, "spherical"),
    Table(50_000, 10, 10, "diag"),
    Table(100_000, 2, 5, "full"),
    Table(100_000, 20, 10, "full"),
    Table(20_000, 50, 5, "tied"),
    Table(10_000, 50, 1, "full"),
)
SMOKE = (Table(300, 1, 2, "full"), Table(300, 2, 2, "diag"))


def hard_tables(seed: int) -> dict[str, tuple[np.ndarray, np.ndarray, int]]:
    """Rows to fit, rows to test and components."""
    random = np.random.default_rng(seed)

    def far(n):
        return 1000.0 * random.integers(0, 3, (n, 1)) + 0.1 * random.normal(size=(n, 1))

    def collinear(n):
        x = random.normal(size=(n, 1))
        return np.hstack([x, x + 1e-6 * random.normal(size=(n, 1))])

    def clean(n):
        return random.normal(size=(n, 2))

    spoilt = clean(3000)
    spoilt[:30, 0] = -9999
    return {
        "clusters 10,000 widths apart": (far(1500), far(5000), 3),
        "columns correlated by 1 - 5e-13": (collinear(2000), collinear(5000), 1),
        "1 % of the rows at -9999": (spoilt, clean(5000), 2),
        "25 rows in 20 columns": (random.normal(size=(25, 20)), random.normal(size=(5000, 20)), 1),
    }


def seconds_of(make, X: np.ndarray):
    """The fitted estimator, and the median seconds of a few fits where these are short."""
    fit, seconds = processor_timed(lambda: make().fit(X))
    if seconds > SHORT_SECONDS:
        return fit, seconds
    again = [processor_timed(lambda: make().fit(X))[1] for _ in range(SHORT_FITS)]
    return fit, float(np.median(again))


def load_everything() -> None:
    """What the first fits of a process load is no part of the time of a fit."""
    X, _ = SMOKE[1].draw(0)
    GMMScoreEstimator(2).fit(X)
    GaussianMixture(2).fit(X)


def compared(X, test, k, kind, seed) -> tuple[float, float, float, float]:
    """Seconds and held-out log-density of ours and of theirs."""
    ours, seconds = seconds_of(
        lambda: GMMScoreEstimator(k, covariance_type=kind, random_state=seed), X
    )
    theirs, their_seconds = seconds_of(
        lambda: GaussianMixture(k, covariance_type=kind, random_state=seed), X
    )
    return seconds, ours.score(test), their_seconds, theirs.score(test)


def drawn_part(report: Report, tables: tuple[Table, ...], n_seeds: int) -> None:
    report(
        "Drawn tables: rows x columns, components, kind; the processor's seconds of ours and of "
        "scikit-learn's, their ratio by seed, and the difference of the held-out log-densities"
    )
    medians, every_ratio, gaps = [], [], []
    for table in tables:
        found = []
        for seed in range(n_seeds):
            found.append(compared(*table.draw(seed), table.k, table.kind, seed))
        seconds, values, theirs, their_values = np.array(found).T
        ratios, gap = seconds / theirs, values - their_values
        medians.append(np.median(ratios))
        every_ratio.extend(ratios)
        gaps.append(gap)
        report(
            f"  {table!s:<28} {np.median(seconds):8.3f} {np.median(theirs):8.3f}   x "
            + " ".join(f"{ratio:6.2f}" for ratio in ratios)
            + "   "
            + " ".join(f"{each:+8.4f}" for each in gap)
        )
    every = np.concatenate(gaps)
    report(
        f"  Ratio of the seconds: median of the tables {np.median(medians):.2f}, largest of a fit "
        f"{max(every_ratio):.2f}. Held-out log-density: behind by more than .005 nats in "
        f"{(every < -0.005).sum()} of {every.size} fits, ahead by as much in "
        f"{(every > 0.005).sum()}"
    )


def hard_part(report: Report, n_seeds: int) -> None:
    report("")
    report("What users had trouble with: held-out log-density of ours and of scikit-learn's")
    for seed in range(n_seeds):
        for name, (X, test, k) in hard_tables(seed).items():
            seconds, ours, their_seconds, theirs = compared(X, test, k, "full", seed)
            report(
                f"  {name:<32} seed {seed}: {ours:10.3f} {theirs:10.3f}   seconds "
                f"{seconds:.3f} {their_seconds:.3f}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="tiny tables, a temporary folder")
    options = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    folder = Path(tempfile.mkdtemp(prefix="mixtures-")) if options.smoke else RESULTS
    report = Report("mixtures", "Gaussian mixtures beside scikit-learn's", folder)
    n_seeds = 1 if options.smoke else N_SEEDS
    load_everything()
    drawn_part(report, SMOKE if options.smoke else TABLES, n_seeds)
    hard_part(report, n_seeds)
    report.save()


if __name__ == "__main__":
    main()
