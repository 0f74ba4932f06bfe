"""What docs/coming_from.rst says of other estimators and of these."""

import numpy as np
import pytest
from scipy.stats import gaussian_kde
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import KernelDensity

from sklearn_dsm import GMMScoreEstimator, KernelScoreEstimator

X = np.random.default_rng(0).normal(size=(200, 2))


def test_kernel_density_sums_and_these_take_the_mean():
    theirs, ours = KernelDensity(bandwidth=0.5).fit(X), KernelScoreEstimator(0.5).fit(X)
    assert theirs.score(X) == pytest.approx(theirs.score_samples(X).sum())
    assert ours.score(X) == pytest.approx(ours.score_samples(X).mean())
    np.testing.assert_array_equal(
        theirs.sample(3, random_state=1), theirs.sample(3, random_state=1)
    )


def test_a_gaussian_mixture_samples_a_pair_and_these_an_array():
    theirs, ours = GaussianMixture(2, random_state=0).fit(X), GMMScoreEstimator(2).fit(X)
    assert theirs.score(X) == pytest.approx(theirs.score_samples(X).mean())
    rows, labels = theirs.sample(4)
    assert rows.shape == (4, 2) and labels.shape == (4,)
    assert ours.sample(4, random_state=0).shape == (4, 2)
    rows, labels = ours.sample(4, random_state=0, return_labels=True)
    assert rows.shape == (4, 2) and labels.shape == (4,)
    assert ours.weights_.shape == theirs.weights_.shape == (2,)
    assert ours.predict(X).shape == (200,)


def test_scipys_kernel_density_has_samples_in_columns():
    theirs = gaussian_kde(X.T)
    np.testing.assert_allclose(theirs(X.T), np.exp(theirs.logpdf(X.T)))
    assert theirs.resample(5, 0).shape == (2, 5)


def test_without_a_seed_numpys_global_generator_is_drawn_from():
    density, state = KernelScoreEstimator().fit(X), np.random.get_state()
    try:
        np.random.seed(3)
        first = density.sample(4)
        np.random.seed(3)
        np.testing.assert_array_equal(density.sample(4), first)
        before = np.random.get_state()[1].copy()
        density.sample(4, random_state=0)
        np.testing.assert_array_equal(np.random.get_state()[1], before)
    finally:
        np.random.set_state(state)
