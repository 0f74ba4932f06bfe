"""Effective samples, coverage of modes, and the Sinkhorn divergence."""

import sys

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.spatial.distance import cdist, jensenshannon
from sklearn.exceptions import ConvergenceWarning

from sklearn_dsm.datasets import ManyWell
from sklearn_dsm.metrics import (
    effective_sample_size,
    mode_coverage,
    sinkhorn_divergence,
    wasserstein_distance,
)


def rows(n=30, seed=0, shift=0.0):
    return np.random.RandomState(seed).normal(size=(n, 2)) + shift


def test_effective_sample_size():
    log_weights = rows(50)[:, 0]
    weights = np.exp(log_weights)
    expected = weights.sum() ** 2 / (50 * (weights**2).sum())
    assert effective_sample_size(log_weights) == pytest.approx(expected)
    assert effective_sample_size(log_weights + 1e4) == pytest.approx(expected)
    assert effective_sample_size(np.full(7, -3.3)) == pytest.approx(1)
    assert effective_sample_size([0.0] + 9 * [-np.inf]) == pytest.approx(0.1)


@pytest.mark.parametrize(
    "log_weights, message",
    [
        ([], "shape"),
        ([[0.0]], "shape"),
        ([0.0, np.nan], "NaN"),
        ([0.0, np.inf], "NaN or"),
        ([-np.inf] * 2, "All weights are zero"),
    ],
)
def test_bad_weights(log_weights, message):
    with pytest.raises(ValueError, match=message):
        effective_sample_size(log_weights)


def test_coverage_is_the_entropy_of_the_shares():
    centers = np.array([[0.0, 0], [10, 0], [0, 10]])
    X = np.concatenate([rows(10), rows(20) + np.array([10, 0]), rows(30) + np.array([0, 10])])
    shares = np.array([1, 2, 3]) / 6
    entropy = -(shares * np.log(shares)).sum() / np.log(3)
    assert mode_coverage(X, centers) == pytest.approx(entropy)
    X_weight = np.repeat([6.0, 3.0, 2.0], [10, 20, 30])
    assert mode_coverage(X, centers, X_weight=X_weight) == pytest.approx(1)
    assert mode_coverage(X[:10], centers) == 0


def test_coverage_is_the_divergence_from_the_weights():
    centers = np.array([[0.0, 0], [10, 0]])
    X = np.concatenate([rows(10), rows(30) + np.array([10, 0])])
    for truth in ([0.25, 0.75], [0.5, 0.5], [0.9, 0.1], [1.0, 0.0]):
        distance = jensenshannon([0.25, 0.75], truth, base=2)
        assert mode_coverage(X, centers, truth) == pytest.approx(1 - distance**2)
    assert mode_coverage(X[:10], centers, [0.0, 1.0]) == 0


def test_coverage_of_many_wells():
    target = ManyWell(6)
    X, centers = target.sample(4000, random_state=0), target.mode_centers()
    assert mode_coverage(X, centers, target.mode_weights()) > 0.999
    lost = X[X[:, 0] > 0]
    assert mode_coverage(lost, centers, target.mode_weights()) < 0.96


def test_coverage_does_not_depend_on_chunks(monkeypatch):
    X, centers = rows(100), rows(5, 1)
    expected = mode_coverage(X, centers)
    monkeypatch.setattr("sklearn_dsm.metrics._samples.CHUNK_NUMBERS", 12)
    assert mode_coverage(X, centers) == pytest.approx(expected)


@pytest.mark.parametrize(
    "centers, weights, message",
    [
        ([[0.0, 0]], None, "two modes at least"),
        ([[0.0], [1]], None, "columns"),
        ([[0.0, 0], [1, 1]], [0.5, 0.6], "2 probabilities"),
        ([[0.0, 0], [1, 1]], [1.0], "2 probabilities"),
        ([[0.0, 0], [1, 1]], [1.5, -0.5], "2 probabilities"),
    ],
)
def test_bad_modes(centers, weights, message):
    with pytest.raises(ValueError, match=message):
        mode_coverage(rows(), centers, weights)


def test_sinkhorn_is_the_optimal_value():
    """Against a general optimizer of the dual, on few rows with weights."""
    X, Y, regularization = rows(4), rows(3, 1, 0.5), 0.7
    p, q = np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.5, 0.3, 0.2])

    def transport(x, y, a, b):
        cost = cdist(x, y, "sqeuclidean")

        def minus_dual(z):
            f, g = z[: len(a)], z[len(a) :]
            plan = np.exp((f[:, None] + g - cost) / regularization) * np.outer(a, b)
            return -(f @ a + g @ b - regularization * (plan.sum() - 1))

        return -minimize(minus_dual, np.zeros(len(a) + len(b)), tol=1e-12).fun

    expected = transport(X, Y, p, q) - 0.5 * (transport(X, X, p, p) + transport(Y, Y, q, q))
    options = {"regularization": regularization, "tol": 1e-10}
    value = sinkhorn_divergence(X, Y, X_weight=p, Y_weight=q, **options)
    assert value == pytest.approx(expected, rel=1e-5)


def test_sinkhorn_of_equal_and_moved_samples():
    X = rows(40)
    order = np.random.RandomState(0).permutation(40)
    assert sinkhorn_divergence(X, X[order], regularization=0.1) == pytest.approx(0, abs=1e-3)
    moved = sinkhorn_divergence(X, X + np.array([3, 4]), regularization=0.1, max_iter=5000)
    assert moved == pytest.approx(25, rel=1e-4)
    Y = rows(30, 1)
    one, other = (sinkhorn_divergence(*pair, regularization=0.5) for pair in ((X, Y), (Y, X)))
    assert one == pytest.approx(other, abs=1e-3) and one > 0


def test_sinkhorn_approaches_the_wasserstein_distance():
    X, Y = rows(60), rows(60, 1, 1.0)
    exact = wasserstein_distance(X, Y) ** 2
    errors = [
        abs(sinkhorn_divergence(X, Y, regularization=e, max_iter=2000) - exact)
        for e in (1.0, 0.1, 0.01)
    ]
    assert errors[0] > errors[1] > errors[2] and errors[2] < 0.01 * exact


def test_weights_are_repetitions_in_sinkhorn():
    X, Y, counts = rows(8), rows(9, 1), np.arange(1, 9)
    weighted = sinkhorn_divergence(X, Y, regularization=0.5, X_weight=counts, tol=1e-9)
    repeated = sinkhorn_divergence(np.repeat(X, counts, 0), Y, regularization=0.5, tol=1e-9)
    assert weighted == pytest.approx(repeated, abs=1e-7)


def test_sinkhorn_warns_where_it_stops_early():
    with pytest.warns(ConvergenceWarning, match="raise max_iter or regularization"):
        sinkhorn_divergence(rows(), rows(seed=1), max_iter=1)


def test_sinkhorn_options_and_pot(monkeypatch):
    with pytest.raises(ValueError, match="'regularization' parameter"):
        sinkhorn_divergence(rows(), rows(), regularization=0.0)
    monkeypatch.setitem(sys.modules, "ot", None)
    with pytest.raises(ImportError, match="sinkhorn_divergence needs POT"):
        sinkhorn_divergence(rows(), rows())
