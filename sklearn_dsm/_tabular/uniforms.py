"""Uniform numbers from which states and scores are drawn."""

from __future__ import annotations

import numpy as np
from scipy.stats import qmc

# For each field: what chooses a state or a component, and the place within the component.
CHOICE, PLACE = 0, 1
# Independent sequences, whose means tell the error of their mean.
N_SEQUENCES = 8


class Independent:
    """Fresh numbers for every draw, for samples."""

    def __init__(self, random: np.random.RandomState):
        self._random = random

    def get(self, f: int, part: int, rows: np.ndarray, attempt: int = 0) -> np.ndarray:
        return self._random.uniform(size=len(rows))


class Common:
    """The same quasi-random points for every sample, for integrals.

    An integral then depends neither on the order of the samples nor on the others among them.
    Points are from independently scrambled sequences in turn.

    Parameters
    ----------
    n_fields, n_points : int
    seed : int
    """

    def __init__(self, n_fields: int, n_points: int, seed: int = 0):
        self._seed = seed
        each = [
            qmc.Sobol(2 * n_fields, rng=np.random.default_rng((seed, k))).random(
                n_points // N_SEQUENCES
            )
            for k in range(N_SEQUENCES)
        ]
        self._points = np.stack(each, axis=1).reshape(n_points, -1)
        self.first, self.n_draws = 0, n_points

    def turn(self, first: int, n_draws: int) -> None:
        """Use ``n_draws`` points from the given one on; draws of a sample follow each other."""
        self.first, self.n_draws = first, n_draws

    def get(self, f: int, part: int, rows: np.ndarray, attempt: int = 0) -> np.ndarray:
        points = self.first + rows % self.n_draws
        if attempt:
            random = np.random.default_rng((self._seed, attempt, f, part))
            return random.uniform(size=len(self._points))[points]
        return self._points[points, 2 * f + part]
