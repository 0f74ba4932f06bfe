"""What a fitted conditional density tells: means, quantiles, probabilities and samples."""

from __future__ import annotations

from numbers import Real

import numpy as np
from sklearn.utils.validation import check_is_fitted, validate_data

from .._core.likelihood.ode import SolverPlan
from .._evaluation.base import check_number_of_draws
from .._extras import extra
from .._mixtures.parameters import mixture_from
from .._random import seed_from
from .._threads import take_one_thread_where_forked
from .._validation import evaluation_device
from ._conditional import Given, OneTarget, SeveralTargets
from ._features import Features, table_of
from ._lattice import Lattice
from ._location_scale import LocationScale, Views
from ._neighbours import Neighbours
from ._pool import Pool
from ._score_network import builder_for
from ._target_space import TargetSpace

# A mean of a bounded target is over so many quantiles.
N_QUANTILES = 64
MIDDLES = (np.arange(N_QUANTILES) + 0.5) / N_QUANTILES
# A mean of a lattice's values is their sum where they are no more, without those of tails.
MAX_VALUES, FAR = 64, 1e-7
# Quantiles are at probabilities within these.
TINY, EPS = 1e-300, 1e-16


class Predictions:
    """Methods of a fitted estimator of conditional densities."""

    device: str
    n_targets_: int
    network_weights_: dict[str, np.ndarray]
    mixture_: dict[str, np.ndarray]
    _one_dimensional: bool
    _space: TargetSpace
    _lattice: Lattice | None
    _features: Features
    _neighbours: Neighbours | None
    _locations: list[LocationScale]
    _centre: np.ndarray
    _spread: np.ndarray
    _factor: np.ndarray
    _pool: Pool

    def predict(self, X):
        """Conditional means.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_targets)
        """
        given = self._given(X)
        law = self._law()
        if self._lattice is not None:
            found = self._lattice_means(self._lattice, given)
        elif not self._space.is_bounded:
            found = law.means(given)
        elif isinstance(law, SeveralTargets):
            found = law.means_of(self._inverse, given)
        else:
            u = law.quantiles(MIDDLES, given)
            found = self._space.inverse(u).mean(1, keepdims=True)
        return found[:, 0] if self._one_dimensional else found

    def predict_quantiles(self, X, quantiles=(0.05, 0.5, 0.95)):
        """Conditional quantiles of one target.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n_samples, n_features)
        quantiles : array-like of shape (n_quantiles,), default=(0.05, 0.5, 0.95)
            Probabilities in (0, 1).

        Returns
        -------
        ndarray of shape (n_samples, n_quantiles)
        """
        given, law = self._given(X), self._one_target("quantiles")
        wanted = np.asarray(quantiles, dtype=float)
        if wanted.ndim != 1 or not ((wanted > 0) & (wanted < 1)).all():
            raise ValueError(f"quantiles={quantiles!r} must be numbers between 0 and 1.")
        return self._on_the_lattice(self._space.inverse(law.quantiles(wanted, given)))

    def predict_interval(self, X, coverage=0.9):
        """Central intervals that hold one target with a given probability.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n_samples, n_features)
        coverage : float, default=0.9

        Returns
        -------
        ndarray of shape (n_samples, 2)
            Lower and upper ends.
        """
        if not isinstance(coverage, Real) or not 0 < float(coverage) < 1:
            raise ValueError(f"coverage={coverage!r} must be a number between 0 and 1.")
        tail = (1 - float(coverage)) / 2
        return self.predict_quantiles(X, [tail, 1 - tail])

    def score_samples(self, X, y):
        """Conditional log-densities of targets.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_targets)

        Returns
        -------
        ndarray of shape (n_samples,)
            :math:`\\log p(y_i \\mid x_i)`; -inf at or beyond a bound. With ``y_step``, logarithms
            of probabilities; -inf for values that are not possible.
        """
        given = self._given(X)
        y = self._targets(y, len(given.mean))
        if self._lattice is not None:
            low, high = self._lattice.cells(y[:, 0])
            found = self._one_target("probabilities").log_mass(low, high, given)
            return np.where(self._lattice.holds(y[:, 0]), found, -np.inf)
        u, log_slope = self._space.forward(y)
        inside, found = np.isfinite(log_slope), np.full(len(y), -np.inf)
        if inside.any():
            values = self._law().log_density(u[inside], given.take(inside))
            found[inside] = values + log_slope[inside]
        return found

    def cdf(self, X, y):
        """Conditional distribution function of one target.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n_samples, n_features)
        y : array-like of shape (n_samples,)

        Returns
        -------
        ndarray of shape (n_samples,)
            Probabilities that the target is at most y.
        """
        given, law = self._given(X), self._one_target("the distribution function")
        y = self._targets(y, len(given.mean))
        if self._lattice is not None:
            return law.cdf(self._lattice.upper_ends(y[:, 0]), given)
        u, log_slope = self._space.forward(y)
        inside = np.isfinite(log_slope)
        found = (y[:, 0] >= self._space.high[0]).astype(float)
        if inside.any():
            found[inside] = law.cdf(u[inside, 0], given.take(inside))
        return found

    def sample(self, X, n_samples=1, random_state=None):
        """Draw targets given features.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n_samples, n_features)
        n_samples : int, default=1
            Draws for each row of X.
        random_state : int, RandomState or None, default=None

        Returns
        -------
        ndarray of shape (n_rows, n_samples) or (n_rows, n_samples, n_targets)
        """
        number = check_number_of_draws(n_samples, random_state)
        given = self._given(X)
        u = self._law().sample(number, given, seed_from(random_state))
        y = self._on_the_lattice(self._inverse(u))
        return y[..., 0] if self._one_dimensional else y

    def as_skpro(self):
        """The estimator as a probabilistic regressor of skpro, of one target.

        Its ``predict_proba`` returns a distribution of skpro, with densities, the distribution
        function, quantiles, means, variances and samples. It is fitted if this estimator is, and
        its own ``fit`` fits a clone.

        Returns
        -------
        skpro.regression.base.BaseProbaRegressor

        Raises
        ------
        ImportError
            Where skpro is missing.
        ValueError
            If this estimator is fitted to several targets.
        """
        with extra("skpro", "as_skpro() needs skpro"):
            from ._skpro import SkproRegressor
        if hasattr(self, "n_targets_"):
            self._require_one_target("distributions of skpro")
        return SkproRegressor.of(self)

    def _given(self, X) -> Given:
        """What is known of samples without their targets."""
        check_is_fitted(self)
        take_one_thread_where_forked()
        if self._features.categorical:
            validate_data(self, X, skip_check_array=True, reset=False)
            X = table_of(X)
        else:
            options = {"dtype": np.float64, "ensure_all_finite": "allow-nan"}
            X = validate_data(self, X, reset=False, **options)
        numbers = self._features.numbers(X)
        context = self._features.context(X, numbers)
        near = None if self._neighbours is None else self._neighbours.features(context)
        views = Views(numbers, context, None if near is None else np.hstack([numbers, near]))
        found = [each.predict(views) for each in self._locations]
        mean, log_scale = (np.stack(part, 1) for part in zip(*found, strict=True))
        return self._seen(context, near, mean, log_scale)

    def _seen(self, context, near, mean, log_scale) -> Given:
        """With the contexts that networks see: features, neighbours, means and log-scales."""
        located = (self._located(near, mean, log_scale) - self._centre) / self._spread
        return Given(np.concatenate([context, located.clip(-5, 5)], 1), mean, log_scale)

    def _located(self, near, mean, log_scale) -> np.ndarray:
        return np.concatenate([mean, log_scale] if near is None else [near, mean, log_scale], 1)

    def _targets(self, y, n: int) -> np.ndarray:
        y = np.asarray(y, dtype=np.float64)
        if self._one_dimensional:
            y = y.reshape(-1)
        y = y.reshape(len(y), -1)
        if y.shape != (n, self.n_targets_):
            raise ValueError(
                f"y has shape {y.shape}, and must have {self.n_targets_} target(s) for each of the "
                f"{n} samples of X."
            )
        return y

    def _one_target(self, what: str) -> OneTarget:
        self._require_one_target(what)
        return OneTarget(self._pool)

    def _law(self) -> OneTarget | SeveralTargets:
        if self.n_targets_ == 1:
            return OneTarget(self._pool)
        weights, parts = self.network_weights_, self.mixture_
        n_context = weights["context_weight"].shape[1] if weights else 0
        builder = builder_for(self.n_targets_, n_context, evaluation_device(self.device))
        mixture = mixture_from(parts["weights"], parts["means"], parts["covariances"])
        density = builder.density(mixture, weights, "ode", SolverPlan())
        return SeveralTargets(density, self._factor, parts["weights"] @ parts["means"])

    def _ppf(self, X, probabilities) -> np.ndarray:
        """The quantile (n,) of each sample at a probability of its own."""
        given, wanted = self._given(X), np.clip(probabilities, TINY, 1 - EPS)
        u = self._one_target("quantiles").quantiles(wanted[:, None], given)[:, 0]
        return self._on_the_lattice(self._space.inverse(u))

    def _inverse(self, u: np.ndarray) -> np.ndarray:
        """Targets from unbounded ones (..., n_targets)."""
        return np.stack([self._space.inverse(u[..., j], j) for j in range(self.n_targets_)], -1)

    def _on_the_lattice(self, y) -> np.ndarray:
        return y if self._lattice is None else self._lattice.nearest(y)

    def _lattice_means(self, lattice: Lattice, given: Given) -> np.ndarray:
        """Sums of values times probabilities, or means of quantiles where there are many."""
        law = self._one_target("means")
        low, high = lattice.nearest(law.quantiles(np.array([FAR, 1 - FAR]), given)).T
        n_ends = round(np.max(high - low) / lattice.step)
        if n_ends > MAX_VALUES:
            values = law.quantiles(MIDDLES, given)
            return values.clip(*lattice.limits).mean(1, keepdims=True)
        if not n_ends:
            return low[:, None]
        y = low[:, None] + lattice.step * np.arange(n_ends)
        above = 1 - law.cdf(lattice.upper_ends(y), given)
        return (low + lattice.step * above.sum(1))[:, None]

    def _require_one_target(self, what: str) -> None:
        if self.n_targets_ > 1:
            raise ValueError(
                f"This estimator was fitted to {self.n_targets_} targets, and for {what} there "
                "must be one target only. Use sample(), or fit one estimator to each target."
            )
