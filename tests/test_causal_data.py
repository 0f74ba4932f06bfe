"""Data with known causal graphs: random additive noise models, and files."""

from __future__ import annotations

import numpy as np
import pytest

from sklearn_dsm.datasets import load_syntren, make_anm
from sklearn_dsm.metrics import order_divergence


@pytest.mark.parametrize("graph", ["ER", "SF"])
@pytest.mark.parametrize("mechanism", ["gp", "linear", "quadratic"])
def test_additive_noise_models(graph, mechanism):
    options = {"graph": graph, "mechanism": mechanism, "edges_per_node": 2}
    anm = make_anm(50, 8, random_state=0, **options)
    again = make_anm(50, 8, random_state=0, **options)
    np.testing.assert_array_equal(anm.data, again.data)
    assert order_divergence(anm.order, anm.adjacency) == 0
    assert anm.adjacency.sum() == (16 if graph == "ER" else 13)
    assert ((anm.noise_variances >= 0.4) & (anm.noise_variances <= 0.8)).all()
    columns = [make_anm(5, 8, random_state=seed, **options).order for seed in range(5)]
    assert len({tuple(order) for order in columns}) == 5


@pytest.mark.parametrize(
    "noise", ["normal", "exponential", "laplace", "gumbel", "gamma", "beta", "uniform"]
)
def test_noise_has_the_variance_that_was_asked_for(noise):
    anm = make_anm(20000, 2, edges_per_node=0, noise=noise, noise_variance=2.0, random_state=0)
    np.testing.assert_allclose(anm.data.var(0), 2.0, rtol=0.1)
    np.testing.assert_allclose(anm.data.mean(0), 0.0, atol=0.05)


def test_linear_models_have_a_linear_mean():
    anm = make_anm(5000, 5, mechanism="linear", edges_per_node=2, random_state=0)
    for j in range(5):
        parents = anm.data[:, anm.adjacency[:, j] > 0]
        coef = np.linalg.lstsq(parents, anm.data[:, j], rcond=None)[0]
        residual = anm.data[:, j] - parents @ coef
        np.testing.assert_allclose(residual.var(), anm.noise_variances[j], rtol=0.1)


def test_errors_of_data(tmp_path):
    with pytest.raises(ValueError, match="noise_variance"):
        make_anm(10, 3, noise_variance=(2.0, 1.0))
    with pytest.raises(ValueError, match="mechanism"):
        make_anm(10, 3, mechanism="cubic")
    np.savez(tmp_path / "wrong.npz", X1=np.zeros((3, 2)))
    with pytest.raises(ValueError, match=r"lacks the graphs of datasets \[1\]"):
        load_syntren(tmp_path / "wrong.npz")
