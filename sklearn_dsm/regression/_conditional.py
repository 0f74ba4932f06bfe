"""Densities of unbounded targets given features: of one target, and of several."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .._core.arrays import tensor_of
from .._evaluation.latent_density import LatentDensity, chunks
from .._tabular.heads import Normals
from . import _normal_laws as laws
from ._pool import Pool

# Samples whose laws are held at once.
CHUNK = 2048
# A mean of a function of several targets is over so many draws.
N_DRAWS = 1000


class Given(NamedTuple):
    """What is known of samples without their targets.

    Attributes
    ----------
    context : ndarray of shape (n, n_context)
        What networks see.
    mean, log_scale : ndarray of shape (n, n_targets)
    """

    context: np.ndarray
    mean: np.ndarray
    log_scale: np.ndarray

    def take(self, rows) -> Given:
        return Given(*(part[rows] for part in self))


class OneTarget:
    """The density of one target, a mixture of normals for each sample."""

    def __init__(self, pool: Pool):
        self.pool = pool

    def log_density(self, u: np.ndarray, given: Given) -> np.ndarray:
        """Log-densities (n,) of targets u (n, 1)."""

        def found(law: Normals, rows: slice) -> np.ndarray:
            return law.log_density(tensor_of(u[rows, 0])).numpy()

        return self._of_each(given, found)

    def log_mass(self, low: np.ndarray, high: np.ndarray, given: Given) -> np.ndarray:
        """Log-probabilities (n,) of intervals, whose ends may be infinite."""

        def found(law: Normals, rows: slice) -> np.ndarray:
            return law.log_mass(tensor_of(low[rows]), tensor_of(high[rows])).numpy()

        return self._of_each(given, found)

    def cdf(self, u: np.ndarray, given: Given) -> np.ndarray:
        """Probabilities (n, ...) of targets up to u (n, ...)."""
        return self._of_each(given, lambda law, rows: laws.cdf(law, u[rows]))

    def quantiles(self, probabilities: np.ndarray, given: Given) -> np.ndarray:
        """Quantiles (n, k) at probabilities (k,), or (n, k)."""
        n = len(given.mean)
        wanted = np.broadcast_to(probabilities, (n, np.shape(probabilities)[-1]))
        return self._of_each(given, lambda law, rows: laws.quantiles(law, wanted[rows]))

    def sample(self, number: int, given: Given, seed: int) -> np.ndarray:
        """Draws (n, number, 1)."""
        random = np.random.RandomState(seed)
        return self._of_each(given, lambda law, rows: laws.draws(law, number, random))[..., None]

    def means(self, given: Given) -> np.ndarray:
        """Means (n, 1)."""
        return self._of_each(given, lambda law, rows: laws.means(law))[:, None]

    def _of_each(self, given: Given, function: Callable[[Normals, slice], np.ndarray]):
        parts = []
        for rows in chunks(len(given.mean), CHUNK):
            context, mean, log_scale = given.take(rows)
            law = self.pool.laws(context, mean[:, 0], log_scale[:, 0])
            parts.append(function(law, rows))
        return np.concatenate(parts)


class SeveralTargets:
    """The density of several targets, whose residuals are those of a score network.

    Parameters
    ----------
    density : LatentDensity
        Of residuals after the inverse of ``factor``.
    factor : ndarray of shape (n_targets, n_targets)
        Lower triangular.
    centre : ndarray of shape (n_targets,)
        Mean of the density.
    """

    def __init__(self, density: LatentDensity, factor: np.ndarray, centre: np.ndarray):
        self.density, self.factor, self.centre = density, factor, centre

    def log_density(self, u: np.ndarray, given: Given) -> np.ndarray:
        """Log-densities (n,) of targets u (n, n_targets)."""
        residual = (u - given.mean) * np.exp(-given.log_scale)
        z = residual @ np.linalg.inv(self.factor).T
        values, _ = self.density.log_density(z, given.context)
        return values - given.log_scale.sum(1) - np.log(np.diag(self.factor)).sum()

    def sample(self, number: int, given: Given, seed: int) -> np.ndarray:
        """Draws (n, number, n_targets)."""
        every = np.repeat(given.context, number, axis=0)
        z = self.density.sample(len(every), "ode", seed, every)
        residual = (z @ self.factor.T).reshape(len(given.mean), number, -1)
        return given.mean[:, None] + np.exp(given.log_scale)[:, None] * residual

    def means(self, given: Given) -> np.ndarray:
        """Means (n, n_targets)."""
        return given.mean + np.exp(given.log_scale) * (self.factor @ self.centre)

    def means_of(self, inverse: Callable[[np.ndarray], np.ndarray], given: Given) -> np.ndarray:
        """Means (n, n_targets) of functions of targets, over draws."""
        random = np.random.RandomState(0)
        found = np.empty_like(given.mean)
        for i in range(len(found)):
            draws = self.sample(N_DRAWS, given.take([i]), random.randint(2**31 - 1))
            found[i] = inverse(draws).mean((0, 1))
        return found
