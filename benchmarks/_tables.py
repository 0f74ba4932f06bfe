"""The tables of the density benchmark, each split into rows to fit and rows to test.

A table is a file ``NAME.npz`` with an array ``X``, or one that scikit-learn ships, or a law
that is drawn. A name that ends in ``+noise`` has uniform noise of one quantum added to every
column before the split: a rounded column has no density, and whoever spikes hardest wins. One
that ends in ``+noise_0.01`` has noise of that width, where the smallest step is none of rounding.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from _laws import Law, SineChain, mixture
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine

from sklearn_dsm.datasets import Checkerboard, Funnel, TwoMoons

TEST_SHARE, MAX_TEST_ROWS = 0.1, 5000
NOISE = "+noise"
SHIPPED = {
    "breast_cancer": load_breast_cancer,
    "diabetes": partial(load_diabetes, scaled=False),
    "wine": load_wine,
}
PATCHES = "bsds300_patches"


class Table(NamedTuple):
    """Rows to fit, rows to test, and what is known of them.

    ``truth`` is the exact log-density of the test rows where the law is known.
    """

    train: np.ndarray
    test: np.ndarray
    truth: np.ndarray | None = None
    note: str = ""


class Draw(NamedTuple):
    """A law and how many rows are drawn from it."""

    law: Callable[[], Law]
    n_train: int
    n_test: int = MAX_TEST_ROWS


LAWS = {
    "two_moons": Draw(TwoMoons, 4000),
    "checkerboard": Draw(Checkerboard, 20_000),
    "funnel_10": Draw(Funnel, 20_000),
    "gaussian_mixture_50": Draw(mixture, 20_000),
    "two_moons_300": Draw(TwoMoons, 300, 1000),
}
# Tables of sizes: chain_COLUMNSxROWS.
CHAIN_SIZES = (100, 1000, 10_000, 100_000)
CHAIN_COLUMNS = (2, 10, 50, 200)
LAWS |= {
    f"chain_{d}x{n}": Draw(partial(SineChain, d), n, 2000)
    for d in CHAIN_COLUMNS
    for n in CHAIN_SIZES
}
TABLES = (
    "power",
    "wine_white",
    "wine_white+noise",
    "protein",
    "kin40k",
    "magic_gamma",
    "pendigits",
    # Ratios of integers below about a hundred, of which many are exactly 0 or 1.
    "pendigits+noise_0.01",
    "ionosphere",
    "miniboone",
    PATCHES,
    "breast_cancer+noise",
    "diabetes+noise",
    "wine+noise",
    "two_moons",
    "checkerboard",
    "funnel_10",
    "gaussian_mixture_50",
)
TINY_TABLES = ("wine+noise", "two_moons_300")


def default_folder() -> Path:
    """The folder named by SKLEARN_DSM_DATA, else ``data`` beside this file."""
    return Path(os.environ.get("SKLEARN_DSM_DATA") or Path(__file__).parent / "data")


def source(name: str) -> str:
    """The name without what is done to the rows."""
    return name.partition(NOISE)[0]


def file_of(name: str, folder: Path) -> Path | None:
    """The file a table is read from; None where it needs none."""
    name = source(name)
    return None if name in LAWS or name in SHIPPED else folder / f"{name}.npz"


def load(name: str, folder: Path, seed: int) -> Table:
    """A table with its split, the same for the same seed."""
    if name in LAWS:
        return drawn(LAWS[name], seed)
    table = patches(folder, seed) if name == PATCHES else split(rows(name, folder), seed)
    return without_constant_columns(table)


def drawn(draw: Draw, seed: int) -> Table:
    """Independent rows of a law, with their exact log-densities."""
    law, (fit, fresh) = draw.law(), np.random.default_rng(seed).spawn(2)
    test = law.sample(draw.n_test, fresh)
    return Table(law.sample(draw.n_train, fit), test, law.log_density(test))


def rows(name: str, folder: Path) -> np.ndarray:
    """All rows of a table in float64."""
    path = file_of(name, folder)
    X = SHIPPED[source(name)]().data if path is None else np.load(path)["X"]
    X = np.asarray(X, dtype=np.float64)
    _, noise, width = name.partition(NOISE)
    return with_noise(X, float(width.removeprefix("_")) if width else None) if noise else X


def with_noise(X: np.ndarray, width: float | None = None, seed: int = 0) -> np.ndarray:
    """Rows plus uniform noise; where no width is given, one of a column's smallest step."""
    widths = [quantum(x) for x in X.T] if width is None else width
    return X + np.random.default_rng(seed).uniform(size=X.shape) * widths


def quantum(column: np.ndarray) -> float:
    """The smallest step between distinct values, where differences of rounding are no step."""
    gaps = np.diff(np.unique(column))
    return float(gaps[gaps > 1e-9 * np.ptp(column)].min())


def split(X: np.ndarray, seed: int) -> Table:
    order = np.random.default_rng(seed).permutation(len(X))
    n_test = min(round(TEST_SHARE * len(X)), MAX_TEST_ROWS)
    return Table(X[order[n_test:]], X[order[:n_test]])


def patches(folder: Path, seed: int) -> Table:
    """Patches of photographs as published for BSDS300, with the published rows to test.

    Grey levels get uniform noise of one level and are divided by 256, the patch's mean is
    subtracted, and the last pixel, which follows from the others, is dropped.
    """
    parts, generator = np.load(file_of(PATCHES, folder)), np.random.default_rng(seed)

    def prepared(grey):
        X = (grey + generator.uniform(size=grey.shape)) / 256
        return (X - X.mean(1, keepdims=True))[:, :-1]

    fit, validation, test = (prepared(parts[key]) for key in ("train", "val", "test"))
    return Table(np.concatenate([fit, validation]), test)


def without_constant_columns(table: Table) -> Table:
    """The table without the columns that have a single value among the rows to fit."""
    varies = np.ptp(table.train, axis=0) > 0
    if varies.all():
        return table
    note = f"{np.sum(~varies)} constant columns dropped"
    return table._replace(train=table.train[:, varies], test=table.test[:, varies], note=note)
