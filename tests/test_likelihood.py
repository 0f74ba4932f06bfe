"""Laws of the log-densities: the likelihood identity and the probability-flow ODE."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torchdiffeq import odeint

from sklearn_dsm import PBM, VE, VP, SubVP
from sklearn_dsm._core.distributions.gaussian import GaussianScore
from sklearn_dsm._core.distributions.kernel import KernelScore
from sklearn_dsm._core.distributions.mixture import GaussianMixtureScore
from sklearn_dsm._core.likelihood.identity import (
    IdentityNodes,
    hermite_nodes,
    identity_log_density,
    legendre_levels,
    sobol_nodes,
)
from sklearn_dsm._core.likelihood.ode import (
    SolverPlan,
    calibrated_plan,
    gregory_weights,
    ode_log_density,
)
from sklearn_dsm._core.noise.level import NoiseLevel
from sklearn_dsm._core.noise.level_sampling import LogisticLevels
from sklearn_dsm._core.scores.corrected import CorrectedScore
from sklearn_dsm._core.scores.model import ScoreModel
from sklearn_dsm._core.scores.network import ScoreNetwork

LOW, HIGH = -6.0, 11.0
LEVELS = LogisticLevels(*VP().log_snr_range)


def tensor(value):
    return torch.tensor(value, dtype=torch.float64)


def nodes_for(n_features):
    if n_features == 1:
        return hermite_nodes(40, 64, LOW, HIGH)
    return sobol_nodes(24, 128, n_features, LOW, HIGH)


class Perturbed(ScoreModel):
    """A one-column exact score plus 0.3 a(t) sin(2x)."""

    def __init__(self, exact):
        super().__init__()
        self.exact = exact

    def score_and_jacobian_diagonal(self, x, level, context=None):
        score, diagonal = self.exact.score_and_jacobian_diagonal(x, level)
        bump = 0.3 * level.a * (2 * x).sin()
        return score + bump, diagonal + 0.6 * level.a * (2 * x).cos()


@pytest.fixture
def gaussian():
    """rho -> the two-column Gaussian of unit variances."""
    return lambda rho: GaussianScore(tensor([0.0, 0.0]), tensor([[1.0, rho], [rho, 1.0]]))


# The likelihood identity.


@pytest.mark.parametrize("n_features", [1, 2, 7])
@pytest.mark.parametrize("n_noise", [2, 16])
def test_identity_is_exact_for_gaussian_data_at_any_nodes(mixture, n_features, n_noise):
    problem = mixture(n_features)
    x, law = problem.draw(20, seed=0), problem.gaussian
    same = GaussianMixtureScore(
        tensor([1.0]), law.mean[None], (law.axes * law.eigenvalues @ law.axes.T)[None]
    )
    nodes = sobol_nodes(1, n_noise, n_features, LOW, HIGH)
    for model in (law, same):
        value = identity_log_density(model, law, x, nodes)
        expected = law.log_density(x, NoiseLevel(tensor(1.0), tensor(0.0)))
        torch.testing.assert_close(value, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("separation", [1.0, 2.0, 3.0])
def test_identity_of_the_bimodal_density(bimodal, separation):
    """|identity - log p| < 1e-5 with 40 levels and 64 noise nodes."""
    problem, x = bimodal(separation), torch.linspace(-2.5, 2.5, 41, dtype=torch.float64)[:, None]
    value = identity_log_density(problem.model, problem.gaussian, x, nodes_for(1))
    torch.testing.assert_close(value, problem.log_density(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("n_components", [2, 3, 5])
def test_identity_in_one_column(mixture, seed, n_components):
    problem = mixture(1, n_components, seed)
    x = problem.draw(100, seed=0)
    value = identity_log_density(problem.model, problem.gaussian, x, nodes_for(1))
    torch.testing.assert_close(value, problem.log_density(x), rtol=0, atol=1e-4)


def test_identity_does_not_depend_on_the_reference(mixture):
    """One column: the reference changes the integrand, not the integral."""
    data, other = mixture(1, seed=1), mixture(1, seed=2)
    x = data.draw(50, seed=0)
    value = identity_log_density(data.model, other.model, x, hermite_nodes(80, 128, -16.0, 14.0))
    torch.testing.assert_close(value, data.log_density(x), rtol=0, atol=1e-4)


def test_identity_with_sobol_noise_has_no_bias(mixture):
    problem, n_seeds = mixture(2), 200
    x = problem.draw(8, seed=0)
    values = torch.stack(
        [
            identity_log_density(
                problem.model, problem.gaussian, x, sobol_nodes(40, 8, 2, LOW, HIGH, seed)
            )
            for seed in range(n_seeds)
        ]
    )
    error = values.std(0) / math.sqrt(n_seeds)
    assert ((values.mean(0) - problem.log_density(x)).abs() < 4 * error).all()


def test_a_wrong_score_costs_its_squared_error_on_average(bimodal):
    """E[log p - identity] = 1/2 int v E|shat - s|^2 dlambda > 0, by quadrature over the data."""
    problem = bimodal(2.0)
    x = torch.linspace(-4, 4, 401, dtype=torch.float64)[:, None]
    mass = problem.log_density(x).exp() * (x[1] - x[0])
    model, nodes = Perturbed(problem.model), nodes_for(1)
    value = identity_log_density(model, problem.gaussian, x, nodes)
    excess = mass @ (problem.log_density(x) - value)

    def squared_error(log_snr):
        level = NoiseLevel.from_log_snr(log_snr)
        noised = torch.linspace(-9, 9, 2001, dtype=torch.float64)[:, None]
        density = problem.model.log_density(noised, level).exp() * (noised[1] - noised[0])
        gap = model.score(noised, level) - problem.model.score(noised, level)
        return level.v * (density @ gap.square().sum(1))

    log_snrs, weights = (torch.from_numpy(part) for part in legendre_levels(40, LOW, HIGH))
    cost = sum(w * squared_error(u) for u, w in zip(log_snrs, weights, strict=True)) / 2
    assert cost > 0.01
    assert abs(excess - cost) < 1e-5


@pytest.mark.parametrize("n_features", [1, 3])
def test_a_wrong_score_costs_its_squared_error_over_a_sample(mixture, generator, n_features):
    """The same within three standard errors over blocks of draws, each with its own nodes."""
    problem, random = mixture(n_features), generator(0)
    model, differences, excesses = Perturbed(problem.model), [], []
    for seed in range(30):
        x = problem.draw(200, seed)
        nodes = sobol_nodes(24, 16, n_features, LOW, HIGH, seed)
        excess = problem.log_density(x) - identity_log_density(model, problem.gaussian, x, nodes)
        cost = torch.zeros_like(excess)
        for log_snr, weight in zip(nodes.log_snr, nodes.log_snr_weights, strict=True):
            level = NoiseLevel.from_log_snr(log_snr)
            noise = torch.randn(x.shape, generator=random, dtype=x.dtype)
            noised = level.a * x + level.v.sqrt() * noise
            gap = model.score(noised, level) - problem.model.score(noised, level)
            cost += weight / 2 * level.v * gap.square().sum(1)
        differences.append((excess - cost).mean())
        excesses.append(excess.mean())
    differences, excesses = torch.stack(differences), torch.stack(excesses)
    assert abs(differences.mean()) < 3 * differences.std() / math.sqrt(30)
    assert excesses.mean() > 3 * excesses.std() / math.sqrt(30)


def test_identity_of_a_product_is_the_sum(mixture, problem):
    """Shared Gauss-Hermite nodes on the axes of a product mixture."""
    first, second = mixture(1, 2, seed=1), mixture(1, 2, seed=2)
    product = _product(problem, first, second)
    x = torch.cat([first.draw(15, seed=0), second.draw(15, seed=1)], 1)
    line = hermite_nodes(30, 32, LOW, HIGH)
    z, w = line.noise[0, :, 0], line.noise_weights
    plane = IdentityNodes(
        line.log_snr, line.log_snr_weights, torch.cartesian_prod(z, z)[None], w.outer(w).flatten()
    )
    together = identity_log_density(product.model, product.gaussian, x, plane)
    parts = [
        identity_log_density(each.model, each.gaussian, x[:, [j]], line)
        for j, each in enumerate((first, second))
    ]
    torch.testing.assert_close(together, sum(parts), rtol=0, atol=1e-8)


@pytest.mark.parametrize(
    "nodes", [hermite_nodes(20, 16, LOW, HIGH), sobol_nodes(20, 8, 2, LOW, HIGH)]
)
def test_noise_nodes_have_mass_one_and_no_odd_moments(nodes):
    total = nodes.noise_weights.sum()
    assert abs(total - 1) < 1e-12
    for power in (1, 3):
        moments = torch.einsum("kmd,m->kd", nodes.noise**power, nodes.noise_weights)
        assert moments.abs().max() < 1e-10


def test_levels_integrate_a_falling_tail_to_infinity():
    """e^-lambda is covered to infinity: the node at the end stands for what lies beyond it."""
    nodes, weights = legendre_levels(30, -2.0, 6.0)
    assert abs(weights @ np.exp(-nodes) - math.exp(2.0)) < 1e-10


def test_sobol_nodes_depend_on_the_seed_alone():
    state = torch.get_rng_state()
    first, again, other = (sobol_nodes(5, 8, 3, LOW, HIGH, seed).noise for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(state, torch.get_rng_state())


# The probability-flow ODE.


def _product(problem, *parts):
    """The mixture of independent one-column mixtures."""
    weights = tensor([1.0])
    means = variances = torch.empty(1, 0, dtype=torch.float64)
    for part in parts:
        k, old = len(part.weights), len(weights)
        weights = weights.outer(part.weights).flatten()
        means, variances = (
            torch.cat([table.repeat_interleave(k, 0), new.repeat(old, 1)], 1)
            for table, new in ((means, part.means), (variances, part.covariances[:, :, 0]))
        )
    return problem(weights, means, torch.diag_embed(variances))


@pytest.mark.parametrize("n_features", [1, 2, 10])
@pytest.mark.parametrize("kind", ["gaussian", "mixture", "kernel"])
@pytest.mark.parametrize("seed", range(3))
def test_ode_is_within_its_tolerance(mixture, problem, clean, n_features, kind, seed):
    data = mixture(n_features, seed=seed)
    model = data.gaussian if kind == "gaussian" else data.model
    if kind == "kernel":
        centers = data.draw(5, seed=1)
        covariance = 0.25 * torch.eye(n_features, dtype=torch.float64)
        data = problem(torch.full((5,), 0.2).double(), centers, covariance.expand(5, -1, -1))
        model = KernelScore(centers, 0.5)
    x = model.sample(100, clean, torch.Generator().manual_seed(seed))
    value, error, converged = ode_log_density(model, data.gaussian, x, LEVELS)
    assert (value - model.log_density(x, clean)).abs().max() < 1e-4
    assert converged.all()
    assert (error <= 1e-4).all()


@pytest.mark.parametrize("process", [VP(), VE(), SubVP(), PBM(), PBM(0.4)], ids=repr)
def test_ode_is_within_its_tolerance_for_every_process(mixture, process):
    problem, levels = mixture(2).whitened(), LogisticLevels(*process.log_snr_range)
    x = problem.draw(100, seed=0)
    value = ode_log_density(problem.model, problem.gaussian, x, levels).value
    assert (value - problem.log_density(x)).abs().max() < 1e-4


@pytest.mark.parametrize("n_features", [1, 2, 10])
@pytest.mark.parametrize("seed", range(2))
def test_a_tighter_tolerance_is_tighter(mixture, n_features, seed):
    """Down to 3e-6, what the Gaussian at the noise end leaves of a mixture."""
    problem = mixture(n_features, seed=seed).whitened()
    x = problem.draw(100, seed=0)
    errors = []
    for tolerance in (1e-2, 1e-3, 1e-4, 1e-6):
        value = ode_log_density(problem.model, problem.gaussian, x, LEVELS, tolerance).value
        errors.append(float((value - problem.log_density(x)).abs().max()))
        assert errors[-1] < max(tolerance, 1e-5)
    assert all(fine <= max(coarse, 3e-6) for coarse, fine in pairwise(errors))


@pytest.mark.parametrize("n_features", [1, 2, 10])
@pytest.mark.parametrize("tolerance", [1e-1, 1e-2, 1e-3, 1e-4])
def test_the_estimated_error_bounds_the_true_one(mixture, n_features, tolerance):
    """Up to 3e-6, what the Gaussian at the noise end leaves of a mixture."""
    for seed in range(6):
        problem = mixture(n_features, seed=seed).whitened()
        x = problem.draw(400, seed=0)
        value, error, _ = ode_log_density(problem.model, problem.gaussian, x, LEVELS, tolerance)
        assert ((value - problem.log_density(x)).abs() <= error + 3e-6).all()


@pytest.mark.parametrize("process", [VP(), VE(), VE(sigma_min=0.03)], ids=repr)
def test_the_estimated_error_holds_where_the_last_level_is_close_to_the_data(mixture, process):
    """The leg to the data is not in the estimate: at these levels it is negligible."""
    problem, high = mixture(2).whitened(), process.log_snr_range[1]
    levels, x = LogisticLevels(-12.0, high), problem.draw(100, seed=0)
    value, error, _ = ode_log_density(problem.model, problem.gaussian, x, levels, tolerance=1e-3)
    assert ((value - problem.log_density(x)).abs() <= error).all()


def test_ode_of_white_noise_is_exact(generator):
    x = 3 * torch.randn(20, 4, generator=generator(0), dtype=torch.float64)
    white = GaussianScore(torch.zeros(4).double(), torch.eye(4).double())
    value, error, _ = ode_log_density(white, white, x, LEVELS)
    expected = white.log_density(x, NoiseLevel(tensor(1.0), tensor(0.0)))
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-12)
    assert error.max() < 1e-10


def test_ode_equals_an_adaptive_solver(mixture):
    """torchdiffeq's dopri5 in Ornstein-Uhlenbeck time, from the data themselves."""
    problem = mixture(2)
    x = problem.draw(20, seed=0)
    end = 0.5 * float(np.log1p(np.exp(-LEVELS.low)))

    def field(t, state):
        level = NoiseLevel((-t).exp(), -torch.expm1(-2 * t))
        score, divergence = problem.model.score_and_divergence(state[:, :2], level)
        return torch.cat([-(state[:, :2] + score), (2 + divergence)[:, None]], 1)

    start = torch.cat([x, torch.zeros(20, 1).double()], 1)
    last = odeint(field, start, tensor([0.0, end]), rtol=1e-9, atol=1e-9, method="dopri5")[-1]
    prior = problem.gaussian.log_density(last[:, :2], NoiseLevel.from_log_snr(tensor(LEVELS.low)))
    expected = prior - last[:, 2]
    value = ode_log_density(problem.model, problem.gaussian, x, LEVELS, tolerance=1e-6).value
    torch.testing.assert_close(value, expected, rtol=0, atol=1e-6)


@pytest.fixture
def learned(mixture, generator, randomized):
    """A smooth correction of a Gaussian by a randomised network, and rows."""
    problem = mixture(2)
    network = randomized(ScoreNetwork(2, (8, 8), generator(1), frequency=0.5), seed=2)
    with torch.no_grad():
        network.output *= 0.3
    return CorrectedScore(problem.gaussian, network), problem.gaussian, problem.draw(20, seed=3)


def test_ode_of_a_network_equals_an_adaptive_solver(learned):
    model, prior, x = learned
    end = 0.5 * float(np.log1p(np.exp(-LEVELS.low)))
    begin = 0.5 * float(np.log1p(np.exp(-LEVELS.high)))

    def field(t, state):
        level = NoiseLevel((-t).exp(), -torch.expm1(-2 * t))
        score, divergence = model.score_and_divergence(state[:, :2], level)
        return torch.cat([-(state[:, :2] + score), (2 + divergence)[:, None]], 1)

    start = torch.cat([x, torch.zeros(len(x), 1).double()], 1)
    with torch.no_grad():
        start = start + begin * field(tensor(begin), start)
        times = tensor([begin, end])
        last = odeint(field, start, times, rtol=1e-8, atol=1e-8, method="dopri5")[-1]
        value, _, converged = ode_log_density(model, prior, x, LEVELS)
    expected = prior.log_density(last[:, :2], NoiseLevel.from_log_snr(tensor(LEVELS.low)))
    expected = expected - last[:, 2]
    assert converged.all()
    assert (value - expected).abs().max() < 1e-4


@pytest.mark.parametrize("which", ["mixture", "learned"])
def test_a_row_does_not_depend_on_the_other_rows(mixture, learned, which):
    """Each row has its own number of steps, whatever rows it comes with."""
    if which == "mixture":
        problem = mixture(2)
        model, prior, x = problem.model, problem.gaussian, problem.draw(20, seed=3)
    else:
        model, prior, x = learned
    x = torch.cat([x, 4 * x[:5]])

    def value(rows):
        with torch.no_grad():
            return ode_log_density(model, prior, rows, LEVELS, tolerance=1e-2).value

    expected = value(x)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    for rows in (order, slice(0, 1), slice(7, 19), slice(20, 25)):
        torch.testing.assert_close(value(x[rows]), expected[rows], rtol=0, atol=1e-9)


def test_a_score_too_rough_for_the_finest_steps_has_not_converged(bimodal, monkeypatch):
    """Nor has one that is not a number; the rows beside them have."""
    monkeypatch.setattr("sklearn_dsm._core.likelihood.ode.MAX_DOUBLINGS", 4)
    problem = bimodal(2.0)

    class Rough(ScoreModel):
        def score_and_jacobian_diagonal(self, x, level, context=None):
            score, diagonal = problem.model.score_and_jacobian_diagonal(x, level)
            rough = 300 * (1e5 * x).sin() * (x > 0.5)
            return score + rough, diagonal + 1e5 * rough

    class Broken(ScoreModel):
        def score_and_jacobian_diagonal(self, x, level, context=None):
            score, diagonal = problem.model.score_and_jacobian_diagonal(x, level)
            return score / (x < 0.5), diagonal

    x = tensor([[-1.0], [1.0], [-0.5], [1.5]])
    for model in (Rough(), Broken()):
        result = ode_log_density(model, problem.gaussian, x, LEVELS)
        assert result.converged.tolist() == [True, False, True, False]


def test_a_row_is_solved_again_as_often_as_the_plan_allows(bimodal):
    problem, steps = bimodal(2.0), []

    class Rough(ScoreModel):
        def score_and_jacobian_diagonal(self, x, level, context=None):
            steps.append(len(x))
            score, diagonal = problem.model.score_and_jacobian_diagonal(x, level)
            return score + 300 * (1e5 * x).sin(), diagonal

    def n_calls(plan):
        steps.clear()
        ode_log_density(Rough(), problem.gaussian, tensor([[1.0]]), LEVELS, plan=plan)
        return len(steps)

    once, thrice = (n_calls(SolverPlan(8, max_doublings=most)) for most in (0, 2))
    assert 6 * once < thrice < 8 * once


@pytest.mark.parametrize("n_features", [1, 2, 10])
def test_the_gradient_of_the_ode_is_the_score_of_the_data(mixture, clean, n_features):
    problem = mixture(n_features)
    x = problem.draw(30, seed=0).requires_grad_()
    value = ode_log_density(problem.model, problem.gaussian, x, LEVELS).value
    gradient = torch.autograd.grad(value.sum(), x)[0]
    torch.testing.assert_close(gradient, problem.model.score(x, clean), rtol=0, atol=1e-3)


def test_the_gradient_of_the_identity_is_the_score_of_the_data(mixture, clean):
    problem = mixture(1)
    x = problem.draw(30, seed=0).requires_grad_()
    value = identity_log_density(problem.model, problem.gaussian, x, nodes_for(1))
    gradient = torch.autograd.grad(value.sum(), x)[0]
    torch.testing.assert_close(gradient, problem.model.score(x, clean), rtol=0, atol=1e-3)


def test_ode_of_a_product_is_the_sum(mixture, problem):
    parts = [mixture(1, 2, seed=seed) for seed in (1, 2, 3)]
    product = _product(problem, *parts)
    x = torch.cat([part.draw(40, seed=j) for j, part in enumerate(parts)], 1)
    together = ode_log_density(product.model, product.gaussian, x, LEVELS).value
    alone = [
        ode_log_density(part.model, part.gaussian, x[:, [j]], LEVELS).value
        for j, part in enumerate(parts)
    ]
    torch.testing.assert_close(together, sum(alone), rtol=0, atol=4e-4)


@pytest.mark.parametrize("which", ["mixture", "learned"])
def test_the_density_of_the_ode_has_mass_one(mixture, learned, which):
    """Whatever the score: the flow is a change of variables."""
    problem = mixture(2)
    model, prior = (problem.model, problem.gaussian) if which == "mixture" else learned[:2]
    axis = torch.linspace(-1, 1, 49, dtype=torch.float64) * 7
    x = torch.cartesian_prod(axis, axis) + prior.mean
    with torch.no_grad():
        value = ode_log_density(model, prior, x, LEVELS, tolerance=1e-3).value
    assert abs(value.exp().sum() * (axis[1] - axis[0]) ** 2 - 1) < 2e-3


@pytest.mark.parametrize("process", [VP(), VE(), VE(sigma_min=0.1), SubVP(), PBM()], ids=repr)
def test_the_density_of_the_ode_has_mass_one_for_every_process(mixture, process):
    problem, levels = mixture(1).whitened(), LogisticLevels(*process.log_snr_range)
    x = torch.linspace(-8, 8, 1601, dtype=torch.float64)[:, None]
    value = ode_log_density(problem.model, problem.gaussian, x, levels).value
    assert abs(value.exp().sum() * (x[1, 0] - x[0, 0]) - 1) < 1e-3


@pytest.mark.parametrize("method", ["ode", "identity"])
def test_the_entropy_of_a_narrow_gaussian(gaussian, method):
    """Two unit variances, correlation -0.98; four points have the moments of the law.

    The entropy is log(2 pi e) + log(1 - rho^2) / 2 = 1.2234 nats; ITD prints 1.22.
    """
    model, white = gaussian(-0.98), gaussian(0.0)
    deviations = (model.axes * (2 * model.eigenvalues).sqrt()).T
    x = torch.cat([deviations, -deviations])
    if method == "ode":
        value = ode_log_density(model, white, x, LEVELS).value
    else:
        value = identity_log_density(model, white, x, sobol_nodes(60, 2048, 2, -16.0, 13.0))
    entropy = math.log(2 * math.pi * math.e) + 0.5 * math.log(1 - 0.98**2)
    assert abs(entropy - 1.22) < 0.005
    assert abs(-value.mean() - entropy) < (1e-4 if method == "ode" else 1e-2)


# The rule for the divergence, and the plan


@pytest.mark.parametrize("n_nodes", [6, 7, 12])
@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_the_rule_with_corrected_ends_is_exact_for_cubics(n_nodes, degree):
    nodes = torch.linspace(0, 1, n_nodes, dtype=torch.float64)[:, None] ** degree
    assert float(gregory_weights(n_nodes, nodes) @ nodes) == pytest.approx(
        1 / (degree + 1), rel=1e-13
    )


def test_the_rule_converges_geometrically_where_both_ends_fade():
    """The integral of a normal density: each further node multiplies the error by a constant."""

    def error(n_nodes):
        x = torch.linspace(-9, 9, n_nodes, dtype=torch.float64)
        values = 18 * (-(x**2) / 2).exp() / math.sqrt(2 * math.pi)
        return abs(float(gregory_weights(n_nodes, values) @ values) - 1)

    assert error(13) < 5e-3 and error(17) < 5e-5 and error(25) < 1e-10


@pytest.mark.parametrize("tolerance", [1e-2, 1e-3, 1e-4])
def test_a_calibrated_plan_keeps_its_tolerance_on_fresh_rows(mixture, tolerance):
    problem = mixture(2).whitened()
    seen, fresh = problem.draw(96, seed=0), problem.draw(400, seed=1)
    plan = calibrated_plan(problem.model, problem.gaussian, seen, LEVELS, tolerance)
    value, _, converged = ode_log_density(
        problem.model, problem.gaussian, fresh, LEVELS, tolerance, plan
    )
    error = (value - problem.log_density(fresh)).abs()
    assert converged.all()
    assert (error <= tolerance).double().mean() >= 0.99


def test_a_calibrated_plan_takes_more_steps_for_less_error(mixture):
    problem = mixture(2).whitened()
    x = problem.draw(96, seed=0)
    steps = [
        calibrated_plan(problem.model, problem.gaussian, x, LEVELS, tolerance).n_steps
        for tolerance in (1e-1, 1e-3, 1e-5)
    ]
    assert steps[0] < steps[1] < steps[2]


def test_a_plan_for_another_tolerance_follows_the_order():
    plan = SolverPlan(10, 3.0)
    assert plan.for_tolerance(1e-3, 1e-3) == plan.for_tolerance(1e-1, 1e-3) == plan
    assert plan.for_tolerance(1e-3 / 32, 1e-3) == SolverPlan(20, 3.0)


def test_chunks_do_not_change_a_log_density(learned):
    model, prior, x = learned
    whole = ode_log_density(model, prior, x, LEVELS)
    parts = ode_log_density(model, prior, x, LEVELS, chunk_rows=7)
    for first, second in zip(whole, parts, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-10, atol=1e-10)


def test_a_network_in_single_precision_stays_close(learned):
    model, prior, x = learned
    with torch.no_grad():
        double = ode_log_density(model, prior, x, LEVELS).value
        model.network.float()
        single = ode_log_density(model, prior, x, LEVELS).value
    assert single.dtype == torch.float64
    assert 0 < (single - double).abs().max() < 2e-5
