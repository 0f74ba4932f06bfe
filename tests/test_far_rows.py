"""A training row buys itself no density: one far from all others is the least likely of all."""

import numpy as np
import pytest
from sklearn.mixture import GaussianMixture

from sklearn_dsm import DSMDensityEstimator
from sklearn_dsm._mixtures.parameters import without_rare_components
from sklearn_dsm._transforms.marginal import ROWS_IN_REACH, _reach, fit_marginal

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def table(kind, n, distance):
    """Rows, the first of which is far from all others in one column."""
    X = np.random.default_rng(0).normal(size=(n, 3))
    if kind == "correlated":
        X = X @ np.array([[1, 0.9, 0.5], [0, 0.4, 0.5], [0, 0, 0.3]])
    if kind == "clusters":
        X[: n // 2] += 5
    if kind == "heavy tails":
        X = np.sign(X) * np.abs(X) ** 2
    X[0, 0] = distance
    return X


def n_below_the_far_row(density, X):
    """Behind heavy tails a row that is rare in two columns may be less likely than it."""
    values = density.score_samples(X)
    return (values < values[0]).sum()


@pytest.mark.parametrize("kind", ["round", "correlated", "clusters", "heavy tails"])
@pytest.mark.parametrize("distance", [60, 2e3, -1e6])
def test_one_far_row_is_the_least_likely_before_a_network(kind, distance):
    X = table(kind, 2500, distance)
    density = DSMDensityEstimator(max_epochs=1, learning_rate=1e-9, random_state=0).fit(X)
    assert n_below_the_far_row(density, X) <= (5 if kind == "heavy tails" else 0)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["round", "correlated", "clusters", "heavy tails"])
def test_one_far_row_is_the_least_likely_with_a_network(kind):
    X = table(kind, 2500, 700.0)
    density = DSMDensityEstimator(max_epochs=40, random_state=0).fit(X)
    assert n_below_the_far_row(density, X) <= (5 if kind == "heavy tails" else 0)


def test_a_marginal_transform_gives_a_far_row_no_component_of_its_own():
    X = np.random.default_rng(0).normal(size=(2000, 1))
    X[0] = 500.0
    marginal = fit_marginal(X, np.ones(2000), "gaussianize")
    used = np.isfinite(marginal.log_weights[0])
    near = np.abs(marginal.location + marginal.scale * marginal.means[0, used] - 500) < 100
    assert (marginal.scale * marginal.scales[0, used][near] > 100).all()


def test_the_reach_of_a_point_is_the_distance_to_some_of_the_nearest_values():
    random = np.random.default_rng(0)
    values, points = np.sort(random.normal(size=(4, 30))), 2 * random.normal(size=(4, 7))
    distances = np.sort(np.abs(values[:, None, :] - points[:, :, None]), axis=-1)
    np.testing.assert_allclose(_reach(values, points), distances[..., ROWS_IN_REACH - 1])


def test_components_of_few_rows_are_left_out():
    X = np.random.default_rng(0).normal(size=(500, 2))
    X[0] = 100.0
    mixture = GaussianMixture(2, random_state=0).fit(X)
    kept = without_rare_components(mixture, 5 / 500)
    assert len(kept.weights_) == 1 and kept.weights_.sum() == pytest.approx(1)
    assert without_rare_components(mixture, 0.5 / 500) is mixture
    assert len(without_rare_components(mixture, 2.0).weights_) == 1
