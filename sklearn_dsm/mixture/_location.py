"""Gaussian location mixtures with any mixing law, by polynomial regression of scores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from numbers import Integral, Real
from typing import NamedTuple

import numpy as np
import torch
from scipy.special import logsumexp
from scipy.stats import beta, multivariate_normal

from .._compat import Interval, StrOptions
from .._core.arrays import tensor_of
from .._core.distributions.gaussian import GaussianScore
from .._core.likelihood.ode import SolverPlan
from .._core.noise.level_sampling import LogisticLevels
from .._core.noise.processes import VP
from .._core.random import torch_generator
from .._core.scores.polynomial import PolynomialScore, Rung
from .._core.scores.polynomial_fit import Regressions, fit_polynomial_score, ladder_times
from .._evaluation.base import BaseDensity
from .._evaluation.latent_density import LatentDensity
from .._fit import whole_fit
from .._random import seed_from
from .._transforms.chain import Chain
from .._transforms.fitting import linear_map
from .._validation import distinct_rows, effective_number
from ._integration import kernel_draws, line_nodes, rung_nodes

# Ornstein-Uhlenbeck time of the noisiest level, where rows of unit variance are noise.
LONGEST_TIME = 3.0
# Cells are this many component deviations wide.
COVER_SCALES = 2.5
LOWEST_LOG_SNR = -8.0
# The least noise, where it is chosen: at most this wide, and so many times narrower than the
# components. And the distance of levels in log-SNR.
MAX_WIDTH, WIDTHS_PER_SCALE, LEVEL_SPACING = 0.0632, 4.0, 0.5
CONFIDENCE = 0.95
# What of a rung is kept as arrays.
ARRAYS = ("centers", "location", "width", "coefficients")
# The scores jump between cells, so no number of steps would satisfy a small tolerance.
CHECK_PLAN, ODE_TOLERANCE = SolverPlan(40), 0.1


class Coverage(NamedTuple):
    """Share of samples whose log-density is within epsilon of the truth, and a lower bound.

    The ``lower_bound`` is a one-sided confidence bound at 95 %.
    """

    share: float
    lower_bound: float


class SelfCheck(NamedTuple):
    """Diagnostics of a fitted density whose true density is unknown.

    Attributes
    ----------
    disagreement : float
        Mean absolute difference, over the samples, between the log-densities by the likelihood
        identity and by the probability-flow ODE, in nats.
    mass : float
        Integral of the density, one if the density is normalised. Importance sampling from a wide
        normal distribution estimates the integral, and may miss mass far from all samples.
    mass_error : float
        Standard error of ``mass``.
    """

    disagreement: float
    mass: float
    mass_error: float


class Entropy(NamedTuple):
    """An entropy in nats, and its standard error over the samples."""

    value: float
    standard_error: float


class LocationMixtureScoreEstimator(BaseDensity):
    r"""Gaussian location mixture with an arbitrary mixing distribution.

    .. math:: p = Q * N(0, \sigma^2 I)

    with :math:`\sigma` from ``scale`` and an unknown mixing distribution :math:`Q`, which need not
    be discrete and has no number of components to choose. If :math:`\sigma` is an error of
    measurement, p is the density of the measured values. Q is then the distribution of the values
    without error.

    The score is fitted level by level, from high noise to low. At each level, the fit at the next
    noisier level denoises the noised samples, and the denoised values are grouped into cells
    around centres. In each cell, the noise is regressed on polynomials of the noised sample. The
    log-density follows by the likelihood identity, an integral over all noise levels of squared
    errors in predicting the added noise.

    Parameters
    ----------
    scale : float or "auto", default="auto"
        Standard deviation :math:`\sigma` of the components.

        - A number: in the units of the input, the same for every feature. For a known error of
          measurement.
        - "auto": the bandwidth of a kernel estimate by Scott's rule, in each feature's own units.
          For data that are not a location mixture.
    degree : int or "auto", default="auto"
        Total degree of the polynomials. "auto": 5, 4 and 3 for one, two and three features,
        and 2 for more.
    n_levels : int, default=24
        Number of noise levels.
    shortest_time : float, default=2e-3
        Ornstein-Uhlenbeck time t of the level with the least noise, for samples of unit variance.
        The noise has the standard deviation :math:`\sqrt{1 - e^{-2t}}`, by default 0.06, and the
        fitted density has no finer details.
    n_noise : int, default=4
        Number of pairs of opposite noise vectors for each sample and level.
    likelihood : {"identity", "ode"}, default="identity"
        How log-densities are computed from scores.

        - "identity": by the likelihood identity, which needs no derivative of the scores.
        - "ode": by the probability-flow ODE. For the log-density of the distribution from which
          ``sample`` draws. The ODE needs derivatives, and the scores jump between cells, so the
          error is several times larger.
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
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features; only if X had names.

    Notes
    -----
    With learned scores, the identity gives a density that does not integrate to one. ``fit``
    therefore computes the integral and divides the density by it. With one feature, quadrature
    gives the integral. With more features, importance sampling from a kernel estimate gives it to
    about a percent. ``sample`` follows the probability-flow ODE of the same scores. The
    distribution of the samples therefore differs slightly from the density of the identity:
    :meth:`self_check` measures the difference.

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
        likelihood="identity",
        random_state=None,
    ):
        self.scale = scale
        self.degree = degree
        self.n_levels = n_levels
        self.shortest_time = shortest_time
        self.n_noise = n_noise
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
            Non-negative weights of the samples in every regression.

        Returns
        -------
        self : LocationMixtureScoreEstimator

        Raises
        ------
        ValueError
            If X holds NaN, infinity, text or a constant feature.
        """
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
        score = fit_polynomial_score(
            tensor_of(Z),
            tensor_of(weight / weight.mean()),
            Regressions(
                self._times(scale), self.degree_, COVER_SCALES * scale, self.n_noise
            ),
            torch_generator(seed_from(self.random_state)),
        )
        self.rungs_ = [_to_arrays(rung) for rung in score.rungs]
        self.radius_ = score.radius
        self.centers_ = latent.inverse(self.rungs_[0]["centers"])
        # Of the density as it is, which has no mass yet that it could be divided by.
        self.log_mass_ = 0.0
        self.log_mass_ = self._log_mass(Z, share)
        return self

    def _times(self, scale: float) -> list[float]:
        """The times of the levels, down to noise that does not hide components so wide."""
        shortest = self.shortest_time
        if shortest == "auto":
            width = min(MAX_WIDTH, scale / WIDTHS_PER_SCALE)
            shortest = -float(np.log1p(-(width**2))) / 2
        n_levels = self.n_levels
        if n_levels == "auto":
            log_snrs = -np.log(np.expm1(2 * np.array([LONGEST_TIME, shortest])))
            n_levels = 1 + int(np.ceil(np.diff(log_snrs)[0] / LEVEL_SPACING - 0.01))
        return ladder_times(shortest, LONGEST_TIME, n_levels)

    def _log_mass(self, Z, share) -> float:
        """Logarithm of the integral of the identity's density over the latent space."""
        width = np.sqrt(-np.expm1(-2 * self.rungs_[0]["time"]))
        points, log_weight = line_nodes(Z, width) if Z.shape[1] == 1 else kernel_draws(Z, share)
        values, _ = self._latent_density("identity").log_density(points)
        return float(logsumexp(values + log_weight))

    def pac_coverage(self, X, log_density: Callable | np.ndarray, epsilon: float) -> Coverage:
        r"""Share of samples whose log-density is within epsilon of the known true one.

        It estimates

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
        flow = replace(self._latent_density("ode"), tolerance=np.inf, plan=CHECK_PLAN)
        solved, _ = flow.log_density(Z)
        density = self._latent_density("identity")
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

    def _latent_density(self, likelihood=None) -> LatentDensity:
        score = PolynomialScore(
            [_from_arrays(rung) for rung in self.rungs_], self.degree_, self.radius_
        )
        d = self.n_features_in_
        reference = GaussianScore(
            torch.zeros(d, dtype=torch.float64), tensor_of(self.reference_covariance_)
        )
        log_snr = torch.tensor([rung.log_snr for rung in score.rungs], dtype=torch.float64)
        return LatentDensity(
            model=score,
            reference=reference,
            levels=LogisticLevels(LOWEST_LOG_SNR, float(log_snr[0])),
            n_features=d,
            numbers_per_row=8 * len(score.powers),
            likelihood=likelihood or self.likelihood,
            tolerance=ODE_TOLERANCE,
            device=torch.device("cpu"),
            nodes=rung_nodes(log_snr, d),
            log_mass=self.log_mass_,
        )


def _to_arrays(rung: Rung) -> dict[str, np.ndarray]:
    parts = {name: getattr(rung, name).numpy() for name in ARRAYS}
    return parts | {"time": np.asarray(rung.time), "apart": np.asarray(rung.apart)}


def _from_arrays(arrays: dict[str, np.ndarray]) -> Rung:
    parts = {name: tensor_of(arrays[name]) for name in ARRAYS}
    return Rung(time=float(arrays["time"]), apart=bool(arrays["apart"]), **parts)
