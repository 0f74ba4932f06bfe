"""Gaussian location mixtures with any mixing law, by polynomial regression of scores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from scipy.stats import beta, multivariate_normal

from .._budget import Budget
from .._compat import Interval, StrOptions
from .._core.arrays import tensor_of
from .._core.distributions.gaussian import GaussianScore
from .._core.likelihood.ode import SolverPlan
from .._core.noise.level_sampling import LogisticLevels
from .._core.noise.processes import VP
from .._core.random import torch_generator
from .._core.scores.polynomial import PolynomialScore
from .._core.scores.polynomial_fit import Regressions, fit_polynomial_score
from .._evaluation.base import BaseDensity
from .._evaluation.latent_density import LatentDensity
from .._fit import whole_fit
from .._random import seed_from
from .._transforms.chain import Chain
from .._transforms.fitting import linear_map
from .._validation import distinct_rows, effective_number
from ._envelope_density import Envelope, EnvelopeDensity, bounded
from ._integration import affordable_nodes, line_nodes, rung_nodes
from ._line_density import LineDensity, LogLinearCurve
from ._location_checks import (
    Coverage,
    Entropy,
    SelfCheck,
    compare_with_kernels,
    warn_of_short_time,
    warn_of_untrusted,
)
from ._rungs import level_times, rung_from_arrays, rung_to_arrays

# Cells are this many component deviations wide.
COVER_SCALES = 2.5
LOWEST_LOG_SNR = -8.0
CONFIDENCE = 0.95
# The scores jump between cells, so no number of steps would satisfy a small tolerance.
CHECK_PLAN, ODE_TOLERANCE = SolverPlan(40), 0.1
# Share of max_fit_time for the regressions; the rest is for the integral.
REGRESSION_SHARE = 0.6
# No peak is narrower than the scale, or than this, in deviations of the rows.
WIDEST_PEAK = 0.3


class LocationMixtureScoreEstimator(BaseDensity):
    r"""Gaussian location mixture with an arbitrary mixing distribution.

    .. math:: p = Q * N(0, \sigma^2 I)

    is the convolution of an unknown mixing distribution :math:`Q`, discrete or not, with a normal
    distribution whose :math:`\sigma` is ``scale``. There is no number of components to choose. If
    :math:`\sigma` is the standard deviation of a measurement error, p is the density of the
    measured values, and Q is the distribution of the values without error. Only p is estimated.

    The score, the gradient of the log-density of noised samples, is fitted level by level, from
    high noise to low. At each level, the fits at noisier levels denoise the noised samples. The
    denoised values are grouped into cells around centres. In each cell, the noise is regressed on
    polynomials of the noised sample. The log-density follows by the likelihood identity, an
    integral over all noise levels of squared errors in predicting the added noise.

    Parameters
    ----------
    scale : float or "auto", default="auto"
        Standard deviation :math:`\sigma` of the components.

        - A number: in the units of the input, the same for every feature. For a known
          measurement error.
        - "auto": Scott's rule for each feature, its standard deviation times
          :math:`n^{-1/(d+4)}`. For data that are not a location mixture.
    degree : int or "auto", default="auto"
        Total degree of the polynomials. "auto": 5, 4 and 3 for one, two and three features,
        and 2 for more.
    n_levels : int or "auto", default="auto"
        Number of noise levels. With "auto", the logarithm of the signal-to-noise ratio changes by
        at most 0.5 from level to level. This takes 25 levels or a few more, and twice as many if
        clusters are thousands of scales apart.
    shortest_time : float or "auto", default="auto"
        Ornstein-Uhlenbeck time t of the level with the least noise, for samples of unit variance.
        The noise has the standard deviation :math:`\sqrt{1 - e^{-2t}}`, and the fitted density
        has no finer details. With "auto", this standard deviation is a quarter of the scale, but
        at most 0.06.
    n_noise : int, default=4
        Number of pairs of opposite noise vectors for each sample and level.
    max_fit_time : float or None, default=None
        Seconds for ``fit``. If there is no time for all samples, the regression at every level
        uses a random subset of them, as large as the time allows. The integral of the density then
        uses fewer points. The result then depends on the speed of the machine. For a reproducible
        fit, leave ``max_fit_time`` at None and set ``random_state`` to an integer. ``fit`` may
        exceed the time by 10 % and two seconds.
    likelihood : {"identity", "ode"}, default="identity"
        How log-densities are computed from scores.

        - "identity": by the likelihood identity, which needs no derivative of the scores.
          ``sample`` draws from this density.
        - "ode": by the probability-flow ODE, which ``sample`` solves too. The ODE needs
          derivatives, and the scores jump between cells, so the error is several times larger.
    random_state : int, RandomState or None, default=None
        Seed of the noise and the cells.

    Attributes
    ----------
    centers_ : ndarray of shape (n_cells, n_features)
        Centres of the cells at the level with the least noise, in the units of the input.
    scale_ : ndarray of shape (n_features,)
        Standard deviation of the components in every feature.
    degree_ : int
    log_mass_ : float
        Logarithm of the integral by which the density of the likelihood identity is divided.
    rungs_ : list of dict of str to ndarray
        The regression at every level, from low to high noise.
    bound_ : dict
        What ``sample`` uses with ``likelihood="identity"``, in standardised features. With one
        feature, the points of the quadrature and the log-densities there. With more features, the
        kernel estimate, and the logarithm of an upper bound on the ratio of the density to it.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features; only if X had names.

    Notes
    -----
    With learned scores, the identity gives a density that does not integrate to one. ``fit``
    therefore computes the integral and divides the density by it. With ``likelihood="identity"``,
    log-densities and samples belong to the same distribution:

    - With one feature, ``fit`` evaluates the identity at points, a tenth of the scale apart near
      samples. The log-density is linear between the points, and that of a normal distribution
      beyond all of them. The integral of this density is exact, and so is its quantile function,
      by which ``sample`` draws.
    - With more features, ``sample`` accepts or rejects draws from a kernel estimate. Where the
      density exceeds a fixed multiple of the kernel estimate, it is lowered to this multiple. This
      happens far from all samples. Usually 15 to 50 % of the draws are accepted. The integral is
      an average over 1024 draws from the kernel estimate, with an error of about a percent.
      Log-densities and samples take milliseconds each.

    With one feature and ``likelihood="identity"``, ``stein_score`` at level 0 is the slope of the
    log-density, a constant between two points. With more features, this log-density has small
    jumps, where noised samples change from cell to cell. ``stein_score`` leaves them out. On 2,000
    samples around a circle, it differs from difference quotients by 18 % of the true score's root
    mean square, and both differ from the true score by 37 to 40 %.

    References
    ----------
    [DDPMLearning]_

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_dsm import LocationMixtureScoreEstimator
    >>> random = np.random.default_rng(0)
    >>> X = random.choice([-1.5, 0.0, 1.5], (500, 1)) + 0.3 * random.normal(size=(500, 1))
    >>> density = LocationMixtureScoreEstimator(0.3, n_levels=8, random_state=0).fit(X)
    >>> bool(density.score_samples([[1.5]]) > density.score_samples([[0.8]]))
    True
    """

    _parameter_constraints = {
        "scale": [Interval(Real, 0, None, closed="neither"), StrOptions({"auto"})],
        "degree": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "n_levels": [Interval(Integral, 2, None, closed="left"), StrOptions({"auto"})],
        "shortest_time": [Interval(Real, 0, 1, closed="neither"), StrOptions({"auto"})],
        "n_noise": [Interval(Integral, 1, None, closed="left")],
        "max_fit_time": [Interval(Real, 0, None, closed="neither"), None],
        "likelihood": [StrOptions({"identity", "ode"})],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        scale="auto",
        *,
        degree="auto",
        n_levels="auto",
        shortest_time="auto",
        n_noise=4,
        max_fit_time=None,
        likelihood="identity",
        random_state=None,
    ):
        self.scale = scale
        self.degree = degree
        self.n_levels = n_levels
        self.shortest_time = shortest_time
        self.n_noise = n_noise
        self.max_fit_time = max_fit_time
        self.likelihood = likelihood
        self.random_state = random_state

    @whole_fit
    def fit(self, X, y=None, sample_weight=None):
        """Fit the scores by regression, from high noise to low.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            At least two samples; every feature must vary.
        y : Ignored
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights of the samples in every regression. ``scale="auto"`` counts them
            as :math:`(\\sum_i w_i)^2 / \\sum_i w_i^2` samples, also if they are whole numbers.

        Returns
        -------
        self : LocationMixtureScoreEstimator

        Raises
        ------
        ValueError
            If X holds NaN, infinity, text or a constant feature.

        Warns
        -----
        ConvergenceWarning
            If the density is not to be trusted. Any of these signs is enough:

            - In the median, fewer than 10 samples lie within a component's width of a sample.
            - ``log_mass_`` is more than 0.2 from zero.
            - A kernel estimate is better by more than 0.15 nats per sample.
            - Fewer than a tenth of the draws from the kernel estimate are accepted.
            - ``max_fit_time`` leaves fewer than 500 samples per feature at some noise level.
        """
        budget = Budget(self.max_fit_time)
        X, weight = self._rows_and_weight(X, sample_weight)
        d = X.shape[1]
        n_effective = effective_number(weight)
        X, weight = distinct_rows(X, weight)
        share = weight / weight.sum()
        mean = share @ X
        deviation = np.sqrt(share @ (X - mean) ** 2)
        if self.scale == "auto":
            self.scale_ = deviation * n_effective ** (-1 / (d + 4))
        else:
            # The noise is the same in every column, and must stay so.
            deviation = np.full(d, np.sqrt((deviation**2).mean()))
            self.scale_ = np.full(d, float(self.scale))
        self.degree_ = {1: 5, 2: 4, 3: 3}.get(d, 2) if self.degree == "auto" else self.degree
        latent = linear_map(mean, deviation)
        self.process_, self.latent_map_ = VP(), latent.to_arrays()
        Z, _ = latent.forward(X)
        self.reference_covariance_ = np.atleast_2d(np.cov(Z.T, aweights=weight)) + 1e-9 * np.eye(d)
        scale = float(self.scale_[0] / deviation[0])
        generator = torch_generator(seed_from(self.random_state))
        plan = Regressions(
            level_times(scale, self.shortest_time, self.n_levels),
            self.degree_,
            COVER_SCALES * scale,
            self.n_noise,
            lambda: budget.left(until=REGRESSION_SHARE),
        )
        score, n_fewest = fit_polynomial_score(
            tensor_of(Z), tensor_of(weight / weight.mean()), plan, generator
        )
        self.rungs_ = [rung_to_arrays(rung) for rung in score.rungs]
        self.radius_ = score.radius
        self.centers_ = latent.inverse(self.rungs_[0]["centers"])
        acceptance = self._normalise(Z, share, scale, budget, generator)
        warn_of_short_time(n_fewest, len(Z), d)
        kernels = compare_with_kernels(self._normalised(), Z, share, scale, n_effective)
        warn_of_untrusted(self.log_mass_, acceptance, kernels)
        return self

    def _normalise(self, Z, share, scale, budget, generator) -> float:
        """Find the integral of the identity's density, and by what it can be drawn from.

        Returns the share of proposals that are accepted as draws.
        """
        density, d = self._flow("identity"), Z.shape[1]
        n_nodes = affordable_nodes(density, Z, budget)
        if d == 1:
            points = line_nodes(Z[:, 0], min(scale, WIDEST_PEAK), n_nodes)
            values, _ = density.log_density(points[:, None])
            self.bound_: dict[str, Any] = {"points": points, "values": values}
            self.log_mass_ = self._curve().log_mass
            return 1.0
        envelope = Envelope.around(Z, share, scale, generator)
        envelope, self.log_mass_, acceptance = bounded(envelope, density, n_nodes)
        self.bound_ = envelope._asdict()
        return acceptance

    def pac_coverage(self, X, log_density: Callable | np.ndarray, epsilon: float) -> Coverage:
        r"""Share of samples whose log-density is within epsilon of the known true log-density.

        The share estimates

        .. math:: P\left( |\log \hat p(X) - \log p(X)| \le \epsilon \right).

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            New samples from the true distribution.
        log_density : callable or array-like of shape (n_samples,)
            The true log-density: a function of X, or its values at X.
        epsilon : float
            Tolerance in nats; positive.

        Returns
        -------
        Coverage
            The share, and its lower Clopper-Pearson confidence bound at 95 %.

        Raises
        ------
        ValueError
            If ``epsilon`` is not positive, or ``log_density`` has the wrong shape.
        """
        if not epsilon > 0:
            raise ValueError(f"epsilon={epsilon!r} must be positive.")
        values = self.score_samples(X)
        truth = np.asarray(log_density(X) if callable(log_density) else log_density)
        if truth.shape != values.shape:
            raise ValueError(
                f"log_density gives shape {truth.shape} for {len(values)} rows; it must give "
                f"{values.shape}."
            )
        n_within, n = int((np.abs(values - truth) <= epsilon).sum()), len(values)
        lower = beta.ppf(1 - CONFIDENCE, n_within, n - n_within + 1) if n_within else 0.0
        return Coverage(n_within / n, float(lower))

    def self_check(self, X, n_samples: int = 4000, random_state=None) -> SelfCheck:
        """Compute diagnostics that need no true density.

        Distrust the density if ``disagreement`` is larger than the error that you can accept, or
        if ``mass`` differs from one by several times ``mass_error``. Good values prove nothing,
        since a wrong density can have them too.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples on which the likelihood identity is compared with the ODE, for instance those
            whose log-densities you need.
        n_samples : int, default=4000
            Number of draws for the integral of the density.
        random_state : int, RandomState or None, default=None

        Returns
        -------
        SelfCheck
        """
        X = self._check_rows(X)
        Z, _ = Chain.from_arrays(self.latent_map_).forward(X)
        flow = replace(self._flow("ode"), tolerance=np.inf, plan=CHECK_PLAN)
        solved, _ = flow.log_density(Z)
        density = self._normalised()
        identity = density.log_density(Z)[0]
        # A wide normal law covers what the density covers.
        wide = multivariate_normal(cov=2 * self.reference_covariance_)
        random = np.random.RandomState(seed_from(random_state))
        white = random.standard_normal((n_samples, X.shape[1]))
        draws = white @ np.linalg.cholesky(wide.cov).T
        values = density.log_density(draws)[0]
        ratios = np.exp(values - wide.logpdf(draws))
        return SelfCheck(
            float(np.abs(identity - solved).mean()),
            float(ratios.mean()),
            float(ratios.std(ddof=1) / np.sqrt(n_samples)),
        )

    def entropy(self, X) -> Entropy:
        r"""Estimate the entropy :math:`-E \log p(X)` from samples that were not used to fit.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        Entropy
            In nats, in the units of the input. The standard error covers only the randomness
            of X. Errors of the scores make the value too large on average.
        """
        values = self.score_samples(X)
        return Entropy(-float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values))))

    def _latent_density(self) -> LatentDensity:
        return self._flow("ode") if self.likelihood == "ode" else self._normalised()

    def _normalised(self) -> LatentDensity:
        """The identity's density, which integrates to one and can be drawn from."""
        flow = self._flow("identity")
        parts = {field.name: getattr(flow, field.name) for field in fields(flow)}
        if self.n_features_in_ == 1:
            return LineDensity(**parts, curve=self._curve())
        parts["log_mass"] = self.log_mass_
        return EnvelopeDensity(**parts, envelope=Envelope(**self.bound_))

    def _curve(self) -> LogLinearCurve:
        """The density of one feature in the latent space."""
        deviation = float(np.sqrt(self.reference_covariance_[0, 0]))
        return LogLinearCurve(**self.bound_, deviation=deviation)

    def _flow(self, likelihood: str) -> LatentDensity:
        """The scores with the log-density of the ODE, or of the identity as it is."""
        rungs = [rung_from_arrays(rung) for rung in self.rungs_]
        score = PolynomialScore(rungs, self.degree_, self.radius_)
        d = self.n_features_in_
        reference = GaussianScore(
            torch.zeros(d, dtype=torch.float64), tensor_of(self.reference_covariance_)
        )
        log_snr = torch.tensor([rung.log_snr for rung in rungs], dtype=torch.float64)
        return LatentDensity(
            model=score,
            reference=reference,
            levels=LogisticLevels(LOWEST_LOG_SNR, float(log_snr[0])),
            n_features=d,
            numbers_per_row=8 * len(score.powers),
            likelihood=likelihood,
            tolerance=ODE_TOLERANCE,
            device=torch.device("cpu"),
            nodes=rung_nodes(log_snr, d),
        )
