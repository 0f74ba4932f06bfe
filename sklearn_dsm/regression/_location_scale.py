"""Conditional means and scales, cross-fitted, so that residuals are those of unseen samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import nnls
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold
from sklearn.neural_network import MLPRegressor
from threadpoolctl import threadpool_limits

# Two boosters of means: learning rate, leaves, samples of a leaf.
MEAN_BOOSTERS = ((0.1, 6, 4), (0.06, 24, 8))
SCALE_BOOSTER, SCALE_ITERATIONS = (0.05, 6, 15), 150
# Rows from which more than one thread pays for boosting on a busy machine.
THREADED_ROWS = 20_000
# A regressor with a smaller weight is left out of the stack.
LEAST_WEIGHT = 0.02
# Scales below this share of the residuals' standard deviation are raised to it.
LEAST_SCALE = 1e-3
N_ALPHAS = 13
# Fewer samples do not stop a perceptron in time.
PERCEPTRON_ROWS = 100
PERCEPTRON = {
    "hidden_layer_sizes": (64, 64),
    "activation": "tanh",
    "learning_rate_init": 3e-3,
    "early_stopping": True,
    "n_iter_no_change": 20,
    "max_iter": 300,
}


class Booster(NamedTuple):
    """Boosted trees, cut off after some of their iterations."""

    trees: HistGradientBoostingRegressor
    n_iter: int

    def predict(self, numbers: np.ndarray) -> np.ndarray:
        return next(islice(self.trees.staged_predict(numbers), self.n_iter - 1, None))


class Member(NamedTuple):
    """What was learned without one fold: regressors of the mean with weights, and the scale."""

    offset: float
    regressors: Sequence[tuple[float, Any, bool]]
    scale: Booster
    factor: float

    def mean(self, numbers: np.ndarray, context: np.ndarray) -> np.ndarray:
        found = np.full(len(numbers), self.offset)
        for weight, regressor, of_context in self.regressors:
            found += weight * regressor.predict(context if of_context else numbers)
        return found


class LocationScale(NamedTuple):
    """Mean and scale of a target given features: averages over the folds' members."""

    members: Sequence[Member]
    least: float

    @property
    def n_iter(self) -> int:
        """Largest number of boosting iterations of a mean or scale."""
        means = [each for member in self.members for _, each, _ in member.regressors]
        boosters = [*means, *(member.scale for member in self.members)]
        return max(each.n_iter for each in boosters if isinstance(each, Booster))

    def predict(self, numbers: np.ndarray, context: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Means (n,) and logarithms (n,) of scales."""
        means, logs = [], []
        for member in self.members:
            means.append(member.mean(numbers, context))
            scale = member.scale.predict(_with_mean(numbers, means[-1]))
            logs.append(np.log(np.maximum(scale * member.factor, self.least)))
        return np.mean(means, axis=0), np.mean(logs, axis=0)


class CrossFit(NamedTuple):
    """A fit, and what it says of its own samples, each by members that did not see it."""

    fitted: LocationScale
    mean: np.ndarray
    log_scale: np.ndarray


def cross_fitted(
    numbers: np.ndarray,
    context: np.ndarray,
    categorical: list[int],
    y: np.ndarray,
    weight: np.ndarray,
    n_folds: int,
    max_iter: int,
    seed: int,
) -> CrossFit:
    """Fit means and scales of one target fold by fold.

    Parameters
    ----------
    numbers : ndarray of shape (n, n_features)
        For trees, with NaN where values are missing.
    context : ndarray of shape (n, n_context)
        For other regressors.
    categorical : list of int
        Columns of ``numbers`` that hold codes of categories.
    y, weight : ndarray of shape (n,)
    """
    random = np.random.RandomState(seed)
    folds = list(KFold(n_folds, shuffle=True, random_state=random).split(numbers))
    candidates = [
        _boosted_means(folds, numbers, categorical, y, weight, max_iter, shape, seed)
        for shape in MEAN_BOOSTERS
    ]
    others = [_ridge, _perceptron] if len(y) >= PERCEPTRON_ROWS else [_ridge]
    candidates += [_other(folds, context, y, weight, make, seed) for make in others]
    predictions = np.stack([found.predictions for found in candidates], axis=1)
    offset, shares = _stacked(predictions, y, weight)
    mean = offset + predictions @ shares
    kept = [k for k in range(len(shares)) if shares[k] > 0]
    scales = _boosted_scales(folds, numbers, categorical, mean, y, weight, seed)
    residual = np.abs(y - mean)
    least = LEAST_SCALE * float(np.sqrt(np.average(residual**2, weights=weight))) or 1e-300
    factor = float(
        np.sqrt(np.average((residual / np.maximum(scales.predictions, least)) ** 2, weights=weight))
    )
    members = [
        Member(
            offset,
            [(float(shares[k]), candidates[k].fitted[i], candidates[k].of_context) for k in kept],
            scales.fitted[i],
            factor,
        )
        for i in range(n_folds)
    ]
    log_scale = np.log(np.maximum(scales.predictions * factor, least))
    return CrossFit(LocationScale(members, least), mean, log_scale)


class _Candidate(NamedTuple):
    """A regressor of every fold, and predictions of the samples that it did not see."""

    fitted: list
    predictions: np.ndarray
    of_context: bool


def _boosted(
    folds, features, categorical, target, weight, max_iter, shape, seed, loss, cost: Callable
) -> _Candidate:
    """Boosters of all folds with the number of iterations that costs least over all of them."""
    rate, leaves, least = shape
    fitted, staged = [], np.empty((max_iter, len(target)))
    with threadpool_limits(1 if len(target) < THREADED_ROWS else None, user_api="openmp"):
        for train, test in folds:
            trees = HistGradientBoostingRegressor(
                loss=loss,
                learning_rate=rate,
                max_leaf_nodes=leaves,
                min_samples_leaf=min(least, max(1, len(train) // 5)),
                max_iter=max_iter,
                early_stopping=False,
                categorical_features=categorical or None,
                random_state=seed,
            ).fit(features[train], target[train], sample_weight=weight[train])
            for k, values in enumerate(trees.staged_predict(features[test])):
                staged[k, test] = values
            fitted.append(trees)
    costs = [np.average(cost(values), weights=weight) for values in staged]
    best = int(np.argmin(costs))
    return _Candidate([Booster(trees, best + 1) for trees in fitted], staged[best], False)


def _boosted_means(folds, numbers, categorical, y, weight, max_iter, shape, seed) -> _Candidate:
    def cost(values):
        return (y - values) ** 2

    return _boosted(
        folds, numbers, categorical, y, weight, max_iter, shape, seed, "squared_error", cost
    )


def _boosted_scales(folds, numbers, categorical, mean, y, weight, seed) -> _Candidate:
    """Of absolute residuals given the features and the mean."""
    residual = np.abs(y - mean)
    least = LEAST_SCALE * residual.mean() or 1e-300
    target = np.maximum(residual, least)

    def cost(values):
        scale = np.maximum(values, least)
        factor = np.sqrt(np.average((residual / scale) ** 2, weights=weight))
        return np.log(scale * factor)

    return _boosted(
        folds,
        _with_mean(numbers, mean),
        categorical,
        target,
        weight,
        SCALE_ITERATIONS,
        SCALE_BOOSTER,
        seed,
        "gamma",
        cost,
    )


def _other(folds, context, y, weight, make, seed) -> _Candidate:
    predictions, fitted = np.empty(len(y)), []
    centre, scale = np.average(y, weights=weight), y.std()
    for train, test in folds:
        regressor = make(seed)
        regressor.fit(context[train], (y[train] - centre) / scale, weight[train])
        fitted.append(_Rescaled(regressor, centre, scale))
        predictions[test] = fitted[-1].predict(context[test])
    return _Candidate(fitted, predictions, True)


class _Rescaled(NamedTuple):
    regressor: Any
    centre: float
    scale: float

    def predict(self, context: np.ndarray) -> np.ndarray:
        return self.centre + self.scale * self.regressor.predict(context)


def _ridge(seed: int):
    return RidgeCV(np.logspace(-3, 3, N_ALPHAS))


def _perceptron(seed: int):
    return MLPRegressor(random_state=seed, **PERCEPTRON)


def _stacked(predictions: np.ndarray, y: np.ndarray, weight: np.ndarray):
    """An offset and non-negative weights of least squares, small ones left out."""
    root = np.sqrt(weight)
    centre = np.average(y, weights=weight)
    means = np.average(predictions, axis=0, weights=weight)

    def solve(columns):
        shares = np.zeros(predictions.shape[1])
        design = (predictions[:, columns] - means[columns]) * root[:, None]
        shares[columns] = nnls(design, (y - centre) * root)[0]
        return shares

    shares = solve(np.arange(predictions.shape[1]))
    large = np.flatnonzero(shares >= LEAST_WEIGHT)
    if 0 < len(large) < len(shares):
        shares = solve(large)
    return float(centre - means @ shares), shares


def _with_mean(numbers: np.ndarray, mean: np.ndarray) -> np.ndarray:
    return np.column_stack([numbers, mean])
