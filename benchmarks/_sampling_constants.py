"""Normalising constants of published targets, by AnnealedSampler and DiffusionSampler."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from _budget import processor_timed
from scipy.special import softmax

from sklearn_dsm import AnnealedSampler, DiffusionSampler
from sklearn_dsm.datasets import (
    BrownianPosterior,
    Funnel,
    IonospherePosterior,
    ManyWell,
    SeedsPosterior,
    SonarPosterior,
    make_benchmark_mixture,
)
from sklearn_dsm.metrics import mode_coverage

TARGETS = {
    "Funnel": lambda: Funnel(10),
    "many-well, d=2": lambda: ManyWell(2),
    "9 normals": lambda: make_benchmark_mixture("grid9"),
    "25 normals": lambda: make_benchmark_mixture("grid25"),
    "Seeds": SeedsPosterior,
    "Brownian": BrownianPosterior,
    "many-well, d=50": lambda: ManyWell(50),
    "Sonar": SonarPosterior,
    "Ionosphere": IonospherePosterior,
}
# Those that take half a minute a fit have half the seeds.
SLOW = ("Sonar", "Ionosphere")
QUICK = {"n_particles": 100, "n_temperatures": 10}
DIFFUSION_SECONDS, N_WEIGHTED = 30.0, 2000
# Means and standard deviations of 30 runs with 256 steps each [DDS], and the estimate of
# adjoint matching for the many-well density in 50 dimensions, as an absolute error.
PUBLISHED = {
    "Funnel": {"DDS": "-0.221 +- 0.076", "PIS": "-0.301", "SMC": "-0.163 +- 0.064"},
    "Ionosphere": {"DDS": "-111.58 +- 0.14", "PIS": "-112.95", "SMC": "-111.65 +- 0.22"},
    "Sonar": {"DDS": "-108.89 +- 0.36", "PIS": "-108.89", "SMC": "-109.26 +- 0.75"},
    "Brownian": {"DDS": "0.991 +- 0.11", "PIS": "0.645", "SMC": "0.25 +- 1.3"},
}
ADJOINT_MATCHING_ERROR = 3.43


class Outcome(NamedTuple):
    """Of one fit. The coverage is NaN for a target without modes."""

    error: float
    stderr: float
    coverage: float
    ess: float
    evaluations: int
    seconds: float


def annealed(target, seed: int, **options) -> Outcome:
    sampler = AnnealedSampler(
        target.log_density, n_features=target.n_features, random_state=seed, **options
    )
    seconds = _fitted_quietly(sampler)
    return _outcome(target, sampler, sampler.particles_, sampler.log_weights_, seconds)


def diffusion(target, seed: int, **options) -> Outcome:
    sampler = DiffusionSampler(
        target.log_density, n_features=target.n_features, random_state=seed, **options
    )
    seconds = _fitted_quietly(sampler)
    X, log_weights = sampler.sample_weighted(N_WEIGHTED, random_state=seed)
    return _outcome(target, sampler, X, log_weights, seconds)


def _fitted_quietly(sampler) -> float:
    """Seconds of a fit; the table says what its warnings say."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return processor_timed(sampler.fit)[1]


def _outcome(target, sampler, X, log_weights, seconds: float) -> Outcome:
    return Outcome(
        sampler.log_normalizer_ - target.log_normalizer,
        sampler.log_normalizer_stderr_,
        coverage(target, X, softmax(log_weights)),
        sampler.ess_,
        sampler.n_evaluations_,
        seconds,
    )


def coverage(target, X, weights) -> float:
    """Coverage of the modes; of the many-well density, that of the worst pair of features."""
    if isinstance(target, ManyWell):
        pair = ManyWell(2)
        centers, shares = pair.mode_centers(), pair.mode_weights()
        pairs = np.split(X, target.n_features // 2, axis=1)
        return min(mode_coverage(part, centers, shares, X_weight=weights) for part in pairs)
    if hasattr(target, "means"):
        return mode_coverage(X, target.means, X_weight=weights)
    return math.nan


def lines(n_seeds: int, smoke: bool = False) -> Iterator[str]:
    """The table, line by line; a smoke run has one small target."""
    names = ["many-well, d=2"] if smoke else list(TARGETS)
    quick, seconds = (QUICK, 0.5) if smoke else ({}, DIFFUSION_SECONDS)
    yield (
        "Errors of log Z. s.e.: mean of the standard errors that the samplers give.\nmodes: least "
        "coverage (1 is all), in the worst pair of features of many wells. seconds: of the "
        "processor.\nAll but the seeds, the spread and the largest are means over the seeds."
    )
    yield HEADING
    yield "AnnealedSampler, defaults"
    yield from _rows(annealed, names, n_seeds, **quick)
    yield "AnnealedSampler, prior_scale=1"
    yield from _rows(annealed, ["Funnel"], n_seeds, prior_scale=1.0, **quick)
    if not smoke:
        yield "AnnealedSampler, n_temperatures=512"
        yield from _rows(annealed, ["Funnel", "many-well, d=2"], n_seeds, n_temperatures=512)
    yield f"DiffusionSampler, max_fit_time={seconds:g}"
    yield from _rows(diffusion, names, 1, max_fit_time=seconds)
    yield "Published estimates of log Z with 256 steps: mean +- standard deviation of 30 runs"
    for name, estimates in PUBLISHED.items():
        each = "   ".join(f"{method} {value}" for method, value in estimates.items())
        yield f"  {name:<16}exact {TARGETS[name]().log_normalizer:9.3f}   {each}"
    yield f"  many-well, d=50: error of adjoint matching {ADJOINT_MATCHING_ERROR}"


def _rows(run, names, n_seeds: int, **options) -> Iterator[str]:
    for name in names:
        target = TARGETS[name]()
        n = -(-n_seeds // 2) if name in SLOW else n_seeds
        yield row(name, [run(target, seed, **options) for seed in range(n)])


HEADING = (
    f"  {'':<16}{'seeds':>6}{'mean error':>12}{'spread':>9}{'largest':>9}{'s.e.':>8}"
    f"{'within 2 s.e.':>15}{'ESS':>6}{'modes':>8}{'evaluations':>13}{'seconds':>9}"
)


def row(name: str, outcomes: list[Outcome]) -> str:
    """One line of the table: errors of log Z, and means of the others over the seeds."""
    table = np.array(outcomes)
    errors, stderrs = table[:, 0], table[:, 1]
    n = len(errors)
    spread = f"{errors.std(ddof=1):9.4f}" if n > 1 else f"{'':>9}"
    inside = f"{int((np.abs(errors) < 2 * stderrs).sum())} of {n}"
    _, stderr, modes, ess, evaluations, seconds = table.mean(0)
    covered = f"{'':>8}" if math.isnan(modes) else f"{table[:, 2].min():8.4f}"
    return (
        f"  {name:<16}{n:>6}{errors.mean():+12.4f}{spread}{np.abs(errors).max():9.4f}{stderr:8.4f}"
        f"{inside:>15}{ess:6.2f}{covered}{evaluations:13,.0f}{seconds:9.1f}"
    )
