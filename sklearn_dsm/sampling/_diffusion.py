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
from .._core.arrays import arrays_of, state_of
from .._core.random import torch_generator
from .._fit import InterruptedFit, whole_fit
from .._random import seed_from
from ._bounds import Bounds
from ._callables import RowFunction
from ._control import Control
from ._path_losses import LOSSES, PathLoss
from ._path_training import Sampler, train
from ._prior_scale import locate
from ._processes.annealed import AnnealedProcess
from ._processes.process import Process
from ._processes.referenced import Brownian, OrnsteinUhlenbeck
from ._regression_losses import EndRegression, transport_residual
from ._target import Target
from ._weights import WeightSummary

# Paths that measure the weights after training, and numbers held in the paths of one chunk.
N_EVALUATED, NUMBERS_PER_CHUNK = 4096, 2**23
MAX_ITER, ENDLESS = 1000, 10**9
# Draws from which samples are drawn anew by their weights, for each sample, and at least.
DRAWS_PER_SAMPLE, MIN_DRAWS = 4, 1000
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
    "cmcd": _Method(AnnealedProcess, needs_gradient=True),
    "nets": _Method(partial(AnnealedProcess, learn_path=False), lambda: transport_residual, True),
    "adjoint": _Method(Brownian, partial(EndRegression, weighted=False), True),
    "pdds": _Method(OrnsteinUhlenbeck, partial(EndRegression, weighted=True), True),
}


class DiffusionSampler(BaseEstimator):
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
        "hidden_layer_sizes": ["array-like"],
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
        n_steps=64,
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
        budget = Budget(self.max_fit_time)
        generator = torch_generator(seed_from(self.random_state))
        continued = bool(self.warm_start) and hasattr(self, "network_weights_")
        earlier = dict(vars(self)) if continued else {}
        X = self._checked(X)
        function = RowFunction(self.log_density, self.grad_log_density, "log_density")
        target = self._first_target(function, X, generator, earlier)
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
        self._measure(average, target, X, generator)
        self.n_evaluations_ = earlier.get("n_evaluations_", 0) + function.n_evaluations
        if record.stop_reason == "interrupted":
            raise InterruptedFit(
                f"The fit was interrupted after {self.n_iter_} iterations. The estimator keeps "
                "the weights of the network so far. warm_start=True continues from them."
            )
        return self

    def sample(self, n_samples=1, random_state=None, *, resample=False):
        n_samples = _checked_number(n_samples)
        if not resample:
            return self.sample_weighted(n_samples, random_state)[0]
        generator = torch_generator(seed_from(random_state))
        n_draws = max(MIN_DRAWS, DRAWS_PER_SAMPLE * n_samples)
        draws, log_weights = self._draw(n_draws, generator)
        if not np.isfinite(log_weights).any():
            WeightSummary.of(log_weights)
        weights = torch.from_numpy(log_weights).softmax(0)
        picks = torch.multinomial(weights, n_samples, replacement=True, generator=generator)
        return draws[picks.numpy()]

    def sample_weighted(self, n_samples=1, random_state=None):
        generator = torch_generator(seed_from(random_state))
        return self._draw(_checked_number(n_samples), generator)

    def _draw(self, n: int, generator: torch.Generator) -> tuple[np.ndarray, np.ndarray]:
        check_is_fitted(self)
        function = RowFunction(self.log_density, self.grad_log_density, "log_density")
        target = self._target(function)
        states, log_weights = self._weighted(self._fitted_sampler(), target, n, generator)
        return target.to_input(states)[0].numpy(), log_weights.numpy()

    @torch.no_grad()
    def _weighted(
        self, sampler: Sampler, target: Target, n: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Last states (n, d) of paths and their log-weights (n,)."""
        process, control = sampler.process, sampler.control
        ends, log_weights = [], []
        for size in self._chunks(n):
            path = process.simulate(control, target, size, generator)
            ends.append(path.states[-1])
            log_weights.append(process.log_weights(path)[0])
        return torch.cat(ends), torch.cat(log_weights)

    def _chunks(self, n: int) -> list[int]:
        size = max(NUMBERS_PER_CHUNK // ((self.n_steps_ + 1) * self.n_features_in_), 64)
        return [min(size, n - begun) for begun in range(0, n, size)]

    def _measure(self, sampler: Sampler, target: Target, X, generator) -> None:
        _, log_weights = self._weighted(sampler, target, N_EVALUATED, generator)
        WeightSummary.of(log_weights.numpy()).store(self)
        if "eubo_" in vars(self):
            del self.eubo_
        if X is None:
            return
        found = []
        with torch.no_grad():
            ends = target.from_input(torch.from_numpy(X)).split(self._chunks(len(X))[0])
            for end in ends:
                path = sampler.process.reverse(sampler.control, target, end, generator)
                found.append(sampler.process.log_weights(path)[0])
        self.eubo_ = float(torch.cat(found).mean())

    def _checked(self, X) -> np.ndarray | None:
        """The reference points, with the number of features set."""
        if self.loss != "auto" and METHODS[self.method].loss is not None:
            raise ValueError(
                f"loss={self.loss!r} has no effect with method={self.method!r}, which has a loss "
                "of its own. Leave it at 'auto'."
            )
        known = {"n_features": self.n_features}
        known["bounds"] = None if self.bounds is None else len(self.bounds)
        if X is not None:
            X = as_numbers(self, X, ensure_min_samples=2)
            known["X"] = X.shape[1]
        numbers = {name: n for name, n in known.items() if n is not None}
        if not numbers:
            raise ValueError(
                "The number of features is not known. Give n_features, or bounds with a pair for "
                "each feature, or samples X to fit."
            )
        if len(set(numbers.values())) > 1:
            given = ", ".join(f"{n} by {name}" for name, n in numbers.items())
            raise ValueError(f"The numbers of features disagree: {given}. Make them equal.")
        if X is None and hasattr(self, "feature_names_in_"):
            del self.feature_names_in_
        self.n_features_in_ = int(next(iter(numbers.values())))
        return X

    def _first_target(
        self, function: RowFunction, X, generator: torch.Generator, earlier: dict
    ) -> Target:
        """The target in coordinates where the start is standard normal."""
        d = self.n_features_in_
        self.n_steps_, self.method_ = self.n_steps, self.method
        if "location_" not in earlier:
            plain = Target(function, Bounds(self.bounds, d), torch.zeros(d), torch.ones(d))
            location, scale = self._start(plain, X, generator)
            self.location_, self.scale_ = location.numpy(), scale.numpy()
        elif len(self.location_) != d:
            raise ValueError(
                f"warm_start=True continues a fit to {len(self.location_)} features, and there "
                f"are {d}. Set warm_start=False to begin anew."
            )
        target = self._target(function)
        draws = torch.randn(64, d, generator=generator, dtype=torch.float64)
        function.check(target.to_input(draws)[0])
        self._check_gradients(function)
        return target

    def _start(self, plain: Target, X, generator) -> tuple[Tensor, Tensor]:
        """Means and standard deviations of the start, in unbounded parameters."""
        d = self.n_features_in_
        location, scale = torch.zeros(d, dtype=torch.float64), None
        if X is not None:
            points = plain.from_input(torch.from_numpy(X))
            if not torch.isfinite(points).all():
                raise ValueError(
                    "X has samples that are not inside of bounds. Samples of the target are."
                )
            location, scale = points.mean(0), points.std(0, correction=0)
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
            location, scale = locate(plain, d, generator)
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
        return Target(
            function, bounds, torch.from_numpy(self.location_), torch.from_numpy(self.scale_)
        )

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
        self.guided_ = function.has_gradient
        learn_scale = METHODS[self.method].loss is None and self._loss_name() == "rkl_ld"
        return self._module(generator, learn_scale)

    def _module(self, generator: torch.Generator, learn_scale: bool = False) -> Sampler:
        d, process_type = self.n_features_in_, METHODS[self.method_].process
        process = process_type(d, self.n_steps_, learn_scale)
        guided = self.guided_ and process.guided
        widths = [int(width) for width in self.hidden_layer_sizes]
        if not widths or min(widths) < 1:
            raise ValueError(
                f"hidden_layer_sizes={self.hidden_layer_sizes!r} must hold one positive number or "
                "more."
            )
        return Sampler(process, Control(d, self.n_steps_, widths, guided, generator))

    def _fitted_sampler(self) -> Sampler:
        sampler = self._module(torch_generator(0))
        sampler.load_state_dict(state_of(self.network_weights_))
        return sampler.requires_grad_(False)

    def _take_earlier(self, sampler: Sampler, earlier: dict) -> None:
        weights = earlier["network_weights_"]
        fresh = sampler.state_dict()
        same = fresh.keys() == weights.keys() and all(
            fresh[name].shape == weights[name].shape for name in fresh
        )
        if not same or earlier["method_"] != self.method or earlier["n_steps_"] != self.n_steps:
            raise ValueError(
                "warm_start=True continues a fit with the same method, n_steps and "
                "hidden_layer_sizes. Set warm_start=False to begin anew."
            )
        sampler.load_state_dict(state_of({k: v.copy() for k, v in weights.items()}))


def _checked_number(n_samples) -> int:
    if not isinstance(n_samples, Integral) or n_samples < 1:
        raise ValueError(f"n_samples={n_samples!r} must be a positive integer.")
    return int(n_samples)
