"""Annealed sampling: exact cases, unbiasedness, invariances, and errors."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import betaln, logsumexp
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

from sklearn_dsm import AnnealedSampler
from sklearn_dsm.datasets import Funnel, GaussianMixtureLaw, ManyWell
from sklearn_dsm.sampling._bounds import Bounds
from sklearn_dsm.sampling._weights import WeightSummary

LOG_2PI = np.log(2 * np.pi)
QUICK = {"n_particles": 200, "n_temperatures": 12, "random_state": 0}


def gaussian(x):
    """N((1, -2), diag(4, 0.25)), without its constant; log Z = log 2 pi."""
    scale = torch.tensor([2.0, 0.5], dtype=torch.float64)
    mean = torch.tensor([1.0, -2.0], dtype=torch.float64)
    return -0.5 * (((x - mean) / scale) ** 2).sum(1)


def bimodal(x):
    """Modes at -3 and 3 of unit variance and weights .3 and .7; log Z = 0."""
    logits = [np.log(w) - 0.5 * ((x - m) ** 2).sum(1) for w, m in ((0.3, -3.0), (0.7, 3.0))]
    return torch.logaddexp(*logits) - 0.5 * LOG_2PI


def standard(x):
    return -0.5 * (x**2).sum(1) - 0.5 * x.shape[1] * LOG_2PI


def quick(log_density, **params):
    return AnnealedSampler(log_density, **(QUICK | params))


@pytest.fixture(scope="module", params=["smc", "ais"])
def fitted(request):
    return AnnealedSampler(
        gaussian, n_features=2, kind=request.param, n_temperatures=32, random_state=0
    ).fit()


def moments(sampler):
    weight = np.exp(sampler.log_weights_ - logsumexp(sampler.log_weights_))
    mean = weight @ sampler.particles_
    return mean, weight @ (sampler.particles_ - mean) ** 2


def test_gaussian_target(fitted):
    assert abs(fitted.log_normalizer_ - LOG_2PI) < 4 * fitted.log_normalizer_stderr_
    assert 0 < fitted.log_normalizer_stderr_ < 0.05
    assert fitted.elbo_ <= fitted.log_normalizer_
    mean, variance = moments(fitted)
    np.testing.assert_allclose(mean, [1, -2], atol=0.25)
    np.testing.assert_allclose(variance, [4, 0.25], rtol=0.2)


def test_attributes(fitted):
    assert fitted.particles_.shape == (2000, 2) and fitted.log_weights_.shape == (2000,)
    assert fitted.ess_by_step_.shape == fitted.betas_.shape == fitted.step_sizes_.shape == (32,)
    assert fitted.feature_scales_.shape == (32, 2)
    assert fitted.betas_[-1] == 1 and (np.diff(fitted.betas_) > 0).all()
    assert 0.5 < fitted.acceptance_rate_ < 1 and 0 < fitted.ess_ <= 1
    assert fitted.n_features_in_ == 2 and fitted.n_evaluations_ > 2000 * 32 * 10
    summary = WeightSummary.of(fitted.log_weights_)
    assert fitted.log_normalizer_ == summary.log_normalizer


def test_samples_have_the_moments_of_the_target(fitted):
    X = fitted.sample(4000, random_state=1)
    np.testing.assert_allclose(X.mean(0), [1, -2], atol=0.25)
    np.testing.assert_allclose(X.var(0), [4, 0.25], rtol=0.2)
    assert len(np.unique(X, axis=0)) == 4000


def test_first_samples_do_not_depend_on_their_number(fitted):
    many = fitted.sample(5000, random_state=3)
    np.testing.assert_array_equal(fitted.sample(10, random_state=3), many[:10])
    np.testing.assert_array_equal(fitted.sample(5000, random_state=3), many)


def test_new_weighted_particles(fitted):
    X, log_weights = fitted.sample_weighted(1500, random_state=5)
    assert X.shape == (1500, 2) and log_weights.shape == (1500,)
    summary = WeightSummary.of(log_weights)
    assert abs(summary.log_normalizer - LOG_2PI) < 0.15
    assert fitted.sample_weighted(3, random_state=0)[0].shape == (3, 2)


def test_same_seed_same_result():
    first, second = (quick(bimodal, n_features=1).fit() for _ in range(2))
    np.testing.assert_array_equal(first.particles_, second.particles_)
    assert first.log_normalizer_ == second.log_normalizer_
    other = quick(bimodal, n_features=1, random_state=1).fit()
    assert other.log_normalizer_ != first.log_normalizer_


@pytest.mark.parametrize("kernel", ["hmc", "mala"])
@pytest.mark.parametrize("kind", ["smc", "ais"])
def test_target_that_is_the_prior_has_equal_weights(kind, kernel):
    sampler = quick(standard, n_features=3, prior_scale=1.0, kind=kind, kernel=kernel).fit()
    np.testing.assert_allclose(sampler.log_weights_, 0, atol=1e-12)
    assert sampler.ess_ == pytest.approx(1) and sampler.log_normalizer_stderr_ < 1e-7


@pytest.mark.parametrize("constant", [-700.0, 3.7, 1e4])
def test_constant_shifts_the_log_normalizer_alone(constant):
    plain = quick(bimodal, n_features=1).fit()
    shifted = quick(lambda x: bimodal(x) + constant, n_features=1).fit()
    assert shifted.log_normalizer_ - plain.log_normalizer_ == pytest.approx(constant, abs=1e-6)
    np.testing.assert_allclose(shifted.particles_, plain.particles_, atol=1e-6)


def repeated(n_runs, **params):
    """Ratios of the estimated to the true normalising constant, with the settings of one fit."""
    sampler = quick(bimodal, n_features=1, n_particles=20, **params).fit()
    return np.array(
        [
            WeightSummary.of(sampler.sample_weighted(20, random_state=seed)[1]).log_normalizer
            for seed in range(n_runs)
        ]
    )


@pytest.mark.filterwarnings("ignore:Only", "ignore:The standard error")
@pytest.mark.parametrize("kind, kernel, n_leapfrog", [("smc", "hmc", 3), ("ais", "mala", 1)])
def test_estimate_is_unbiased(kind, kernel, n_leapfrog):
    params = {"kind": kind, "kernel": kernel, "n_leapfrog": n_leapfrog}
    ratios = np.exp(repeated(200, n_temperatures=4, **params))
    assert abs(ratios.mean() - 1) < 3 * ratios.std() / np.sqrt(200)
    # Enough noise for the test to mean something.
    assert ratios.std() > 0.05


def test_more_temperatures_less_variance():
    """Of independent particles, whose weights give it."""
    errors = [
        quick(
            gaussian, n_features=2, n_particles=1000, prior_scale=4.0, kind="ais", n_temperatures=k
        )
        .fit()
        .log_normalizer_stderr_
        for k in (1, 4, 16, 64)
    ]
    assert (np.array(errors[:-1]) > 1.3 * np.array(errors[1:])).all()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["smc", "ais"])
def test_standard_error_covers(kind):
    """Within two standard errors in about 95 %; 19 degrees of freedom give 94 %."""
    scores = []
    for seed in range(60):
        sampler = quick(bimodal, n_features=1, n_particles=500, kind=kind, random_state=seed).fit()
        scores.append(sampler.log_normalizer_ / sampler.log_normalizer_stderr_)
    # Fewer than 51 of 60 have a probability of about one in a thousand.
    assert (np.abs(scores) < 2).sum() >= 51


def test_bounds_beta_and_exponential():
    """Beta(2.5, 0.7) on (0, 1) and an exponential of rate 3 above 2, both unnormalised."""

    def log_density(x):
        beta = 1.5 * x[:, 0].log() - 0.3 * torch.log1p(-x[:, 0])
        return beta - 3 * (x[:, 1] - 2)

    sampler = AnnealedSampler(
        log_density, bounds=[(0, 1), (2, None)], n_particles=1000, n_temperatures=24, random_state=0
    ).fit()
    truth = betaln(2.5, 0.7) - np.log(3)
    assert abs(sampler.log_normalizer_ - truth) < 4 * sampler.log_normalizer_stderr_
    mean, _ = moments(sampler)
    np.testing.assert_allclose(mean, [2.5 / 3.2, 2 + 1 / 3], atol=0.06)
    X = sampler.sample(1000, random_state=0)
    assert ((X > [0, 2]).all(1) & (X[:, 0] < 1)).all()
    X, _ = sampler.sample_weighted(300, random_state=0)
    assert ((X > [0, 2]).all(1) & (X[:, 0] < 1)).all()


def test_far_particles_stay_strictly_within_the_bounds():
    bounds = Bounds([(0, 1), (-3, None), (None, 5), (1e6, 1e6 + 1)], 4)
    z = torch.tensor([[-1e4], [-50.0], [0.0], [50.0], [1e4]], dtype=torch.float64).expand(-1, 4)
    x, log_jacobian = bounds.to_box(z)
    assert (x > bounds.low).all() and (x < bounds.high).all()
    assert torch.isfinite(log_jacobian).all()


def test_numpy_function_with_gradient_is_that_of_torch():
    def in_numpy(x):
        return -0.5 * (((x - [1, -2]) / [2, 0.5]) ** 2).sum(1)

    def gradient(x):
        return -(x - [1, -2]) / [4, 0.25]

    ours = quick(in_numpy, grad_log_density=gradient, n_features=2).fit()
    torchs = quick(gaussian, n_features=2).fit()
    np.testing.assert_allclose(ours.particles_, torchs.particles_, atol=1e-6)


def test_reference_points_set_the_prior():
    X = np.random.default_rng(0).normal([1000, -5], [3, 0.1], (200, 2))

    def log_density(x):
        mean, scale = (torch.tensor(part, dtype=x.dtype) for part in ([1000.0, -5], [3.0, 0.1]))
        return -0.5 * (((x - mean) / scale) ** 2).sum(1)

    sampler = quick(log_density).fit(X)
    np.testing.assert_allclose(sampler.prior_mean_, X.mean(0))
    np.testing.assert_allclose(sampler.prior_scale_, 1.5 * X.std(0, ddof=1))
    truth = LOG_2PI + np.log(0.3)
    assert abs(sampler.log_normalizer_ - truth) < 4 * sampler.log_normalizer_stderr_


def test_names_of_features_are_those_of_the_last_fit():
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(20, 2)), columns=["a", "b"])
    sampler = quick(standard, n_features=2).fit(X)
    assert sampler.feature_names_in_.tolist() == ["a", "b"]
    assert not hasattr(sampler.fit(), "feature_names_in_") and sampler.n_features_in_ == 2


def test_prior_is_found_by_pilots():
    """For a target far from the origin and wide, and for a narrow one."""
    for mean, scale in ((100.0, 30.0), (0.3, 0.01)):

        def log_density(x, mean=mean, scale=scale):
            return -0.5 * (((x - mean) / scale) ** 2).sum(1)

        sampler = quick(log_density, n_features=2).fit()
        truth = LOG_2PI + 2 * np.log(scale)
        assert abs(sampler.log_normalizer_ - truth) < 5 * sampler.log_normalizer_stderr_
        assert (sampler.prior_scale_ > scale).all() and (sampler.prior_scale_ < 3 * scale).all()


def test_density_that_is_zero_on_a_part():
    """The half-normal as a density with -inf below zero, without bounds."""

    def log_density(x):
        return torch.where(x[:, 0] > 0, -0.5 * x[:, 0] ** 2, -torch.inf)

    sampler = quick(log_density, n_features=1, n_particles=1000).fit()
    assert abs(sampler.log_normalizer_ - 0.5 * np.log(np.pi / 2)) < 0.1
    assert (sampler.sample(200, random_state=0) > 0).all()


class Standard:
    """The standard normal, under a name without an address, which differs between processes."""

    def __call__(self, x):
        return standard(x)

    def __repr__(self):
        return "standard"


@parametrize_with_checks(
    [AnnealedSampler(Standard(), n_particles=20, n_temperatures=3, n_leapfrog=2, random_state=0)]
)
@pytest.mark.filterwarnings("ignore:The standard error", "ignore:Only")
def test_sklearn_checks(estimator, check):
    check(estimator)


def test_result_does_not_depend_on_chunks(monkeypatch):
    whole = quick(bimodal, n_features=1).fit()
    monkeypatch.setattr("sklearn_dsm.sampling._geometric_path.CHUNK_NUMBERS", 64)
    parts = quick(bimodal, n_features=1).fit()
    np.testing.assert_allclose(parts.particles_, whole.particles_, atol=1e-8)


def test_laws_and_targets_are_log_densities():
    for target in (Funnel(3), GaussianMixtureLaw([[-2.0], [2.0]]), ManyWell(2)):
        sampler = quick(target.log_density, n_features=target.n_features, n_particles=500).fit()
        error = sampler.log_normalizer_ - target.log_normalizer
        assert abs(error) < 5 * sampler.log_normalizer_stderr_ + 0.1


def test_clone_and_pickle():
    sampler = quick(bimodal, n_features=1)
    assert clone(sampler).get_params() == sampler.get_params()
    sampler.fit()
    back = pickle.loads(pickle.dumps(sampler))
    np.testing.assert_array_equal(back.sample(5, random_state=0), sampler.sample(5, random_state=0))


def test_verbose(capsys):
    quick(bimodal, n_features=1, verbose=1).fit()
    told = capsys.readouterr().out
    assert "pilot with 200 particles" in told and "temperature 12 of 12" in told
    quick(bimodal, n_features=1).fit()
    assert capsys.readouterr().out == ""


def test_short_time_takes_fewer_temperatures():
    sampler = quick(gaussian, n_features=2, n_temperatures=5000, max_fit_time=0.5)
    with pytest.warns(UserWarning, match="of 5000 temperatures"):
        sampler.fit()
    assert len(sampler.betas_) < 5000 and np.isfinite(sampler.log_normalizer_)


def test_large_error_warns():
    """A target of many narrow directions, with two temperatures."""

    def log_density(x):
        return -1e4 * (x**2).sum(1)

    sampler = quick(log_density, n_features=20, n_temperatures=1, prior_scale=1.0)
    with pytest.warns(UserWarning, match="neither is to be trusted"):
        sampler.fit()


@pytest.mark.parametrize(
    "params, fit, message",
    [
        ({}, (), "number of features is not known"),
        ({"n_features": 3, "bounds": [(0, 1)]}, (), "3 by n_features, 1 by bounds"),
        ({"n_features": 3}, (np.eye(2),), "3 by n_features, 2 by X"),
        ({"n_features": 0}, (), "'n_features' parameter"),
        ({"bounds": [(1, 1)]}, (), "exclude everything"),
        ({"bounds": [(0, 1), (0, 1)]}, (np.eye(2),), "not within the bounds"),
        (
            {"n_features": 1, "kernel": "mala", "n_leapfrog": 3},
            (),
            "does not go with kernel='mala'",
        ),
        ({"log_density": lambda x: x.sum(1) * 0 + torch.nan}, (), "is nan at"),
        ({"log_density": lambda x: x}, (), "must return 1 values"),
        ({"log_density": lambda x: x.sum(1) * 0 - torch.inf}, (), "-inf at all of 200 draws"),
        ({"log_density": lambda x: np.zeros(len(x))}, (), "give grad_log_density"),
        ({"grad_log_density": lambda x: x}, (), "disagrees with finite differences"),
    ],
)
def test_errors(params, fit, message):
    if "log_density" in params or "grad_log_density" in params:
        params = {"n_features": 1, **params}
    sampler = quick(params.get("log_density", standard))
    sampler.set_params(**params)
    with pytest.raises(ValueError, match=message):
        sampler.fit(*fit)
    assert not hasattr(sampler, "log_normalizer_")


def test_sample_needs_a_number():
    sampler = quick(bimodal, n_features=1).fit()
    with pytest.raises(ValueError, match="'n_samples' parameter"):
        sampler.sample(0)
    with pytest.raises(ValueError, match="'n_samples' parameter"):
        sampler.sample_weighted(1.5)
