"""Chains of scikit-learn's models: each column's law given the columns before it.

A column's codes have a classifier, its numbers a regressor and a law of the residual. All are
cross-fitted: number of iterations, smoothing, scale and residuals come from rows that the
model in question was not fitted on, and predictions are averages over the folds' models.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator

import numpy as np
from _tables_marginals import (
    MULTIPLIERS,
    Marginal,
    Smooth,
    held_out,
    level_shares,
    log_measure,
    warps,
)
from _tables_measure import Coded, Column
from scipy.stats import norm
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import BayesianRidge, LogisticRegression
from sklearn.model_selection import KFold
from sklearn.preprocessing import StandardScaler

MANY_ROWS = 2000
SMOOTHINGS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
# Numbers and codes of a column that are fewer than this have the column's own law.
MIN_ROWS = 30


class Trees:
    """Boosted trees; the number of iterations is chosen by the rows held out."""

    name = "boosted trees"
    options = {"learning_rate": 0.1, "max_leaf_nodes": 15, "early_stopping": False}

    def features(self, rows: Coded, j: int) -> np.ndarray:
        """The columns before ``j``; a missing value stays missing."""
        return np.stack([rows.values(i) for i in range(j)], 1)

    def _categorical(self, columns: tuple[Column, ...], j: int) -> list[bool]:
        return [not column.ordered for column in columns[:j]]

    def fit(self, X, y, columns, loss=None) -> _Staged:
        options = self.options | {"categorical_features": self._categorical(columns, X.shape[1])}
        options |= {"random_state": 0, "min_samples_leaf": 20 if len(X) > MANY_ROWS else 8}
        if y.dtype.kind in "iu":
            return _Staged(HistGradientBoostingClassifier(max_iter=80, **options).fit(X, y))
        n = 60 if loss else 150
        regressor = HistGradientBoostingRegressor(
            loss=loss or "squared_error", max_iter=n, **options
        )
        return _Staged(regressor.fit(X, y))

    def log_scale(self, X, residual, columns):
        return self.fit(X, np.maximum(residual, 1e-6 * residual.mean()), columns, "gamma")


class _Staged:
    """A boosted model that can stop at any iteration."""

    def __init__(self, model):
        self.model = model
        self.classes = getattr(model, "classes_", None)

    def stages(self, X: np.ndarray) -> Iterator[np.ndarray]:
        """The predictions after every iteration."""
        model = self.model
        return model.staged_predict(X) if self.classes is None else model.staged_predict_proba(X)

    def predict(self, X: np.ndarray, stage: int) -> np.ndarray:
        return next(itertools.islice(self.stages(X), stage, None))


class _Strengths:
    """Linear models of several strengths of penalty, as if they were stages."""

    def __init__(self, models: list, link=None):
        self.models, self.link = models, link or (lambda values: values)
        self.classes = getattr(models[0], "classes_", None)

    def stages(self, X: np.ndarray) -> Iterator[np.ndarray]:
        return (self.predict(X, stage) for stage in range(len(self.models)))

    def predict(self, X: np.ndarray, stage: int) -> np.ndarray:
        model = self.models[stage]
        return self.link(model.predict(X)) if self.classes is None else model.predict_proba(X)


class Linear:
    """Logistic regression and Bayesian ridge regression on indicators and warped numbers."""

    name = "linear models"
    strengths = (0.03, 0.3, 3.0)

    def __init__(self, train: Coded):
        self.marginals = [Marginal(train, j, 0) for j in range(len(train.columns))]
        self.scalers: dict[int, StandardScaler] = {}

    def features(self, rows: Coded, j: int) -> np.ndarray:
        """Indicators of codes, the first and missing ones left out, and standardised numbers."""
        blocks = []
        for i in range(j):
            code, v = rows.codes[:, i], rows.numbers[:, i]
            blocks.append(code[:, None] == np.arange(1, rows.columns[i].n_levels))
            if (law := self.marginals[i].numbers) is not None:
                t = law.warp(np.where(np.isnan(v), 0.0, v))
                blocks.append(np.where(np.isnan(v), np.nan, t)[:, None])
        X = np.concatenate(blocks, 1).astype(float)
        if j not in self.scalers:
            self.scalers[j] = StandardScaler().fit(X)
        # A missing number is at the mean.
        return np.nan_to_num(self.scalers[j].transform(X))

    def fit(self, X, y, columns, loss=None) -> _Strengths:
        if y.dtype.kind in "iu":
            models = [LogisticRegression(C=C, max_iter=300) for C in self.strengths]
            return _Strengths([model.fit(X, y) for model in models])
        return _Strengths([BayesianRidge().fit(X, y)])

    def log_scale(self, X, residual, columns):
        y = np.log(residual + 1e-3 * residual.mean())
        return _Strengths([BayesianRidge().fit(X, y)], np.exp)


def folds_of(n: int, seed: int) -> list:
    return list(
        KFold(3 if n > MANY_ROWS else 5, shuffle=True, random_state=seed).split(np.arange(n))
    )


def with_all_levels(p: np.ndarray, classes: np.ndarray, n_levels: int) -> np.ndarray:
    full = np.zeros((len(p), n_levels))
    full[:, classes] = p
    return full


class Codes:
    """The law of a column's codes given features: a classifier mixed with the shares."""

    def __init__(self, family, X: np.ndarray, codes: np.ndarray, columns, n_levels: int, seed: int):
        self.n_levels, self.shares = n_levels, level_shares(codes, n_levels)
        self.models = []
        if len(np.unique(codes)) < 2 or len(codes) < MIN_ROWS:
            return
        stages, of_rows = [], []
        for fit, out in folds_of(len(X), seed):
            if len(np.unique(codes[fit])) < 2:
                continue
            model = family.fit(X[fit], codes[fit], columns)
            self.models.append(model)
            of_rows.append(out)
            stages.append(
                [
                    with_all_levels(p, model.classes, n_levels)[np.arange(len(out)), codes[out]]
                    for p in model.stages(X[out])
                ]
            )
        if not self.models:
            return
        own = self.shares[codes[np.concatenate(of_rows)]]
        p = np.concatenate(stages, 1)
        values = [np.log((1 - w) * p + w * own).mean(1) for w in SMOOTHINGS]
        best = np.unravel_index(np.argmax(values), np.shape(values))
        self.weight, self.stage = SMOOTHINGS[best[0]], int(best[1])

    def log_prob(self, X: np.ndarray, codes: np.ndarray) -> np.ndarray:
        own = self.shares[codes]
        if not self.models:
            return np.log(own)
        p = np.mean(
            [
                with_all_levels(m.predict(X, self.stage), m.classes, self.n_levels)
                for m in self.models
            ],
            axis=0,
        )
        return np.log((1 - self.weight) * p[np.arange(len(p)), codes] + self.weight * own)


class Normal:
    """A standard normal residual."""

    def density(self, z):
        return norm.pdf(z)

    def mass(self, low, high):
        sign = np.where(low > 0, -1.0, 1.0)
        return np.abs(norm.cdf(sign * high) - norm.cdf(sign * low))


class Numbers:
    """The law of a column's numbers given features: mean, scale and law of the residual."""

    def __init__(self, family, X: np.ndarray, v: np.ndarray, column: Column, columns, seed: int):
        self.column = column
        fits = [self._fitted(family, X, v, warp, columns, seed) for warp in warps(v)]
        _, self.parts = max(fits, key=lambda fit: fit[0])

    def _fitted(self, family, X, v, warp, columns, seed):
        """The best scale and residual's law for a warp, by values of held-out rows."""
        t, folds = warp(v), folds_of(len(v), seed)
        models = [family.fit(X[fit], t[fit], columns) for fit, _ in folds]
        errors = [
            [np.sum((t[out] - p) ** 2) for p in model.stages(X[out])]
            for model, (_, out) in zip(models, folds, strict=True)
        ]
        stage = int(np.argmin(np.sum(errors, 0)))
        mean = np.empty(len(t))
        for model, (_, out) in zip(models, folds, strict=True):
            mean[out] = model.predict(X[out], stage)
        residual = t - mean
        found = []
        for scales, scale_stage, scale in self._scales(family, X, residual, columns, folds):
            value, density = self._residual_law(v, warp, mean, scale, seed)
            constant = scale if not scales else None
            parts = (warp, (models, stage), (scales, scale_stage, constant), density)
            found.append((value, parts))
        return max(found, key=lambda trial: trial[0])

    @staticmethod
    def _scales(family, X, residual, columns, folds):
        """A constant scale, and one that depends on the features."""
        yield [], 0, np.full(len(residual), residual.std() or 1.0)
        size = np.abs(residual)
        if not size.any():
            return
        models = [family.log_scale(X[fit], size[fit], columns) for fit, _ in folds]
        losses = [
            [np.sum(np.log(p) + size[out] / p) for p in model.stages(X[out])]
            for model, (_, out) in zip(models, folds, strict=True)
        ]
        stage = int(np.argmin(np.sum(losses, 0)))
        scale = np.empty(len(size))
        for model, (_, out) in zip(models, folds, strict=True):
            scale[out] = model.predict(X[out], stage)
        yield models, stage, scale

    def _residual_law(self, v, warp, mean, scale, seed):
        z = (warp(v) - mean) / scale

        def value(density, rows):
            return log_measure(density, warp, self.column, v[rows], mean[rows], scale[rows])

        tried = [(held_out(z, m, seed, value), m) for m in MULTIPLIERS]
        best = max(tried)
        unit = scale * z.std()
        normal = log_measure(Normal(), warp, self.column, v, mean, unit).mean()
        if normal > best[0]:
            return normal, (Normal(), z.std())
        return best[0], (Smooth(z, best[1]), 1.0)

    def log_prob(self, X: np.ndarray, v: np.ndarray) -> np.ndarray:
        warp, (models, stage), (scales, scale_stage, constant), (density, unit) = self.parts
        mean = np.mean([model.predict(X, stage) for model in models], 0)
        if scales:
            scale = np.exp(np.mean([np.log(m.predict(X, scale_stage)) for m in scales], 0))
        else:
            scale = np.full(len(v), constant[0])
        return log_measure(density, warp, self.column, v, mean, scale * unit)


class Chain:
    """The product of the columns' laws given the columns before them, in the table's order.

    A missing value's factor is left out; as a feature it stays missing or is at the mean.
    """

    def __init__(self, train: Coded, seed: int, family):
        self.columns, self.family = train.columns, family
        self.note = f"{family.name}, in the table's order"
        self.first = Marginal(train, 0, seed)
        self.parts = []
        for j, column in enumerate(train.columns):
            if j:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    self.parts.append(self._fitted(train, j, column, seed))

    def _fitted(self, train: Coded, j: int, column: Column, seed: int):
        X, code, v = self.family.features(train, j), train.codes[:, j], train.numbers[:, j]
        seen, before = code >= 0, train.columns[:j]
        codes = None
        if column.n_levels > 1:
            codes = Codes(self.family, X[seen], code[seen], before, column.n_levels, seed)
        number = ~np.isnan(v)
        if not number.any():
            return codes, None
        if number.sum() < MIN_ROWS:
            return codes, Marginal(train, j, seed).numbers
        return codes, Numbers(self.family, X[number], v[number], column, before, seed)

    def score(self, rows: Coded) -> np.ndarray:
        value = self.first.log_prob(rows)
        for j, (codes, numbers) in enumerate(self.parts, start=1):
            X, code, v = self.family.features(rows, j), rows.codes[:, j], rows.numbers[:, j]
            if codes is not None:
                seen = code >= 0
                value[seen] += codes.log_prob(X[seen], code[seen])
            number = ~np.isnan(v)
            if number.any() and isinstance(numbers, Numbers):
                value[number] += numbers.log_prob(X[number], v[number])
            elif number.any() and numbers is not None:
                value[number] += numbers.log_prob(v[number])
        return value


def boosted_chain(train: Coded, seed: int) -> Chain:
    return Chain(train, seed, Trees())


def linear_chain(train: Coded, seed: int) -> Chain:
    return Chain(train, seed, Linear(train))
