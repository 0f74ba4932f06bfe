"""Gaussian mixtures with a size and a regularisation by held-out rows, within a budget."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
from _budget import Clock, timed
from _columns import Behind, Standardized
from sklearn.mixture import BayesianGaussianMixture, GaussianMixture
from sklearn.model_selection import KFold

N_FOLDS, HELD_OUT = 5, 0.1
# Fewer rows than this are cross-validated; more are split once.
FEW_ROWS = 5000
SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
BAYESIAN_SIZES = (1, 2, 3, 5, 8, 12, 16, 20, 25, 30)
FEW_ROWS_REGULARIZATION = (1e-6, 1e-4, 1e-3, 1e-2, 1e-1)
REGULARIZATION = (1e-6, 1e-3)
SIZES_WITHOUT_GAIN = 3


def gaussian_mixture(X: np.ndarray, budget: float, seed: int) -> Behind:
    def make(size, regularization):
        return GaussianMixture(size, reg_covar=regularization, max_iter=200, random_state=seed)

    return mixture(make, SIZES, X, budget, seed)


def bayesian_mixture(X: np.ndarray, budget: float, seed: int) -> Behind:
    def make(size, regularization):
        return BayesianGaussianMixture(
            n_components=size, reg_covar=regularization, max_iter=300, random_state=seed
        )

    return mixture(make, BAYESIAN_SIZES, X, budget, seed)


class Trial(NamedTuple):
    """A setting, its held-out score, and the seconds and rows of one of its fits."""

    size: int
    regularization: float
    value: float
    seconds: float
    n_rows: int
    density: Any


def mixture(
    make: Callable[[int, float], Any],
    sizes: Iterable[int],
    X: np.ndarray,
    budget: float,
    seed: int,
) -> Behind:
    """Full covariances on standardised columns, size and regularisation by held-out rows.

    Sizes grow until three have gained nothing or the next would not fit in the budget; the
    best is fitted again on all rows where time allows.
    """
    clock, columns = Clock(budget), Standardized(X)
    Z = np.random.RandomState(seed).permutation(columns.forward(X)[0])
    folds = list(KFold(N_FOLDS).split(Z)) if len(Z) < FEW_ROWS else [one_split(len(Z))]
    best, note = largest_gain(make, [size for size in sizes if size < len(Z) / 2], Z, folds, clock)
    refit_seconds = best.seconds * len(Z) / best.n_rows
    density = best.density
    if len(folds) > 1 or clock.left > refit_seconds:
        density = make(best.size, best.regularization).fit(Z)
    else:
        note += "; not fitted again on all rows"
    density.note = f"{best.size} components, reg_covar {best.regularization:g}{note}"
    return Behind(columns, density)


def one_split(n: int) -> tuple[np.ndarray, np.ndarray]:
    n_held_out = round(HELD_OUT * n)
    return np.arange(n_held_out, n), np.arange(n_held_out)


def largest_gain(make, sizes, Z, folds, clock) -> tuple[Trial, str]:
    """The best trial, and what ended the search."""
    options = FEW_ROWS_REGULARIZATION if len(Z) < FEW_ROWS else REGULARIZATION
    best, since, last = None, 0, None
    for size in sizes:
        if last is not None and clock.left < predicted(last, size, best, len(Z)):
            return best, f"; the budget ended before {size}"
        trials, seconds = timed(lambda size=size: [tried(make, size, r, Z, folds) for r in options])
        last, top = (size, seconds), max(trials, key=lambda trial: trial.value)
        since = 0 if best is None or top.value > best.value else since + 1
        best = top if since == 0 else best
        if since == SIZES_WITHOUT_GAIN:
            break
    return best, ""


def predicted(last: tuple[int, float], size: int, best: Trial, n: int) -> float:
    """Seconds of the next size's trials and of fitting it again on all rows."""
    growth = size / last[0]
    return growth * (last[1] + best.seconds * n / best.n_rows)


def tried(make, size: int, regularization: float, Z: np.ndarray, folds) -> Trial:
    values, clock, density = [], Clock(0.0), None
    for fit, held_out in folds:
        try:
            density = make(size, regularization).fit(Z[fit])
            values.append(density.score(Z[held_out]))
        except ValueError:  # A component collapsed: the covariance is not positive definite.
            values.append(-np.inf)
    seconds = clock.elapsed / len(folds)
    return Trial(size, regularization, float(np.mean(values)), seconds, len(folds[0][0]), density)
