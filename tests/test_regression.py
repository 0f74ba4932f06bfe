"""Conditional densities: exact laws, known truths, and the contract of scikit-learn."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm
from scipy.stats import t as student_t
from sklearn.compose import TransformedTargetRegressor
from sklearn.model_selection import GridSearchCV, KFold, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from sklearn_dsm import DSMRegressor
from sklearn_dsm.metrics import coverage, crps, neg_log_density
from sklearn_dsm.regression._boosting import FIRST_ITERATIONS, Shape, boosted
from sklearn_dsm.regression._location_scale import _ratio
from sklearn_dsm.regression._networks import apart, started
from sklearn_dsm.regression._pool import pool_weights
from sklearn_dsm.regression._residuals import chosen_mixture
from sklearn_dsm.regression._target_space import TargetSpace

TINY = {"max_iter": 10, "max_epochs": 0, "n_folds": 2, "random_state": 0}
QUICK = {"max_iter": 60, "max_epochs": 10, "n_folds": 3, "random_state": 0}


def heteroscedastic(n, seed):
    random = np.random.default_rng(seed)
    X = random.uniform(-1, 1, size=(n, 2))
    return X, np.sin(3 * X[:, 0]) + np.exp(X[:, 1] - 1) * random.normal(size=n)


def truth(X, y):
    return norm.logpdf(y, np.sin(3 * X[:, 0]), np.exp(X[:, 1] - 1))


def branching(n, seed):
    """Two branches that part with x."""
    random = np.random.default_rng(seed)
    X = random.uniform(0, 1, size=(n, 1))
    side = random.choice([-1, 1], size=n)
    return X, side * X[:, 0] * 3 + 0.2 * random.normal(size=n)


@pytest.fixture(scope="module")
def smooth():
    return DSMRegressor(**QUICK).fit(*heteroscedastic(1200, 0))


@pytest.fixture(scope="module")
def branched():
    return DSMRegressor(**QUICK | {"max_epochs": 30}).fit(*branching(1000, 0))


@pytest.fixture(scope="module")
def bounded():
    X, y = heteroscedastic(400, 3)
    return DSMRegressor(y_bounds=(0, None), **QUICK).fit(X, np.exp(y))


@pytest.fixture(scope="module")
def two_targets():
    X, y = heteroscedastic(500, 4)
    other = X[:, 0] + 0.3 * np.random.default_rng(5).normal(size=len(X))
    return DSMRegressor(**QUICK | {"max_epochs": 5}).fit(X, np.column_stack([y, other]))


@pytest.mark.parametrize("name", ["smooth", "branched", "bounded"])
def test_the_mass_over_the_target_is_one(name, request):
    fit = request.getfixturevalue(name)
    x = np.full((1, fit.n_features_in_), 0.4)
    low, high = fit.predict_quantiles(x, [1e-5, 1 - 1e-5])[0]
    grid = np.linspace(low, high, 800)
    density = np.exp(fit.score_samples(np.repeat(x, len(grid), 0), grid))
    assert np.trapezoid(density, grid) == pytest.approx(1, abs=2e-3)


def test_the_mass_over_two_targets_is_one(two_targets):
    x = np.zeros((1, 2))
    draws = two_targets.sample(x, 2000, random_state=0)[0]
    ends = np.transpose([draws.min(0) - 0.6, draws.max(0) + 0.6])
    axes = [np.linspace(low, high, 70) for low, high in ends]
    grid = np.stack(np.meshgrid(*axes), -1).reshape(-1, 2)
    cell = np.prod([axis[1] - axis[0] for axis in axes])
    density = np.exp(two_targets.score_samples(np.repeat(x, len(grid), 0), grid))
    assert density.sum() * cell == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("name", ["smooth", "branched", "bounded"])
def test_the_density_is_the_slope_of_the_distribution_function(name, request):
    fit = request.getfixturevalue(name)
    X = np.full((5, fit.n_features_in_), 0.6)
    y = fit.predict_quantiles(X[:1], [0.1, 0.3, 0.5, 0.7, 0.9])[0]
    step = 1e-3 * (y[-1] - y[0])
    slope = (fit.cdf(X, y + step) - fit.cdf(X, y - step)) / (2 * step)
    np.testing.assert_allclose(np.exp(fit.score_samples(X, y)), slope, rtol=0.005)


@pytest.mark.parametrize("name", ["smooth", "branched", "bounded"])
def test_quantiles_invert_the_distribution_function(name, request):
    fit = request.getfixturevalue(name)
    X = np.random.default_rng(0).uniform(0, 1, size=(20, fit.n_features_in_))
    for probability in (0.02, 0.5, 0.9):
        quantiles = fit.predict_quantiles(X, [probability])[:, 0]
        np.testing.assert_allclose(fit.cdf(X, quantiles), probability, atol=1e-9)


@pytest.mark.parametrize("name", ["smooth", "branched", "bounded"])
def test_samples_follow_the_distribution_function(name, request):
    fit = request.getfixturevalue(name)
    X = np.full((1, fit.n_features_in_), 0.5)
    draws = fit.sample(X, 2000, random_state=1)[0]
    u = np.sort(fit.cdf(np.repeat(X, 2000, 0), draws))
    assert np.abs(u - (np.arange(2000) + 0.5) / 2000).max() < 1.63 / np.sqrt(2000)


def test_a_known_density_is_found(smooth):
    X, y = heteroscedastic(2000, 1)
    assert (truth(X, y) - smooth.score_samples(X, y)).mean() < 0.06
    assert coverage(smooth, X, y) == pytest.approx(0.9, abs=0.025)
    assert -crps(smooth, X, y) < 1.05 * -exact_crps(X, y)
    assert smooth.score(X, y) > 0.9 * smooth_score(X, y)


def exact_crps(X, y):
    class Truth:
        def predict_quantiles(self, X, probabilities):
            scale = np.exp(X[:, 1:] - 1)
            return np.sin(3 * X[:, :1]) + scale * norm.ppf(probabilities)

    return crps(Truth(), X, y)


def smooth_score(X, y):
    residual = y - np.sin(3 * X[:, 0])
    return 1 - (residual**2).sum() / ((y - y.mean()) ** 2).sum()


def test_a_shape_that_changes_with_x_needs_the_network(branched):
    """Where branches part, the density has two modes, and none where they meet."""
    assert branched.uses_network_
    at = branched.score_samples(np.full((3, 1), 0.9), [-2.7, 0.0, 2.7])
    assert at[0] > at[1] + 1.5 and at[2] > at[1] + 1.5
    X, y = branching(2000, 1)
    plain = DSMRegressor(**QUICK | {"max_epochs": 0}).fit(*branching(1000, 0))
    assert neg_log_density(branched, X, y) > neg_log_density(plain, X, y) + 0.1


def test_networks_on_targets_learn_where_the_location_means_nothing():
    """Two modes far from the mean, whose places and weights depend on x."""

    def modes(X):
        return X[:, 0] + 1, 1 / (1 + np.exp(-2 * X[:, 1]))

    def drawn(n, seed):
        random = np.random.default_rng(seed)
        X = random.uniform(-1, 1, size=(n, 3))
        distance, upper = modes(X)
        sign = np.where(random.uniform(size=n) < upper, 1, -1)
        return X, sign * distance + 0.2 * random.normal(size=n)

    fit = DSMRegressor(**TINY | {"max_epochs": 70}).fit(*drawn(1000, 0))
    X, y = drawn(2000, 1)
    distance, upper = modes(X)
    density = upper * norm.pdf(y, distance, 0.2) + (1 - upper) * norm.pdf(y, -distance, 0.2)
    assert (np.log(density) - fit.score_samples(X, y)).mean() < 0.06
    weights = fit.pool_weights_
    assert weights["features"] + weights["targets"] > 0.5
    assert sum(weights.values()) == pytest.approx(1)


def test_a_pool_is_not_worse_than_its_first_candidate():
    random = np.random.default_rng(0)
    weight = random.uniform(0.5, 1.5, size=500)
    for shift in (-2.0, 0.0, 2.0):
        log_density = random.normal([0.0, shift, -1.0, -20.0], size=(500, 4))
        shares = pool_weights(log_density, weight)
        assert shares.sum() == pytest.approx(1) and shares[3] == 0
        pooled = np.log(np.exp(log_density) @ shares)
        assert weight @ (pooled - log_density[:, 0]) >= -1e-9


def test_networks_start_at_the_mixture():
    """Splitting its components keeps their means and variances."""
    weights, means, scales = np.array([0.3, 0.7]), np.array([-1.0, 2.0]), np.array([0.5, 1.5])
    log_weight, mean, log_scale = started(weights, means, scales, 3)
    # Each of the two is split into equally many.
    assert len(mean) == 4
    share = np.exp(log_weight)
    assert share.sum() == pytest.approx(1)
    assert share @ mean == pytest.approx(weights @ means)
    expected = weights @ (means**2 + scales**2)
    assert share @ (mean**2 + np.exp(2 * log_scale)) == pytest.approx(expected)


def test_components_that_start_apart_are_standard_together():
    log_weight, mean, log_scale = apart(6)
    share = np.exp(log_weight)
    assert share.sum() == pytest.approx(1) and len(np.unique(mean)) == 6
    assert share @ mean == pytest.approx(0, abs=1e-12)
    assert share @ (mean**2 + np.exp(2 * log_scale)) == pytest.approx(1)


@pytest.mark.parametrize("name", ["smooth", "branched"])
def test_means_are_those_of_the_density(name, request):
    fit = request.getfixturevalue(name)
    X = np.random.default_rng(2).uniform(0, 1, size=(5, fit.n_features_in_))
    middles = (np.arange(2000) + 0.5) / 2000
    expected = fit.predict_quantiles(X, middles).mean(1)
    np.testing.assert_allclose(fit.predict(X), expected, atol=0.02)


def test_units_of_the_target_shift_the_log_density():
    X, y = heteroscedastic(300, 0)
    fits = [DSMRegressor(**QUICK).fit(X, target) for target in (y, 5 * y - 7)]
    values = fits[0].score_samples(X[:50], y[:50]), fits[1].score_samples(X[:50], 5 * y[:50] - 7)
    np.testing.assert_allclose(values[1], values[0] - np.log(5), atol=0.05)


def test_features_without_information_give_the_marginal():
    random = np.random.default_rng(0)
    X, y = random.normal(size=(390, 2)), random.normal(size=390)
    fit = DSMRegressor(**QUICK).fit(X, y)
    X, y = random.normal(size=(2000, 2)), random.normal(size=2000)
    assert (norm.logpdf(y) - fit.score_samples(X, y)).mean() < 0.05


def test_independent_targets_add_up(two_targets):
    """The second target is independent of the first given x, and its density is known."""
    X, y = heteroscedastic(1000, 6)
    other = X[:, 0] + 0.3 * np.random.default_rng(7).normal(size=len(X))
    expected = truth(X, y) + norm.logpdf(other, X[:, 0], 0.3)
    found = two_targets.score_samples(X, np.column_stack([y, other]))
    assert (expected - found).mean() < 0.15
    assert two_targets.predict(X).shape == (1000, 2)
    with pytest.raises(ValueError, match="must be one target only"):
        two_targets.predict_interval(X)


def test_bounded_targets_stay_within(bounded):
    X, _ = heteroscedastic(50, 8)
    assert (bounded.sample(X, 20, random_state=0) > 0).all()
    assert (bounded.predict_quantiles(X, [0.001]) > 0).all()
    np.testing.assert_array_equal(bounded.score_samples(X, np.full(50, -1.0)), -np.inf)
    np.testing.assert_array_equal(bounded.cdf(X, np.full(50, -1.0)), 0.0)
    draws = bounded.sample(X[:1], 20_000, random_state=0)
    assert bounded.predict(X[:1])[0] == pytest.approx(draws.mean(), rel=0.05)


def test_slopes_of_target_spaces():
    y = np.array([[0.3], [0.8]])
    for bounds in (None, (0, None), (None, 2), (0, 1), [(-1, 3)]):
        space = TargetSpace(bounds, 1)
        u, log_slope = space.forward(y)
        np.testing.assert_allclose(space.inverse(u), y)
        ahead = space.forward(y + 1e-6)[0]
        np.testing.assert_allclose(log_slope, np.log((ahead - u)[:, 0] / 1e-6), atol=1e-4)


def test_categories_and_missing_values():
    frame, target = mixed()
    fit = DSMRegressor(**QUICK).fit(frame, target)
    assert fit.score(frame, target) > 0.9
    odd = frame[:2].astype({"kind": object})
    odd.loc[0, "kind"] = "never seen"
    odd.loc[1, "kind"] = None
    assert np.isfinite(fit.score_samples(odd, target[:2])).all()


def mixed():
    """A frame of numbers, some of them missing, categories and booleans."""
    random = np.random.default_rng(0)
    X, y = heteroscedastic(300, 0)
    kind = random.choice(["low", "high"], size=300)
    frame = pd.DataFrame({"a": X[:, 0], "b": X[:, 1], "kind": pd.Categorical(kind)})
    frame["flag"] = random.choice([True, False], size=300)
    frame.loc[::7, "a"] = np.nan
    return frame, y + np.where(kind == "high", 5.0, 0.0)


def test_dates_are_refused():
    frame = pd.DataFrame({"day": pd.date_range("2020-01-01", periods=50), "x": np.arange(50.0)})
    with pytest.raises(ValueError, match=r"'day'.*holds dates or times\. Encode them as numbers"):
        DSMRegressor(**TINY).fit(frame, np.arange(50.0))


def test_unknown_categories_are_errors_if_asked_for():
    frame, target = mixed()
    strict = DSMRegressor(handle_unknown="error", **TINY).fit(frame, target)
    odd = frame[:3].astype({"kind": object})
    odd.loc[1, "kind"] = None
    assert np.isfinite(strict.predict(odd)).all()
    odd.loc[2, "kind"] = "never seen"
    with pytest.raises(ValueError, match="Column 'kind' holds the category 'never seen'"):
        strict.predict(odd)


@pytest.mark.parametrize("columns", [["a", "b", "kind", "flag"], ["a", "b"]])
def test_frames_of_polars_are_as_those_of_pandas(columns):
    polars = pytest.importorskip("polars")
    frame, target = mixed()
    frame = frame[columns]
    values = {name: frame[name].astype(object).to_list() for name in columns}
    other = polars.DataFrame(values, nan_to_null=True)
    one, two = (DSMRegressor(**TINY).fit(X, target) for X in (frame, other))
    np.testing.assert_array_equal(two.feature_names_in_, columns)
    np.testing.assert_array_equal(one.predict(frame), two.predict(other))
    expected = one.score_samples(frame, target)
    np.testing.assert_array_equal(expected, two.score_samples(other, target))
    np.testing.assert_array_equal(expected, one.score_samples(other, target))


def test_a_short_time_is_a_small_fit():
    X, y = heteroscedastic(500, 0)
    fit = DSMRegressor(max_fit_time=1e-6, random_state=0).fit(X, y)
    assert fit.n_iter_ <= 20 and not fit.uses_network_ and fit.stop_reason_ == "max_fit_time"
    assert (truth(X, y) - fit.score_samples(X, y)).mean() < 0.5


def test_what_averaging_removes_from_errors():
    """Errors in common stay, and a share of what differs between two partitions goes."""
    random = np.random.default_rng(0)
    scale, weight = random.uniform(1, 2, size=100_000), np.ones(100_000)
    common, apart = random.normal(size=100_000), 0.5 * random.normal(size=(2, 100_000))
    assert _ratio(scale * np.stack([common, common]), scale, weight) == 1
    found = _ratio(scale * (common + apart), scale, weight)
    assert found == pytest.approx(np.sqrt(1 / 1.125), abs=0.005)


@pytest.mark.slow
def test_intervals_cover_where_members_disagree():
    """Predictions average over all folds: with little noise their errors are smaller."""
    found = []
    for seed in range(3):
        random = np.random.default_rng(seed)
        X = random.uniform(-1, 1, size=(1200, 3))
        y = np.sin(4 * X[:, 0]) * X[:, 1] + np.abs(X[:, 2]) + 0.1 * random.normal(size=1200)
        fit = DSMRegressor(max_iter=200, max_epochs=0, random_state=seed).fit(X[:200], y[:200])
        found.append(coverage(fit, X[200:], y[200:]))
    assert np.mean(found) == pytest.approx(0.9, abs=0.03)


def test_boosters_predict_samples_that_they_did_not_see():
    X, y = heteroscedastic(200, 0)
    folds = [f for seed in range(2) for f in KFold(2, shuffle=True, random_state=seed).split(X)]

    def cost(values):
        return (y - values) ** 2

    options = [X, [], y, np.ones(200), Shape(0.1, 6, 4), 100, 0, cost]
    found = boosted(folds, *options)
    expected = np.zeros(200)
    for (_, test), booster in zip(folds, found.fitted, strict=True):
        expected[test] += 0.5 * booster.predict(X[test])
    np.testing.assert_allclose(found.predictions, expected)
    hasty = boosted(folds, *options, seconds=0.0)
    assert hasty.fitted[0].n_iter <= FIRST_ITERATIONS
    assert cost(found.predictions).mean() <= cost(hasty.predictions).mean()


def test_mixtures_have_heavy_tails():
    z = student_t(3).rvs(size=(4000, 1), random_state=0)
    mixture = chosen_mixture(z[:2000], np.ones(2000), 0).mixture
    gaps = student_t(3).logpdf(z[2000:, 0]) - mixture.score_samples(z[2000:])
    assert gaps.mean() < 0.03


def test_weights_move_the_fit():
    X, y = heteroscedastic(200, 0)
    X, y = np.vstack([X, X]), np.concatenate([y, y + 4])
    weight = np.repeat([1.0, 0.0], 200)
    fit = DSMRegressor(**QUICK).fit(X, y, sample_weight=weight)
    alone = DSMRegressor(**QUICK).fit(X[:200], y[:200])
    np.testing.assert_allclose(
        fit.score_samples(X[:20], y[:20]), alone.score_samples(X[:20], y[:20]), atol=1e-8
    )


def test_it_lives_in_scikit_learn():
    X, y = heteroscedastic(150, 0)
    tiny = DSMRegressor(max_iter=10, max_epochs=0, random_state=0)
    pipeline = make_pipeline(StandardScaler(), tiny)
    assert cross_val_predict(pipeline, X, y, cv=2).shape == (150,)
    assert np.isfinite(cross_val_score(tiny, X, y, cv=2, scoring=crps)).all()
    search = GridSearchCV(tiny, {"max_iter": [1, 10]}, scoring=neg_log_density, cv=2).fit(X, y)
    assert search.best_params_ == {"max_iter": 10}
    logged = TransformedTargetRegressor(tiny, func=np.log, inverse_func=np.exp)
    assert (logged.fit(X, np.exp(y)).predict(X) > 0).all()


def test_the_evidence_is_of_unseen_samples(smooth):
    pit = smooth.calibration_["pit"]
    assert abs(smooth.calibration_["coverage"][0.9] - 0.9) < 0.05
    assert pit.min() >= 0 and pit.max() <= 1
    assert abs(pit.mean() - 0.5) < 4 / np.sqrt(12 * len(pit))


def test_same_seed_same_fit():
    X, y = heteroscedastic(400, 0)
    one, other = (DSMRegressor(**QUICK | {"max_epochs": 3}).fit(X, y) for _ in range(2))
    np.testing.assert_array_equal(one.score_samples(X, y), other.score_samples(X, y))


@pytest.mark.parametrize(
    ("params", "y", "message"),
    [
        ({}, np.ones(50), "Target 0 is 1 for all samples"),
        ({}, np.r_[np.nan, np.arange(49.0)], "Input y contains NaN: 1 of 50 targets"),
        ({}, np.array(["a", "b"] * 25), "y must hold numbers"),
        ({"y_bounds": (0, None)}, np.linspace(-1, 1, 50), "at or beyond a bound"),
        ({"y_bounds": (1, 0)}, np.linspace(0, 1, 50), "low < high"),
        ({"y_bounds": [(0, 1), (0, 1)]}, np.linspace(0.1, 0.9, 50), "must be a pair"),
    ],
)
def test_bad_targets(params, y, message):
    with pytest.raises(ValueError, match=message):
        DSMRegressor(**params).fit(np.arange(100.0).reshape(50, 2), y)


def test_bad_arguments(smooth):
    X = np.zeros((3, 2))
    with pytest.raises(ValueError, match="quantiles="):
        smooth.predict_quantiles(X, [0.0])
    with pytest.raises(ValueError, match="coverage="):
        smooth.predict_interval(X, 1.5)
    with pytest.raises(ValueError, match="y has shape"):
        smooth.score_samples(X, np.zeros(4))


UNSEEN = "folds hold other samples if weights are repetitions"
TARGET = "score_samples takes the targets as well"


@parametrize_with_checks(
    [DSMRegressor(max_iter=5, max_epochs=1, random_state=0)],
    expected_failed_checks=lambda estimator: {
        "check_sample_weight_equivalence_on_dense_data": UNSEEN,
        "check_sample_weight_equivalence_on_sparse_data": UNSEEN,
        "check_methods_sample_order_invariance": TARGET,
        "check_methods_subset_invariance": TARGET,
        "check_array_api_input": TARGET,
    },
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)
