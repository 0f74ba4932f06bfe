"""Learned diffusions: exact weights for any network, the same optimum for all losses, and fits."""

import math
import pickle

import numpy as np
import pytest
import torch
from sklearn.utils.estimator_checks import parametrize_with_checks

from sklearn_dsm import DiffusionSampler
from sklearn_dsm._budget import Budget
from sklearn_dsm._core.random import torch_generator
from sklearn_dsm.sampling import _diffusion
from sklearn_dsm.sampling._bounds import Bounds
from sklearn_dsm.sampling._callables import RowFunction
from sklearn_dsm.sampling._diffusion import METHODS
from sklearn_dsm.sampling._path_losses import LOSSES
from sklearn_dsm.sampling._prior_scale import locate
from sklearn_dsm.sampling._target import DifferentiableTarget, Target

# Weights of untrained networks are uneven by construction.
pytestmark = pytest.mark.filterwarnings("ignore:Only .* of the samples are effective")

MEANS = torch.tensor([[-1.5, 0.0], [1.0, 1.0]], dtype=torch.float64)
LOG_Z = 1.7


def log_mixture(x):
    """Two normal components of weights .3 and .7 and standard deviation .7, times e^LOG_Z."""
    squares = ((x[:, None] - MEANS) ** 2).sum(-1) / 0.49
    logs = torch.tensor([0.3, 0.7], dtype=torch.float64).log() - 0.5 * squares
    return torch.logsumexp(logs, 1) - math.log(2 * math.pi * 0.49) + LOG_Z


def mixture_samples(n, seed=0):
    random = np.random.default_rng(seed)
    picks = (random.random(n) < 0.7).astype(int)
    return MEANS.numpy()[picks] + 0.7 * random.normal(size=(n, 2))


def log_gaussian(x):
    """Standard deviations 1.5 and .5, mean (1, 0); the constant is log(2 pi 1.5 .5)."""
    return -0.5 * (((x[:, 0] - 1) / 1.5) ** 2 + (x[:, 1] / 0.5) ** 2)


LOG_Z_GAUSSIAN = math.log(2 * math.pi * 1.5 * 0.5)


def quick(log_density=log_mixture, **params):
    common = {"n_steps": 3, "max_iter": 1, "batch_size": 8, "hidden_layer_sizes": (8,)}
    common |= {"n_features": 2, "prior_scale": 2.0, "random_state": 0}
    return DiffusionSampler(log_density, **(common | params))


def with_random_network(sampler, seed=0, spread=0.15):
    """The sampler with weights that nobody has trained."""
    random = np.random.default_rng(seed)
    sampler.network_weights_ = {
        name: np.asarray(value + spread * random.normal(size=value.shape), value.dtype)
        for name, value in sampler.network_weights_.items()
    }
    return sampler


def log_mean(log_weights):
    """Logarithm of the mean weight, and its standard error."""
    weights = np.exp(log_weights - log_weights.max())
    error = weights.std() / weights.mean() / math.sqrt(len(weights))
    return math.log(weights.mean()) + log_weights.max(), error


# One method for each kind of steps; the others differ in how they learn.
KINDS = ["dds", "pis", "cmcd"]


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("method", KINDS)
def test_the_mean_weight_is_the_constant_for_any_network(method, seed):
    sampler = with_random_network(quick(method=method, prior_scale=1.2).fit(), seed)
    log_z, error = log_mean(sampler.sample_weighted(100_000, seed)[1])
    assert error < 0.1
    assert abs(log_z - LOG_Z) < 3 * error


@pytest.mark.parametrize("method", ["dds", "pis"])
def test_the_mean_weight_is_the_constant_without_gradients(method):
    def log_density(x):
        return log_mixture(torch.from_numpy(np.asarray(x))).numpy()

    sampler = with_random_network(quick(log_density, method=method).fit())
    log_z, error = log_mean(sampler.sample_weighted(100_000, 0)[1])
    assert abs(log_z - LOG_Z) < 3 * error < 0.3


@pytest.mark.parametrize("method", KINDS)
def test_paths_back_from_samples_have_the_inverse_constant(method):
    """E[1 / w] over samples of the target that are led back is 1 / Z, for any network."""
    sampler = with_random_network(quick(method=method, prior_scale=0.8).fit())
    target = sampler._target(RowFunction(log_mixture, None, "log_density"))
    fitted = sampler._fitted_sampler()
    ends = target.from_input(torch.from_numpy(mixture_samples(50_000)))
    path = fitted.process.reverse(fitted.control, target, ends, torch_generator(1))
    log_weights = fitted.process.log_weights(path)[0].numpy()
    log_inverse, error = log_mean(-log_weights)
    assert error < 0.1
    assert abs(log_inverse + LOG_Z) < 3 * error
    # Jensen's inequality, both ways.
    assert log_weights.mean() > LOG_Z > sampler.sample_weighted(10_000, 0)[1].mean()


@pytest.mark.parametrize("method", ["dds", "pis"])
@pytest.mark.parametrize("n_steps", [1, 5])
def test_without_control_the_reference_has_equal_weights(method, n_steps):
    def log_density(x):
        return -0.5 * (x**2).sum(1) / 4

    sampler = quick(log_density, method=method, n_steps=n_steps).fit()
    sampler.network_weights_ = {k: 0 * v for k, v in sampler.network_weights_.items()}
    X, log_weights = sampler.sample_weighted(10_000, 0)
    assert np.ptp(log_weights) < 1e-13
    assert log_weights[0] == pytest.approx(math.log(2 * math.pi * 4), abs=1e-13)
    np.testing.assert_allclose(X.std(0), 2, rtol=0.03)


@pytest.mark.parametrize("method", ["dds", "pis", "pdds"])
@pytest.mark.parametrize("n_steps", [4, 16])
def test_a_shift_is_steered_exactly_by_gradients_alone(method, n_steps):
    """The gradient of the ratio to the reference is then a constant, and so is the control."""

    def log_density(x):
        return -0.5 * ((x - 0.5) ** 2).sum(1)

    sampler = quick(log_density, method=method, n_steps=n_steps, prior_scale=1.0).fit()
    sampler.network_weights_ = {k: 0 * v for k, v in sampler.network_weights_.items()}
    X, log_weights = sampler.sample_weighted(5000, 0)
    # What is left of the sample in the start is not in the start's density.
    assert log_weights.std() < 0.02
    np.testing.assert_allclose(X.mean(0), 0.5, atol=0.05)


@pytest.mark.parametrize("method", METHODS)
def test_a_constant_shifts_the_normaliser_alone(method):
    def shifted(x):
        return log_mixture(x) + 3.0

    plain, other = (
        quick(f, method=method, n_steps=5, max_iter=4).fit() for f in (log_mixture, shifted)
    )
    assert other.log_normalizer_ == pytest.approx(plain.log_normalizer_ + 3, abs=1e-3)
    np.testing.assert_allclose(plain.sample(50, 1), other.sample(50, 1), atol=1e-3)


def test_log_variance_and_log_derivative_have_one_gradient():
    """Where nothing but the control is learned."""
    sampler = quick().fit()
    target = sampler._target(RowFunction(log_mixture, None, "log_density"))
    gradients = {}
    for name in ("lv", "rkl_ld"):
        module = sampler._fitted_sampler()
        module.control.requires_grad_()
        LOSSES[name](module.process, module.control, target, 50, torch_generator(3))[0].backward()
        gradients[name] = module.control.last.weight.grad.clone()
    torch.testing.assert_close(gradients["lv"], 2 * gradients["rkl_ld"])


@pytest.mark.parametrize("method", KINDS)
def test_both_forms_of_the_divergence_have_one_gradient(method):
    """In expectation: through the paths, and by their log-derivative."""
    sampler = with_random_network(quick(method=method, loss="rkl_ld").fit())
    target = sampler._target(RowFunction(log_mixture, None, "log_density"))
    found = {}
    for name in ("kl", "rkl_ld"):
        draws = []
        for seed in range(12):
            module = sampler._module(torch_generator(0), learned=True)
            module.load_state_dict(
                {k: torch.from_numpy(v) for k, v in sampler.network_weights_.items()}
            )
            LOSSES[name](module.process, module.control, target, 2500, torch_generator(seed))[
                0
            ].backward()
            draws.append(
                torch.cat([module.process.log_scale.grad, module.control.last.bias.grad.double()])
            )
        draws = torch.stack(draws)
        found[name] = draws.mean(0), draws.std(0) / math.sqrt(len(draws))
    (first, first_error), (second, second_error) = found["kl"], found["rkl_ld"]
    assert ((first - second).abs() < 4 * (first_error**2 + second_error**2).sqrt()).all()


def test_gradients_of_gradients_are_second_derivatives():
    for bounds in (None, [(-4, 4), (-3, None)]):
        plain = Target(
            RowFunction(log_mixture, None, "f"), Bounds(bounds, 2), MEANS[0], MEANS[1] + 1
        )
        target = DifferentiableTarget(plain)
        z = torch.tensor([[0.3, -0.4], [1.0, 0.2]], dtype=torch.float64, requires_grad=True)
        direction = torch.tensor([[1.0, 2.0], [-1.0, 0.5]], dtype=torch.float64)
        (product,) = torch.autograd.grad((target.gradients(z) * direction).sum(), z)
        for row in range(2):

            def value(leaf, plain=plain):
                x, log_determinant = plain.to_input(leaf[None])
                return (log_mixture(x) + log_determinant)[0]

            hessian = torch.autograd.functional.hessian(value, z[row].detach())
            torch.testing.assert_close(product[row], hessian @ direction[row], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(
            torch.autograd.grad(target.values(z).sum(), z)[0], plain.gradients(z)
        )


@pytest.fixture(scope="module")
def fitted():
    """Samplers of a normal distribution after a short training, by method and loss."""
    known = {}

    def fit(method, loss="auto"):
        if (method, loss) not in known:
            # Differentiating through paths takes longer, and fewer steps.
            max_iter = 40 if loss == "kl" else 100
            params = {"n_steps": 8, "max_iter": max_iter, "batch_size": 96, "prior_scale": "auto"}
            params |= {"method": method, "loss": loss, "hidden_layer_sizes": (24,)}
            known[method, loss] = quick(log_gaussian, **params).fit()
        return known[method, loss]

    return fit


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("method", KINDS)
def test_every_loss_finds_the_optimum(method, loss, fitted):
    sampler = fitted(method, loss)
    assert sampler.ess_ > 0.8
    assert abs(sampler.elbo_ - LOG_Z_GAUSSIAN) < 0.15
    assert abs(sampler.log_normalizer_ - LOG_Z_GAUSSIAN) < 4 * sampler.log_normalizer_stderr_


@pytest.mark.parametrize("method", ["nets", "adjoint", "pdds"])
def test_methods_with_a_loss_of_their_own_learn(method, fitted):
    sampler = fitted(method)
    assert sampler.ess_ > 0.6
    assert abs(sampler.log_normalizer_ - LOG_Z_GAUSSIAN) < 4 * sampler.log_normalizer_stderr_


def test_samples_have_the_moments_of_the_target(fitted):
    X = fitted("dds").sample(4000, 0, resample=True)
    np.testing.assert_allclose(X.mean(0), [1, 0], atol=0.15)
    np.testing.assert_allclose(X.std(0), [1.5, 0.5], rtol=0.1)


@pytest.mark.parametrize("method", KINDS)
def test_both_bounds_hold(method):
    X = mixture_samples(4000)
    sampler = quick(method=method, n_steps=12, max_iter=30, prior_scale="auto").fit(X)
    np.testing.assert_allclose(sampler.prior_mean_, X.mean(0))
    assert sampler.elbo_ < LOG_Z < sampler.eubo_
    assert "eubo_" not in vars(sampler.fit())


def test_bounds_with_known_constants():
    def uniform(x):
        return torch.zeros(len(x), dtype=x.dtype)

    sampler = quick(uniform, bounds=[(0, 2), (-1, 4)], n_steps=8, max_iter=20).fit()
    assert abs(sampler.log_normalizer_ - math.log(10)) < 4 * sampler.log_normalizer_stderr_
    X = sampler.sample(1000, 0)
    assert (X > [0, -1]).all() and (X < [2, 4]).all()

    def exponential(x):
        return -x[:, 0] + 3 * x[:, 1]

    sampler = quick(exponential, bounds=[(0, None), (None, 1)], n_steps=8, max_iter=20).fit()
    expected = math.log(math.exp(3) / 3)
    assert abs(sampler.log_normalizer_ - expected) < 4 * sampler.log_normalizer_stderr_


def test_zero_density_outside_of_a_region():
    def half(x):
        return torch.where(x[:, 0] > 0, log_gaussian(x), -torch.inf)

    sampler = quick(half, n_steps=8, max_iter=30, batch_size=64).fit()
    expected = LOG_Z_GAUSSIAN + math.log(0.5 * math.erfc(-1 / 1.5 / math.sqrt(2)))
    assert abs(sampler.log_normalizer_ - expected) < 4 * sampler.log_normalizer_stderr_
    assert (sampler.sample(500, 0, resample=True)[:, 0] > 0).all()


def test_the_start_is_found():
    def far(x):
        return -0.5 * (((x - torch.tensor([8.0, -2.0])) / torch.tensor([0.5, 5.0])) ** 2).sum(1)

    for log_density, mean, std in (
        (far, [8, -2], [0.5, 5]),
        (log_mixture, [0.25, 0.7], [1.342, 0.837]),
    ):
        plain = Target(
            RowFunction(log_density, None, "f"), Bounds(None, 2), torch.zeros(2), torch.ones(2)
        )
        found = locate(plain, 2, torch_generator(0), Budget())
        np.testing.assert_allclose(found[0], mean, atol=0.2 * max(std))
        np.testing.assert_allclose(found[1], std, rtol=0.3)


def test_samples_are_reproducible():
    first, second = quick(max_iter=3).fit(), quick(max_iter=3).fit()
    X, log_weights = first.sample_weighted(200, 4)
    assert X.shape == (200, 2) and X.dtype == log_weights.dtype == np.float64
    for other in (second, pickle.loads(pickle.dumps(first)), first.set_params(batch_size=99)):
        again = other.sample_weighted(200, 4)
        np.testing.assert_array_equal(X, again[0])
        np.testing.assert_array_equal(log_weights, again[1])
    np.testing.assert_array_equal(first.sample(200, 4), X)
    assert not np.array_equal(first.sample(200, 5), X)


def test_chunks_bound_the_memory(monkeypatch):
    """Many paths are drawn in parts, whose weights have the same mean."""
    monkeypatch.setattr(_diffusion, "NUMBERS_PER_CHUNK", 1)
    sampler = quick().fit()
    assert sampler._chunks(150) == [64, 64, 22]
    log_z, error = log_mean(sampler.sample_weighted(5_000, 0)[1])
    assert abs(log_z - LOG_Z) < 4 * error


def test_a_warm_start_continues():
    sampler = quick(prior_scale="auto", max_iter=5, warm_start=True).fit()
    earlier, n_evaluations = sampler.network_weights_, sampler.n_evaluations_
    start = sampler._scale.copy()
    sampler.set_params(learning_rate=1e-12, random_state=7).fit()
    assert sampler.n_iter_ == len(sampler.loss_curve_) == 10
    assert sampler.n_evaluations_ > n_evaluations
    np.testing.assert_array_equal(sampler._scale, start)
    for name, value in sampler.network_weights_.items():
        np.testing.assert_allclose(value, earlier[name], atol=1e-6)
    for change in ({"n_steps": 4}, {"method": "pis"}, {"hidden_layer_sizes": (9,)}):
        with pytest.raises(ValueError, match="warm_start=True continues"):
            pickle.loads(pickle.dumps(sampler)).set_params(**change).fit()
    sampler.set_params(warm_start=False).fit()
    assert sampler.n_iter_ == 5


class Interrupting:
    """A log-density that is interrupted at one of its calls."""

    def __init__(self, at):
        self.n_calls, self.at = 0, at

    def __call__(self, x):
        self.n_calls += 1
        if self.n_calls == self.at:
            raise KeyboardInterrupt
        return log_mixture(x)


def test_an_interrupted_fit_keeps_what_it_learned():
    counting = Interrupting(-1)
    quick(counting, max_iter=50).fit()
    sampler = quick(Interrupting(counting.n_calls // 2), max_iter=50)
    with pytest.raises(KeyboardInterrupt, match="warm_start=True continues"):
        sampler.fit()
    assert sampler.stop_reason_ == "interrupted" and 1 <= sampler.n_iter_ < 50
    assert sampler.sample(3, 0).shape == (3, 2)
    late = quick(Interrupting(counting.n_calls), max_iter=50)
    with pytest.raises(KeyboardInterrupt):
        late.fit()
    assert late.n_iter_ == 50 and not hasattr(late, "log_normalizer_")
    assert np.isfinite(late.sample_weighted(3, 0)[1]).all()
    early = quick(Interrupting(3))
    with pytest.raises(KeyboardInterrupt):
        early.fit()
    assert not hasattr(early, "network_weights_")


def test_time_ends_a_fit():
    sampler = quick(max_iter="auto", max_fit_time=0.5).fit()
    assert sampler.stop_reason_ == "max_fit_time" and sampler.n_iter_ >= 1
    assert quick(max_iter=3, max_fit_time=100).fit().n_iter_ == 3


def test_evaluations_are_counted_and_lines_printed(capsys):
    seen = []

    def log_density(x):
        seen.append(len(x))
        return -0.5 * (x**2).sum(1)

    def gradient(x):
        return -x

    sampler = quick(log_density, grad_log_density=gradient, max_iter=4, verbose=2).fit()
    # One row tells whether it is a function of tensors.
    assert sampler.n_evaluations_ == sum(seen) - 1
    assert capsys.readouterr().out.count("loss") == 4


@pytest.mark.parametrize(
    "params, match",
    [
        ({"n_features": None}, "number of features is not known"),
        ({"n_features": 0}, "n_features"),
        ({"bounds": [(0, 1)]}, "numbers of features disagree"),
        ({"bounds": [(1, 1), (0, 1)]}, "exclude everything"),
        ({"prior_scale": [1.0, -1.0]}, "prior_scale"),
        ({"prior_scale": [1.0, 1.0, 1.0]}, "prior_scale"),
        ({"hidden_layer_sizes": ()}, "hidden_layer_sizes"),
        ({"method": "adjoint", "loss": "lv"}, "has no effect with method='adjoint'"),
        ({"log_density": lambda x: x}, "returned an array of shape"),
        ({"log_density": lambda x: x[:, 0] * math.nan}, "is nan at"),
        ({"log_density": lambda x: x[:, 0] - math.inf}, "All weights are zero"),
        ({"log_density": lambda x: x[:, 0] - math.inf, "prior_scale": "auto"}, "-inf at all"),
        ({"grad_log_density": lambda x: x}, "disagrees with finite differences"),
        ({"grad_log_density": lambda x: x[:, 0]}, "must return the same shape"),
    ],
)
def test_errors_tell_what_to_change(params, match):
    with pytest.raises(ValueError, match=match):
        quick().set_params(**params).fit()


@pytest.mark.parametrize(
    "params", [{"loss": "kl"}, {"method": "cmcd"}, {"method": "adjoint"}, {"method": "pdds"}]
)
def test_gradients_are_asked_for_where_there_are_none(params):
    def log_density(x):
        return -0.5 * (np.asarray(x) ** 2).sum(1)

    with pytest.raises(ValueError, match="needs gradients"):
        quick(log_density, **params).fit()


class Standard:
    """A log-density with the same name in every process, for the names of the tests."""

    def __call__(self, x):
        return -0.5 * (x**2).sum(1)

    def __repr__(self):
        return "standard"


@parametrize_with_checks([quick(Standard(), n_features=None)])
def test_checks_of_scikit_learn(estimator, check):
    check(estimator)


def test_errors_of_reference_points_and_numbers():
    X = mixture_samples(20)
    with pytest.raises(ValueError, match="numbers of features disagree"):
        quick().fit(X[:, :1])
    with pytest.raises(ValueError, match="not inside of bounds"):
        quick(bounds=[(0, 1), (0, 1)]).fit(X)
    with pytest.raises(ValueError, match="no samples of the target"):
        quick(lambda x: torch.where(x[:, 0] > 0, x[:, 1], -torch.inf)).fit(X)
    with pytest.raises(ValueError, match="NaN"):
        quick().fit(np.where(X > 0, X, np.nan))
    with pytest.raises(ValueError, match="n_samples"):
        quick().fit().sample(0)
