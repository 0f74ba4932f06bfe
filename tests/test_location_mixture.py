"""Laws of the location mixtures by polynomial regression, and of the pancakes."""

import warnings
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.special import logsumexp
from scipy.stats import beta, kstest, norm
from sklearn.exceptions import ConvergenceWarning

from sklearn_dsm import LocationMixtureScoreEstimator
from sklearn_dsm._core.scores.polynomial import exponents, hermite_features
from sklearn_dsm._core.scores.polynomial_fit import ladder_times
from sklearn_dsm.datasets import GaussianPancakes, make_gaussian_pancakes
from sklearn_dsm.mixture._line_density import LogLinearCurve

ATOMS, WEIGHTS, SCALE = np.array([-1.5, 0.0, 1.5]), np.array([0.3, 0.4, 0.3]), 0.3


UNTRUSTED = "ignore:The fitted density is not to be trusted"


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


@pytest.mark.filterwarnings(UNTRUSTED)
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


@pytest.mark.filterwarnings(UNTRUSTED)
def test_an_outlier_leaves_the_mass_of_one_column_alone():
    X = np.random.RandomState(0).standard_normal((4000, 1))
    options = {"n_levels": 12, "random_state": 0}
    far = LocationMixtureScoreEstimator(0.2, **options).fit(np.concatenate([X, [[3e3]]]))
    grid = np.linspace(-8, 8, 4001)
    mass = np.trapezoid(np.exp(far.score_samples(grid[:, None])), grid)
    assert mass == pytest.approx(1, abs=0.02)


@pytest.mark.filterwarnings(UNTRUSTED)
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


@pytest.mark.filterwarnings(UNTRUSTED)
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


# Clusters far apart


def far_clusters(n, gap, scale, seed):
    """Three clusters in a row, and the log-density of the samples."""
    random = np.random.default_rng(seed)
    atoms = gap * np.arange(3.0)
    X = random.choice(atoms, (n, 1)) + scale * random.normal(size=(n, 1))
    return X, logsumexp(norm.logpdf(X, atoms, scale), axis=1) - np.log(3)


@pytest.mark.parametrize(("gap", "scale"), [(1000.0, 0.1), (1e5, 1.0)])
def test_clusters_many_scales_apart_are_found(gap, scale):
    X, _ = far_clusters(600, gap, scale, 0)
    fresh, truth = far_clusters(2000, gap, scale, 1)
    density = LocationMixtureScoreEstimator(scale, random_state=0).fit(X)
    assert density.score(fresh) == pytest.approx(truth.mean(), abs=0.1)
    inside = np.abs(density.sample(1000, random_state=0) % gap)
    assert np.quantile(np.minimum(inside, gap - inside), 0.99) < 4 * scale


@pytest.mark.filterwarnings(UNTRUSTED)
def test_levels_reach_below_the_scale_at_one_spacing():
    X, _ = far_clusters(60, 1000.0, 0.1, 0)
    far = LocationMixtureScoreEstimator(0.1, n_noise=1, random_state=0).fit(X)
    times = np.array([float(rung["time"]) for rung in far.rungs_])
    assert np.sqrt(-np.expm1(-2 * times[0])) * X.std() == pytest.approx(0.1 / 4)
    assert 0.45 < -np.diff(-np.log(np.expm1(2 * times))).max() <= 0.5


def test_few_samples_far_away_keep_a_cell_of_their_own():
    far = 50 + SCALE * np.random.RandomState(1).standard_normal((40, 1))
    X = np.concatenate([three_atoms(1000, 0), far])
    density = LocationMixtureScoreEstimator(SCALE, random_state=0).fit(X)
    near = density.score_samples(np.linspace(47, 53, 601)[:, None])
    assert 0.01 * np.exp(near).sum() == pytest.approx(40 / 1040, rel=0.2)


# One distribution


@pytest.fixture(scope="module")
def plane():
    """A fit of two features, a grid over the plane, and the masses of the grid's cells."""
    random = np.random.RandomState(0)
    X = random.choice([-2.0, 0.0, 2.0], (800, 1)) * [1.0, 0.5] + 0.5 * random.randn(800, 2)
    options = {"n_levels": 5, "n_noise": 2, "degree": 2, "random_state": 0}
    density = LocationMixtureScoreEstimator(0.5, **options).fit(X)
    axes = [np.linspace(-4.4, 4.4, 45), np.linspace(-3.2, 3.2, 33)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2)
    return density, grid, np.exp(density.score_samples(grid)) * 0.2**2


def same_within_error(draws, expected, n_errors=4):
    error = draws.std() / np.sqrt(len(draws))
    assert draws.mean() == pytest.approx(expected, abs=n_errors * error + 1e-4)


def test_draws_in_one_feature_follow_the_log_density(fitted):
    drawn = fitted.sample(20_000, random_state=0)
    grid = np.linspace(-6, 6, 24_001)
    log_p = fitted.score_samples(grid[:, None])
    mass = np.exp(log_p) * 0.0005
    assert mass.sum() == pytest.approx(1, abs=1e-4)
    for f in (lambda x: x, np.square, np.sin, lambda x: (x > 0.7).astype(float)):
        same_within_error(f(drawn[:, 0]), mass @ f(grid))
    same_within_error(fitted.score_samples(drawn), mass @ log_p)
    cumulated = mass.cumsum() - mass / 2
    assert kstest(drawn[:, 0], lambda x: np.interp(x, grid, cumulated)).pvalue > 0.01


def test_draws_in_two_features_follow_the_log_density(plane):
    density, grid, mass = plane
    drawn = density.sample(2000, random_state=0)
    # The mass itself is measured by draws.
    assert mass.sum() == pytest.approx(1, abs=0.02)
    mass = mass / mass.sum()
    for f in (lambda x: x[:, 0], lambda x: x[:, 0] * x[:, 1], lambda x: np.cos(2 * x[:, 1])):
        same_within_error(f(drawn), mass @ f(grid))
    along = drawn @ [1.0, -0.7]
    # A square's mass is spread over its width.
    spread = np.random.RandomState(0).uniform(-0.1, 0.1, (20, *grid.shape))
    positions = ((grid + spread) @ [1.0, -0.7]).ravel()
    order = positions.argsort()
    cumulated = np.tile(mass / 20, 20)[order].cumsum()
    assert kstest(along, lambda x: np.interp(x, positions[order], cumulated)).pvalue > 0.01


def test_the_log_density_of_two_features_stays_below_a_kernel_estimate(plane):
    density, *_ = plane
    far = density.score_samples([[1e3, 0.0], [0.0, -1e4]])
    assert (far < -1e4).all() and np.isfinite(far).all()


def test_a_seed_gives_the_same_draws(fitted, plane):
    for density in (fitted, plane[0]):
        first, again, other = (density.sample(30, random_state=seed) for seed in (0, 0, 1))
        np.testing.assert_array_equal(first, again)
        assert not np.isin(other, first).any()


def test_the_score_of_one_feature_is_the_gradient(fitted):
    x, step = three_atoms(50, 3), 1e-7
    ahead, behind = (fitted.score_samples(x + sign * step) for sign in (1, -1))
    np.testing.assert_allclose(
        fitted.stein_score(x)[:, 0], (ahead - behind) / (2 * step), rtol=1e-4, atol=1e-4
    )


def test_a_curve_is_integrated_and_inverted_exactly():
    curve = LogLinearCurve(np.array([-1.0, 0.0, 0.5, 2.0]), np.array([0.0, 3.0, 3.0, -9.0]), 1.5)
    ends = [-np.inf, -1.0, 0.0, 0.5, 2.0, np.inf]
    for u in (1e-12, 1e-3, 0.3, 0.8, 0.999, 1 - 1e-12):
        z = curve.quantile(np.array([u]))[0]
        below = sum(
            quad(lambda t: np.exp(curve.log_density(np.array([t]))[0]), low, min(high, z))[0]
            for low, high in pairwise(ends)
            if low < z
        )
        assert below == pytest.approx(u, rel=1e-6)


def test_draws_by_the_flow_are_those_of_the_flow():
    X = three_atoms(500, 0)
    options = {"n_levels": 8, "random_state": 0}
    draws = [
        LocationMixtureScoreEstimator(SCALE, likelihood=each, **options).fit(X).sample(20, 0)
        for each in ("identity", "ode")
    ]
    assert (draws[0] != draws[1]).all()


# What is not to be trusted


@pytest.mark.parametrize(
    ("gap", "options", "reason"),
    [
        (1000.0, {"shortest_time": 2e-3}, "integrates to"),
        (1.0, {"scale": 1e-3, "n_levels": 4}, "samples lie within a component's width"),
    ],
)
def test_a_bad_fit_warns(gap, options, reason):
    X, _ = far_clusters(200, gap, 0.1, 0)
    density = LocationMixtureScoreEstimator(0.1, n_noise=1, random_state=0).set_params(**options)
    with pytest.warns(ConvergenceWarning, match=reason):
        density.fit(X)


def test_details_finer_than_the_scale_warn():
    random = np.random.RandomState(0)
    X = random.choice([0.01, 3.0], (800, 1), p=[0.7, 0.3]) * random.standard_normal((800, 1))
    with pytest.warns(ConvergenceWarning, match="a kernel estimate is better"):
        LocationMixtureScoreEstimator(n_levels=12, random_state=0).fit(X)


@pytest.mark.parametrize("scale", [SCALE, "auto"])
def test_a_good_fit_does_not_warn(scale):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        LocationMixtureScoreEstimator(scale, random_state=0).fit(three_atoms(1000, 0))


def test_a_fit_without_time_for_many_samples_warns():
    X = three_atoms(20_000, 0)
    density = LocationMixtureScoreEstimator(SCALE, max_fit_time=1e-9, random_state=0)
    with pytest.warns(ConvergenceWarning, match="max_fit_time left time for 200 of 20000 samples"):
        density.fit(X)
    assert np.isfinite(density.score_samples(X[:5])).all()


def test_a_limit_that_is_not_reached_does_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        LocationMixtureScoreEstimator(SCALE, max_fit_time=600, random_state=0).fit(
            three_atoms(1000, 0)
        )


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
