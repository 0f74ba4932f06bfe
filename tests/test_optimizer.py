"""Steps of Muon: what they are invariant to, and torch's own."""

import math

import pytest
import torch
from torch import nn

from sklearn_dsm._core.distributions.gaussian import GaussianScore
from sklearn_dsm._core.losses.denoising import DSM
from sklearn_dsm._core.losses.loss import ROWS_PER_LEVEL, TrainingRows
from sklearn_dsm._core.noise.level_sampling import LogisticLevels
from sklearn_dsm._core.random import torch_generator
from sklearn_dsm._core.scores.corrected import CorrectedScore
from sklearn_dsm._core.scores.network import ScoreNetwork
from sklearn_dsm._training import TrainingSettings, train
from sklearn_dsm._training.optimizer import (
    MOMENTUM,
    N_ITERATIONS,
    POLYNOMIAL,
    RATE,
    STEP_SIZE,
    WEIGHT_DECAY,
    MuonAdamW,
    orthogonalized,
)
from sklearn_dsm._training.run import MIN_MUON_ROWS

SHAPES = [(48, 48), (64, 24), (24, 64)]


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch_generator(seed), dtype=torch.float64)


def rotation(n, seed):
    return torch.linalg.qr(normal(n, n, seed=seed)).Q


@pytest.mark.parametrize("shape", SHAPES)
def test_singular_vectors_stay_and_values_are_near_one(shape):
    G = normal(2, *shape)
    X = orthogonalized(G, torch.float64)
    left, values, right = torch.linalg.svd(G, full_matrices=False)
    core = left.mT @ X @ right.mT
    new = torch.diagonal(core, dim1=-2, dim2=-1)
    torch.testing.assert_close(core, torch.diag_embed(new), atol=1e-12, rtol=0)
    large = values > 0.2 * values.max()
    assert new[large].min() > 0.6 and new.max() < 1.3


def test_equal_singular_values_follow_the_polynomial():
    n, (a, b, c) = 16, POLYNOMIAL
    value = 1 / math.sqrt(n)
    for _ in range(N_ITERATIONS):
        value = a * value + b * value**3 + c * value**5
    turn = rotation(n, 1)
    X = orthogonalized(7 * turn[None], torch.float64)
    torch.testing.assert_close(X[0], value * turn, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_steps_turn_with_the_gradient_and_forget_its_size(shape):
    G, left, right = normal(1, *shape), rotation(shape[0], 1), rotation(shape[1], 2)
    X = orthogonalized(G, torch.float64)
    turned = orthogonalized(1e3 * left @ G @ right, torch.float64)
    torch.testing.assert_close(turned, left @ X @ right, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_same_steps_as_torch(shape):
    """Up to the rounding of bfloat16, in which torch's are computed."""
    rate = 0.01
    ours, torchs, other = (nn.Parameter(normal(*shape).float()) for _ in range(3))
    optimizer = MuonAdamW([ours, other], [ours], torch.bfloat16, lr=rate)
    peer = torch.optim.Muon(
        [torchs],
        lr=RATE * rate,
        momentum=MOMENTUM,
        weight_decay=WEIGHT_DECAY,
        ns_steps=N_ITERATIONS,
        adjust_lr_fn="match_rms_adamw",
    )
    start = ours.detach().clone()
    for seed in range(3):
        gradient = normal(*shape, seed=10 + seed).float()
        ours.grad, torchs.grad, other.grad = gradient.clone(), gradient.clone(), gradient
        optimizer.step()
        peer.step()
    moved, expected = ours.detach() - start, torchs.detach() - start
    assert torch.linalg.norm(moved - expected) < 0.02 * torch.linalg.norm(expected)


def test_the_others_take_the_steps_of_adamw():
    matrix, ours = nn.Parameter(normal(8, 8).float()), nn.Parameter(normal(5).float())
    torchs = nn.Parameter(ours.detach().clone())
    optimizer = MuonAdamW([matrix, ours], [matrix], lr=0.01, weight_decay=0.3)
    peer = torch.optim.AdamW([torchs], lr=0.01, weight_decay=0.3)
    for seed in range(3):
        ours.grad = normal(5, seed=seed).float()
        torchs.grad, matrix.grad = ours.grad.clone(), normal(8, 8, seed=seed).float()
        optimizer.step()
        peer.step()
    torch.testing.assert_close(ours, torchs)
    optimizer.zero_grad()
    assert matrix.grad is None and ours.grad is None


@pytest.mark.parametrize("grouped", [False, True])
def test_a_parameter_takes_one_kind_of_step(grouped):
    network = ScoreNetwork(3, (8, 8, 8), torch_generator(0))
    every = list(network.parameters())
    params = [{"params": every[:4]}, {"params": every[4:]}] if grouped else every
    optimizer = MuonAdamW(params, network.hidden_matrices, lr=0.01)
    by_adamw = [each for group in optimizer.param_groups for each in group["params"]]
    by_muon = [each for stack in optimizer.stacks for each in stack.matrices]
    assert [*map(id, by_muon)] == [*map(id, network.hidden_matrices)]
    assert sorted(map(id, by_adamw + by_muon)) == sorted(map(id, every))


@pytest.fixture
def first_steps(monkeypatch):
    """number of rows -> the change of each hidden matrix in the first step, of a rate of .01."""
    monkeypatch.setattr("sklearn_dsm._training.optimizer.WEIGHT_DECAY", 0.0)
    monkeypatch.setattr("sklearn_dsm._training.callbacks.WARM_UP_STEPS", 1)

    def steps(n_rows):
        network, generator = ScoreNetwork(3, (16, 16, 16), torch_generator(0)), torch_generator(1)
        with torch.no_grad():
            network.output.normal_(generator=generator)
        before = [matrix.detach().clone() for matrix in network.hidden_matrices]
        model = CorrectedScore(GaussianScore(torch.zeros(3), torch.eye(3)), network)
        settings = TrainingSettings(1, n_rows, 0.01, n_iter_no_change=1, min_batches=1)
        rows = TrainingRows(torch.randn(n_rows, 3, generator=generator), torch.ones(n_rows))
        levels = LogisticLevels(-12.0, 11.0)
        held_out = TrainingRows(rows.rows[:1], rows.weight[:1])
        train(model, DSM(), levels, rows, held_out, settings, generator)
        pairs = zip(network.hidden_matrices, before, strict=True)
        return [matrix.detach() - start for matrix, start in pairs]

    return steps


def test_training_moves_hidden_matrices_by_muon_alone(first_steps):
    """The spectral norm of a first step is Muon's; that of AdamW is a matrix of signs."""
    for step in first_steps(MIN_MUON_ROWS):
        size = RATE * 0.01 * STEP_SIZE * math.sqrt(16)
        assert 0.6 < torch.linalg.matrix_norm(step / size, ord=2) < 1.3


def test_few_rows_take_the_steps_of_adamw(first_steps):
    """Of the first of which all entries are as large as the rate."""
    for step in first_steps(MIN_MUON_ROWS - ROWS_PER_LEVEL):
        assert float(step.abs().median()) == pytest.approx(0.01, rel=1e-3)


def test_matrices_of_several_shapes_move_apart_from_each_other():
    """Stacked or alone, a matrix takes the same step."""
    starts = [normal(*shape, seed=k) for k, shape in enumerate([(8, 8), (6, 8), (8, 8)])]

    def moved(chosen):
        matrices = {k: nn.Parameter(starts[k].clone()) for k in chosen}
        rest = nn.Parameter(torch.zeros(1))
        rest.grad = torch.ones(1)
        for k, matrix in matrices.items():
            matrix.grad = normal(*matrix.shape, seed=20 + k)
        optimizer = MuonAdamW([*matrices.values(), rest], matrices.values(), torch.float64, lr=0.1)
        optimizer.step()
        return matrices

    together = moved([0, 1, 2])
    for k in range(3):
        torch.testing.assert_close(together[k], moved([k])[k])


@pytest.mark.parametrize("sizes", [(16,), (16, 8), (16, 16, 8)])
def test_hidden_matrices_are_all_but_the_first_and_the_last(sizes):
    network = ScoreNetwork(3, sizes, torch_generator(0))
    shapes = [tuple(matrix.shape) for matrix in network.hidden_matrices]
    assert shapes == list(zip(sizes[1:], sizes[:-1], strict=True))
