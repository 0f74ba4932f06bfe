"""Log-densities by the likelihood identity."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.quasirandom import SobolEngine

from ..arrays import tensor_of
from ..noise.level import NoiseLevel
from ..scores.model import ExactScore, ScoreModel


class IdentityNodes(NamedTuple):
    """Log-SNRs (k,) with weights, and noise vectors (k or 1, m, d) with weights (m,)."""

    log_snr: Tensor
    log_snr_weights: Tensor
    noise: Tensor
    noise_weights: Tensor


def legendre_levels(n_levels: int, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Legendre nodes and weights in the log-SNR, and the tail beyond ``high``.

    The integrand of the identity falls like e^-lambda towards the data, so what lies
    beyond ``high`` is the integrand there, with weight one.
    """
    nodes, weights = np.polynomial.legendre.leggauss(n_levels)
    nodes = low + (nodes + 1) * (high - low) / 2
    return np.append(nodes, high), np.append(weights * (high - low) / 2, 1.0)


def antithetic_nodes(log_snr: Tensor, weights: Tensor, uniform: Tensor) -> IdentityNodes:
    """Nodes with normal noise of both signs from uniform numbers (k, m, d), shared by all rows."""
    noise = torch.special.ndtri(uniform.clamp(1e-12, 1 - 1e-12))
    n_noise = 2 * uniform.shape[1]
    noise_weights = torch.full((n_noise,), 1 / n_noise, dtype=uniform.dtype)
    return IdentityNodes(log_snr, weights, torch.cat([noise, -noise], 1), noise_weights)


def hermite_nodes(n_levels: int, n_noise: int, low: float, high: float) -> IdentityNodes:
    """Gauss-Legendre levels and Gauss-Hermite noise: for one column."""
    levels, level_weights = legendre_levels(n_levels, low, high)
    noise, weights = np.polynomial.hermite_e.hermegauss(n_noise)
    return IdentityNodes(
        tensor_of(levels),
        tensor_of(level_weights),
        tensor_of(noise)[None, :, None],
        tensor_of(weights / math.sqrt(2 * math.pi)),
    )


def sobol_nodes(
    n_levels: int, n_noise: int, n_features: int, low: float, high: float, seed: int = 0
) -> IdentityNodes:
    """Gauss-Legendre levels and antithetic Sobol noise, for any number of columns.

    The noise is shared by all rows, so that the estimate is a smooth deterministic
    function of the row; it differs between levels.
    """
    levels, level_weights = legendre_levels(n_levels, low, high)
    k, half = len(levels), n_noise // 2
    uniform = SobolEngine(n_features, scramble=True, seed=seed).draw(k * half, dtype=torch.float64)
    return antithetic_nodes(
        tensor_of(levels),
        tensor_of(level_weights),
        uniform.reshape(k, half, n_features),
    )


def identity_log_density(
    model: ScoreModel,
    reference: ExactScore,
    x: Tensor,
    nodes: IdentityNodes,
    context: Tensor | None = None,
) -> Tensor:
    r"""Log-density by the likelihood identity, relative to an exact reference.

    .. math:: \log p(x) = \log g(x) - \tfrac12 \int E\left[ |Z + \sigma s|^2
        - |Z + \sigma s^g|^2 \mid X_0 = x \right] d\lambda

    over variance-preserving levels, s^g being the score of the reference g. It needs no
    derivative of the score; it is exact for any nodes where the two scores agree, and on
    average over rows it is a lower bound of the expected log-density for any score.

    Parameters
    ----------
    model : ScoreModel
    reference : ExactScore
    x : Tensor of shape (n, d)
    nodes : IdentityNodes
    context : Tensor of shape (n, m), optional
        What the density is conditional on.

    Returns
    -------
    Tensor of shape (n,)

    References
    ----------
    [DDPMLearning]_, [ITD]_
    """
    n, d = x.shape
    nodes = IdentityNodes(*(part.to(x) for part in nodes))
    n_noise = nodes.noise.shape[1]
    log_density = reference.log_density(x, NoiseLevel.clean(x), context)
    given = None if context is None else context.repeat_interleave(n_noise, 0)
    for k, (log_snr, weight) in enumerate(zip(nodes.log_snr, nodes.log_snr_weights, strict=True)):
        noise = nodes.noise[k % len(nodes.noise)]
        level = NoiseLevel.from_log_snr(log_snr)
        noised = (level.a * x[:, None] + level.v.sqrt() * noise).reshape(n * n_noise, d)
        score, base = (each.score(noised, level, given) for each in (model, reference))
        drawn = noise.expand(n, n_noise, d).reshape(n * n_noise, d)
        gap = level.v.sqrt() * (score - base)
        change = (gap * (level.v.sqrt() * (score + base) + 2 * drawn)).sum(1)
        log_density = log_density - weight / 2 * change.reshape(n, n_noise) @ nodes.noise_weights
    return log_density
