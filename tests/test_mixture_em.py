"""Gaussian mixtures by EM: scikit-learn's without weights, and integer weights are repetitions."""

import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from sklearn_dsm._mixtures.em import continue_mixture, fit_mixture


def clusters(n=600, d=3, seed=0):
    random = np.random.RandomState(seed)
    mixing = random.standard_normal((3, d, d))
    X = np.concatenate(
        [random.standard_normal((n // 3, d)) @ m + 3 * k for k, m in enumerate(mixing)]
    )
    return X[random.permutation(len(X))]


@pytest.mark.parametrize("size", [1, 2, 5])
def test_without_weights_it_is_that_of_scikit_learn(size):
    X = clusters()
    ours = fit_mixture(X, np.ones(len(X)), size, 1e-5, np.random.RandomState(0)).mixture
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        theirs = GaussianMixture(size, reg_covar=1e-5, random_state=0).fit(X)
    assert ours.score(X) == pytest.approx(theirs.score(X), abs=5e-3)


def test_integer_weights_are_repetitions():
    X = clusters()
    weight = np.random.RandomState(1).randint(1, 4, len(X)).astype(float)
    start = fit_mixture(X, np.ones(len(X)), 3, 1e-5, np.random.RandomState(0)).mixture
    weighted = continue_mixture(start, X, weight, 1e-5, 10).mixture
    repeated = np.repeat(X, weight.astype(int), axis=0)
    again = continue_mixture(start, repeated, np.ones(len(repeated)), 1e-5, 10).mixture
    np.testing.assert_allclose(weighted.means_, again.means_, rtol=1e-8)
    np.testing.assert_allclose(weighted.covariances_, again.covariances_, rtol=1e-7, atol=1e-10)


def test_every_iteration_raises_the_likelihood():
    X, weight = clusters(), np.random.RandomState(0).rand(600)
    mixture = fit_mixture(X, weight, 4, 1e-9, np.random.RandomState(0)).mixture
    values = []
    for _ in range(5):
        mixture = continue_mixture(mixture, X, weight, 1e-9, 1).mixture
        values.append(np.average(mixture.score_samples(X), weights=weight))
    assert (np.diff(values) > -1e-9).all()
