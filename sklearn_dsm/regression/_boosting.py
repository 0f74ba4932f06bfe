"""Boosted trees of all folds at once, with the number of iterations that suits all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from sklearn.ensemble import HistGradientBoostingRegressor
from threadpoolctl import threadpool_limits

# Rows from which more than one thread pays for boosting on a busy machine.
THREADED_ROWS = 20_000
# The first iterations, by what factor their number then grows, and the share of the best ones
# from which on the rest has brought nothing.
FIRST_ITERATIONS, GROWTH = 20, 1.6


class Booster(NamedTuple):
    """Boosted trees, cut off after some of their iterations."""

    trees: HistGradientBoostingRegressor
    n_iter: int

    def predict(self, numbers: np.ndarray) -> np.ndarray:
        return next(islice(self.trees.staged_predict(numbers), self.n_iter - 1, None))


class Candidate(NamedTuple):
    """A regressor of every fold, and predictions of the samples by those that did not see them.

    Predictions are averages where the folds are several partitions. The view is the form of the
    features that the regressors take.
    """

    fitted: list
    predictions: np.ndarray
    view: str


class Shape(NamedTuple):
    """What distinguishes boosters: learning rate, leaves of a tree, samples of a leaf."""

    rate: float
    leaves: int
    least: int


def boosted(
    folds: Sequence[tuple[np.ndarray, np.ndarray]],
    features: np.ndarray,
    categorical: list[int],
    target: np.ndarray,
    weight: np.ndarray,
    shape: Shape,
    max_iter: int,
    seed: int,
    cost: Callable[[np.ndarray], np.ndarray],
    loss: str = "squared_error",
    seconds: float = np.inf,
) -> Candidate:
    """Fit boosters, all by the same number of iterations, the one of the least cost.

    Iterations are added until the last ones bring nothing, or until more would not be done in
    time; the first ones are made whatever the time.

    Parameters
    ----------
    folds : sequence of pairs of ndarray
        Training and test samples; every sample is in equally many test sets.
    cost : callable
        From predictions (n,) to what they cost (n,).
    """
    costs: list[float] = []
    began, n_done = time.perf_counter(), 0
    # Equal weights would only slow the binning of features down.
    weighted = np.ptp(weight) > 0
    n_tests = sum(len(test) for _, test in folds) / len(target)
    trees = [
        HistGradientBoostingRegressor(
            loss=loss,
            learning_rate=shape.rate,
            max_leaf_nodes=shape.leaves,
            min_samples_leaf=min(shape.least, max(1, len(train) // 5)),
            early_stopping=False,
            categorical_features=categorical or None,
            warm_start=True,
            random_state=seed,
        )
        for train, _ in folds
    ]
    best, predictions = 0, np.empty(0)
    with threadpool_limits(1 if len(target) < THREADED_ROWS else None, user_api="openmp"):
        while n_done < max_iter:
            n_next = min(max_iter, max(FIRST_ITERATIONS, round(GROWTH * n_done)))
            if n_done and (
                best <= n_done / GROWTH or (time.perf_counter() - began) * n_next / n_done > seconds
            ):
                break
            staged = np.zeros((n_next - n_done, len(target)))
            for each, (train, test) in zip(trees, folds, strict=True):
                each.set_params(max_iter=n_next)
                given = weight[train] if weighted else None
                each.fit(features[train], target[train], sample_weight=given)
                later = islice(each.staged_predict(features[test]), n_done, None)
                for k, values in enumerate(later):
                    staged[k, test] += values / n_tests
            found = [float(np.average(cost(values), weights=weight)) for values in staged]
            if not costs or min(found) < min(costs):
                best = n_done + 1 + int(np.argmin(found))
                predictions = staged[int(np.argmin(found))].copy()
            costs += found
            n_done = n_next
    return Candidate([Booster(each, best) for each in trees], predictions, "numbers")


class Rescaled(NamedTuple):
    """A regressor of standardised targets."""

    regressor: Any
    centre: float
    scale: float

    def predict(self, context: np.ndarray) -> np.ndarray:
        return self.centre + self.scale * self.regressor.predict(context)
