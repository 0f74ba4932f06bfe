"""A mixture of products of categorical and normal laws, by expectation and maximisation.

Numbers are warped column by column. A missing value is left out of every sum, so that fits,
log-probabilities and imputations use whatever a row has. Cells count by their centre's density
while fitting, and by differences of normal distribution functions in log-probabilities.
"""

from __future__ import annotations

import numpy as np
from _tables_marginals import TINY_MASS, Marginal
from _tables_measure import Coded, Column
from scipy.special import logsumexp, ndtr
from sklearn.cluster import MiniBatchKMeans

SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
HELD_OUT, MAX_STEPS, TOLERANCE = 0.15, 200, 1e-4
# Smallest deviation of a component over that of the column, and counts added to each code.
FLOORS = (0.03, 0.1, 0.3)
ADDED = 0.1
BLOCK = 2000


class Prepared:
    """Rows as indicators of codes and as standardised warped numbers."""

    def __init__(self, rows: Coded, shape: Shape):
        self.indicators = np.concatenate(
            [
                rows.codes[:, [j]] == np.arange(column.n_levels)
                for j, column in enumerate(rows.columns)
            ],
            axis=1,
        ).astype(float)
        warped = [warp(rows.numbers[:, j]) for j, warp in shape.warps.items()]
        T = np.stack(warped, 1) if warped else np.empty((len(rows), 0))
        T = (T - shape.centre) / shape.spread
        self.seen = (~np.isnan(T)).astype(float)
        self.T = np.nan_to_num(T)
        self.T2 = self.T**2


class Shape:
    """What is fixed before the mixture is fitted: warps, units and groups of codes."""

    def __init__(self, train: Coded, seed: int):
        laws = {j: Marginal(train, j, seed).numbers for j in range(len(train.columns))}
        self.warps = {j: law.warp for j, law in laws.items() if law is not None}
        warped = [warp(train.numbers[:, j]) for j, warp in self.warps.items()]
        self.centre = np.array([np.nanmean(t) for t in warped])
        self.spread = np.array([np.nanstd(t) or 1.0 for t in warped])
        levels = [column.n_levels for column in train.columns]
        self.starts = np.cumsum([0, *levels[:-1]])
        self.group = np.repeat(np.arange(len(levels)), levels)


class Fit:
    """Parameters of one mixture: log-weights, log-shares of codes, means and variances."""

    def __init__(self, data: Prepared, shape: Shape, resp: np.ndarray, floor: float):
        self.shape, self.floor = shape, floor
        self.update(data, resp)

    def update(self, data: Prepared, resp: np.ndarray) -> None:
        totals = resp.sum(0)
        self.log_weights = np.log((totals + 1.0) / (totals + 1.0).sum())
        counts = resp.T @ data.indicators + ADDED
        sums = np.add.reduceat(counts, self.shape.starts, axis=1)
        self.log_shares = np.log(counts / sums[:, self.shape.group])
        # One row of the whole column's law is added to each component's numbers.
        n = resp.T @ data.seen + 1.0
        self.means = (resp.T @ data.T) / n
        square = (resp.T @ data.T2 + 1.0) / n
        self.variances = np.maximum(square - self.means**2, self.floor**2)

    def log_joint(self, data: Prepared) -> np.ndarray:
        """Log-weights plus each component's log-density of warped numbers, (n, K)."""
        inverse = 1 / self.variances
        constant = -0.5 * (np.log(2 * np.pi * self.variances) + self.means**2 * inverse)
        return (
            self.log_weights
            + data.indicators @ self.log_shares.T
            - 0.5 * data.T2 @ inverse.T
            + data.T @ (self.means * inverse).T
            + data.seen @ constant.T
        )

    def run(self, data: Prepared) -> Fit:
        last = -np.inf
        for _ in range(MAX_STEPS):
            joint = self.log_joint(data)
            total = logsumexp(joint, 1, keepdims=True)
            if total.mean() < last + TOLERANCE:
                break
            last = total.mean()
            self.update(data, np.exp(joint - total))
        return self


def initial(data: Prepared, K: int, seed: int) -> np.ndarray:
    """Responsibilities of k-means on numbers and scaled indicators."""
    features = np.concatenate([data.T, data.indicators / np.sqrt(2)], 1)
    labels = MiniBatchKMeans(K, n_init=1, random_state=seed, batch_size=1024).fit_predict(features)
    return np.eye(K)[labels]


class ProductMixture:
    """The number of components and the smallest deviation that held-out rows prefer, refitted."""

    def __init__(self, train: Coded, seed: int, sizes=SIZES, restarts: int = 2):
        self.columns, self.shape = train.columns, Shape(train, seed)
        order = np.random.default_rng(seed).permutation(len(train))
        n_out = max(1, round(HELD_OUT * len(train)))
        out, fit = train.take(order[:n_out]), train.take(order[n_out:])
        data, best, misses = Prepared(fit, self.shape), (-np.inf,), 0
        for K in [size for size in sizes if size <= len(fit) / 5]:
            trials = []
            for floor in FLOORS:
                for restart in range(restarts if K > 1 else 1):
                    resp = initial(data, K, 100 * seed + restart)
                    self.fit = Fit(data, self.shape, resp, floor).run(data)
                    trials.append((float(self.score(out).mean()), K, floor, restart))
            misses = misses + 1 if max(trials)[0] < best[0] else 0
            best = max(best, max(trials))
            if misses == 2:
                break
        _, K, floor, restart = best
        data = Prepared(train, self.shape)
        resp = initial(data, K, 100 * seed + restart)
        self.fit = Fit(data, self.shape, resp, floor).run(data)
        self.note = f"{K} components, smallest deviation {floor:g}"

    def _log_parts(self, rows: Coded) -> np.ndarray:
        """Log-weights plus each component's exact log-probability, (n, K)."""
        fit, data = self.fit, Prepared(rows, self.shape)
        value = fit.log_weights + data.indicators @ fit.log_shares.T
        for i, (j, warp) in enumerate(self.shape.warps.items()):
            v = rows.numbers[:, j]
            number = ~np.isnan(v)
            mean = self.shape.centre[i] + self.shape.spread[i] * fit.means[:, i]
            scale = self.shape.spread[i] * np.sqrt(fit.variances[:, i])
            value[number] += component_logs(v[number], warp, rows.columns[j], mean, scale)
        return value

    def score(self, rows: Coded) -> np.ndarray:
        blocks = np.array_split(np.arange(len(rows)), max(1, len(rows) // BLOCK))
        parts = [logsumexp(self._log_parts(rows.take(block)), 1) for block in blocks]
        return np.concatenate(parts)

    def sample(self, n: int, seed: int) -> Coded:
        empty = Coded(
            self.columns,
            np.full((n, len(self.columns)), -1),
            np.full((n, len(self.columns)), np.nan),
        )
        return self.impute(empty, seed)

    def impute(self, rows: Coded, seed: int) -> Coded:
        """Rows whose missing values are drawn given those that they have."""
        generator, fit = np.random.default_rng(seed), self.fit
        joint = self._log_parts(rows)
        component = np.argmax(joint + generator.gumbel(size=joint.shape), axis=1)
        codes, numbers = rows.codes.copy(), rows.numbers.copy()
        places = {j: i for i, j in enumerate(self.shape.warps)}
        for j, column in enumerate(rows.columns):
            missing = np.flatnonzero(codes[:, j] < 0)
            k = component[missing]
            start = self.shape.starts[j]
            logs = fit.log_shares[k, start : start + column.n_levels]
            codes[missing, j] = np.argmax(logs + generator.gumbel(size=logs.shape), axis=1)
            if j in places:
                i = places[j]
                rest = codes[missing, j] == 0
                z = generator.normal(fit.means[k, i], np.sqrt(fit.variances[k, i]))[rest]
                t = self.shape.centre[i] + self.shape.spread[i] * z
                numbers[missing[rest], j] = self.shape.warps[j].back(t)
        return Coded(self.columns, codes, numbers)


def component_logs(v: np.ndarray, warp, column: Column, mean, scale) -> np.ndarray:
    """Log-mass of cells or log-density of numbers under normal laws of t = warp(v), (n, K)."""
    if column.kind != "cells":
        z = (warp(v)[:, None] - mean) / scale
        logs = -0.5 * (z**2 + np.log(2 * np.pi)) - np.log(scale)
        return logs + warp.log_slope(v)[:, None]
    low, high = (
        (warp(v + half)[:, None] - mean) / scale for half in (-column.step / 2, column.step / 2)
    )
    # The lower tail is exact far out.
    flip = np.where(low > 0, -1.0, 1.0)
    return np.log(np.maximum(np.abs(ndtr(flip * high) - ndtr(flip * low)), TINY_MASS))
