"""Densities times weights: exact mixtures, constants, repeated tilting, and bad input."""

import warnings

import numpy as np
import pytest
import torch
from scipy.stats import norm
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.mixture import GaussianMixture
from test_controlled_paths import BASE, COVARIANCES, LOG_Z, MEANS, TILTED, WEIGHTS, log_weight

from sklearn_dsm import DSMDensityEstimator, GMMScoreEstimator, TiltedSampler
from sklearn_dsm._core.noise.level import NoiseLevel
from sklearn_dsm._core.random import torch_generator
from sklearn_dsm._mixtures.parameters import mixture_from
from sklearn_dsm.metrics import energy_distance, sliced_wasserstein_distance
from sklearn_dsm.sampling._callables import RowFunction
from sklearn_dsm.sampling._tilted_density import TiltedDensity
from sklearn_dsm.sampling._tilted_fit import next_temperature
from sklearn_dsm.utils import parametrize_with_density_checks

MIXTURE = mixture_from(WEIGHTS.numpy(), MEANS.numpy(), COVARIANCES.numpy())
QUICK = {"n_train": 2000, "max_epochs": 8, "n_paths": 2000, "n_steps": 50, "random_state": 0}
QUICK["hidden_layer_sizes"] = (32, 32)
# For laws that hold however little was learned.
TINY = QUICK | {"n_train": 500, "max_epochs": 2, "n_paths": 500, "n_steps": 20}
CLEAN = NoiseLevel.clean(MEANS)
METHODS = ("csm", "nsm", "adjoint", "cmcd", "nets")


@pytest.fixture(scope="module")
def fits():
    return {
        method: TiltedSampler(MIXTURE, log_weight, method=method, **QUICK).fit()
        for method in METHODS
    }


@pytest.fixture(scope="module")
def truth():
    return TILTED.sample(2000, CLEAN, torch_generator(7)).numpy()


@pytest.mark.parametrize("method", METHODS)
def test_a_tilted_mixture_is_found(method, fits, truth):
    fit = fits[method]
    assert abs(fit.log_normalizer_ - LOG_Z) < 0.03
    assert fit.ess_ > 0.8
    assert fit.elbo_ <= fit.log_normalizer_
    base = BASE.sample(2000, CLEAN, torch_generator(8)).numpy()
    before = sliced_wasserstein_distance(base, truth, random_state=0)
    after = sliced_wasserstein_distance(fit.sample(2000, random_state=0), truth, random_state=0)
    assert after < 0.35 * before


def test_log_densities_are_the_base_s_plus_the_weight(fits, truth):
    fit = fits["csm"]
    expected = MIXTURE.score_samples(truth) + log_weight(torch.from_numpy(truth)).numpy()
    np.testing.assert_allclose(fit.score_samples(truth), expected - fit.log_normalizer_)


def test_scores_are_near_the_exact_ones_at_every_level(fits):
    """Of the noised tilted mixture, in its own units."""
    fit, process = fits["csm"], fits["csm"].process_
    clean = TILTED.sample(500, CLEAN, torch_generator(0))
    exact = TILTED.score(clean, CLEAN).numpy()
    np.testing.assert_allclose(fit.stein_score(clean.numpy()), exact, rtol=1e-6, atol=1e-8)
    model = fit._latent_density().model
    base = fit._latent_density().base.model
    whitening = fit._latent_base()[0].parts[0]
    W = torch.from_numpy(whitening.matrix)
    means = (TILTED_MEANS - torch.from_numpy(whitening.mean)) @ W
    latent = type(TILTED)(TILTED.log_weights.exp(), means, W.T @ TILTED_COVARIANCES @ W)
    for time in (0.1, 0.3, 0.6):
        level = process.scored_level(time)
        rows = latent.sample(1000, level, torch_generator(1))
        truth, learned, before = (m.score(rows, level) for m in (latent, model, base))
        error = (learned - truth).square().mean()
        assert error < 0.25 * (before - truth).square().mean()


TILTED_COVARIANCES = torch.einsum("kij,kj,klj->kil", TILTED.axes, TILTED.eigenvalues, TILTED.axes)
TILTED_MEANS = torch.einsum("ke,kde->kd", TILTED.rotated_means, TILTED.axes)


@pytest.mark.parametrize("method", ["cmcd", "nets"])
def test_guided_paths_have_no_scores_of_noised_samples(method, fits, truth):
    fit = fits[method]
    np.testing.assert_allclose(
        fit.stein_score(truth[:9]), fits["csm"].stein_score(truth[:9]), rtol=1e-6
    )
    with pytest.raises(ValueError, match="do not pass noised samples"):
        fit.stein_score(truth, noise_level=0.5)
    with pytest.raises(ValueError, match="add its log_weight to this one"):
        TiltedSampler(fit, log_weight).fit()
    assert len(fit.loss_curve_) == 2 * QUICK["max_epochs"] and fit.guided_


def test_weighted_samples_estimate_means(fits, truth):
    fit = fits["csm"]
    X, logs = fit.sample_weighted(4000, random_state=1)
    np.testing.assert_array_equal(X, fit.sample(4000, random_state=1))
    w = np.exp(logs - logs.max())
    mean = (w[:, None] * X).sum(0) / w.sum()
    np.testing.assert_allclose(mean, truth.mean(0), atol=0.08)


def test_a_constant_shifts_the_constant_and_nothing_else():
    fit = TiltedSampler(MIXTURE, log_weight, **TINY).fit()
    shifted = TiltedSampler(MIXTURE, lambda x: log_weight(x) + 3.0, **TINY).fit()
    assert shifted.log_normalizer_ == pytest.approx(fit.log_normalizer_ + 3, abs=1e-6)
    np.testing.assert_allclose(
        shifted.sample(50, random_state=0), fit.sample(50, random_state=0), atol=1e-4
    )


def test_a_constant_weight_leaves_the_base():
    fit = TiltedSampler(MIXTURE, lambda x: 0 * x[:, 0] + 2.0, **TINY).fit()
    assert fit.log_normalizer_ == pytest.approx(2.0, abs=0.01)
    assert fit.ess_ > 0.99
    X = BASE.sample(50, CLEAN, torch_generator(0)).numpy()
    np.testing.assert_allclose(fit.score_samples(X), MIXTURE.score_samples(X), atol=0.01)


def test_two_tilts_are_one():
    """A normal density moved twice, by linear weights."""
    normal = mixture_from(np.ones(1), np.zeros((1, 2)), np.eye(2)[None])
    settings = QUICK | {"max_epochs": 4, "n_paths": 1000}
    first = TiltedSampler(normal, lambda x: x[:, 0], **settings).fit()
    second = TiltedSampler(first, lambda x: -x[:, 1], **settings).fit()
    X = np.random.default_rng(0).normal([1, -1], size=(500, 2))
    exact = -0.5 * ((X - [1, -1]) ** 2).sum(1) - np.log(2 * np.pi)
    np.testing.assert_allclose(second.score_samples(X), exact, atol=0.05)
    before = energy_distance(normal.sample(1000)[0], X)
    assert energy_distance(second.sample(1000, random_state=0), X) < 0.2 * before


def test_weights_that_collapse_are_raised_in_stages():
    normal = mixture_from(np.ones(1), np.zeros((1, 1)), np.eye(1)[None])
    settings = QUICK | {"max_epochs": 5, "n_paths": 1000}
    fit = TiltedSampler(normal, lambda x: 4 * x[:, 0], **settings).fit()
    assert len(fit.stages_) >= 3 and fit.stages_ == sorted(fit.stages_)
    assert fit.log_normalizer_ == pytest.approx(8.0, abs=0.15)
    X, logs = fit.sample_weighted(2000, random_state=0)
    assert np.average(X[:, 0], weights=np.exp(logs - logs.max())) == pytest.approx(4.0, abs=0.1)
    assert next_temperature(np.zeros(10), np.zeros(10), 0.0) == 1.0


def test_a_learned_density_is_tilted():
    X = np.random.default_rng(0).normal(size=(400, 2)) @ [[1.0, 0.5], [0.0, 1.0]] + 5
    base = DSMDensityEstimator(max_epochs=5, random_state=0).fit(X)
    settings = QUICK | {"max_epochs": 4, "n_paths": 1000}
    fit = TiltedSampler(FrozenEstimator(base), lambda x: 0.5 * x[:, 0], **settings).fit()
    grid = np.stack(np.meshgrid(*[np.linspace(0, 11, 56)] * 2), -1).reshape(-1, 2)
    cell = (11 / 55) ** 2
    assert np.exp(fit.score_samples(grid)).sum() * cell == pytest.approx(1, abs=0.03)
    # As importance resampling of the base.
    draws = base.sample(3000, random_state=1)
    w = np.exp(0.5 * draws[:, 0])
    expected = (w[:, None] * draws).sum(0) / w.sum()
    np.testing.assert_allclose(fit.sample(3000, random_state=0).mean(0), expected, atol=0.1)
    assert clone(fit).fit().log_normalizer_ == fit.log_normalizer_


def test_same_seed_same_fit():
    one, other = (
        clone(TiltedSampler(FrozenEstimator(MIXTURE), log_weight, **TINY)).fit() for _ in range(2)
    )
    assert other.log_normalizer_ == one.log_normalizer_
    np.testing.assert_array_equal(other.sample(20, random_state=3), one.sample(20, random_state=3))


def test_functions_of_numpy_arrays():
    def weight(X):
        return np.sin(np.asarray(X)[:, 0])

    def gradient(X):
        return np.column_stack([np.cos(X[:, 0]), np.zeros(len(X))])

    plain = TiltedSampler(MIXTURE, weight, **TINY).fit()
    in_torch = TiltedSampler(MIXTURE, lambda x: x[:, 0].sin(), **TINY).fit()
    assert plain.log_normalizer_ == pytest.approx(in_torch.log_normalizer_, abs=1e-6)
    X = plain.sample(5, random_state=0)
    with pytest.raises(ValueError, match="give grad_log_weight"):
        plain.stein_score(X)
    with pytest.raises(ValueError, match="Gradients of log_weight are needed"):
        TiltedSampler(MIXTURE, weight, method="nsm", **TINY).fit()
    given = TiltedSampler(MIXTURE, weight, grad_log_weight=gradient, **TINY).fit()
    np.testing.assert_allclose(given.stein_score(X), in_torch.stein_score(X), atol=1e-6)
    with pytest.raises(ValueError, match="disagrees with finite differences"):
        TiltedSampler(MIXTURE, weight, grad_log_weight=lambda X: -gradient(X), **TINY).fit()


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (lambda x: x[:, 0] * torch.nan, "log_weight is nan"),
        (lambda x: x[:, 0] + torch.inf, "log_weight is inf"),
        (lambda x: x, "must return"),
        (lambda x: x.sum(), "must return"),
        (lambda x: 0 * x[:, 0] - torch.inf, "All weights are zero"),
    ],
)
def test_bad_weights(weight, message):
    with pytest.raises(ValueError, match=message):
        TiltedSampler(MIXTURE, weight, **QUICK).fit()


def test_bad_bases_and_samples():
    with pytest.raises(NotFittedError):
        TiltedSampler(GaussianMixture(), log_weight).fit()
    with pytest.raises(ValueError, match="X has 3 features, and the base has 2"):
        TiltedSampler(MIXTURE, log_weight).fit(np.zeros((9, 3)) + np.arange(9)[:, None])
    with pytest.raises(ValueError, match="hidden_layer_sizes"):
        TiltedSampler(MIXTURE, log_weight, hidden_layer_sizes=(0,)).fit()


def test_weights_of_most_samples_may_be_zero():
    """A normal density cut off: log Z is the logarithm of the probability of what is left."""
    normal = mixture_from(np.ones(1), np.zeros((1, 1)), np.eye(1)[None])
    fit = TiltedSampler(normal, lambda x: torch.where(x[:, 0] > 1.5, 0.0, -torch.inf), **QUICK)
    assert fit.fit().log_normalizer_ == pytest.approx(norm.logsf(1.5), abs=0.1)


@pytest.mark.filterwarnings("ignore:Only")
def test_an_interrupt_between_stages_keeps_the_last(monkeypatch):
    normal = mixture_from(np.ones(1), np.zeros((1, 1)), np.eye(1)[None])
    sampler = TiltedSampler(normal, lambda x: 4 * x[:, 0], **QUICK)
    draw, calls = TiltedDensity.weighted_sample, []

    def interrupted(self, n, seed):
        calls.append(n)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return draw(self, n, seed)

    monkeypatch.setattr(TiltedDensity, "weighted_sample", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sampler.fit()
    assert len(sampler.stages_) == 2 and sampler.stages_[-1] < 1
    assert sampler.sample(50, random_state=0).mean() > 0.5


def test_functions_may_work_in_place():
    def in_place(x):
        x -= 1.0
        return x[:, 0]

    fit = TiltedSampler(MIXTURE, in_place, **TINY).fit()
    plain = TiltedSampler(MIXTURE, lambda x: x[:, 0] - 1.0, **TINY).fit()
    assert fit.log_normalizer_ == pytest.approx(plain.log_normalizer_, abs=1e-6)


@pytest.mark.filterwarnings("ignore:Only")
def test_few_effective_paths_are_told():
    normal = mixture_from(np.ones(1), np.zeros((1, 1)), np.eye(1)[None])
    lazy = {"max_epochs": 1, "n_train": 300, "max_fit_time": 1e-6, "n_paths": 2000}
    with pytest.warns(UserWarning, match="raised to the power"):
        TiltedSampler(normal, lambda x: 6 * x[:, 0], random_state=0, **lazy).fit()


def test_a_slow_function_is_hinted_at(monkeypatch):
    """By a clock that only the function advances."""
    clock = [0.0]
    monkeypatch.setattr("sklearn_dsm.sampling._callables.time.perf_counter", lambda: clock[0])

    def loop(X):
        clock[0] += 4e-4 * len(X)
        return np.asarray(X)[:, 0]

    def at_once(X):
        clock[0] += 4e-4
        return np.asarray(X)[:, 0]

    rows = torch.zeros(64, 2).double()
    with pytest.warns(UserWarning, match="as a loop over samples does"):
        RowFunction(loop, None, "log_weight").check(rows)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        RowFunction(at_once, None, "log_weight").check(rows)


class TiltedMixture(TiltedSampler):
    """A mixture that fit learns from X, times a constant: keeps the contract of densities."""

    _parameter_constraints = {}

    def __init__(self, n_components=2):
        super().__init__(None, one, n_paths=200, n_train=200, max_epochs=1, random_state=0)
        self.n_components = n_components

    def fit(self, X, y=None, sample_weight=None):
        mixture = GMMScoreEstimator(self.n_components, random_state=0)
        self.base_ = mixture.fit(X, sample_weight=sample_weight)
        for name in ("n_features_in_", "feature_names_in_"):
            if hasattr(mixture, name):
                setattr(self, name, getattr(mixture, name))
        return super().fit(None)

    def _base(self):
        return self.base_


def one(X):
    return 0 * X[:, 0] + 1.0


def unplain(estimator):
    return {"check_fitted_state_is_plain": "the parameter log_weight is a function"}


@parametrize_with_density_checks([TiltedMixture()], expected_failed_checks=unplain)
def test_density_contract(estimator, check):
    check(estimator)
