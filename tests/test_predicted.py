"""Predictions as log-weights: values, gradients, names, exact constants, and bad input."""

import pickle
import warnings

import numpy as np
import pandas
import pytest
import torch
from sklearn.calibration import CalibratedClassifierCV
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LinearRegression, LogisticRegression, PoissonRegressor, Ridge
from sklearn.mixture import GaussianMixture
from sklearn.multioutput import MultiOutputClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeRegressor
from skorch import NeuralNetClassifier, NeuralNetRegressor

from sklearn_dsm import TiltedSampler
from sklearn_dsm.sampling import PredictedLogWeight
from sklearn_dsm.sampling._callables import RowFunction

RNG = np.random.default_rng(0)
X = RNG.normal(size=(300, 3)) * [1.0, 5.0, 0.2] + [0.0, 10.0, -1.0]
VALUE = X[:, 0] + 0.2 * X[:, 1] - X[:, 2] + 0.1 * RNG.normal(size=300)
THREE = np.array(["a", "b", "c"])[np.digitize(VALUE, [2.5, 3.5])]
TWO = VALUE > 3
QUICK = {"n_train": 1000, "max_epochs": 3, "n_paths": 2000, "n_steps": 50, "random_state": 0}
QUICK["hidden_layer_sizes"] = (16,)


def mlp(kind, **options):
    return kind(hidden_layer_sizes=(8, 4), max_iter=20, random_state=0, **options)


def skorch_net(kind, n_outputs, *end, **options):
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, n_outputs), *end
    )
    return kind(module, max_epochs=2, verbose=0, train_split=None, device="cpu", **options)


CLASSIFIERS = [
    LogisticRegression(),
    LinearDiscriminantAnalysis(),
    mlp(MLPClassifier),
    mlp(MLPClassifier, activation="logistic"),
    make_pipeline(StandardScaler(), PCA(2, whiten=True), mlp(MLPClassifier, activation="tanh")),
    make_pipeline(StandardScaler(with_mean=False), "passthrough", LogisticRegression()),
]
REGRESSORS = [LinearRegression(), Ridge(), make_pipeline(StandardScaler(), mlp(MLPRegressor))]
WITHOUT_GRADIENT = [
    RandomForestClassifier(10, random_state=0),
    make_pipeline(MinMaxScaler(), LogisticRegression()),
    GaussianNB(),
]


def quietly_fitted(estimator, X, y):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return estimator.fit(X, y)


def assert_differentiated(log_weight, tolerance=1e-9):
    """Tensors give the values of arrays, and their gradients those of finite differences."""
    x = torch.from_numpy(X)
    function = RowFunction(log_weight, None, "log_weight")
    values, gradients = function.values_and_gradients(x)
    assert function.has_gradient
    np.testing.assert_allclose(values, log_weight(X), rtol=tolerance, atol=tolerance)
    step = 1e-5 * torch.eye(3, dtype=x.dtype)
    for j in range(3):
        change = (log_weight(x + step[j]) - log_weight(x - step[j])) / 2e-5
        # Networks of rectified units have kinks.
        close = (gradients[:, j] - change).abs() < 1e-4 * (1 + change.abs())
        assert close.double().mean() > 0.98


@pytest.mark.parametrize("estimator", CLASSIFIERS, ids=str)
@pytest.mark.parametrize("y", [TWO, THREE], ids=["two", "three"])
def test_log_probabilities_of_a_class(estimator, y):
    fit = quietly_fitted(estimator, X, y)
    for k, label in enumerate(fit.classes_):
        log_weight = PredictedLogWeight(fit, label=label, scale=2.0)
        np.testing.assert_allclose(log_weight(X), 2 * np.log(fit.predict_proba(X)[:, k]))
        assert_differentiated(log_weight)


@pytest.mark.parametrize("estimator", REGRESSORS, ids=str)
def test_predictions_and_their_distances_from_a_target(estimator):
    fit = quietly_fitted(estimator, X, VALUE)
    reward = PredictedLogWeight(fit, scale=-0.5)
    np.testing.assert_allclose(reward(X), -0.5 * fit.predict(X))
    assert_differentiated(reward)
    near = PredictedLogWeight(fit, target=2.0, deviation=0.3)
    np.testing.assert_allclose(near(X), -0.5 * ((fit.predict(X) - 2) / 0.3) ** 2)
    assert_differentiated(near)


def test_a_regressor_fitted_to_one_column():
    log_weight = PredictedLogWeight(LinearRegression().fit(X, VALUE[:, None]))
    assert log_weight(X).shape == (300,)
    assert_differentiated(log_weight)


@pytest.mark.parametrize(
    "net",
    [
        skorch_net(NeuralNetClassifier, 3, criterion=torch.nn.CrossEntropyLoss),
        skorch_net(NeuralNetClassifier, 3, torch.nn.Dropout(0.2), torch.nn.Softmax(1)),
    ],
    ids=["logits", "probabilities"],
)
def test_networks_of_skorch_are_differentiated(net):
    with pytest.raises(NotFittedError):
        PredictedLogWeight(net, label=2)
    labels = np.digitize(VALUE, [2.5, 3.5])
    for fit in (
        net.fit(X.astype(np.float32), labels),
        make_pipeline(StandardScaler(), net).fit(X.astype(np.float32), labels),
    ):
        log_weight = PredictedLogWeight(fit, label=2)
        before = {name: value.clone() for name, value in net.module_.state_dict().items()}
        assert_differentiated(log_weight, 1e-4)
        after = net.module_.state_dict()
        assert all(after[name].dtype == torch.float32 for name in before)
        assert all(torch.equal(after[name], value) for name, value in before.items())


def test_a_regressor_of_skorch():
    net = skorch_net(NeuralNetRegressor, 1)
    net.fit(X.astype(np.float32), VALUE[:, None].astype(np.float32))
    assert_differentiated(PredictedLogWeight(net, target=1.0, deviation=1.0), 1e-4)


@pytest.mark.parametrize("estimator", WITHOUT_GRADIENT, ids=str)
def test_other_estimators_have_values_alone(estimator):
    log_weight = PredictedLogWeight(estimator.fit(X, THREE), label="b")
    function = RowFunction(log_weight, None, "log_weight")
    values = function.values(torch.from_numpy(X))
    np.testing.assert_array_equal(values, log_weight(X))
    assert not function.has_gradient
    with pytest.raises(TypeError, match="not differentiated"):
        log_weight(torch.from_numpy(X))
    regressor = PredictedLogWeight(PoissonRegressor().fit(X, VALUE - VALUE.min()))
    function = RowFunction(regressor, None, "log_weight")
    np.testing.assert_array_equal(function.values(torch.from_numpy(X)), regressor(X))
    assert not function.has_gradient


def test_a_probability_of_zero_is_a_weight_of_zero():
    fit = RandomForestClassifier(3, random_state=0).fit(X, THREE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        values = PredictedLogWeight(fit, label="a")(X)
    assert np.isneginf(values).any() and np.isfinite(values).any()


@pytest.mark.parametrize("estimator", [LogisticRegression(), GaussianNB()], ids=str)
def test_names_of_features_are_given_back(estimator):
    frame = pandas.DataFrame(X, columns=["u", "v", "w"])
    named = make_pipeline(StandardScaler(), estimator).fit(frame, THREE)
    plain = make_pipeline(StandardScaler(), estimator).fit(X, THREE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = PredictedLogWeight(named, label="c")(X)
    np.testing.assert_allclose(found, named.predict_log_proba(frame)[:, 2])
    np.testing.assert_allclose(found, PredictedLogWeight(plain, label="c")(X))


def test_it_is_pickled_and_printed():
    log_weight = PredictedLogWeight(LogisticRegression().fit(X, THREE), label="c", scale=3.0)
    loaded = pickle.loads(pickle.dumps(log_weight))
    np.testing.assert_array_equal(loaded(X), log_weight(X))
    assert repr(loaded) == "PredictedLogWeight(LogisticRegression(), scale=3.0, label='c')"


@pytest.fixture(scope="module")
def base():
    return GaussianMixture(random_state=0).fit(X)


def test_the_constant_is_the_probability_of_the_class(base):
    fit = GaussianNB().fit(X, THREE)
    sampler = TiltedSampler(base, PredictedLogWeight(fit, label="a"), **QUICK).fit()
    draws = base.sample(200_000)[0]
    probability = fit.predict_proba(draws)[:, 0]
    error = sampler.log_normalizer_ - np.log(probability.mean())
    assert abs(error) < 4 * sampler.log_normalizer_stderr_ + 0.02
    found, log_weights = sampler.sample_weighted(4000, random_state=0)
    mean = np.average(fit.predict_proba(found)[:, 0], weights=np.exp(log_weights))
    assert abs(mean - (probability**2).mean() / probability.mean()) < 0.03


def test_a_linear_reward_shifts_a_normal_distribution(base):
    """By its covariance times the coefficients, with any method."""
    fit = LinearRegression().fit(X, VALUE)
    sampler = TiltedSampler(base, PredictedLogWeight(fit), method="nsm", **QUICK).fit()
    mean, covariance = base.means_[0], base.covariances_[0]
    spread = fit.coef_ @ covariance @ fit.coef_
    exact = fit.predict(mean[None])[0] + spread / 2
    assert abs(sampler.log_normalizer_ - exact) < 0.05
    shift = sampler.sample(2000, random_state=0).mean(0) - mean
    deviations = np.sqrt(np.diag(covariance))
    assert (np.abs(shift - covariance @ fit.coef_) < 0.15 * deviations).all()
    # The gradient of the density at noise level 0 needs that of the weight.
    row = mean[None]
    np.testing.assert_allclose(sampler.stein_score(row)[0], fit.coef_, rtol=1e-6)


CLASSIFIER = LogisticRegression().fit(X, THREE)
REGRESSOR = DecisionTreeRegressor(max_depth=2).fit(X, VALUE)


@pytest.mark.parametrize(
    ("estimator", "options", "message"),
    [
        (CLASSIFIER, {}, "label=None is not one of the classes"),
        (CLASSIFIER, {"label": "d"}, "label='d' is not one of the classes"),
        (CLASSIFIER, {"label": "a", "target": 1.0}, "are for regressors"),
        (CLASSIFIER, {"label": "a", "scale": -1.0}, "must be a positive number"),
        (LinearSVC().fit(X, TWO), {"label": True}, "CalibratedClassifierCV"),
        (
            MultiOutputClassifier(LogisticRegression()).fit(X, np.column_stack([TWO, ~TWO])),
            {"label": True},
            "several outputs",
        ),
        (REGRESSOR, {"label": 1}, "is for classifiers"),
        (REGRESSOR, {"target": 1.0}, "go together"),
        (REGRESSOR, {"deviation": 1.0}, "go together"),
        (REGRESSOR, {"target": 1.0, "deviation": 0.0}, "go together"),
        (REGRESSOR, {"target": 1.0, "deviation": 1.0, "scale": -1.0}, "must be a positive"),
        (REGRESSOR, {"scale": 0.0}, "must be a nonzero number"),
        (REGRESSOR, {"scale": np.inf}, "must be a nonzero number"),
    ],
)
def test_bad_parameters(estimator, options, message):
    with pytest.raises(ValueError, match=message):
        PredictedLogWeight(estimator, **options)


def test_estimators_that_predict_nothing():
    for estimator in (LogisticRegression(), make_pipeline(StandardScaler(), Ridge())):
        with pytest.raises(NotFittedError):
            PredictedLogWeight(estimator, label=1)
    with pytest.raises(TypeError, match="neither a classifier nor a regressor"):
        PredictedLogWeight(StandardScaler().fit(X))
    assert PredictedLogWeight(CalibratedClassifierCV(LinearSVC(), cv=2).fit(X, TWO), label=True)(
        X
    ).shape == (300,)


def test_features_of_the_base_and_of_the_estimator(base):
    fit = LogisticRegression().fit(X[:, :2], TWO)
    with pytest.raises(ValueError, match="fitted to 2 features, and the samples have 3"):
        TiltedSampler(base, PredictedLogWeight(fit, label=True), **QUICK).fit()
    several = RandomForestRegressor(2).fit(X, X[:, :2])
    with pytest.raises(ValueError, match="predicts 2 values"):
        PredictedLogWeight(several)(X)
