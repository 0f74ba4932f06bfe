"""Fits that are killed and resumed, and fits that continue others."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from sklearn_dsm import BSM, DSM, DSMDensityEstimator, NonFiniteLossError, io
from sklearn_dsm._budget import Budget
from sklearn_dsm._checkpoint import Checkpoint
from sklearn_dsm._files import archive
from sklearn_dsm._files.encoding import Vocabulary, decode

pytest.importorskip("safetensors")
pytestmark = pytest.mark.filterwarnings(
    "ignore:No network was trained:sklearn.exceptions.ConvergenceWarning"
)


def rows(n=400):
    random = np.random.RandomState(0)
    X = random.standard_normal((n, 2)) + np.repeat([[0.0], [3.0]], n // 2, axis=0)
    X[:, 1] += np.sin(2 * X[:, 0])
    return X


X = rows()


def quick(**params):
    common = {"reference": "gaussian", "marginals": "standardize", "likelihood": "identity"}
    network = {"hidden_layer_sizes": (16, 16), "max_epochs": 6, "batch_size": 64}
    return DSMDensityEstimator(**({"random_state": 0} | common | network | params))


class Killed(Exception):
    """In place of a signal."""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "fit.checkpoint"


@pytest.fixture
def killed(monkeypatch, path):
    """(density, n) -> the density whose fit is killed after the checkpoint was written n times."""

    def fit(density, n, **options):
        plain, count = Checkpoint._write, [0]

        def write(self, *running):
            plain(self, *running)
            count[0] += 1
            if count[0] == n:
                raise Killed

        density.set_params(checkpoint=path, checkpoint_interval=0.0)
        with monkeypatch.context() as patch:
            patch.setattr(Checkpoint, "_write", write)
            with pytest.raises(Killed):
                density.fit(X, **options)
        assert path.exists() and not hasattr(density, "network_weights_")
        return density

    return fit


def stored(path):
    """The steps of a checkpoint."""
    content = archive.read(path, "checkpoint")
    return decode(content.tree, content.arrays, Vocabulary())["steps"]


def assert_same(density, other):
    for name in ("loss_curve_", "validation_scores_", "n_epochs_", "selected_", "stop_reason_"):
        assert getattr(density, name) == getattr(other, name), name
    for name, weights in density.network_weights_.items():
        np.testing.assert_array_equal(weights, other.network_weights_[name])
    np.testing.assert_array_equal(density.score_samples(X[:50]), other.score_samples(X[:50]))


# Killed fits

FIT = """
import sys
import numpy as np
from sklearn_dsm import DSMDensityEstimator

options = {"reference": "gaussian", "marginals": "standardize", "likelihood": "identity"}
density = DSMDensityEstimator(
    **options, hidden_layer_sizes=(16, 16), batch_size=64, max_epochs=25,
    n_iter_no_change=25, random_state=0, checkpoint=sys.argv[2], checkpoint_interval=0.0,
)
density.fit(np.load(sys.argv[1]))
"""


def wait_for_epoch(path, process, n_epochs):
    """Until a training has stored so many epochs; the last stored state."""
    started = time.perf_counter()
    while time.perf_counter() - started < 60 and process.poll() is None:
        if path.exists():
            steps = stored(path)
            if (
                steps
                and len(steps[-1].get("state", {}).get("record", {}).get("gains", [])) >= n_epochs
            ):
                return
        time.sleep(0.02)
    raise AssertionError("The process ended, or did not train.")


def test_a_fit_that_was_killed_by_a_signal_goes_on_where_it_was(tmp_path, path, capsys):
    np.save(tmp_path / "X.npy", X)
    run = [sys.executable, "-c", FIT, str(tmp_path / "X.npy"), str(path)]
    process = subprocess.Popen(run, env=os.environ | {"OMP_NUM_THREADS": "1"})
    try:
        wait_for_epoch(path, process, 3)
    finally:
        process.kill()
    assert process.wait() in (-signal.SIGKILL, 1)
    left = stored(path)[-1]["state"]["record"]
    n_done = left["n_epochs"]
    assert 3 <= n_done < 25

    options = {"max_epochs": 25, "n_iter_no_change": 25, "verbose": 1}
    density = quick(**options, checkpoint=str(path), checkpoint_interval=0.0).fit(X)
    assert f"resumes a training after epoch {n_done}" in capsys.readouterr().out
    assert density.n_epochs_ == 25 and density.loss_curve_[:n_done] == left["loss_curve"]
    # As good as the best of what was stored, and what it would have been without the signal.
    base = density.validation_scores_[0] - left["gains"][0]
    assert max(density.validation_scores_) - base >= left["best_gain"] - 1e-9
    assert_same(density, quick(**options).fit(X))
    assert not path.exists()


CASES = {
    "a network": ({"max_epochs": 4}, (1, 3)),
    "mixtures and flows": ({"reference": "auto", "marginals": "auto", "max_epochs": 1}, (4, 9)),
    "a mixture": ({"reference": "gmm", "max_epochs": 2}, (3,)),
    "a loss that remembers": ({"loss": BSM(n_plain_steps=40), "max_epochs": 3}, (3,)),
    "no reference": ({"reference": None, "likelihood": "identity"}, (4,)),
    "one level": ({"loss": DSM(noise_level=0.1), "max_epochs": 3}, (3,)),
    "an early end": ({"max_epochs": 30, "n_iter_no_change": 1}, (9,)),
    "dropout": ({"max_epochs": 3}, (3,)),
}


@pytest.mark.parametrize("name", CASES)
def test_a_resumed_fit_is_the_fit_that_was_not_killed(name, killed, path, monkeypatch):
    params, times = CASES[name]
    if name == "dropout":
        small = {"hidden_layer_sizes": (16, 16), "dropout": 0.2}
        monkeypatch.setattr("sklearn_dsm.density._dsm.LARGE_NETWORK", small)
        params = params | {"hidden_layer_sizes": "auto"}
    whole = quick(**params).fit(X)
    for n in times:
        density = killed(quick(**params), n).fit(X)
        assert not path.exists()
        if "loss" in params:
            assert density.loss_curve_ == whole.loss_curve_
            continue
        assert_same(density, whole)


@pytest.mark.slow
def test_a_head_goes_on_to_learn(killed, monkeypatch, path):
    monkeypatch.setattr("sklearn_dsm.density._distillation.MAX_ROWS", 100)
    params = {"likelihood": "fast", "reference": None, "max_epochs": 2}
    whole = quick(**params).fit(X)
    density = killed(quick(**params), 6)
    assert [list(step) for step in stored(path)][-1][1] == "state"
    density.fit(X)
    assert density.fast_error_ == whole.fast_error_
    np.testing.assert_array_equal(density.score_samples(X), whole.score_samples(X))


def test_time_goes_on_where_it_was(killed, path):
    """max_fit_time is for all runs of a fit together."""
    density = killed(quick(max_fit_time=2.0, max_epochs="auto"), 5)
    taken = stored(path)[-1]["taken"]
    assert 0 < taken < 2
    started = time.perf_counter()
    density.fit(X)
    assert density.n_epochs_ > 4 and density.stop_reason_ in ("max_fit_time", "no_change")
    assert time.perf_counter() - started < 2.0 - taken + 1.5


def test_the_seed_of_a_fit_without_one_is_stored(killed, path):
    density = killed(quick(random_state=None), 4)
    left = stored(path)[-1]["state"]["record"]
    assert density.fit(X).loss_curve_[: left["n_epochs"]] == left["loss_curve"]


def test_the_steps_are_written_at_intervals(monkeypatch, path):
    sizes = []
    plain = Checkpoint._write

    def write(self, *running):
        plain(self, *running)
        sizes.append(path.stat().st_size)

    monkeypatch.setattr(Checkpoint, "_write", write)
    quick(checkpoint=path).fit(X)
    assert len(sizes) == 1 and not path.exists()


# What cannot be resumed


@pytest.mark.parametrize(
    "change, message",
    [
        ({"learning_rate": 0.01}, r"learning_rate was 0\.008, and is 0\.01"),
        ({"reference": None}, "reference was 'gaussian', and is None"),
        ({"random_state": 1}, "random_state was 0, and is 1"),
        ({}, "the digest of X was"),
    ],
)
def test_another_fit_is_refused(killed, path, change, message):
    density = killed(quick(), 2).set_params(**change)
    with pytest.raises(ValueError, match=rf"(?s)is of another fit: {message}.*delete the file"):
        density.fit(X if change else X + 1)
    assert path.exists()


def test_other_weights_and_references_are_another_fit(killed, path):
    density = killed(quick(), 2)
    with pytest.raises(ValueError, match="the digest of the sample weights"):
        density.fit(X, sample_weight=np.arange(1, len(X) + 1))
    path.unlink()
    mixtures = [GaussianMixture(2, random_state=0).fit(X + seed) for seed in (0, 1)]
    density = killed(quick(reference=mixtures[0]), 2)
    with pytest.raises(ValueError, match="the digest of what was fitted before"):
        density.set_params(reference=mixtures[1]).fit(X)
    density.set_params(reference=mixtures[0], verbose=1, checkpoint_interval=60.0).fit(X)


def test_files_that_are_no_checkpoints_are_refused(path):
    path.write_bytes(b"something else")
    with pytest.raises(ValueError, match="no safetensors file"):
        quick(checkpoint=path).fit(X)
    assert path.read_bytes() == b"something else"
    path.unlink()
    io.save(quick(max_epochs=1).fit(X), path)
    with pytest.raises(ValueError, match="holds a fitted estimator, not a checkpoint"):
        quick(checkpoint=path).fit(X)


def test_a_folder_that_is_not_there_is_found_out_at_once(tmp_path):
    with pytest.raises(OSError):
        quick(checkpoint=tmp_path / "nowhere" / "file").fit(X)
    with pytest.raises(ValueError, match="checkpoint"):
        quick(checkpoint=3).fit(X)


def test_a_full_disk_does_not_end_a_fit(monkeypatch, path):
    plain, count = Checkpoint._write, [0]

    def write(self, *running):
        count[0] += 1
        if count[0] > 1:
            self.written = time.perf_counter()
            raise OSError("No space left on device")
        plain(self, *running)

    monkeypatch.setattr(Checkpoint, "_write", write)
    density = quick(checkpoint=path, checkpoint_interval=0.0)
    with pytest.warns(RuntimeWarning, match="could not be written: No space left"):
        density.fit(X)
    assert density.n_epochs_ == 6 and not path.exists()


def test_an_interrupted_fit_can_be_resumed(monkeypatch, path):
    from sklearn_dsm._search.epoch_tasks import EpochTasks

    whole = quick().fit(X)
    density = quick(checkpoint=path, checkpoint_interval=0.0)
    plain = EpochTasks.__call__

    def interrupt(self, record):
        if record.n_epochs == 4:
            raise KeyboardInterrupt
        return plain(self, record)

    with monkeypatch.context() as patch:
        patch.setattr(EpochTasks, "__call__", interrupt)
        with pytest.raises(KeyboardInterrupt):
            density.fit(X)
    assert density.n_epochs_ == 4 and len(stored(path)[-1]["state"]["record"]["gains"]) == 3
    assert_same(density.fit(X), whole)


def test_a_fit_that_diverges_leaves_no_checkpoint(path):
    with pytest.raises(NonFiniteLossError):
        quick(learning_rate=1e30, checkpoint=path, checkpoint_interval=0.0).fit(X)
    assert not path.exists()


def test_steps_that_come_otherwise_are_done_anew(path):
    first = Checkpoint(path, 0.0)
    assert first.begin({"name": "a"}, 3, Budget()) == 3
    for name in ("one", "two"):
        first.step(name).finish({"value": name})
    again = Checkpoint(path, 0.0)
    assert again.begin({"name": "a"}, 4, Budget()) == 3
    assert again.step("one").result == {"value": "one"}
    with pytest.warns(RuntimeWarning, match="'two'.*'another'"):
        assert again.step("another").result is None
    assert again.step("two").result is None


def test_checkpoints_need_safetensors(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    with pytest.raises(ImportError, match=r"sklearn_dsm\[io\]"):
        quick(checkpoint=path).fit(X)


def test_paths_of_every_kind_survive_clone_and_files(tmp_path):
    density = quick(checkpoint=Path("a.checkpoint"), max_epochs=1)
    assert clone(density).checkpoint == Path("a.checkpoint")
    for path in (str(tmp_path / "x"), tmp_path / "x"):
        io.save(density.set_params(checkpoint=path).fit(X), tmp_path / "density")
        assert io.load(tmp_path / "density").checkpoint == path


# Warm starts


@pytest.mark.parametrize("reference", ["gaussian", None])
def test_a_warm_start_goes_on_and_is_not_worse(reference):
    params = {"likelihood": "identity", "warm_start": True, "reference": reference}
    density = quick(**params).fit(X)
    first = clone(density).fit(X)
    assert density.network_weights_
    density.fit(X)
    assert density.n_epochs_ == len(density.loss_curve_) == 12
    assert density.loss_curve_[:6] == first.loss_curve_
    assert density.validation_scores_[:6] == first.validation_scores_
    held_out = X[density._held_out(len(X), np.random.RandomState(0))]
    assert density.score(held_out) > first.score(held_out) - 0.02
    for name, part in density.latent_map_.items():
        np.testing.assert_array_equal(part, first.latent_map_[name])
    # A fresh network starts far behind.
    assert density.loss_curve_[6] < first.loss_curve_[0]


def test_a_warm_start_that_brings_nothing_keeps_the_network():
    density = quick(max_epochs=10, warm_start=True).fit(X)
    assert density.network_weights_
    before = density.score_samples(X)
    density.set_params(learning_rate=1e-12, max_epochs=1).fit(X)
    assert density.network_weights_
    # The gains of bands are fitted once more to the same samples.
    np.testing.assert_allclose(density.score_samples(X), before, atol=0.05)


def test_a_warm_start_without_time_keeps_the_network():
    density = quick(max_epochs=10, warm_start=True).fit(X)
    before = density.score_samples(X)
    assert density.network_weights_
    with pytest.warns(ConvergenceWarning, match="time for a first epoch"):
        density.set_params(max_fit_time=1e-9).fit(X)
    assert density.n_epochs_ == 10 and density.stop_reason_ == "max_fit_time"
    np.testing.assert_array_equal(density.score_samples(X), before)


def test_the_first_fit_of_a_warm_start_is_a_fit():
    assert_same(quick(warm_start=True).fit(X), quick().fit(X))


@pytest.mark.parametrize(
    "change, message",
    [
        ({"process": "ve"}, "process was VP"),
        ({"hidden_layer_sizes": (8, 8)}, r"hidden_layer_sizes was \(16, 16\)"),
        ({"loss": DSM(noise_level=0.2)}, "noise_level of the loss was None"),
    ],
)
def test_a_warm_start_cannot_be_another_network(change, message):
    density = quick(warm_start=True, max_epochs=1).fit(X)
    before = vars(density) | change
    with pytest.raises(ValueError, match=f"{message}.*begin anew"):
        density.set_params(**change).fit(X)
    assert vars(density).keys() == before.keys()
    with pytest.raises(ValueError, match="features was 2"):
        clone(density).set_params(loss="dsm").fit(X).fit(X[:, :1])


def test_a_warm_start_of_a_density_without_a_network_trains_one():
    density = quick(max_fit_time=1e-9, warm_start=True, likelihood="identity").fit(X)
    assert not density.network_weights_
    density.set_params(max_fit_time=None, max_epochs=15).fit(X)
    assert density.network_weights_ and density.n_epochs_ == 15


def test_a_warm_start_of_a_loaded_density(tmp_path):
    density = quick(warm_start=True, max_epochs=3).fit(X)
    io.save(density, tmp_path / "density")
    assert_same(io.load(tmp_path / "density").fit(X), density.fit(X))


def test_a_killed_warm_start_is_resumed(path, monkeypatch):
    density, other = (quick(warm_start=True, max_epochs=4).fit(X) for _ in range(2))
    density.fit(X)
    plain, count = Checkpoint._write, [0]

    def write(self, *running):
        plain(self, *running)
        count[0] += 1
        if count[0] == 3:
            raise Killed

    other.set_params(checkpoint=path, checkpoint_interval=0.0)
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "_write", write)
        with pytest.raises(Killed):
            other.fit(X)
    assert other.n_epochs_ == 4
    assert_same(other.fit(X), density)
