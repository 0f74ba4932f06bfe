"""What is known of a fitted location mixture: results of its checks, and what warns of bad ones."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from .._warn import warn

# A fit is distrusted where its density had more than so many nats of mass too much or too few,
# where a draw takes more than so many proposals, and where a level had fewer samples a feature.
MAX_LOG_MASS, MIN_ACCEPTANCE, MIN_SAMPLES_PER_FEATURE = 0.2, 0.1, 500
OTHERS = "KernelScoreEstimator, GMMScoreEstimator or DSMDensityEstimator"


class Coverage(NamedTuple):
    """Share of samples whose log-density is within epsilon of the truth, and a lower bound.

    The ``lower_bound`` is a one-sided confidence bound at 95 %.
    """

    share: float
    lower_bound: float


class SelfCheck(NamedTuple):
    """Diagnostics of a fitted density whose true density is unknown.

    Attributes
    ----------
    disagreement : float
        Mean absolute difference, over the samples, between the log-densities by the likelihood
        identity and by the probability-flow ODE, in nats.
    mass : float
        Integral of the density, one if the density is normalised. Importance sampling from a wide
        normal distribution estimates the integral, and may miss mass far from all samples.
    mass_error : float
        Standard error of ``mass``.
    """

    disagreement: float
    mass: float
    mass_error: float


class Entropy(NamedTuple):
    """An entropy in nats, and its standard error over the samples."""

    value: float
    standard_error: float


def warn_of_untrusted(log_mass: float, acceptance: float) -> None:
    """Say that a fitted density is not to be trusted, why, and what to change."""
    if abs(log_mass) > MAX_LOG_MASS:
        warn(
            f"The density of the likelihood identity integrates to {np.exp(log_mass):.3g} instead "
            "of one, so the scores are wrong at some noise levels. fit divides by the integral, "
            "but log-densities may still be wrong by as much. The scale may not be that of the "
            "components, or there are too few samples for it. Give another scale or more samples, "
            f"raise n_levels, or use {OTHERS}.",
            ConvergenceWarning,
        )
    elif acceptance < MIN_ACCEPTANCE:
        warn(
            "The fitted density is far from a kernel estimate with kernels of half the scale: "
            f"only {acceptance:.1%} of draws from a kernel estimate above it are draws from it. "
            "It may be wrong, and sample takes long. Give another scale or more samples, or use "
            f"{OTHERS}.",
            ConvergenceWarning,
        )


def warn_of_short_time(n_fewest: int, n: int, d: int) -> None:
    """Say that max_fit_time left too few samples a level for a fit to be trusted."""
    if n_fewest < min(n, MIN_SAMPLES_PER_FEATURE * d):
        warn(
            f"max_fit_time left time for {n_fewest} of {n} samples at some noise level, which is "
            "too few for the fitted density to be trusted. Raise max_fit_time, or lower n_levels "
            "or n_noise.",
            ConvergenceWarning,
        )
