"""Log-weights: what they tell of the normalising constant, how even they are, and resampling."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .._core.random import torch_generator
from .._warn import warn

# Below this share of effective samples, estimates rest on a few of them.
FEW_EFFECTIVE = 0.05
# Bisections of a power, on the scale of the logarithm of its difference from the last.
N_BISECTIONS, LEAST_LOG_STEP = 50, -60.0


class WeightSummary(NamedTuple):
    """Estimates from weights w whose mean is the normalising constant.

    Attributes
    ----------
    log_normalizer : float
        Logarithm of the mean weight.
    log_normalizer_stderr : float
        Its standard error, by the delta method.
    elbo : float
        Mean log-weight, the evidence lower bound.
    ess : float
        Share of effective samples, in [1 / n, 1].
    """

    log_normalizer: float
    log_normalizer_stderr: float
    elbo: float
    ess: float

    @classmethod
    def of(cls, log_weights: np.ndarray) -> WeightSummary:
        """The estimates from log-weights (n,), of which some may be -inf.

        Raises
        ------
        ValueError
            If no weight is positive.
        """
        n, weights = len(log_weights), torch.as_tensor(log_weights, dtype=torch.float64)
        total = float(weights.logsumexp(0))
        if not math.isfinite(total):
            raise ValueError(
                "All weights are zero: the log-density or log-weight is -inf at every sample. "
                "Check its domain, or give bounds or a prior scale that reach where it is finite."
            )
        share = float(effective_shares(weights))
        # The relative variance of one weight is 1 / share - 1.
        stderr = math.sqrt(max(1 / share - 1, 0.0) / n)
        return cls(total - math.log(n), stderr, float(weights.mean()), share)

    def store(
        self,
        estimator,
        advice: str = "Fit for longer, use more steps, or compare with AnnealedSampler.",
    ) -> None:
        """Set the fitted attributes, and warn, with advice, where few samples carry the weights."""
        estimator.log_normalizer_ = self.log_normalizer
        estimator.log_normalizer_stderr_ = self.log_normalizer_stderr
        estimator.elbo_, estimator.ess_ = self.elbo, self.ess
        if self.ess < FEW_EFFECTIVE:
            warn(
                f"Only {self.ess:.1%} of the samples are effective, so log_normalizer_ and its "
                f"standard error are not to be trusted. {advice}",
                UserWarning,
            )


def effective_shares(log_weights: Tensor) -> Tensor:
    """Shares of effective particles along the last dimension; 0 where all weights are zero."""
    n = log_weights.shape[-1]
    squared = 2 * log_weights.logsumexp(-1) - (2 * log_weights).logsumexp(-1)
    return squared.nan_to_num(-math.inf).exp() / n


def systematic_indices(
    log_weights: Tensor, generator: torch.Generator, n: int | None = None
) -> Tensor:
    """n indices of systematic resampling within each row of log-weights (groups, n_each).

    They are in random order, so that all places in a group are alike. None is as many as there are.
    """
    groups, n_each = log_weights.shape
    n = n or n_each
    levels = log_weights.softmax(1).cumsum(1)
    offsets = torch.rand(groups, 1, generator=generator, dtype=levels.dtype)
    positions = (offsets + torch.arange(n, dtype=levels.dtype)) / n * levels[:, -1:]
    indices = torch.searchsorted(levels, positions, right=True).clamp(max=n_each - 1)
    order = torch.rand(groups, n, generator=generator, dtype=levels.dtype).argsort(1)
    return indices.gather(1, order)


def farthest_power(is_enough: Callable[[float], bool], reached: float = 0.0) -> float:
    """The largest power in [reached, 1] of weights that leaves enough effective samples."""
    if reached == 1 or is_enough(1.0):
        return 1.0
    low, high = LEAST_LOG_STEP, math.log(1 - reached)
    for _ in range(N_BISECTIONS):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if is_enough(reached + math.exp(middle)) else (low, middle)
    return reached + math.exp(low)


def tempered(log_weights: Tensor, share: float) -> Tensor:
    """Normalised weights, raised to the largest power that leaves this share of effective ones."""

    def is_enough(power: float) -> bool:
        return float(effective_shares(power * log_weights)) >= share

    return (farthest_power(is_enough) * log_weights).softmax(0)


def branch_generator(seed: int) -> torch.Generator:
    """The noise of paths that branch off those of a seed."""
    return torch_generator(int(np.random.SeedSequence(seed).generate_state(1)[0]))


def branch_steps(n_steps: int, n_moments: int) -> np.ndarray:
    """Steps, at most so many, from 0 to the last one; other paths branch off after all but it."""
    return np.unique(np.linspace(0, n_steps, n_moments).round().astype(int))
