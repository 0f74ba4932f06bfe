"""Looking for a Gaussian mixture: sizes tried one after another, joined by held-out rows."""

from __future__ import annotations

import time

import numpy as np
from sklearn.mixture import GaussianMixture

from .._budget import Budget
from .._checkpoint import NO_CHECKPOINT, Checkpoint
from .._mixtures.em import FittedMixture, continue_mixture, fit_mixture
from .._mixtures.parameters import (
    joined,
    mixture_from,
    numbers_in,
    standard_gaussian,
    without_rare_components,
)
from .._transforms.chain import Chain
from .._transforms.em import expectation_maximization
from .._validation import effective_number
from .base_densities import Base, Family, gaussian
from .split import Split
from .tuning import TUNING


def stacking_weights(log_densities: np.ndarray, weight: np.ndarray) -> np.ndarray:
    r"""The convex weights (k,) of densities that rows outside their fits prefer.

    .. math:: \max_w \sum_i \omega_i \log \sum_k w_k\, p_k(x_i), \qquad
        w_k \ge 0, \; \sum_k w_k = 1,

    which is concave, by the iterations of expectation and maximisation.

    Parameters
    ----------
    log_densities : ndarray of shape (k, n)
    weight : ndarray of shape (n,)

    References
    ----------
    [StackedDensity]_
    """
    top = log_densities.max(0)
    densities = np.exp(log_densities - top)

    def expect(shares: np.ndarray) -> tuple[np.ndarray, float]:
        joint = shares[:, None] * densities
        total = joint.sum(0)
        return joint / total, float(np.average(np.log(total) + top, weights=weight))

    def maximize(posterior: np.ndarray) -> np.ndarray:
        return np.average(posterior, axis=1, weights=weight)

    start = np.full(len(log_densities), 1 / len(log_densities))
    shares, _ = expectation_maximization(
        start, expect, maximize, TUNING.stacking_iterations, -np.inf
    )
    return shares


def _n_that_count(rows: np.ndarray, weight: np.ndarray) -> float:
    """The effective number of rows, and no more than are not copies of others."""
    direction = np.random.default_rng(0).normal(size=rows.shape[1])
    # Copies may differ in their last digits.
    n_different = len(np.unique(np.round(rows @ direction, 9)))
    return min(effective_number(weight), n_different)


class MixtureSearch(Family):
    """Mixtures of growing size in the space of a split, until two in a row bring nothing.

    Where there are enough held-out rows, ``best`` is the mean of the densities so far with the
    weights that these rows prefer: sizes whose errors differ do better together than the best
    of them. A size has to bring more than a further weight would by chance. With few
    held-out rows it is the one mixture with the best Bayesian information criterion. Each is
    fitted to some rows, then for some iterations to all, or to a number for each entry of a
    covariance. ``value`` is the mean log-density of the held-out rows under ``best``, in input
    units.
    """

    name = "Gaussian mixture"

    def __init__(
        self,
        split: Split,
        random_state: np.random.RandomState,
        checkpoint: Checkpoint = NO_CHECKPOINT,
    ):
        self.split, self.random_state, self.checkpoint = split, random_state, checkpoint
        self.rows, self.weight = self._drawn(*split.train_rows)
        d = self.rows.shape[1]
        self.n = _n_that_count(self.rows, self.weight)
        # With fewer rows a component's covariance is singular, and its likelihood without bound.
        self.sizes = [size for size in TUNING.mixture_sizes if self.n >= size * max(3, d + 1)]
        self.enough = effective_number(split.held_out_rows[1]) >= TUNING.enough_validation_rows
        self.least_gain = split.chance_gain() if self.enough else 0.0
        self.tried: list[tuple[GaussianMixture, np.ndarray]] = []
        # The mixtures that ``best`` joins, with their shares; none while it is N(0, I).
        self.parts: list[tuple[GaussianMixture, float]] = []
        self.best, self.n_worse = standard_gaussian(d), 0
        self.gains: list[float] = []
        # What the last fit took: for each component, and for each of its updates by a row.
        self.seconds_per_component, self.seconds_per_update = 0.0, 0.0
        self.value, self.merit = self._value_and_merit(self.best)

    def go_on(self, budget: Budget, until: float = 1.0) -> GaussianMixture:
        """Try more sizes until this share of the time is over; the best mixture of all so far.

        One that is likely to take more than all the time is not begun.
        """
        while self.sizes and self.n_worse < 2 and budget.left(until) > 0:
            if self.sizes[0] * self.seconds_per_component > budget.left():
                break
            mixture = self._fitted(self.sizes.pop(0))
            parts = self._stacked_with(mixture) if self.enough else [(mixture, 1.0)]
            mixture = joined(*zip(*parts, strict=True))
            value, merit = self._value_and_merit(mixture)
            better = merit > self.merit + self.least_gain
            self.n_worse = 0 if better else self.n_worse + 1
            if better:
                self.gains.append(value - self.value)
                self.best, self.parts, self.value, self.merit = mixture, parts, value, merit
        return self.best

    def expected_value(self, budget: Budget) -> float:
        """The value to expect, if gains go on to shrink as the last of them did.

        A network takes the time until it may be pruned.
        """
        value = self.value
        if not self.enough or self.n_worse or len(self.gains) < 2:
            return value
        gain, ratio = self.gains[-1], min(TUNING.max_gain_ratio, self.gains[-1] / self.gains[-2])
        seconds = (1 - TUNING.pruned_between[0]) * budget.left(TUNING.grown_until)
        for size in self.sizes:
            seconds -= size * self.seconds_per_component
            if seconds < 0:
                break
            gain *= ratio
            value += gain
        return value

    def grow(self, budget: Budget) -> None:
        """Try more sizes, as long as leaves a network some time."""
        self.go_on(budget, TUNING.grown_until)

    def base(self) -> Base:
        """The best mixture, which takes the held-out rows as well where it stands alone."""
        if not self.parts:
            return gaussian(self.split)
        return Base(
            self.split,
            self.best,
            self.value,
            refit=self.with_held_out_rows,
            gain_of_refit=self.gain_with_held_out_rows(),
        )

    def with_held_out_rows(self, budget: Budget) -> tuple[Chain, GaussianMixture]:
        """The map, and ``best``, each part of it after more iterations with all rows.

        A part keeps its share, and its parameters where the time is likely to be too short.
        """
        latent, (X, weight, *_) = self.split.latent, self.split.table
        rows, weight = self._drawn(latent.forward(X)[0], weight)
        mixtures, shares = zip(*self.parts, strict=True)
        seconds = TUNING.more_iterations * len(rows) * self.seconds_per_update
        n = _n_that_count(rows, weight)

        def continued(mixture: GaussianMixture) -> GaussianMixture:
            if budget.left() <= seconds * mixture.n_components:
                return mixture
            found = self._continued(mixture, rows, weight).mixture
            return self._without_rare(found, n)

        return latent, joined([continued(each) for each in mixtures], shares)

    def gain_with_held_out_rows(self) -> float:
        """Nats a row to expect of them: each number of a mixture costs half a nat over the rows."""
        X, weight, *_ = self.split.table
        n_with = min(self._n_drawn(*X.shape), effective_number(weight))
        numbers = sum(share * numbers_in(mixture) for mixture, share in self.parts)
        return 0.5 * numbers * (1 / self.n - 1 / n_with)

    @staticmethod
    def _n_drawn(n: int, d: int) -> int:
        return min(n, max(TUNING.mixture_rows, TUNING.rows_per_covariance * d**2))

    def _drawn(self, rows: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As many rows as mixtures are fitted to, with their weights.

        Where the first fit takes only some of them, they are in random order.
        """
        if len(rows) <= TUNING.mixture_rows:
            return rows, weight
        drawn = self.random_state.choice(len(rows), self._n_drawn(*rows.shape), replace=False)
        return rows[drawn], weight[drawn]

    def _stacked_with(self, mixture: GaussianMixture) -> list[tuple[GaussianMixture, float]]:
        """The mixtures so far and this one, with the shares that held-out rows like best."""
        rows, weight = self.split.held_out_rows
        self.tried.append((mixture, mixture.score_samples(rows)))
        mixtures, log_densities = zip(*self.tried, strict=True)
        shares = stacking_weights(np.stack(log_densities), weight)
        kept = self._affordable(shares, [each.covariances_.size for each in mixtures])
        shares = stacking_weights(np.stack([log_densities[k] for k in kept]), weight)
        return [(mixtures[k], share) for k, share in zip(kept, shares, strict=True)]

    @staticmethod
    def _affordable(shares: np.ndarray, numbers: list[int]) -> list[int]:
        """The largest shares, as many as are worth their time; at least one."""
        order = np.argsort(-shares)
        cumulated = np.cumsum(np.asarray(numbers)[order])
        kept = (shares[order] >= TUNING.min_share) & (cumulated <= TUNING.max_joined_numbers)
        kept[0] = True
        return list(order[kept])

    def _fitted(self, size: int) -> GaussianMixture:
        """A mixture of so many components, or fewer; how long it took is stored as well."""
        step = self.checkpoint.step(f"mixture of {size} components of {len(self.rows)} samples")
        if step.result is None:
            mixture = self._fitted_anew(size)
            step.finish(
                {
                    "parameters": [mixture.weights_, mixture.means_, mixture.covariances_],
                    "seconds": [self.seconds_per_component, self.seconds_per_update],
                    "random": self.random_state.get_state(legacy=False),
                }
            )
            return mixture
        self.seconds_per_component, self.seconds_per_update = step.result["seconds"]
        self.random_state.set_state(step.result["random"])
        return mixture_from(*step.result["parameters"])

    def _fitted_anew(self, size: int) -> GaussianMixture:
        started = time.perf_counter()
        rows, weight = (part[: TUNING.mixture_rows] for part in (self.rows, self.weight))
        found = fit_mixture(rows, weight, size, TUNING.reg_covar, self.random_state)
        mixture, n_updates = found.mixture, found.n_iterations * len(rows)
        if len(self.rows) > TUNING.mixture_rows:
            found = self._continued(mixture, self.rows, self.weight)
            mixture, n_updates = found.mixture, n_updates + found.n_iterations * len(self.rows)
        self.seconds_per_component = (time.perf_counter() - started) / size
        self.seconds_per_update = self.seconds_per_component / n_updates
        return self._without_rare(mixture, self.n)

    @staticmethod
    def _without_rare(mixture: GaussianMixture, n: float) -> GaussianMixture:
        """The mixture, each of whose components rests on several of n rows.

        Fewer rows, often a single far one, would buy themselves density that no other has seen.
        """
        least = max(TUNING.min_component_rows, mixture.means_.shape[1] + 1)
        return without_rare_components(mixture, least / n)

    @staticmethod
    def _continued(mixture: GaussianMixture, rows: np.ndarray, weight: np.ndarray) -> FittedMixture:
        return continue_mixture(mixture, rows, weight, TUNING.reg_covar, TUNING.more_iterations)

    def _value_and_merit(self, mixture: GaussianMixture) -> tuple[float, float]:
        value = self.split.score(mixture.score_samples)
        return value, value if self.enough else -self._bic(mixture)

    def _bic(self, mixture: GaussianMixture) -> float:
        log_likelihood = self.n * np.average(mixture.score_samples(self.rows), weights=self.weight)
        return numbers_in(mixture) * np.log(self.n) - 2 * log_likelihood
