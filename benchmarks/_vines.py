"""``VineDensity`` of pyvinecopulib with settings by held-out rows, within a budget."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from _budget import Clock, n_threads, timed
from pyvinecopulib import FitControlsVinecop, families
from pyvinecopulib.sklearn import VineDensity
from sklearn.model_selection import KFold

# Fewer rows than this are cross-validated; more are split once.
FEW_ROWS, N_FOLDS, HELD_OUT, MAX_VALIDATION_ROWS = 5000, 5, 0.1, 2000
PILOT_ROWS, MIN_ROWS, TRIAL_SHARE, FINAL_SHARE = 1000, 200, 0.07, 0.9
# A fine grid of a pair copula costs six times as much: for tables of few columns.
GRID, FINE_GRID, FEW_COLUMNS = 30, 100, 10


class Setting(NamedTuple):
    """Pair copulas: local likelihood of an order, or parametric ones; and the trees' depth."""

    order: str
    multiplier: float = 1.0
    depth: int = 20
    grid: int = GRID

    def controls(self) -> FitControlsVinecop:
        if self.order == "parametric":
            # By inversion of Kendall's tau: maximum likelihood takes thirty times as long.
            return FitControlsVinecop(families.itau, parametric_method="itau", trunc_lvl=self.depth)
        return FitControlsVinecop(
            [families.tll],
            nonparametric_method=self.order,
            nonparametric_mult=self.multiplier,
            nonparametric_grid_size=self.grid,
            trunc_lvl=self.depth,
        )

    def fit(self, X: np.ndarray) -> VineDensity:
        return VineDensity(controls=self.controls(), batch_size=2000, n_jobs=n_threads()).fit(X)

    def cost(self, X: np.ndarray) -> float:
        """Seconds a row, measured on a pilot: a vine cannot be stopped while it is fitted."""
        pilot = X[:PILOT_ROWS]
        return timed(lambda: self.fit(pilot))[1] / len(pilot)


# In the order they are tried, as far as half of the budget goes.
SETTINGS = (
    Setting("constant"),
    Setting("quadratic"),
    Setting("parametric"),
    Setting("constant", 0.7),
    Setting("constant", 0.4, grid=FINE_GRID),
    Setting("constant", 0.25, grid=FINE_GRID),
    Setting("quadratic", 0.7),
    Setting("constant", depth=3),
    Setting("constant", 1.5),
)


def vine(X: np.ndarray, budget: float, seed: int) -> VineDensity:
    """Kernel margins and the pair copulas of the setting that held-out rows prefer.

    A trial takes as many rows as its share of the budget allows, and so does the last fit.
    """
    clock = Clock(budget)
    X = np.random.RandomState(seed).permutation(X)
    trials = []
    for setting in SETTINGS:
        if setting.grid == FINE_GRID and X.shape[1] > FEW_COLUMNS:
            continue
        cost = setting.cost(X)
        trials.append((held_out_score(setting, X, TRIAL_SHARE * budget / cost), cost, setting))
        if clock.left < 0.5 * budget:
            break
    _, cost, setting = max(trials)
    n_rows = min(len(X), max(MIN_ROWS, int(FINAL_SHARE * clock.left / cost)))
    density = setting.fit(X[:n_rows])
    density.note = note_of(setting, n_rows, len(X), len(trials))
    return density


def held_out_score(setting: Setting, X: np.ndarray, affordable: float) -> float:
    """Mean log-density of rows held out, by five folds where those can be afforded."""
    n_rows = max(MIN_ROWS, int(affordable))
    values = []
    for fit, held_out in folds(len(X), N_FOLDS * len(X) < n_rows):
        density = setting.fit(X[fit[:n_rows]])
        values.append(density.score_samples(X[held_out[:MAX_VALIDATION_ROWS]]))
    value = np.concatenate(values)
    # Rows beyond a margin's support have density zero under every setting.
    finite = value[np.isfinite(value)]
    return float(finite.mean()) if len(finite) else -np.inf


def folds(n: int, affordable: bool) -> list[tuple[np.ndarray, np.ndarray]]:
    if affordable and n < FEW_ROWS:
        return list(KFold(N_FOLDS).split(np.arange(n)))
    n_held_out = round(HELD_OUT * n)
    return [(np.arange(n_held_out, n), np.arange(n_held_out))]


def note_of(setting: Setting, n_rows: int, n: int, n_trials: int) -> str:
    subset = "" if n_rows == n else f"; fitted on {n_rows} of {n} rows"
    return (
        f"{setting.order}, bandwidth x {setting.multiplier:g}, {setting.depth} trees, grid of "
        f"{setting.grid}, best of {n_trials} settings{subset}"
    )
