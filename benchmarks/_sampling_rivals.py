"""AnnealedSampler beside other packages: NUTS, nested samplers and another sequential Monte Carlo.

The others are numpyro, dynesty, nautilus-sampler and pocomc. What is not installed is left out.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
import torch
from _budget import processor_timed
from _sampling_constants import coverage
from scipy import stats
from scipy.special import ndtri

from sklearn_dsm import AnnealedSampler
from sklearn_dsm.datasets import Funnel, IonospherePosterior, ManyWell, make_benchmark_mixture
from sklearn_dsm.metrics import sliced_wasserstein_distance

N_DRAWS = 2000


class OutOfTimeError(Exception):
    """The sampler has had its seconds."""


class Prior(NamedTuple):
    """What nested samplers draw from: uniform between ends (d,), or standard normal without them.

    The likelihood is the target's density divided by that of the prior.
    """

    n_features: int
    ends: np.ndarray | None

    def transform(self, u: np.ndarray) -> np.ndarray:
        return ndtri(u) if self.ends is None else self.ends * (2 * u - 1)

    def log_density(self, X: np.ndarray) -> np.ndarray | float:
        if self.ends is None:
            return -0.5 * ((X**2).sum(-1) + self.n_features * math.log(2 * math.pi))
        return -np.log(2 * self.ends).sum()

    def distributions(self) -> list:
        if self.ends is None:
            return [stats.norm()] * self.n_features
        return [stats.uniform(-end, 2 * end) for end in self.ends]


class Task(NamedTuple):
    """A target, the prior of the nested samplers, and its log-density for jax."""

    target: Any
    prior: Prior
    jax_log_density: Callable


class Counted:
    """Log-densities of a target's rows, counted, until the seconds are over."""

    def __init__(self, task: Task, seconds: float):
        self.task, self.calls = task, 0
        self.end = time.process_time() + seconds

    def log_density(self, x: torch.Tensor) -> torch.Tensor:
        if time.process_time() > self.end:
            raise OutOfTimeError
        self.calls += len(x)
        return self.task.target.log_density(x)

    def log_likelihoods(self, X: np.ndarray) -> np.ndarray:
        log_density = self.log_density(torch.from_numpy(np.array(X))).numpy()
        return log_density - self.task.prior.log_density(X)

    def log_likelihood(self, x: np.ndarray) -> float:
        return float(self.log_likelihoods(x[None])[0])


class Found(NamedTuple):
    """Draws (n, d), their weights (n,), and log Z with its standard error; NaN where none."""

    X: np.ndarray
    weights: np.ndarray
    log_normalizer: float = math.nan
    stderr: float = math.nan
    calls: int = 0


def smc(task: Task, function: Counted, seed: int, **options) -> Found:
    sampler = AnnealedSampler(
        function.log_density, n_features=task.target.n_features, random_state=seed, **options
    ).fit()
    weights = np.exp(sampler.log_weights_ - sampler.log_weights_.max())
    return Found(
        sampler.particles_, weights, sampler.log_normalizer_, sampler.log_normalizer_stderr_
    )


def narrow_smc(task: Task, function: Counted, seed: int) -> Found:
    return smc(task, function, seed, prior_scale=1.0)


def nuts(task: Task, function: Counted, seed: int) -> Found:
    import jax
    from numpyro.infer import MCMC, NUTS

    jax.config.update("jax_enable_x64", True)
    d = task.target.n_features
    kernel = NUTS(potential_fn=lambda x: -task.jax_log_density(x))
    chains = MCMC(
        kernel, num_warmup=500, num_samples=N_DRAWS // 4, num_chains=4,
        chain_method="sequential", progress_bar=False,
    )  # fmt: skip
    start = 2.0 * np.random.RandomState(seed).normal(size=(4, d))
    steps, key = 0, jax.random.PRNGKey(seed)
    chains.warmup(key, init_params=start, extra_fields=("num_steps",), collect_warmup=True)
    steps += int(chains.get_extra_fields()["num_steps"].sum())
    chains.run(key, init_params=start, extra_fields=("num_steps",))
    steps += int(chains.get_extra_fields()["num_steps"].sum())
    X = np.array(chains.get_samples())
    return Found(X, np.ones(len(X)), calls=steps)


def nested(task: Task, function: Counted, seed: int) -> Found:
    import dynesty

    d = task.target.n_features
    many = d < 10
    sampler = dynesty.NestedSampler(
        function.log_likelihood,
        task.prior.transform,
        d,
        nlive=400 if many else 100,
        sample="unif" if many else "rwalk",
        rstate=np.random.default_rng(seed),
    )
    sampler.run_nested(print_progress=False)
    found = sampler.results
    return Found(
        found.samples, found.importance_weights(), float(found.logz[-1]), float(found.logzerr[-1])
    )


def nautilus(task: Task, function: Counted, seed: int) -> Found:
    from nautilus import Sampler

    sampler = Sampler(
        task.prior.transform, function.log_likelihoods, task.target.n_features,
        vectorized=True, pass_dict=False, seed=seed,
    )  # fmt: skip
    sampler.run(verbose=False)
    X, log_weights, _ = sampler.posterior()
    stderr = 1 / math.sqrt(sampler.n_eff)
    return Found(X, np.exp(log_weights - log_weights.max()), float(sampler.log_z), stderr)


def monte_carlo_without_flow(task: Task, function: Counted, seed: int) -> Found:
    """Without the flow, whose training takes minutes and which alone gives a standard error."""
    import pocomc

    sampler = pocomc.Sampler(
        prior=pocomc.Prior(task.prior.distributions()),
        likelihood=function.log_likelihoods,
        vectorize=True,
        precondition=False,
        random_state=seed,
    )
    sampler.run(progress=False)
    X, weights, _, _ = sampler.posterior()
    return Found(X, weights, float(sampler.evidence()[0]))


METHODS: dict[str, tuple[str, Callable]] = {
    "AnnealedSampler": ("sklearn_dsm", smc),
    "  prior_scale=1": ("sklearn_dsm", narrow_smc),
    "numpyro NUTS": ("numpyro", nuts),
    "dynesty": ("dynesty", nested),
    "nautilus": ("nautilus", nautilus),
    "pocoMC, no flow": ("pocomc", monte_carlo_without_flow),
}


DISTRIBUTIONS = {
    "numpyro": "numpyro",
    "jax": "jax",
    "dynesty": "dynesty",
    "nautilus-sampler": "nautilus",
    "pocomc": "pocomc",
}


def tasks() -> dict[str, Task]:
    funnel, grid, ionosphere = Funnel(10), make_benchmark_mixture("grid9"), IonospherePosterior()
    signed = ionosphere._signed.numpy()

    def jax_funnel(x):
        import jax.numpy as jnp

        rest = -0.5 * ((x[1:] ** 2).sum() * jnp.exp(-x[0]) + 9 * x[0])
        return rest - x[0] ** 2 / 18

    def jax_wells(x):
        return -(x[0] ** 4) + 6 * x[0] ** 2 + 0.5 * x[0] - 0.5 * x[1] ** 2

    def jax_grid(x):
        from jax.scipy.special import logsumexp

        return logsumexp(-0.5 * ((x - grid.means) ** 2).sum(1) / 0.3)

    def jax_ionosphere(x):
        import jax

        return jax.nn.log_sigmoid(signed @ x).sum() - 0.5 * (x**2).sum()

    def within(*ends):
        return Prior(len(ends), np.array(ends, dtype=float))

    return {
        "Funnel": Task(funnel, within(12, *[60] * 9), jax_funnel),
        "many-well, d=2": Task(ManyWell(2), within(4, 6), jax_wells),
        "9 normals": Task(grid, within(10, 10), jax_grid),
        "Ionosphere": Task(ionosphere, Prior(35, None), jax_ionosphere),
    }


def lines(n_seeds: int, smoke: bool = False, seconds: float = 60.0) -> Iterator[str]:
    """The table, line by line; a smoke run has one small target and what is always installed."""
    every = tasks()
    names = ["many-well, d=2"] if smoke else list(every)
    yield (
        f"Means over {n_seeds} seeds; fewer where one takes half a minute of the processor.\n"
        "calls: log-densities; those of AnnealedSampler and NUTS have gradients. seconds: of the "
        f"processor, at most {seconds:g}.\n"
        "error, largest, s.e.: of log Z, which NUTS does not give.\n"
        "SW2: sliced 2-Wasserstein distance from exact draws, of the first feature of the funnel. "
        "modes: least coverage.\n"
        "Priors of dynesty, nautilus and pocoMC: a uniform box; for Ionosphere, the prior of the "
        "model.\n"
        "dynesty has 400 live points in two dimensions, else 100."
    )
    found = [name for name, module in DISTRIBUTIONS.items() if find_spec(module)]
    yield ", ".join(f"{name} {version(name)}" for name in found) or "no other package"
    yield (
        f"  {'':<17}{'seeds':>6}{'calls':>13}{'seconds':>9}{'error':>10}{'largest':>9}{'s.e.':>8}"
        f"{'SW2':>8}{'modes':>8}"
    )
    for name in names:
        task = every[name]
        floor = ""
        if hasattr(task.target, "sample"):
            other = task.target.sample(N_DRAWS, random_state=1)
            floor = f"; SW2 of other exact draws {distance(task, other, np.ones(N_DRAWS)):.3f}"
        yield f"{name}{floor}"
        for method, (needs, run) in METHODS.items():
            if (smoke and needs != "sklearn_dsm") or not find_spec(needs):
                continue
            if run is narrow_smc and name != "Funnel":
                continue
            yield row(method, outcomes(run, task, n_seeds, seconds))


def outcomes(run, task: Task, n_seeds: int, seconds: float) -> list:
    """Of so many seeds, or of those that start within half of the seconds that one may take."""
    found, end = [], time.process_time() + 0.5 * seconds
    for seed in range(n_seeds):
        if time.process_time() < end:
            found.append(outcome(run, task, seed, seconds))
    return found


def outcome(run, task: Task, seed: int, seconds: float) -> tuple[float, ...] | None:
    """Calls, seconds, error, standard error, distance, coverage; None if out of time."""
    function = Counted(task, seconds)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found, taken = processor_timed(lambda: run(task, function, seed))
        except OutOfTimeError:
            return None
    weights = found.weights / found.weights.sum()
    return (
        found.calls or function.calls,
        taken,
        found.log_normalizer - task.target.log_normalizer,
        found.stderr,
        distance(task, found.X, weights),
        coverage(task.target, found.X, weights),
    )


def distance(task: Task, X, weights) -> float:
    if not hasattr(task.target, "sample"):
        return math.nan
    chosen = np.random.RandomState(0).choice(len(X), N_DRAWS, p=weights / weights.sum())
    exact = task.target.sample(N_DRAWS, random_state=0)
    # The other features of the funnel are so spread that a few far draws are all of a distance.
    kept = slice(1) if isinstance(task.target, Funnel) else slice(None)
    return sliced_wasserstein_distance(X[chosen][:, kept], exact[:, kept], random_state=0)


def row(method: str, outcomes: list) -> str:
    done = np.array([found for found in outcomes if found is not None])
    start = f"  {method:<17}{len(done):>6}"
    if not len(done):
        return f"{start}   out of time"

    def shown(value: float, width: int, digits: int, sign: str = "") -> str:
        return f"{'-':>{width}}" if math.isnan(value) else f"{value:{sign}{width}.{digits}f}"

    calls, seconds, error, stderr, sw2, _ = done.mean(0)
    return (
        f"{start}{calls:13,.0f}{seconds:9.1f}{shown(error, 10, 4, '+')}"
        f"{shown(np.abs(done[:, 2]).max(), 9, 4)}{shown(stderr, 8, 4)}{shown(sw2, 8, 3)}"
        f"{shown(done[:, 5].min(), 8, 3)}"
    )
