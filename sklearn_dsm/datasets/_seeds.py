"""A random-effects model of germinated seeds."""

from __future__ import annotations

import numpy as np
import torch
from scipy.special import gammaln
from torch.nn.functional import logsigmoid

from .._core.arrays import tensor_of
from .._core.constants import LOG_2PI
from ._target import Target

GERMINATED = (10, 23, 23, 26, 17, 5, 53, 55, 32, 46, 10, 8, 10, 8, 23, 0, 3, 22, 15, 32, 3)
SEEDS = (39, 62, 81, 51, 39, 6, 74, 72, 51, 79, 13, 16, 30, 28, 45, 4, 12, 41, 30, 51, 7)
# Plates of the second kind of seed, and of the second root extract.
KIND = (0,) * 11 + (1,) * 10
EXTRACT = (0,) * 5 + (1,) * 6 + (0,) * 5 + (1,) * 5
PRECISION_SHAPE = PRECISION_RATE = 0.01
COEFFICIENT_SCALE = 10.0


class SeedsPosterior(Target):
    r"""Posterior of a binomial regression with random effects, on 21 plates of seeds.

    .. math:: r_i \sim \mathrm{Binomial}\big( n_i, \sigma(a_0 + a_1 x_{1i} + a_2 x_{2i}
        + a_{12} x_{1i} x_{2i} + b_i) \big), \qquad b_i \sim N(0, 1 / \tau),

    with the priors :math:`a \sim N(0, 10^2)` and :math:`\tau \sim \mathrm{Gamma}(0.01, 0.01)`
    (shape and rate). The features are :math:`\log\tau`, :math:`a_0`, :math:`a_1`, :math:`a_2`,
    :math:`a_{12}` and the 21 random effects :math:`b_i`. The density includes the binomial
    coefficients, and the Jacobian of :math:`\log\tau`.

    Attributes
    ----------
    n_features : int
        26.
    log_normalizer : float
        Log-evidence, -73.407 with a standard error of 0.004, by quadrature over each random effect
        and importance sampling of the other five features.

    References
    ----------
    [Crowder1978]_ for the data.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_dsm.datasets import SeedsPosterior
    >>> SeedsPosterior().log_density(np.zeros((1, 26))).round(1)
    array([-124.7])
    """

    n_features = 26
    log_normalizer = -73.407

    def __init__(self):
        successes, trials, kind, extract = (
            np.array(part, dtype=float) for part in (GERMINATED, SEEDS, KIND, EXTRACT)
        )
        self._successes, self._failures = tensor_of(successes), tensor_of(trials - successes)
        design = np.column_stack([np.ones(21), kind, extract, kind * extract])
        self._design = tensor_of(design)
        coefficients = (
            gammaln(trials + 1) - gammaln(successes + 1) - gammaln(trials - successes + 1)
        )
        shape, rate = PRECISION_SHAPE, PRECISION_RATE
        self._constant = float(
            coefficients.sum()
            + shape * np.log(rate)
            - gammaln(shape)
            - 2 * (LOG_2PI + np.log(COEFFICIENT_SCALE**2))
            - 10.5 * LOG_2PI
        )

    def _log_density(self, x):
        log_precision, coefficients, effects = x[:, 0], x[:, 1:5], x[:, 5:]
        logits = coefficients @ self._design.T.to(x.dtype) + effects
        log_likelihood = self._successes * logsigmoid(logits) + self._failures * logsigmoid(-logits)
        precision = torch.exp(log_precision)
        log_prior = (
            (PRECISION_SHAPE + 10.5) * log_precision
            - precision * (PRECISION_RATE + 0.5 * (effects**2).sum(1))
            - 0.5 * (coefficients**2).sum(1) / COEFFICIENT_SCALE**2
        )
        return log_likelihood.sum(1) + log_prior + self._constant
