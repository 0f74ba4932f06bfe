"""What neighbours say of a target: leave-one-out features, and tables of near duplicates."""

import numpy as np
import pytest

from sklearn_dsm import DSMRegressor
from sklearn_dsm.regression._neighbours import N_FEATURES, Neighbours

SETTINGS = {"max_iter": 150, "max_epochs": 60, "n_folds": 2, "random_state": 0}


def near_duplicates(n, seed):
    """Pairs of samples that are nearly the same, with targets that no feature explains."""
    random = np.random.default_rng(seed)
    X, y = random.normal(size=(n, 4)), random.normal(size=n)
    X, y = np.repeat(X, 4, axis=0), np.repeat(y, 4)
    X, y = X + 1e-4 * random.normal(size=X.shape), y + 0.01 * random.normal(size=len(y))
    order = random.permutation(len(X))
    return X[order], y[order]


@pytest.fixture(scope="module")
def paired():
    X, y = near_duplicates(700, 0)
    return DSMRegressor(**SETTINGS).fit(X[:2400], y[:2400]), X[2400:], y[2400:]


def test_features_of_a_training_sample_are_those_of_the_others():
    random = np.random.default_rng(0)
    context, target = random.normal(size=(60, 3)), random.normal(size=60)
    own = Neighbours(context, target).features()
    for i in (0, 17, 59):
        others = Neighbours(np.delete(context, i, 0), np.delete(target, i))
        np.testing.assert_allclose(others.features(context[[i]])[0], own[i], atol=1e-12)


def test_features_are_those_of_the_definition():
    context, target = np.arange(30.0)[:, None] ** 2, np.arange(30.0)
    found = Neighbours(context, target).features(np.array([[-1.0]]))[0]
    assert len(found) == N_FEATURES
    expected = [0, 1, 4.5, np.arange(10).std(), 0, np.log(5), np.log(82)]
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_near_duplicates_tell_the_target(paired):
    fit, X, y = paired
    assert fit.pool_weights_["neighbours"] > 0.9
    # The target's distribution given the features alone is standard normal, of 1.42 nats.
    assert -fit.score_samples(X, y).mean() < -2
    inside = np.diff(fit.predict_interval(X, 0.9))[:, 0]
    assert np.median(inside) < 0.3


def test_an_interval_holds_what_it_should_beside_near_duplicates(paired):
    fit, X, y = paired
    low, high = fit.predict_interval(X, 0.9).T
    assert ((low <= y) & (y <= high)).mean() == pytest.approx(0.9, abs=0.06)


def test_few_samples_have_no_neighbours():
    X, y = near_duplicates(100, 0)
    fit = DSMRegressor(**SETTINGS).fit(X, y)
    assert "neighbours" not in fit.pool_weights_


def test_neighbours_without_a_say_are_forgotten():
    random = np.random.default_rng(0)
    X = random.uniform(-1, 1, size=(2200, 12))
    y = X @ np.arange(12) + random.normal(size=len(X))
    fit = DSMRegressor(**SETTINGS | {"max_epochs": 0}).fit(X, y)
    assert fit._neighbours is None and "neighbours" not in fit.pool_weights_
