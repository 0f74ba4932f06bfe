"""Fitted estimators of every kind through files and back: pickle, joblib, skops and io."""

import functools
import io as streams
import os
import pickle
import stat
import subprocess
import sys
import warnings
from collections import namedtuple
from unittest import mock

import joblib
import numpy as np
import pytest
import sklearn
import torch
from sklearn.base import BaseEstimator
from sklearn.exceptions import InconsistentVersionWarning, NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.mixture import GaussianMixture
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import sklearn_dsm
from sklearn_dsm import (
    BSM,
    VE,
    AnnealedSampler,
    DensityScoreEstimator,
    DiffusionSampler,
    DSMDensityEstimator,
    DSMOutlierDetector,
    DSMRegressor,
    ExponentialFamilyEstimator,
    GMMScoreEstimator,
    KernelExponentialFamily,
    KernelScoreEstimator,
    LocationMixtureScoreEstimator,
    PairwiseScoreMatching,
    RegularizedScoreMatching,
    RegularizedScoreMatchingCV,
    ScoreCausalDiscovery,
    SteinScoreEstimator,
    TableDensityEstimator,
    TiltedSampler,
    io,
)
from sklearn_dsm._files import archive
from sklearn_dsm._files.encoding import FileError, Vocabulary, decode, encode
from sklearn_dsm.io import VOCABULARY
from sklearn_dsm.sampling import PredictedLogWeight

pytest.importorskip("safetensors")
pytestmark = pytest.mark.filterwarnings("ignore")

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(120, 2)) + np.repeat([[0.0], [3.0]], 60, axis=0)
Y = X[:, 0] + 0.3 * RANDOM.normal(size=120)


def frame(library="pandas"):
    frames = pytest.importorskip(library)
    found = {"a": X[:, 0], "b": np.where(X[:, 1] > 1, "u", "v"), "c": np.round(X[:, 1] * 3)}
    table = frames.DataFrame(found)
    if library == "polars":
        return table.with_columns(frames.col("b").cast(frames.Categorical))
    table.loc[3, "a"] = np.nan
    table["d"] = frames.Categorical(np.where(X[:, 0] > 2, "s", "t"), ["t", "s"], ordered=True)
    return table.astype({"c": "Int64"})


def squared(X):
    return -0.5 * (X**2).sum(1)


def gradient(X):
    return -X


def dsm(**params):
    common = {"reference": "gaussian", "hidden_layer_sizes": (16, 16), "max_epochs": 2}
    return DSMDensityEstimator(**({"random_state": 0, "batch_size": 64} | common | params))


def table(**params):
    return TableDensityEstimator(max_epochs=1, random_state=0, **params)


def regressor(**params):
    return DSMRegressor(**({"max_iter": 5, "max_epochs": 2, "random_state": 0} | params))


def fast():
    # What a head learns from takes the time.
    with mock.patch("sklearn_dsm.density._distillation.MAX_ROWS", 100):
        return dsm(reference=None, likelihood="fast").fit(X)


def mixture():
    return GMMScoreEstimator(2, random_state=0).fit(X)


def predicted():
    return PredictedLogWeight(LogisticRegression().fit(X, Y > 1), label=True)


IDENTITY = {"likelihood": "identity"}
FITS = {
    "dsm": lambda: dsm(reference="auto", device="cpu").fit(X),
    "dsm with a network alone": lambda: dsm(
        reference=None, process=VE(), loss=BSM(), **IDENTITY
    ).fit(X),
    "dsm, fast": fast,
    "dsm of a frozen mixture": lambda: dsm(
        reference=FrozenEstimator(GaussianMixture(2, random_state=0).fit(X))
    ).fit(X),
    "dsm of a density": lambda: dsm(reference=mixture()).fit(X),
    "kernel": lambda: KernelScoreEstimator().fit(X),
    "kernel with a support": lambda: KernelScoreEstimator(support=[(-9, None), None]).fit(X),
    "table of pandas": lambda: table().fit(frame()),
    "table of polars": lambda: table().fit(frame("polars")),
    "table of an array": lambda: table().fit(X),
    "regressor": lambda: regressor().fit(X, Y),
    "regressor of a frame": lambda: regressor(reference="gaussian").fit(frame(), Y),
    "regressor of two": lambda: regressor(y_bounds=[(-9, 9), (None, None)]).fit(
        X, np.column_stack([Y, X[:, 1] - 0.2 * Y**2])
    ),
    "regressor of counts": lambda: regressor(y_step=1, max_epochs=0).fit(X, np.round(3 * Y)),
    "outliers": lambda: DSMOutlierDetector(criterion="blend", max_fit_time=0.5, random_state=0).fit(
        X
    ),
    "mixture": mixture,
    "location mixture": lambda: LocationMixtureScoreEstimator(
        scale=0.5, n_levels=4, n_noise=1, random_state=0
    ).fit(X),
    "exponential family": lambda: ExponentialFamilyEstimator().fit(X),
    "pairwise": lambda: PairwiseScoreMatching().fit(X),
    "regularized": lambda: RegularizedScoreMatching().fit(X),
    "regularized, cv": lambda: RegularizedScoreMatchingCV().fit(X),
    "stein": lambda: SteinScoreEstimator().fit(X),
    "kernel family": lambda: KernelExponentialFamily().fit(X),
    "density scores": lambda: DensityScoreEstimator(mixture()).fit(X),
    "causal": lambda: ScoreCausalDiscovery(KernelExponentialFamily()).fit(X),
    "annealed": lambda: AnnealedSampler(
        squared, n_features=2, n_particles=200, random_state=0
    ).fit(),
    "diffusion": lambda: DiffusionSampler(
        squared, grad_log_density=gradient, n_features=2, max_iter=3, random_state=0
    ).fit(),
    "tilted": lambda: TiltedSampler(
        mixture(), predicted(), hidden_layer_sizes=(8, 8), random_state=0, max_fit_time=0.5
    ).fit(),
}
FUNCTIONS = {"log_density": squared, "grad_log_density": gradient}


@functools.cache
def pickled(name):
    return pickle.dumps(FITS[name]())


@pytest.fixture(params=FITS)
def fitted(request):
    return pickle.loads(pickled(request.param))


@pytest.fixture
def density():
    return pickle.loads(pickled("dsm with a network alone"))


def without_functions(estimator):
    """What goes into files without code, and the functions that it had."""
    params = estimator.get_params(deep=False)
    removed = {name: params[name] for name in FUNCTIONS if callable(params.get(name))}
    return estimator.set_params(**dict.fromkeys(removed)), removed


def rows(estimator):
    """Samples that an estimator can be asked about."""
    if "feature_names_in_" not in vars(estimator):
        return X[:20]
    library = getattr(getattr(estimator, "_schema", None), "kind", None)
    return frame(library.library if library else "pandas")[:20]


ASKED = ("score_samples", "stein_score", "predict")


def answers(estimator):
    """What an estimator says, and what a fit has stored in public, as arrays or frames."""
    asked = rows(estimator)
    if isinstance(estimator, DSMRegressor):
        y = np.round(Y[:20]) if estimator.n_targets_ == 1 else np.column_stack([Y, Y])[:20]
        found = [estimator.predict(asked), estimator.score_samples(asked, y)]
        return [*found, estimator.sample(asked, n_samples=3, random_state=0)]
    found = [getattr(estimator, name)(asked) for name in ASKED if callable_(estimator, name)]
    if callable_(estimator, "sample"):
        found.append(estimator.sample(10, random_state=0))
    stored = (value for name, value in sorted(vars(estimator).items()) if name.endswith("_"))
    return [*found, *(value for value in stored if isinstance(value, np.ndarray | float | str))]


def callable_(estimator, name):
    # Its scores are known at the samples of the fit alone, and are among the attributes.
    return hasattr(estimator, name) and not isinstance(estimator, SteinScoreEstimator)


def assert_same(estimator, other):
    assert type(estimator) is type(other)
    pairs = list(zip(answers(estimator), answers(other), strict=True))
    assert pairs
    for mine, its in pairs:
        if hasattr(mine, "equals"):
            assert mine.equals(its)
            assert list(mine.dtypes) == list(its.dtypes)
        else:
            np.testing.assert_array_equal(mine, its)


def test_every_estimator_is_here():
    kinds = {type(pickle.loads(pickled(name))) for name in FITS}
    public = (getattr(sklearn_dsm, name) for name in sklearn_dsm.__all__)
    fitted = {kind for kind in public if isinstance(kind, type) and hasattr(kind, "fit")}
    assert kinds == fitted == set(io.ESTIMATORS)


# Ways


def test_pickle(fitted):
    # The fixture has been through it once.
    assert_same(fitted, pickle.loads(pickle.dumps(fitted, protocol=5)))


def test_joblib(fitted, tmp_path):
    joblib.dump(fitted, tmp_path / "estimator")
    assert_same(fitted, joblib.load(tmp_path / "estimator", mmap_mode="r"))
    stream = streams.BytesIO()
    joblib.dump(fitted, stream, compress=3)
    stream.seek(0)
    assert_same(fitted, joblib.load(stream))


# Of scikit-learn's boosting and network, which skops does not trust either.
OF_SCIKIT_LEARN = {
    "functools.partial",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.utils.validation.check_array",
}


def test_skops(fitted):
    skops = pytest.importorskip("skops.io")
    estimator, functions = without_functions(fitted)
    data = skops.dumps(estimator)
    untrusted = skops.get_untrusted_types(data=data)
    own = {name for name in untrusted if name.startswith("sklearn_dsm.")}
    others = OF_SCIKIT_LEARN if isinstance(fitted, DSMRegressor) else set()
    assert set(untrusted) - own <= others
    again = skops.loads(data, trusted=untrusted)
    assert_same(estimator.set_params(**functions), again.set_params(**functions))
    for name in own:
        module, _, kind = name.rpartition(".")
        for each in getattr(sys.modules[module], kind).__mro__:
            if each.__module__.startswith("sklearn_dsm."):
                assert not {"__reduce__", "__reduce_ex__", "__setstate__"} & set(vars(each)), each


def test_save_and_load(fitted, tmp_path):
    estimator, functions = without_functions(fitted)
    before = pickle.dumps(estimator)
    io.save(estimator, tmp_path / "estimator.safetensors")
    assert pickle.dumps(estimator) == before
    again = io.load(tmp_path / "estimator.safetensors")
    assert repr(again) == repr(estimator)
    assert vars(again).keys() == vars(estimator).keys()
    assert_same(estimator.set_params(**functions), again.set_params(**functions))
    # What was loaded belongs to nobody else, and can be saved as well.
    again, _ = without_functions(again)
    io.save(again, tmp_path / "again.safetensors")
    one, other = (
        (tmp_path / f"{name}.safetensors").read_bytes() for name in ("estimator", "again")
    )
    assert len(one) == len(other)


LOADING = """
import sys
import numpy as np
from sklearn_dsm import io

density = io.load(sys.argv[1])
values = density.score_samples(np.load(sys.argv[2]))
assert "pickle" not in sys.argv and np.array_equal(values, np.load(sys.argv[3]))
"""


def test_another_process_gives_the_same(density, tmp_path):
    names = [str(tmp_path / name) for name in ("d.safetensors", "x.npy", "v.npy")]
    io.save(density, names[0])
    np.save(names[1], X)
    np.save(names[2], density.score_samples(X))
    run = [sys.executable, "-c", LOADING, *names]
    subprocess.run(run, check=True, timeout=120, env=os.environ | {"OMP_NUM_THREADS": "1"})


# What cannot be saved


def test_functions_cannot_be_saved_and_the_error_says_what_to_do(tmp_path):
    sampler = pickle.loads(pickled("annealed"))
    with pytest.raises(TypeError, match=r"AnnealedSampler\.log_density is <function.*set_params"):
        io.save(sampler, tmp_path / "sampler")
    assert not list(tmp_path.iterdir())


def test_other_estimators_cannot_be_saved(density, tmp_path):
    pipeline = make_pipeline(StandardScaler(), density)
    for other in (pipeline, GaussianMixture(), X, type("Mine", (DSMDensityEstimator,), {})()):
        with pytest.raises(TypeError, match=r"(?s)fitted estimators of sklearn_dsm.*one by one"):
            io.save(other, tmp_path / "other")
    with pytest.raises(NotFittedError):
        io.save(dsm(), tmp_path / "other")


class Foreign(BaseEstimator):
    """Of nobody that files know."""


def test_foreign_objects_in_an_estimator_cannot_be_saved(density, tmp_path):
    density.reference_ = {"deep": [Foreign()]}
    with pytest.raises(TypeError, match=r"DSMDensityEstimator\.reference_\['deep'\]\[0\] is of"):
        io.save(density, tmp_path / "other")


def test_callbacks_are_taken_away_before_saving(tmp_path):
    callback = pytest.importorskip("sklearn.callback")
    estimator = dsm(max_epochs=1).set_callbacks(callback.ScoringMonitor(scoring=None)).fit(X)
    with pytest.raises(TypeError, match=r"callbacks\[0\] is of the type sklearn\.callback"):
        io.save(estimator, tmp_path / "density")
    io.save(estimator.set_callbacks(), tmp_path / "density")
    assert_same(io.load(tmp_path / "density"), estimator)


def test_requests_of_metadata_are_saved(tmp_path):
    with sklearn.config_context(enable_metadata_routing=True):
        density = dsm(max_epochs=1).set_fit_request(sample_weight=True).fit(X)
        io.save(density, tmp_path / "density")
        again = io.load(tmp_path / "density")
        assert repr(again.get_metadata_routing()) == repr(density.get_metadata_routing())
    assert_same(again, density)


# Files


def test_a_failed_save_leaves_the_earlier_file(density, tmp_path, monkeypatch):
    path = tmp_path / "density.safetensors"
    io.save(density, path)
    before = path.read_bytes()

    def full(descriptor):
        raise OSError("No space left on device")

    for change in (lambda: setattr(density, "loss", Foreign()), None):
        if change:
            change()
            expected = TypeError
        else:
            density.loss = "dsm"
            monkeypatch.setattr(os, "fsync", full)
            expected = OSError
        with pytest.raises(expected):
            io.save(density, path)
        assert path.read_bytes() == before
        assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name != "posix", reason="needs links and modes of files")
def test_files_have_usual_modes_and_links_stay(density, tmp_path):
    plain, path, link = tmp_path / "plain", tmp_path / "density", tmp_path / "link"
    plain.touch()
    link.symlink_to(path)
    io.save(density, link)
    assert link.is_symlink() and path.exists()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        io.load(tmp_path / "nothing")


def test_every_cut_or_changed_file_is_refused(density, tmp_path):
    path = tmp_path / "density"
    io.save(density, path)
    data = path.read_bytes()
    random = np.random.RandomState(0)
    for length in [0, 1, 7, 8, 9, 100, *random.randint(len(data), size=20), len(data) - 1]:
        path.write_bytes(data[:length])
        with pytest.raises(ValueError, match=r"cannot be read: .*save it again"):
            io.load(path)
    for place in [0, 9, *random.randint(len(data), size=60), len(data) - 1]:
        changed = bytearray(data)
        changed[place] ^= 1 << random.randint(8)
        path.write_bytes(changed)
        with pytest.raises(ValueError, match="cannot be read"):
            io.load(path)


def test_other_files_are_refused(density, tmp_path):
    from safetensors.numpy import save_file

    path = tmp_path / "file"
    path.write_bytes(pickle.dumps(density))
    with pytest.raises(ValueError, match="no safetensors file"):
        io.load(path)
    save_file({"weight": X}, path)
    with pytest.raises(ValueError, match="sklearn_dsm has not written it"):
        io.load(path)
    archive.write(path, "checkpoint", {}, {})
    with pytest.raises(ValueError, match="holds a checkpoint, not a fitted estimator"):
        io.load(path)


def test_a_later_format_is_refused(density, tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "FORMAT_VERSION", archive.FORMAT_VERSION + 1)
    io.save(density, tmp_path / "density")
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"format version '2'.*up to 1; upgrade sklearn_dsm"):
        io.load(tmp_path / "density")


@pytest.mark.parametrize(
    "tree",
    [
        {"object": "posix.system", "state": {}},
        {"object": "Popen", "state": {"args": ["true"]}},
        {"named tuple": "eval", "items": ["1"]},
        {"built": "DSMDensityEstimator"},
        {"built": "list"},
        {"function": "os.system"},
        {"partial": [{"function": "eval"}, {"tuple": ["1"]}, {"dict": []}]},
        {"partial": [{"scalar type": "float64"}, {"tuple": [1]}, {"dict": []}]},
        {"Generator": {"dict": [["bit_generator", "seed"]]}},
        {"RandomState": {"dict": [["bit_generator", "RandomState"]]}},
        {"scalar": "00" * 8, "dtype": {"dtype": "|O"}},
        {"array": "bytes", "dtype": {"dtype": "|O"}, "shape": [1]},
        {"array": "nothing"},
        {"pickle": "80049"},
        {"named tuple": "DSMDensityEstimator", "items": []},
        {"object": "Field", "state": {}},
        {"named tuple": "Field", "items": [1]},
        {"slice": 3},
        {"object": "GMMScoreEstimator"},
        {"again": 0},
        {},
        [],
        {"object": "VP", "state": {}},
        "DSMDensityEstimator",
    ],
    ids=str,
)
def test_tampered_files_are_refused(tree, tmp_path):
    archive.write(tmp_path / "file", io.KIND, tree, {"bytes": np.zeros(8, np.uint8)})
    with pytest.raises(ValueError, match=r"cannot be read|holds no estimator"):
        io.load(tmp_path / "file")


@pytest.mark.parametrize("content", [None, "{", "[" * 100_000, "NaN"])
def test_content_that_is_no_json_is_refused(content, tmp_path):
    from safetensors.numpy import save_file

    head = {"format": "sklearn_dsm", "format_version": "1", "kind": io.KIND}
    head |= {} if content is None else {"content": content}
    head["digest"] = archive._digest(head, {})
    save_file({}, tmp_path / "file", metadata=head)
    with pytest.raises(ValueError, match=r"cannot be read|holds no estimator"):
        io.load(tmp_path / "file")


def test_safetensors_is_needed(density, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    with pytest.raises(ImportError, match=r"pip install 'sklearn_dsm\[io\]'"):
        io.save(density, tmp_path / "density")


# Other machines and versions


def test_a_fit_on_cuda_loads_where_there_is_none(density, tmp_path):
    density.set_params(device="cuda:7")
    expected = density.score_samples(X)
    io.save(density, tmp_path / "density")
    again = io.load(tmp_path / "density")
    assert again.device == "cuda:7"
    np.testing.assert_array_equal(again.score_samples(X), expected)
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="no CUDA device here"):
            again.fit(X)
    again = io.load(tmp_path / "density", device="cpu")
    assert again.device == "cpu" and again.fit(X)


def test_device_is_that_of_estimators_in_it_too(tmp_path):
    base = dsm().fit(X)
    io.save(dsm(reference=base).fit(X), tmp_path / "density")
    again = io.load(tmp_path / "density", device="cpu")
    assert again.device == again.reference.device == again.reference_.device == "cpu"
    assert base.device == "auto"
    io.save(pickle.loads(pickled("stein")), tmp_path / "stein")
    with pytest.raises(ValueError, match="SteinScoreEstimator does not have"):
        io.load(tmp_path / "stein", device="cpu")


def test_parameters_that_came_later_have_their_defaults(density, tmp_path):
    del density.sampler
    io.save(density, tmp_path / "density")
    assert io.load(tmp_path / "density").sampler == "ode"


@pytest.mark.parametrize("name, warns", [("regressor", True), ("dsm", False)])
def test_another_scikit_learn(name, warns, tmp_path, monkeypatch):
    monkeypatch.setattr(sklearn, "__version__", "1.6.0")
    io.save(pickle.loads(pickled(name)), tmp_path / "estimator")
    monkeypatch.undo()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        io.load(tmp_path / "estimator")
    kinds = [each.category for each in caught]
    assert kinds == [InconsistentVersionWarning] * warns
    assert not warns or "1.6.0" in str(caught[0].message)


# Values

Pair = namedtuple("Pair", "left right")


class Held:
    """An object that is its attributes."""


def held(**state):
    found = Held()
    vars(found).update(state)
    return found


def random_numbers(bit_generator):
    found = np.random.Generator(bit_generator(3))
    found.standard_normal(5), found.integers(7, dtype=np.int32)
    return found


WORDS = Vocabulary({"Held": Held, "Pair": Pair}, {"Built": object}, {"squared": squared})
VALUES = [
    *(None, True, False, 0, -(2**80), 1.5, -0.0, 5e-324, np.inf, -np.inf, np.nan, 1 + 2j),
    *("", "\u00e9\u4e2d\ud800\x00", b"", b"\x00\xff"),
    *((), [], {}, set(), frozenset(), (1, [2, (3.5, None)]), {"a": {"b": [1]}}),
    *({1: 2, (3, "x"): None, 1.5: "y", None: 0}, {1, 2, "x"}, frozenset({(1, 2)})),
    *(slice(1, None, 2), range(2, 9, 3), functools.partial(squared, 3, key=[1])),
    *(np.float64(0.1), np.float32(np.nan), np.int8(-3), np.bool_(True), np.str_("ab")),
    *(np.datetime64("2020-01-02T03:04:05"), np.timedelta64(3, "D"), np.complex64(1j)),
    *(np.dtype("f4"), np.dtype([("a", "<f8"), ("b", "u1", (2,))]), np.float32, np.str_),
    *(Pair(1, np.arange(3)), held(x=1, y=held(z=np.eye(2))), object(), squared),
]
ARRAYS = [
    *(np.arange(6).reshape(2, 3), np.arange(6).reshape(2, 3).T, np.arange(12)[::-2]),
    *(np.float64(3.0) * np.ones(()), np.empty((0, 3)), np.empty((3, 0)).T, np.ones((2, 1, 3)).T),
    *(np.ones(3, code) for code in ("?", "i1", "u2", "f2", "f4", "f8", "c8", ">f8", ">i4")),
    *(np.array(["ab", "c"]), np.array([b"ab"]), np.array(["2020-01-01"], "M8[s]")),
    *(np.array([1, 2], "m8[D]"), np.array([(1, 2.0)], [("a", "<i4"), ("b", ">f8")])),
    np.zeros(2, np.dtype([("a", "u1"), ("b", "f8")], align=True)),
    np.array([None, "a", 1.5, np.nan, (1, 2), np.arange(2)], dtype=object),
    *(np.empty((2, 0), dtype=object), np.array([[1, None], ["x", 2]], dtype=object)),
    *(np.broadcast_to(1.0, (2, 3)), np.random.RandomState(0).rand(4, 4, 4).transpose(1, 2, 0)),
]


def there_and_back(value):
    tree, arrays = encode(value, WORDS, "value")
    return decode(tree, arrays, WORDS)


@pytest.mark.parametrize("value", VALUES + ARRAYS, ids=lambda value: type(value).__name__)
def test_values(value, tmp_path):
    tree, arrays = encode(value, WORDS, "value")
    archive.write(tmp_path / "file", "value", tree, arrays)
    content = archive.read(tmp_path / "file", "value")
    found = decode(content.tree, content.arrays, WORDS)
    assert type(found) is type(value)
    if isinstance(value, np.ndarray):
        assert found.dtype == value.dtype and found.shape == value.shape
        assert found.flags.writeable and found.flags.aligned
    if isinstance(value, np.dtype):
        assert found == value
    assert repr(found) == repr(value) or isinstance(value, Held | functools.partial | object)
    np.testing.assert_equal(plain(found), plain(value))


def plain(value):
    """Values in places where numpy compares them."""
    if isinstance(value, Held):
        return {name: plain(each) for name, each in vars(value).items()}
    if isinstance(value, functools.partial):
        return value.func, value.args, value.keywords
    if isinstance(value, np.ndarray) and value.dtype == object:
        return [value.shape, *(plain(each) for each in value.ravel())]
    return None if type(value) is object else value


def test_objects_that_are_met_twice_are_one():
    part = held(x=np.ones(2))
    whole = held(left=part, right=[part, (held(z=part),)])
    whole.whole = whole
    found = there_and_back(whole)
    assert found.whole is found and found is not whole
    assert found.left is found.right[0] is found.right[1][0].z
    np.testing.assert_array_equal(found.left.x, part.x)


@pytest.mark.parametrize("order", ["C", "F"])
def test_the_order_of_arrays(order):
    found = there_and_back(np.array(np.arange(6.0).reshape(2, 3), order=order))
    assert found.flags[f"{order}_CONTIGUOUS"]


@pytest.mark.parametrize("name", ["MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64"])
def test_random_numbers(name):
    source = random_numbers(getattr(np.random, name))
    again = there_and_back(source)
    np.testing.assert_array_equal(source.integers(99, size=9), again.integers(99, size=9))
    old = np.random.RandomState(getattr(np.random, name)(1))
    old.normal()
    np.testing.assert_array_equal(there_and_back(old).normal(size=5), old.normal(size=5))


def test_tensors():
    found = there_and_back({"x": torch.arange(6, dtype=torch.float32).reshape(2, 3).T})
    torch.testing.assert_close(found["x"], torch.arange(6, dtype=torch.float32).reshape(2, 3).T)


@pytest.mark.parametrize(
    "value",
    [
        lambda: 0,
        Foreign(),
        iter([]),
        np.array([(1, None)], "i4,O"),
        np.ma.ones(2),
        DSMDensityEstimator,
    ],
)
def test_values_that_files_do_not_hold(value):
    with pytest.raises(TypeError, match=r"value\[1\]\['x'\] is"):
        encode([0, {"x": value}], WORDS, "value")


def test_names_that_look_alike_are_different_arrays():
    value = {"a": {"b": np.ones(1)}, "a']['b": np.zeros(1)}
    np.testing.assert_equal(there_and_back(value), value)


def test_deep_trees_are_an_error_of_the_file():
    tree = []
    for _ in range(100_000):
        tree = [tree]
    with pytest.raises(FileError, match="makes no sense"):
        decode(tree, {}, WORDS)


def test_names_of_classes_are_not_those_of_modules():
    """So that a file outlives a move of a class."""
    parts = [name.removeprefix("sklearn.") for name in VOCABULARY.classes]
    assert all(name.isidentifier() for name in parts)
    assert len(set(VOCABULARY.classes.values())) == len(VOCABULARY.classes)
