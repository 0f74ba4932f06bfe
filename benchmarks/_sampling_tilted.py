"""The methods of TiltedSampler on a mixture with a known tilted density, and their targets."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from _budget import processor_timed
from _tilted_mixtures import base, log_weight, tilted

from sklearn_dsm import TiltedSampler
from sklearn_dsm._core.losses.targets import (
    conditional_target,
    novel_target,
    target_score_target,
)
from sklearn_dsm._core.noise.level import NoiseLevel
from sklearn_dsm.metrics import sliced_wasserstein_distance

N_DRAWS = 3000


class Outcome(NamedTuple):
    """Of one fit."""

    distance: float
    error: float
    stderr: float
    ess: float
    evaluations: int
    seconds: float


def outcome(method: str, seed: int, **options) -> Outcome:
    """Fit and compare with draws of the exact density."""
    exact = tilted()
    sampler = TiltedSampler(base(), log_weight, method=method, random_state=seed, **options)
    _, seconds = processor_timed(sampler.fit)
    draws = sampler.sample(N_DRAWS, random_state=seed)
    exact.mixture.random_state = seed
    return Outcome(
        sliced_wasserstein_distance(draws, exact.mixture.sample(N_DRAWS)[0], random_state=0),
        sampler.log_normalizer_ - exact.log_normalizer,
        sampler.log_normalizer_stderr_,
        sampler.ess_,
        sampler.n_evaluations_,
        seconds,
    )


def floor_and_base() -> tuple[float, float]:
    """Distances of other draws of the tilted density, and of the base, from its draws."""
    exact, start = tilted().mixture, base()
    first = exact.sample(N_DRAWS)[0]
    found = [
        sliced_wasserstein_distance(other.sample(N_DRAWS)[0], first, random_state=0)
        for other in (exact, start)
    ]
    return found[0], found[1]


SIGNALS = (0.9999, 0.9, 0.5, 0.1, 0.0001)
MEANS = torch.tensor([-3.0, 0.5, 1.5], dtype=torch.float64)
DEVIATIONS = torch.tensor([0.5, 0.6, 0.3], dtype=torch.float64)


def target_variances(n: int = 200_000) -> dict[str, list[float]]:
    """Variances of the regression targets given the noised sample, at squared signals.

    For a mixture of three normal densities in one feature: the mean square of a target less the
    mean square of the score.
    """
    generator = torch.Generator().manual_seed(0)
    chosen = torch.randint(3, (n,), generator=generator)
    clean = MEANS[chosen] + DEVIATIONS[chosen] * torch.randn(n, generator=generator).double()
    noise = torch.randn(n, generator=generator).double()
    found: dict[str, list[float]] = {"csm": [], "tsm": [], "nsm": []}
    clean_score = _score(clean, torch.tensor(1.0).double(), torch.tensor(0.0).double())
    for squared in SIGNALS:
        level = NoiseLevel(torch.tensor(squared**0.5).double(), torch.tensor(1 - squared).double())
        x = level.a * clean + level.v.sqrt() * noise
        truth = _score(x, *level)
        targets = {
            "csm": conditional_target(clean, x, level),
            "tsm": target_score_target(clean_score, level),
            "nsm": novel_target(clean, clean_score, x, level),
        }
        for name, target in targets.items():
            found[name].append(float((target - truth).square().mean()))
    return found


def _score(x: torch.Tensor, a: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    variance = a**2 * DEVIATIONS**2 + v
    away = x[:, None] - a * MEANS
    shares = (-0.5 * (away**2 / variance + variance.log())).softmax(1)
    return -(shares * away / variance).sum(1)


def mean_and_spread(outcomes: list[Outcome]) -> str:
    """One line of a table."""
    table = np.array(outcomes)
    distance, error, stderr, ess, evaluations, seconds = table.mean(0)
    return (
        f"SW2 {distance:.3f} (largest {table[:, 0].max():.3f})  log Z error {error:+.4f} "
        f"(largest {np.abs(table[:, 1]).max():.4f}, s.e. {stderr:.4f})  ESS {ess:.3f} "
        f"(least {table[:, 3].min():.3f})  {evaluations:,.0f} evaluations  {seconds:.1f} s"
    )
