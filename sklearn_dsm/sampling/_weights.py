"""What log-weights tell: the normalising constant, its error, and how far to trust both."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp

from .._warn import warn

# Below this share of effective samples, estimates rest on a few of them.
FEW_EFFECTIVE = 0.05


class WeightSummary(NamedTuple):
    """Estimates from weights w whose mean is the normalising constant.

    Attributes
    ----------
    log_normalizer : float
        Logarithm of the mean weight.
    log_normalizer_stderr : float
        Its standard error, by the delta method.
    elbo : float
        Mean log-weight, the evidence lower bound.
    ess : float
        Share of effective samples, in [1 / n, 1].
    """

    log_normalizer: float
    log_normalizer_stderr: float
    elbo: float
    ess: float

    @classmethod
    def of(cls, log_weights: np.ndarray) -> WeightSummary:
        """The estimates from log-weights (n,), of which some may be -inf.

        Raises
        ------
        ValueError
            If no weight is positive.
        """
        n = len(log_weights)
        total = logsumexp(log_weights)
        if not np.isfinite(total):
            raise ValueError(
                "All weights are zero: the log-density or log-weight is -inf at every sample. "
                "Check its domain, or give bounds or a prior scale that reach where it is finite."
            )
        effective = math.exp(2 * total - logsumexp(2 * log_weights))
        # The relative variance of one weight is n / effective - 1.
        stderr = math.sqrt(max(1 / effective - 1 / n, 0.0))
        return cls(float(total - math.log(n)), stderr, float(np.mean(log_weights)), effective / n)

    def store(
        self,
        estimator,
        advice: str = "Fit for longer, use more steps, or compare with AnnealedSampler.",
    ) -> None:
        """Set the fitted attributes, and warn, with advice, where few samples carry the weights."""
        estimator.log_normalizer_ = self.log_normalizer
        estimator.log_normalizer_stderr_ = self.log_normalizer_stderr
        estimator.elbo_, estimator.ess_ = self.elbo, self.ess
        if self.ess < FEW_EFFECTIVE:
            warn(
                f"Only {self.ess:.1%} of the samples are effective, so log_normalizer_ and its "
                f"standard error are not to be trusted. {advice}",
                UserWarning,
            )
