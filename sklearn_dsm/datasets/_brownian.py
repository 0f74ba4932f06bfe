"""A Brownian motion that is observed at its ends."""

from __future__ import annotations

import torch
from torch.nn.functional import logsigmoid, softplus

from .._core.constants import LOG_2PI
from ._target import Target

# Positions 1 to 10 and 21 to 30.
FIRST = (
    0.21592641, 0.118771404, -0.07945447, 0.037677474, -0.27885845,
    -0.1484156, -0.3250906, -0.22957903, -0.44110894, -0.09830782,
)  # fmt: skip
LAST = (
    -0.8786016, -0.83736074, -0.7384849, -0.8939254, -0.7774566,
    -0.70238715, -0.87771565, -0.51853573, -0.6948214, -0.6202789,
)  # fmt: skip
N_POSITIONS, LOG_SCALE_DEVIATION = 30, 2.0


class BrownianPosterior(Target):
    r"""Posterior of a Brownian motion and its two scales, without observations in the middle.

    .. math:: z_1 \sim N(0, \alpha^2), \quad z_t \sim N(z_{t-1}, \alpha^2), \quad
        y_t \sim N(z_t, \beta^2) \text{ for } t \le 10 \text{ and } t > 20, \quad
        \log\alpha, \log\beta \sim N(0, 2^2),

    with 30 positions. The first two features are the inverse of softplus at :math:`\alpha` and at
    :math:`\beta`, and the others are :math:`z_1, \dots, z_{30}`. The density includes the Jacobian
    of softplus. The observations are those of the Inference Gym's
    BrownianMotionUnknownScalesMissingMiddleObservations, rounded as they are published.

    Attributes
    ----------
    n_features : int
        32.
    log_normalizer : float
        Log-evidence, 1.1877491032, by quadrature over both scales. Given the scales, positions and
        observations are jointly normal. Long runs of samplers in articles give about 1.03, which is
        too low.

    References
    ----------
    [InferenceGym]_

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_dsm.datasets import BrownianPosterior
    >>> posterior = BrownianPosterior()
    >>> posterior.log_density(np.zeros((1, 32))).round(2)
    array([-38.14])
    """

    n_features = N_POSITIONS + 2
    log_normalizer = 1.1877491032

    def _log_density(self, x):
        raw, positions = x[:, :2], x[:, 2:]
        # Far below zero, softplus is the exponential, which underflows.
        log_scales = torch.where(raw < -30, raw, torch.log(softplus(raw.clamp(min=-30))))
        # The logarithm of the scale is normal, and the Jacobian is that of softplus.
        log_prior = _log_normal(log_scales, LOG_SCALE_DEVIATION) + logsigmoid(raw) - log_scales
        steps = torch.diff(positions, dim=1, prepend=torch.zeros_like(positions[:, :1]))
        innovation, noise = log_scales[:, :1].exp(), log_scales[:, 1:].exp()
        seen = torch.cat([positions[:, :10], positions[:, 20:]], 1)
        errors = seen - torch.tensor(FIRST + LAST, dtype=x.dtype)
        parts = (log_prior, _log_normal(steps, innovation), _log_normal(errors, noise))
        return sum(part.sum(1) for part in parts)


def _log_normal(x, scale):
    scale = torch.as_tensor(scale, dtype=x.dtype)
    return -0.5 * ((x / scale) ** 2 + LOG_2PI) - scale.log()
