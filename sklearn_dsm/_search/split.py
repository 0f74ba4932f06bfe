"""The rows of a table behind a map: those to train on and those that judge."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .._transforms.chain import Chain
from .._transforms.fitting import (
    are_few,
    fit_latent_map,
    in_column_order,
    mapped_rows,
    of_all_rows,
    with_radial_map,
)
from .._transforms.transform import Transform
from .._validation import effective_number


class Table(NamedTuple):
    """Rows (n, d) in input units with weights (n,), and which of them are held out (a mask).

    What is random of them, the order of the held-out rows and folds, comes from the seed.
    """

    X: np.ndarray
    weight: np.ndarray
    held_out: np.ndarray
    seed: int = 0

    def some(self, n: int, random_state: np.random.RandomState) -> Table:
        """At most n of the rows, in their order."""
        if len(self.X) <= n:
            return self
        rows = np.sort(random_state.choice(len(self.X), n, replace=False))
        weight = self.weight[rows]
        return Table(self.X[rows], weight / weight.mean(), self.held_out[rows], self.seed)

    def split(self, marginals: str | None) -> Split:
        """The rows behind a kind of marginal transforms and a whitening."""
        return Split(fit_latent_map(*self[:3], marginals), self)


class Split:
    """Rows to train on and rows held out, each in latent space with weights of mean one.

    Held-out rows are in random order: some of the first are a sample of them all, however the
    table is sorted.
    """

    def __init__(self, latent: Chain, table: Table):
        X, weight, held_out, seed = table
        Z, log_slope = latent.forward(X)
        self.latent, self.table = latent, table
        mixed = np.random.default_rng(seed).permutation(np.flatnonzero(held_out))
        self.train_rows, self.held_out_rows = (
            (Z[part], weight[part] / weight[part].mean()) for part in (~held_out, mixed)
        )
        self.held_out_log_slope = log_slope[mixed]

    def with_radial_map(self) -> Split | None:
        """The same rows behind a radial map as well; None where that would be no gain."""
        X, weight, held_out, _ = self.table
        used = mapped_rows(X, held_out)
        latent = with_radial_map(self.latent, X[used], weight[used])
        return None if latent is None else Split(latent, self.table)

    @property
    def n_features(self) -> int:
        return self.train_rows[0].shape[1]

    @property
    def is_of_few_rows(self) -> bool:
        """Whether its maps are better not fitted to the held-out rows."""
        return are_few(self.table.X)

    def map_of_all_rows(self) -> Chain:
        """The map, fitted to the held-out rows as well where it left these out."""
        X, weight, held_out, _ = self.table
        if isinstance(mapped_rows(X, held_out), slice):
            return self.latent
        return of_all_rows(self.latent, X, weight)

    def in_column_order(self) -> Split:
        """The same rows, white column j being a residual of those before."""
        return Split(in_column_order(self.latent), self.table)

    def behind(self, transform: Transform) -> Split:
        """The same rows behind a transform of these white ones as well."""
        return Split(self.latent.then(transform), self.table)

    def at_least(self, n: int) -> np.ndarray:
        """The held-out rows, and where they are fewer than n, others from all over the table."""
        rows, others = self.held_out_rows[0], self.train_rows[0]
        wanted = max(0, n - len(rows))
        step = max(1, len(others) // max(1, wanted))
        return np.concatenate([rows, others[::step][:wanted]])

    def chance_gain(self, rows=slice(None)) -> float:
        """Nats a row that a further number, fitted to held-out rows, gains there by chance."""
        return 1 / effective_number(self.held_out_rows[1][rows])

    @property
    def mean_log_slope(self) -> float:
        """What the maps add to a mean log-density of held-out rows in input units."""
        return float(np.average(self.held_out_log_slope, weights=self.held_out_rows[1]))

    def score(self, log_density, rows=slice(None)):
        """Mean log-density of held-out rows in input units, for a latent log-density."""
        Z, weight = (part[rows] for part in self.held_out_rows)
        values = log_density(Z) + self.held_out_log_slope[rows]
        return float(np.average(values, weights=weight))
