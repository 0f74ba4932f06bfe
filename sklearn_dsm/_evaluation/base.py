"""What every density estimator of the package shares."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from numbers import Integral, Real

import numpy as np
from sklearn.base import BaseEstimator, DensityMixin
from sklearn.utils.validation import check_is_fitted

from .._columns import rows_to_evaluate, weighted_rows_to_fit
from .._compat import Interval, validate_parameter_constraints
from .._core.noise.level import NoiseLevel
from .._core.noise.processes import NoiseProcess
from .._random import seed_from
from .._threads import take_one_thread_where_forked
from .._transforms.chain import Chain
from .latent_density import LatentDensity, chunks

MAP_CHUNK_ROWS = 2**14


def check_number_of_draws(n_samples, random_state) -> int:
    """The number of samples to draw, checked with the seed as scikit-learn checks parameters."""
    validate_parameter_constraints(
        {
            "n_samples": [Interval(Integral, 1, None, closed="left")],
            "random_state": ["random_state"],
        },
        {"n_samples": n_samples, "random_state": random_state},
        caller_name="sample",
    )
    return int(n_samples)


class BaseDensity(DensityMixin, BaseEstimator, metaclass=ABCMeta):
    """Base class of the density estimators.

    ``fit`` of a subclass stores the transforms from the input to the latent space in
    ``latent_map_``, the noise process in ``process_``, and all that :meth:`_latent_density` needs.
    The methods here transform X, evaluate the density in the latent space and convert the results
    to the units of the input.
    """

    latent_map_: dict[str, np.ndarray]
    process_: NoiseProcess

    @abstractmethod
    def _latent_density(self) -> LatentDensity:
        """The fitted density behind the map."""

    def _sampler(self) -> str:
        """How rows are drawn where no closed form can."""
        return "ode"

    def _require_level(self, what: str, noise_level: float | None = None) -> None:
        """Raise where ``fit`` learned one level only and this needs another, or all of them."""

    def _noise_at(self, noise_level: float) -> NoiseLevel | None:
        """The level of a process time; None at 0, where the density itself has a gradient."""
        return None if noise_level == 0 else self.process_.scored_level(noise_level)

    def _in_support(self, rows: np.ndarray) -> np.ndarray:
        """Draws, where the density is known to be zero somewhere."""
        return rows

    def _warn_of_missed(self, n_missed: int, n: int) -> None:
        """Say that some log-densities are less exact than asked for."""

    def score_samples(self, X):
        """Compute the log-density of each sample.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,), float64
            Natural logarithms, in the units of the input. Far from the training data, the values
            are finite too, unless squares of features overflow. Outside of a known ``support``,
            they are -inf.

        Raises
        ------
        ValueError
            If ``fit`` learned the score of a single noise level only.

        Warns
        -----
        ConvergenceWarning
            If the ODE of :class:`~sklearn_dsm.DSMDensityEstimator` misses ``tolerance`` for some
            samples.
        """
        X = self._check_rows(X)
        self._require_level("log-densities")
        latent, density = Chain.from_arrays(self.latent_map_), self._latent_density()
        values, n_missed = np.empty(len(X)), 0
        for part in chunks(len(X), MAP_CHUNK_ROWS):
            Z, log_slope = latent.forward(X[part])
            value, missed = density.log_density(Z)
            values[part] = value + log_slope
            n_missed += missed
        if n_missed:
            self._warn_of_missed(n_missed, len(X))
        return values

    def sample(self, n_samples=1, random_state=None):
        """Draw samples from the fitted density.

        Parameters
        ----------
        n_samples : int, default=1
        random_state : int, RandomState or None, default=None
            The same integer gives the same samples.

        Returns
        -------
        ndarray of shape (n_samples, n_features), float64

        Raises
        ------
        ValueError
            If ``fit`` learned the score of a single noise level only.
        """
        check_is_fitted(self)
        take_one_thread_where_forked()
        n = check_number_of_draws(n_samples, random_state)
        self._require_level("samples")
        density = self._latent_density()
        rows = density.sample(n, self._sampler(), seed_from(random_state))
        latent = Chain.from_arrays(self.latent_map_)
        for part in chunks(len(rows), MAP_CHUNK_ROWS):
            rows[part] = latent.inverse(rows[part])
        return self._in_support(rows)

    def _trajectories(self, n_samples, random_state) -> np.ndarray:
        """The paths (n_states, n_samples, n_features) of :meth:`sample`, in input units."""
        check_is_fitted(self)
        take_one_thread_where_forked()
        n = check_number_of_draws(n_samples, random_state)
        self._require_level("samples")
        density, latent = self._latent_density(), Chain.from_arrays(self.latent_map_)
        states = density.trajectories(n, self._sampler(), seed_from(random_state))
        states = np.stack([latent.inverse(state) for state in states])
        states[-1] = self._in_support(states[-1])
        return states

    def stein_score(self, X, noise_level=0.0):
        r"""Stein score: the gradient of the log-density, of the data or of noised data.

        - At level 0, the result is the gradient of the log-density that :meth:`score_samples`
          computes, with every ``likelihood``. If an ODE solver computes the log-density, the
          solver's steps are differentiated one by one, which takes time.
        - At a positive level, the result is the score that ``fit`` learned there, or a closed form
          if there is no network. If level 0 needs the ODE, a small positive level such as 1e-5
          takes a hundredth of the time or less. On mixtures in 2 to 40 features, the score at
          1e-5 and the gradient at 0 were about equally far from the true score. Prefer the small
          level unless the exact gradient of :meth:`score_samples` is needed.
        - If ``fit`` learned level 0 alone, the result at level 0 is the learned score.

        The noise process turns a transformed sample :math:`X_0` of the data into
        :math:`X_s = a X_0 + \sqrt v Z` with normal noise Z. This method adds no noise: X is
        transformed, and the score of :math:`X_s` is evaluated there. The result is the gradient
        with respect to X, in inverse units of X.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        noise_level : float, default=0.0
            Process time in [0, 1], from 0, the data, to 1, the end of the process. The process is
            that of the parameter ``process``, or :class:`~sklearn_dsm.VP` with its default
            parameters if the estimator has no parameter ``process``.

        Returns
        -------
        ndarray of shape (n_samples, n_features), float64
            At level 0, NaN outside of a known ``support``.

        Raises
        ------
        ValueError
            If ``noise_level`` is not in [0, 1], or is 1 for the process :class:`~sklearn_dsm.PBM`,
            which has no score there. If ``fit`` learned the score of another level only.
        """
        X = self._check_rows(X)
        if not isinstance(noise_level, Real) or not 0 <= float(noise_level) <= 1:
            raise ValueError(f"noise_level={noise_level!r} must be a number between 0 and 1.")
        self._require_level(f"the score at noise_level={noise_level:g}", float(noise_level))
        latent, density = Chain.from_arrays(self.latent_map_), self._latent_density()
        level = self._noise_at(float(noise_level))
        gradients = np.empty_like(X)
        for part in chunks(len(X), MAP_CHUNK_ROWS):
            Z, _ = latent.forward(X[part])
            gradient = density.gradient(Z) if level is None else density.score(Z, level)
            gradients[part] = latent.pull_back(X[part], gradient)
        return gradients

    def score(self, X, y=None):
        """Mean log-density of the samples, which a grid search maximises by default.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : Ignored

        Returns
        -------
        float
            Nats per sample, in the units of the input.
        """
        return float(np.mean(self.score_samples(X)))

    def _rows_and_weight(self, X, sample_weight):
        """The rows that count, in float64, and their weights, both checked."""
        return weighted_rows_to_fit(self, X, sample_weight)

    def _check_rows(self, X):
        take_one_thread_where_forked()
        return rows_to_evaluate(self, X)
