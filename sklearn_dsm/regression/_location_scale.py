"""Conditional means and scales, cross-fitted, so that residuals are those of unseen samples."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import nnls
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold
from sklearn.neural_network import MLPRegressor

from .._budget import Budget
from ._boosting import FIRST_ITERATIONS, Booster, Candidate, Rescaled, Shape, boosted

# Up to so many samples there are two partitions into folds: what differs between them tells what
# averaging removes, which is little with more samples. Of these, larger trees suffice too.
N_PARTITIONS, FEW_ROWS = 2, 2000
# Shares of the time at which boosters of the mean and perceptrons end, and the share of it that
# the first iterations may take where there is more than one partition.
MEANS_UNTIL, NEIGHBOURS_UNTIL, PERCEPTRONS_UNTIL, REPEAT_SHARE = (0.3, 0.6), 0.75, 0.9, 0.15
# Errors are not shrunk below this share of them.
LEAST_RATIO = 0.8
MEAN_BOOSTERS = (Shape(0.1, 6, 4), Shape(0.06, 24, 8))
SCALE_BOOSTER, SCALE_ITERATIONS = Shape(0.05, 6, 15), 150
# A regressor with a smaller weight is left out of the stack.
LEAST_WEIGHT = 0.02
# Scales below this share of the residuals' standard deviation are raised to it.
LEAST_SCALE = 1e-3
N_ALPHAS = 13
# Fewer samples do not stop a perceptron in time.
PERCEPTRON_ROWS, LEAST_EPOCHS, MAX_EPOCHS = 100, 20, 300
PERCEPTRON = {
    "hidden_layer_sizes": (64, 64),
    "activation": "tanh",
    "learning_rate_init": 3e-3,
    "early_stopping": True,
    "n_iter_no_change": 20,
}


class Views(NamedTuple):
    """Features of samples in the forms that regressors take.

    Attributes
    ----------
    numbers : ndarray of shape (n, n_features)
        For trees, with NaN where values are missing.
    context : ndarray of shape (n, n_context)
        For other regressors.
    neighbours : ndarray of shape (n, n_features + N_FEATURES) or None
        For trees that see the targets of the nearest training samples too.
    """

    numbers: np.ndarray
    context: np.ndarray
    neighbours: np.ndarray | None = None

    def take(self, rows) -> Views:
        near = None if self.neighbours is None else self.neighbours[rows]
        return Views(self.numbers[rows], self.context[rows], near)


class Member(NamedTuple):
    """What was learned without one fold: regressors of the mean with weights, and the scale."""

    offset: float
    # Of each its weight, and the view that it takes.
    regressors: Sequence[tuple[float, Any, str]]
    scale: Booster
    factor: float

    def mean(self, views: Views) -> np.ndarray:
        found = np.full(len(views.numbers), self.offset)
        for weight, regressor, view in self.regressors:
            found += weight * regressor.predict(getattr(views, view))
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

    @property
    def sees_neighbours(self) -> bool:
        return any(view == "neighbours" for _, _, view in self.members[0].regressors)

    def predict(self, views: Views) -> tuple[np.ndarray, np.ndarray]:
        """Means (n,) and logarithms (n,) of scales."""
        means, scales = [], []
        for member in self.members:
            means.append(member.mean(views))
            scale = member.scale.predict(_with_mean(views.numbers, means[-1]))
            scales.append(scale * member.factor)
        scale = np.maximum(np.mean(scales, axis=0), self.least)
        return np.mean(means, axis=0), np.log(scale)


class CrossFit(NamedTuple):
    """A fit, and what it says of its own samples, each by members that did not see it."""

    fitted: LocationScale
    mean: np.ndarray
    log_scale: np.ndarray
    # Of errors of the average over all members, to errors of those that did not see a sample.
    ratio: float


def cross_fitted(
    views: Views,
    categorical: list[int],
    y: np.ndarray,
    weight: np.ndarray,
    n_folds: int,
    max_iter: int,
    seed: int,
    max_fit_time: float | None = None,
) -> CrossFit:
    """Fit means and scales of one target fold by fold, in one or two partitions of the samples.

    Where the time is short, there are fewer iterations, fewer candidates and one partition.

    Parameters
    ----------
    views : Views
    categorical : list of int
        Columns of ``views.numbers`` that hold codes of categories.
    y, weight : ndarray of shape (n,)
    """
    budget, random = Budget(max_fit_time), np.random.RandomState(seed)
    numbers, context, neighbours = views
    data = (numbers, categorical, y, weight)
    boosters, n_partitions = list(zip(MEAN_BOOSTERS, MEANS_UNTIL, strict=True)), N_PARTITIONS
    if len(y) > FEW_ROWS:
        boosters, n_partitions = boosters[-1:], 1
    folds = [
        fold
        for _ in range(n_partitions)
        for fold in KFold(n_folds, shuffle=True, random_state=random).split(numbers)
    ]
    if max_fit_time is not None and n_partitions > 1:
        _boosted_means(folds[:1], *data, FIRST_ITERATIONS, MEAN_BOOSTERS[0], seed, 0.0)
        if budget.taken * len(folds) > REPEAT_SHARE * max_fit_time:
            folds = folds[:n_folds]
    candidates: list[Candidate] = []
    for shape, until in boosters:
        left = budget.left(until)
        if not candidates or left > 0:
            candidates.append(_boosted_means(folds, *data, max_iter, shape, seed, left))
    left = budget.left(NEIGHBOURS_UNTIL)
    if neighbours is not None and left > 0:
        found = _boosted_means(
            folds, neighbours, categorical, y, weight, max_iter, boosters[-1][0], seed, left
        )
        candidates.append(found._replace(view="neighbours"))
    candidates.append(_ridges(folds, context, y, weight))
    if len(y) >= PERCEPTRON_ROWS:
        left = budget.left(PERCEPTRONS_UNTIL)
        candidates += _perceptrons(folds, context, y, weight, seed, left)
    predictions = np.stack([found.predictions for found in candidates], axis=1)
    offset, shares = _stacked(predictions, y, weight)
    mean = offset + predictions @ shares
    kept = [k for k in range(len(shares)) if shares[k] > 0]
    scales = _boosted_scales(
        folds, numbers, categorical, mean, y, weight, max_iter, seed, budget.left()
    )
    residual = np.abs(y - mean)
    least = LEAST_SCALE * float(np.sqrt(np.average(residual**2, weights=weight))) or 1e-300
    factor = float(
        np.sqrt(np.average((residual / np.maximum(scales.predictions, least)) ** 2, weights=weight))
    )
    members = [
        Member(
            offset,
            [(float(shares[k]), candidates[k].fitted[i], candidates[k].view) for k in kept],
            scales.fitted[i],
            factor,
        )
        for i in range(len(folds))
    ]
    log_scale = np.log(np.maximum(scales.predictions * factor, least))
    ratio = 1.0
    if len(folds) > n_folds:
        each = np.empty((N_PARTITIONS, len(y)))
        for i, (_, test) in enumerate(folds):
            each[i // n_folds, test] = members[i].mean(views.take(test))
        ratio = _ratio(y - each, np.exp(log_scale), weight)
    return CrossFit(LocationScale(members, least), mean, log_scale, ratio)


def _boosted_means(
    folds, numbers, categorical, y, weight, max_iter, shape, seed, seconds
) -> Candidate:
    def cost(values):
        return (y - values) ** 2

    return boosted(
        folds, numbers, categorical, y, weight, shape, max_iter, seed, cost, seconds=seconds
    )


def _boosted_scales(
    folds, numbers, categorical, mean, y, weight, max_iter, seed, seconds
) -> Candidate:
    """Of absolute residuals given the features and the mean."""
    residual = np.abs(y - mean)
    least = LEAST_SCALE * residual.mean() or 1e-300
    target = np.maximum(residual, least)

    def cost(values):
        scale = np.maximum(values, least)
        factor = np.sqrt(np.average((residual / scale) ** 2, weights=weight))
        return np.log(scale * factor)

    return boosted(
        folds,
        _with_mean(numbers, mean),
        categorical,
        target,
        weight,
        SCALE_BOOSTER,
        min(SCALE_ITERATIONS, max_iter),
        seed,
        cost,
        "gamma",
        seconds,
    )


def _ridges(folds, context, y, weight) -> Candidate:
    return _standardised(folds, context, y, weight, RidgeCV(np.logspace(-3, 3, N_ALPHAS)))


def _perceptrons(folds, context, y, weight, seed, seconds) -> list[Candidate]:
    """Perceptrons of all folds, or none where there is no time for more than a few epochs."""
    epochs = MAX_EPOCHS
    make = partial(MLPRegressor, random_state=seed, **PERCEPTRON)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        if np.isfinite(seconds):
            began = time.perf_counter()
            _standardised(folds[:1], context, y, weight, make().set_params(max_iter=1))
            taken = time.perf_counter() - began
            epochs = min(epochs, int(seconds / (taken * len(folds))) - 1)
        if epochs < LEAST_EPOCHS:
            return []
        return [_standardised(folds, context, y, weight, make().set_params(max_iter=epochs))]


def _standardised(folds, context, y, weight, regressor) -> Candidate:
    """A regressor of contexts, fitted to the standardised target of every fold."""
    predictions, fitted = np.zeros(len(y)), []
    n_tests = sum(len(test) for _, test in folds) / len(y)
    centre, scale = np.average(y, weights=weight), y.std()
    for train, test in folds:
        found = clone(regressor).fit(context[train], (y[train] - centre) / scale, weight[train])
        fitted.append(Rescaled(found, centre, scale))
        predictions[test] += fitted[-1].predict(context[test]) / n_tests
    return Candidate(fitted, predictions, "context")


def _ratio(errors: np.ndarray, scale: np.ndarray, weight: np.ndarray) -> float:
    """By how much averaging over all members shrinks the errors of few, as a standard deviation.

    Errors (n_partitions, n) of members that did not see a sample differ by what depends on the
    partition, whose variance is v in one of them and v / n_partitions in their mean. The members
    of a whole partition leave out every sample equally often, so their average is, to first order,
    without it.
    """
    z = errors / scale
    variance = np.average(z.var(axis=0, ddof=1), weights=weight)
    total = np.average(z.mean(axis=0) ** 2, weights=weight)
    return float(np.sqrt(max(1 - variance / len(z) / total, LEAST_RATIO**2))) if total else 1.0


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
