"""Targets on a lattice, such as counts: probabilities instead of densities."""

import numpy as np
import pytest
from scipy.stats import poisson

from sklearn_dsm import DSMRegressor
from sklearn_dsm.regression._lattice import Lattice

QUICK = {"max_iter": 40, "max_epochs": 0, "n_folds": 2, "random_state": 0}
COUNTS = np.arange(0, 60)


def counts(n, seed):
    random = np.random.default_rng(seed)
    X = random.uniform(-1, 1, size=(n, 1))
    return X, random.poisson(np.exp(1 + X[:, 0]))


@pytest.fixture(scope="module")
def plain():
    return DSMRegressor(y_step=1, y_bounds=(0, None), **QUICK).fit(*counts(600, 0))


@pytest.fixture(scope="module")
def networked():
    """Halves between bounds, of two branches that part with x."""
    random = np.random.default_rng(0)
    X = random.uniform(0, 1, size=(420, 1))
    y = 5 + random.choice([-4, 4], size=420) * X[:, 0] + 0.3 * random.normal(size=420)
    fit = DSMRegressor(y_step=0.5, y_bounds=(0, 10), **QUICK | {"max_epochs": 40})
    return fit.fit(X, np.round(2 * y.clip(0, 10)) / 2)


def log_masses(fit, X, values):
    every = np.repeat(X, len(values), axis=0)
    return fit.score_samples(every, np.tile(values, len(X))).reshape(len(X), -1)


@pytest.fixture(params=["plain", "networked"])
def fit_and_values(request):
    values = COUNTS if request.param == "plain" else np.arange(0, 10.5, 0.5)
    return request.getfixturevalue(request.param), values


def test_the_network_is_part_of_these_laws(networked):
    assert networked.uses_network_


def test_probabilities_sum_to_the_distribution_function(fit_and_values):
    fit, values = fit_and_values
    X = np.linspace(0, 1, 5)[:, None]
    mass = np.exp(log_masses(fit, X, values))
    np.testing.assert_allclose(mass.sum(1), 1, atol=1e-9)
    every = np.repeat(X, len(values), axis=0)
    cdf = fit.cdf(every, np.tile(values, 5)).reshape(5, -1)
    np.testing.assert_allclose(mass.cumsum(1), cdf, atol=1e-9)
    step = values[1] - values[0]
    between = fit.cdf(X, np.full(5, values[3] + 0.4 * step))
    np.testing.assert_allclose(between, cdf[:, 3], atol=1e-8)
    np.testing.assert_array_equal(fit.cdf(X, np.full(5, values[0] - step)), 0)


def test_means_are_sums_over_values(fit_and_values):
    fit, values = fit_and_values
    X = np.linspace(0, 1, 5)[:, None]
    expected = np.exp(log_masses(fit, X, values)) @ values
    np.testing.assert_allclose(fit.predict(X), expected, atol=1e-4)


def test_samples_and_quantiles_are_values(fit_and_values):
    fit, values = fit_and_values
    X = np.linspace(0, 1, 5)[:, None]
    draws = fit.sample(X, 400, random_state=0)
    assert np.isin(draws, values).all()
    mass = np.exp(log_masses(fit, X, values))
    for row in range(5):
        shares = (draws[row][:, None] == values).mean(0)
        assert 0.5 * np.abs(shares - mass[row]).sum() < 0.1
    quantiles = fit.predict_quantiles(X, [0.001, 0.5, 0.999])
    assert np.isin(quantiles, values).all()
    below = mass.cumsum(1)
    for k, probability in enumerate([0.001, 0.5, 0.999]):
        # The smallest value whose distribution function reaches the probability.
        np.testing.assert_array_equal(values[(below < probability).sum(1)], quantiles[:, k])


def test_known_probabilities_are_found(plain):
    X, _ = counts(300, 1)
    rate = np.exp(1 + X)
    expected = poisson.logpmf(COUNTS[:30], rate)
    divergence = np.exp(expected) * (expected - log_masses(plain, X, COUNTS[:30]))
    assert divergence.sum(1).mean() < 0.04
    np.testing.assert_allclose(plain.predict(X).mean(), rate.mean(), rtol=0.05)


def test_values_that_cannot_be_have_no_mass(plain):
    X = np.zeros((4, 1))
    found = plain.score_samples(X, [0.5, -1.0, np.nan, 3.0])
    np.testing.assert_array_equal(found[:3], -np.inf)
    assert np.isfinite(found[3])


def test_masses_far_in_the_tails_are_exact(plain):
    law, x = plain._law(), np.array([-30.0, -3.0, 0.0, 3.0, 30.0])
    given = plain._given(np.zeros((5, 1)))
    found = law.log_mass(x - 1e-4, x + 1e-4, given)
    np.testing.assert_allclose(found, law.log_density(x[:, None], given) + np.log(2e-4), rtol=1e-3)
    everything = law.log_mass(np.full(5, -np.inf), np.full(5, np.inf), given)
    np.testing.assert_allclose(everything, 0, atol=1e-12)


def test_a_lattice_is_where_the_data_are():
    y = np.array([0.25, 1.25, -1.75, 2.25])
    lattice = Lattice(y, 0.5, -2.0, np.inf)
    assert lattice.limits == (-1.75, np.inf)
    np.testing.assert_array_equal(lattice.nearest(np.array([0.3, -9.0, 0.49])), [0.25, -1.75, 0.25])
    low, high = lattice.cells(np.array([-1.75, 0.25]))
    np.testing.assert_allclose([low, high], [[-np.inf, 0.0], [-1.5, 0.5]])
    spread = lattice.spread(y, np.random.RandomState(0))
    assert (spread != y).all() and (np.abs(spread - y) <= 0.25).all()


def test_many_values_are_as_a_continuous_target():
    """With a fine step, probabilities are densities times the step."""
    random = np.random.default_rng(0)
    X = random.normal(size=(300, 1))
    y = np.round(X[:, 0] + random.normal(size=300), 2)
    fine = DSMRegressor(y_step=0.01, **QUICK).fit(X, y)
    smooth = DSMRegressor(**QUICK).fit(X, y)
    expected = smooth.score_samples(X, y) + np.log(0.01)
    assert np.abs(fine.score_samples(X, y) - expected).mean() < 0.05
    np.testing.assert_allclose(fine.predict(X), smooth.predict(X), atol=0.05)


@pytest.mark.parametrize(
    ("params", "y", "message"),
    [
        ({"y_step": 1}, np.linspace(0, 1, 50), "not a multiple of y_step=1"),
        ({"y_step": 1, "y_bounds": (1, None)}, np.arange(50.0), "beyond a bound"),
        ({"y_step": 1}, np.ones((50, 2)).cumsum(0), "is for one target"),
        ({"y_step": 1}, np.ones(50), "is 1 for all samples"),
        ({"y_step": 0}, np.arange(50.0), "y_step"),
    ],
)
def test_bad_targets(params, y, message):
    with pytest.raises(ValueError, match=message):
        DSMRegressor(**params).fit(np.arange(50.0)[:, None], y)
