"""Laws of the amortised log-density, ``likelihood="fast"``."""

import pickle

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.base import clone

from sklearn_dsm import DSMDensityEstimator

FALLBACK = "ignore:No network was trained:sklearn.exceptions.ConvergenceWarning"


def fast(**params):
    common = {
        "reference": "gaussian",
        "hidden_layer_sizes": (48, 48),
        "max_epochs": 25,
        "batch_size": 128,
        "learning_rate": 0.01,
        "likelihood": "fast",
        "random_state": 0,
    }
    return DSMDensityEstimator(**(common | params))


def spiral(n, seed):
    random = np.random.RandomState(seed)
    angle = random.uniform(0.5, 3.0, (n, 1)) * np.pi
    points = angle * np.hstack([np.cos(angle), np.sin(angle)]) / 4
    return points + 0.15 * random.standard_normal((n, 2))


@pytest.fixture(scope="module")
def fitted():
    density = fast().fit(spiral(1500, 0))
    assert density.network_weights_ and density.head_
    return density


def by_ode(density):
    return clone_fitted(density).set_params(likelihood="ode")


def clone_fitted(density):
    return pickle.loads(pickle.dumps(density))


@pytest.mark.slow
def test_it_is_within_a_twentieth_of_a_nat_of_the_ode_on_average(fitted):
    X = spiral(2000, 1)
    error = fitted.score_samples(X) - by_ode(fitted).score_samples(X)
    assert abs(error.mean()) < 0.05


def test_the_reported_error_is_that_of_fresh_rows(fitted):
    X = spiral(2000, 1)
    error = fitted.score_samples(X) - by_ode(fitted).score_samples(X)
    assert 0.4 < error.std() / fitted.fast_error_ < 2.5
    assert fitted.fast_error_ < 0.5


def test_a_head_gains_over_the_reference(fitted):
    """The reference's log-density is far from the model's, the head's is not."""
    X = spiral(1000, 2)
    gaussian = multivariate_normal(X.mean(0), np.cov(X.T)).logpdf(X)
    truth = by_ode(fitted).score_samples(X)
    assert np.std(fitted.score_samples(X) - truth) < 0.3 * np.std(gaussian - truth)


def test_rows_drawn_do_not_depend_on_it(fitted):
    drawn = fitted.sample(50, random_state=0)
    np.testing.assert_array_equal(drawn, by_ode(fitted).sample(50, random_state=0))


def test_a_pickled_head_gives_the_same(fitted):
    X = spiral(100, 3)
    again = clone_fitted(fitted)
    np.testing.assert_array_equal(again.score_samples(X), fitted.score_samples(X))


def test_rows_far_out_are_as_the_reference_decays(fitted):
    """Beyond what it learned from the head is constant along a ray."""
    direction = np.array([[1.0, 0.5]])
    X = spiral(1500, 0)
    near, far = (X.mean(0) + scale * direction for scale in (1e4, 1e5))
    values = fitted.score_samples(np.vstack([near, far]))
    assert np.isfinite(values).all()
    assert values[1] / values[0] == pytest.approx(100, rel=1e-2)


def test_it_has_to_be_asked_for_at_fit():
    density = fast(likelihood="ode", max_epochs=3).fit(spiral(300, 0))
    assert density.network_weights_ and density.fast_error_ is None and density.head_ == {}
    density.set_params(likelihood="fast")
    with pytest.raises(ValueError, match="fit again with likelihood='fast'"):
        density.score_samples(spiral(3, 1))


@pytest.mark.filterwarnings(FALLBACK)
def test_a_reference_alone_is_exact():
    X = spiral(200, 0)
    density = fast(max_fit_time=1e-9).fit(X)
    assert density.network_weights_ == {} and density.fast_error_ == 0
    expected = clone(density).set_params(likelihood="ode").fit(X).score_samples(X)
    np.testing.assert_array_equal(density.score_samples(X), expected)


def test_a_row_at_the_origin_has_a_gradient(fitted):
    head, z = fitted._latent_density().head, torch.zeros(1, 2, requires_grad=True)
    head(z).sum().backward()
    assert torch.isfinite(z.grad).all()


def test_a_time_limit_holds_for_the_head_too():
    density = fast(max_epochs="auto", max_fit_time=2.0).fit(spiral(1500, 0))
    assert density.head_ and density.stop_reason_ == "max_fit_time"
    assert np.isfinite(density.fast_error_)


def test_a_row_alone_and_among_others_in_single_precision(fitted):
    X = spiral(500, 4)
    alone = np.concatenate([fitted.score_samples(x[None]) for x in X[:5]])
    np.testing.assert_allclose(alone, fitted.score_samples(X)[:5], rtol=0, atol=1e-12)
