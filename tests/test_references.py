"""Any fitted density as the reference that a network corrects."""

import pickle
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.neighbors import KernelDensity

from sklearn_dsm import (
    DSM,
    DSMDensityEstimator,
    GMMScoreEstimator,
    KernelScoreEstimator,
    LocationMixtureScoreEstimator,
)

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
BASES = {
    "gmm": GMMScoreEstimator(2, random_state=0, max_iter=20),
    "kernel": KernelScoreEstimator(),
    "two regimes": KernelScoreEstimator(two_regime=True),
    "location": LocationMixtureScoreEstimator(0.5, n_levels=6, random_state=0),
    "network": DSMDensityEstimator(
        reference="gaussian", hidden_layer_sizes=(16, 16), max_epochs=3, random_state=0
    ),
}


def rows(n=300, seed=0):
    random = np.random.RandomState(seed)
    side = np.where(random.rand(n, 1) < 0.5, -1.0, 1.0)
    noise = random.standard_normal((n, 2)) @ np.array([[0.6, 0.4], [0, 0.45]])
    return (noise + side * [1.0, -1.0]) * [3.0, 0.1] + [5.0, 0.0]


@pytest.fixture(scope="module")
def base():
    """name -> a fitted density, of fewer rows than there are."""
    known = {}

    def fitted(name):
        if name not in known:
            known[name] = clone(BASES[name]).fit(rows(120, 1))
        return known[name]

    return fitted


def correcting(density, **params):
    options = {"hidden_layer_sizes": (16, 16), "max_epochs": 2, "random_state": 0}
    return DSMDensityEstimator(reference=density, **(options | params))


every_base = pytest.mark.parametrize("name", BASES)


@every_base
def test_without_a_network_it_is_the_density_that_was_given(base, name):
    density = correcting(base(name), max_fit_time=1e-9)
    with pytest.warns(ConvergenceWarning, match="fitted density is a "):
        density.fit(rows())
    X = rows(20, 2)
    np.testing.assert_array_equal(density.score_samples(X), base(name).score_samples(X))
    np.testing.assert_array_equal(density.stein_score(X), base(name).stein_score(X))
    assert density.reference_ is base(name)


@pytest.fixture
def kept(monkeypatch):
    """Corrections are kept, whether they gain or not."""
    monkeypatch.setattr("sklearn_dsm._search.split.Split.chance_gain", lambda *_: -np.inf)


@pytest.mark.usefixtures("kept")
def test_a_score_that_is_no_gradient_is_corrected_too(base):
    reference, X = base("two regimes"), rows(5, 2)
    density = correcting(reference, max_epochs=2, batch_size=64, tolerance=0.1).fit(rows(300))
    assert density.network_weights_
    assert abs(density.score_samples(X) - reference.score_samples(X)).max() < 1


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize("name", ["gmm", "kernel", "network"])
def test_a_correction_of_it_is_a_normalised_density(base, name):
    density = correcting(base(name), learning_rate=0.02, max_epochs=4).fit(rows(600))
    assert density.network_weights_
    grid = [np.linspace(-9, 19, 40), np.linspace(-0.45, 0.45, 40)]
    points = np.stack(np.meshgrid(*grid, indexing="ij"), -1).reshape(-1, 2)
    values = np.exp(density.score_samples(points)).reshape(40, 40)
    mass = np.trapezoid(np.trapezoid(values, grid[1], axis=1), grid[0])
    assert mass == pytest.approx(1, abs=0.02)
    drawn = density.sample(500, random_state=0)
    assert (abs(drawn.mean(0) - rows(5000, 3).mean(0)) < [0.8, 0.03]).all()
    assert density.stein_score(points[:3], noise_level=0.3).shape == (3, 2)


def test_a_correction_gains_on_a_density_of_few_rows(base):
    X, fresh = rows(4000, 5), rows(2000, 6)
    reference = GMMScoreEstimator(1).fit(rows(40, 4))
    density = correcting(reference, max_epochs=15, hidden_layer_sizes=(32, 32)).fit(X)
    assert density.network_weights_ and density.score(fresh) > reference.score(fresh) + 0.1


def test_training_leaves_it_as_it_is(base):
    before = pickle.dumps(base("network").network_weights_)
    correcting(base("network"), learning_rate=0.02).fit(rows())
    assert pickle.dumps(base("network").network_weights_) == before
    density = correcting(base("network"), max_epochs=4, learning_rate=0.02).fit(rows(600))
    assert max(density.validation_scores_) < base("network").score(rows(600)) + 1


def test_it_goes_through_pickle_and_clone(base):
    density = correcting(FrozenEstimator(base("kernel"))).fit(rows())
    X = rows(20, 2)
    again = pickle.loads(pickle.dumps(density))
    np.testing.assert_array_equal(again.score_samples(X), density.score_samples(X))
    fitted = clone(density).fit(rows())
    np.testing.assert_array_equal(fitted.score_samples(X), density.score_samples(X))


@pytest.mark.parametrize(
    ("reference", "params", "error", "message"),
    [
        (GMMScoreEstimator(2), {}, NotFittedError, "GMMScoreEstimator that is not fitted"),
        (FrozenEstimator(KernelDensity().fit(rows())), {}, ValueError, "density estimator of skl"),
        ("gmm", {"marginals": "standardize"}, ValueError, "brings its own transforms"),
    ],
    ids=["not fitted", "no scores", "marginals"],
)
def test_what_cannot_be_a_reference_says_why(base, reference, params, error, message):
    reference = base(reference) if isinstance(reference, str) else reference
    with pytest.raises(error, match=message):
        correcting(reference, **params).fit(rows())


def test_a_density_of_other_columns_or_of_one_level_is_refused(base):
    with pytest.raises(ValueError, match="has 2 columns, X has 3"):
        correcting(base("gmm")).fit(np.random.RandomState(0).standard_normal((50, 3)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        single = correcting("gaussian", loss=DSM(noise_level=0.2)).fit(rows())
    with pytest.raises(ValueError, match="references need all levels"):
        correcting(single).fit(rows())
