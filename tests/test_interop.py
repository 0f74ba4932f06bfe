"""The estimator inside scikit-learn's tools, with other libraries' tables and formats."""

import os
import pickle
import re
import subprocess
import sys
from contextlib import nullcontext
from importlib.util import find_spec

import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.fixes import parse_version

from sklearn_dsm import VP, DSMDensityEstimator
from sklearn_dsm._evaluation.latent_density import LatentDensity
from sklearn_dsm._search.mixture_search import MixtureSearch

pytestmark = pytest.mark.filterwarnings(
    "ignore:No network was trained:sklearn.exceptions.ConvergenceWarning"
)

needs_callbacks = pytest.mark.skipif(
    find_spec("sklearn.callback") is None, reason="scikit-learn 1.9 brings callbacks"
)


def quick(**params):
    common = {
        "reference": "gaussian",
        "marginals": "standardize",
        "hidden_layer_sizes": (64, 64),
        "max_epochs": 4,
        "batch_size": 64,
        "learning_rate": 0.01,
        "random_state": 0,
    }
    return DSMDensityEstimator(**(common | params))


@pytest.fixture(scope="module")
def X():
    random = np.random.RandomState(0)
    side = np.where(random.rand(150, 1) < 0.5, -1.0, 1.0)
    return 0.5 * random.standard_normal((150, 2)) + side * [1.0, -2.0]


@pytest.fixture(scope="module")
def fitted(X):
    density = quick().fit(X)
    assert density.network_weights_
    return density


# Searches and pipelines


def test_grid_search_over_a_process(X):
    density = quick(process=VP(), max_epochs=2)
    search = GridSearchCV(density, {"process__beta_max": [1.0, 20.0]}, cv=2)
    search.fit(X)
    assert density.process.beta_max == 20.0
    assert search.best_params_["process__beta_max"] in (1.0, 20.0)
    assert search.best_estimator_.process_.beta_max == search.best_params_["process__beta_max"]
    assert np.ptp(search.cv_results_["mean_test_score"]) > 0
    assert search.score(X) == pytest.approx(search.best_estimator_.score_samples(X).mean())


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_parallel_folds_give_the_same_scores(X, backend):
    import joblib

    density = quick(max_epochs=2)
    alone = cross_val_score(density, X, cv=2, n_jobs=1)
    with joblib.parallel_config(backend=backend):
        together = cross_val_score(density, X, cv=2, n_jobs=2)
    np.testing.assert_allclose(together, alone, rtol=1e-6)


def test_a_frozen_mixture_is_a_reference_that_clones_keep(X):
    mixture = GaussianMixture(2, random_state=0).fit(X)
    frozen, plain = (quick(max_epochs=1, reference=r) for r in (FrozenEstimator(mixture), mixture))
    np.testing.assert_array_equal(frozen.fit(X).score_samples(X), plain.fit(X).score_samples(X))
    assert np.isfinite(cross_val_score(frozen, X, cv=2)).all()
    with pytest.raises(NotFittedError, match="FrozenEstimator"):
        clone(plain).fit(X)
    with pytest.raises(ValueError, match="must be a GaussianMixture"):
        quick(reference=FrozenEstimator(StandardScaler().fit(X))).fit(X)


def test_pipeline(X):
    pipeline = make_pipeline(StandardScaler(), quick()).fit(X)
    scaler, density = pipeline[0], pipeline[-1]
    np.testing.assert_array_equal(
        pipeline.score_samples(X), density.score_samples(scaler.transform(X))
    )
    assert pipeline.score(X) == pytest.approx(density.score(scaler.transform(X)))
    search = GridSearchCV(pipeline, {"dsmdensityestimator__likelihood": ["ode", "identity"]}, cv=2)
    assert np.isfinite(search.fit(X).best_score_)


def test_params_and_repr_survive_clone():
    density = quick(process=VP(beta_max=7.0), marginals=None)
    assert repr(clone(density)) == repr(density)
    assert clone(density).process is not density.process
    assert density.get_params()["process__beta_max"] == 7.0


# Tables


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_data_frames(X, fitted, library):
    frames = pytest.importorskip(library)
    frame = frames.DataFrame({"left": X[:, 0], "right": X[:, 1]})
    density = quick().fit(frame)
    if library == "polars" and parse_version(sklearn.__version__) < parse_version("1.7"):
        pytest.skip("only pandas' columns have names before scikit-learn 1.7")
    assert list(density.feature_names_in_) == ["left", "right"]
    values = density.score_samples(frame)
    assert type(values) is np.ndarray
    np.testing.assert_array_equal(values, fitted.score_samples(X))
    assert type(density.sample(3, random_state=0)) is np.ndarray
    for call in (density.score_samples, density.score, density.stein_score):
        with pytest.raises(ValueError, match="feature names should match"):
            call(frame[["right", "left"]])
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        density.score_samples(X)


@pytest.mark.parametrize(
    "convert",
    [
        np.asfortranarray,
        lambda X: X.tolist(),
        lambda X: np.repeat(X, 2, axis=0)[::2],
        lambda X: X.astype(">f8"),
        lambda X: np.lib.stride_tricks.as_strided(X, X.shape, X.strides, writeable=False),
    ],
    ids=["fortran", "list", "strided", "big-endian", "read-only"],
)
def test_layout_of_the_input(X, fitted, convert):
    same = convert(X.copy())
    density = quick().fit(same)
    np.testing.assert_allclose(
        density.score_samples(same), fitted.score_samples(X), rtol=0, atol=1e-4
    )
    np.testing.assert_allclose(
        fitted.score_samples(same), fitted.score_samples(X), rtol=0, atol=1e-9
    )
    np.testing.assert_allclose(fitted.stein_score(same), fitted.stein_score(X), rtol=0, atol=1e-7)


def test_single_precision_input(X):
    """The same numbers, whatever their precision."""
    rows = X.astype(np.float32)
    same = rows.astype(np.float64)
    density = quick().fit(rows)
    values = density.score_samples(rows)
    assert values.dtype == np.float64
    assert density.sample(2).dtype == density.stein_score(rows).dtype == np.float64
    np.testing.assert_array_equal(values, quick().fit(same).score_samples(same))


def test_integer_input():
    X = np.random.RandomState(0).poisson(20, size=(100, 2))
    density = quick().fit(X)
    np.testing.assert_array_equal(density.score_samples(X), density.score_samples(X.astype(float)))


def test_input_is_not_changed(X):
    rows, weight = X.copy(), np.random.RandomState(0).uniform(0.1, 3, len(X))
    before = weight.copy()
    density = quick().fit(rows, sample_weight=weight)
    density.score_samples(rows), density.stein_score(rows)
    np.testing.assert_array_equal(rows, X)
    np.testing.assert_array_equal(weight, before)


# Callbacks


class Recorder:
    def __init__(self, stop_after=None, interrupt_after=None):
        self.stop_after, self.interrupt_after = stop_after, interrupt_after
        self.begun, self.ended, self.scores, self.events = [], [], [], []

    def setup(self, estimator, context):
        self.events.append("setup")

    def teardown(self, estimator, context):
        self.events.append("teardown")

    def on_fit_task_begin(self, estimator, context):
        self.begun.append((context.task_name, context.task_id))

    def on_fit_task_end(self, estimator, context, *, X=None, metadata=None, fitted_estimator=None):
        self.ended.append((context.task_name, context.task_id))
        if context.task_name != "epoch":
            return None
        assert metadata["sample_weight"].shape == (len(X),)
        self.scores.append(fitted_estimator.score(X))
        n_epochs = fitted_estimator.n_epochs_
        assert len(fitted_estimator.loss_curve_) == n_epochs
        assert len(fitted_estimator.validation_scores_) == n_epochs
        if self.interrupt_after == n_epochs:
            raise KeyboardInterrupt
        return self.stop_after == n_epochs

    @property
    def n_epochs(self):
        return sum(name == "epoch" for name, _ in self.ended)


@needs_callbacks
def test_callback_sees_a_task_for_every_epoch(X, fitted):
    recorder = Recorder()
    density = quick().set_callbacks(recorder).fit(X)
    epochs = [("epoch", i) for i in range(4)]
    assert recorder.begun == [("fit", 0), *epochs]
    assert recorder.ended == [*epochs, ("fit", 0)]
    assert recorder.events == ["setup", "teardown"]
    assert len(recorder.scores) == density.n_epochs_ == 4
    np.testing.assert_array_equal(density.score_samples(X), fitted.score_samples(X))
    # The steps of the ODE are chosen after the last epoch.
    assert recorder.scores[-1] == pytest.approx(density.score(X), abs=density.tolerance)
    assert recorder.scores[-1] >= recorder.scores[0]


@needs_callbacks
def test_callback_sees_the_last_epoch_of_a_fit_that_gains_no_more(X):
    recorder = Recorder()
    density = quick(max_epochs=200, n_iter_no_change=2).set_callbacks(recorder).fit(X)
    assert density.stop_reason_ == "no_change"
    assert recorder.n_epochs == density.n_epochs_ < 200


@needs_callbacks
def test_callbacks_end_where_a_fit_fails(X):
    recorder = Recorder()
    with pytest.raises(FloatingPointError):
        quick(learning_rate=1e30).set_callbacks(recorder).fit(X)
    assert recorder.events == ["setup", "teardown"]


@needs_callbacks
def test_callback_stops_the_fit(X):
    recorder = Recorder(stop_after=2)
    density = quick().set_callbacks(recorder).fit(X)
    assert recorder.n_epochs == 2
    assert density.stop_reason_ == "callback" and density.n_epochs_ == 2
    assert np.isfinite(density.score_samples(X)).all()


@needs_callbacks
def test_interrupt_keeps_the_best_weights(X):
    recorder = Recorder(interrupt_after=3)
    density = quick(max_epochs=50).set_callbacks(recorder)
    with pytest.raises(KeyboardInterrupt, match=r"interrupted after 3 epochs.*fit again"):
        density.fit(X)
    assert recorder.n_epochs == 3
    assert density.stop_reason_ == "interrupted" and density.n_epochs_ == 3
    assert density.network_weights_
    assert len(density.loss_curve_) == len(density.validation_scores_) == 3
    assert density.sample(2).shape == (2, 2)
    assert density.score(X) > quick(max_fit_time=1e-9).fit(X).score(X)


def interrupted(*args, **kwargs):
    raise KeyboardInterrupt


@pytest.mark.parametrize("reference", ["gaussian", None])
def test_an_interrupt_after_training_keeps_what_it_learned(X, monkeypatch, reference):
    monkeypatch.setattr(LatentDensity, "calibrated", interrupted)
    density = quick(reference=reference)
    with pytest.raises(KeyboardInterrupt, match="after 4 epochs"):
        density.fit(X)
    assert density.network_weights_ and density.stop_reason_ == "interrupted"
    assert np.isfinite(density.score(X))


def test_an_interrupt_of_the_last_fit_keeps_the_reference(X, monkeypatch):
    options = {"reference": "gmm", "max_fit_time": 60.0, "max_epochs": 1, "learning_rate": 1e-9}
    whole, density = quick(**options).fit(X), quick(**options)
    assert not whole.network_weights_
    monkeypatch.setattr(MixtureSearch, "_continued", interrupted)
    with pytest.raises(KeyboardInterrupt, match="after 1 epochs"):
        density.fit(X)
    assert density.stop_reason_ == "interrupted"
    assert density.score(X) == pytest.approx(whole.score(X), abs=0.2)


@needs_callbacks
@pytest.mark.parametrize("when", ["in training", "in teaching", "in the head's training"])
def test_an_interrupt_before_a_head_is_taught_leaves_the_ode(X, monkeypatch, when):
    density = quick(likelihood="fast")
    if when == "in training":
        density.set_callbacks(Recorder(interrupt_after=2))
    late = when == "in the head's training"
    place = "_training.amortised.nn.functional.huber_loss" if late else "density._dsm.distil"
    monkeypatch.setattr(f"sklearn_dsm.{place}", interrupted)
    with pytest.raises(KeyboardInterrupt, match="fit again"):
        density.fit(X)
    assert density.stop_reason_ == "interrupted" and density.head_ is None
    by_ode = clone(density).set_params(likelihood="ode")
    vars(by_ode).update({name: value for name, value in vars(density).items() if name[-1] == "_"})
    np.testing.assert_array_equal(density.score_samples(X), by_ode.score_samples(X))


@needs_callbacks
def test_callbacks_score_by_the_ode_until_a_head_is_taught(X, monkeypatch):
    """Also in a second fit, when there is a head of the first."""
    recorder = Recorder()
    density = quick(likelihood="fast", max_epochs=2).set_callbacks(recorder).fit(X)
    head = density.head_
    assert head
    monkeypatch.setattr("sklearn_dsm.density._dsm.distil", lambda *args: (head, 0.1))
    density.fit(X)
    assert len(recorder.scores) == 4 and np.isfinite(recorder.scores).all()
    assert recorder.scores[:2] == recorder.scores[2:]


@needs_callbacks
@pytest.mark.parametrize("how", ["stop_after", "interrupt_after"])
def test_a_stop_is_a_stop_for_every_reference(how):
    """reference="auto" trains twice; whoever stops the first run wants no second one."""
    angle = np.random.RandomState(0).randint(7, size=(300, 1)) * np.pi / 3.5
    X = np.column_stack([np.cos(angle), np.sin(angle)])
    X += 0.05 * np.random.RandomState(1).standard_normal(X.shape)
    recorder = Recorder(**{how: 1})
    density = quick(reference="auto", learning_rate=1e-4)
    with nullcontext() if how == "stop_after" else pytest.raises(KeyboardInterrupt):
        density.set_callbacks(recorder).fit(X)
    assert recorder.n_epochs == 1
    assert density.stop_reason_ == {"stop_after": "callback"}.get(how, "interrupted")


@needs_callbacks
def test_progress_bar(X, capsys):
    from sklearn import callback

    quick().set_callbacks(callback.ProgressBar()).fit(X)
    assert "DSMDensityEstimator - fit" in capsys.readouterr().out
    search = GridSearchCV(quick(), {"learning_rate": [0.01, 0.02]}, cv=2)
    search.set_callbacks(callback.ProgressBar()).fit(X)
    assert "GridSearchCV - fit" in capsys.readouterr().out


@needs_callbacks
def test_scoring_monitor(X):
    from sklearn import callback

    monitor = callback.ScoringMonitor(scoring=None)
    quick().set_callbacks(monitor).fit(X, np.zeros(len(X)))
    tasks = [row for row in monitor.get_logs().data if row["task_name"] == "epoch"]
    assert len(tasks) == 4


def test_verbose(X, capsys):
    quick().fit(X)
    assert capsys.readouterr().out == ""
    quick(verbose=4).fit(X)
    lines = capsys.readouterr().out.splitlines()
    epochs = [line for line in lines if not line.startswith("[")]
    assert len(epochs) == 4
    assert all(re.match(r"epoch +\d+ +loss +\S+ +held-out gain +\S+ +best", x) for x in epochs)


def test_verbose_tells_of_every_stage_of_a_short_fit(X, capsys):
    quick(reference="auto", verbose=1).fit(X)
    lines = capsys.readouterr().out.splitlines()
    wanted = ["training and", "best base density", "network: 4 epochs", "selected: "]
    told = [word for line in lines for word in wanted if re.match(rf"\[ +\d\S* s\].*{word}", line)]
    assert [word for k, word in enumerate(told) if word not in told[:k]] == wanted


# Files


def test_pickle_is_small(X):
    fitted = quick(hidden_layer_sizes=(16, 16), max_epochs=15).fit(X)
    assert fitted.network_weights_
    assert len(pickle.dumps(fitted)) < 60_000
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.score_samples(X), fitted.score_samples(X))
    np.testing.assert_array_equal(again.sample(5, random_state=1), fitted.sample(5, random_state=1))


@pytest.mark.parametrize("process", ["vp", VP(beta_max=5.0)], ids=str)
def test_skops(X, process):
    skops = pytest.importorskip("skops.io")
    fitted = quick(process=process, reference="gmm").fit(X)
    data = skops.dumps(fitted)
    untrusted = skops.get_untrusted_types(data=data)
    assert all(name.startswith("sklearn_dsm.") for name in untrusted), untrusted
    again = skops.loads(data, trusted=untrusted)
    np.testing.assert_array_equal(again.score_samples(X), fitted.score_samples(X))
    np.testing.assert_array_equal(again.stein_score(X), fitted.stein_score(X))


FORKING = """
import multiprocessing
import numpy as np
import torch
from sklearn.base import clone
from sklearn_dsm import DSMDensityEstimator

torch.set_num_threads(2)
X = np.random.default_rng(0).normal(size=(2000, 8))
density = DSMDensityEstimator(max_epochs=1, reference="gaussian", random_state=0).fit(X)
expected = density.score_samples(X)


def work(seed):
    values = density.score_samples(X)
    density.sample(100, random_state=seed)
    return float(abs(values - expected).max()), clone(density).fit(X).score(X)


with multiprocessing.get_context("fork").Pool(2) as pool:
    found = pool.map_async(work, range(2)).get(timeout=60)
assert max(gap for gap, _ in found) < 1e-6, found
assert np.allclose([score for _, score in found], density.score(X), atol=1e-2), found
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot be forked here")
def test_forked_processes_score_and_fit():
    """Threads of OpenMP do not survive a fork, and nobody waits for them."""
    subprocess.run([sys.executable, "-c", FORKING], check=True, timeout=120)
