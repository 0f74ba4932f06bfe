"""Nodes of numerical integrals: of a density over its space, and of the identity over rungs."""

from __future__ import annotations

import numpy as np
import torch
from scipy.stats import norm
from scipy.stats.qmc import Sobol
from sklearn.neighbors import KernelDensity
from torch.quasirandom import SobolEngine

from .._core.likelihood.identity import IdentityNodes, antithetic_nodes

# Where the mass of the identity's density is measured: beyond the rows, in their deviations.
TAIL, N_LINE_NODES, N_MASS_DRAWS = 3.0, 400, 1024
# In one column nodes lie this densely within so many widths of the narrowest peak around the
# rows, or less where these would be more than so many.
NODES_PER_WIDTH, REACH, MAX_NODES = 3, 6, 10000
# Pairs of noise vectors at every rung.
N_IDENTITY_PAIRS = 32


def line_nodes(Z: np.ndarray, width: float) -> tuple[np.ndarray, np.ndarray]:
    """Nodes over one column and far beyond it, and the logarithms of their weights.

    They are dense around the rows, where peaks may be as narrow as the width.
    """
    step, around = width / NODES_PER_WIDTH, np.arange(REACH * NODES_PER_WIDTH + 1)
    while True:
        cells = np.unique(np.floor(Z / step))
        near = np.unique(np.add.outer(cells, [*-around[:0:-1], *around])) * step
        if len(near) <= MAX_NODES:
            break
        step *= 2
    wide = np.linspace(Z.min() - TAIL, Z.max() + TAIL, N_LINE_NODES)
    points = np.unique(np.concatenate([near, wide]))
    return points[:, None], np.log(np.gradient(points))


def kernel_draws(Z: np.ndarray, share: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Quasi-random draws from a wide kernel estimate, and the logarithms of their weights."""
    n, d = Z.shape
    width = n ** (-1 / (d + 4))
    uniform = Sobol(d + 1, seed=0).random(N_MASS_DRAWS).clip(1e-12, 1 - 1e-12)
    # Along the first axis, so that draws are spread over the rows as evenly as they can be.
    order = np.argsort(Z[:, 0])
    chosen = order[np.searchsorted(share[order].cumsum(), uniform[:, 0]).clip(max=n - 1)]
    points = Z[chosen] + width * norm.ppf(uniform[:, 1:])
    estimate = KernelDensity(bandwidth=width).fit(Z, sample_weight=share)
    return points, -estimate.score_samples(points) - np.log(N_MASS_DRAWS)


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
