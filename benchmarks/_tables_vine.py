"""A vine copula of pyvinecopulib with discrete margins, and the exact probabilities it gives.

Every column is discrete to the vine where it has masses: values in the order of their codes,
cells, and where a column has point masses the intervals between quantiles of its numbers, within
which the density is the margin's. So the product is normalised in every column.
"""

from __future__ import annotations

import numpy as np
from _budget import Clock
from _tables_marginals import TINY_MASS, Marginal
from _tables_measure import Coded
from pyvinecopulib import FitControlsVinecop, Vinecop, families

HELD_OUT, N_BINS, EDGE, BLOCK = 0.15, 100, 1e-10, 5000
LIMIT = 60.0


class Margin:
    """A column's law with the distribution function's values at and below each value."""

    def __init__(self, rows: Coded, j: int, seed: int):
        self.j, self.column, self.law = j, rows.columns[j], Marginal(rows, j, seed)
        self.mixed = len(self.column.point_masses) > 0
        self.discrete = self.column.kind != "continuous" or self.mixed
        if self.mixed:
            self._cut(rows.numbers[:, j])

    def _cut(self, v: np.ndarray) -> None:
        """Pieces of the line in their order: point masses, and intervals between quantiles."""
        points = np.array(self.column.point_masses)
        edges = np.quantile(v[~np.isnan(v)], np.linspace(0, 1, N_BINS + 1)[1:-1])
        self.edges = np.unique(np.concatenate([edges, points]))
        bounds = np.concatenate([[0.0], self.law.numbers.cdf(self.edges), [1.0]])
        masses = self.law.shares[0] * np.diff(bounds)
        place = np.searchsorted(self.edges, points)
        self.masses = np.insert(masses, place + 1, self.law.shares[1:])
        self.point_places = place + 1 + np.arange(len(points))

    def limits(self, rows: Coded) -> tuple[np.ndarray, np.ndarray]:
        """F(v) and F(v-), or the distribution function at the ends of v's interval."""
        code, v = rows.codes[:, self.j], rows.numbers[:, self.j]
        if self.column.kind == "discrete":
            above = np.cumsum(self.law.shares)
            return above[code], above[code] - self.law.shares[code]
        if not self.discrete:
            u = self.law.numbers.cdf(v)
            return u, u
        if not self.mixed:
            half = self.column.step / 2
            return self.law.numbers.cdf(v + half), self.law.numbers.cdf(v - half)
        piece = np.searchsorted(self.edges, v)
        piece += np.searchsorted(self.column.point_masses, v, side="right")
        piece = np.where(code > 0, self.point_places[np.maximum(code, 1) - 1], piece)
        above = np.cumsum(self.masses)
        return above[piece], above[piece] - self.masses[piece]


class Vine:
    """The family of pair copulas and the depth that held-out rows prefer; complete rows only."""

    # The cheap ones first: no further one is tried after ``LIMIT`` seconds.
    settings = {
        "parametric, 3 trees": {
            "family_set": families.itau,
            "parametric_method": "itau",
            "trunc_lvl": 3,
        },
        "kernel, 3 trees": {"family_set": [families.tll], "trunc_lvl": 3},
        "parametric": {"family_set": families.itau, "parametric_method": "itau"},
        "kernel": {"family_set": [families.tll]},
    }

    def __init__(self, train: Coded, seed: int):
        complete = train.take(np.flatnonzero(train.complete))
        self.margins = [Margin(complete, j, seed) for j in range(len(train.columns))]
        n = len(complete.codes)
        order = np.random.default_rng(seed).permutation(n)
        n_out = round(HELD_OUT * n)
        out, fit = complete.take(order[:n_out]), complete.take(order[n_out:])
        values, clock = {}, Clock(LIMIT)
        for name in self.settings:
            if values and clock.left < 0:
                break
            self.vine = self._vine(fit, name)
            values[name] = self.score(out).mean()
        best = max(values, key=values.get)
        self.vine = self._vine(complete, best)
        self.note = f"{best}, best of {len(values)} settings; rows with missing values dropped"

    def _vine(self, rows: Coded, name: str) -> Vinecop:
        types = ["d" if margin.discrete else "c" for margin in self.margins]
        controls = FitControlsVinecop(**self.settings[name])
        return Vinecop.from_data(self._uniform(rows), controls, var_types=types)

    def _uniform(self, rows: Coded) -> np.ndarray:
        above, below = zip(*(margin.limits(rows) for margin in self.margins), strict=True)
        return np.clip(np.stack([*above, *below], 1), EDGE, 1 - EDGE)

    def score(self, rows: Coded) -> np.ndarray:
        """NaN for rows with missing values."""
        value = np.full(len(rows.codes), np.nan)
        for block in np.array_split(np.flatnonzero(rows.complete), len(value) // BLOCK + 1):
            part = rows.take(block)
            copula = self.vine.pdf(self._uniform(part))
            value[block] = np.log(np.maximum(copula, TINY_MASS))
            value[block] += np.sum([margin.law.log_prob(part) for margin in self.margins], axis=0)
        return value
