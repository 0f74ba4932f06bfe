"""Laws of fits on a GPU; left out where there is none."""

from __future__ import annotations

import gc
import pickle
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from sklearn_dsm import DSMDensityEstimator, io
from sklearn_dsm._checkpoint import Checkpoint
from sklearn_dsm._core.cuda_graphs import N_WARM_UP, Recorded
from sklearn_dsm._core.distributions.gaussian import GaussianScore
from sklearn_dsm._core.losses.loss import TrainingRows
from sklearn_dsm._core.losses.registry import LOSSES
from sklearn_dsm._core.noise.level_sampling import LogisticLevels
from sklearn_dsm._core.random import standard_normal, torch_generator
from sklearn_dsm._core.scores.corrected import CorrectedScore
from sklearn_dsm._core.scores.network import ScoreNetwork
from sklearn_dsm._training import TrainingSettings, train
from sklearn_dsm.datasets import TwoMoons

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
CPU_AND_GPU = ("cpu", "cuda")
SETTINGS = TrainingSettings(
    max_epochs=4, batch_size=128, learning_rate=5e-3, n_iter_no_change=9, device="cuda"
)


@pytest.fixture(scope="module")
def rows():
    return TwoMoons().sample(1200, random_state=0)


@pytest.fixture(scope="module")
def fitted(rows):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        density = DSMDensityEstimator(
            likelihood="fast", reference="gaussian", max_epochs=20, device="cuda", random_state=0
        )
        return density.fit(rows[:1000])


@pytest.fixture
def on(fitted):
    """(device, **options) -> the fitted density evaluated there."""

    def place(device, **options):
        return pickle.loads(pickle.dumps(fitted)).set_params(device=device, **options)

    return place


def steps(loss, dropout=0.0, **changes):
    """The loss of every epoch of a short training on a GPU, and the weights it ends with."""
    generator = torch_generator(0, "cuda")
    rows = standard_normal((1000, 3), torch.zeros((), device="cuda"), generator) ** 3
    network = ScoreNetwork(3, (32, 32), torch_generator(0), dropout=dropout)
    model = CorrectedScore(GaussianScore(torch.zeros(3), torch.eye(3)), network).to("cuda")
    parts = rows[:900], rows[900:]
    tables = [TrainingRows(part, torch.ones(len(part), device="cuda")) for part in parts]
    settings = TrainingSettings(**(vars(SETTINGS) | changes))
    levels = LogisticLevels(-12.0, 12.0)
    record = train(model, loss, levels, *tables, settings, generator)
    return record.loss_curve, torch.cat([part.detach().ravel() for part in network.parameters()])


class Killed(Exception):
    """In place of a signal."""


def test_a_killed_fit_is_resumed_and_its_file_is_read_by_the_cpu(rows, tmp_path, monkeypatch):
    pytest.importorskip("safetensors")
    options = {"reference": "gaussian", "max_epochs": 5, "device": "cuda", "random_state": 0}
    whole = DSMDensityEstimator(**options).fit(rows)
    density = DSMDensityEstimator(**options, checkpoint=tmp_path / "fit", checkpoint_interval=0.0)
    plain, count = Checkpoint._write, [0]

    def write(self, *running):
        plain(self, *running)
        count[0] += 1
        if count[0] == 3:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "_write", write)
        with pytest.raises(Killed):
            density.fit(rows)
    density.fit(rows)
    np.testing.assert_allclose(density.loss_curve_, whole.loss_curve_, atol=0.02)
    io.save(density, tmp_path / "density")
    again = io.load(tmp_path / "density", device="cpu")
    np.testing.assert_allclose(again.score_samples(rows), density.score_samples(rows), atol=0.01)


def test_a_recorded_function_draws_and_counts_as_a_plain_one():
    def walk(recorded):
        generator = torch_generator(0, "cuda")
        total = torch.zeros(5, device="cuda")

        def step(x):
            total.add_(x * standard_normal((5,), x, generator))
            return total.sum()

        call = Recorded(step, generator) if recorded else step
        inputs = torch.arange(1.0, 2 * N_WARM_UP + 1, device="cuda")
        return [float(call(x)) for x in inputs]

    assert walk(True) == pytest.approx(walk(False), rel=1e-5)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("name", [name for name, loss in LOSSES.items() if loss().repeats])
def test_recorded_steps_are_the_plain_ones(name, dropout):
    loss = LOSSES[name]()
    if dropout and not loss.dropout:
        pytest.skip("this loss allows no dropout")
    (curve, weights), (plain_curve, plain_weights) = (
        steps(LOSSES[name](), dropout, record_steps=recorded) for recorded in (True, False)
    )
    assert curve == pytest.approx(plain_curve, rel=0.05, abs=0.01)
    assert (weights - plain_weights).norm() < 0.05 * plain_weights.norm()


@pytest.mark.parametrize("record_steps", [True, False])
def test_compiled_steps_are_the_eager_ones(record_steps):
    compiled, eager = (
        steps(LOSSES["dsm"](), compile=compile, record_steps=record_steps)[0]
        for compile in (True, False)
    )
    assert compiled == pytest.approx(eager, rel=0.05, abs=0.01)


@pytest.mark.parametrize("likelihood", ["ode", "identity", "fast"])
def test_log_densities_are_those_of_the_cpu(on, rows, likelihood):
    tolerance = {"ode": 1e-3, "identity": 1e-3, "fast": 0.05}[likelihood]
    cpu, gpu = (on(d, likelihood=likelihood).score_samples(rows) for d in CPU_AND_GPU)
    np.testing.assert_allclose(gpu, cpu, atol=tolerance)


@pytest.mark.parametrize("noise_level", [0.0, 0.3])
def test_scores_are_those_of_the_cpu(on, rows, noise_level):
    cpu, gpu = (on(d, likelihood="ode").stein_score(rows[:50], noise_level) for d in CPU_AND_GPU)
    np.testing.assert_allclose(gpu, cpu, atol=1e-2 * np.abs(cpu).max())


def test_samples_repeat_and_follow_the_density(on):
    density = on("cuda", likelihood="ode")
    draws = density.sample(2000, random_state=0)
    np.testing.assert_array_equal(draws, density.sample(2000, random_state=0))
    other = on("cpu", likelihood="ode").sample(2000, random_state=0)
    np.testing.assert_allclose(draws.mean(0), other.mean(0), atol=0.1)
    np.testing.assert_allclose(draws.std(0), other.std(0), atol=0.1)


def test_the_fit_learned_something(fitted, rows):
    gaussian = -0.5 * np.linalg.slogdet(2 * np.pi * np.e * np.cov(rows[:1000].T))[1]
    assert fitted.network_weights_
    assert fitted.score_samples(rows[1000:]).mean() > gaussian + 0.1


def test_a_fit_without_a_device_takes_the_gpu_and_keeps_to_its_time(rows):
    density = DSMDensityEstimator(reference="gaussian", max_fit_time=5.0, random_state=0)
    torch.cuda.reset_peak_memory_stats()
    before, started = torch.cuda.max_memory_allocated(), time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        density.fit(rows)
    assert time.perf_counter() - started < 10
    assert torch.cuda.max_memory_allocated() > before
    assert np.isfinite(density.score_samples(rows)).all()


def test_fits_in_threads_are_those_one_after_the_other(rows):
    def score(seed):
        density = DSMDensityEstimator(reference="gaussian", max_epochs=3, random_state=seed)
        return density.fit(rows[:600]).score(rows[600:])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        alone = [score(seed) for seed in range(4)]
        with ThreadPoolExecutor(2) as pool:
            together = list(pool.map(score, range(4)))
    assert together == pytest.approx(alone, abs=0.02)


def test_the_memory_of_a_fit_is_given_back(rows):
    def held_after_a_fit():
        DSMDensityEstimator(reference="gaussian", max_epochs=2, random_state=0).fit(rows[:600])
        return torch.cuda.memory_allocated()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        first = held_after_a_fit()
        gc.disable()
        try:
            later = [held_after_a_fit() for _ in range(3)]
        finally:
            gc.enable()
    assert max(later) <= first + 2**20
