"""Laws of the autoregressive transform."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from sklearn_dsm import DSMDensityEstimator
from sklearn_dsm._budget import Budget
from sklearn_dsm._core.random import torch_generator
from sklearn_dsm._search import flow_search
from sklearn_dsm._search.correction import Correction
from sklearn_dsm._search.flow_search import FlowSearch
from sklearn_dsm._search.split import Table
from sklearn_dsm._search.tuning import TUNING
from sklearn_dsm._transforms.autoregressive import (
    AutoregressiveNetwork,
    AutoregressiveTransform,
    fit_autoregressive,
)
from sklearn_dsm._transforms.fitting import fit_latent_map, in_column_order
from sklearn_dsm._transforms.whitening import Whitening
from sklearn_dsm.datasets import Funnel

DIMENSIONS = pytest.mark.parametrize("d", [2, 3, 10])
KINDS = pytest.mark.parametrize("shift_last", [False, True])


def moved(d, size=0.2, shift_last=False):
    """A map whose weights are all away from where they start."""
    generator = torch_generator(0)
    network = AutoregressiveNetwork(d, 16, 2, shift_last, generator)
    with torch.no_grad():
        for weight in network.parameters():
            weight += size * torch.randn(weight.shape, generator=generator)
    return AutoregressiveTransform(network)


def normal_rows(n, d, seed=0):
    return np.random.RandomState(seed).standard_normal((n, d))


def jacobians(network, Z):
    """d y_i / d z_j of each row under a network or a layer of it."""
    one = torch.func.jacrev(lambda z: network(z[None])[0][0])
    return torch.func.vmap(one)(torch.from_numpy(Z)).detach().numpy()


@KINDS
@DIMENSIONS
def test_the_log_slope_is_that_of_the_jacobian(d, shift_last):
    flow, Z = moved(d, shift_last=shift_last), normal_rows(30, d)
    log_dets = np.linalg.slogdet(jacobians(flow.network, Z))[1]
    np.testing.assert_allclose(flow.forward(Z)[1], log_dets, rtol=1e-10, atol=1e-12)


@KINDS
@DIMENSIONS
def test_a_layer_has_a_triangular_jacobian(d, shift_last):
    """Column j depends on those before it, and there on every one of them."""
    flow, Z = moved(d, shift_last=shift_last), normal_rows(30, d)
    first, second = flow.network.layers
    for layer, corner in ((first, np.triu), (second, np.tril)):
        above = np.abs(jacobians(layer, Z)).max(0)
        diagonal = np.diag(np.diag(above))
        assert np.all(corner(above) - diagonal == 0)
        assert np.all((above - corner(above) > 0) == (corner(np.ones((d, d))) == 0))


@KINDS
@DIMENSIONS
def test_the_inverse_undoes_it_far_out_too(d, shift_last):
    flow = moved(d, shift_last=shift_last)
    Z = np.concatenate([normal_rows(30, d), 1e3 * normal_rows(10, d)])
    # A shift that comes last drowns what a large scale has left of a row.
    rtol = 1e-7 if shift_last else 1e-9
    np.testing.assert_allclose(flow.inverse(flow.forward(Z)[0]), Z, rtol=rtol)


@KINDS
@DIMENSIONS
def test_a_fresh_map_is_the_identity(d, shift_last):
    Z = normal_rows(20, d)
    Y, log_slope = AutoregressiveTransform(
        AutoregressiveNetwork(d, 16, 2, shift_last, torch_generator(0))
    ).forward(Z)
    assert np.array_equal(Y, Z)
    assert np.all(log_slope == 0)


def test_in_column_order_each_column_is_a_residual_of_those_before():
    """The white rows are those of regressions column by column, the Jacobian is as before."""
    random = np.random.RandomState(0)
    X = normal_rows(400, 4) @ random.standard_normal((4, 4)) + 5
    latent = fit_latent_map(X, np.ones(400), np.zeros(400, dtype=bool), "standardize")
    turned = in_column_order(latent)
    Z, log_slope = turned.forward(X)
    np.testing.assert_allclose(turned.inverse(Z), X, rtol=1e-9)
    np.testing.assert_allclose(log_slope, latent.forward(X)[1])
    np.testing.assert_allclose((Z**2).sum(1), (latent.forward(X)[0] ** 2).sum(1))
    coloring = turned.part(Whitening).coloring
    assert np.all(np.triu(coloring) == coloring)
    assert np.all(np.diag(coloring) > 0)


def noised_scale(n, seed):
    """The first column sets the scale of the second."""
    z = normal_rows(n, 2, seed)
    return np.stack([z[:, 0], z[:, 1] * np.exp(z[:, 0])], 1)


@KINDS
def test_it_learns_a_scale_that_depends_on_another_column(shift_last):
    """Given the first column, the second is normal, and its log-scale is linear in it."""
    train, held_out, fresh = (noised_scale(n, seed) for n, seed in ((4000, 0), (500, 1), (2000, 2)))
    flow, value, later_gain = fit_autoregressive(
        (train, np.ones(4000)),
        (held_out, np.ones(500)),
        2,
        shift_last,
        -np.inf,
        (0.2, 0.5),
        4,
        np.inf,
        40,
        seed=0,
    )
    Y, log_slope = flow.forward(held_out)
    density = log_slope - 0.5 * (Y**2 + np.log(2 * np.pi)).sum(1)
    assert value == pytest.approx(density.mean(), abs=1e-4) and later_gain >= 0
    Y, log_slope = flow.forward(fresh)
    learned = log_slope - 0.5 * (Y**2).sum(1)
    true = -0.5 * (fresh[:, 0] ** 2 + (fresh[:, 1] * np.exp(-fresh[:, 0])) ** 2) - fresh[:, 0]
    gap = true - learned
    assert -4 * gap.std() / np.sqrt(2000) < gap.mean() < 0.02


def test_independent_normal_columns_are_left_nearly_as_they_are():
    train, held_out, fresh = (normal_rows(n, 2, seed) for n, seed in ((4000, 0), (500, 1), (99, 2)))
    rows = (train, np.ones(4000)), (held_out, np.ones(500))
    found = fit_autoregressive(*rows, 2, False, -np.inf, (0.2, 0.5), 4, np.inf, 20, seed=0)
    if found is not None:
        np.testing.assert_allclose(found[0].forward(fresh)[0], fresh, atol=0.3)


def interrupt(monkeypatch):
    """Let the fifth value that a network is asked for be interrupted."""
    plain, calls = AutoregressiveNetwork.log_density, []

    def interrupted(network, z):
        calls.append(z)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return plain(network, z)

    monkeypatch.setattr(AutoregressiveNetwork, "log_density", interrupted)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_an_interrupt_ends_a_fit_with_what_it_has(monkeypatch):
    """Nothing before a network was trained, and the network once a flow grows."""
    X = noised_scale(600, 0)
    interrupt(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        DSMDensityEstimator(max_epochs=3, random_state=0).fit(X)
    monkeypatch.undo()

    def grow(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(FlowSearch, "grow", grow)
    monkeypatch.setattr(Correction, "best_value", -np.inf)
    density = DSMDensityEstimator(max_epochs=3, random_state=0)
    with pytest.raises(KeyboardInterrupt, match="interrupted after"):
        density.fit(X)
    assert density.stop_reason_ == "interrupted"
    assert np.isfinite(density.score(X))


def test_a_training_that_diverges_leaves_the_rows_as_they_are():
    train, held_out = noised_scale(400, 0), noised_scale(50, 1)
    train[7] = 1e30
    rows = (train, np.ones(400)), (held_out, np.ones(50))
    assert fit_autoregressive(*rows, 2, False, -np.inf, (0.2, 0.5), 4, np.inf, 5, seed=0) is None


@pytest.fixture
def flows():
    """A search for flows."""
    table = Table(noised_scale(600, 0), np.ones(600), np.arange(600) < 60)
    return FlowSearch(table.split("standardize"), np.random.RandomState(0), 3)


def test_no_flow_is_trained_where_no_time_is_left(flows):
    flows.start(Budget(1e-9), -np.inf)
    assert flows.value == -np.inf and flows.found == []


def test_a_flow_that_leads_is_the_only_one_of_the_start(flows):
    flows.start(Budget(None), -1e9)
    assert [flow.n_layers for flow in flows.found] == [1]
    base = flows.base()
    assert base.value == base.split.score(base.reference.score_samples)
    assert base.value == pytest.approx(flows.value, abs=1e-4)


def test_a_flow_expects_gains_that_shrink_with_every_doubling_of_its_time(flows, monkeypatch):
    """So that a network is pruned against what the flow may become."""
    assert flows.expected_value(Budget(60)) == -np.inf
    monkeypatch.setattr(
        flow_search,
        "TUNING",
        replace(TUNING, flow_epochs_to_tell=2, flow_share=0.1, grown_flow_share=0.4),
    )
    flows.start(Budget(None), -1e9)
    gain, ratio = flows.found[0].later_gain, TUNING.max_gain_ratio
    assert gain > 0.01
    expected = flows.value + gain * ratio + gain * ratio**2
    assert flows.expected_value(Budget(60)) == pytest.approx(expected)
    over = Budget(1.0)
    over.taken += 2
    assert flows.expected_value(over) == flows.value


def test_a_flow_of_few_epochs_expects_nothing(flows):
    flows.start(Budget(None), -1e9)
    assert flows.max_epochs < TUNING.flow_epochs_to_tell
    assert flows.expected_value(Budget(60)) == flows.value


def test_a_flow_that_does_not_lead_is_tried_with_more_layers(flows):
    flows.start(Budget(None), 1e9)
    assert {flow.n_layers for flow in flows.found} <= {1, 2}
    assert flows.value < 1e9


def test_a_flow_that_grows_is_never_worse(flows):
    flows.start(Budget(None), -1e9)
    before = flows.value
    flows.grow(Budget(None))
    assert flows.value >= before and len(flows.found) > 1
    assert {flow.n_layers for flow in flows.found} == {1}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_funnel_is_fitted_through_it():
    """Its rows come back as a funnel's, and its density is nearer to the truth than without."""
    law = Funnel(6)
    X, fresh = (law.sample(n, np.random.default_rng(seed)) for n, seed in ((3000, 0), (500, 1)))
    fits = [
        DSMDensityEstimator(marginals=option, max_epochs=12, random_state=0).fit(X)
        for option in ("auto", "standardize")
    ]
    assert any(name.startswith("2.autoregressive.") for name in fits[0].latent_map_)
    divergences = [(law.log_density(fresh) - fit.score_samples(fresh)).mean() for fit in fits]
    assert divergences[0] < 0.5 * divergences[1]
    drawn = fits[0].sample(2000, random_state=0)
    scale = np.log(np.abs(drawn[:, 1:])).mean(1)
    assert np.corrcoef(drawn[:, 0], scale)[0, 1] > 0.8
    rows, step = fresh[:5], 1e-5
    score = fits[0].stein_score(rows)
    ahead, behind = (fits[0].score_samples(rows + sign * step * np.eye(6)[1]) for sign in (1, -1))
    np.testing.assert_allclose(score[:, 1], (ahead - behind) / (2 * step), rtol=1e-3, atol=1e-3)
