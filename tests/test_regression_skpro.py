"""DSMRegressor as a probabilistic regressor of skpro."""

import importlib.util
import pickle

import numpy as np
import pandas as pd
import pytest

from sklearn_dsm import DSMRegressor

QUICK = {"max_iter": 10, "max_epochs": 0, "random_state": 0}
needs_skpro = pytest.mark.skipif(
    importlib.util.find_spec("skpro") is None, reason="needs the package skpro"
)


@pytest.fixture(scope="module")
def data():
    random = np.random.default_rng(0)
    X = pd.DataFrame(random.normal(size=(200, 2)), columns=["a", "b"])
    return X, (X["a"] + random.normal(size=200)).to_numpy()


@pytest.fixture(scope="module")
def fit(data):
    return DSMRegressor(**QUICK).fit(*data)


@pytest.mark.skipif(importlib.util.find_spec("skpro") is not None, reason="skpro is there")
def test_the_error_names_the_package():
    with pytest.raises(ImportError, match="needs skpro"):
        DSMRegressor().as_skpro()


@needs_skpro
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "name",
    ["SkproRegressor", pytest.param("ConditionalDistribution", marks=pytest.mark.slow)],
)
def test_skpro_checks(name):
    from skpro.utils import check_estimator

    from sklearn_dsm.regression import _skpro

    results = check_estimator(getattr(_skpro, name), raise_exceptions=False, verbose=False)
    assert results and set(results.values()) == {"PASSED"}


@needs_skpro
def test_distributions_agree_with_the_regressor(fit, data):
    X, y = data[0][:5], data[1][:5]
    adapter = fit.as_skpro()
    found = adapter.predict_proba(X)
    targets = pd.DataFrame(y, index=found.index, columns=found.columns)
    np.testing.assert_allclose(found.log_pdf(targets).to_numpy()[:, 0], fit.score_samples(X, y))
    np.testing.assert_allclose(found.cdf(targets).to_numpy()[:, 0], fit.cdf(X, y))
    np.testing.assert_allclose(found.ppf(found.cdf(targets)), targets, atol=1e-6)
    np.testing.assert_allclose(found.mean().to_numpy()[:, 0], fit.predict(X))
    draws = fit.sample(X, 20_000, random_state=0)
    np.testing.assert_allclose(found.var().to_numpy()[:, 0], draws.var(1), rtol=0.1)
    interval = adapter.predict_interval(X, coverage=0.8)
    np.testing.assert_allclose(interval, fit.predict_interval(X, 0.8))


@needs_skpro
def test_copies(fit, data):
    adapter = fit.as_skpro()
    same = pickle.loads(pickle.dumps(adapter))
    np.testing.assert_array_equal(same.predict(data[0]), adapter.predict(data[0]))
    assert not adapter.clone().is_fitted and not DSMRegressor().as_skpro().is_fitted


@needs_skpro
def test_counts_have_probabilities(data):
    X, y = data[0], np.round(np.exp(data[1]))
    fit = DSMRegressor(y_step=1, y_bounds=(0, None), **QUICK).fit(X, y)
    found = fit.as_skpro().predict_proba(X[:3])
    np.testing.assert_allclose(
        found.pmf(1).to_numpy()[:, 0], np.exp(fit.score_samples(X[:3], [1] * 3))
    )


@needs_skpro
def test_there_is_one_target(data):
    two = DSMRegressor(**QUICK).fit(data[0], np.column_stack([data[1], -data[1]]))
    with pytest.raises(ValueError, match="must be one target only"):
        two.as_skpro()
