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
from .._columns import refuse_odd_targets
from .._compat import Interval, StrOptions
from .._fit import InterruptedFit, whole_fit
from .._mixtures.parameters import full_covariances
from .._random import seed_from
from .._summary import SummaryMixin, in_nats
from .._tabular.frames import refuse_columns_of_dates
from .._training import TrainingSettings
from .._validation import check_weight, resolve_device
from ._features import Features, categorical_columns, table_of
from ._lattice import Lattice
from ._location_scale import Views, cross_fitted
from ._neighbours import N_FEATURES, Neighbours, has_neighbours
from ._pool import Samples, fit_pool
from ._predictions import Predictions
from ._residuals import FixedMixture, chosen_mixture, normal
from ._score_network import NETWORK_ROWS, builder_for, corrected
from ._target_space import TargetSpace

MIN_SAMPLES = 4
# The share of the time in which means and scales are fitted.
LOCATION_SHARE = 0.5
# The share after which no more components are tried.
MIXTURE_UNTIL = 0.6
# The share at which the networks' training ends, since their judgement takes time too.
TRAINED_UNTIL = 0.9
BATCH_SIZE, LEARNING_RATE, WEIGHT_DECAY, PATIENCE = 256, 3e-3, 0.01, 20
# Of the intervals whose calibration is told.
COVERAGES = (0.5, 0.8, 0.9, 0.95)


class DSMRegressor(SummaryMixin, Predictions, RegressorMixin, BaseEstimator):
    r"""Conditional density of targets given features, by score matching.

    .. math:: y = m(x) + s(x) \odot z, \qquad z \mid x \sim p(z \mid x).

    The mean m and the scale s are cross-fitted: each sample's are from regressors that did not see
    it. Predictions average over all folds, so residuals are shrunk by what that removes from
    errors. A Gaussian mixture, the same for all x, is fitted to them.

    For one target, networks from features to mixtures of normals are trained without a fold each:
    of the residuals, of the target given features, mean and scale, and of the target given features
    alone. With more than 2,000 samples there are networks, and a regressor of the mean, that see
    the targets of the ten nearest training samples and their distances too.
    Their training maximises the likelihood, which is denoising score matching integrated over all
    noise levels with the likelihood weighting [ScoreSDE]_, in closed form. The density is a pool,

    .. math:: p(y \mid x) = \sum_c w_c\, p_c(y \mid x),

    of the fixed mixture and the networks. Its weights w maximise the likelihood of samples that the
    networks did not see. All of it is one mixture of normals for each x, so log-densities,
    distribution functions and means are closed forms.

    For several targets, the residuals have a dependence :math:`L z`, and from 400 samples on a
    network trained by denoising score matching corrects the mixture's score given x. It is kept if
    it raises the log-density of held-out samples by more than one standard error. The log-density
    is then that of the probability-flow ODE in z.

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
        Number of folds of the cross-fitting, in each partition of the samples: there are two up to
        2,000 samples, and above one.
    max_iter : int, default=500
        Largest number of boosting iterations, for the mean and, up to 150, for the scale.
    max_epochs : int, default=300
        Largest number of passes of the networks' training; 0 is no network.
    max_fit_time : float or None, default=None
        Seconds that the fit may take. Where they are short there are fewer boosting iterations,
        regressors and partitions, and no network. The least fit, with a few iterations, is made
        in any case.
    device : str, default="auto"
        Where densities are evaluated: "auto", "cpu" or "cuda".
    random_state : int, RandomState or None, default=None
        Seed of folds, regressors and networks.
    verbose : int, default=0
        1 prints a line for each part of the fit.

    Attributes
    ----------
    calibration_ : dict
        Evidence on up to 10,000 samples that regressors and networks did not see: "pit", the
        probability integral transforms :math:`F(y_i \mid x_i)` of one target, which are uniform if
        the density is right, and "coverage", a dict from the nominal coverage of central intervals
        to the share of targets in them. With ``y_step``, of targets with uniform noise over their
        cells. Empty for several targets.
    validation_log_likelihood_ : dict of str to float
        Mean log-densities of the same samples, nats per sample, in the units of the target:
        "selected", of the fitted density by regressors and networks that did not see the sample,
        and "normal", of a normal distribution around the same means with one standard deviation
        for all samples; with ``y_bounds``, it is on the logit or logarithmic scale. Empty for
        several targets.
    fit_time_ : float
        Seconds that the fit took.
    pool_weights_ : dict
        Weights of the density of one target: of the fixed "mixture" of residuals, and of networks
        of "residuals", of "targets" given features, mean and scale, of targets given "features"
        alone, and of targets given the nearest "neighbours" too. Empty for several targets.
    uses_network_ : bool
        Whether a network has a weight.
    n_iter_ : int
        Largest number of boosting iterations.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features,)
        Only if X had names.
    n_targets_ : int

    Notes
    -----
    Columns of a DataFrame that hold strings, categories or booleans are categories. NaN and None
    are missing values, which trees and networks take as information.

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
        max_epochs=300,
        max_fit_time=None,
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
        near = self._fit_neighbours(context, u)
        views = Views(numbers, context, None if near is None else np.hstack([numbers, near]))
        mean, log_scale, ratios = self._fit_locations(views, u, weight, budget, seed)
        if not self._locations[0].sees_neighbours:
            self._neighbours = near = None
        located = self._located(near, mean, log_scale)
        self._centre, scale = located.mean(0), located.std(0)
        self._spread = np.where(scale > 0, scale, 1.0)
        given = self._seen(context, near, mean, log_scale)
        fit_density = self._fit_pool if self.n_targets_ == 1 else self._fit_scores
        fit_density(u, given, weight, ratios, budget, seed)
        self.fit_time_ = budget.taken
        if self.stop_reason_ == "interrupted":
            raise InterruptedFit("The fit was interrupted. The estimator keeps what it learned.")
        return self

    def summary(self):
        """Say what ``fit`` selected, and how well it fits samples that it did not see.

        Returns
        -------
        dict of str to str
            Lines to print; a notebook shows them below the parameters.
        """
        check_is_fitted(self)
        k = len(self.mixture_["weights"])
        lines = {
            "means and scales": f"gradient boosting, up to {self.n_iter_} iterations",
            "residuals": f"Gaussian mixture of {k} components" if k > 1 else "Gaussian",
            "networks": f"{'used' if self.uses_network_ else 'not used'}, {self.stop_reason_}",
            "time": f"{self.fit_time_:.1f} s",
        }
        if not self.calibration_:
            return lines
        weights = (f"{name} {share:.0%}" for name, share in self.pool_weights_.items() if share)
        found = self.validation_log_likelihood_
        return lines | {
            "weights in the density": ", ".join(weights),
            "log-likelihood of unseen samples": in_nats(found["selected"]),
            "gain over normal residuals": in_nats(found["selected"] - found["normal"], "+"),
            "coverage of 90 % intervals": f"{self.calibration_['coverage'][0.9]:.1%}",
        }

    def score(self, X, y, sample_weight=None):
        """Coefficient of determination of the means, :math:`R^2`.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
        sample_weight : array-like of shape (n_samples,) or None, default=None

        Returns
        -------
        float
            One less the squared errors of ``predict`` divided by those of the mean of y; of several
            targets, the average.
        """
        return super().score(X, y, sample_weight=sample_weight)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        tags.target_tags.multi_output = True
        return tags

    def _checked(self, X, y) -> tuple:
        """The table as it is and targets (n, n_targets), with what is known of both stored."""
        refuse_columns_of_dates(X)
        refuse_odd_targets(y)
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

    def _fit_neighbours(self, context, u) -> np.ndarray | None:
        """What is known of the samples by the targets of their neighbours."""
        self._neighbours = None
        if self.n_targets_ > 1 or not has_neighbours(context):
            return None
        target = (u[:, 0] - u[:, 0].mean()) / u[:, 0].std()
        self._neighbours = Neighbours(context, target)
        return self._neighbours.features()

    def _fit_locations(self, views, u, weight, budget, seed):
        """Means and log-scales (n, n_targets) of unseen samples, and ratios of residuals."""
        n_folds = min(self.n_folds, len(u) // 2)
        found = [
            cross_fitted(
                views,
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
        return mean, log_scale, np.array([f.ratio for f in found])

    def _seconds(self, budget: Budget, j: int) -> float:
        """For the cross-fitting of target j."""
        return budget.left(LOCATION_SHARE) / (self.n_targets_ - j)

    def _fit_pool(self, u, given, weight, ratios, budget, seed) -> None:
        """One target: networks of mixtures of normals, pooled with the mixture of residuals."""
        columns = u[:, 0], given.mean[:, 0], given.log_scale[:, 0]
        n_near = 0 if self._neighbours is None else N_FEATURES
        samples = Samples(given.context, *columns, weight, ratios[0], n_near)
        centre = float(np.average(u[:, 0], weights=weight))
        spread = float(np.sqrt(np.average((u[:, 0] - centre) ** 2, weights=weight)))
        fixed = self._mixture_of(samples.residual[:, None], weight, budget, seed)
        until = budget.first(TRAINED_UNTIL)
        found = fit_pool(samples, fixed, centre, spread, self.max_epochs, until, seed)
        self._pool, self.stop_reason_ = found.pool, found.stop_reason
        self._keep(fixed, self._pool.state)
        self.pool_weights_: dict[str, float] = dict(
            zip(("mixture", *samples.kinds), self._pool.shares.tolist(), strict=True)
        )
        self._say(f"networks: {self.stop_reason_}, weights {self.pool_weights_}")
        inside = np.abs(2 * found.pit - 1)
        judging = weight[found.judged]
        share = {c: float(np.average(inside <= c, weights=judging)) for c in COVERAGES}
        self.calibration_: dict = {"pit": found.pit, "coverage": share}
        one_scale = normal((u - given.mean)[:, :1], weight).unseen[found.judged]
        # The slope of the scale on which targets are modelled, for the units of the target.
        log_slope = self._space.forward(self._inverse(u))[1][found.judged]
        self.validation_log_likelihood_: dict[str, float] = {
            name: float(np.average(values + log_slope, weights=judging))
            for name, values in (("normal", one_scale), ("selected", found.log_density))
        }

    def _fit_scores(self, u, given, weight, ratios, budget, seed) -> None:
        """Several targets: a mixture of residuals, whose score a network corrects."""
        z = (u - given.mean) * np.exp(-given.log_scale) * ratios
        self._factor = _factor(z, weight)
        z = z @ np.linalg.inv(self._factor).T
        fixed = self._mixture_of(z, weight, budget, seed)
        weights, self.stop_reason_ = {}, "too_few_samples"
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
            builder = builder_for(z.shape[1], given.context.shape[1], torch.device("cpu"))
            weights, record = corrected(
                builder, fixed.mixture, z, given.context, weight, settings, seed
            )
            self.stop_reason_ = record.stop_reason
            self._say(f"network: {record.n_epochs} epochs, {'kept' if weights else 'not kept'}")
        self._keep(fixed, weights)
        self.pool_weights_, self.calibration_, self.validation_log_likelihood_ = {}, {}, {}

    def _mixture_of(self, z, weight, budget, seed) -> FixedMixture:
        if self.reference == "gaussian":
            return normal(z, weight)
        return chosen_mixture(z, weight, seed, budget.first(MIXTURE_UNTIL))

    def _keep(self, fixed: FixedMixture, weights: dict[str, np.ndarray]) -> None:
        self.mixture_: dict[str, np.ndarray] = {
            "weights": fixed.mixture.weights_,
            "means": fixed.mixture.means_,
            "covariances": full_covariances(fixed.mixture),
        }
        self.network_weights_, self.uses_network_ = weights, bool(weights)

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

    def _say(self, line: str) -> None:
        if self.verbose:
            print(f"[DSMRegressor] {line}", flush=True)


def _factor(z: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The lower triangular factor of the residuals' second moments."""
    moments = (z * weight[:, None]).T @ z / weight.sum()
    return np.linalg.cholesky(moments + 1e-12 * np.trace(moments) * np.eye(len(moments)))
