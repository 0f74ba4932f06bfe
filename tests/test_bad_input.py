"""Input that has no right answer raises and names the fix; odd input has a finite answer."""

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.mixture import GaussianMixture

from sklearn_dsm import DSM, VE, VP, DSMDensityEstimator
from sklearn_dsm._validation import evaluation_device, resolve_device

pytestmark = pytest.mark.filterwarnings(
    "ignore:No network was trained:sklearn.exceptions.ConvergenceWarning"
)
needs_no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


def quick(**params):
    common = {"hidden_layer_sizes": (16, 16), "max_epochs": 2, "batch_size": 32}
    return DSMDensityEstimator(**(common | {"random_state": 0} | params))


def rows(n=60, d=2, seed=0):
    X = np.random.RandomState(seed).standard_normal((n, d))
    X[:, 0] += 0.5 * X[:, -1]
    return X


@pytest.fixture(scope="module")
def fitted():
    return quick(reference="gaussian").fit(rows(200))


def assert_usable(density, X):
    values = density.score_samples(X)
    assert values.dtype == np.float64 and values.shape == (len(X),)
    assert np.isfinite(values).all()
    assert np.isfinite(density.stein_score(X[:5])).all()
    assert np.isfinite(density.stein_score(X[:5], noise_level=0.5)).all()
    draws = density.sample(20, random_state=0)
    assert draws.shape == (20, X.shape[1]) and np.isfinite(draws).all()


def test_not_a_number_and_infinity(fitted):
    for value in (np.nan, np.inf, -np.inf):
        X = rows()
        X[3, 1] = value
        for call in (quick().fit, fitted.score_samples, fitted.score, fitted.stein_score):
            with pytest.raises(ValueError, match=r"Input X contains (NaN|infinity)"):
                call(X)


def test_text(fitted):
    X = rows().astype(object)
    X[3, 1] = "red"
    for call in (quick().fit, fitted.score_samples):
        with pytest.raises(ValueError, match="could not convert string to float: 'red'"):
            call(X)


def test_empty_and_one_row(fitted):
    with pytest.raises(ValueError, match="0 sample"):
        quick().fit(np.empty((0, 2)))
    with pytest.raises(ValueError, match="0 feature"):
        quick().fit(np.empty((5, 0)))
    with pytest.raises(ValueError, match=r"1 sample.*minimum of 2 is required"):
        quick().fit(rows(1))
    with pytest.raises(ValueError, match="0 sample"):
        fitted.score_samples(np.empty((0, 2)))
    assert fitted.score_samples(rows(1)).shape == (1,)


def test_one_dimension(fitted):
    for call in (quick().fit, fitted.score_samples):
        with pytest.raises(ValueError, match="Reshape your data"):
            call(rows()[:, 0])


def test_two_rows():
    X = rows(2)
    with pytest.warns(ConvergenceWarning, match="needs 10 samples to train on"):
        density = quick().fit(X)
    assert density.stop_reason_ == "too_few_rows"
    assert_usable(density, X)


@pytest.mark.parametrize("marginals", ["auto", "gaussianize", "standardize", None])
def test_one_column(marginals):
    X = rows(d=1)
    assert_usable(quick(marginals=marginals).fit(X), X)


@pytest.mark.parametrize("shape", [(8, 12), (30, 40)])
def test_fewer_rows_than_columns(shape):
    X = rows(*shape)
    assert_usable(quick().fit(X), X)


def test_columns_whose_squares_vanish_are_named():
    X = rows(d=3) * [1.0, 1e-170, 1.0]
    with pytest.raises(ValueError, match=r"column 1 differ by .* Rescale"):
        quick().fit(X)


def test_a_device_that_is_not_there(monkeypatch):
    """Refused by a fit; an estimator carried from elsewhere takes the one there is."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ValueError, match=r"1 CUDA devices here, counted from 0"):
        resolve_device("cuda:1")
    assert resolve_device("cuda:0") == torch.device("cuda:0")
    assert resolve_device("cpu:1").type == "cpu"
    assert evaluation_device("cuda:1") == torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert evaluation_device("cuda:1") == torch.device("cpu")


def test_constant_columns_are_named():
    X = rows(d=4)
    X[:, [1, 3]] = [7.0, 1e8]
    with pytest.raises(ValueError, match=r"Column\(s\) 1, 3 hold one value.*VarianceThreshold"):
        quick().fit(X)
    pd = pytest.importorskip("pandas")
    with pytest.raises(ValueError, match="'b', 'd' hold one value"):
        quick().fit(pd.DataFrame(X, columns=list("abcd")))


def test_many_constant_columns_do_not_flood_the_message():
    with pytest.raises(ValueError, match="and 15 more hold one value") as error:
        quick().fit(np.ones((30, 20)))
    assert len(str(error.value)) < 400


def test_all_rows_equal():
    with pytest.raises(ValueError, match="hold one value only, so no density exists"):
        quick().fit(np.tile(rows(1), (50, 1)))


def test_constant_but_for_rows_of_no_weight():
    X = np.ones((50, 1))
    X[:25, 0] = np.arange(25)
    with pytest.raises(ValueError, match="hold one value only"):
        quick().fit(X, sample_weight=np.arange(50) >= 25)


@pytest.mark.parametrize("marginals", ["auto", "standardize", None])
def test_duplicate_columns(marginals):
    X = rows()
    X = np.column_stack([X, X[:, 0], 2 * X[:, 1] + 1])
    with pytest.warns(UserWarning, match="are linear combinations of others"):
        density = quick(marginals=marginals).fit(X)
    assert_usable(density, X)


@pytest.mark.parametrize("scale", [1e-12, 1e12])
@pytest.mark.parametrize("marginals", ["auto", "gaussianize", "standardize"])
def test_column_of_extreme_scale(scale, marginals):
    X = rows(200)
    X[:, 1] = np.exp(X[:, 1])
    scaled = X * [1.0, scale]
    plain, density = (quick(marginals=marginals).fit(part) for part in (X, scaled))
    np.testing.assert_allclose(
        density.score_samples(scaled) + np.log(scale), plain.score_samples(X), atol=1e-3
    )
    assert_usable(density, scaled)


def test_values_whose_squares_overflow():
    X = rows()
    X[0, 1] = 1e200
    with pytest.raises(ValueError, match=r"Column 1 holds 1e\+200.*Rescale"):
        quick().fit(X)


@pytest.mark.parametrize("marginals", ["auto", "gaussianize", "standardize"])
def test_cauchy_tails(marginals):
    X = np.random.RandomState(0).standard_cauchy((300, 2))
    density = quick(marginals=marginals).fit(X)
    assert_usable(density, X)


@pytest.mark.filterwarnings("ignore:.*log-densities missed the tolerance")
@pytest.mark.parametrize("marginals", ["auto", "gaussianize"])
def test_integers_with_five_values(marginals):
    X = np.random.RandomState(0).randint(5, size=(200, 2))
    with pytest.warns(UserWarning, match="take few values"):
        density = quick(marginals=marginals).fit(X)
    assert_usable(density, X.astype(float))
    between = density.score_samples(X + 0.5)
    assert np.isfinite(between).all()


def test_a_mass_of_equal_values_in_a_column():
    X = rows(200)
    X[:150, 0] = 0.0
    with pytest.warns(UserWarning, match="one value in many samples"):
        density = quick().fit(X)
    assert_usable(density, X)


def test_wrong_number_of_columns_at_prediction(fitted):
    for call in (fitted.score_samples, fitted.score, fitted.stein_score):
        with pytest.raises(ValueError, match=r"X has 3 features, but .* is expecting 2"):
            call(rows(d=3))


def test_unfitted():
    density, X = quick(), rows()
    for call in (
        lambda: density.score_samples(X),
        lambda: density.score(X),
        lambda: density.sample(),
        lambda: density.stein_score(X),
    ):
        with pytest.raises(NotFittedError, match="Call 'fit' with appropriate arguments"):
            call()


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (
            {"process": "vpp"},
            r"process='vpp' is unknown; choose one of \['pbm', 'sub",
        ),
        ({"process": VP}, "'process' parameter"),
        ({"process": VP(beta_min=2.0, beta_max=1.0)}, "beta_min must be below beta_max"),
        ({"process": VP(beta_min=-1.0)}, "'beta_min' parameter"),
        ({"process": VE(sigma_min=3.0, sigma_max=1.0)}, "sigma_min must be below sigma_max"),
        ({"loss": "mse"}, r"loss='mse' is unknown; choose one of \['bsm', 'dsm'"),
        ({"loss": DSM(antithetic="yes")}, "'antithetic' parameter"),
        ({"marginals": "quantile"}, "'marginals' parameter.*'gaussianize'"),
        ({"reference": "kde"}, "'reference' parameter.*'gmm'"),
        ({"reference": GaussianMixture}, "'reference' parameter"),
        ({"hidden_layer_sizes": "wide"}, "'hidden_layer_sizes' parameter.*'auto'"),
        ({"hidden_layer_sizes": ()}, r"hidden_layer_sizes=\(\) must be .*positive integers"),
        ({"hidden_layer_sizes": (0,)}, r"hidden_layer_sizes=\(0,\) must be .*positive integers"),
        ({"hidden_layer_sizes": (8, -3)}, "must be 'auto' or a tuple of positive integers"),
        ({"hidden_layer_sizes": (8.5,)}, "must be 'auto' or a tuple of positive integers"),
        ({"hidden_layer_sizes": 16}, "'hidden_layer_sizes' parameter"),
        ({"max_epochs": 0}, "'max_epochs' parameter"),
        ({"max_epochs": 2.5}, "'max_epochs' parameter"),
        ({"max_fit_time": 0}, "'max_fit_time' parameter"),
        ({"max_fit_time": "1h"}, "'max_fit_time' parameter"),
        ({"batch_size": 0}, "'batch_size' parameter"),
        ({"learning_rate": 0.0}, "'learning_rate' parameter"),
        ({"validation_fraction": 0.0}, "'validation_fraction' parameter"),
        ({"validation_fraction": 1.0}, "'validation_fraction' parameter"),
        ({"n_iter_no_change": 0}, "'n_iter_no_change' parameter"),
        ({"likelihood": "exact"}, "'likelihood' parameter.*'identity'"),
        ({"tolerance": 0.0}, "'tolerance' parameter"),
        ({"sampler": "langevin"}, "'sampler' parameter.*'sde'"),
        ({"device": "nonsense"}, "device='nonsense' is not a torch device; use 'auto', 'cpu'"),
        ({"device": 0}, "'device' parameter"),
        ({"random_state": "seed"}, "'random_state' parameter"),
        ({"random_state": -1}, "'random_state' parameter"),
        ({"verbose": "loud"}, "'verbose' parameter"),
    ],
    ids=str,
)
def test_unknown_option(params, message):
    with pytest.raises(ValueError, match=message):
        quick(**params).fit(rows())


@needs_no_gpu
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_cuda_without_a_gpu(device):
    with pytest.raises(ValueError, match="no CUDA device here; use device='auto' or 'cpu'"):
        quick(device=device).fit(rows())


@pytest.mark.parametrize("device", ["meta", "xla", "hpu"])
def test_a_torch_device_that_cannot_train(device):
    with pytest.raises(ValueError, match=f"device='{device}'.*'auto'"):
        quick(device=device).fit(rows())


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (np.r_[-1.0, np.ones(59)], "[Nn]egative"),
        (np.ones(59), "sample_weight"),
        (np.ones((60, 2)), "Sample weights must be 1D"),
        (np.zeros(60), "at least one non-zero"),
        (np.r_[1.0, np.zeros(59)], "1 sample with a positive weight.*needs at least 2"),
        (np.r_[np.nan, np.ones(59)], "NaN"),
        (np.r_[np.inf, np.ones(59)], "infinity"),
    ],
    ids=["negative", "length", "2-D", "zero", "one", "nan", "inf"],
)
def test_sample_weight(weight, message):
    with pytest.raises(ValueError, match=message):
        quick().fit(rows(), sample_weight=weight)


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_extreme_scale_of_sample_weight_does_not_matter(scale):
    X, weight = rows(), np.random.RandomState(1).uniform(0.5, 2, 60)
    plain = quick(reference="gaussian").fit(X, sample_weight=weight)
    scaled = quick(reference="gaussian").fit(X, sample_weight=weight * scale)
    np.testing.assert_allclose(scaled.score_samples(X), plain.score_samples(X), atol=1e-3)


# No number of steps follows a network where it never saw a row.
@pytest.mark.filterwarnings("ignore:.*missed the tolerance:sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("reference", ["gaussian", None])
@pytest.mark.parametrize("marginals", ["gaussianize", "standardize"])
def test_rows_far_outside_are_finite_and_low(reference, marginals, monkeypatch):
    monkeypatch.setattr("sklearn_dsm._core.likelihood.ode.MAX_DOUBLINGS", 2)
    X = rows(200)
    density = quick(reference=reference, marginals=marginals, max_epochs=4).fit(X)
    far = X.mean(0) + X.std(0) * np.array([[1e3, 0], [0, -1e4], [1e6, 1e6], [-1e9, 1e9]])
    values = density.score_samples(far)
    assert np.isfinite(values).all()
    assert values.max() < density.score_samples(X).min()
    assert np.isfinite(density.stein_score(far)).all()


@pytest.mark.parametrize("n_samples", [0, -1, 2.5, "3", None])
def test_number_of_samples(fitted, n_samples):
    with pytest.raises(ValueError, match=r"'n_samples' parameter of sample must be an int"):
        fitted.sample(n_samples)


@pytest.mark.parametrize("state", ["seed", 1.5, [1, 2]], ids=str)
def test_random_state_of_sample(fitted, state):
    with pytest.raises(ValueError, match=r"random_state|cannot be used to seed"):
        fitted.sample(2, random_state=state)


@pytest.mark.parametrize("level", [-1e-9, 1.001, np.nan, np.inf, "data", None])
def test_noise_level(fitted, level):
    with pytest.raises(ValueError, match=r"noise_level=.* must be a number between 0 and 1"):
        fitted.stein_score(rows(), noise_level=level)


def test_too_little_time():
    X = rows(200)
    with pytest.warns(ConvergenceWarning, match="needs time for a first epoch"):
        density = quick(max_fit_time=1e-9).fit(X)
    assert density.network_weights_ == {} and density.stop_reason_ == "max_fit_time"
    assert_usable(density, X)


def test_fitted_reference_with_other_columns():
    reference = GaussianMixture(2, random_state=0).fit(rows(d=3))
    with pytest.raises(ValueError, match="reference has 3 columns, X has 2; fit the Gaussian"):
        quick(reference=reference).fit(rows())


def test_reference_that_is_not_fitted():
    with pytest.raises(NotFittedError, match="GaussianMixture"):
        quick(reference=GaussianMixture(2)).fit(rows())


def test_fitted_reference_behind_curved_maps():
    reference = GaussianMixture(2, random_state=0).fit(rows())
    with pytest.raises(ValueError, match="use marginals='standardize' or 'auto'"):
        quick(reference=reference, marginals="gaussianize").fit(rows())


def test_a_failed_fit_names_the_learning_rate():
    from sklearn_dsm import NonFiniteLossError

    with pytest.raises(NonFiniteLossError, match=r"Lower learning_rate \(now 1e\+30\)"):
        quick(learning_rate=1e30).fit(rows())
