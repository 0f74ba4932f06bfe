"""More than one core, more than one machine, more than memory."""

import os
import pickle
import signal
import threading
import time
import tracemalloc
from itertools import chain
from typing import ClassVar

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score

from sklearn_dsm import (
    DSMDensityEstimator,
    KernelScoreEstimator,
    TableDensityEstimator,
)
from sklearn_dsm._fit import whole_fit
from sklearn_dsm._search.stream import MIN_PLACES, PART_ROWS, Stream, stream_of
from sklearn_dsm._transforms.fitting import linear_map
from sklearn_dsm.out_of_core import sample_in_chunks, score_samples_in_chunks, write_samples


def quick(**params):
    common = {
        "reference": "gaussian",
        "marginals": "standardize",
        "hidden_layer_sizes": (32, 32),
        "max_epochs": 2,
        "random_state": 0,
    }
    return DSMDensityEstimator(**(common | params))


def bent(n, seed=0):
    """Samples that a Gaussian does not describe."""
    random = np.random.default_rng(seed)
    X = random.normal(size=(n, 2))
    X[:, 1] += np.sin(3 * X[:, 0])
    return X


@pytest.fixture(scope="module")
def X():
    return bent(3000)


@pytest.fixture(scope="module")
def fitted(X):
    density = quick().fit(X)
    assert density.network_weights_
    return density


# Several cores


def searched(X, **options):
    density = quick(max_epochs=1)
    search = GridSearchCV(density, {"learning_rate": [0.004, 0.008]}, cv=2, **options)
    return search.fit(X[:300]).cv_results_


@pytest.mark.parametrize("backend", [pytest.param("loky", marks=pytest.mark.slow), "threading"])
def test_a_parallel_search_finds_what_a_serial_one_does_and_leaves_the_threads(X, backend):
    before = torch.get_num_threads()
    alone = searched(X, n_jobs=1)
    with joblib.parallel_config(backend=backend):
        together = searched(X, n_jobs=2)
    assert torch.get_num_threads() == before
    for name in ("split0_test_score", "split1_test_score"):
        np.testing.assert_allclose(together[name], alone[name], rtol=1e-5)


def test_workers_of_loky_share_the_cores():
    n_jobs = 2
    with joblib.parallel_config(backend="loky", n_jobs=n_jobs):
        found = joblib.Parallel()(
            joblib.delayed(torch.get_num_threads)() for _ in range(2 * n_jobs)
        )
    assert max(found) <= max(1, joblib.cpu_count() // n_jobs)


def test_an_array_that_joblib_maps_for_its_workers_fits_as_it_is(X, tmp_path):
    mapped = joblib.load(*joblib.dump(X, tmp_path / "X.joblib"), mmap_mode="r")
    values = quick().fit(mapped).score_samples(X[:50])
    np.testing.assert_array_equal(values, quick().fit(X).score_samples(X[:50]))


class CountsThreads(BaseEstimator):
    _parameter_constraints: ClassVar[dict] = {}

    @whole_fit
    def fit(self, X, y=None):
        self.n_threads_ = torch.get_num_threads()
        return self


def counted(X):
    """Threads of torch before, in and after a fit in a thread of joblib's."""
    before = torch.get_num_threads()
    during = CountsThreads().fit(X).n_threads_
    return before, during, torch.get_num_threads()


def test_worker_threads_compute_with_one_thread_and_put_the_number_back(X):
    given = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        assert counted(X) == (3, 3, 3)
        for _ in range(2):
            jobs = joblib.Parallel(n_jobs=3, backend="threading")
            for before, during, after in jobs([joblib.delayed(counted)(X)] * 12):
                assert (during, after) == (1, 3)
                assert before in (1, 3)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(given)


# Several machines


def processes(client):
    return {address: pid for address, pid in client.run(os.getpid).items()}


def kill_one_at_work(client, killed):
    """Kill the first worker that has something to do."""
    pids = processes(client)
    while not killed:
        busy = [address for address, keys in client.processing().items() if keys]
        if busy:
            os.kill(pids[busy[0]], signal.SIGKILL)
            killed.append(pids[busy[0]])
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs processes that can be killed")
def test_a_search_on_a_cluster_survives_the_death_of_a_worker(X):
    distributed = pytest.importorskip("distributed")
    density = quick(max_epochs=3)
    grid = {"learning_rate": [0.004, 0.008]}
    # What is not given to all workers beforehand dies with the one that holds it.
    splits = list(KFold(2).split(X))
    shared = [X, *chain(*splits)]
    search = GridSearchCV(density, grid, cv=splits, error_score="raise")
    alone = search.fit(X).cv_results_
    cluster = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, protocol="tcp://", dashboard_address=None
    )
    killed = []
    with cluster, distributed.Client(cluster) as client:
        killer = threading.Thread(target=kill_one_at_work, args=(client, killed), daemon=True)
        killer.start()
        with joblib.parallel_config("dask", scatter=shared):
            together = search.fit(X).cv_results_
        killer.join(timeout=30)
        client.wait_for_workers(2, timeout=60)
        assert killed and killed[0] not in processes(client).values()
    for fold in range(2):
        name = f"split{fold}_test_score"
        np.testing.assert_allclose(together[name], alone[name], rtol=1e-5)


# Scores and draws in chunks


def test_scores_in_chunks_are_those_in_memory(X, fitted):
    array = pytest.importorskip("dask.array")
    chunked = array.from_array(X, chunks=(700, 1))
    values = score_samples_in_chunks(fitted, chunked)
    assert values.shape == (len(X),) and values.dtype == np.float64
    assert values.chunks == (chunked.chunks[0],)
    np.testing.assert_allclose(values.compute(), fitted.score_samples(X), atol=1e-6)


def test_scores_of_a_frame_keep_its_index_and_empty_parts(X):
    frames, pandas = pytest.importorskip("dask.dataframe"), pytest.importorskip("pandas")
    frame = pandas.DataFrame(X[:400], columns=["a", "b"], index=np.arange(400) * 3)
    density = KernelScoreEstimator().fit(frame)
    chunked = frames.from_pandas(frame, npartitions=4)
    chunked = frames.concat([chunked, chunked.partitions[0].query("a > 100")])
    values = score_samples_in_chunks(density, chunked).compute()
    np.testing.assert_array_equal(values.index, frame.index)
    np.testing.assert_allclose(values, density.score_samples(frame), atol=1e-9)


class Recorder(BaseEstimator):
    """Stands for a density, and remembers how many samples it saw at once."""

    n_features_in_ = 2
    largest = 0

    def __sklearn_is_fitted__(self):
        return True

    def fit(self, X):
        return self

    def score_samples(self, X):
        Recorder.largest = max(Recorder.largest, len(X))
        return X.sum(1)


def test_no_more_than_a_chunk_is_scored_at_once():
    """A table of 80 GB, of which some is asked for."""
    array = pytest.importorskip("dask.array")
    X = array.ones((5 * 10**9, 2), chunks=(10**6, 2))
    values = score_samples_in_chunks(Recorder(), X)
    np.testing.assert_array_equal(values[-2_500_000:].compute(scheduler="sync"), 2.0)
    assert Recorder.largest == 10**6


@pytest.mark.parametrize(
    ("wrong", "error", "reason"),
    [
        (lambda array, X: X, TypeError, "no dask array or dataframe"),
        (lambda array, X: array.from_array(X[:, :1]), ValueError, "1 features.*fitted to 2"),
    ],
)
def test_scores_in_chunks_need_a_dask_table_like_the_fitted_one(X, fitted, wrong, error, reason):
    array = pytest.importorskip("dask.array")
    with pytest.raises(error, match=reason):
        score_samples_in_chunks(fitted, wrong(array, X))
    with pytest.raises(NotFittedError):
        score_samples_in_chunks(quick(), array.from_array(X))


def test_draws_in_chunks_repeat_and_differ_from_chunk_to_chunk(fitted):
    pytest.importorskip("dask.array")
    samples = sample_in_chunks(fitted, 250, chunk_size=100, random_state=3)
    assert samples.chunks == ((100, 100, 50), (2,)) and samples.dtype == np.float64
    whole = samples.compute()
    np.testing.assert_array_equal(whole, samples.compute(scheduler="threads"))
    np.testing.assert_array_equal(whole[100:], samples[100:].compute())
    again = sample_in_chunks(fitted, 250, chunk_size=100, random_state=3)
    np.testing.assert_array_equal(whole, again.compute())
    other = sample_in_chunks(fitted, 250, chunk_size=100, random_state=4).compute()
    assert len(np.unique(np.concatenate([whole, other]), axis=0)) == 500


def test_draws_in_chunks_follow_the_density(fitted, energy_p_value):
    pytest.importorskip("dask.array")
    chunked = sample_in_chunks(fitted, 400, chunk_size=40, random_state=0).compute()
    whole = fitted.sample(400, random_state=1)
    assert energy_p_value(torch.tensor(chunked), torch.tensor(whole), 0) > 0.01


@pytest.mark.parametrize("wrong", [{"n_samples": 0}, {"chunk_size": 0}, {"random_state": "a"}])
def test_wrong_numbers_of_draws_are_refused(fitted, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        sample_in_chunks(fitted, **({"n_samples": 10} | wrong))


def test_tables_of_categories_draw_no_arrays(X):
    table = TableDensityEstimator(max_epochs=1, random_state=0).fit(X[:50])
    with pytest.raises(TypeError, match="draws data frames"):
        sample_in_chunks(table, 10)


# Files of samples


def test_a_file_of_parts_is_the_table(tmp_path):
    X = bent(1000).astype(np.float32)
    parts = (X[start : start + 300] for start in range(0, 1000, 300))
    mapped = write_samples(parts, tmp_path / "X.npy", dtype="float32")
    assert isinstance(mapped, np.memmap) and not mapped.flags.writeable
    np.testing.assert_array_equal(mapped, X)
    np.testing.assert_array_equal(np.load(tmp_path / "X.npy"), X)


def test_a_file_of_a_dask_table_is_the_table(X, tmp_path):
    array, pandas = pytest.importorskip("dask.array"), pytest.importorskip("pandas")
    frames = pytest.importorskip("dask.dataframe")
    chunked = array.from_array(X, chunks=(700, 1))
    np.testing.assert_array_equal(write_samples(chunked, tmp_path / "a.npy"), X)
    frame = frames.from_pandas(pandas.DataFrame(X), npartitions=3)
    np.testing.assert_array_equal(write_samples(frame, tmp_path / "b.npy"), X)
    unknown = frame.to_dask_array()
    np.testing.assert_array_equal(write_samples(unknown, tmp_path / "c.npy"), X)


def test_a_file_of_parquet_files_is_the_table(X, tmp_path):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    (tmp_path / "parts").mkdir()
    for k in range(3):
        part = pandas.DataFrame(X[1000 * k : 1000 * (k + 1)], columns=["a", "b"])
        part.to_parquet(tmp_path / "parts" / f"{k}.parquet")
    np.testing.assert_array_equal(write_samples(tmp_path / "parts", tmp_path / "X.npy"), X)
    one = write_samples(str(tmp_path / "parts" / "1.parquet"), tmp_path / "one.npy")
    np.testing.assert_array_equal(one, X[1000:2000])


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ([], "no samples"),
        ([np.ones((2, 3)), np.ones((2, 2))], "2 columns, and the first has 3"),
        (np.ones((2, 3)), r"1 dimensions.*\[X\]"),
        ([np.array([["a", "b"]])], "does not hold numbers"),
    ],
)
def test_a_table_that_cannot_be_written_leaves_the_earlier_file(tmp_path, parts, reason):
    earlier = write_samples([np.ones((2, 2))], tmp_path / "X.npy")
    with pytest.raises(ValueError, match=reason):
        write_samples(parts, tmp_path / "X.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "X.npy"), earlier)
    assert os.listdir(tmp_path) == ["X.npy"]
    with pytest.raises(ValueError, match="dtype='int8'"):
        write_samples([np.ones((2, 2))], tmp_path / "X.npy", dtype="int8")


# Fits to tables larger than memory


def test_a_fit_is_the_same_wherever_the_table_is(X, tmp_path):
    density = quick(samples_in_memory=1000).fit(X)
    assert density.network_weights_
    mapped = write_samples([X], tmp_path / "X.npy")
    values = density.score_samples(X[:50])
    again = quick(samples_in_memory=1000).fit(mapped)
    np.testing.assert_array_equal(again.score_samples(X[:50]), values)
    weighted = quick(samples_in_memory=1000).fit(mapped, sample_weight=np.full(len(X), 2.0))
    np.testing.assert_array_equal(weighted.score_samples(X[:50]), values)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_frame_is_read_in_parts_and_keeps_its_names(X, library):
    frames = pytest.importorskip(library)
    frame = frames.DataFrame({"left": X[:, 0], "right": X[:, 1]})
    density = quick(samples_in_memory=1000).fit(frame)
    assert list(density.feature_names_in_) == ["left", "right"]
    values = quick(samples_in_memory=1000).fit(X).score_samples(X[:50])
    np.testing.assert_allclose(density.score_samples(frame[:50]), values, atol=1e-9)


def test_a_table_that_memory_holds_is_fitted_as_a_whole(X, fitted):
    again = quick(samples_in_memory=len(X)).fit(X)
    np.testing.assert_array_equal(again.score_samples(X), fitted.score_samples(X))
    doubled = np.concatenate([X, X])
    weight = np.repeat([1.0, 0.0], len(X))
    again = quick(samples_in_memory=len(X)).fit(doubled, sample_weight=weight)
    np.testing.assert_array_equal(again.score_samples(X), fitted.score_samples(X))


def test_a_network_learns_from_samples_that_are_never_in_memory_together():
    """Sorted samples, few of them in memory: the network has to see all of the table."""
    X, fresh = bent(20_000), bent(1000, seed=1)
    X = X[np.argsort(X[:, 0])]
    options = {"max_epochs": 10, "hidden_layer_sizes": (64, 64)}
    density = quick(samples_in_memory=3000, **options).fit(X)
    assert density.network_weights_
    assert density.score(fresh) > density.validation_log_likelihood_["reference"] + 0.1


IDENTITY = linear_map(np.zeros(2), np.ones(2))


def numbered(n):
    """Samples that say where they stand."""
    return np.column_stack([np.arange(n), np.arange(n) % 7]).astype(float)


def test_epochs_see_every_place_and_no_validation_sample(generator):
    n, size, random = 40_017, 4 * MIN_PLACES, generator(0)
    stream = Stream(quick(), numbered(n), None, size)
    rows, weight = stream.keep(np.random.RandomState(0))
    assert rows.shape == (size, 2) and (weight == 1).all()
    assert (np.diff(rows[:, 0]) > 0).all() and np.ptp(rows[:, 0]) > 0.9 * n
    held_out = np.arange(size) % 2 == 0
    stream.leave_out(held_out)
    epochs = [stream.draw(IDENTITY, random).rows[:, 0].numpy() for _ in range(60)]
    for seen in epochs:
        assert (np.diff(seen) > 1).sum() > 0.7 * MIN_PLACES
        assert size - held_out.sum() <= len(seen) <= size
        assert len(np.unique(seen)) == len(seen)
        assert not np.isin(seen, rows[held_out, 0]).any()
    assert len(np.unique(np.concatenate(epochs))) > 0.99 * (n - held_out.sum())


def test_an_epoch_weighs_samples_as_the_table_does(generator):
    n, size = 10_000, 4 * MIN_PLACES
    weight = np.random.default_rng(0).integers(3, size=n).astype(float)
    stream = stream_of(quick(), numbered(n), weight, size)
    rows, kept = stream.keep(np.random.RandomState(0))
    positive = weight[weight > 0]
    np.testing.assert_allclose(kept, weight[rows[:, 0].astype(int)] / positive.mean())
    drawn = stream.draw(IDENTITY, generator(0))
    np.testing.assert_allclose(
        drawn.weight, weight[drawn.rows[:, 0].long()] / positive.mean(), rtol=1e-6
    )
    assert (drawn.weight > 0).all()


class Watched(np.ndarray):
    """An array that remembers how many of its samples were read at once."""

    largest = 0

    def __getitem__(self, key):
        found = np.asarray(self).__getitem__(key)
        Watched.largest = max(Watched.largest, len(found))
        return found


@pytest.mark.filterwarnings("ignore:No network was trained")
def test_memory_holds_so_many_samples_and_not_the_table(tmp_path):
    n, d = 400_000, 8
    random = np.random.default_rng(0)
    parts = (random.normal(size=(50_000, d)) for _ in range(n // 50_000))
    mapped = write_samples(parts, tmp_path / "X.npy", dtype="float32")
    watched = mapped.view(Watched)
    density = quick(samples_in_memory=5000, max_epochs=1, hidden_layer_sizes=(8,))
    tracemalloc.start()
    density.fit(watched)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 0 < Watched.largest <= PART_ROWS
    assert peak < 0.5 * n * d * 8


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda X: X.__setitem__((70_000, 1), np.nan), "contains NaN: column 1"),
        (lambda X: X.__setitem__((slice(None), 1), 5.0), "one value only"),
        (lambda X: X.__setitem__((70_000, 0), 1e200), "overflow"),
        (
            lambda X: (X.__setitem__((slice(None), 1), 0.0), X.__setitem__((70_000, 1), 1.0)),
            "random samples that fit holds in memory.*raise samples_in_memory",
        ),
    ],
)
def test_every_sample_is_checked(spoil, reason):
    X = bent(80_000)
    spoil(X)
    with pytest.raises(ValueError, match=reason):
        quick(samples_in_memory=500).fit(X)


def test_dask_tables_are_to_be_written_first(X):
    array = pytest.importorskip("dask.array")
    with pytest.raises(TypeError, match="write_samples"):
        quick(samples_in_memory=500).fit(array.from_array(X))


def test_a_streamed_fit_that_was_killed_goes_on_as_it_would_have(X, tmp_path, monkeypatch):
    pytest.importorskip("safetensors")
    whole = quick(samples_in_memory=1000, max_epochs=6).fit(X)
    options = {"checkpoint": tmp_path / "fit", "checkpoint_interval": 0.0}
    density = quick(samples_in_memory=1000, max_epochs=6, **options)
    draw, calls = Stream.draw, []

    def killed(self, *args):
        calls.append(args)
        if len(calls) == 4:
            raise MemoryError
        return draw(self, *args)

    monkeypatch.setattr(Stream, "draw", killed)
    with pytest.raises(MemoryError):
        density.fit(X)
    np.testing.assert_array_equal(density.fit(X).score_samples(X[:50]), whole.score_samples(X[:50]))
    assert len(calls) == 4 + 3


def test_folds_and_pickles_of_streamed_fits(X):
    density = quick(samples_in_memory=500, max_epochs=1)
    assert np.isfinite(cross_val_score(density, X, cv=2)).all()
    density.fit(X)
    again = pickle.loads(pickle.dumps(density))
    np.testing.assert_array_equal(again.score_samples(X[:9]), density.score_samples(X[:9]))
    assert len(pickle.dumps(density)) < 100_000


def test_a_warm_start_streams_as_well(X):
    density = quick(samples_in_memory=1000, warm_start=True).fit(X)
    before = density.validation_scores_[-1]
    density.fit(X)
    assert density.n_epochs_ == 4 and density.validation_scores_[-1] > before - 0.05
