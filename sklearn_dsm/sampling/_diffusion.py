"""Sampling from unnormalised log-densities by learned diffusions."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from numbers import Integral, Real
from typing import NamedTuple

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from .._budget import Budget
from .._columns import as_numbers
from .._compat import Interval, StrOptions
from .._core.arrays import arrays_of, state_of, tensor_of
from .._core.random import torch_generator
from .._evaluation.base import check_number_of_draws
from .._fit import InterruptedFit, whole_fit
from .._random import seed_from
from .._threads import take_one_thread_where_forked
from .._validation import checked_layer_sizes
from ._bounds import Bounds, number_of_features
from ._callables import RowFunction
from ._control import Control
from ._path_losses import LOSSES, PathLoss
from ._path_training import Sampler, train
from ._prior_scale import locate, widths
from ._processes.langevin import LangevinProcess
from ._processes.process import Path, Process
from ._processes.referenced import Brownian, OrnsteinUhlenbeck
from ._regression_losses import EndRegression, transport_residual
from ._target import Target
from ._weights import WeightSummary, branch_generator, branch_steps, systematic_indices

# Paths that measure the weights after training, and numbers held in the paths of one chunk.
N_EVALUATED, NUMBERS_PER_CHUNK = 4096, 2**23
# Paths of the first chunk.
FIRST_CHUNK = 64
MAX_ITER, ENDLESS, ENDLESS_BUDGET = 1000, 10**9, Budget()
# Share of the time that may be spent on finding the scale of the start.
LOCATING_SHARE = 0.15
# Draws from which samples are drawn anew by their weights, for each sample, and at least.
DRAWS_PER_SAMPLE, MIN_DRAWS = 4, 1000
# What is measured after training.
MEASURES = ("log_normalizer_", "log_normalizer_stderr_", "elbo_", "ess_", "eubo_")
# The loss of "auto" for the methods that take one.
DEFAULT_LOSS = "rkl_ld"


class _Method(NamedTuple):
    process: Callable[..., Process]
    # Its own loss where it has one; else the user's choice.
    loss: Callable[[], PathLoss] | None = None
    needs_gradient: bool = False


METHODS = {
    "dds": _Method(OrnsteinUhlenbeck),
    "pis": _Method(Brownian),
    "cmcd": _Method(LangevinProcess, needs_gradient=True),
    "nets": _Method(LangevinProcess, lambda: transport_residual, True),
    "adjoint": _Method(Brownian, partial(EndRegression, weighted=False), True),
    "pdds": _Method(OrnsteinUhlenbeck, partial(EndRegression, weighted=True), True),
}


class DiffusionSampler(BaseEstimator):
    r"""Sample from an unnormalised density by a learned diffusion, with its normalising constant.

    A chain of K Gaussian steps leads from noise :math:`X_0`, the start, to a sample :math:`X_K`. A
    network u shifts the means of the steps. It is trained so that :math:`X_K` has the density
    :math:`\gamma / Z`, where :math:`\log \gamma` is ``log_density`` and Z is the unknown integral
    of :math:`\gamma`. Each path has a weight w,

    .. math:: \log w = \log \gamma(X_K) - \log q_{ref}(X_K)
        + \sum_k \log \frac{P_{ref}(X_{k+1} | X_k)}{P_u(X_{k+1} | X_k)},

    where :math:`P_u` are the steps with the network, and :math:`P_{ref}` those without. The last
    state of the chain without the network has the known density :math:`q_{ref}`. All densities are
    those of the discrete steps, and no noise is clipped. The expectation of w is therefore Z, for
    any network and any number of steps, and weighted samples represent the target. A better network
    and more steps make the weights more equal, and the standard error smaller. Methods "cmcd" and
    "nets" have a backward chain from :math:`X_K` in place of the reference, and the same property.

    Parameters
    ----------
    log_density : callable
        The log-density up to a constant. It takes samples of shape (n_samples, n_features) and
        returns n_samples values; -inf where the density is zero. A function of torch tensors is
        differentiated. For a function of numpy arrays, give ``grad_log_density``. Without it, only
        "dds" and "pis" with the losses "lv" and "rkl_ld" are available, and they learn far more
        slowly.
    grad_log_density : callable or None, default=None
        Gradients of the log-density, as an array of the shape of the argument.
    n_features : int or None, default=None
        Number of features. None takes it from ``bounds`` or from the X of ``fit``.
    bounds : array-like of shape (n_features, 2) or None, default=None
        Lower and upper ends of each feature; None or infinity where there is none. All samples are
        inside the bounds, and Z is the integral inside them.
    method : {"dds", "pis", "cmcd", "nets", "adjoint", "pdds"}, default="dds"
        The steps, and for some methods the way of learning.

        =========  ======================================  =======================================
        method     steps                                   when to use
        =========  ======================================  =======================================
        "dds"      reversed Ornstein-Uhlenbeck process     The usual choice [DDS]_.
        "pis"      Brownian motion from one point          For comparison with Föllmer and path
                                                           integral samplers [PIS]_.
        "cmcd"     annealed Langevin steps                 For targets with narrow or separated
                                                           regions [CMCD]_.
        "nets"     those of "cmcd", trained on the         For training without the gradient of a
                   continuity equation                     loss over whole paths; up to about ten
                                                           features [NETS]_.
        "adjoint"  those of "pis", trained by regression   For expensive log-densities: needs few
                   on gradients at ends of paths           paths [AdjointSampling]_.
        "pdds"     those of "dds", trained by regression   For several modes: the ends are drawn
                   on gradients at weighted ends           anew by their weights [PDDS]_.
        =========  ======================================  =======================================

    loss : {"auto", "lv", "kl", "rkl_ld"}, default="auto"
        What training minimises, for "dds", "pis" and "cmcd". The other methods have losses of
        their own, and take "auto" only.

        ========  ===========================================  =====================================
        loss      what it is                                   when to use
        ========  ===========================================  =====================================
        "rkl_ld"  :math:`-E \log w`, its gradient in the       The usual choice, and that of "auto".
                  log-derivative form
        "lv"      the variance of :math:`\log w`               To keep the start at
                                                               ``prior_scale``.
        "kl"      :math:`-E \log w`, differentiated through    For comparison. Needs gradients, and
                  the paths                                    takes several times longer.
        ========  ===========================================  =====================================

        The gradient of "rkl_ld" is the mean of :math:`-(\log w - c) \nabla \log P_u - \nabla
        \log (w P_u)`, where c is the mean log-weight and :math:`P_u` the density of a whole path.
        "rkl_ld" and "kl" also learn the scale of the start for each feature. With "cmcd", they
        learn the annealing and the length of the steps as well. For a fixed scale, "lv" and
        "rkl_ld" have the same gradient with "dds" and "pis".
    n_steps : int, default=32
        Number K of steps. More steps make the weights more equal.
    prior_scale : "auto", float or array-like of shape (n_features,), default="auto"
        Standard deviation of the start, which should cover the target. With ``bounds``, it is in
        unbounded coordinates: the logit of the position between two ends, or the inverse of
        softplus of the distance to a single one.

        - "auto": the standard deviation of X. Without X, that of a short run of Markov chains,
          which needs no gradients. For heavy tails, it is instead that of a normal distribution
          with the same 5 % and 95 % quantiles, if this is smaller. The mean of the start is that of
          X or of the chains.
        - A number, or one for each feature. The mean of the start is that of X, or zero without X.
    hidden_layer_sizes : tuple of int, default=(64, 64)
        Width of each hidden layer of the network.
    max_iter : int or "auto", default="auto"
        Largest number of training steps. "auto": 1000 without ``max_fit_time``, and no limit with
        it.
    max_fit_time : float or None, default=None
        Seconds after which ``fit`` ends. The learning rate falls to zero by the end of training.
        The result depends on the speed of the machine.
    batch_size : int, default=256
        Paths per training step.
    learning_rate : float, default=0.005
        Largest learning rate of the optimiser, Adam, which falls to zero along a half cosine.
    warm_start : bool, default=False
        Whether another call of ``fit`` continues from the weights of the network, with the same
        start. ``loss_curve_``, ``n_iter_`` and ``n_evaluations_`` then include the earlier calls.
    random_state : int, RandomState or None, default=None
        Seed of the initial weights of the network, and of all paths of the fit.
    verbose : int, default=0
        1 prints twenty lines on the training, and 2 or more a line for each step.

    Attributes
    ----------
    log_normalizer_ : float
        Estimate of :math:`\log Z`, from 4096 paths after training.
    log_normalizer_stderr_ : float
        Its standard error.
    elbo_ : float
        Evidence lower bound: the mean log-weight of these paths. Its expectation is at most
        :math:`\log Z`.
    ess_ : float
        Share of effective paths, in (0, 1].
    eubo_ : float
        Evidence upper bound: the mean log-weight of paths that lead back from X to the start. Its
        expectation is at least :math:`\log Z` if X are samples of the target. Only if X was given.
    n_evaluations_ : int
        Number of samples at which ``fit`` evaluated ``log_density``.
    loss_curve_ : list of float
        The loss of each training step. That of "rkl_ld" and "kl" is minus the mean log-weight.
    n_iter_ : int
        Number of training steps.
    stop_reason_ : str
        Why training ended: "max_iter", "max_fit_time" or "interrupted".
    prior_mean_, prior_scale_ : ndarray of shape (n_features,)
        Mean and standard deviation of the start after training, in unbounded coordinates.
    network_weights_ : dict of str to ndarray
        Weights of the network and the learned parameters of the steps, as averages over the last
        training steps.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features; only if X had names.

    Warnings
    --------
    A sampler that is trained on its own paths can miss whole modes. ``elbo_``, ``ess_``,
    ``log_normalizer_`` and its standard error do not show this, because they rest on regions that
    paths reach. Samples X of the target do show it: if modes are missing, ``eubo_`` is far above
    ``elbo_``. Without such samples, compare several methods, seeds and prior scales.

    Notes
    -----
    All methods have the weights above. This includes "adjoint" and "pdds", whose papers describe
    other estimates or none. "pdds" resamples the ends of paths by their weights during training
    only. Its samples are ends of single paths, not particles of a filter. "nets" has the steps of
    "cmcd" with a linear annealing, so the expectation of its weights is Z for any number of steps.

    References
    ----------
    [DDS]_, [PIS]_, [CMCD]_, [NETS]_, [AdjointSampling]_, [PDDS]_, [LogVariance]_,
    [RethinkingLosses]_

    Examples
    --------
    >>> from sklearn_dsm import DiffusionSampler
    >>> def log_density(x):  # a multivariate normal distribution, not normalised
    ...     return -0.5 * (x**2).sum(1)
    >>> sampler = DiffusionSampler(log_density, n_features=2, max_iter=20, random_state=0).fit()
    >>> abs(sampler.log_normalizer_ - 1.8379) < 0.01
    True
    >>> sampler.sample(5, random_state=0).shape
    (5, 2)
    """

    _parameter_constraints = {
        "log_density": [callable],
        "grad_log_density": [callable, None],
        "n_features": [Interval(Integral, 1, None, closed="left"), None],
        "bounds": ["array-like", None],
        "method": [StrOptions(set(METHODS))],
        "loss": [StrOptions({"auto", *LOSSES})],
        "n_steps": [Interval(Integral, 1, None, closed="left")],
        "prior_scale": [
            StrOptions({"auto"}),
            Interval(Real, 0, None, closed="neither"),
            "array-like",
        ],
        "hidden_layer_sizes": [tuple, list],
        "max_iter": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "max_fit_time": [Interval(Real, 0, None, closed="neither"), None],
        "batch_size": [Interval(Integral, 2, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "warm_start": ["boolean"],
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
        method="dds",
        loss="auto",
        n_steps=32,
        prior_scale="auto",
        hidden_layer_sizes=(64, 64),
        max_iter="auto",
        max_fit_time=None,
        batch_size=256,
        learning_rate=5e-3,
        warm_start=False,
        random_state=None,
        verbose=0,
    ):
        self.log_density = log_density
        self.grad_log_density = grad_log_density
        self.n_features = n_features
        self.bounds = bounds
        self.method = method
        self.loss = loss
        self.n_steps = n_steps
        self.prior_scale = prior_scale
        self.hidden_layer_sizes = hidden_layer_sizes
        self.max_iter = max_iter
        self.max_fit_time = max_fit_time
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose

    @whole_fit
    def fit(self, X=None, y=None):
        """Train the network, and estimate the normalising constant.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or None, default=None
            Samples of the target, for instance of a long Markov chain. They set the mean of the
            start, and its scale if ``prior_scale`` is "auto". They also give ``eubo_``, which is an
            upper bound only if they are samples of the target. The network is not trained on them.
        y : Ignored

        Returns
        -------
        self : DiffusionSampler

        Raises
        ------
        ValueError
            In any of these cases:

            - The number of features is given by none of X, ``bounds`` and ``n_features``, or they
              disagree.
            - ``log_density`` or its gradient returns an array of the wrong shape, NaN or +inf.
            - The gradient disagrees with finite differences.
            - Gradients are needed, and there are none.
            - ``bounds`` exclude everything, or X has samples outside of them.
            - The log-density is -inf at samples of X.
            - The log-density is -inf at all samples.
            - ``loss`` is set for a method that has its own.
            - ``warm_start`` is true, and the number of features, the method, ``n_steps`` or
              ``hidden_layer_sizes`` differ from those of the earlier fit.
        NonFiniteLossError
            If the loss becomes NaN or infinite.
        KeyboardInterrupt
            If the fit is interrupted. After the first training step, the estimator keeps what it
            has learned, and the normalising constant is still estimated. A second interrupt ends
            this estimate, and attributes that were not yet estimated are missing.

        Warns
        -----
        UserWarning
            If fewer than five percent of the paths are effective, or if ``log_density`` is slow
            because it loops over samples.
        """
        budget = Budget(self.max_fit_time)
        generator = torch_generator(seed_from(self.random_state))
        continued = bool(self.warm_start) and hasattr(self, "network_weights_")
        earlier = dict(vars(self)) if continued else {}
        X = self._checked(X)
        function = RowFunction(self.log_density, self.grad_log_density, "log_density")
        target = self._first_target(function, X, generator, earlier, budget.first(LOCATING_SHARE))
        sampler = self._new_sampler(function, generator)
        if continued:
            self._take_earlier(sampler, earlier)
        average, record = train(
            sampler,
            self._loss(),
            target,
            max_iter=self._max_iter(),
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            budget=budget,
            generator=generator,
            verbose=self.verbose,
        )
        self.network_weights_ = arrays_of(average)
        self.loss_curve_ = [*earlier.get("loss_curve_", []), *record.losses]
        self.n_iter_, self.stop_reason_ = len(self.loss_curve_), record.stop_reason
        scale = average.process.scale.detach().numpy()
        self.prior_mean_, self.prior_scale_ = self._location, self._scale * scale
        try:
            self._measure(average, target, X, generator, budget)
        except KeyboardInterrupt:
            self.stop_reason_ = "interrupted"
        except ValueError:
            # An interrupt is what the caller has to hear of.
            if self.stop_reason_ != "interrupted":
                raise
        self.n_evaluations_ = earlier.get("n_evaluations_", 0) + function.n_evaluations
        if self.stop_reason_ == "interrupted":
            raise InterruptedFit(
                f"The fit was interrupted after {self.n_iter_} iterations. The estimator keeps "
                "the weights of the network so far. warm_start=True continues from them."
            )
        return self

    def sample(self, n_samples=1, random_state=None, *, resample=False):
        """Draw samples, which are the last states of paths.

        Their distribution approximates the target. ``sample_weighted`` gives weights that correct
        the difference.

        Parameters
        ----------
        n_samples : int, default=1
        random_state : int, RandomState or None, default=None
        resample : bool, default=False
            Whether samples are drawn with replacement from the last states of four times as many
            paths, with probabilities proportional to their weights. There are at least 1000 such
            paths. The distribution is then closer to the target, and some samples are equal.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
        """
        n_samples = check_number_of_draws(n_samples, random_state)
        if not resample:
            return self.sample_weighted(n_samples, random_state)[0]
        generator = torch_generator(seed_from(random_state))
        n_draws = max(MIN_DRAWS, DRAWS_PER_SAMPLE * n_samples)
        draws, log_weights = self._draw(n_draws, generator)
        # For its error where all weights are zero.
        WeightSummary.of(log_weights)
        picks = systematic_indices(torch.from_numpy(log_weights)[None], generator, n_samples)
        return draws[picks[0].numpy()]

    def sample_weighted(self, n_samples=1, random_state=None):
        """Draw samples with weights. The mean weight is an unbiased estimate of Z.

        Parameters
        ----------
        n_samples : int, default=1
        random_state : int, RandomState or None, default=None

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
        log_weights : ndarray of shape (n_samples,)
            Not normalised. Means over the target are means with the weights
            ``softmax(log_weights)``.
        """
        n = check_number_of_draws(n_samples, random_state)
        return self._draw(n, torch_generator(seed_from(random_state)))

    def _draw(self, n: int, generator: torch.Generator) -> tuple[np.ndarray, np.ndarray]:
        target = self._fitted_target()
        states, log_weights = self._weighted(self._fitted_sampler(), target, n, generator)
        return target.to_input(states)[0].numpy(), log_weights.numpy()

    @torch.no_grad()
    def _trajectories(self, n_samples, random_state) -> np.ndarray:
        """The paths (n_states, n_samples, n_features) of :meth:`sample`, in input units."""
        n = check_number_of_draws(n_samples, random_state)
        target, paths = self._new_paths(n, seed_from(random_state))
        states = torch.cat([path.states for path in paths], 1)
        return torch.stack([target.to_input(state)[0] for state in states]).numpy()

    @torch.no_grad()
    def _branched_weights(self, n_samples, random_state, n_moments):
        """Log-weights of ``sample_weighted``, steps, and those of paths that branch off there."""
        n = check_number_of_draws(n_samples, random_state)
        seed, sampler = seed_from(random_state), self._fitted_sampler()
        target, paths = self._new_paths(n, seed)
        process, generator = sampler.process, branch_generator(seed)
        steps = branch_steps(process.n_steps, n_moments)
        log_weights, others = [], []
        for path in paths:
            size = len(path.log_density)
            log_weights.append(process.log_weights(path)[0])
            branches = [
                process.simulate(sampler.control, target, size, generator, path, step)
                for step in steps[:-1]
            ]
            others.append(torch.stack([process.log_weights(each)[0] for each in branches]))
        return torch.cat(log_weights).numpy(), steps, torch.cat(others, 1).numpy()

    def _new_paths(self, n: int, seed: int) -> tuple[Target, list[Path]]:
        """The paths of :meth:`sample_weighted`."""
        target, sampler = self._fitted_target(), self._fitted_sampler()
        process, generator = sampler.process, torch_generator(seed)
        return target, [
            process.simulate(sampler.control, target, size, generator) for size in self._chunks(n)
        ]

    def _fitted_target(self) -> Target:
        check_is_fitted(self)
        take_one_thread_where_forked()
        return self._target(RowFunction(self.log_density, self.grad_log_density, "log_density"))

    @torch.no_grad()
    def _weighted(
        self,
        sampler: Sampler,
        target: Target,
        n: int,
        generator: torch.Generator,
        budget: Budget = ENDLESS_BUDGET,
    ) -> tuple[Tensor, Tensor]:
        """Last states (n, d) of paths and their log-weights (n,); fewer where time is over."""
        process, control = sampler.process, sampler.control
        ends, log_weights = [], []
        for size in self._chunks(n):
            path = process.simulate(control, target, size, generator)
            ends.append(path.states[-1])
            log_weights.append(process.log_weights(path)[0])
            if budget.is_over:
                break
        return torch.cat(ends), torch.cat(log_weights)

    def _chunks(self, n: int) -> list[int]:
        """Sizes of chunks of n paths: small ones first, after which time may be over."""
        numbers = (self._options["n_steps"] + 1) * self.n_features_in_
        size, largest = FIRST_CHUNK, max(NUMBERS_PER_CHUNK // numbers, FIRST_CHUNK)
        sizes: list[int] = []
        while n > 0:
            sizes.append(min(size, n))
            n, size = n - size, min(2 * size, largest)
        return sizes

    def _measure(self, sampler: Sampler, target: Target, X, generator, budget: Budget) -> None:
        for name in MEASURES:
            self.__dict__.pop(name, None)
        _, log_weights = self._weighted(sampler, target, N_EVALUATED, generator, budget)
        WeightSummary.of(log_weights.numpy()).store(self)
        if X is None:
            return
        found = []
        with torch.no_grad():
            ends = target.from_input(tensor_of(X)).split(self._chunks(len(X)))
            for end in ends:
                path = sampler.process.reverse(sampler.control, target, end, generator)
                found.append(sampler.process.log_weights(path)[0])
                if budget.is_over:
                    break
        self.eubo_ = float(torch.cat(found).mean())

    def _checked(self, X) -> np.ndarray | None:
        """The reference points, with the number of features set."""
        if self.loss != "auto" and METHODS[self.method].loss is not None:
            raise ValueError(
                f"loss={self.loss!r} has no effect with method={self.method!r}, which has a loss "
                "of its own. Leave it at 'auto'."
            )
        if X is not None:
            X = as_numbers(self, X, ensure_min_samples=2)
        if X is None:
            self.__dict__.pop("feature_names_in_", None)
        self.n_features_in_ = number_of_features(self.n_features, self.bounds, X)
        return X

    def _first_target(
        self,
        function: RowFunction,
        X,
        generator: torch.Generator,
        earlier: dict,
        budget: Budget,
    ) -> Target:
        """The target in coordinates where the start is standard normal."""
        d = self.n_features_in_
        if not earlier:
            plain = Target(function, Bounds(self.bounds, d), torch.zeros(d), torch.ones(d))
            location, scale = self._start(plain, X, generator, budget)
            self._location, self._scale = location.numpy(), scale.numpy()
        elif len(self._location) != d:
            raise ValueError(
                f"warm_start=True continues a fit to {len(self._location)} features, and there "
                f"are {d}. Set warm_start=False to begin anew."
            )
        target = self._target(function)
        draws = torch.randn(64, d, generator=generator, dtype=torch.float64)
        function.check(target.to_input(draws)[0])
        if X is not None and not torch.isfinite(function.values(tensor_of(X))).all():
            raise ValueError(
                "log_density is -inf at samples of X, which are therefore no samples of the "
                "target. Leave them out."
            )
        self._check_gradients(function)
        return target

    def _start(self, plain: Target, X, generator, budget) -> tuple[Tensor, Tensor]:
        """Means and standard deviations of the start, in unbounded parameters."""
        d = self.n_features_in_
        location, scale = torch.zeros(d, dtype=torch.float64), None
        if X is not None:
            points = plain.from_input(tensor_of(X))
            if not torch.isfinite(points).all():
                raise ValueError(
                    "X has samples that are not inside of bounds. Samples of the target are."
                )
            location, scale = points.mean(0), widths(points)
            scale = torch.where(scale > 0, scale, 1.0)
        if not isinstance(self.prior_scale, str):
            given = np.asarray(self.prior_scale, dtype=np.float64)
            if given.shape not in ((), (d,)) or not (np.isfinite(given) & (given > 0)).all():
                raise ValueError(
                    f"prior_scale={self.prior_scale!r} must be a positive number, or one for each "
                    f"of the {d} features."
                )
            scale = torch.from_numpy(np.broadcast_to(given, (d,)).copy())
        if scale is None:
            location, scale = locate(plain, d, generator, budget)
        return location, scale

    def _check_gradients(self, function: RowFunction) -> None:
        if function.has_gradient:
            return
        method = METHODS[self.method]
        needs = (
            f"method={self.method!r}"
            if method.needs_gradient
            else "loss='kl'"
            if self._loss_name() == "kl"
            else None
        )
        if needs:
            raise ValueError(
                f"{needs} needs gradients, and log_density is not a function of torch tensors. "
                "Write it with torch, give grad_log_density, or choose method='dds' or 'pis' with "
                "loss='lv' or 'rkl_ld'."
            )

    def _target(self, function: RowFunction) -> Target:
        bounds = Bounds(self.bounds, self.n_features_in_)
        return Target(function, bounds, tensor_of(self._location), tensor_of(self._scale))

    def _loss_name(self) -> str:
        return DEFAULT_LOSS if self.loss == "auto" else self.loss

    def _loss(self) -> PathLoss:
        own = METHODS[self.method].loss
        return LOSSES[self._loss_name()] if own is None else own()

    def _max_iter(self) -> int:
        if self.max_iter != "auto":
            return self.max_iter
        return MAX_ITER if self.max_fit_time is None else ENDLESS

    def _new_sampler(self, function: RowFunction, generator: torch.Generator) -> Sampler:
        widths = checked_layer_sizes(self.hidden_layer_sizes)
        self._options = {
            "method": self.method,
            "n_steps": int(self.n_steps),
            "hidden_layer_sizes": widths,
            "guided": function.has_gradient,
        }
        # The log-variance with a learned reference has no meaning as a divergence, and diverges.
        learned = METHODS[self.method].loss is None and self._loss_name() != "lv"
        return self._module(generator, learned)

    def _module(self, generator: torch.Generator, learned: bool = False) -> Sampler:
        options, d = self._options, self.n_features_in_
        process = METHODS[options["method"]].process(d, options["n_steps"], learned)
        guided = options["guided"] and process.guided
        widths = options["hidden_layer_sizes"]
        return Sampler(process, Control(d, options["n_steps"], widths, guided, generator))

    def _fitted_sampler(self) -> Sampler:
        sampler = self._module(torch_generator(0))
        sampler.load_state_dict(state_of(self.network_weights_))
        return sampler.requires_grad_(False)

    def _take_earlier(self, sampler: Sampler, earlier: dict) -> None:
        if earlier["_options"] != self._options:
            raise ValueError(
                "warm_start=True continues a fit with the same method, n_steps and "
                "hidden_layer_sizes, of a function with gradients or without. Set "
                "warm_start=False to begin anew."
            )
        sampler.load_state_dict(state_of(earlier["network_weights_"]))
