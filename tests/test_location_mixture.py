"""Laws of the location mixtures by polynomial regression, and of the pancakes."""

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import beta, norm

from sklearn_dsm import LocationMixtureScoreEstimator
from sklearn_dsm._core.scores.polynomial import exponents, hermite_features
from sklearn_dsm._core.scores.polynomial_fit import ladder_times
from sklearn_dsm.datasets import GaussianPancakes, make_gaussian_pancakes

ATOMS, WEIGHTS, SCALE = np.array([-1.5, 0.0, 1.5]), np.array([0.3, 0.4, 0.3]), 0.3


def three_atoms(n, seed):
    random = np.random.RandomState(seed)
    return (random.choice(ATOMS, n, p=WEIGHTS) + SCALE * random.standard_normal(n))[:, None]


def log_density(X):
    return logsumexp(np.log(WEIGHTS) + norm.logpdf(X, ATOMS, SCALE), axis=1)


@pytest.fixture(scope="module")
def fitted():
    return LocationMixtureScoreEstimator(SCALE, random_state=0).fit(three_atoms(5000, 0))


def test_hermite_features_are_orthonormal():
    powers = exponents(2, 4)
    u = torch.from_numpy(np.random.RandomState(0).standard_normal((400_000, 2)))
    features = hermite_features(u, powers)
    gram = features.T @ features / len(u)
    assert len(powers) == 15
    torch.testing.assert_close(gram, torch.eye(15, dtype=torch.float64), atol=0.15, rtol=0)


def test_the_ladder_is_even_in_the_log_snr():
    times = np.array(ladder_times(2e-3, 3.0, 24))
    steps = np.diff(np.log(np.expm1(2 * times)))
    np.testing.assert_allclose(steps, steps[0])
    np.testing.assert_allclose(times[[0, -1]], [2e-3, 3.0])


def test_a_gaussian_is_found_exactly_but_for_sampling():
    """The noise in noised Gaussian rows is linear, so one cell suffices."""
    X = np.random.RandomState(0).standard_normal((4000, 1)) * 2 + 1
    density = LocationMixtureScoreEstimator(2.0, degree=1, random_state=0).fit(X)
    x = np.linspace(-3, 5, 21)[:, None]
    same_moments = norm.logpdf(x[:, 0], X.mean(), X.std())
    assert np.abs(density.score_samples(x) - same_moments).max() < 0.06


def test_most_rows_are_within_a_fifth_of_a_nat(fitted):
    """Section 6.3: n = 5000, epsilon .2, delta .1."""
    coverage = fitted.pac_coverage(three_atoms(2000, 1), log_density, 0.2)
    assert coverage.share >= 0.9 - np.sqrt(np.log(20) / 4000)


def test_the_bound_of_the_coverage_is_clopper_and_pearson_s(fitted):
    X = three_atoms(400, 2)
    values = fitted.score_samples(X)
    truth = values.copy()
    truth[:40] += 1.0
    coverage = fitted.pac_coverage(X, truth, 0.5)
    assert coverage.share == 0.9
    assert coverage.lower_bound == pytest.approx(beta.ppf(0.05, 360, 41))
    assert fitted.pac_coverage(X, truth + 9, 0.5) == (0.0, 0.0)


@pytest.mark.slow
def test_more_rows_are_closer():
    X = three_atoms(1000, 3)
    errors = []
    for n in (500, 8000):
        density = LocationMixtureScoreEstimator(SCALE, random_state=0).fit(three_atoms(n, 4))
        errors.append(np.abs(density.score_samples(X) - log_density(X)).mean())
    assert errors[1] < 0.6 * errors[0]


def test_entropy_is_near_the_truth_with_the_error_of_a_mean(fitted):
    X = three_atoms(3000, 5)
    entropy = fitted.entropy(X)
    assert entropy.value == pytest.approx(-log_density(X).mean(), abs=0.05)
    assert entropy.standard_error == pytest.approx(np.std(log_density(X)) / np.sqrt(3000), rel=0.1)


def test_the_self_check_sees_nothing_wrong(fitted):
    check = fitted.self_check(three_atoms(100, 6), random_state=0)
    assert check.mass == pytest.approx(1, abs=0.1)
    assert 0 < check.disagreement < 0.4


@pytest.mark.parametrize("d", [1, 2])
def test_the_mass_is_one(d):
    random = np.random.RandomState(8)
    X = three_atoms(500 * d, 8).reshape(-1, d) * np.arange(1, d + 1)
    density = LocationMixtureScoreEstimator(n_levels=8, random_state=0).fit(X)
    width = 1.5 * X.std(0)
    draws = X.mean(0) + width * random.standard_normal((1500, d))
    proposal = norm.logpdf(draws, X.mean(0), width).sum(1)
    ratios = np.exp(density.score_samples(draws) - proposal)
    error = ratios.std() / np.sqrt(len(ratios))
    assert ratios.mean() == pytest.approx(1, abs=3 * error + 0.01)


def test_an_outlier_leaves_the_mass_of_one_column_alone():
    X = np.random.RandomState(0).standard_normal((4000, 1))
    options = {"n_levels": 12, "random_state": 0}
    far = LocationMixtureScoreEstimator(0.2, **options).fit(np.concatenate([X, [[3e3]]]))
    grid = np.linspace(-8, 8, 4001)
    mass = np.trapezoid(np.exp(far.score_samples(grid[:, None])), grid)
    assert mass == pytest.approx(1, abs=0.02)


def test_weights_of_any_unit_give_one_density():
    X = three_atoms(400, 9)
    fits = [
        LocationMixtureScoreEstimator(n_levels=4, random_state=0).fit(X, sample_weight=w)
        for w in (None, np.full(len(X), 1 / len(X)), np.full(len(X), 1e6))
    ]
    for fit in fits[1:]:
        np.testing.assert_allclose(fit.scale_, fits[0].scale_)
        np.testing.assert_allclose(fit.score_samples(X), fits[0].score_samples(X), rtol=1e-6)


@pytest.mark.parametrize("likelihood", ["identity", "ode"])
def test_the_score_is_the_gradient_within_a_cell(likelihood):
    """Of one column whose cells are wider than the rows, by a polynomial of degree three."""
    X = np.random.RandomState(0).gamma(4.0, size=(500, 1))
    density = LocationMixtureScoreEstimator(
        50.0, degree=3, n_levels=12, likelihood=likelihood, random_state=0
    ).fit(X)
    assert len(density.centers_) == 1
    x, step = np.quantile(X, [0.2, 0.5, 0.8])[:, None], 1e-4
    ahead, behind = (density.score_samples(x + sign * step) for sign in (1, -1))
    np.testing.assert_allclose(
        density.stein_score(x)[:, 0], (ahead - behind) / (2 * step), rtol=0.01, atol=1e-3
    )


def test_an_automatic_scale_is_that_of_each_column():
    X = three_atoms(400, 9).reshape(-1, 2)
    density, moved = (
        LocationMixtureScoreEstimator(n_levels=4, random_state=0).fit(X * scale)
        for scale in ([1.0, 1.0], [1.0, 50.0])
    )
    np.testing.assert_allclose(moved.scale_, density.scale_ * [1, 50])
    given = LocationMixtureScoreEstimator(0.3, n_levels=4, random_state=0).fit(X)
    np.testing.assert_array_equal(given.scale_, [0.3, 0.3])


def test_draws_are_near_the_atoms(fitted):
    drawn = fitted.sample(500, random_state=0)
    nearest = np.abs(drawn - ATOMS).min(1)
    assert np.mean(nearest < 3 * SCALE) > 0.95
    share = np.bincount(np.abs(drawn - ATOMS).argmin(1)) / 500
    np.testing.assert_allclose(share, WEIGHTS, atol=0.08)


def test_repeated_calls_and_seeds(fitted):
    X = three_atoms(50, 7)
    again = LocationMixtureScoreEstimator(SCALE, random_state=0).fit(three_atoms(5000, 0))
    np.testing.assert_array_equal(fitted.score_samples(X), again.score_samples(X))


@pytest.mark.parametrize("epsilon", [0, -1.0, np.nan])
def test_epsilon_must_be_positive(fitted, epsilon):
    with pytest.raises(ValueError, match="must be positive"):
        fitted.pac_coverage(three_atoms(5, 0), log_density, epsilon)


def test_a_truth_of_the_wrong_shape(fitted):
    with pytest.raises(ValueError, match=r"must give \(5,\)"):
        fitted.pac_coverage(three_atoms(5, 0), np.zeros(4), 0.1)


# Pancakes


@pytest.mark.parametrize("n_features", [1, 2])
def test_pancakes_have_mass_one(n_features):
    law = GaussianPancakes(n_features, gamma=1.5, beta=0.2, random_state=0)
    axis = np.linspace(-7, 7, 1401 if n_features == 1 else 701)
    grid = np.stack(np.meshgrid(*[axis] * n_features), -1).reshape(-1, n_features)
    mass = np.exp(law.log_density(grid)).sum() * (axis[1] - axis[0]) ** n_features
    assert mass == pytest.approx(1, abs=1e-3)


def test_pancakes_have_unit_variance_in_every_direction():
    X, law = make_gaussian_pancakes(40000, 5, gamma=3.0, random_state=0)
    np.testing.assert_allclose(np.cov(X.T), np.eye(5), atol=0.03)
    assert np.linalg.norm(law.direction) == pytest.approx(1)


def test_the_score_of_pancakes_is_the_gradient():
    X, law = make_gaussian_pancakes(20, 3, random_state=0)
    for j, step in enumerate(1e-5 * np.eye(3)):
        slope = (law.log_density(X + step) - law.log_density(X - step)) / 2e-5
        np.testing.assert_allclose(law.score(X)[:, j], slope, rtol=1e-4, atol=1e-4)


def test_pancakes_refuse_nonsense():
    with pytest.raises(ValueError, match="must be at least 1"):
        GaussianPancakes(0)
