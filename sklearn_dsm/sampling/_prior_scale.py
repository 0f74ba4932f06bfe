"""Where a target has its mass, roughly, from values of its log-density alone."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .._budget import Budget
from ._target import Target
from ._weights import tempered

# Standard deviations of the first draws, in the units of the unbounded parameters.
FIRST_SCALES = 2.0 ** torch.arange(-3, 6, dtype=torch.float64)
# First draws, chains, and sweeps over all of them; the later half of the sweeps counts.
N_DRAWS, N_CHAINS, N_SWEEPS = 1024, 256, 200
KEPT_EVERY = 10
# Kurtosis from which tails are heavy; that of a normal distribution is 3.
HEAVY_KURTOSIS = 5.0
# The share of effective draws that weights are tempered to.
MIN_EFFECTIVE = 0.1
# Length of a move in units of 2.38 / sqrt(2 d); every so many sweeps it is as long as a difference
# of two chains, and takes them from one mode to another.
JUMP_EVERY, JITTER = 5, 1e-4


def locate(
    target: Target, n_features: int, generator: torch.Generator, budget: Budget
) -> tuple[Tensor, Tensor]:
    """Means and standard deviations (d,) of the features, from a short run of many chains.

    A chain moves along the difference of two others, so that moves have the scale of the target in
    every direction (differential evolution Markov chains). Out of time, it stops moving.

    Raises
    ------
    ValueError
        If the density is zero at all first draws.
    """
    chains = _first_chains(target, n_features, generator)
    values, half = target.values(chains), N_CHAINS // 2
    halves = (slice(half), slice(half, None))
    kept = []
    for sweep in range(N_SWEEPS):
        if budget.is_over:
            break
        length = 1.0 if sweep % JUMP_EVERY == 0 else 2.38 / math.sqrt(2 * n_features)
        for moved, others in (halves, halves[::-1]):
            pool = chains[others]
            first, second = torch.randint(half, (2, half), generator=generator)
            noise = torch.randn(half, n_features, generator=generator, dtype=torch.float64)
            spread = pool.std(0)
            moves = length * (pool[first] - pool[second]) + JITTER * spread * noise
            proposed = chains[moved] + moves
            found = target.values(proposed)
            chance = torch.rand(half, generator=generator, dtype=torch.float64).log()
            accepted = chance < found - values[moved]
            chains[moved] = torch.where(accepted[:, None], proposed, chains[moved])
            values[moved] = torch.where(accepted, found, values[moved])
        if 2 * sweep >= N_SWEEPS and sweep % KEPT_EVERY == 0:
            kept.append(chains.clone())
    draws = torch.cat(kept or [chains])
    return draws.mean(0), widths(draws).clamp_min(1e-6)


def widths(draws: Tensor) -> Tensor:
    """Standard deviations (d,) of draws (n, d), or smaller ones where the tails are heavy."""
    low, high = torch.quantile(draws, draws.new_tensor([0.05, 0.95]), dim=0)
    std = draws.std(0, correction=0)
    fourth = ((draws - draws.mean(0)) ** 4).mean(0)
    # 3.29 standard deviations of a normal distribution are between these quantiles.
    inner = torch.where(high > low, (high - low) / 3.29, std)
    return torch.where(fourth > HEAVY_KURTOSIS * std**4, torch.minimum(inner, std), std)


def _first_chains(target: Target, n_features: int, generator: torch.Generator) -> Tensor:
    """Draws of many scales, drawn anew by their tempered weights."""
    picks = torch.arange(N_DRAWS) % len(FIRST_SCALES)
    noise = torch.randn(N_DRAWS, n_features, generator=generator, dtype=torch.float64)
    draws = FIRST_SCALES[picks, None] * noise
    squares = (draws**2).sum(1, keepdim=True) / FIRST_SCALES**2
    logs = -0.5 * squares - n_features * FIRST_SCALES.log()
    log_weights = target.values(draws) - logs.logsumexp(1)
    if not torch.isfinite(log_weights).any():
        raise ValueError(
            f"log_density is -inf at all of {N_DRAWS} points from normal distributions of "
            f"standard deviations {FIRST_SCALES[0]:g} to {FIRST_SCALES[-1]:g}. Give bounds, "
            "samples X, or a prior_scale."
        )
    weights = tempered(log_weights, MIN_EFFECTIVE)
    return draws[torch.multinomial(weights, N_CHAINS, replacement=True, generator=generator)]
