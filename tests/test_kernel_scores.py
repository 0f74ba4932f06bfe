"""Laws of the densities that kernel estimates of scores imply."""

import numpy as np
import pytest
import torch
from scipy.stats import norm
from sklearn.neighbors import KernelDensity

from sklearn_dsm import KernelScoreEstimator
from sklearn_dsm._core.distributions.gaussian import GaussianScore
from sklearn_dsm._core.distributions.kernel import KernelScore
from sklearn_dsm._core.likelihood.identity import hermite_nodes, identity_log_density, sobol_nodes


def normal_rows(n, d=1, seed=0):
    return np.random.RandomState(seed).standard_normal((n, d))


def test_one_regime_is_the_kernel_estimate():
    X = normal_rows(300, 2)
    density = KernelScoreEstimator(0.4).fit(X)
    mean = X.mean(0)
    values, axes = np.linalg.eigh(np.cov(X.T, bias=True))
    whitening = axes / np.sqrt(values)
    white = (X - mean) @ whitening
    kde = KernelDensity(bandwidth=0.4).fit(white).score_samples(white)
    expected = kde + np.linalg.slogdet(whitening)[1]
    np.testing.assert_allclose(density.score_samples(X), expected, atol=0.05)


def test_the_identity_gives_the_kernel_estimate_from_its_scores():
    """Section 6.2: within a hundredth of a nat everywhere, without any derivative."""
    centers = torch.from_numpy(normal_rows(200))
    kernel = KernelScore(centers, 0.35)
    variance = centers.var() + 0.35**2
    reference = GaussianScore(centers.mean(0), variance.reshape(1, 1))
    x = torch.linspace(-2.5, 2.5, 41, dtype=torch.float64)[:, None]
    nodes = hermite_nodes(40, 40, -8.0, 12.0)
    found = identity_log_density(kernel, reference, x, nodes)
    expected = KernelDensity(bandwidth=0.35).fit(centers.numpy()).score_samples(x.numpy())
    assert np.abs(found.numpy() - expected).max() < 1e-2


def test_a_kernel_of_order_four_has_less_bias():
    """Far from the ends, bias falls from h^2 to h^4."""
    X = normal_rows(40000)
    grid = np.linspace(-2, 2, 41)[:, None]
    errors = {}
    for smoothness in (2, 4):
        density = KernelScoreEstimator(0.5, smoothness=smoothness).fit(X)
        assert density.kernel_order_ == (2 if smoothness == 2 else 4)
        gap = np.exp(density.score_samples(grid)) - norm.pdf(grid[:, 0])
        errors[smoothness] = np.abs(gap).max()
    assert errors[4] < 0.4 * errors[2]


def test_a_known_support_holds_the_mass_and_has_no_dip_at_its_ends():
    X = np.random.RandomState(0).uniform(-1, 1, (4000, 1))
    density = KernelScoreEstimator(support=(-1, 1)).fit(X)
    inside = np.linspace(-0.999, 0.999, 401)[:, None]
    values = np.exp(density.score_samples(inside))
    assert np.abs(values - 0.5).max() < 0.12
    assert np.trapezoid(values, inside[:, 0]) == pytest.approx(0.999, abs=3e-3)
    assert density.score_samples([[1.2]])[0] == -np.inf


@pytest.mark.parametrize("options", [{}, {"bandwidth": 0.002}], ids=["rule", "narrow"])
def test_a_support_far_beyond_the_rows_is_as_good_as_a_near_one(options):
    """And as an open one."""
    X, x = np.random.RandomState(0).exponential(size=(300, 1)), np.linspace(0, 3, 60)[:, None]
    near, far, unbounded = (
        KernelScoreEstimator(support=(0, end), **options).fit(X) for end in (20, 1e6, None)
    )
    for density in (near, far):
        np.testing.assert_allclose(density.score_samples(x), unbounded.score_samples(x), atol=1e-9)


@pytest.mark.parametrize(
    "options", [{}, {"support": (-6, 6)}, {"smoothness": 4}], ids=["plain", "support", "order 4"]
)
def test_two_regimes_are_close_to_one(options):
    X, x = normal_rows(500), np.linspace(-2, 2, 21)[:, None]
    one = KernelScoreEstimator(**options).fit(X)
    two = KernelScoreEstimator(two_regime=True, likelihood="ode", **options).fit(X)
    gap = np.abs(one.score_samples(x) - two.score_samples(x))
    assert 1e-3 < gap.max() < 0.15


def test_samples_of_a_support_stay_in_it():
    X = np.random.RandomState(0).beta(1, 3, (500, 1))
    density = KernelScoreEstimator(support=(0, 1)).fit(X)
    drawn = density.sample(30000, random_state=0)
    assert drawn.min() >= 0 and drawn.max() <= 1
    share = np.trapezoid(
        np.exp(density.score_samples(np.linspace(0, 0.1, 201)[:, None])), dx=0.1 / 200
    )
    assert (drawn < 0.1).mean() == pytest.approx(share, abs=4 * np.sqrt(share / 30000))


@pytest.mark.parametrize("two_regime", [False, True])
def test_a_support_moves_with_the_unit_of_the_column(two_regime):
    """Log-densities by the log of the unit, scores by the unit, the bandwidth with it."""
    X, x = np.random.RandomState(0).beta(2, 3, (300, 1)), np.linspace(0.1, 0.9, 9)[:, None]
    options = {"bandwidth": "cv", "two_regime": two_regime, "random_state": 0}
    plain = KernelScoreEstimator(support=(0, 1), **options).fit(X)
    unit, shift = 1e-3, 5.0
    other = KernelScoreEstimator(support=(shift, shift + unit), **options).fit(shift + unit * X)
    assert other.bandwidth_ == pytest.approx(unit * plain.bandwidth_, rel=1e-6)
    y = shift + unit * x
    np.testing.assert_allclose(
        other.score_samples(y), plain.score_samples(x) - np.log(unit), atol=1e-3
    )
    for level in (0.1, 0.5):
        np.testing.assert_allclose(
            unit * other.stein_score(y, level), plain.stein_score(x, level), atol=1e-3
        )


@pytest.mark.parametrize(
    ("options", "X", "message"),
    [
        ({"likelihood": "ode"}, normal_rows(20), "has no effect"),
        ({"smoothness": 3}, normal_rows(20, 2), "for one column"),
        ({"bandwidth": -1.0}, normal_rows(20), "'bandwidth' parameter"),
        ({"smoothness": 5}, normal_rows(20), "'smoothness' parameter"),
    ],
)
def test_what_is_refused(options, X, message):
    with pytest.raises(ValueError, match=message):
        KernelScoreEstimator(**options).fit(X)


def test_sobol_noise_in_two_columns_is_near_the_kernel_estimate():
    centers = torch.from_numpy(normal_rows(150, 2))
    kernel = KernelScore(centers, 0.5)
    reference = GaussianScore(centers.mean(0), torch.cov(centers.T) + 0.25 * torch.eye(2).double())
    x = centers[:20]
    found = identity_log_density(kernel, reference, x, sobol_nodes(24, 128, 2, -8.0, 10.0))
    expected = KernelDensity(bandwidth=0.5).fit(centers.numpy()).score_samples(x.numpy())
    assert np.abs(found.numpy() - expected).mean() < 0.02
