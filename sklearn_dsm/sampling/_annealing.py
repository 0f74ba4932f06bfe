"""Annealed importance sampling and sequential Monte Carlo along a fixed schedule."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ._geometric_path import Cloud, GeometricPath
from ._moves import Kernel, move
from ._weights import effective_shares, systematic_indices


class Schedule(NamedTuple):
    """What a run does at each of its densities, the last of which is the target.

    Attributes
    ----------
    betas : Tensor of shape (n_levels,)
    steps : Tensor of shape (n_levels,)
        Step sizes, in units of the scales.
    scales : Tensor of shape (n_levels, n_features)
    """

    betas: Tensor
    steps: Tensor
    scales: Tensor


class Run(NamedTuple):
    """Weighted particles, of which every group estimates the normalising constant.

    Attributes
    ----------
    cloud : Cloud
    log_weights : Tensor of shape (n_groups, n_each)
        The mean weight of a group is unbiased for the normalising constant.
    ess : Tensor of shape (n_levels,)
        Share of effective particles after reweighting, the mean over the groups.
    acceptance : Tensor of shape (n_levels,)
    """

    cloud: Cloud
    log_weights: Tensor
    ess: Tensor
    acceptance: Tensor


def anneal(
    path: GeometricPath,
    schedule: Schedule,
    shape: tuple[int, int],
    resample_below: float,
    kernel: Kernel,
    generator: torch.Generator,
    report: Callable[[str], None] | None = None,
    history: list[Tensor] | None = None,
) -> Run:
    """Move particles from the prior to the target, in groups that never meet.

    Parameters
    ----------
    shape : (int, int)
        Number of groups, and of particles in each.
    resample_below : float
        A group whose share of effective particles is smaller is resampled; 0 for importance
        sampling without.
    history : list, optional
        Takes the ancestors (n, d) of the particles: at the start, and after each density.
    """
    n = shape[0] * shape[1]
    cloud = path.draw(n, generator)
    if history is not None:
        history.append(cloud.z)
    log_weights = torch.zeros(shape, dtype=torch.float64)
    beta, ess, acceptance = 0.0, [], []
    for k, (following, step) in enumerate(
        zip(schedule.betas.tolist(), schedule.steps.tolist(), strict=True)
    ):
        log_weights = log_weights + (following - beta) * path.log_ratio(cloud).view(shape)
        shares = effective_shares(log_weights)
        ess.append(float(shares.mean()))
        poor = (shares < resample_below) & (shares > 0)
        if poor.any():
            parents, log_weights = _resampled(log_weights, poor, generator)
            cloud = cloud.take(parents)
            if history is not None:
                history[:] = [ancestors[parents] for ancestors in history]
        beta, rates = following, []
        for _ in range(kernel.n_steps):
            scale = schedule.scales[k]
            cloud, rate = move(path, cloud, beta, step, scale, kernel.n_leapfrog, generator)
            rates.append(rate)
        acceptance.append(sum(rates) / len(rates))
        if history is not None:
            history.append(cloud.z)
        if report and (k + 1) % max(1, len(schedule.betas) // 10) == 0:
            report(
                f"temperature {k + 1} of {len(schedule.betas)}, beta {beta:.3g}, effective share "
                f"{ess[-1]:.2f}, acceptance {acceptance[-1]:.2f}"
            )
    return Run(cloud, log_weights, torch.tensor(ess), torch.tensor(acceptance))


def _resampled(
    log_weights: Tensor, poor: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Parents (groups * n,) of particles, drawn anew in poor groups, and their log-weights.

    Each particle of a poor group then has the group's mean weight.
    """
    groups, n = log_weights.shape
    index = torch.arange(n).expand(groups, n).clone()
    index[poor] = systematic_indices(log_weights[poor], generator)
    own = torch.arange(groups)[:, None] * n
    mean = log_weights.logsumexp(1, keepdim=True) - math.log(n)
    return (own + index).flatten(), torch.where(poor[:, None], mean, log_weights)
