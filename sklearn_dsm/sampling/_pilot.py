"""A first run with few particles, which finds the schedule of the run that counts."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from .._budget import Budget
from ._annealing import Schedule
from ._geometric_path import Cloud, GeometricPath
from ._moves import Kernel, move
from ._weights import effective_shares, farthest_power, systematic_indices

# Each reweighting of a pilot leaves this share of effective particles.
KEPT = 0.8
# From so many levels on, and out of time, beta doubles at least.
MANY_LEVELS = 400
# Moves at each level, which tune the step size, and how fast.
N_MOVES, RATE = 3, 1.0
FIRST_STEP, LEAST_STEP, LARGEST_STEP = 0.3, 1e-6, 1.5
QUANTILE_95 = 1.6448536269514722
# Settings are rounded to so many bits, so that rounding in the log-density does not change them.
SETTING_BITS = 20
# Of the reference points or of a pilot's particles, this many standard deviations make the prior.
PRIOR_WIDTH = 1.5
# The prior from which the first pilot starts, and how often it is widened.
FIRST_SCALE, N_WIDENINGS = 2.0, 6


class Pilot(NamedTuple):
    """The schedule of an adaptive run, by the length of its path, and its particles.

    The length is the sum of the standard deviations of the relative weights of all steps, so equal
    lengths are equally hard. The first level is the prior.
    """

    lengths: Tensor
    schedule: Schedule
    cloud: Cloud

    def schedule_of(self, n_levels: int) -> Schedule:
        """The schedule with so many levels of equal length."""
        lengths = torch.linspace(0, float(self.lengths[-1]), n_levels + 1, dtype=torch.float64)[1:]
        at = torch.searchsorted(self.lengths, lengths).clamp(1, len(self.lengths) - 1)
        before, after = self.lengths[at - 1], self.lengths[at]
        share = ((lengths - before) / (after - before).clamp(min=1e-300)).clamp(0, 1)

        def between(values: Tensor) -> Tensor:
            weight = share if values.ndim == 1 else share[:, None]
            return values[at - 1] + weight * (values[at] - values[at - 1])

        betas = between(self.schedule.betas)
        betas[-1] = 1.0
        steps = between(self.schedule.steps.log()).exp()
        scales = between(self.schedule.scales.log()).exp()
        return Schedule(*(_rounded(values) for values in (betas, steps, scales)))


def run_pilot(
    path: GeometricPath,
    n: int,
    kernel: Kernel,
    generator: torch.Generator,
    budget: Budget,
    report: Callable[[str], None] | None = None,
) -> Pilot:
    """Temper adaptively, with step sizes tuned to the kernel's acceptance."""
    cloud = path.draw(n, generator)
    if not torch.isfinite(cloud.value).any():
        raise ValueError(
            f"log_density is -inf at all of {n} draws from the prior, so there is nothing to start "
            "from. Give bounds that exclude where the density is zero, a prior_scale that reaches "
            "where it is positive, or reference points by fit(X)."
        )
    beta, step, scale = 0.0, FIRST_STEP, path.scale
    betas, steps, scales, lengths = [beta], [step], [scale], [0.0]
    while beta < 1:
        log_ratio = path.log_ratio(cloud)
        following = _next_beta(log_ratio, beta)
        if len(betas) > MANY_LEVELS or budget.is_over:
            following = min(1.0, max(following, 2 * beta, 1e-6))
        following = _rounded_number(following)
        log_weights = (following - beta) * log_ratio
        kept = float(effective_shares(log_weights))
        lengths.append(lengths[-1] + math.sqrt(max(1 / max(kept, 1 / n) - 1, 1e-12)))
        cloud = cloud.take(systematic_indices(log_weights[None], generator)[0])
        beta = following
        # Copies of one particle have no spread.
        scale = torch.maximum(central_range(cloud.z)[1], 1e-3 * scale)
        for _ in range(N_MOVES):
            cloud, rate = move(path, cloud, beta, step, scale, kernel.n_leapfrog, generator)
            step = step * math.exp(RATE * (rate - kernel.acceptance))
            step = _rounded_number(min(max(step, LEAST_STEP), LARGEST_STEP))
        betas.append(beta)
        steps.append(step)
        scales.append(scale)
    if report:
        report(f"pilot with {n} particles, {len(betas) - 1} levels, length {lengths[-1]:.3g}")
    steps[0], scales[0] = steps[1], scales[1]
    schedule = Schedule(
        torch.tensor(betas, dtype=torch.float64),
        torch.tensor(steps, dtype=torch.float64),
        torch.stack(scales),
    )
    return Pilot(torch.tensor(lengths, dtype=torch.float64), schedule, cloud)


def central_range(z: Tensor) -> tuple[Tensor, Tensor]:
    """Centre of the central 90 %, and the deviation of a normal with their range, by feature.

    Heavy tails do not change them as they change a standard deviation.
    """
    low, high = torch.quantile(z, torch.tensor([0.05, 0.95], dtype=z.dtype), dim=0)
    return 0.5 * (low + high), (high - low) / (2 * QUANTILE_95)


def _next_beta(log_ratio: Tensor, beta: float) -> float:
    """The farthest beta at which the share of effective particles is not below ``KEPT``."""
    possible = float(torch.isfinite(log_ratio).double().mean())

    def keeps(following: float) -> bool:
        return float(effective_shares((following - beta) * log_ratio)) >= KEPT * possible

    # By enough for rounding to leave a difference.
    return min(1.0, max(farthest_power(keeps, beta), beta * (1 + 2.0 ** (2 - SETTING_BITS))))


def _rounded(values: Tensor) -> Tensor:
    mantissa, exponent = torch.frexp(values)
    return torch.ldexp(torch.round(mantissa * 2**SETTING_BITS) / 2**SETTING_BITS, exponent)


def _rounded_number(value: float) -> float:
    return float(_rounded(torch.tensor(value, dtype=torch.float64)))
