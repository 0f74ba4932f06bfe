"""Outliers: the distance's identity, honest thresholds, and the choice of a criterion."""

from copy import copy
from functools import partial
from unittest import mock

import numpy as np
import pytest
from sklearn.datasets import make_moons
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import KernelDensity
from sklearn.utils.estimator_checks import parametrize_with_checks

from sklearn_dsm import DSMDensityEstimator, DSMOutlierDetector
from sklearn_dsm.outliers._denoising import Denoiser
from sklearn_dsm.outliers._tails import TAIL_SHARE, Tail


def distance(**params):
    return DSMOutlierDetector(**({"criterion": "distance", "random_state": 0} | params))


def skewed(n, seed):
    return np.exp(np.random.default_rng(seed).normal(size=(n, 3)) @ np.tri(3))


@pytest.fixture(scope="module")
def moons():
    """With mixtures for densities, which need little time and the same on every machine."""
    X = make_moons(600, noise=0.05, random_state=0)[0]
    quick = partial(DSMDensityEstimator, reference="gmm", max_epochs=2)
    with mock.patch("sklearn_dsm.outliers._detector.DSMDensityEstimator", quick):
        return X, DSMOutlierDetector(random_state=0).fit(X)


@parametrize_with_checks([distance()])
def test_scikit_learn_checks(estimator, check):
    check(estimator)


def test_the_distance_is_the_score_of_noised_samples():
    X = skewed(80, 0)
    detector = distance().fit(X)
    Z, point = (X - X.mean(0)) / X.std(0), np.array([0.3, -0.2, 1.0])
    kernel = KernelDensity(bandwidth=detector.sigma_).fit(Z)
    steps = 1e-5 * np.eye(3)
    gradient = (kernel.score_samples(point + steps) - kernel.score_samples(point - steps)) / 2e-5
    expected = detector.sigma_**2 * np.linalg.norm(gradient)
    found = -detector.score_samples([point * X.std(0) + X.mean(0)])
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_training_sample_is_scored_without_itself():
    X = skewed(60, 1)
    detector = distance().fit(X)
    Z = (X - X.mean(0)) / X.std(0)
    for i in (0, 30):
        others = Denoiser(np.delete(Z, i, 0), 0, detector.sigma_)
        expected = np.linalg.norm(others.steps(Z[[i]]))
        assert detector.training_scores_[i] == pytest.approx(-expected)
    np.testing.assert_allclose(detector.score_samples(X), detector.training_scores_)


@pytest.mark.parametrize("contamination", [0.05, 0.25])
def test_contamination_is_the_share_of_training_samples(contamination):
    X = skewed(200, 2)
    detector = distance(contamination=contamination).fit(X)
    assert (detector.predict(X) == -1).mean() == pytest.approx(contamination)


def test_a_threshold_holds_for_new_samples():
    detector = distance(contamination=0.1).fit(skewed(2000, 3))
    flagged = (detector.predict(skewed(4000, 4)) == -1).mean()
    assert flagged == pytest.approx(0.1, abs=0.025)


def test_a_threshold_of_densities_flags_no_more_new_samples(moons):
    """Fewer, since both densities together know more than the one that scores training samples."""
    detector = copy(moons[1])
    new = make_moons(2000, noise=0.05, random_state=1)[0]
    for detector.criterion_ in ("density", "blend", "distance"):
        offset = np.quantile(detector._scores(detector._row_oddness), 0.1)
        assert 0.03 < (detector.score_samples(new) < offset).mean() < 0.13


def test_scores_do_not_depend_on_units():
    X, new = skewed(300, 5), skewed(50, 6)
    factor, shift = np.array([1e-3, 1.0, 1e4]), np.array([5.0, -2.0, 1e5])
    plain = distance().fit(X).score_samples(new)
    scaled = distance().fit(X * factor + shift).score_samples(new * factor + shift)
    np.testing.assert_allclose(scaled, plain, rtol=1e-6)


def test_explanations_add_up_and_name_the_feature():
    X = skewed(300, 7)
    detector = distance().fit(X)
    odd = np.median(X, axis=0) + np.diag(20 * X.std(0))
    shares = detector.explain(odd)
    np.testing.assert_allclose(shares.sum(1), detector.score_samples(odd) ** 2)
    assert (shares.argmax(1) == np.arange(3)).all()


def test_a_constant_feature_that_changes_is_odd():
    X = np.column_stack([skewed(100, 8), np.full(100, 7.0)])
    detector = distance().fit(X)
    changed = X[0] + np.array([0, 0, 0, 30.0])
    assert detector.predict([changed]) == [-1]


def test_far_samples_have_finite_scores():
    detector = distance().fit(skewed(100, 9))
    scores = detector.score_samples([[1e6] * 3, [1e7] * 3])
    assert np.isfinite(scores).all() and scores[1] < scores[0]


def test_tails_are_shares_of_training_samples_and_go_on():
    values = np.random.default_rng(0).exponential(size=999)
    tail, ordered = Tail.of(values), np.sort(values)
    shares = np.exp(tail.log_probability(ordered[:899]))
    np.testing.assert_allclose(shares, 1 - np.arange(1, 900) / 999, atol=2e-3)
    beyond = tail.log_probability(np.array([tail.start, tail.start + tail.excess, 1e300]))
    np.testing.assert_allclose(np.exp(beyond[:2]), [TAIL_SHARE, TAIL_SHARE / 2])
    assert np.isfinite(beyond[2]) and (np.diff(beyond) < 0).all()


def test_few_samples_and_repeated_values_have_the_distance():
    few = DSMOutlierDetector(random_state=0).fit(skewed(200, 0))
    repeated = DSMOutlierDetector(random_state=0).fit(np.round(skewed(400, 0)))
    assert few.criterion_ == repeated.criterion_ == "distance"
    assert not few.criterion_scores_ and not repeated.criterion_scores_


def test_the_best_criterion_is_chosen(moons):
    X, detector = moons
    scores = detector.criterion_scores_
    assert set(scores) == {"density", "distance", "blend"}
    assert detector.criterion_ == max(scores, key=scores.get)
    uniform = np.random.default_rng(0).uniform(X.min(0), X.max(0), size=(400, 2))
    new = make_moons(400, noise=0.05, random_state=1)[0]
    both = detector.score_samples(np.concatenate([new, uniform]))
    assert roc_auc_score(np.repeat([1, 0], 400), both) > 0.85


def test_duplicates_have_scores():
    X = np.repeat(skewed(30, 0), 4, axis=0)
    detector = distance().fit(X)
    assert np.isfinite(detector.training_scores_).all() and detector.sigma_ > 0
    np.testing.assert_array_equal(*detector.score_samples(X).reshape(30, 4).T[:2])
    same = distance().fit(np.ones((5, 2)))
    assert list(same.predict([[1, 1], [3, 1]])) == [1, -1]


def test_missing_values_are_refused_by_name():
    X = skewed(50, 0)
    X[3, 1] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        distance().fit(X)
