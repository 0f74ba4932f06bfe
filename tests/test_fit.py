"""What a fit leaves behind, of every estimator: the whole of its state, or what there was."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score

from sklearn_dsm import (
    VE,
    DSMDensityEstimator,
    GMMScoreEstimator,
    KernelScoreEstimator,
    LocationMixtureScoreEstimator,
    NonFiniteLossError,
)
from sklearn_dsm._evaluation.latent_density import LatentDensity

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

DSM = DSMDensityEstimator(
    "vp", reference="gaussian", hidden_layer_sizes=(16, 16), max_epochs=2, random_state=0
)
# An estimator, and where its fit may fail late.
CASES = {
    "DSM": (DSM, "sklearn_dsm.density._dsm.select"),
    "fast DSM": (clone(DSM).set_params(likelihood="fast"), "sklearn_dsm.density._dsm.distil"),
    "GMM": (
        GMMScoreEstimator(2, max_iter=20, random_state=0),
        "sklearn_dsm.mixture._gmm.GMMScoreEstimator._infer",
    ),
    "kernel": (
        KernelScoreEstimator(),
        "sklearn_dsm.density._kernel.with_images",
    ),
    "location": (
        LocationMixtureScoreEstimator(n_levels=4, n_noise=1, random_state=0),
        "sklearn_dsm.mixture._location.LocationMixtureScoreEstimator._normalise",
    ),
}
every_case = pytest.mark.parametrize("name", CASES)


def table(n=200, seed=0):
    random = np.random.default_rng(seed)
    return random.normal(size=(n, 2)) + 3 * random.integers(0, 2, (n, 1))


def raising(error):
    def call(*args, **kwargs):
        raise error

    return call


@every_case
@pytest.mark.parametrize("error", [RuntimeError("no"), KeyboardInterrupt()], ids=type)
def test_a_first_fit_that_fails_leaves_an_unfitted_estimator(monkeypatch, name, error):
    estimator, place = CASES[name]
    estimator = clone(estimator)
    before = dict(vars(estimator))
    if name == "fast DSM" and isinstance(error, KeyboardInterrupt):
        pytest.skip("what was learned until then is kept")
    monkeypatch.setattr(place, raising(error))
    with pytest.raises(type(error)):
        estimator.fit(table())
    assert vars(estimator) == before
    with pytest.raises(NotFittedError):
        estimator.score_samples(table())


@every_case
def test_a_refit_that_fails_leaves_the_earlier_fit(monkeypatch, name):
    estimator, place = CASES[name]
    estimator = clone(estimator).fit(table())
    values = estimator.score_samples(table())
    monkeypatch.setattr(place, raising(RuntimeError("no")))
    with pytest.raises(RuntimeError):
        estimator.fit(np.hstack([table(), table(seed=1)]))
    assert estimator.n_features_in_ == 2
    np.testing.assert_array_equal(estimator.score_samples(table()), values)


def test_a_diverging_refit_with_another_process_changes_no_score():
    density = clone(DSM).fit(table())
    values = density.score_samples(table())
    density.set_params(process=VE(), learning_rate=1e30)
    with pytest.raises(NonFiniteLossError):
        density.fit(table())
    np.testing.assert_array_equal(density.score_samples(table()), values)


@every_case
def test_bad_input_leaves_the_earlier_fit(name):
    estimator = clone(CASES[name][0]).fit(table())
    values = estimator.score_samples(table())
    with pytest.raises(ValueError):
        estimator.fit(np.full((20, 3), np.nan))
    np.testing.assert_array_equal(estimator.score_samples(table()), values)


def test_an_interrupt_keeps_what_was_learned_and_is_raised(monkeypatch):
    density = clone(DSM)
    monkeypatch.setattr(LatentDensity, "calibrated", raising(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt, match="after 2 epochs"):
        density.fit(table())
    monkeypatch.undo()
    assert density.stop_reason_ == "interrupted"
    assert np.isfinite(density.score(table()))


@pytest.mark.parametrize("search", ["cross-validation", "grid"])
def test_an_interrupt_ends_a_search(monkeypatch, search):
    fits = []

    def interrupted(*args, **kwargs):
        fits.append(args)
        raise KeyboardInterrupt

    monkeypatch.setattr(LatentDensity, "calibrated", interrupted)
    with pytest.raises(KeyboardInterrupt):
        if search == "grid":
            GridSearchCV(DSM, {"max_epochs": [1, 2]}, cv=2).fit(table())
        else:
            cross_val_score(DSM, table(), cv=3)
    assert len(fits) == 1
