"""A law of mixed tables whose exact log-probability is known: each column hangs on one factor.

Given its factor, a standard normal number, a column is independent of all others, so the
log-probability is a sum over factors of one-dimensional integrals, here by the trapezoid rule.
Kinds of columns take turns: continuous, category, count, and a number that is often zero.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from _tables_measure import Column
from scipy.special import gammaln, log_expit, log_softmax, logsumexp

N_FACTORS, N_CATEGORIES = 5, 4
NODES = np.linspace(-6, 6, 241)


class FactorLaw:
    """``n_columns`` columns, of which column j hangs on factor j // 4 modulo ``N_FACTORS``."""

    def __init__(self, n_columns: int = 50, seed: int = 0):
        generator = np.random.default_rng(seed)
        self.n_columns = n_columns
        self.factor = (np.arange(n_columns) // 4) % N_FACTORS
        self.slope = generator.uniform(0.5, 1.5, n_columns) * generator.choice([-1, 1], n_columns)
        self.bends = generator.normal(size=(n_columns, N_CATEGORIES))

    @property
    def columns(self) -> tuple[Column, ...]:
        kinds = {
            0: {"kind": "continuous"},
            1: {"kind": "discrete", "values": tuple("abcd")},
            2: {"kind": "cells", "step": 1.0},
            3: {"kind": "continuous", "point_masses": (0.0,)},
        }
        return tuple(Column(f"x{j}", **kinds[j % 4]) for j in range(self.n_columns))

    def sample(self, n: int, seed: int) -> pd.DataFrame:
        generator = np.random.default_rng(seed)
        factors = generator.normal(size=(n, N_FACTORS))
        data = {}
        for j in range(self.n_columns):
            z, a = factors[:, self.factor[j]], self.slope[j]
            if j % 4 == 0:
                deviation = np.sqrt(0.25 * z**2 + 0.09)
                data[f"x{j}"] = a * z + deviation * generator.normal(size=n)
            elif j % 4 == 1:
                logits = np.outer(z, self.bends[j]) * 1.5
                code = np.argmax(logits + generator.gumbel(size=logits.shape), 1)
                data[f"x{j}"] = np.array(list("abcd"))[code]
            elif j % 4 == 2:
                data[f"x{j}"] = generator.poisson(self._rate(z, a))
            else:
                value = np.exp(a * z / 2 + 0.5 * generator.normal(size=n))
                data[f"x{j}"] = np.where(np.log(generator.random(n)) < log_expit(a * z), 0.0, value)
        return pd.DataFrame(data)

    @staticmethod
    def _rate(z, a):
        return 20 * np.exp(0.4 * a * np.clip(z, -3, 3))

    def log_prob(self, frame: pd.DataFrame) -> np.ndarray:
        """The log-probability of every row under the measure of ``columns``."""
        parts = [np.zeros((len(frame), len(NODES))) for _ in range(N_FACTORS)]
        for j in range(self.n_columns):
            parts[self.factor[j]] += self._given_factor(j, frame[f"x{j}"].to_numpy())
        log_weights = -0.5 * NODES**2 - 0.5 * np.log(2 * np.pi) + np.log(NODES[1] - NODES[0])
        return sum(logsumexp(part + log_weights, axis=1) for part in parts)

    def _given_factor(self, j: int, x: np.ndarray) -> np.ndarray:
        """The log-law of column j at every node of its factor, (n, nodes)."""
        z, a = NODES, self.slope[j]
        if j % 4 == 0:
            variance = 0.25 * z**2 + 0.09
            return -0.5 * ((x[:, None] - a * z) ** 2 / variance + np.log(2 * np.pi * variance))
        if j % 4 == 1:
            logs = log_softmax(np.outer(z, self.bends[j]) * 1.5, axis=1)
            return logs.T[np.searchsorted(list("abcd"), x.astype(str))]
        if j % 4 == 2:
            rate = self._rate(z, a)
            return x[:, None] * np.log(rate) - rate - gammaln(x + 1.0)[:, None]
        logs = np.log(np.where(x > 0, x, 1.0))
        rest = -2 * (logs[:, None] - a * z / 2) ** 2 - logs[:, None] - 0.5 * np.log(np.pi / 2)
        return np.where(x[:, None] > 0, rest + log_expit(-a * z), log_expit(a * z))
