"""Distributions of single columns of a mixed table, and the product of them all.

A numeric column is its point masses and a kernel estimate of the rest on a grid, whose density
and distribution function are exact: masses of cells are differences of the latter.
"""

from __future__ import annotations

import numpy as np
from _tables_measure import Coded, Column
from sklearn.model_selection import KFold

N_FOLDS = 5
MULTIPLIERS = (0.03, 0.08, 0.2, 0.4, 0.7, 1.0, 1.5)
MAX_NODES = 2**14
TINY_MASS = 1e-300


class Warp:
    """t = v, or t = asinh(v / scale): monotone, with its derivative."""

    def __init__(self, scale: float | None = None):
        self.scale = scale

    def __call__(self, v: np.ndarray) -> np.ndarray:
        return v if self.scale is None else np.arcsinh(v / self.scale)

    def log_slope(self, v: np.ndarray) -> np.ndarray:
        return np.zeros_like(v) if self.scale is None else -0.5 * np.log(v**2 + self.scale**2)

    def back(self, t: np.ndarray) -> np.ndarray:
        return t if self.scale is None else self.scale * np.sinh(t)


class Smooth:
    """A normal kernel estimate, linear between nodes, with a Cauchy law of the weight of a row."""

    def __init__(self, t: np.ndarray, multiplier: float):
        low, self.centre, high = np.quantile(t, [0.25, 0.5, 0.75])
        self.spread = (high - low) / 1.35 or t.std() or 1.0
        spread = min(self.spread, t.std() or 1.0)
        width = multiplier * spread * len(t) ** -0.2
        width = max(width, 3 * np.ptp(t) / (MAX_NODES - 60))
        self.step = width / 3
        first = t.min() - 4 * width - self.step
        n_nodes = int(np.ceil((np.ptp(t) + 8 * width) / self.step)) + 3
        self.nodes = first + self.step * np.arange(n_nodes)
        place = (t - first) / self.step
        left = place.astype(int)
        counts = np.bincount(left, 1 - (place - left), n_nodes)
        counts += np.bincount(left + 1, place - left, n_nodes)
        kernel = np.exp(-0.5 * (np.arange(-12, 13) / 3) ** 2)
        heights = np.convolve(counts, kernel, "same")
        self.heights = heights / np.trapezoid(heights, dx=self.step)
        areas = self.step * (self.heights[1:] + self.heights[:-1]) / 2
        self.below = np.append(0.0, np.cumsum(areas))
        self.tail = 1 / (len(t) + 1)

    def density(self, t: np.ndarray) -> np.ndarray:
        inner = np.interp(t, self.nodes, self.heights, left=0.0, right=0.0)
        z = (t - self.centre) / self.spread
        return (1 - self.tail) * inner + self.tail / (np.pi * self.spread * (1 + z**2))

    def mass(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """The probability of intervals."""
        inner = self._inner_cdf(high) - self._inner_cdf(low)
        low, high = ((t - self.centre) / self.spread for t in (low, high))
        # arctan(high) - arctan(low) without its cancellation far out.
        outer = np.arctan2(high - low, 1 + high * low) / np.pi
        return (1 - self.tail) * inner + self.tail * outer

    def cdf(self, t: np.ndarray) -> np.ndarray:
        outer = 0.5 + np.arctan((t - self.centre) / self.spread) / np.pi
        return (1 - self.tail) * self._inner_cdf(t) + self.tail * outer

    def _inner_cdf(self, t: np.ndarray) -> np.ndarray:
        place = np.clip((t - self.nodes[0]) / self.step, 0, len(self.nodes) - 1)
        left = np.minimum(place.astype(int), len(self.nodes) - 2)
        part = place - left
        h, rise = self.heights[left], self.heights[left + 1] - self.heights[left]
        return self.below[left] + self.step * part * (h + rise * part / 2)

    def sample(self, n: int, generator: np.random.Generator) -> np.ndarray:
        """Draws without the Cauchy part, whose only purpose is that no value is impossible."""
        return np.interp(generator.random(n), self.below, self.nodes)


def log_measure(
    density, warp: Warp, column: Column, v: np.ndarray, mean=0.0, scale=1.0
) -> np.ndarray:
    """The log-mass of cells, or log-density, where (warp(v) - mean) / scale has this density."""
    if column.kind == "cells":
        low, high = (
            (warp(v + half) - mean) / scale for half in (-column.step / 2, column.step / 2)
        )
        return np.log(np.maximum(density.mass(low, high), TINY_MASS))
    z = (warp(v) - mean) / scale
    return np.log(np.maximum(density.density(z), TINY_MASS)) - np.log(scale) + warp.log_slope(v)


def warps(v: np.ndarray) -> list[Warp]:
    """No warp, and for columns of one sign two that compress large values."""
    away = np.abs(v[v != 0])
    if not len(away) or (v.min() < 0 < v.max()):
        return [Warp()]
    return [Warp(), *(Warp(float(np.quantile(away, q))) for q in (0.1, 0.5))]


class OneColumn:
    """The law of the numbers of a column, warp and bandwidth by cross-validation."""

    def __init__(self, v: np.ndarray, column: Column, seed: int):
        self.column = column
        tried = [
            (self._held_out(v, warp, multiplier, seed), -i, multiplier, warp)
            for i, warp in enumerate(warps(v))
            for multiplier in MULTIPLIERS
        ]
        _, _, multiplier, self.warp = max(tried, key=lambda trial: trial[:2])
        self.density = Smooth(self.warp(v), multiplier)

    def _held_out(self, v: np.ndarray, warp: Warp, multiplier: float, seed: int) -> float:
        return held_out(
            warp(v), multiplier, seed, lambda f, i: log_measure(f, warp, self.column, v[i])
        )

    def log_prob(self, v: np.ndarray) -> np.ndarray:
        return log_measure(self.density, self.warp, self.column, v)

    def cdf(self, v: np.ndarray) -> np.ndarray:
        return self.density.cdf(self.warp(v))

    def sample(self, n: int, generator: np.random.Generator) -> np.ndarray:
        return self.warp.back(self.density.sample(n, generator))


def held_out(t: np.ndarray, multiplier: float, seed: int, value) -> float:
    """The mean of ``value(density, rows)`` over held-out rows."""
    if len(t) < 2 * N_FOLDS:
        return 0.0
    folds = KFold(N_FOLDS, shuffle=True, random_state=seed).split(t)
    return float(
        np.concatenate([value(Smooth(t[fit], multiplier), out) for fit, out in folds]).mean()
    )


def level_shares(codes: np.ndarray, n_levels: int) -> np.ndarray:
    """Smoothed shares of the codes that are seen."""
    counts = np.bincount(codes[codes >= 0], minlength=n_levels) + 0.5
    return counts / counts.sum()


class Marginal:
    """The law of one column: of its codes, and of its numbers."""

    def __init__(self, rows: Coded, j: int, seed: int):
        self.j, self.column = j, rows.columns[j]
        self.shares = level_shares(rows.codes[:, j], self.column.n_levels)
        v = rows.numbers[:, j]
        v = v[~np.isnan(v)]
        self.numbers = OneColumn(v, self.column, seed) if len(v) else None

    def log_prob(self, rows: Coded) -> np.ndarray:
        """Zero where the value is missing."""
        code, v = rows.codes[:, self.j], rows.numbers[:, self.j]
        value = np.where(code < 0, 0.0, np.log(self.shares[np.maximum(code, 0)]))
        if self.numbers is not None:
            number = ~np.isnan(v)
            value[number] += self.numbers.log_prob(v[number])
        return value


class Independent:
    """The product of the columns' own laws: what every other method should surpass."""

    note = "kernel estimates and shares of single columns"

    def __init__(self, train: Coded, seed: int):
        self.columns = train.columns
        self.marginals = [Marginal(train, j, seed) for j in range(len(train.columns))]

    def score(self, rows: Coded) -> np.ndarray:
        return np.sum([marginal.log_prob(rows) for marginal in self.marginals], axis=0)

    def sample(self, n: int, seed: int) -> Coded:
        generator = np.random.default_rng(seed)
        codes = np.empty((n, len(self.columns)), int)
        numbers = np.full(codes.shape, np.nan)
        for j, marginal in enumerate(self.marginals):
            codes[:, j] = generator.choice(len(marginal.shares), n, p=marginal.shares)
            if marginal.numbers is not None:
                rest = codes[:, j] == 0
                numbers[rest, j] = marginal.numbers.sample(rest.sum(), generator)
        return Coded(self.columns, codes, numbers)
