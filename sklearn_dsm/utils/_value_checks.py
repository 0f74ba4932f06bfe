"""Checks of what a density estimator computes: log-densities, masses, samples and scores."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.testing import assert_allclose
from scipy.stats import kstest
from sklearn.base import BaseEstimator

from ._check_rows import bimodal_rows, correlated_rows
from ._check_tools import (
    energy_p_value,
    fit_clone,
    line_density,
    plane_density,
    require,
    require_array,
    require_entropy,
    require_mass,
)

# Nats, after a column was rescaled.
EQUIVARIANCE_TOLERANCE = 1e-3
# Rows scored in batches of different sizes may differ by rounding only.
BATCH_TOLERANCE = 1e-7
# A right estimator fails a test at this level for one seed in a thousand.
SMALL_PROBABILITY = 1e-3


def check_score_samples_output(name: str, estimator: BaseEstimator) -> None:
    """score_samples gives (n,) finite numbers in float64."""
    X = correlated_rows()
    values = fit_clone(estimator, X).score_samples(X)
    require_array(f"{name}.score_samples", values, (len(X),))


def check_score_is_mean_log_density(name: str, estimator: BaseEstimator) -> None:
    """score is a float, the mean of score_samples, on rows other than the training's too."""
    fitted = fit_clone(estimator, correlated_rows())
    X = correlated_rows(101, seed=1)
    score = fitted.score(X)
    require(isinstance(score, float), f"{name}.score gives a {type(score).__name__}, not a float.")
    assert_allclose(
        score,
        fitted.score_samples(X).mean(),
        rtol=1e-9,
        err_msg=f"{name}.score is not the mean log-density.",
    )


def check_score_samples_rows_independent(name: str, estimator: BaseEstimator) -> None:
    """A row's log-density does not depend on the rows it is scored with."""
    X = bimodal_rows()
    fitted = fit_clone(estimator, X)
    values, gradients = fitted.score_samples(X), fitted.stein_score(X[:20])
    order = np.random.RandomState(0).permutation(len(X))
    same = partial(assert_allclose, rtol=0, atol=BATCH_TOLERANCE)
    message = f"{name}: a row's log-density depends on the rows around it"
    same(fitted.score_samples(X[order]), values[order], err_msg=f"{message} (order).")
    same(fitted.score_samples(X[:7]), values[:7], err_msg=f"{message} (subset).")
    single = np.concatenate([fitted.score_samples(X[[i]]) for i in range(5)])
    same(single, values[:5], err_msg=f"{message} (single rows).")
    same(
        fitted.stein_score(X[3:9]),
        gradients[3:9],
        err_msg=f"{name}: a row's stein_score depends on the rows around it.",
    )


def check_mass_one_column(name: str, estimator: BaseEstimator) -> None:
    """The density of a bimodal column integrates to one."""
    X = bimodal_rows()[:, :1] * 2.0 + [[3.0]]
    require_mass(name, *line_density(fit_clone(estimator, X), X)[1:])


def check_mass_skewed_column(name: str, estimator: BaseEstimator) -> None:
    """The density of a lognormal column integrates to one."""
    X = np.exp(0.8 * np.random.RandomState(0).standard_normal((300, 1)))
    require_mass(name, *line_density(fit_clone(estimator, X), X)[1:])


def check_mass_two_columns(name: str, estimator: BaseEstimator) -> None:
    """The density of correlated, bimodal rows integrates to one."""
    X = bimodal_rows()
    require_mass(name, *plane_density(fit_clone(estimator, X), X))


def check_sample_output(name: str, estimator: BaseEstimator) -> None:
    """sample gives (n, d) finite numbers in float64; one row unless told."""
    fitted = fit_clone(estimator, correlated_rows())
    require_array(f"{name}.sample", fitted.sample(7, random_state=0), (7, 2))
    require_array(f"{name}.sample", fitted.sample(), (1, 2))


def check_samples_follow_data(name: str, estimator: BaseEstimator) -> None:
    """Draws look like fresh rows of a normal law: energy distance, by permutation.

    300 draws against 300 fresh rows of the law the estimator was fitted on, with 1000
    rows. A right estimator is further off than 999 of 1000 permutations for about one
    seed in a thousand; the seeds are fixed.
    """
    fitted = fit_clone(estimator, correlated_rows(1000))
    scale = np.array([1.0, 3.0])
    draws = fitted.sample(300, random_state=0) / scale
    p_value = energy_p_value(draws, correlated_rows(300, seed=1) / scale)
    require(
        p_value > SMALL_PROBABILITY,
        f"{name}: draws differ from fresh rows of a normal law (energy test, p={p_value:.4f}).",
    )


def check_samples_follow_density(name: str, estimator: BaseEstimator) -> None:
    """Draws follow the law of score_samples, whether or not that fits the data.

    In one column by the Kolmogorov-Smirnov test against the distribution function of the
    quadrature; in one and two columns the mean log-density of the draws is minus the
    entropy of the quadrature, within the Monte-Carlo error.
    """
    X = bimodal_rows()
    fitted = fit_clone(estimator, X[:, :1])
    grid, log_density, weight = line_density(fitted, X[:, :1])
    draws = fitted.sample(2000, random_state=0)
    require_entropy(name, fitted.score_samples(draws), log_density, weight)
    cumulated = np.cumsum(np.exp(log_density) * weight)
    cumulated -= 0.5 * np.exp(log_density) * weight
    test = kstest(draws[:, 0], lambda x: np.interp(x, grid, cumulated / cumulated[-1]))
    require(
        test.pvalue > SMALL_PROBABILITY,
        f"{name}: draws do not follow the density of score_samples (Kolmogorov-Smirnov "
        f"distance {test.statistic:.4f}, p={test.pvalue:.2g}).",
    )
    fitted = fit_clone(estimator, X)
    draws = fitted.sample(2000, random_state=0)
    require_entropy(name, fitted.score_samples(draws), *plane_density(fitted, X))


def check_units_of_columns(name: str, estimator: BaseEstimator) -> None:
    """Rescaled and shifted columns change a log-density by the log of the scales only."""
    X = bimodal_rows()
    before = fit_clone(estimator, X).score_samples(X)
    for scale, shift in (([1.0, 1.0], [100.0, -7.0]), ([1e3, 0.03], [0.0, 0.0])):
        moved = X * scale + shift
        after = fit_clone(estimator, moved).score_samples(moved)
        assert_allclose(
            after + np.log(scale).sum(),
            before,
            rtol=0,
            atol=EQUIVARIANCE_TOLERANCE,
            err_msg=f"{name}: log-densities are not in the units of the columns "
            f"(scale {scale}, shift {shift}).",
        )


def check_stein_score_is_gradient(name: str, estimator: BaseEstimator) -> None:
    """stein_score at level 0 is the gradient of score_samples, by central differences."""
    X = bimodal_rows() * [1.0, 5.0]
    fitted = fit_clone(estimator, X)
    rows = np.concatenate([X[:15], X[:5] + 4 * X.std(0)])
    gradients = fitted.stein_score(rows)
    require_array(f"{name}.stein_score", gradients, rows.shape)
    for j, step in enumerate(1e-4 * X.std(0)):
        move = step * np.eye(2)[j]
        difference = fitted.score_samples(rows + move) - fitted.score_samples(rows - move)
        unit = X[:, j].std()
        assert_allclose(
            gradients[:, j] * unit,
            difference / (2 * step) * unit,
            rtol=1e-3,
            atol=1e-3,
            err_msg=f"{name}.stein_score is not the gradient of score_samples (column {j}).",
        )


def check_stein_score_noise_level(name: str, estimator: BaseEstimator) -> None:
    """stein_score is finite and not zero at every level in [0, 1], and raises at any other.

    A process may have no score at its end.
    """
    X = bimodal_rows()
    fitted = fit_clone(estimator, X)
    for level in (1e-6, 0.1, 0.5, 0.99, 1):
        try:
            values = fitted.stein_score(X[:9], noise_level=level)
        except ValueError as error:
            require(
                level == 1 and "noise_level" in str(error),
                f"{name}.stein_score raises at noise_level={level}: {error}",
            )
            continue
        require_array(f"{name}.stein_score at noise_level={level}", values, (9, 2))
        require(np.abs(values).min() > 0, f"{name}.stein_score is zero at noise_level={level}.")
    for level in (-0.1, 1.1, np.nan):
        try:
            fitted.stein_score(X[:9], noise_level=level)
        except ValueError as error:
            require(
                "noise_level" in str(error),
                f"{name}.stein_score: the error for noise_level={level} does not name it.",
            )
        else:
            raise AssertionError(f"{name}.stein_score accepts noise_level={level}.")


def check_far_rows(name: str, estimator: BaseEstimator) -> None:
    """Rows a million deviations away are finite, and less likely than any training row."""
    X = correlated_rows()
    fitted = fit_clone(estimator, X)
    signs = np.array([[1, 0], [-1, 0], [0, 1], [0, -1], [1, 1], [1, -1], [-1, 1], [-1, -1]])
    far = X.mean(0) + 1e6 * X.std(0) * signs
    values = fitted.score_samples(far)
    require_array(f"{name}.score_samples, rows far outside,", values, (len(far),))
    lowest = fitted.score_samples(X).min()
    require(
        values.max() < lowest,
        f"{name}: a row 1e6 standard deviations from the mean has log-density "
        f"{values.max():.3g}, a training row {lowest:.3g}.",
    )
    require_array(f"{name}.stein_score, rows far outside,", fitted.stein_score(far), far.shape)
