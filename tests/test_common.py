"""scikit-learn's checks, and the package's own, for every density estimator."""

import pickle
from inspect import signature

import numpy as np
import pytest
from sklearn.base import BaseEstimator, DensityMixin
from sklearn.utils.estimator_checks import (
    check_dataframe_column_names_consistency,
    check_param_validation,
    parametrize_with_checks,
)

from sklearn_dsm import (
    DSMDensityEstimator,
    GMMScoreEstimator,
    KernelScoreEstimator,
    LocationMixtureScoreEstimator,
)
from sklearn_dsm.utils import (
    _check_tools,
    _state_checks,
    _value_checks,
    check_density_estimator,
    estimator_checks,
    parametrize_with_density_checks,
    yield_density_checks,
)

# Checks that compare fits with each other; the others take a fitted estimator as it is.
OF_FITS = ("check_refit_same_seed", "check_grid_search_without_scoring")

# Earlier versions of scikit-learn have strict xfails alone.
STRICT = (
    {"xfail_strict": True}
    if "xfail_strict" in signature(parametrize_with_checks).parameters
    else {}
)


@pytest.fixture(autouse=True)
def shared_fits(monkeypatch, request, known_fits):
    """One fit for all checks of an estimator that need it on the same rows."""
    if any(name in request.node.name for name in OF_FITS):
        return
    plain = _check_tools.fit_clone

    def fit_clone(estimator, X):
        key = repr(estimator), X.tobytes()
        if key not in known_fits:
            known_fits[key] = pickle.dumps(plain(estimator, X))
        return pickle.loads(known_fits[key])

    for checks in (_state_checks, _value_checks):
        monkeypatch.setattr(checks, "fit_clone", fit_clone)


@pytest.fixture(scope="session")
def known_fits():
    return {}


FALLBACK = "ignore:No network was trained:sklearn.exceptions.ConvergenceWarning"


def quick(**params):
    common = {"hidden_layer_sizes": (16, 16), "max_epochs": 1, "batch_size": 32}
    return DSMDensityEstimator(**(common | {"random_state": 0} | params))


def trained(**params):
    common = {"hidden_layer_sizes": (64, 64), "batch_size": 128, "max_epochs": 10}
    return quick(**(common | {"learning_rate": 0.01} | params))


def without_reference():
    return trained(reference=None, max_epochs=30, learning_rate=0.005)


# Without a reference the network is kept, however little it has learned from a few rows.
QUICK = [quick(reference=None, likelihood="identity")]


@pytest.mark.filterwarnings(FALLBACK)
# Some of the tables have redundant columns.
@pytest.mark.filterwarnings("ignore:.*are linear combinations of others")
@parametrize_with_checks(QUICK, **STRICT)
def test_sklearn_checks(estimator, check):
    check(estimator)


def test_scikit_learn_checks_an_estimator_that_has_a_network():
    assert QUICK[0].fit(np.random.RandomState(0).standard_normal((20, 2))).network_weights_


MIXTURES = [
    GMMScoreEstimator(standard_errors=False, max_iter=50),
    KernelScoreEstimator(),
    LocationMixtureScoreEstimator(n_levels=4, n_noise=1),
]
UNTRUSTED = "ignore:The fitted density is not to be trusted"
NOT_CONVERGED = "ignore:The fit had not converged:sklearn.exceptions.ConvergenceWarning"


@pytest.mark.filterwarnings(NOT_CONVERGED)
@pytest.mark.filterwarnings(UNTRUSTED)
@parametrize_with_checks(MIXTURES, **STRICT)
def test_sklearn_checks_of_mixtures(estimator, check):
    check(estimator)


@pytest.mark.filterwarnings(FALLBACK)
@pytest.mark.filterwarnings(UNTRUSTED)
@pytest.mark.parametrize(
    "check", [check_param_validation, check_dataframe_column_names_consistency]
)
@pytest.mark.parametrize("estimator", QUICK + MIXTURES)
def test_sklearn_checks_left_out_of_its_list(estimator, check):
    check(type(estimator).__name__, estimator)


def excused(estimator):
    """Checks that an estimator need not pass, and why."""
    if not isinstance(estimator, LocationMixtureScoreEstimator):
        return {}
    return {
        "check_mass_two_columns": "its mass in more than one column is known to a percent",
    }


@pytest.mark.filterwarnings(NOT_CONVERGED)
@pytest.mark.filterwarnings(UNTRUSTED)
@parametrize_with_density_checks(
    [
        GMMScoreEstimator(2, standard_errors=False),
        KernelScoreEstimator(),
        LocationMixtureScoreEstimator(n_levels=12),
    ],
    expected_failed_checks=excused,
)
def test_density_checks_of_mixtures(estimator, check):
    check(estimator)


# A network that corrects its reference, and no network at all.
@parametrize_with_density_checks([trained(reference="gaussian"), quick(max_fit_time=1e-9)])
def test_density_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize(
    "check",
    [
        pytest.param(estimator_checks.check_mass_two_columns, marks=pytest.mark.slow),
        pytest.param(estimator_checks.check_samples_follow_density, marks=pytest.mark.slow),
        pytest.param(estimator_checks.check_stein_score_is_gradient, marks=pytest.mark.slow),
        pytest.param(estimator_checks.check_units_of_columns, marks=pytest.mark.slow),
        estimator_checks.check_score_samples_deterministic,
    ],
)
def test_density_checks_without_reference(check):
    check("DSMDensityEstimator", without_reference())


# A divergence from tangents, in single precision: what the default network uses.
@pytest.mark.parametrize(
    "check",
    [
        estimator_checks.check_score_samples_rows_independent,
        estimator_checks.check_mass_two_columns,
        estimator_checks.check_samples_follow_density,
        estimator_checks.check_stein_score_is_gradient,
        estimator_checks.check_far_rows,
    ],
)
def test_density_checks_of_a_deep_network(check):
    deep = trained(reference="gaussian", hidden_layer_sizes=(32, 32, 32, 32), max_epochs=5)
    check("DSMDensityEstimator", deep)


# What is not normalised exactly, so its mass is not checked. A head is evaluated in double
# precision below a tolerance of 1e-4, as differences need it.
NOT_NORMALISED = {
    "identity": trained(reference="gaussian", likelihood="identity"),
    "fast": trained(
        reference="gaussian",
        hidden_layer_sizes=(48, 48),
        max_epochs=8,
        likelihood="fast",
        tolerance=1e-5,
    ),
}


@pytest.mark.parametrize("likelihood", NOT_NORMALISED)
@pytest.mark.parametrize(
    "check",
    [
        estimator_checks.check_score_samples_rows_independent,
        estimator_checks.check_stein_score_is_gradient,
        estimator_checks.check_units_of_columns,
        estimator_checks.check_far_rows,
        estimator_checks.check_refit_same_seed,
        estimator_checks.check_global_generators_untouched,
    ],
)
def test_density_checks_but_for_the_mass(check, likelihood, monkeypatch):
    # What a head learns from takes the time, and these checks do not ask how well it learns.
    monkeypatch.setattr("sklearn_dsm.density._distillation.MAX_ROWS", 300)
    check("DSMDensityEstimator", NOT_NORMALISED[likelihood])


def test_the_checked_estimators_have_a_network():
    X = estimator_checks.bimodal_rows()
    assert trained(reference="gaussian").fit(X).network_weights_
    assert without_reference().fit(X).network_weights_


class WrongDensity(DensityMixin, BaseEstimator):
    """Not normalised, in units of its own, with the sum as score; otherwise in order."""

    def fit(self, X, y=None):
        self.location_, self.scale_ = np.mean(X, 0), np.std(X, 0)
        return self

    def score_samples(self, X):
        return -0.5 * (((np.asarray(X) - self.location_) / self.scale_) ** 2).sum(1)

    def score(self, X, y=None):
        return float(self.score_samples(X).sum())

    def sample(self, n_samples=1, random_state=None):
        shape = (n_samples, len(self.scale_))
        draws = np.random.default_rng(0).standard_normal(shape)
        return self.location_ + 2 * self.scale_ * draws

    def stein_score(self, X, noise_level=0.0):
        return (self.location_ - X) / self.scale_


def test_density_checks_see_a_wrong_density():
    failed = set()
    for check in yield_density_checks(WrongDensity()):
        try:
            check("WrongDensity", WrongDensity())
        except AssertionError as error:
            assert "WrongDensity" in str(error)
            failed.add(check.__name__)
    assert failed == {
        "check_score_is_mean_log_density",
        "check_mass_one_column",
        "check_mass_skewed_column",
        "check_mass_two_columns",
        "check_sample_random_state",
        "check_samples_follow_data",
        "check_samples_follow_density",
        "check_units_of_columns",
        "check_stein_score_is_gradient",
        "check_stein_score_noise_level",
        "check_global_generators_untouched",
        "check_grid_search_without_scoring",
    }


class DumbDensity(WrongDensity):
    """Has no score at any level but that of the data."""

    def stein_score(self, X, noise_level=0.0):
        if not 0 <= noise_level <= 1:
            raise ValueError(f"noise_level={noise_level}")
        return 0.0 * X if noise_level else super().stein_score(X)


def test_the_check_of_levels_sees_scores_that_are_none():
    with pytest.raises(AssertionError, match="is zero at noise_level=1e-06"):
        estimator_checks.check_stein_score_noise_level("Dumb", DumbDensity())


@pytest.mark.parametrize("process", ["ve", "subvp", "pbm"])
def test_the_check_of_levels_suits_every_process(process):
    density = trained(reference="gaussian", process=process)
    estimator_checks.check_stein_score_noise_level("DSMDensityEstimator", density)


def test_check_density_estimator_raises_and_excuses():
    with pytest.raises(AssertionError, match="mean log-density"):
        check_density_estimator(WrongDensity())
    with pytest.raises(AssertionError, match="integrates to"):
        check_density_estimator(
            WrongDensity(), expected_failed_checks={"check_score_is_mean_log_density": "known"}
        )
    with pytest.raises(AssertionError, match="lacks"):
        check_density_estimator(BaseEstimator())
    with pytest.raises(ValueError, match=r"names \['check_scores'\], which are not among"):
        check_density_estimator(WrongDensity(), expected_failed_checks={"check_scores": "typo"})


def test_a_class_in_place_of_an_instance_is_refused():
    with pytest.raises(TypeError, match="pass an instance"):
        parametrize_with_density_checks([DSMDensityEstimator])
