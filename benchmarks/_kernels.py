"""``KernelDensity`` with a bandwidth by cross-validation, within a budget."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from _budget import Clock, timed
from _columns import Behind, Standardized
from sklearn.model_selection import KFold
from sklearn.neighbors import KernelDensity

N_FOLDS, PILOT_ROWS, MAX_VALIDATION_ROWS = 5, 40, 2000
N_TRIALS, STEP, TRIALS_SHARE = 14, 1.6, 0.8
# Relative error of a density that the tree may make.
TOLERANCE = 1e-4


def kernel_density(X: np.ndarray, budget: float, seed: int) -> Behind:
    """Gaussian kernels on standardised columns, bandwidth by five-fold cross-validation.

    The bandwidth is stepped from Scott's in the direction that gains, then searched by golden
    section. So many held-out rows are scored that the trials fit in the budget.
    """
    clock, columns = Clock(TRIALS_SHARE * budget), Standardized(X)
    Z = np.random.RandomState(seed).permutation(columns.forward(X)[0])
    folds = list(KFold(min(N_FOLDS, len(Z))).split(Z))

    def score(log_bandwidth: float, n_rows: int) -> float:
        parts = [Z[held_out][: max(1, n_rows // len(folds))] for _, held_out in folds]
        trials = zip(folds, parts, strict=True)
        fitted = ((kernels(Z[fit], log_bandwidth), part) for (fit, _), part in trials)
        return float(np.mean([kde.score_samples(part).mean() for kde, part in fitted]))

    start = -np.log(len(Z)) / (Z.shape[1] + 4)
    _, seconds = timed(lambda: score(start, PILOT_ROWS))
    affordable = int(clock.left / N_TRIALS / seconds * PILOT_ROWS)
    n_rows = int(np.clip(affordable, 5 * N_FOLDS, min(len(Z), MAX_VALIDATION_ROWS)))
    best, n_trials = highest(lambda h: score(h, n_rows), start, float(np.log(STEP)), clock)
    density = kernels(Z, best)
    density.note = f"bandwidth {np.exp(best):.3g} of {n_trials}, scored on {n_rows} held-out rows"
    return Behind(columns, density)


def kernels(Z: np.ndarray, log_bandwidth: float) -> KernelDensity:
    # A tree that may err by a ten-thousandth of a nat is many times faster than an exact one.
    bandwidth = float(np.exp(log_bandwidth))
    return KernelDensity(bandwidth=bandwidth, algorithm="kd_tree", rtol=TOLERANCE).fit(Z)


def highest(
    function: Callable[[float], float], start: float, step: float, clock: Clock
) -> tuple[float, int]:
    """Where a function of one hump is highest, as far as the time goes, and how often it ran."""
    values = {start: function(start)}
    while len(values) < N_TRIALS and clock.left > 0:
        point = next_point(values, step)
        values[point] = function(point)
    return max(values, key=values.__getitem__), len(values)


def next_point(values: dict[float, float], step: float) -> float:
    """A step beyond the end where the best point is an end, else into the wider gap beside it."""
    points, best = sorted(values), max(values, key=values.__getitem__)
    index = points.index(best)
    if index == 0:
        return best - step
    if index == len(points) - 1:
        return best + step
    left, right = best - points[index - 1], points[index + 1] - best
    return best - 0.382 * left if left > right else best + 0.382 * right
