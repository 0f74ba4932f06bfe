"""What a fit chooses between, and the rows on which it chooses."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from copy import copy
from typing import NamedTuple

import numpy as np
from sklearn.mixture import GaussianMixture

from .._training import TrainingRecord
from ..likelihood import SolverPlan
from ._latent import LatentMap, mapped_rows, of_all_rows, with_radial_map
from ._triangular_map import TriangularMap


class Clock:
    """The seconds a fit may take, and those it has left; infinite where there is no limit."""

    def __init__(self, max_fit_time: float | None):
        self.seconds = math.inf if max_fit_time is None else max_fit_time
        self.started = time.perf_counter()

    def first(self, share: float) -> Clock:
        """A clock for a first share of the seconds, started with this one."""
        part = copy(self)
        part.seconds *= share
        return part

    def left(self, share: float = 1.0) -> float:
        """Seconds left of this share of them."""
        return share * self.seconds - (time.perf_counter() - self.started)


class Split:
    """Latent rows and weights, those to train on and those held out (a mask)."""

    def __init__(self, latent: LatentMap, X, weight, held_out):
        Z, log_slope = latent.forward(X)
        self.latent, self.table = latent, (X, weight, held_out)
        self.train = (Z[~held_out], weight[~held_out])
        self.held_out = (Z[held_out], weight[held_out] / weight[held_out].mean())
        self.held_out_log_slope = log_slope[held_out]
        # What one more number, fitted to the held-out rows, gains there by chance, in nats a row.
        self.chance_gain = 1 / len(self.held_out[0])

    def with_radial_map(self) -> Split | None:
        """The same rows behind a radial map as well; None where that would be no gain."""
        X, weight, held_out = self.table
        used = mapped_rows(X, held_out)
        latent = with_radial_map(self.latent, X[used], weight[used])
        return None if latent is None else Split(latent, X, weight, held_out)

    def map_of_all_rows(self) -> LatentMap:
        """The map, fitted to the held-out rows as well where it left these out."""
        X, weight, held_out = self.table
        if isinstance(mapped_rows(X, held_out), slice):
            return self.latent
        return of_all_rows(self.latent, X, weight)

    def in_column_order(self) -> Split:
        """The same rows, white column j being a residual of those before."""
        return Split(self.latent.in_column_order(), *self.table)

    def behind(self, triangular: TriangularMap) -> Split:
        """The same rows behind a map of these white ones as well."""
        return Split(self.latent._replace(last=triangular), *self.table)

    @property
    def mean_log_slope(self) -> float:
        """What the maps add to a mean log-density of held-out rows in input units."""
        return float(np.average(self.held_out_log_slope, weights=self.held_out[1]))

    def score(self, log_density, rows=slice(None)):
        """Mean log-density of held-out rows in input units, for a latent log-density."""
        Z, weight = (part[rows] for part in self.held_out)
        values = log_density(Z) + self.held_out_log_slope[rows]
        return float(np.average(values, weights=weight))


class Reference(NamedTuple):
    """A mixture to correct in a space, and the value that training must reach.

    Where no network corrects it, the mixture, or the map in front of a Gaussian, can have the
    held-out rows too, which is expected to bring ``gain_alone``.
    """

    split: Split
    mixture: GaussianMixture
    hurdle: float = -math.inf
    with_held_out_rows: Callable[[Clock], tuple[LatentMap, GaussianMixture]] | None = None
    gain_alone: float = 0.0

    def alone(self, clock: Clock) -> tuple[LatentMap, GaussianMixture]:
        """The map and the mixture that no network corrects."""
        if self.with_held_out_rows is None:
            return self.split.latent, self.mixture
        return self.with_held_out_rows(clock)


class Candidate(NamedTuple):
    """A reference, how training went there, and a density made of both."""

    reference: Reference
    record: TrainingRecord
    reference_value: float
    value: float
    weights: dict[str, np.ndarray]
    plan: SolverPlan = SolverPlan()
