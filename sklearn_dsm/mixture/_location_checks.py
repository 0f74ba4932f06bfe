"""What is known of a fitted location mixture: results of its checks, and what warns of bad ones."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.spatial.distance import cdist
from scipy.special import logsumexp
from scipy.stats import trimboth
from sklearn.exceptions import ConvergenceWarning

from .._evaluation.latent_density import LatentDensity
from .._warn import warn

# A fit is distrusted where its density had more than so many nats of mass too much or too few,
# where a draw takes more than so many proposals, and where a level had fewer samples a feature.
MAX_LOG_MASS, MIN_ACCEPTANCE, MIN_SAMPLES_PER_FEATURE = 0.2, 0.1, 500
# And where fewer samples lie within a component's width, or where a kernel estimate is better by
# so many nats a sample.
MIN_NEIGHBOURS, MAX_SHORTFALL, TRIMMED = 10.0, 0.15, 0.1
# The kernels' widths in those of the components, and rows that they are compared at and made of.
WIDTHS, N_COMPARED, N_COMPARED_IN_MORE, N_CENTERS = 0.5 ** np.arange(8), 400, 128, 2048
OTHERS = "KernelScoreEstimator, GMMScoreEstimator or DSMDensityEstimator"


class Coverage(NamedTuple):
    """Share of samples whose log-density is within epsilon of the true one, and a lower bound.

    The ``lower_bound`` is a one-sided confidence bound at 95 %.
    """

    share: float
    lower_bound: float


class SelfCheck(NamedTuple):
    """Diagnostics of a fitted density, for when the true density is unknown.

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


class KernelComparison(NamedTuple):
    """What a kernel estimate says of the rows of a fit.

    Attributes
    ----------
    neighbours : float
        Rows within a component's width of a row, in the median.
    shortfall : float
        By how many nats a row the best kernel estimate, made without the row, is better.
    shortfall_error : float
        Standard error of ``shortfall``.
    """

    neighbours: float
    shortfall: float
    shortfall_error: float


def compare_with_kernels(
    density: LatentDensity, Z: np.ndarray, share: np.ndarray, scale: float, n_effective: float
) -> KernelComparison:
    """Compare a fitted density with kernel estimates, at rows that neither has to itself."""
    random = np.random.RandomState(0)
    chosen = random.permutation(len(Z))[:N_CENTERS]
    rows, weight = Z[chosen], share[chosen] / share[chosen].sum()
    n = min(len(rows), N_COMPARED if Z.shape[1] == 1 else N_COMPARED_IN_MORE)
    squared = cdist(rows[:n], rows, "sqeuclidean")
    np.fill_diagonal(squared, np.inf)
    neighbours = n_effective * np.exp(-squared / (4 * scale**2)) @ weight
    log_weight = np.log(weight) - np.log1p(-weight[:n, None])
    estimates = [
        logsumexp(log_weight - squared / (2 * width**2), axis=1)
        - Z.shape[1] * np.log(width * np.sqrt(2 * np.pi))
        for width in scale * WIDTHS
    ]
    fitted = density.log_density(rows[:n])[0]
    # Without the tails, where a kernel estimate has no row at all.
    gaps = max((trimboth(each - fitted, TRIMMED) for each in estimates), key=np.mean)
    return KernelComparison(
        float(np.median(neighbours)), float(gaps.mean()), float(gaps.std() / np.sqrt(n))
    )


def warn_of_untrusted(log_mass: float, acceptance: float, kernels: KernelComparison) -> None:
    """Say that a fitted density is not to be trusted, why, and what to change."""
    reason, fix = "", f"raise n_levels, give another scale, or use {OTHERS}"
    if kernels.neighbours < MIN_NEIGHBOURS:
        reason = (
            f"only about {kernels.neighbours:.2g} samples lie within a component's width of a "
            "sample, so single samples shape it"
        )
        fix = f"give more samples or a larger scale, or use {OTHERS}"
    elif abs(log_mass) > MAX_LOG_MASS:
        reason = (
            f"it integrates to {np.exp(log_mass):.3g} instead of one before fit divides by the "
            "integral, so the scores are wrong at some noise level"
        )
    elif kernels.shortfall > MAX_SHORTFALL + 2 * kernels.shortfall_error:
        reason = (
            f"a kernel estimate is better by {kernels.shortfall:.2g} nats per sample, so the "
            "data have details finer than the scale or the levels show"
        )
        fix = f"give a smaller scale, raise n_levels, or use {OTHERS}"
    elif acceptance < MIN_ACCEPTANCE:
        reason = (
            f"only {acceptance:.1%} of draws from a kernel estimate are accepted as draws from it, "
            "so it is large far from the samples, and sample takes long"
        )
    if reason:
        warn(
            f"The fitted density is not to be trusted: {reason}. To mend this, {fix}.",
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
