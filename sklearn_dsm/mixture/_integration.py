"""Nodes of numerical integrals: of a density over its space, and of the identity over levels."""

from __future__ import annotations

import time

import numpy as np
import torch
from torch.quasirandom import SobolEngine

from .._budget import Budget
from .._core.likelihood.identity import IdentityNodes, antithetic_nodes
from .._evaluation.latent_density import LatentDensity

# Nodes in one column: beyond the rows, in their deviations, and how many from end to end.
TAIL, N_LINE_NODES = 3.0, 200
# They lie this densely within so many widths of the narrowest peak around the rows.
NODES_PER_WIDTH, REACH = 10, 6
# How many there are at the most, and at the least in a time that is too short for more.
MAX_NODES, FEWEST_NODES = 6000, 100
N_MASS_DRAWS, FEWEST_DRAWS = 1024, 128
# Rows that tell how long one takes, and the share of the time left that others may take.
N_TIMED, TIMED_SHARE = 16, 0.8
# Pairs of noise vectors at every rung.
N_IDENTITY_PAIRS = 32


def affordable_nodes(density: LatentDensity, Z: np.ndarray, budget: Budget) -> int:
    """How many nodes in one column or draws in more there may be in the time that is left."""
    most, fewest = (MAX_NODES, FEWEST_NODES) if Z.shape[1] == 1 else (N_MASS_DRAWS, FEWEST_DRAWS)
    if np.isinf(budget.left()):
        return most
    started = time.perf_counter()
    density.log_density(Z[np.linspace(0, len(Z) - 1, N_TIMED).astype(int)])
    seconds = (time.perf_counter() - started) / N_TIMED
    return int(np.clip(TIMED_SHARE * budget.left() / seconds, fewest, most))


def line_nodes(Z: np.ndarray, width: float, max_nodes: int) -> np.ndarray:
    """Nodes over one column and far beyond it.

    They are dense around the rows, where peaks may be as narrow as the width, but for steps that
    are doubled until no more nodes are left than there may be.
    """
    step = width / NODES_PER_WIDTH
    while True:
        around = np.arange(np.ceil(REACH * width / step) + 1)
        cells = np.unique(np.floor(Z / step))
        near = np.unique(np.add.outer(cells, [*-around[:0:-1], *around])) * step
        if len(near) <= max_nodes:
            break
        step *= 2
    wide = np.linspace(Z.min() - TAIL, Z.max() + TAIL, N_LINE_NODES)
    return np.unique(np.concatenate([near, wide]))


def rung_nodes(log_snr: torch.Tensor, n_features: int) -> IdentityNodes:
    """The trapezoidal rule over the rungs, the tail beyond the cleanest, and shared noise."""
    weights = torch.zeros_like(log_snr)
    gaps = log_snr[:-1] - log_snr[1:]
    weights[:-1] += gaps / 2
    weights[1:] += gaps / 2
    # Beyond the cleanest rung the integrand falls like exp(-log_snr).
    weights[0] += 1
    uniform = SobolEngine(n_features * len(log_snr), scramble=True, seed=0).draw(
        N_IDENTITY_PAIRS, dtype=torch.float64
    )
    uniform = uniform.reshape(N_IDENTITY_PAIRS, len(log_snr), n_features).transpose(0, 1)
    nodes = antithetic_nodes(log_snr, weights, uniform)
    return nodes._replace(noise=_of_unit_covariance(nodes.noise))


def _of_unit_covariance(noise: torch.Tensor) -> torch.Tensor:
    """The noise (k, m, d) with the moments of its distribution at every rung.

    Where the score tells noise from rows exactly, all that is left in the integrand is the noise's
    variance, whose errors would add up over many rungs.
    """
    if 4 * noise.shape[2] > noise.shape[1]:
        return noise
    covariance = noise.mT @ noise / noise.shape[1]
    return torch.linalg.solve_triangular(
        torch.linalg.cholesky(covariance), noise.mT, upper=False
    ).mT
