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
from ._features import Features, categorical_columns
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
BATCH_SIZE, LEARNING_RATE, WEIGHT_DECAY, PATIENCE = 256, 3e-3, 0.01, 20
# A mean of bounded targets is over so many quantiles of one, or draws of several.
N_QUANTILES, N_DRAWS = 64, 1000
# Of the intervals whose calibration is told.
COVERAGES = (0.5, 0.8, 0.9, 0.95)


class DSMRegressor(RegressorMixin, BaseEstimator):
    r"""Conditional density of targets given features, by score matching.

    .. math:: y = m(x) + s(x) \odot L z, \qquad z \mid x \sim p(z \mid x).

    The mean m and the scale s are cross-fitted: each sample's are from regressors that did not see
    it. A Gaussian mixture, the same for all x, is fitted to the residuals z. From 400 samples on, a
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
    n_folds : int, default=5
        Number of folds of the cross-fitting.
    max_iter : int, default=500
        Largest number of boosting iterations for the mean.
    max_epochs : int, default=100
        Largest number of passes of the network's training; 0 is no network.
    max_fit_time : float or None, default=None
        Seconds after which the training of the network ends. The cross-fitting is not shortened.
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
        Evidence on samples that the density did not see: "pit", the probability integral transforms
        :math:`F(y_i \mid x_i)` of one target, which are uniform if the density is right, and
        "coverage", a dict from the nominal coverage of central intervals to the share of targets in
        them.
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
            If a target is constant, or at or beyond a bound.
        """
        budget, seed = Budget(self.max_fit_time), seed_from(self.random_state)
        resolve_device(self.device)
        X, y = self._checked(X, y)
        weight = check_weight(sample_weight, y)
        X = X.iloc[weight > 0] if hasattr(X, "iloc") else X[weight > 0]
        y, weight = y[weight > 0], weight[weight > 0] / weight[weight > 0].mean()
        u, _ = self._space.forward(y)
        self._check_targets(y, u)
        numbers = self._features.numbers(X)
        context = self._features.context(X, numbers)
        mean, log_scale = self._fit_locations(numbers, context, u, weight, seed)
        z = (u - mean) * np.exp(-log_scale)
        self._factor = _factor(z, weight)
        z = z @ np.linalg.inv(self._factor).T
        mixture = (
            chosen_mixture(z, weight, seed)
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
        if not self._space.is_bounded:
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
        z = self._curves().quantiles(wanted, given)
        u = mean + np.exp(log_scale) * self._factor[0, 0] * z
        return self._space.inverse(u)

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
            :math:`\\log p(y_i \\mid x_i)`; -inf at or beyond a bound.
        """
        given, mean, log_scale = self._given(X)
        u, log_slope = self._space.forward(self._targets(y, len(given)))
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
            Probabilities that the target is below y.
        """
        given, mean, log_scale = self._given(X)
        self._require_one_target("the distribution function")
        y = self._targets(y, len(given))
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
            u[..., j] = self._space.inverse(u[..., j], j)
        return u[..., 0] if self._one_dimensional else u

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
        self._features = Features(X, categorical)
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

    def _fit_locations(self, numbers, context, u, weight, seed):
        n_folds = min(self.n_folds, len(u) // 2)
        found = [
            cross_fitted(
                numbers,
                context,
                self._features.categorical,
                target,
                weight,
                n_folds,
                self.max_iter,
                seed,
            )
            for target in u.T
        ]
        self._locations = [each.fitted for each in found]
        self.n_iter_ = max(each.n_iter for each in self._locations)
        self._say(f"means and scales cross-fitted over {n_folds} folds")
        return np.stack([f.mean for f in found], 1), np.stack([f.log_scale for f in found], 1)

    def _train(self, mixture, z, given, weight, budget, seed) -> np.ndarray:
        """Train the network, and tell which samples judge the density (a mask)."""
        self.network_weights_: dict[str, np.ndarray] = {}
        self.stop_reason_ = "too_few_samples"
        judges = np.ones(len(z), dtype=bool)
        if self.max_epochs and len(z) >= NETWORK_ROWS and budget.left() > 0:
            settings = TrainingSettings(
                max_epochs=self.max_epochs,
                batch_size=BATCH_SIZE,
                learning_rate=LEARNING_RATE,
                n_iter_no_change=PATIENCE,
                weight_decay=WEIGHT_DECAY,
                max_fit_time=None if self.max_fit_time is None else budget.left(),
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

    def _bounded_means(self, given, mean, log_scale) -> np.ndarray:
        """Means of transformed targets, which are not transforms of means."""
        if self.n_targets_ == 1:
            probabilities = (np.arange(N_QUANTILES) + 0.5) / N_QUANTILES
            z = self._curves().quantiles(probabilities, given)
            u = mean + np.exp(log_scale) * self._factor[0, 0] * z
            return self._space.inverse(u).mean(1, keepdims=True)
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
