"""Log-densities from scores: the probability-flow ODE and the likelihood identity."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.quasirandom import SobolEngine

from .levels import LogisticLevels, NoiseLevel
from .scores import ExactScore, ScoreModel
from .solvers import clean_leg, integrate, noise_rate

FIRST_STEPS = 20
MAX_DOUBLINGS = 7
# Local errors grow on the way to the data. On exact mixtures in 1 to 10 columns the true
# error of a log-density stayed below this many times the summed local errors.
ERROR_GROWTH = 50.0


class LogDensity(NamedTuple):
    """Log-densities (n,), the estimated error of each (n,), and whether that suffices (n,)."""

    value: Tensor
    error: Tensor
    converged: Tensor


def ode_log_density(
    model: ScoreModel,
    prior: ExactScore,
    x: Tensor,
    levels: LogisticLevels,
    tolerance: float = 1e-4,
) -> LogDensity:
    r"""Log-density of the probability flow, with the exact divergence.

    .. math:: \log p_0(x_0) = \log p_T(x_T) + \int_0^T (d + \nabla\cdot s_t(x_t))\,(-dt),
        \qquad \dot x = -(x + s_t),

    integrated in the log-SNR. Each row is integrated on a grid of its own: it starts
    with a few steps and doubles them while its estimated error exceeds the tolerance, so
    a row's value does not depend on the rows it is scored with.

    Parameters
    ----------
    model : ScoreModel
    prior : ExactScore
        Its law at ``levels.low`` ends the integral.
    x : Tensor of shape (n, d)
    levels : LogisticLevels
        Grid of log-SNRs. The leg between ``levels.high`` and the data is one step of the
        midpoint rule, whose error, of order e^(-3 high), is not in the estimate.
    tolerance : float
        Bound on the estimated error of a log-density, in nats; for rows so far out that the
        log-density is below -1000, a thousandth of it relative to that.

    References
    ----------
    [ScoreSDE]_
    """
    n_steps = FIRST_STEPS
    values, errors = _ode_pass(model, prior, x, levels, n_steps)
    for _ in range(MAX_DOUBLINGS):
        coarse = torch.nonzero(~_converged(values, errors, tolerance)).squeeze(1)
        if len(coarse) == 0:
            break
        n_steps *= 2
        value, error = _ode_pass(model, prior, x[coarse], levels, n_steps)
        values = values.index_put((coarse,), value)
        errors = errors.index_put((coarse,), error)
    return LogDensity(values, errors, _converged(values, errors, tolerance))


def _converged(values: Tensor, errors: Tensor, tolerance: float) -> Tensor:
    """Which errors are small enough; a non-finite one is not."""
    return errors <= tolerance * (values.detach().abs() / 1000).clamp(min=1)


def _ode_pass(
    model: ScoreModel, prior: ExactScore, x: Tensor, levels: LogisticLevels, n_steps: int
) -> tuple[Tensor, Tensor]:
    d = x.shape[1]
    errors = torch.zeros(len(x), dtype=x.dtype, device=x.device)

    def excess(state: Tensor, log_snr: Tensor) -> Tensor:
        score, divergence = model.score_and_divergence(
            state[:, :d], NoiseLevel.from_log_snr(log_snr)
        )
        return torch.cat([state[:, :d] + score, -(d + divergence)[:, None]], 1)

    def field(state: Tensor, log_snr: Tensor) -> Tensor:
        return noise_rate(log_snr) * excess(state, log_snr)

    def watch_error(error: Tensor, state: Tensor, slope: Tensor, log_snr: Tensor) -> None:
        # An error e of the position changes the answer by score . e, whatever comes after.
        score = slope[:, :d] / noise_rate(log_snr) - state[:, :d]
        local = (score * error[:, :d]).sum(1) - error[:, d]
        errors.add_(local.detach().abs())

    grid = levels.grid(n_steps, x).flip(0)
    state = torch.cat([x, x.new_zeros(len(x), 1)], 1)
    state = clean_leg(excess, state, levels.high, -1)
    state = integrate(field, state, grid, watch_error=watch_error)
    end = prior.log_density(state[:, :d], NoiseLevel.from_log_snr(grid[-1]))
    return end - state[:, d], ERROR_GROWTH * errors


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


def hermite_nodes(n_levels: int, n_noise: int, low: float, high: float) -> IdentityNodes:
    """Gauss-Legendre levels and Gauss-Hermite noise: for one column."""
    levels, level_weights = legendre_levels(n_levels, low, high)
    noise, weights = np.polynomial.hermite_e.hermegauss(n_noise)
    return IdentityNodes(
        torch.from_numpy(levels),
        torch.from_numpy(level_weights),
        torch.from_numpy(noise)[None, :, None],
        torch.from_numpy(weights / math.sqrt(2 * math.pi)),
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
    noise = torch.special.ndtri(uniform.clamp(1e-12, 1 - 1e-12)).reshape(k, half, n_features)
    return IdentityNodes(
        torch.from_numpy(levels),
        torch.from_numpy(level_weights),
        torch.cat([noise, -noise], 1),
        torch.full((2 * half,), 1 / (2 * half), dtype=torch.float64),
    )


def identity_log_density(
    model: ScoreModel, reference: ExactScore, x: Tensor, nodes: IdentityNodes
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
    log_density = reference.log_density(x, NoiseLevel(x.new_ones(()), x.new_zeros(())))
    for k, (log_snr, weight) in enumerate(zip(nodes.log_snr, nodes.log_snr_weights, strict=True)):
        noise = nodes.noise[k % len(nodes.noise)]
        level = NoiseLevel.from_log_snr(log_snr)
        noised = (level.a * x[:, None] + level.v.sqrt() * noise).reshape(n * n_noise, d)
        score, base = model.score(noised, level), reference.score(noised, level)
        drawn = noise.expand(n, n_noise, d).reshape(n * n_noise, d)
        gap = level.v.sqrt() * (score - base)
        change = (gap * (level.v.sqrt() * (score + base) + 2 * drawn)).sum(1)
        log_density = log_density - weight / 2 * change.reshape(n, n_noise) @ nodes.noise_weights
    return log_density
