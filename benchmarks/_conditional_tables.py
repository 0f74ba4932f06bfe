"""Tables with a target, and laws of a target given features that are known.

A table is a file ``NAME.npz`` with arrays ``X`` and ``y``, or one that scikit-learn ships. Where
a file has no ``y``, the last column of ``X`` is the target.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import stats
from sklearn.datasets import load_diabetes

TEST_SHARE, MAX_TEST_ROWS, LAW_TEST_ROWS = 0.1, 1000, 2000
TABLES = ("yacht", "energy", "diabetes", "kin8nm", "power_plant", "protein")
SHIPPED = {"diabetes": partial(load_diabetes, scaled=False)}
# Tables with more rows have fewer splits, as published ones do.
FEW_ROWS, SPLITS, FEW_SPLITS = 2000, 20, 5
# Seconds of a fit, where none are told: of tables with up to FEW_ROWS rows and of laws, and others.
SECONDS, MANY_SECONDS = 15.0, 60.0
# Where files may lie in the data folder.
FOLDERS = (".", "regression", "density")


class Split(NamedTuple):
    """Rows to fit and to test; ``truth`` is the exact log-density where the law is known."""

    X: np.ndarray
    y: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray
    truth: np.ndarray | None = None

    def tested_by(self, n: int | None) -> Split:
        """The split with its first n test rows."""
        truth = None if self.truth is None else self.truth[:n]
        return self._replace(X_test=self.X_test[:n], y_test=self.y_test[:n], truth=truth)


class Law(NamedTuple):
    """A law of the target given features, which are uniform in a cube.

    ``draw`` gives targets (n,) of features (n, d), and ``log_density`` their log-densities.
    """

    draw: Callable[[np.ndarray, np.random.Generator], np.ndarray]
    log_density: Callable[[np.ndarray, np.ndarray], np.ndarray]
    n_features: int = 3

    def features(self, n: int, random: np.random.Generator) -> np.ndarray:
        return random.uniform(-1, 1, size=(n, self.n_features))


def sine(X: np.ndarray) -> np.ndarray:
    return np.sin(3 * X[:, 0])


def growing(X: np.ndarray) -> np.ndarray:
    return 0.2 * np.exp(X[:, 1])


def branches(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How far both branches are from the mean, and the probability of the upper one."""
    return X[:, 0] + 1, 1 / (1 + np.exp(-2 * X[:, 1]))


def draw_branch(X: np.ndarray, random: np.random.Generator) -> np.ndarray:
    distance, upper = branches(X)
    sign = np.where(random.uniform(size=len(X)) < upper, 1, -1)
    return sign * distance + 0.2 * random.normal(size=len(X))


def log_density_of_branches(X: np.ndarray, y: np.ndarray) -> np.ndarray:
    distance, upper = branches(X)
    return np.logaddexp(
        np.log(upper) + stats.norm.logpdf(y, distance, 0.2),
        np.log1p(-upper) + stats.norm.logpdf(y, -distance, 0.2),
    )


DEGREES = 3
LAWS = {
    "heteroscedastic": Law(
        lambda X, random: sine(X) + growing(X) * random.normal(size=len(X)),
        lambda X, y: stats.norm.logpdf(y, sine(X), growing(X)),
    ),
    "bimodal": Law(draw_branch, log_density_of_branches),
    "heavy_tails": Law(
        lambda X, random: sine(X) + growing(X) * random.standard_t(DEGREES, size=len(X)),
        lambda X, y: stats.t.logpdf(y, DEGREES, sine(X), growing(X)),
    ),
}
LAW_SIZES = (1000, 4000)
DRAWN = {f"{name}_{n}": (law, n) for name, law in LAWS.items() for n in LAW_SIZES}


def file_of(name: str, folder: Path) -> Path | None:
    """The file that a table is read from; None where it needs none or there is none."""
    paths = (folder / place / f"{name}.npz" for place in FOLDERS)
    return next((path for path in paths if path.exists()), None)


def is_there(name: str, folder: Path) -> bool:
    return name in DRAWN or name in SHIPPED or file_of(name, folder) is not None


def is_small(name: str, folder: Path) -> bool:
    return len(rows(name, folder)[1]) < FEW_ROWS


def n_splits(name: str, folder: Path) -> int:
    """The splits of a table where none are told."""
    return SPLITS if name not in DRAWN and is_small(name, folder) else FEW_SPLITS


def seconds_of(name: str, folder: Path) -> float:
    """The seconds of a fit where none are told."""
    return SECONDS if name in DRAWN or is_small(name, folder) else MANY_SECONDS


def rows(name: str, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Features and targets of a table in float64."""
    if name in SHIPPED:
        table = SHIPPED[name]()
        X, y = table.data, table.target
    else:
        table = np.load(file_of(name, folder))
        X = table["X"]
        X, y = (X, table["y"]) if "y" in table else (X[:, :-1], X[:, -1])
    return np.asarray(X, dtype=np.float64), np.asarray(y, dtype=np.float64).ravel()


def load(name: str, folder: Path, seed: int, most_rows: int | None = None) -> Split:
    """A table with its split, the same for the same seed, with at most so many rows to fit."""
    split = drawn(name, seed) if name in DRAWN else parted(*rows(name, folder), seed)
    return split._replace(X=split.X[:most_rows], y=split.y[:most_rows])


def drawn(name: str, seed: int) -> Split:
    law, n = DRAWN[name]
    fit, fresh = np.random.default_rng(seed).spawn(2)
    X, X_test = law.features(n, fit), law.features(LAW_TEST_ROWS, fresh)
    y_test = law.draw(X_test, fresh)
    return Split(X, law.draw(X, fit), X_test, y_test, law.log_density(X_test, y_test))


def parted(X: np.ndarray, y: np.ndarray, seed: int) -> Split:
    """A tenth of the rows to test, the others to fit, without columns that are constant there."""
    order = np.random.default_rng(seed).permutation(len(X))
    n_test = round(TEST_SHARE * len(X))
    test, fit = order[: min(n_test, MAX_TEST_ROWS)], order[n_test:]
    varies = np.ptp(X[fit], axis=0) > 0
    X = X[:, varies]
    return Split(X[fit], y[fit], X[test], y[test])
