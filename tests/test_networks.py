"""Laws of the score network."""

from __future__ import annotations

import pytest
import torch

from sklearn_dsm._core.scores import tangents
from sklearn_dsm._core.scores.network import BAND_RANGE, N_BANDS, ScoreNetwork, band_weights

LAYERS = [(11,), (11, 7), (11, 7, 5)]
every_depth = pytest.mark.parametrize("layers", LAYERS, ids=["one", "two", "three"])
LOG_SNRS = [-9.0, -2.0, 0.0, 3.0, 8.0, 13.0]
N_FEATURES = 4


def tensor(value):
    return torch.tensor(value, dtype=torch.float64)


@pytest.fixture
def rows(generator):
    return 2 * torch.randn(6, N_FEATURES, generator=generator(0), dtype=torch.float64)


@pytest.fixture
def moved(generator, randomized):
    """(layers, options) -> a network with every parameter moved."""

    def build(layers, **options):
        return randomized(ScoreNetwork(N_FEATURES, layers, generator(1), **options), seed=2)

    return build


@every_depth
@pytest.mark.parametrize("log_snr", LOG_SNRS)
def test_a_fresh_network_returns_zero(rows, generator, layers, log_snr):
    network = ScoreNetwork(N_FEATURES, layers, generator(1)).double()
    output, trace = network.forward_and_divergence(rows, tensor(log_snr))
    assert torch.equal(network(rows, tensor(log_snr)), torch.zeros_like(rows))
    assert torch.equal(output, torch.zeros_like(rows))
    assert torch.equal(trace, torch.zeros(len(rows), dtype=torch.float64))


def test_the_trace_does_not_depend_on_how_rows_are_split(moved, generator, monkeypatch):
    network = moved((11, 7, 5))
    y = torch.randn(150, N_FEATURES, generator=generator(3), dtype=torch.float64)
    whole = network.forward_and_divergence(y, tensor(1.0))[1]
    monkeypatch.setitem(tangents.TANGENT_NUMBERS, "cpu", 1)
    parts = network.forward_and_divergence(y, tensor(1.0))[1]
    torch.testing.assert_close(parts, whole, rtol=1e-12, atol=1e-12)


@every_depth
def test_the_gradient_of_the_trace_is_the_same_where_weights_are_constant(rows, moved, layers):
    def gradient(network):
        y = rows.clone().requires_grad_()
        trace = network.forward_and_divergence(y, tensor(1.0))[1]
        weight = torch.linspace(-1, 2, len(rows), dtype=torch.float64)
        return trace.detach(), torch.autograd.grad((weight * trace).sum(), y)[0]

    network = moved(layers)
    for free, constant in zip(
        gradient(network), gradient(network.requires_grad_(False)), strict=True
    ):
        torch.testing.assert_close(constant, free, rtol=1e-12, atol=1e-12)


@every_depth
def test_rows_of_one_level_and_rows_with_a_level_each_agree(rows, moved, layers):
    network, each = moved(layers), torch.full((len(rows), 1), 2.0, dtype=torch.float64)
    for one, many in zip(
        network.forward_and_divergence(rows, tensor(2.0)),
        network.forward_and_divergence(rows, each),
        strict=True,
    ):
        torch.testing.assert_close(one, many, rtol=1e-12, atol=1e-12)


@every_depth
@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("log_snr", LOG_SNRS)
def test_the_trace_is_that_of_the_jacobian(rows, moved, layers, whole, log_snr):
    network, y = moved(layers, whole=whole), rows.requires_grad_()
    output, trace = network.forward_and_divergence(y, tensor(log_snr))
    forward = network(y, tensor(log_snr))
    expected = sum(
        torch.autograd.grad(forward[:, j].sum(), y, retain_graph=True)[0][:, j]
        for j in range(N_FEATURES)
    )
    torch.testing.assert_close(output, forward, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(trace, expected, rtol=1e-12, atol=1e-12)


@every_depth
@pytest.mark.parametrize("n_features", [1, 12])
def test_the_trace_holds_for_any_number_of_columns(generator, randomized, layers, n_features):
    network = randomized(ScoreNetwork(n_features, layers, generator(1)), seed=2)
    y = torch.randn(3, n_features, generator=generator(0), dtype=torch.float64)
    _, trace = network.forward_and_divergence(y, tensor(1.0))
    jacobian = torch.func.vmap(torch.func.jacrev(lambda row: network(row, tensor(1.0))))(y)
    expected = jacobian.diagonal(dim1=1, dim2=2).sum(1)
    torch.testing.assert_close(trace, expected, rtol=1e-12, atol=1e-12)


@every_depth
def test_a_level_a_row_is_each_row_at_its_level(rows, moved, layers):
    network, log_snrs = moved(layers), tensor(LOG_SNRS)
    together = network(rows, log_snrs[:, None])
    alone = torch.cat([network(row[None], each) for row, each in zip(rows, log_snrs, strict=True)])
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-12)


@every_depth
def test_the_generator_gives_the_weights_and_the_global_seed_is_left_alone(generator, layers):
    state = torch.get_rng_state()
    first, again, other = (
        ScoreNetwork(N_FEATURES, layers, generator(seed)).state_dict() for seed in (3, 3, 4)
    )
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["weights.0"], other["weights.0"])


@every_depth
def test_the_gradient_reaches_every_entry_of_every_parameter(rows, moved, layers):
    network = moved(layers)
    network(rows, tensor(LOG_SNRS)[:, None]).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name
        assert (parameter.grad != 0).all(), name


@every_depth
def test_the_first_gradient_of_a_fresh_network_reaches_its_output(rows, generator, layers):
    network = ScoreNetwork(N_FEATURES, layers, generator(1)).double()
    (network(rows, tensor(0.0)) * rows).sum().backward()
    assert (network.output.grad != 0).all()


@every_depth
@pytest.mark.parametrize("log_snr", LOG_SNRS)
def test_the_output_is_bounded_however_far_the_row(rows, moved, layers, log_snr):
    """The last hidden layer is a tanh: no entry exceeds the output gain times a row's sum."""
    network = moved(layers)
    gain = network._modulate(tensor(log_snr)).output_gain
    bound = gain.abs() * network.output.abs().sum(1)
    for distance in (1.0, 1e3, 1e6, 1e150):
        output = network(distance * rows, tensor(log_snr))
        assert (output.abs() <= bound * (1 + 1e-12)).all()


@every_depth
def test_the_correction_fades_at_both_ends(rows, moved, layers):
    """As a towards the noise and as sigma towards the data, up to a factor of the level's gain."""
    network = moved(layers)
    for end, step in ((-20.0, -8.0), (20.0, 8.0)):
        near, far = (network(rows, tensor(x)).abs().max() for x in (end, end + step))
        assert far / near < 2 * torch.exp(tensor(-abs(step) / 2))


@every_depth
def test_a_network_that_is_the_whole_score_does_not_fade(rows, moved, layers):
    """Its level features, hence its output, are constant far beyond the range of levels."""
    network = moved(layers, whole=True)
    for end in (-60.0, 60.0):
        near, far = (network(rows, tensor(x)) for x in (end, 2 * end))
        assert near.abs().max() > 1e-3
        torch.testing.assert_close(near, far, rtol=1e-9, atol=1e-9)


@every_depth
def test_saved_weights_give_the_same_network(rows, moved, generator, layers):
    network = moved(layers)
    copy = ScoreNetwork(N_FEATURES, layers, generator(9)).double()
    copy.load_state_dict({k: v.clone() for k, v in network.state_dict().items()})
    for value, expected in zip(
        copy.forward_and_divergence(rows, tensor(2.0)),
        network.forward_and_divergence(rows, tensor(2.0)),
        strict=True,
    ):
        assert torch.equal(value, expected)


@every_depth
def test_dropout_acts_in_training_only_and_draws_from_the_generator(rows, generator, layers):
    def build(dropout):
        network = ScoreNetwork(N_FEATURES, layers, generator(1), dropout=dropout).double()
        torch.nn.init.ones_(network.output)
        return network

    plain, log_snr, state = build(0.0)(rows, tensor(0.0)), tensor(0.0), torch.get_rng_state()
    first, again, other = build(0.4), build(0.4), build(0.4)
    torch.testing.assert_close(first.eval()(rows, log_snr), plain, rtol=0, atol=0)
    dropped = first.train()(rows, log_snr)
    assert not torch.equal(dropped, plain)
    assert torch.equal(dropped, again(rows, log_snr))
    assert not torch.equal(again(rows, log_snr), other(rows, log_snr))
    assert torch.equal(state, torch.get_rng_state())


# The compiler imports what is deprecated.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_traced_network_leaves_out_the_same_units(rows, generator):
    eager, traced = (
        ScoreNetwork(N_FEATURES, (16, 16, 16), generator(1), dropout=0.4).double() for _ in range(2)
    )
    traced.compile(backend="eager")
    for network in (eager, traced):
        network.generator = generator(2)
        torch.nn.init.ones_(network.output)
    for log_snr in LOG_SNRS:
        torch.testing.assert_close(traced(rows, tensor(log_snr)), eager(rows, tensor(log_snr)))


@every_depth
def test_band_gains_scale_the_output_and_the_trace(rows, moved, layers):
    network = moved(layers)
    before = [network.forward_and_divergence(rows, tensor(x)) for x in LOG_SNRS]
    network.band_gains.fill_(0.25)
    for log_snr, (output, trace) in zip(LOG_SNRS, before, strict=True):
        value, value_trace = network.forward_and_divergence(rows, tensor(log_snr))
        torch.testing.assert_close(value, output / 4, rtol=1e-12, atol=0)
        torch.testing.assert_close(value_trace, trace / 4, rtol=1e-12, atol=0)
        torch.testing.assert_close(network(rows, tensor(log_snr)), output / 4, rtol=1e-12, atol=0)


def test_band_weights_sum_to_one_and_peak_at_their_centres():
    low, high = BAND_RANGE
    centres = torch.linspace(low, high, N_BANDS, dtype=torch.float64)
    weights = band_weights(torch.cat([centres, tensor([-1e9, 1e9, -torch.inf])]))
    torch.testing.assert_close(weights.sum(1), torch.ones(N_BANDS + 3).double())
    assert weights.argmax(1).tolist() == [*range(N_BANDS), 0, N_BANDS - 1, 0]
