"""What the denoising-score-matching density estimator does."""

from functools import partial

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KernelDensity
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_dsm import PBM, VE, VP, DSMDensityEstimator, SubVP
from sklearn_dsm._search.correction import Correction
from sklearn_dsm._training.callbacks import LAST_EPOCHS_SHARE, MIN_LAST_EPOCHS
from sklearn_dsm.datasets import load_sachs

FALLBACK = pytest.mark.filterwarnings(
    "ignore:No network was trained:sklearn.exceptions.ConvergenceWarning"
)


def quick(**params):
    common = {
        "reference": "gaussian",
        "hidden_layer_sizes": (64, 64),
        "max_epochs": 3,
        "batch_size": 128,
        "learning_rate": 0.01,
        "random_state": 0,
    }
    return DSMDensityEstimator(**(common | params))


def bimodal(n=400, seed=0):
    random = np.random.RandomState(seed)
    side = np.where(random.rand(n, 1) < 0.5, -1.0, 1.0)
    mixing = np.array([[0.6, 0.4], [0.0, 0.45]])
    return random.standard_normal((n, 2)) @ mixing + side * [1.0, -1.0]


def gaussian(n=300, seed=0):
    mixing = np.array([[2.0, 1.0], [0.0, 0.5]])
    return np.random.RandomState(seed).standard_normal((n, 2)) @ mixing + [3.0, -1.0]


@pytest.fixture(scope="module")
def fitted():
    density = quick(marginals="standardize", max_epochs=15).fit(bimodal())
    assert density.network_weights_
    return density


# The reference and the fall back to it


@FALLBACK
def test_an_untrained_network_leaves_the_reference():
    X = bimodal()
    options = {"reference": GaussianMixture(3, random_state=0).fit(X), "marginals": "standardize"}
    untrained = quick(max_epochs=1, learning_rate=1e-12, **options).fit(X)
    alone = quick(max_fit_time=1e-9, **options).fit(X)
    assert alone.network_weights_ == {}
    np.testing.assert_allclose(
        untrained.score_samples(X), alone.score_samples(X), rtol=0, atol=untrained.tolerance
    )


@FALLBACK
@pytest.mark.parametrize("marginals", ["standardize", None])
@pytest.mark.parametrize("covariance_type", ["full", "tied", "diag", "spherical"])
def test_a_fitted_mixture_without_a_network_is_that_mixture(covariance_type, marginals):
    X = gaussian() * [1.0, 40.0]
    mixture = GaussianMixture(3, covariance_type=covariance_type, random_state=0).fit(X)
    density = quick(reference=mixture, marginals=marginals, max_fit_time=1e-9).fit(X)
    rows = np.concatenate([X, X.mean(0) + 20 * X])
    np.testing.assert_allclose(
        density.score_samples(rows), mixture.score_samples(rows), rtol=1e-9, atol=1e-9
    )
    assert mixture.covariance_type == covariance_type


@FALLBACK
def test_auto_marginals_with_a_fitted_mixture_are_linear():
    X = np.exp(gaussian())
    mixture = GaussianMixture(4, random_state=0).fit(X)
    density = quick(reference=mixture, max_fit_time=1e-9).fit(X)
    np.testing.assert_allclose(density.score_samples(X), mixture.score_samples(X), atol=1e-8)


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"max_fit_time": 1e-9}, "time for a first epoch, so raise max_fit_time"),
        ({"validation_fraction": 0.98}, "10 samples to train on, so give more"),
    ],
    ids=["time", "rows"],
)
def test_a_fit_that_could_train_no_network_warns_at_the_line_of_the_user(params, reason):
    for call in (quick(**params).fit, make_pipeline(StandardScaler(), quick(**params)).fit):
        with pytest.warns(ConvergenceWarning, match=f"No network was trained.*{reason}") as seen:
            call(gaussian())
        assert [warning.filename for warning in seen] == [__file__]


@pytest.mark.parametrize("reference", ["gaussian", "gmm", "auto"])
def test_a_fit_that_selects_its_reference_does_not_warn(reference):
    density = quick(reference=reference, learning_rate=1e-12, max_epochs=1).fit(gaussian())
    assert density.network_weights_ == {} and density.selected_ == "Gaussian"


def test_what_was_selected_is_told():
    assert "corrected by a network" in quick(max_epochs=20).fit(bimodal()).selected_
    alone = quick(max_epochs=2, reference=None).fit(bimodal())
    assert alone.selected_ == "network without a reference"
    density = quick(reference="gmm", learning_rate=1e-12, max_epochs=1).fit(bimodal())
    assert density.selected_ == f"Gaussian mixture of {len(density.reference_.weights_)} components"


@FALLBACK
@pytest.mark.parametrize(("chances", "kept"), [(0.5, False), (2.0, True)])
def test_a_network_has_to_gain_more_than_chance(chances, kept, monkeypatch):
    """Chance is a nat over the number of held-out rows."""
    X = bimodal()
    n_held_out = round(quick().validation_fraction * len(X))

    def scored(self, candidate):
        value = candidate.base_value + chances / n_held_out
        return candidate._replace(value=value), slice(None)

    monkeypatch.setattr(Correction, "_scored", scored)
    assert bool(quick().fit(X).network_weights_) is kept


def test_a_gain_does_not_warn(fitted):
    X = bimodal(2000, seed=1)
    assert fitted.network_weights_ and fitted.stop_reason_ in ("max_epochs", "no_change")
    assert fitted.score(X) > GaussianMixture(1).fit(bimodal()).score(X) + 0.15


# What training records


def test_lengths_of_the_records(fitted):
    assert fitted.n_epochs_ == 15
    assert len(fitted.loss_curve_) == len(fitted.validation_scores_) == 15
    assert all(type(value) is float for value in fitted.loss_curve_ + fitted.validation_scores_)
    assert all(type(value) is np.ndarray for value in fitted.network_weights_.values())
    assert fitted.network_["hidden_layer_sizes"] == (64, 64)


@FALLBACK
def test_validation_scores_are_log_densities_in_input_units():
    X = bimodal() * [1e3, 1e-2]
    plain, scaled = quick().fit(bimodal()), quick().fit(X)
    np.testing.assert_allclose(
        np.add(scaled.validation_scores_, np.log(10)), plain.validation_scores_, atol=1e-2
    )
    assert abs(max(plain.validation_scores_) - plain.score(bimodal(2000, seed=1))) < 0.5


@FALLBACK
def test_training_stops_without_change():
    density = quick(n_iter_no_change=2, max_epochs=60).fit(gaussian())
    assert density.stop_reason_ == "no_change"
    scores = density.validation_scores_
    assert len(density.loss_curve_) == len(scores) == density.n_epochs_ < 60
    # The first time that two epochs brought nothing, and the epochs in which the rate falls.
    waited = next(n for n in range(3, 60) if n - 1 - np.argmax(scores[:n]) == 2)
    last = max(MIN_LAST_EPOCHS, round(LAST_EPOCHS_SHARE * waited))
    assert density.n_epochs_ == waited + last


@FALLBACK
def test_time_limit_ends_a_long_fit():
    density = quick(max_epochs=10**6, n_iter_no_change=10**6, max_fit_time=0.5).fit(bimodal())
    assert density.stop_reason_ == "max_fit_time"
    assert len(density.loss_curve_) == density.n_epochs_
    assert len(density.validation_scores_) == density.n_epochs_
    assert np.isfinite(density.score_samples(bimodal())).all()


# Accuracy


@FALLBACK
def test_entropy_of_a_narrow_gaussian():
    rho, n = -0.98, 20000
    law = multivariate_normal(np.zeros(2), [[1, rho], [rho, 1]])
    X = law.rvs(2000, random_state=0)
    fresh = law.rvs(n, random_state=1)
    density = quick(reference="auto", max_epochs=3).fit(X)
    values = density.score_samples(fresh)
    entropy = np.log(2 * np.pi * np.e) + 0.5 * np.log(1 - rho**2)
    assert law.entropy() == pytest.approx(entropy)
    # A log-density of d columns has variance d / 2; 2000 rows cost about 5 / 4000 nats.
    assert -values.mean() == pytest.approx(entropy, abs=4 / np.sqrt(n) + 0.01)
    divergence = (law.logpdf(fresh) - values).mean()
    assert -0.002 < divergence < 0.01


def test_skewed_proteins_against_classical_estimators():
    """Held-out, in input units; both rivals get standardised columns and a tuned size."""
    X = load_sachs().data + np.random.RandomState(0).uniform(0, 0.01, (853, 11))
    train, fresh = X[:600], X[600:]
    scaler = StandardScaler().fit(train)
    rows, log_slope = scaler.transform(train), -np.log(scaler.scale_).sum()
    bandwidth = {"bandwidth": np.geomspace(0.1, 1, 6)}
    kernel = GridSearchCV(KernelDensity(), bandwidth, cv=3).fit(rows).best_estimator_
    mixtures = [GaussianMixture(k, random_state=0).fit(rows) for k in (1, 2, 4, 8)]
    mixture = min(mixtures, key=lambda model: model.bic(rows))
    density = quick(reference="auto", marginals="auto", max_epochs=8).fit(train)
    for rival in (kernel, mixture):
        rival_score = rival.score_samples(scaler.transform(fresh)).mean() + log_slope
        assert density.score(fresh) > rival_score + 2


@pytest.mark.slow
@pytest.mark.parametrize(
    "process", ["vp", "ve", "subvp", "pbm", VP(beta_max=8.0), VE(sigma_max=20.0), PBM(3.0)], ids=str
)
def test_every_process_learns(process):
    X, fresh = bimodal(), bimodal(1000, seed=1)
    density = quick(process=process, marginals="standardize", max_epochs=12).fit(X)
    assert density.network_weights_
    assert density.score(fresh) > GaussianMixture(1).fit(X).score(fresh) + 0.1
    assert np.isfinite(density.sample(50, random_state=0)).all()


@FALLBACK
def test_gaussianized_columns_beat_standardized_ones_on_a_skewed_column():
    random = np.random.RandomState(0)
    X, fresh = (np.exp(random.standard_normal((n, 1))) for n in (400, 2000))
    curved, line = (
        quick(marginals=marginals, max_epochs=3).fit(X).score(fresh)
        for marginals in ("gaussianize", "standardize")
    )
    assert curved > line + 0.05
    auto = quick(max_epochs=3).fit(X).score(fresh)
    assert auto == pytest.approx(curved, abs=0.02)


@pytest.mark.slow
def test_without_a_reference_the_network_gives_the_whole_score():
    random = np.random.RandomState(0)
    X = 0.5 * random.standard_normal((400, 1)) + np.where(random.rand(400, 1) < 0.5, -1.0, 1.0)
    density = quick(
        reference=None, marginals="standardize", max_epochs=60, learning_rate=0.005
    ).fit(X)
    assert density.network_weights_
    grid = np.linspace(-12, 12, 2001)
    mass = np.exp(density.score_samples(grid[:, None])).sum() * (grid[1] - grid[0])
    assert mass == pytest.approx(1, abs=3e-3)
    assert density.score(X) > GaussianMixture(1).fit(X).score(X)


# Likelihoods and samplers


def test_the_identity_agrees_with_the_ode(fitted):
    X = bimodal(300, seed=2)
    ode = fitted.score_samples(X)
    try:
        fitted.set_params(likelihood="identity")
        identity = fitted.score_samples(X)
    finally:
        fitted.set_params(likelihood="ode")
    # Both are the same number for an exact score only. After 15 epochs they differ by 0.2
    # nats a row and 0.05 nats on average; the identity is a lower bound on average.
    assert np.abs(identity - ode).mean() < 0.3
    assert abs(identity.mean() - ode.mean()) < 0.1


@pytest.fixture(scope="module")
def errors_of_the_ode(fitted):
    """How far log-densities at the default tolerance are from those at a tight one, by row."""

    def errors(X):
        rough = fitted.score_samples(X)
        try:
            fitted.set_params(tolerance=1e-6)
            fine = fitted.score_samples(X)
        finally:
            fitted.set_params(tolerance=1e-3)
        return np.abs(rough - fine)

    return errors


def test_few_of_many_rows_miss_the_tolerance(errors_of_the_ode):
    """It bounds estimated errors; of a learned score two rows in a hundred may have more."""
    errors = errors_of_the_ode(bimodal(1000, seed=2))
    assert errors.mean() < 1e-4
    assert np.quantile(errors, 0.98) < 1e-3 and errors.max() < 1e-2


def test_both_samplers_agree_in_moments(fitted):
    n = 4000
    ode = fitted.sample(n, random_state=0)
    try:
        fitted.set_params(sampler="sde")
        sde = fitted.sample(n, random_state=1)
    finally:
        fitted.set_params(sampler="ode")
    error = ode.std(0) * np.sqrt(2 / n)
    # A short fit's score is no exact gradient, and 200 Euler steps leave their own error.
    assert (np.abs(ode.mean(0) - sde.mean(0)) < 4 * error + 0.05 * ode.std(0)).all()
    np.testing.assert_allclose(np.cov(sde.T), np.cov(ode.T), rtol=0.12)
    truth = bimodal(20000, seed=5)
    for draws in (ode, sde):
        np.testing.assert_allclose(draws.mean(0), truth.mean(0), atol=0.15)
        np.testing.assert_allclose(np.cov(draws.T), np.cov(truth.T), rtol=0.2)


# Weights of rows


@FALLBACK
def test_rows_of_no_weight_are_as_good_as_absent():
    X, weight = bimodal(), np.random.RandomState(0).uniform(0.5, 2.0, 400)
    plain = quick().fit(X, sample_weight=weight)
    places = np.sort(np.random.RandomState(2).permutation(500)[:400])
    rows, padded = np.full((500, 2), 77.0), np.zeros(500)
    rows[places], padded[places] = X, weight
    with_absent = quick().fit(rows, sample_weight=padded)
    assert plain.loss_curve_ == with_absent.loss_curve_
    np.testing.assert_array_equal(plain.score_samples(X), with_absent.score_samples(X))


@FALLBACK
def test_equal_weights_are_no_weights():
    X = bimodal()
    plain, weighted = quick().fit(X), quick().fit(X, sample_weight=np.full(400, 3.0))
    np.testing.assert_array_equal(plain.score_samples(X), weighted.score_samples(X))


@FALLBACK
@pytest.mark.parametrize("reference", ["gaussian", "gmm"])
def test_weights_move_the_density(reference):
    X = bimodal(1000)
    weight = np.where(X[:, 0] > 0, 4.0, 1.0)
    density = quick(reference=reference, marginals="standardize").fit(X, sample_weight=weight)
    draws = density.sample(2000, random_state=0)
    expected = np.average(X, axis=0, weights=weight)
    np.testing.assert_allclose(draws.mean(0), expected, atol=0.15)
    assert np.abs(X.mean(0) - expected).min() > 0.3


# Noised scores


@FALLBACK
@pytest.mark.parametrize("process", [VP(), VE(sigma_max=5.0), SubVP(), PBM(2.0)], ids=str)
@pytest.mark.parametrize("level", [0.0, 1e-3, 0.3, 0.99])
def test_noised_score_of_a_gaussian(process, level):
    X = gaussian()
    mixture = GaussianMixture(1).fit(X)
    density = quick(process=process, reference=mixture, marginals=None, max_fit_time=1e-9).fit(X)
    mean, matrix = (density.latent_map_[f"1.whitening.{name}"] for name in ("mean", "matrix"))
    rate = 0.1 * level + 19.9 * level**2 / 2
    a, v = {
        "VP": (np.exp(-rate / 2), 1 - np.exp(-rate)),
        "SubVP": (np.exp(-rate / 2), (1 - np.exp(-rate)) ** 2),
        "VE": (1.0, (0.01 * 500**level) ** 2),
        "PBM": (1 - level, 4 * level * (1 - level)),
    }[type(process).__name__]
    if level == 0:
        a, v = 1.0, 0.0
    covariance = a**2 * matrix.T @ mixture.covariances_[0] @ matrix + v * np.eye(2)
    center = a * (mixture.means_[0] - mean) @ matrix
    latent = -((X - mean) @ matrix - center) @ np.linalg.inv(covariance)
    np.testing.assert_allclose(
        density.stein_score(X, noise_level=level), latent @ matrix.T, rtol=1e-6, atol=1e-9
    )


# Seeds


def test_seeds():
    X = bimodal()
    seeded = partial(quick, max_epochs=8, marginals="standardize")
    fits = [seeded(random_state=seed).fit(X).score_samples(X) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(fits[0], fits[1])
    assert np.abs(fits[0] - fits[2]).max() > 1e-6
    states = [
        seeded(random_state=np.random.RandomState(3)).fit(X).score_samples(X) for _ in range(2)
    ]
    np.testing.assert_array_equal(*states)
    free = [seeded(random_state=None).fit(X).score_samples(X) for _ in range(2)]
    assert np.abs(free[0] - free[1]).max() > 1e-6
