"""Processes of accelerate that train one network together."""

import os
import socket
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_dsm import DSMDensityEstimator
from sklearn_dsm._training.processes import ALONE, Processes, processes_of

pytest.importorskip("accelerate")

SETTINGS = {
    "reference": "gaussian",
    "marginals": "standardize",
    "hidden_layer_sizes": (32, 32),
    "max_epochs": 4,
    "random_state": 0,
}
# Each process runs this; only the first one has the samples.
SCRIPT = f"""
    import sys
    import numpy as np
    import torch
    from sklearn_dsm import DSMDensityEstimator
    from sklearn_dsm._training.processes import processes_of

    folder = sys.argv[1]
    processes, _ = processes_of("accelerate")
    rank, found = processes.number, {{}}
    found["n"] = processes.n
    found["share"] = processes.share((torch.arange(7),))[0].numpy()

    linear = torch.nn.Linear(3, 1, bias=False)
    torch.nn.init.constant_(linear.weight, rank)
    found["sign"] = processes.exchange(linear, 2 if rank == 0 else 0)
    found["weights"] = linear.weight.detach().numpy().copy()
    rows = torch.load(folder + "/rows.pt")[rank::2]
    linear(rows).square().mean().backward()
    processes.average_gradients(linear)
    found["gradient"] = linear.weight.grad.numpy()

    X = np.load(folder + "/X.npy", mmap_mode="r") if rank == 0 else None
    T = np.random.default_rng(5).normal(size=(20, 2))
    fits = {{"plain": {{}}, "stream": {{"samples_in_memory": 800}}, "bsm": {{"loss": "bsm"}}}}
    for name, options in fits.items():
        density = DSMDensityEstimator(device="accelerate", **({SETTINGS} | options)).fit(X)
        found[name] = density.score_samples(T)
        found[name + "_epochs"] = density.n_epochs_
        found[name + "_networks"] = len(density.network_weights_)
    try:
        density.set_params(loss="dsm").fit(np.full((30, 2), np.nan) if rank == 0 else None)
    except ValueError as error:
        found["error"] = str(error)
    found["after_error"] = density.score_samples(T)
    np.savez(folder + f"/{{rank}}.npz", **found)
    processes.state.destroy_process_group()
"""


def free_port():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


@pytest.fixture(scope="module")
def X():
    random = np.random.default_rng(0)
    X = random.normal(size=(2000, 2))
    X[:, 1] += np.sin(3 * X[:, 0])
    return X


@pytest.fixture(scope="module")
def rows():
    return torch.randn(10, 3, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def found(X, rows, tmp_path_factory):
    """What two processes on this machine found, the first one's findings first."""
    folder = tmp_path_factory.mktemp("processes")
    np.save(folder / "X.npy", X)
    torch.save(rows, folder / "rows.pt")
    script = folder / "script.py"
    script.write_text(textwrap.dedent(SCRIPT))
    together = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "WORLD_SIZE": "2",
        "OMP_NUM_THREADS": "1",
        "ACCELERATE_USE_CPU": "true",
    }
    running = [
        subprocess.Popen(
            [sys.executable, script, folder],
            env=os.environ | together | {"RANK": str(k), "LOCAL_RANK": str(k)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for k in range(2)
    ]
    try:
        for process in running:
            _, errors = process.communicate(timeout=200)
            assert process.returncode == 0, errors
    finally:
        for process in running:
            process.kill()
    return [dict(np.load(folder / f"{k}.npz")) for k in range(2)]


def test_each_sample_is_the_share_of_one_process(found):
    shares = [each["share"] for each in found]
    assert sorted(np.concatenate(shares)) == list(range(7))


def test_the_weights_and_the_sign_are_those_of_the_first_process(found):
    for each in found:
        assert each["n"] == 2 and each["sign"] == 2
        np.testing.assert_array_equal(each["weights"], 0)


def test_the_mean_of_the_gradients_is_the_gradient_of_the_whole_batch(found, rows):
    linear = nn.Linear(3, 1, bias=False)
    nn.init.zeros_(linear.weight)
    linear(rows).square().mean().backward()
    for each in found:
        np.testing.assert_allclose(each["gradient"], linear.weight.grad, rtol=1e-5)


@pytest.mark.parametrize("name", ["plain", "stream", "bsm"])
def test_all_processes_have_the_same_fit(found, name):
    first, second = found
    assert first[name + "_networks"] > 0
    assert first[name + "_epochs"] == second[name + "_epochs"] == SETTINGS["max_epochs"]
    np.testing.assert_array_equal(first[name], second[name])


def test_the_fit_is_as_good_as_that_of_one_process(found, X):
    alone = DSMDensityEstimator(**SETTINGS).fit(X)
    T = np.random.default_rng(5).normal(size=(20, 2))
    apart = [
        DSMDensityEstimator(**SETTINGS | {"random_state": k}).fit(X).score_samples(T)
        for k in (1, 2)
    ]
    chance = np.abs(apart[0] - apart[1]).mean()
    assert np.abs(found[0]["plain"] - alone.score_samples(T)).mean() < 3 * chance


def test_an_error_of_the_first_process_is_that_of_all_and_leaves_the_fits(found):
    first, second = found
    assert "NaN" in str(first["error"])
    assert first["error"] == second["error"]
    for each in found:
        np.testing.assert_array_equal(each["after_error"], each["bsm"])


def test_without_other_processes_the_device_of_accelerate_changes_nothing(X):
    """In a process of its own: the state of accelerate is that of a whole process."""
    code = f"""
        import numpy as np
        from sklearn_dsm import DSMDensityEstimator
        X = np.random.default_rng(0).normal(size=(300, 2))
        fits = [DSMDensityEstimator(device=device, **({SETTINGS} | {{"max_epochs": 1}})).fit(X)
                for device in ("cpu", "accelerate")]
        np.testing.assert_array_equal(*(fit.score_samples(X) for fit in fits))
    """
    alone = os.environ | {"ACCELERATE_USE_CPU": "true"}
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        alone.pop(name, None)
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], env=alone, check=True, timeout=200
    )


def test_an_interrupted_first_process_goes_on_alone():
    processes = Processes()
    processes.together = True
    processes.part()
    with processes.telling_result(dict):
        pass


def test_other_devices_are_not_those_of_accelerate():
    processes, device = processes_of("cpu")
    assert processes is ALONE and device == torch.device("cpu")


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(ImportError, match=r"sklearn_dsm\[accelerate\]"):
        DSMDensityEstimator(device="accelerate").fit(np.zeros((3, 2)))
