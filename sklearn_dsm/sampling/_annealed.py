"""Annealed importance sampling and sequential Monte Carlo, as an estimator."""

from __future__ import annotations

import math
import time
from numbers import Integral, Real

import numpy as np
import torch
from scipy.special import logsumexp
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from .._budget import Budget
from .._columns import rows_to_fit
from .._compat import Interval, StrOptions
from .._core.random import torch_generator
from .._evaluation.base import check_number_of_draws
from .._fit import whole_fit
from .._random import seed_from
from .._threads import take_one_thread_where_forked
from .._warn import warn
from ._annealing import Run, Schedule, anneal
from ._bounds import Bounds, number_of_features
from ._callables import RowFunction
from ._geometric_path import GeometricPath
from ._moves import Kernel, move
from ._pilot import FIRST_SCALE, N_MOVES, N_WIDENINGS, PRIOR_WIDTH, central_range, run_pilot
from ._weights import WeightSummary

# Groups of particles that never meet, whose estimates give the standard error.
MOST_GROUPS, LEAST_GROUPS, LEAST_EACH = 20, 4, 25
N_PILOT, LEAST_PILOT = 500, 100
# The share of the time for the pilots, and the fewest temperatures, however short it is.
PILOT_SHARE, LEAST_TEMPERATURES = 0.4, 4
# Leapfrog steps and acceptance aimed at.
KERNELS = {"hmc": (10, 0.8), "mala": (1, 0.6)}
# A standard error of the log-normaliser above which it says little.
LARGE_STDERR = 0.5
# Particles that sample moves at once, each chunk with random numbers of its own.
SAMPLE_CHUNK, N_SAMPLE_MOVES = 512, 3


class AnnealedSampler(BaseEstimator):
    r"""Sample an unnormalised density and estimate its normalising constant, by annealing.

    Particles start from a normal distribution q, the prior, and follow the densities

    .. math:: \pi_k \propto q^{1 - \beta_k} \gamma^{\beta_k}, \qquad
        0 < \beta_1 \le \dots \le \beta_K = 1,

    to the target :math:`\gamma = e^{f}`, where f is ``log_density``. At each density, moves of
    Hamiltonian Monte Carlo or Langevin dynamics take the particles from :math:`x_{k-1}` to
    :math:`x_k`. The weight of a particle is

    .. math:: w = \prod_k \Big( \frac{\gamma(x_{k-1})}{q(x_{k-1})} \Big)^{\beta_k - \beta_{k-1}},
        \qquad E[w] = Z = \int \gamma(x)\, dx,

    with :math:`\beta_0 = 0`, and the mean weight is unbiased for Z. A short pilot run chooses the
    exponents :math:`\beta_k`, called temperatures, the step sizes, and the scales of the features.
    The run that estimates Z has other random numbers and leaves these choices as they are, so its
    mean weight is unbiased.

    Modes that the prior does not reach are not found, and no attribute shows this: use a prior
    that is wider than the target. Particles rarely enter parts that are much narrower than the
    rest, such as the neck of :class:`~sklearn_dsm.datasets.Funnel`. The estimate is then too low
    in most runs, by more than its standard error. For such targets, decrease ``prior_scale`` or
    increase ``n_kernel_steps``.

    Parameters
    ----------
    log_density : callable
        Log-density up to a constant. It takes samples of shape (n_samples, n_features) and returns
        n_samples values; -inf where the density is zero. A function of torch tensors is
        differentiated. A function of numpy arrays needs ``grad_log_density``; without it, ``fit``
        raises an error.
    grad_log_density : callable or None, default=None
        Gradients of the log-density, as an array of the shape of the argument.
    n_features : int or None, default=None
        Number of features. None takes it from ``bounds`` or from the X of ``fit``.
    bounds : array-like of shape (n_features, 2) or None, default=None
        Lower and upper ends of the features; None or infinity where there is none. Z is then the
        integral inside the bounds. Particles move in unbounded coordinates: the logit between two
        ends, and the inverse of softplus above or below one.
    kind : {"smc", "ais"}, default="smc"
        - "smc": sequential Monte Carlo, which resamples particles by their weights when few are
          effective.
        - "ais": annealed importance sampling, which never resamples. Particles are independent.
    kernel : {"hmc", "mala"}, default="hmc"
        - "hmc": Hamiltonian Monte Carlo with ``n_leapfrog`` steps.
        - "mala": the Metropolis-adjusted Langevin algorithm, which has one leapfrog step. A move
          takes a tenth of the time of "hmc" with its default steps, and is shorter.
    n_temperatures : int, default=128
        Number K of densities. More of them lower the variance of the estimate, and take longer.
    n_particles : int, default=2000
        Number of particles. ``fit`` divides them into up to 20 groups of equal size, and rounds
        the number up for that.
    n_kernel_steps : int, default=1
        Number of moves at each temperature.
    n_leapfrog : int or "auto", default="auto"
        Leapfrog steps of a move. "auto" is 10 for "hmc" and 1 for "mala".
    prior_scale : "auto" or float, default="auto"
        Standard deviation of the prior, in the unbounded coordinates.

        - "auto" with X: one and a half times the standard deviations of X. The prior has the mean
          of X.
        - "auto" without X: pilot runs find the prior. The first starts from a standard deviation
          of 2 around zero. Up to five more start from larger ones, as long as the particles end
          with a spread around zero of more than half that of the start. The prior is centred on the
          particles of all these runs, and one and a half times as wide.
        - A number, for all features. The prior has the mean of X, or zero without X.
    resample_below : float, default=0.3
        Share of effective particles below which "smc" resamples a group. No effect with "ais".
    max_fit_time : float or None, default=None
        Seconds that ``fit`` may take. If they are too few for ``n_temperatures``, ``fit`` uses
        fewer, and warns. The result then depends on the speed of the machine.
    random_state : int, RandomState or None, default=None
        Seed of the pilots and of the run.
    verbose : int, default=0
        Whether to print progress.

    Attributes
    ----------
    log_normalizer_ : float
        Estimate of :math:`\log Z`.
    log_normalizer_stderr_ : float
        Its standard error. "smc" computes it from the estimates of the groups, which are
        independent of each other. "ais" computes it from the weights of the particles.
    elbo_ : float
        Evidence lower bound, whose expectation is at most :math:`\log Z`. For "ais", it is the
        mean log-weight. For "smc", it is the mean of the groups' estimates of :math:`\log Z`.
    ess_ : float
        Share of effective particles at the end, in (0, 1]. For "smc", it does not show how few
        were effective before a resampling; ``ess_by_step_`` does.
    ess_by_step_ : ndarray of shape (n_temperatures,)
        Share of effective particles at each temperature, before resampling; mean over the groups.
    acceptance_rate_ : float
        Mean probability that a move is accepted.
    acceptance_by_step_ : ndarray of shape (n_temperatures,)
        The same at each temperature.
    particles_ : ndarray of shape (n_particles, n_features)
        The particles at the end, within the bounds. They represent the target only together with
        their weights.
    log_weights_ : ndarray of shape (n_particles,)
        Log-weights of the particles, whose mean weight estimates Z.
    betas_ : ndarray of shape (n_temperatures,)
        The exponents :math:`\beta_k`.
    step_sizes_ : ndarray of shape (n_temperatures,)
        Largest step sizes, in units of ``feature_scales_``.
    feature_scales_ : ndarray of shape (n_temperatures, n_features)
        Scales of the features at each temperature, in the unbounded coordinates.
    prior_mean_, prior_scale_ : ndarray of shape (n_features,)
        Mean and standard deviations of the prior, in the unbounded coordinates.
    n_evaluations_ : int
        Number of samples at which the log-density was evaluated, including the pilot runs.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features; only if X had names.

    References
    ----------
    [AIS]_, [SMCSamplers]_, [HMC]_

    Examples
    --------
    >>> from sklearn_dsm import AnnealedSampler
    >>> def log_density(x):
    ...     return -0.5 * ((x - 3.0) ** 2).sum(1)
    >>> sampler = AnnealedSampler(log_density, n_features=2, n_particles=500, n_temperatures=32,
    ...                           random_state=0)
    >>> sampler.fit().sample(3, random_state=0).shape
    (3, 2)
    >>> abs(sampler.log_normalizer_ - 1.8379) < 0.05  # log 2 pi
    True
    """

    _parameter_constraints = {
        "log_density": [callable],
        "grad_log_density": [callable, None],
        "n_features": [Interval(Integral, 1, None, closed="left"), None],
        "bounds": ["array-like", None],
        "kind": [StrOptions({"smc", "ais"})],
        "kernel": [StrOptions({"hmc", "mala"})],
        "n_temperatures": [Interval(Integral, 1, None, closed="left")],
        "n_particles": [Interval(Integral, 20, None, closed="left")],
        "n_kernel_steps": [Interval(Integral, 1, None, closed="left")],
        "n_leapfrog": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "prior_scale": [Interval(Real, 0, None, closed="neither"), StrOptions({"auto"})],
        "resample_below": [Interval(Real, 0, 1, closed="both")],
        "max_fit_time": [Interval(Real, 0, None, closed="neither"), None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        log_density,
        *,
        grad_log_density=None,
        n_features=None,
        bounds=None,
        kind="smc",
        kernel="hmc",
        n_temperatures=128,
        n_particles=2000,
        n_kernel_steps=1,
        n_leapfrog="auto",
        prior_scale="auto",
        resample_below=0.3,
        max_fit_time=None,
        random_state=None,
        verbose=0,
    ):
        self.log_density = log_density
        self.grad_log_density = grad_log_density
        self.n_features = n_features
        self.bounds = bounds
        self.kind = kind
        self.kernel = kernel
        self.n_temperatures = n_temperatures
        self.n_particles = n_particles
        self.n_kernel_steps = n_kernel_steps
        self.n_leapfrog = n_leapfrog
        self.prior_scale = prior_scale
        self.resample_below = resample_below
        self.max_fit_time = max_fit_time
        self.random_state = random_state
        self.verbose = verbose

    @whole_fit
    def fit(self, X=None, y=None):
        """Run the particles from the prior to the target.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or None, default=None
            Points in the region where the target has its mass. They need not be samples of the
            target. They set the mean of the prior, and its scale if ``prior_scale`` is "auto".
        y : Ignored

        Returns
        -------
        self : AnnealedSampler

        Raises
        ------
        ValueError
            In any of these cases:

            - The number of features is given by none of X, ``bounds`` and ``n_features``, or they
              disagree.
            - ``bounds`` exclude everything, or some of X.
            - ``log_density`` returns NaN, +inf or an array of the wrong shape, has no gradient, or
              is -inf at all draws from the prior.
            - ``grad_log_density`` disagrees with finite differences.
            - ``n_leapfrog`` is above 1 with ``kernel="mala"``.

        Warns
        -----
        UserWarning
            In any of these cases:

            - Fewer than five percent of the particles are effective at the end.
            - ``log_normalizer_stderr_`` is above 0.5.
            - ``max_fit_time`` is too short for all temperatures.
            - ``log_density`` is slow because it loops over samples.
        """
        budget = Budget(self.max_fit_time)
        kernel = self._kernel()
        points = None if X is None else torch.from_numpy(rows_to_fit(self, X, copy=True))
        d = number_of_features(self.n_features, self.bounds, points)
        bounds = Bounds(self.bounds, d)
        if points is not None:
            points = _unbounded(points, bounds)
        seeds = np.random.SeedSequence(seed_from(self.random_state)).generate_state(2)
        pilots, run = (torch_generator(int(seed)) for seed in seeds)
        path, schedule = self._settings(points, d, bounds, kernel, pilots, budget)
        # Runs have fixed settings, and so unbiased weights.
        result = anneal(
            path,
            schedule,
            self._shape(self.n_particles),
            self._threshold(),
            kernel,
            run,
            self._report,
        )
        self._store(path, schedule, result, named=X is not None)
        return self

    def sample(self, n_samples=1, random_state=None):
        """Draw samples that approximate the target.

        ``particles_`` are drawn with replacement, with probabilities proportional to their weights.
        Each drawn particle is then moved three times, by moves that leave the target unchanged.
        Samples that start from the same particle are dependent, so many more samples than
        particles add little. ``sample_weighted`` runs new particles.

        Parameters
        ----------
        n_samples : int, default=1
        random_state : int, RandomState or None, default=None

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            Within the bounds.
        """
        check_is_fitted(self)
        take_one_thread_where_forked()
        n_samples = check_number_of_draws(n_samples, random_state)
        seeds = np.random.SeedSequence(seed_from(random_state)).generate_state(2)
        random, moves = (np.random.RandomState(seed) for seed in seeds)
        share = np.exp(self.log_weights_ - logsumexp(self.log_weights_))
        # One number for each sample, so that the first samples do not depend on how many follow.
        levels = np.cumsum(share)
        chosen = np.searchsorted(levels, random.uniform(size=n_samples) * levels[-1], "right")
        z = torch.from_numpy(self._unbounded_particles[np.minimum(chosen, len(share) - 1)])
        path, schedule = self._path(), self._schedule()
        step, scale = float(schedule.steps[-1]), schedule.scales[-1]
        parts = []
        for rows in z.split(SAMPLE_CHUNK):
            generator = torch_generator(int(moves.randint(2**31 - 1)))
            # As many as there are in a chunk, so that all of them have the numbers they would have.
            missing = SAMPLE_CHUNK - len(rows)
            cloud = path.cloud(torch.cat([rows, rows[:1].expand(missing, -1)]))
            for _ in range(N_SAMPLE_MOVES):
                cloud, _ = move(path, cloud, 1.0, step, scale, self._kernel()[0], generator)
            parts.append(cloud.z[: len(rows)])
        return path.bounds.to_box(torch.cat(parts))[0].numpy()

    def sample_weighted(self, n_samples=1, random_state=None):
        """Run new particles with the settings of ``fit``, and return them with their weights.

        The weights are independent of those of ``fit``, and their mean is unbiased for Z. A call
        takes as long as a fit with n_samples particles, without the pilot runs.

        Parameters
        ----------
        n_samples : int, default=1
        random_state : int, RandomState or None, default=None

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            Within the bounds.
        log_weights : ndarray of shape (n_samples,)
            Not normalised. Means over the target are means with the weights
            ``softmax(log_weights)``.
        """
        path, run = self._run(n_samples, random_state)
        X = path.bounds.to_box(run.cloud.z)[0].numpy()
        return X[:n_samples], run.log_weights.flatten().numpy()[:n_samples]

    def _trajectories(self, n_samples, random_state) -> np.ndarray:
        """The particles of :meth:`sample_weighted` with their ancestors, from the prior on."""
        history: list[torch.Tensor] = []
        path, _ = self._run(n_samples, random_state, history)
        return np.stack([path.bounds.to_box(z[:n_samples])[0].numpy() for z in history])

    def _run(self, n_samples, random_state, history=None) -> tuple[GeometricPath, Run]:
        """New particles with the settings of ``fit``."""
        check_is_fitted(self)
        take_one_thread_where_forked()
        n_samples = check_number_of_draws(n_samples, random_state)
        generator = torch_generator(seed_from(random_state))
        path, shape = self._path(), self._shape(n_samples)
        schedule, threshold, kernel = self._schedule(), self._threshold(), self._kernel()
        run = anneal(path, schedule, shape, threshold, kernel, generator, history=history)
        return path, run

    def _kernel(self) -> Kernel:
        n_leapfrog, acceptance = KERNELS[self.kernel]
        if self.n_leapfrog != "auto":
            if self.kernel == "mala" and self.n_leapfrog > 1:
                raise ValueError(
                    f"n_leapfrog={self.n_leapfrog} does not go with kernel='mala', which takes one "
                    "leapfrog step; use kernel='hmc', or leave n_leapfrog out."
                )
            n_leapfrog = self.n_leapfrog
        return Kernel(n_leapfrog, self.n_kernel_steps, acceptance)

    def _threshold(self) -> float:
        return self.resample_below if self.kind == "smc" else 0.0

    def _shape(self, n: int) -> tuple[int, int]:
        """Groups, and the particles in each."""
        groups = min(MOST_GROUPS, max(LEAST_GROUPS, n // LEAST_EACH), n)
        return groups, -(-n // groups)

    def _report(self, message: str) -> None:
        if self.verbose:
            print(f"[AnnealedSampler] {message}")

    def _settings(
        self, points, d, bounds, kernel, generator, budget
    ) -> tuple[GeometricPath, Schedule]:
        """Prior and schedule, from pilot runs."""
        function = RowFunction(self.log_density, self.grad_log_density, "log_density")
        mean = torch.zeros(d, dtype=torch.float64) if points is None else points.mean(0)
        scale = torch.full((d,), FIRST_SCALE, dtype=torch.float64)
        if self.prior_scale != "auto":
            scale = torch.full((d,), float(self.prior_scale), dtype=torch.float64)
        elif points is not None:
            scale = PRIOR_WIDTH * points.std(0)
        path = GeometricPath(function, bounds, mean, scale)
        function.check(bounds.to_box(path.draw(N_PILOT, generator).z)[0])
        started, n_moves = time.perf_counter(), 0
        n = min(N_PILOT, max(LEAST_PILOT, self.n_particles))
        allowed = budget.first(PILOT_SHARE)

        def pilot_from(path):
            nonlocal n_moves
            pilot = run_pilot(path, n, kernel, generator, allowed, self._report)
            n_moves += N_MOVES * len(pilot.lengths)
            return pilot

        if points is None and self.prior_scale == "auto":
            path = _found_prior(path, pilot_from)
        pilot = pilot_from(path)
        each = (time.perf_counter() - started) / n_moves * self.n_kernel_steps
        n_levels = self._number_of_temperatures(each * max(1.0, self.n_particles / n), budget)
        return path, pilot.schedule_of(n_levels)

    def _number_of_temperatures(self, seconds: float, budget: Budget) -> int:
        """As many as the time allows where each takes so many seconds."""
        left = budget.left()
        if math.isinf(left) or seconds * self.n_temperatures <= left:
            return self.n_temperatures
        n = min(self.n_temperatures, max(LEAST_TEMPERATURES, int(left / seconds)))
        warn(
            f"max_fit_time={self.max_fit_time:g} allows {n} of {self.n_temperatures} temperatures, "
            "so the standard error is larger. Give more time or fewer particles.",
            UserWarning,
        )
        return n

    def _store(self, path: GeometricPath, schedule: Schedule, run: Run, named: bool) -> None:
        self.n_features_in_ = len(path.mean)
        if not named and hasattr(self, "feature_names_in_"):
            del self.feature_names_in_
        log_weights = run.log_weights.flatten().numpy()
        summary = WeightSummary.of(log_weights)
        if self.kind == "smc":
            groups = WeightSummary.of(_group_means(run.log_weights))
            n = len(run.log_weights)
            # Of the groups' estimates, with the divisor of a sample's variance.
            stderr = groups.log_normalizer_stderr * math.sqrt(n / (n - 1))
            summary = summary._replace(log_normalizer_stderr=stderr, elbo=groups.elbo)
        self.particles_ = path.bounds.to_box(run.cloud.z)[0].numpy()
        self._unbounded_particles = run.cloud.z.numpy()
        self.log_weights_ = log_weights
        self.ess_by_step_ = run.ess.double().numpy()
        self.acceptance_by_step_ = run.acceptance.double().numpy()
        self.acceptance_rate_ = float(self.acceptance_by_step_.mean())
        self.betas_, self.step_sizes_, self.feature_scales_ = (part.numpy() for part in schedule)
        self.prior_mean_, self.prior_scale_ = path.mean.numpy(), path.scale.numpy()
        self.n_evaluations_ = path.function.n_evaluations
        summary.store(self, "Use more temperatures, more particles, or a wider prior_scale.")
        if self.log_normalizer_stderr_ > LARGE_STDERR:
            warn(
                f"The standard error of log_normalizer_ is {self.log_normalizer_stderr_:.2g}, so "
                "neither is to be trusted. Use more temperatures, particles or kernel steps.",
                UserWarning,
            )

    def _path(self) -> GeometricPath:
        """The path of the fit, with a new count of evaluations."""
        function = RowFunction(self.log_density, self.grad_log_density, "log_density")
        mean, scale = (torch.from_numpy(part) for part in (self.prior_mean_, self.prior_scale_))
        return GeometricPath(function, Bounds(self.bounds, self.n_features_in_), mean, scale)

    def _schedule(self) -> Schedule:
        parts = (self.betas_, self.step_sizes_, self.feature_scales_)
        return Schedule(*(torch.from_numpy(part) for part in parts))


def _found_prior(path: GeometricPath, pilot_from) -> GeometricPath:
    """The path from the normal distribution that pilots find the target to be in."""
    found = []
    for _ in range(N_WIDENINGS):
        found.append(pilot_from(path).cloud.z)
        mean, spread = central_range(found[-1])
        wide = (mean**2 + spread**2).sqrt()
        if (wide < 0.5 * path.scale).all():
            break
        path = path.with_prior(path.mean, torch.maximum(path.scale, 2.5 * wide))
    # Narrow parts are found from narrow priors, and far ones from wide ones.
    mean, spread = central_range(torch.cat(found))
    return path.with_prior(mean, PRIOR_WIDTH * spread)


def _group_means(log_weights) -> np.ndarray:
    return (log_weights.logsumexp(1) - math.log(log_weights.shape[1])).numpy()


def _unbounded(points: torch.Tensor, bounds: Bounds) -> torch.Tensor:
    inside = (points > bounds.low) & (points < bounds.high)
    if not inside.all():
        row, column = (int(k) for k in torch.nonzero(~inside)[0])
        raise ValueError(
            f"X[{row}, {column}] is {float(points[row, column]):g}, and not within the bounds "
            f"({float(bounds.low[column]):g}, {float(bounds.high[column]):g}) of its feature. "
            "Leave out such points, or widen the bounds."
        )
    return bounds.from_box(points)
