"""Joining mixtures: the weights that held-out rows prefer, and the search that uses them."""

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.mixture import GaussianMixture

from sklearn_dsm._budget import Budget
from sklearn_dsm._mixtures.parameters import joined, numbers_in, standard_gaussian
from sklearn_dsm._search.mixture_search import (
    MixtureSearch,
    stacking_weights,
)
from sklearn_dsm._search.split import Table
from sklearn_dsm._search.tuning import TUNING

FOREVER = Budget(None)


@pytest.fixture
def log_densities():
    x = np.random.RandomState(0).standard_normal(300)
    laws = [(-0.5, 0.8), (0.7, 0.7), (0.0, 3.0), (6.0, 1.0)]
    return np.stack([norm(mean, scale).logpdf(x) for mean, scale in laws])


def clusters(n, seed=0):
    random = np.random.RandomState(seed)
    angle = 2 * np.pi * random.rand(n)
    ring = np.stack([np.cos(angle), np.sin(angle)], 1)
    return 3 * ring + 0.3 * random.standard_normal((n, 2))


def searched(X, n_held_out, max_size=np.inf):
    table = Table(X, np.ones(len(X)), np.arange(len(X)) < n_held_out)
    search = MixtureSearch(table.split("standardize"), np.random.RandomState(0))
    search.sizes = [size for size in search.sizes if size <= max_size]
    search.go_on(FOREVER)
    return search


def test_stacking_weights_satisfy_the_conditions_of_a_maximum(log_densities):
    """The mean of p_k over the joined density is 1 where a weight is positive, else less."""
    weight = np.random.RandomState(1).rand(log_densities.shape[1])
    shares = stacking_weights(log_densities, weight)
    densities = np.exp(log_densities)
    ratios = np.average(densities / (shares @ densities), axis=1, weights=weight)
    assert shares.sum() == pytest.approx(1)
    assert ratios.max() < 1 + 1e-2
    assert ratios[shares > 1e-2] == pytest.approx(1, abs=1e-2)
    assert shares[-1] < 1e-6


def test_stacking_weights_count_a_row_as_often_as_it_weighs(log_densities):
    counts = np.random.RandomState(2).randint(0, 4, log_densities.shape[1])
    repeated = np.repeat(log_densities, counts, axis=1)
    np.testing.assert_allclose(
        stacking_weights(log_densities, counts),
        stacking_weights(repeated, np.ones(counts.sum())),
        rtol=1e-9,
    )


def test_stacking_weights_survive_rows_far_out(log_densities):
    shares = stacking_weights(log_densities - 1e5, np.ones(log_densities.shape[1]))
    np.testing.assert_allclose(shares, stacking_weights(log_densities, np.ones(300)))


@pytest.mark.parametrize("covariance_type", ["full", "diag"])
def test_joined_mixtures_are_the_weighted_mean_of_their_densities(covariance_type):
    X, shares = clusters(400), np.array([0.3, 0.7])
    mixtures = [GaussianMixture(k, random_state=0).fit(X) for k in (2, 5)]
    mixtures[1].set_params(covariance_type=covariance_type).fit(X)
    mean = sum(w * np.exp(m.score_samples(X)) for w, m in zip(shares, mixtures, strict=True))
    np.testing.assert_allclose(np.exp(joined(mixtures, shares).score_samples(X)), mean, rtol=1e-9)


def test_a_joined_mixture_is_better_than_each_on_fresh_rows():
    """On a ring, of which every number of components has its own polygon."""
    fresh = clusters(20000, seed=1)
    gains = []
    for seed in range(3):
        search = searched(clusters(2000, seed=10 + seed), 400)
        Z, _ = search.split.latent.forward(fresh)
        singles = [mixture.score(Z) for mixture, _ in search.tried]
        gains.append(search.best.score(Z) - max(singles))
    assert np.mean(gains) > 0


def test_rows_that_weigh_nothing_allow_no_more_components():
    X, held_out = clusters(1000), np.arange(1000) < 100
    weight = np.where(np.arange(1000) % 30 == 0, 1.0, 1e-6)
    split = Table(X, weight, held_out).split("standardize")
    search = MixtureSearch(split, np.random.RandomState(0))
    assert search.n == pytest.approx(30, rel=0.01)
    assert max(search.sizes) == 10


def test_few_held_out_rows_choose_one_mixture_by_the_information_criterion():
    search = searched(clusters(600), 60)
    assert not search.tried
    assert len(search.best.weights_) in TUNING.mixture_sizes
    gaussian = GaussianMixture(1).fit(search.rows)
    assert search.best.bic(search.rows) < gaussian.bic(search.rows) - 100


def test_gaussian_rows_need_no_mixture():
    search = searched(np.random.RandomState(0).standard_normal((3000, 3)), 600)
    assert len(search.best.weights_) == 1


def test_rows_of_equal_weight_are_each_used_once():
    """Also where there are more than a first fit takes, which has its share of a sorted table."""
    X = np.random.RandomState(0).standard_normal((13000, 26))
    X[1000:] = X[1000:][X[1000:, 0].argsort()]
    search = searched(X, 1000, max_size=1)
    assert len(np.unique(search.rows[:, 0])) == len(search.rows) == 12000
    early, late = search.rows[: TUNING.mixture_rows], search.rows[TUNING.mixture_rows :]
    np.testing.assert_allclose(early.mean(0), late.mean(0), atol=0.15)


def test_a_mixture_alone_takes_the_held_out_rows_as_well():
    """A single Gaussian then has the mean and the covariance of all rows."""
    X = np.random.RandomState(0).standard_normal((900, 3)) @ np.diag([1, 2, 3]) + 1
    search = searched(X, 300, max_size=1)
    search.parts = [(search.tried[0][0], 1.0)]
    _, mixture = search.with_held_out_rows(FOREVER)
    Z, _ = search.split.latent.forward(X)
    np.testing.assert_allclose(mixture.means_[0], Z.mean(0), atol=1e-9)
    np.testing.assert_allclose(mixture.covariances_[0], np.cov(Z.T, ddof=0), atol=1e-4)


def test_the_gain_of_more_rows_is_half_a_nat_a_parameter():
    """Akaike's expansion against the mean over many fits: d + d (d + 1) / 2 numbers."""
    d, n, n_held_out, fresh = 8, 400, 200, np.random.RandomState(1).standard_normal((20000, 8))
    gains, expected = [], []
    for seed in range(20):
        X = np.random.RandomState(100 + seed).standard_normal((n, d))
        search = searched(X, n_held_out, max_size=1)
        part = search.tried[0][0]
        search.parts = [(part, 1.0)]
        Z, _ = search.split.latent.forward(fresh)
        gains.append(search.with_held_out_rows(FOREVER)[1].score(Z) - part.score(Z))
        expected.append(search.gain_with_held_out_rows())
    assert np.ptp(expected) == 0
    assert expected[0] == pytest.approx((d + d * (d + 1) / 2) / 2 * (1 / 200 - 1 / 400))
    assert np.mean(gains) == pytest.approx(expected[0], rel=0.35)


def test_no_mixture_expects_nothing_of_more_rows():
    search = searched(np.random.RandomState(0).standard_normal((3000, 3)), 600)
    base = search.base()
    assert base.gain_of_refit == 0 and base.value == search.value
    np.testing.assert_array_equal(base.without_network(FOREVER)[1].means_, np.zeros((1, 3)))


def test_a_component_has_more_rows_than_columns():
    """With fewer its covariance is singular and its likelihood without bound."""
    search = searched(np.random.RandomState(0).standard_normal((100, 120)), 10)
    assert search.value == search.split.score(standard_gaussian(120).score_samples)
    assert len(search.best.weights_) == 1


@pytest.mark.parametrize("n_rows", [600, TUNING.mixture_rows + 3000])
def test_a_fit_that_would_take_too_long_is_not_begun(n_rows):
    search, budget = searched(clusters(n_rows), n_rows // 10, max_size=3), Budget(1e6)
    assert 0 < search.seconds_per_update < search.seconds_per_component < 60
    fitted = search.parts
    search.sizes, search.n_worse = [4], 0
    search.seconds_per_component = search.seconds_per_update = 1e6
    search.go_on(budget)
    assert search.sizes == [4] and search.parts is fitted
    latent, mixture = search.with_held_out_rows(budget)
    np.testing.assert_array_equal(mixture.means_, search.best.means_)
    assert latent is search.split.latent


def test_a_search_that_was_cut_off_expects_its_gains_to_go_on_shrinking():
    """As they did last, for the sizes that there is time for; never as fast as they grew."""
    search, budget = searched(clusters(3000), 600, max_size=3), Budget(100)
    search.sizes, search.seconds_per_component = [4, 6, 8], 1e-9
    search.n_worse, search.gains = 0, [2.0, 0.8, 0.4]
    assert search.expected_value(budget) == pytest.approx(search.value + 0.2 + 0.1 + 0.05)
    search.seconds_per_component = 6
    assert search.expected_value(budget) == pytest.approx(search.value + 0.2 + 0.1)
    budget.seconds = 1e-9
    assert search.expected_value(budget) == search.value
    search.seconds_per_component, search.gains = 1e-9, [0.1, 0.4]
    assert search.expected_value(Budget(100)) < search.value + 3 * 0.4


def test_a_row_drawn_again_tells_a_mixture_nothing_new():
    """The gain of a refit counts effective rows, before and with the held-out ones."""
    X, weight = clusters(2000), np.ones(2000)
    weight[:200:2] = 25.0
    table = Table(X, weight, np.arange(len(X)) % 4 == 0)
    search = MixtureSearch(table.split("standardize"), np.random.RandomState(0))
    search.go_on(FOREVER)
    numbers = sum(share * numbers_in(mixture) for mixture, share in search.parts)
    before, after = (w.sum() ** 2 / (w**2).sum() for w in (weight[~table.held_out], weight))
    expected = 0.5 * numbers * (1 / before - 1 / after)
    assert search.base().gain_of_refit == pytest.approx(expected) and before < 1000


def test_a_search_that_came_to_its_end_expects_nothing():
    search = searched(clusters(3000), 600)
    assert max(search.gains) > 0.3 and min(search.gains) > 0
    assert search.expected_value(FOREVER) == search.value
