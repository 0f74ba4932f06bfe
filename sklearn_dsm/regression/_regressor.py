"""Conditional densities by score matching, on a cross-fitted location and scale."""

from __future__ import annotations

from numbers import Integral, Real

import numpy as np
import torch
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import (
    check_array,
    check_consistent_length,
    check_is_fitted,
    validate_data,
)

from .._budget import Budget
from .._compat import Interval, StrOptions
from .._core.likelihood.ode import SolverPlan
from .._evaluation.base import check_number_of_draws
from .._evaluation.latent_density import LatentDensity
from .._fit import InterruptedFit, whole_fit
from .._mixtures.parameters import full_covariances, mixture_from
from .._random import seed_from
from .._threads import take_one_thread_where_forked
from .._training import TrainingSettings
from .._validation import check_weight, evaluation_device, resolve_device
from ._features import Features, categorical_columns, table_of
from ._lattice import Lattice
from ._location_scale import cross_fitted
from ._residuals import (
    NETWORK_ROWS,
    ResidualCurves,
    builder_for,
    chosen_mixture,
    corrected,
)
from ._target_space import TargetSpace

MIN_SAMPLES = 4
# The share of the time in which means and scales are fitted.
LOCATION_SHARE = 0.6
# The share after which no more components are tried.
MIXTURE_UNTIL = 0.7
# The share at which the network's training ends, since its judgement takes time too.
TRAINED_UNTIL = 0.9
BATCH_SIZE, LEARNING_RATE, WEIGHT_DECAY, PATIENCE = 256, 3e-3, 0.01, 20
# A mean of bounded targets is over so many quantiles of one, or draws of several.
N_QUANTILES, N_DRAWS = 64, 1000
MIDDLES = (np.arange(N_QUANTILES) + 0.5) / N_QUANTILES
# A mean of a lattice's values is their sum where they are no more, without those of tails.
MAX_VALUES, FAR = 64, 1e-7
# Quantiles are at probabilities within these.
TINY, EPS = 1e-300, 1e-16
# Of the intervals whose calibration is told.
COVERAGES = (0.5, 0.8, 0.9, 0.95)


class DSMRegressor(RegressorMixin, BaseEstimator):
    r"""Conditional density of targets given features, by score matching.

    .. math:: y = m(x) + s(x) \odot L z, \qquad z \mid x \sim p(z \mid x).

    The mean m and the scale s are cross-fitted: each sample's are from regressors that did not see
    it. Predictions average over all folds, so residuals are shrunk by what that removes from
    errors. A Gaussian mixture, the same for all x, is fitted to them. From 400 samples on, a
    network is then trained by denoising score matching to correct the mixture's score given x, and
    is kept if it raises the log-density of held-out samples by more than one standard error.

    The log-density is exact: that of the probability-flow ODE in z, less the logarithms of s and
    of the transform of bounded targets.

    Parameters
    ----------
    reference : {"auto", "mixture", "gaussian"}, default="auto"
        What is fitted to the residuals: a Gaussian mixture with up to five components, their number
        chosen by cross-validation ("auto" and "mixture"), or a normal distribution.
    y_bounds : pair or array-like of shape (n_targets, 2), default=None
        Known bounds (low, high) of the targets; None in a pair is no bound. Targets are modelled on
        the logit scale between two bounds, and on the logarithmic scale with one bound.
    y_step : float or None, default=None
        Step between the values of one target, 1 for counts. The target then has a distribution on
        the values ..., y - y_step, y, y + y_step, ... within ``y_bounds``, which may be values
        themselves: ``score_samples`` returns logarithms of probabilities, and samples, quantiles
        and ends of intervals are such values. None is a continuous target.
    handle_unknown : {"ignore", "error"}, default="ignore"
        What to do about categories in X that ``fit`` has not seen: take them as missing or as rare
        ones, or raise an error.
    n_folds : int, default=5
        Number of folds of the cross-fitting, in each of two partitions of the samples.
    max_iter : int, default=500
        Largest number of boosting iterations for the mean.
    max_epochs : int, default=100
        Largest number of passes of the network's training; 0 is no network.
    max_fit_time : float or None, default=None
        Seconds that the fit may take. Where they are short there are fewer boosting iterations,
        regressors and partitions, and no network. The least fit, with a few iterations, is made
        in any case.
    likelihood : {"ode"}, default="ode"
        How log-densities are computed.
    device : str, default="auto"
        Where densities are evaluated: "auto", "cpu" or "cuda".
    random_state : int, RandomState or None, default=None
        Seed of folds, regressors and the network.
    verbose : int, default=0
        1 prints a line for each part of the fit.

    Attributes
    ----------
    calibration_ : dict
        Evidence of the final density on residuals of samples that the regressors, and the network
        if there is one, did not see: "pit", the probability integral transforms
        :math:`F(y_i \mid x_i)` of one target, which are uniform if the density is right, and
        "coverage", a dict from the nominal coverage of central intervals to the share of targets in
        them. With ``y_step``, of targets with uniform noise over their cells.
    uses_network_ : bool
        Whether the network was kept.
    n_iter_ : int
        Largest number of boosting iterations.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Only if X had names.
    n_targets_ : int

    Notes
    -----
    Columns of a DataFrame that hold strings, categories or booleans are categories. NaN and None
    are missing values, which trees and the network take as information.

    References
    ----------
    [ScoreSDE]_

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_dsm import DSMRegressor
    >>> random = np.random.default_rng(0)
    >>> X = random.uniform(-1, 1, size=(300, 1))
    >>> y = X[:, 0] + 0.1 * random.normal(size=300)
    >>> model = DSMRegressor(max_iter=30, random_state=0).fit(X, y)
    >>> model.predict_interval([[0.0]], coverage=0.9).shape
    (1, 2)
    >>> bool(model.score_samples([[0.0]], [0.0])[0] > model.score_samples([[0.0]], [1.0])[0])
    True
    """

    _parameter_constraints = {
        "reference": [StrOptions({"auto", "mixture", "gaussian"})],
        "y_bounds": ["array-like", None],
        "y_step": [Interval(Real, 0, None, closed="neither"), None],
        "handle_unknown": [StrOptions({"ignore", "error"})],
        "n_folds": [Interval(Integral, 2, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "max_epochs": [Interval(Integral, 0, None, closed="left")],
        "max_fit_time": [Interval(Real, 0, None, closed="neither"), None],
        "likelihood": [StrOptions({"ode"})],
        "device": [str],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        reference="auto",
        *,
        y_bounds=None,
        y_step=None,
        handle_unknown="ignore",
        n_folds=5,
        max_iter=500,
        max_epochs=100,
        max_fit_time=None,
        likelihood="ode",
        device="auto",
        random_state=None,
        verbose=0,
    ):
        self.reference = reference
        self.y_bounds = y_bounds
        self.y_step = y_step
        self.handle_unknown = handle_unknown
        self.n_folds = n_folds
        self.max_iter = max_iter
        self.max_epochs = max_epochs
        self.max_fit_time = max_fit_time
        self.likelihood = likelihood
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    @whole_fit
    def fit(self, X, y, sample_weight=None):
        """Fit the conditional density.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
        sample_weight : array-like of shape (n_samples,) or None, default=None

        Returns
        -------
        self : DSMRegressor

        Raises
        ------
        ValueError
            If a target is constant, or at or beyond a bound; with ``y_step``, if it is beyond a
            bound or not on the lattice, or if there are several targets.
        """
        budget, seed = Budget(self.max_fit_time), seed_from(self.random_state)
        resolve_device(self.device)
        X, y = self._checked(X, y)
        y = self._on_the_line(y, seed)
        weight = check_weight(sample_weight, y)
        X = X.iloc[weight > 0] if hasattr(X, "iloc") else X[weight > 0]
        y, weight = y[weight > 0], weight[weight > 0] / weight[weight > 0].mean()
        u, _ = self._space.forward(y)
        self._check_targets(y, u)
        numbers = self._features.numbers(X)
        context = self._features.context(X, numbers)
        mean, log_scale, z = self._fit_locations(numbers, context, u, weight, budget, seed)
        self._factor = _factor(z, weight)
        z = z @ np.linalg.inv(self._factor).T
        mixture = (
            chosen_mixture(z, weight, seed, budget.first(MIXTURE_UNTIL))
            if self.reference != "gaussian"
            else mixture_from(np.ones(1), z.mean(0)[None], np.cov(z.T).reshape(1, *2 * z.shape[1:]))
        )
        self.mixture_: dict[str, np.ndarray] = {
            "weights": mixture.weights_,
            "means": mixture.means_,
            "covariances": full_covariances(mixture),
        }
        given = self._context(context, mean, log_scale, reset=True)
        judges = self._train(mixture, z, given, weight, budget, seed)
        self._calibrate(z[judges], given[judges], weight[judges])
        if self.stop_reason_ == "interrupted":
            raise InterruptedFit("The fit was interrupted. The estimator keeps what it learned.")
        return self

    def predict(self, X):
        """Conditional means.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_targets)
        """
        given, mean, log_scale = self._given(X)
        if self._lattice is not None:
            found = self._lattice_means(self._lattice, given, mean, log_scale)
        elif not self._space.is_bounded:
            found = mean + np.exp(log_scale) * (self._factor @ self._mixture_mean())
        else:
            found = self._bounded_means(given, mean, log_scale)
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
        given, mean, log_scale = self._given(X)
        self._require_one_target("quantiles")
        wanted = np.asarray(quantiles, dtype=float)
        if wanted.ndim != 1 or not ((wanted > 0) & (wanted < 1)).all():
            raise ValueError(f"quantiles={quantiles!r} must be numbers between 0 and 1.")
        return self._on_the_lattice(self._quantiles(wanted, given, mean, log_scale))

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
        given, mean, log_scale = self._given(X)
        y = self._targets(y, len(given))
        if self._lattice is not None:
            low, high = (
                self._standardised(u, mean, log_scale)[:, 0] for u in self._lattice.cells(y)
            )
            found = self._curves().log_mass(low, high, given)
            return np.where(self._lattice.holds(y[:, 0]), found, -np.inf)
        u, log_slope = self._space.forward(y)
        inside = np.isfinite(log_slope)
        z = self._standardised(u, mean, log_scale)
        found = np.full(len(z), -np.inf)
        if inside.any():
            values, _ = self._density().log_density(z[inside], given[inside])
            found[inside] = values
        log_volume = log_scale.sum(1) + np.log(np.diag(self._factor)).sum()
        return found - log_volume + log_slope

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
        given, mean, log_scale = self._given(X)
        self._require_one_target("the distribution function")
        y = self._targets(y, len(given))
        if self._lattice is not None:
            z = self._standardised(self._lattice.upper_ends(y), mean, log_scale)
            return self._curves().cdf(z[:, 0], given)
        u, log_slope = self._space.forward(y)
        inside = np.isfinite(log_slope)
        found = (y[:, 0] >= self._space.high[0]).astype(float)
        if inside.any():
            z = self._standardised(u[inside], mean[inside], log_scale[inside])
            found[inside] = self._curves().cdf(z[:, 0], given[inside])
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
        given, mean, log_scale = self._given(X)
        every = np.repeat(given, number, axis=0)
        z = self._density().sample(len(every), "ode", seed_from(random_state), every)
        z = (z @ self._factor.T).reshape(len(given), number, -1)
        u = mean[:, None] + np.exp(log_scale)[:, None] * z
        for j in range(self.n_targets_):
            u[..., j] = self._on_the_lattice(self._space.inverse(u[..., j], j))
        return u[..., 0] if self._one_dimensional else u

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
        try:
            from ._skpro import SkproRegressor
        except ModuleNotFoundError as error:
            raise ImportError(
                "as_skpro() needs skpro. Install it with: pip install 'sklearn-dsm[skpro]'"
            ) from error
        if hasattr(self, "n_targets_"):
            self._require_one_target("distributions of skpro")
        return SkproRegressor.of(self)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        tags.target_tags.multi_output = True
        return tags

    def _checked(self, X, y) -> tuple:
        """The table as it is and targets (n, n_targets), with what is known of both stored."""
        categorical = categorical_columns(X)
        if categorical:
            # Categories are encoded later; scikit-learn would make numbers of them.
            validate_data(self, X, skip_check_array=True)
            X = table_of(X)
            y = check_array(y, ensure_2d=False, dtype=np.float64, ensure_min_samples=MIN_SAMPLES)
            check_consistent_length(X, y)
        else:
            X, y = validate_data(
                self,
                X,
                y,
                dtype=np.float64,
                ensure_all_finite="allow-nan",
                multi_output=True,
                y_numeric=True,
                ensure_min_samples=MIN_SAMPLES,
            )
        self._one_dimensional = y.ndim == 1
        y = np.asarray(y, dtype=np.float64).reshape(len(y), -1)
        self.n_targets_ = y.shape[1]
        self._space = TargetSpace(self.y_bounds, self.n_targets_)
        names = getattr(self, "feature_names_in_", None)
        self._features = Features(X, categorical, self.handle_unknown == "error", names)
        return X, y

    def _check_targets(self, y, u) -> None:
        constant = np.ptp(y, axis=0) == 0
        if constant.any():
            raise ValueError(
                f"Target {int(np.flatnonzero(constant)[0])} is {y[0, constant][0]:g} for all "
                "samples, so it has no density. Leave it out."
            )
        if not np.isfinite(u).all():
            row, j = np.argwhere(~np.isfinite(u))[0]
            raise ValueError(
                f"y is {y[row, j]:g} in sample {row}, at or beyond a bound of y_bounds. A density "
                "has no mass at a bound; move the bounds, or leave them out."
            )

    def _fit_locations(self, numbers, context, u, weight, budget, seed):
        """Means and log-scales (n, n_targets) of unseen samples, and standardised residuals."""
        n_folds = min(self.n_folds, len(u) // 2)
        found = [
            cross_fitted(
                numbers,
                context,
                self._features.categorical,
                u[:, j],
                weight,
                n_folds,
                self.max_iter,
                seed,
                None if self.max_fit_time is None else self._seconds(budget, j),
            )
            for j in range(self.n_targets_)
        ]
        self._locations = [each.fitted for each in found]
        self.n_iter_ = max(each.n_iter for each in self._locations)
        self._say(f"means and scales cross-fitted over {n_folds} folds")
        mean, log_scale = (np.stack([f[k] for f in found], 1) for k in (1, 2))
        return mean, log_scale, (u - mean) * np.exp(-log_scale) * [f.ratio for f in found]

    def _seconds(self, budget: Budget, j: int) -> float:
        """For the cross-fitting of target j."""
        return budget.left(LOCATION_SHARE) / (self.n_targets_ - j)

    def _train(self, mixture, z, given, weight, budget, seed) -> np.ndarray:
        """Train the network, and tell which samples judge the density (a mask)."""
        self.network_weights_: dict[str, np.ndarray] = {}
        self.stop_reason_ = "too_few_samples"
        judges = np.ones(len(z), dtype=bool)
        if budget.left(TRAINED_UNTIL) <= 0:
            self.stop_reason_ = "max_fit_time"
        elif self.max_epochs and len(z) >= NETWORK_ROWS:
            settings = TrainingSettings(
                max_epochs=self.max_epochs,
                batch_size=BATCH_SIZE,
                learning_rate=LEARNING_RATE,
                n_iter_no_change=PATIENCE,
                weight_decay=WEIGHT_DECAY,
                max_fit_time=None if self.max_fit_time is None else budget.left(TRAINED_UNTIL),
            )
            builder = builder_for(z.shape[1], given.shape[1], torch.device("cpu"))
            weights, held_out, record = corrected(
                builder, mixture, z, given, weight, settings, seed
            )
            self.network_weights_, self.stop_reason_ = weights, record.stop_reason
            if weights:
                judges = held_out
            kept = "kept" if weights else "not kept"
            self._say(f"network: {record.n_epochs} epochs, {kept}")
        self.uses_network_ = bool(self.network_weights_)
        return judges

    def _calibrate(self, z, given, weight) -> None:
        self.calibration_ = {}
        if z.shape[1] > 1:
            return
        pit = self._curves().cdf(z[:, 0], given)
        inside = np.abs(2 * pit - 1)
        self.calibration_ = {
            "pit": pit,
            "coverage": {c: float(np.average(inside <= c, weights=weight)) for c in COVERAGES},
        }

    def _given(self, X) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Contexts (n, n_context) of the network, means and log-scales (n, n_targets)."""
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
        found = [each.predict(numbers, context) for each in self._locations]
        mean, log_scale = (np.stack(part, 1) for part in zip(*found, strict=True))
        return self._context(context, mean, log_scale), mean, log_scale

    def _context(self, context, mean, log_scale, reset=False) -> np.ndarray:
        """What the network sees of each sample."""
        located = np.concatenate([mean, log_scale], axis=1)
        if reset:
            self._centre, scale = located.mean(0), located.std(0)
            self._spread = np.where(scale > 0, scale, 1.0)
        return np.concatenate([context, ((located - self._centre) / self._spread).clip(-5, 5)], 1)

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

    def _standardised(self, u, mean, log_scale) -> np.ndarray:
        return ((u - mean) * np.exp(-log_scale)) @ np.linalg.inv(self._factor).T

    def _mixture(self):
        parts = self.mixture_
        return mixture_from(parts["weights"], parts["means"], parts["covariances"])

    def _mixture_mean(self) -> np.ndarray:
        return self.mixture_["weights"] @ self.mixture_["means"]

    def _density(self) -> LatentDensity:
        n_context = self._n_context()
        builder = builder_for(self.n_targets_, n_context, evaluation_device(self.device))
        return builder.density(self._mixture(), self.network_weights_, "ode", SolverPlan())

    def _n_context(self) -> int:
        weights = self.network_weights_
        return weights["context_weight"].shape[1] if weights else 0

    def _curves(self) -> ResidualCurves:
        return ResidualCurves(self._density(), self._mixture())

    def _quantiles(self, probabilities, given, mean, log_scale) -> np.ndarray:
        """Quantiles (n, k) of one target, before they are rounded to its lattice."""
        z = self._curves().quantiles(probabilities, given)
        return self._space.inverse(mean + np.exp(log_scale) * self._factor[0, 0] * z)

    def _ppf(self, X, probabilities) -> np.ndarray:
        """The quantile (n,) of each sample at a probability of its own."""
        given, mean, log_scale = self._given(X)
        self._require_one_target("quantiles")
        z = self._curves().quantile_of_each(np.clip(probabilities, TINY, 1 - EPS), given)
        u = mean[:, 0] + np.exp(log_scale[:, 0]) * self._factor[0, 0] * z
        return self._on_the_lattice(self._space.inverse(u))

    def _on_the_line(self, y, seed) -> np.ndarray:
        """Targets as they are, or spread over the cells of a lattice."""
        self._lattice = None
        if self.y_step is None:
            return y
        if self.n_targets_ > 1:
            raise ValueError(
                f"y_step={self.y_step!r} is for one target, and y has {self.n_targets_}. Fit one "
                "estimator to each target."
            )
        low, high = self._space.low[0], self._space.high[0]
        self._lattice = Lattice(y[:, 0], self.y_step, low, high)
        # The cells at the bounds take the mass beyond them.
        self._space = TargetSpace(None, 1)
        spread = self._lattice.spread(y[:, 0], np.random.RandomState([seed, 1]))
        return spread[:, None] if np.ptp(y) else y

    def _on_the_lattice(self, y) -> np.ndarray:
        return y if self._lattice is None else self._lattice.nearest(y)

    def _lattice_means(self, lattice: Lattice, given, mean, log_scale) -> np.ndarray:
        """Sums of values times probabilities, or means of quantiles where there are many."""
        ends = self._quantiles(np.array([FAR, 1 - FAR]), given, mean, log_scale)
        low, high = lattice.nearest(ends).T
        n_ends = round(np.max(high - low) / lattice.step)
        if n_ends > MAX_VALUES:
            values = self._quantiles(MIDDLES, given, mean, log_scale)
            low, high = lattice.limits
            return values.clip(low, high).mean(1, keepdims=True)
        found, curves = low.copy(), self._curves()
        for k in range(n_ends):
            y = (low + k * lattice.step)[:, None]
            z = self._standardised(lattice.upper_ends(y), mean, log_scale)
            found += lattice.step * (1 - curves.cdf(z[:, 0], given))
        return found[:, None]

    def _bounded_means(self, given, mean, log_scale) -> np.ndarray:
        """Means of transformed targets, which are not transforms of means."""
        if self.n_targets_ == 1:
            return self._quantiles(MIDDLES, given, mean, log_scale).mean(1, keepdims=True)
        found, density = np.empty_like(mean), self._density()
        random = np.random.RandomState(0)
        for i in range(len(given)):
            every = np.repeat(given[i : i + 1], N_DRAWS, axis=0)
            z = density.sample(N_DRAWS, "ode", random.randint(2**31 - 1), every)
            u = mean[i] + np.exp(log_scale[i]) * (z @ self._factor.T)
            found[i] = [self._space.inverse(u[:, j], j).mean() for j in range(self.n_targets_)]
        return found

    def _require_one_target(self, what: str) -> None:
        if self.n_targets_ > 1:
            raise ValueError(
                f"There are {what} of one target only, and this estimator was fitted to "
                f"{self.n_targets_}. Use sample(), or fit one estimator to each target."
            )

    def _say(self, line: str) -> None:
        if self.verbose:
            print(f"[DSMRegressor] {line}", flush=True)


def _factor(z: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The lower triangular factor of the residuals' second moments."""
    moments = (z * weight[:, None]).T @ z / weight.sum()
    return np.linalg.cholesky(moments + 1e-12 * np.trace(moments) * np.eye(len(moments)))
