"""The one loop of expectation and maximization."""

import numpy as np
import pytest

from sklearn_dsm._transforms.em import expectation_maximization

VALUES = np.concatenate([np.random.RandomState(0).standard_normal(300) + m for m in (-2, 2, 2)])
DENSITIES = np.exp(-0.5 * (VALUES - np.array([[-2.0], [2.0]])) ** 2)


def run(n_iterations, tolerance):
    """Shares of two known components; also the log-likelihood of every step."""
    steps = []

    def expect(shares):
        joint = shares[:, None] * DENSITIES
        steps.append(float(np.log(joint.sum(0)).mean()))
        return joint / joint.sum(0), steps[-1]

    start = np.array([0.9, 0.1])
    found = expectation_maximization(
        start, expect, lambda posterior: posterior.mean(1), n_iterations, tolerance
    )
    return *found, steps


def test_it_climbs_to_the_shares_of_the_components():
    shares, log_likelihood, steps = run(100, 1e-9)
    assert np.all(np.diff(steps) >= 0)
    assert log_likelihood == steps[-1]
    np.testing.assert_allclose(shares, [1 / 3, 2 / 3], atol=0.02)


@pytest.mark.parametrize("n", [1, 2, 7])
def test_it_takes_as_many_steps_as_it_may(n):
    assert len(run(n, -np.inf)[2]) == n


def test_it_ends_where_hardly_anything_is_gained():
    steps = run(100, 1e-3)[2]
    gains = np.diff(steps)
    assert len(steps) < 100
    assert gains[-1] < 1e-3
    assert np.all(gains[:-1] >= 1e-3)
