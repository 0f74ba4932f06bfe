r"""What a score may be regressed on: unbiased targets from single rows and paths.

At a noised row :math:`x = a X_0 + \sqrt v Z` each has the score
:math:`\nabla \log p_s(x)` as its mean given x.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..noise.level import NoiseLevel


def conditional_target(clean: Tensor, x: Tensor, level: NoiseLevel) -> Tensor:
    r"""Denoising: :math:`-(x - a X_0) / v`; its variance grows as 1/v towards the data.

    Parameters
    ----------
    clean, x : Tensor of shape (..., n, d)
        Clean rows and the same noised.
    level : NoiseLevel

    Returns
    -------
    Tensor of shape (..., n, d)

    References
    ----------
    [Vincent2011]_
    """
    return -(x - level.a * clean) / level.v


def target_score_target(clean_score: Tensor, level: NoiseLevel) -> Tensor:
    r"""The clean score over a: :math:`\nabla \log p_0(X_0) / a`; its variance grows as 1/a^2
    towards the noise.

    Parameters
    ----------
    clean_score : Tensor of shape (..., n, d)
        Score of the data's own law at the clean rows.
    level : NoiseLevel

    Returns
    -------
    Tensor of shape (..., n, d)

    References
    ----------
    [TSM]_
    """
    return clean_score / level.a


def novel_target(
    clean: Tensor, clean_score: Tensor, x: Tensor, level: NoiseLevel, scale: float = 1.0
) -> Tensor:
    r"""The mixture of both whose variance is bounded at every level.

    .. math:: -\frac x V + \rho \left( \nabla \log p_0(X_0) + \frac{X_0}{\tau^2} \right),
        \qquad V = a^2 \tau^2 + v, \quad \rho = \frac{a \tau^2}{V},

    which is the share :math:`c = a^2 \tau^2 / V` of :func:`target_score_target` and the rest of
    :func:`conditional_target`.

    Parameters
    ----------
    clean, clean_score, x : Tensor of shape (..., n, d)
    level : NoiseLevel
    scale : float, default=1.0
        tau, the deviation of the Gaussian that stands for the data's law.

    Returns
    -------
    Tensor of shape (..., n, d)

    References
    ----------
    [Unified]_
    """
    share = level.a**2 * scale**2 / (level.a**2 * scale**2 + level.v)
    conditional = conditional_target(clean, x, level)
    return share * target_score_target(clean_score, level) + (1 - share) * conditional


def earlier_level(log_snr: Tensor, ratio: float) -> Tensor:
    """The log-SNR at the time, in Ornstein-Uhlenbeck units, that is so many times shorter."""
    time = torch.nn.functional.softplus(-log_snr) / 2
    return -torch.log(torch.expm1(2 * time / ratio))


def bootstrapped_noise(
    earlier_noise: Tensor, step_noise: Tensor, earlier: NoiseLevel, level: NoiseLevel
) -> Tensor:
    r"""Noise of a row from that of an earlier level of its path and of the step between.

    .. math:: \frac{\alpha \sigma_{t'} \epsilon_{t'} + \sigma_\Delta Z_\Delta}{\sigma_t},
        \qquad \alpha = a_t / a_{t'}, \quad
        \sigma_\Delta^2 = \sigma_t^2 - \alpha^2 \sigma_{t'}^2.

    With the earlier noise itself this is the row's noise. With its expectation given the
    earlier row, which is minus sigma times the score there, it is the row's noise averaged
    over what led to the earlier row: minus sigma_t times an unbiased target of the score.

    Parameters
    ----------
    earlier_noise, step_noise : Tensor of shape (..., n, d)
    earlier, level : NoiseLevel
        Variance-preserving levels, the earlier one with less noise.

    Returns
    -------
    Tensor of shape (..., n, d)

    References
    ----------
    [BSM]_
    """
    kept = level.a / earlier.a
    step_variance = (level.v - kept**2 * earlier.v).clamp(min=0)
    return (kept * earlier.v.sqrt() * earlier_noise + step_variance.sqrt() * step_noise) / (
        level.v.sqrt()
    )
