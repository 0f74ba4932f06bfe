"""Moves of particles that leave a density of the path as it is."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .._core.random import standard_normal
from ._geometric_path import Cloud, GeometricPath

# Particles move with random shares of the step size, most of them small: orbits do not close, and
# parts of the density that are narrower than the rest are entered.
LEAST_SHARE = 0.05
# A trajectory that goes farther from the mean, in scales of the prior, is rejected: there, users'
# functions overflow.
FARTHEST = 100.0


class Kernel(NamedTuple):
    """Hamiltonian Monte Carlo; with one leapfrog step, the Langevin algorithm MALA.

    Attributes
    ----------
    n_leapfrog : int
    n_steps : int
        Moves for each density of the path.
    acceptance : float
        The mean acceptance to which step sizes are tuned.
    """

    n_leapfrog: int
    n_steps: int
    acceptance: float


def move(
    path: GeometricPath,
    cloud: Cloud,
    beta: float,
    step: float,
    scale: Tensor,
    n_leapfrog: int,
    generator: torch.Generator,
) -> tuple[Cloud, float]:
    """Move all particles once, with a step size in units of scale (d,).

    Returns
    -------
    cloud : Cloud
    acceptance : float
        Mean probability of acceptance.
    """
    n = len(cloud.z)
    momentum = standard_normal(cloud.z.shape, cloud.z, generator)
    shares, levels = (torch.rand(n, generator=generator, dtype=cloud.z.dtype) for _ in range(2))
    length = step * (LEAST_SHARE + (1 - LEAST_SHARE) * shares**2)[:, None] * scale
    energy = path.log_density(cloud, beta) - 0.5 * (momentum**2).sum(1)
    end, alive = cloud, torch.ones(n, dtype=torch.bool)
    momentum = momentum + 0.5 * length * path.slope(cloud, beta)
    for k in range(n_leapfrog):
        z = end.z + length * momentum
        alive &= path.reaches(z, FARTHEST)
        # What has left is evaluated where it started, and rejected in the end.
        end = path.cloud(torch.where(alive[:, None], z, cloud.z))
        half = 0.5 if k == n_leapfrog - 1 else 1.0
        momentum = momentum + half * length * path.slope(end, beta)
        alive &= torch.isfinite(momentum).all(1)
        momentum = torch.where(alive[:, None], momentum, 0.0)
    change = path.log_density(end, beta) - 0.5 * (momentum**2).sum(1) - energy
    # From where the density is zero, every move to where it is positive is accepted.
    lost = torch.isneginf(cloud.value) & torch.isfinite(end.value)
    change = torch.where(lost, 0.0, change)
    probability = torch.where(alive, change.exp().clamp(max=1.0), 0.0).nan_to_num(0.0)
    return end.where(levels < probability, cloud), float(probability.mean())
