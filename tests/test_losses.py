"""Laws of the losses, of the level law they draw from, and of the held-out bound."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_dsm import DSM
from sklearn_dsm._core.likelihood.bound import HeldOutBound
from sklearn_dsm._core.likelihood.identity import hermite_nodes, identity_log_density, sobol_nodes
from sklearn_dsm._core.losses.loss import TrainingRows
from sklearn_dsm._core.losses.registry import LOSSES, resolve_loss
from sklearn_dsm._core.noise.level import NoiseLevel
from sklearn_dsm._core.noise.level_sampling import LogisticLevels, SolverLevels
from sklearn_dsm._core.scores.corrected import CorrectedScore
from sklearn_dsm._core.scores.network import ScoreNetwork

LEVEL_LAWS = [
    LogisticLevels(-10.0, 13.8),
    LogisticLevels(-7.8, 9.2, location=0.0, scale=1.5),
    LogisticLevels(2.0, 3.0),
]
every_law = pytest.mark.parametrize("levels", LEVEL_LAWS, ids=str)
VP_LEVELS = LEVEL_LAWS[0]


def tensor(value):
    return torch.tensor(value, dtype=torch.float64)


class ExactCorrection(nn.Module):
    """The network that turns one exact score into another."""

    whole = False

    def __init__(self, reference, target):
        super().__init__()
        self.reference, self.target = reference, target

    def forward(self, y, log_snr, context=None):
        level = NoiseLevel.from_log_snr(log_snr)
        return level.v.sqrt() * (self.reference.score(y, level) - self.target.score(y, level))


class TanhScore(nn.Module):
    """A one-column correction with three parameters, and its derivative."""

    def __init__(self, whole=False):
        super().__init__()
        self.whole = whole
        self.theta = nn.Parameter(tensor([0.4, -0.7, 1.3]))

    def forward(self, y, log_snr, context=None):
        slope, height, rate = self.theta
        return slope * y + height * (rate * y + 0.3).tanh()

    def forward_and_divergence(self, y, log_snr, context=None):
        slope, height, rate = self.theta
        derivative = slope + height * rate * (1 - (rate * y + 0.3).tanh() ** 2)
        return self(y, log_snr), derivative.sum(-1)


@pytest.fixture
def corrected(mixture, generator, randomized):
    """n_features -> a randomised correction of a Gaussian, and rows of a mixture."""

    def build(n_features=2, n=12):
        problem = mixture(n_features)
        network = randomized(ScoreNetwork(n_features, (8, 7), generator(1)), seed=2)
        return CorrectedScore(problem.gaussian, network), problem.draw(n, seed=3)

    return build


# The law of the levels.


@every_law
def test_the_density_of_the_levels_has_mass_one(levels):
    nodes, weights = np.polynomial.legendre.leggauss(200)
    nodes = levels.low + (nodes + 1) * (levels.high - levels.low) / 2
    mass = weights @ levels.density(torch.from_numpy(nodes)).numpy()
    assert abs(mass * (levels.high - levels.low) / 2 - 1) < 1e-10


@every_law
def test_the_quantile_inverts_the_integrated_density(levels):
    probability = torch.linspace(0.01, 0.99, 50, dtype=torch.float64)
    nodes, weights = (torch.from_numpy(x) for x in np.polynomial.legendre.leggauss(200))
    half = (levels.quantile(probability) - levels.low)[:, None] / 2
    below = (weights * levels.density(levels.low + (nodes + 1) * half)).sum(1) * half[:, 0]
    torch.testing.assert_close(below, probability, rtol=0, atol=1e-10)


@every_law
def test_stratified_levels_lie_one_in_each_equally_likely_cell(levels, generator):
    n = 50
    edges = levels.quantile(torch.linspace(0, 1, n + 1, dtype=torch.float64))
    for seed in range(5):
        log_snr = levels.stratified(n, generator(seed), edges)
        assert (edges[:-1] <= log_snr).all()
        assert (log_snr <= edges[1:]).all()


def test_solver_levels_run_between_their_ends_at_the_pace_of_their_slope():
    levels = SolverLevels(-12.0, 11.0)
    u = torch.linspace(0, 1, 201, dtype=torch.float64)
    log_snr = levels.at(u)
    torch.testing.assert_close(log_snr[[0, -1]], tensor([levels.low, levels.high]))
    difference = (levels.at(u + 1e-6) - levels.at(u - 1e-6)) / 2e-6
    torch.testing.assert_close(levels.slope(u), difference, rtol=1e-7, atol=0)
    torch.testing.assert_close(levels.grid(200, u), log_snr)
    # Steps are small where a log-density is decided.
    assert log_snr.diff().argmin() in range(100, 140)


@every_law
@pytest.mark.parametrize("n", [3, 20])
def test_stratified_levels_over_their_density_integrate_without_bias(levels, n, generator):
    def function(log_snr):
        return torch.sigmoid(log_snr - 1) * (log_snr / 3).cos()

    random, like = generator(0), tensor(0.0)
    estimates = []
    for _ in range(400):
        log_snr = levels.stratified(n, random, like)
        estimates.append((function(log_snr) / levels.density(log_snr)).mean())
    estimates = torch.stack(estimates)
    nodes, weights = np.polynomial.legendre.leggauss(200)
    half = (levels.high - levels.low) / 2
    nodes = torch.from_numpy(levels.low + (nodes + 1) * half)
    integral = half * (torch.from_numpy(weights) @ function(nodes))
    assert abs(estimates.mean() - integral) < 4 * estimates.std() / math.sqrt(400)


# What denoising score matching measures.


def quadrature(problem, level, n_noise=80):
    """Clean values, noise and weights (m,) for expectations over a one-column mixture."""
    z, w = (torch.from_numpy(x) for x in np.polynomial.hermite_e.hermegauss(n_noise))
    w = w / w.sum()
    deviations = problem.covariances[:, 0, 0].sqrt()
    clean = problem.means + deviations[:, None] * z
    mass = problem.weights[:, None] * w
    clean, mass = clean.flatten(), mass.flatten()
    n = len(clean)
    return clean.repeat_interleave(n_noise), z.repeat(n), (mass[:, None] * w).flatten()


def implicit_objective(model, problem, level):
    """v E[|s|^2 / 2 + div s] over the noised mixture, by the trapezoidal rule."""
    x = torch.linspace(-14, 14, 8001, dtype=torch.float64)[:, None]
    mass = problem.model.log_density(x, level).exp() * (x[1] - x[0])
    score, divergence = model.score_and_divergence(x, level)
    return level.v * (mass @ (score.square().sum(1) / 2 + divergence))


@pytest.mark.parametrize("log_snr", [-2.0, 0.0, 2.0])
@pytest.mark.parametrize("whole", [False, True])
def test_denoising_and_implicit_score_matching_have_one_gradient(mixture, log_snr, whole):
    problem, level = mixture(1, seed=4), NoiseLevel.from_log_snr(tensor(log_snr))
    model = CorrectedScore(problem.gaussian, TanhScore(whole))
    clean, noise, mass = quadrature(problem, level)
    noised = (level.a * clean + level.v.sqrt() * noise)[:, None]
    predicted = sum(model.noise_and_correction(noised, level))[:, 0]
    denoising = mass @ (noise - predicted) ** 2 / 2
    gradients = [
        torch.autograd.grad(objective, model.network.theta)[0]
        for objective in (denoising, implicit_objective(model, problem, level))
    ]
    torch.testing.assert_close(gradients[0], gradients[1], rtol=0, atol=1e-8)


@pytest.mark.parametrize("log_snr", [-2.0, 0.0, 2.0])
@pytest.mark.parametrize("whole", [False, True])
def test_the_bound_at_a_level_is_the_gain_in_implicit_score_matching(mixture, log_snr, whole):
    """HeldOutBound on quadrature nodes in place of draws."""
    problem, level = mixture(1, seed=4), NoiseLevel.from_log_snr(tensor(log_snr))
    model = CorrectedScore(problem.gaussian, TanhScore(whole))
    clean, noise, mass = quadrature(problem, level)
    ones = torch.ones_like(clean)
    bound = HeldOutBound(clean[:, None], noise[None, :, None], log_snr * ones[None], ones[None])
    gain = mass @ bound.gain(model)
    references = (implicit_objective(m, problem, level) for m in (problem.gaussian, model))
    expected = next(references) - next(references)
    torch.testing.assert_close(gain, expected.detach(), rtol=0, atol=1e-8)


def test_the_exact_correction_makes_the_mixture(mixture):
    problem = mixture(2)
    model = CorrectedScore(problem.gaussian, ExactCorrection(problem.gaussian, problem.model))
    x = problem.draw(20, seed=0)
    for level in (NoiseLevel.from_log_snr(tensor(1.0)), NoiseLevel(tensor(1.0), tensor(0.3))):
        torch.testing.assert_close(
            model.score(x, level), problem.model.score(x, level), rtol=1e-11, atol=1e-11
        )


@pytest.mark.parametrize("n_features", [1, 2, 5])
def test_the_bound_of_the_exact_score_is_the_log_density_over_the_reference(
    mixture, generator, n_features
):
    problem = mixture(n_features, seed=5)
    model = CorrectedScore(problem.gaussian, ExactCorrection(problem.gaussian, problem.model))
    x = problem.draw(200, seed=0)
    clean = NoiseLevel(tensor(1.0), tensor(0.0))
    gains = torch.stack(
        [
            HeldOutBound.draw(x, VP_LEVELS, 8, generator(seed)).gain(model).mean()
            for seed in range(20)
        ]
    )
    error = gains.std() / math.sqrt(len(gains))
    truth = (problem.model.log_density(x, clean) - problem.gaussian.log_density(x, clean)).mean()
    assert abs(gains.mean() - truth) < 3 * error
    nodes = (
        hermite_nodes(40, 64, -6.0, 11.0)
        if n_features == 1
        else sobol_nodes(24, 256, n_features, -6.0, 11.0)
    )
    identity = identity_log_density(problem.model, problem.gaussian, x, nodes)
    identity = (identity - problem.gaussian.log_density(x, clean)).mean()
    assert abs(gains.mean() - identity) < 3 * error


def test_the_bound_is_largest_at_the_truth(mixture, generator):
    """Any other correction gains less on average over the data."""
    problem = mixture(1, seed=4)
    exact = ExactCorrection(problem.gaussian, problem.model)
    x = problem.draw(4000, seed=0)
    bound = HeldOutBound.draw(x, VP_LEVELS, 4, generator(0))
    best = bound.gain(CorrectedScore(problem.gaussian, exact))

    class Off(nn.Module):
        whole = False

        def forward(self, y, log_snr, context=None):
            return exact(y, log_snr) + 0.3 * torch.sigmoid(log_snr) * y.sin()

    difference = best - bound.gain(CorrectedScore(problem.gaussian, Off()))
    assert difference.mean() > 4 * difference.std() / math.sqrt(len(x))


@pytest.mark.parametrize("antithetic", [True, False])
def test_the_loss_is_minus_the_bound_on_average(corrected, generator, antithetic):
    model, rows = corrected()
    random, losses, gains = generator(0), [], []
    with torch.no_grad():
        for _ in range(600):
            order = torch.randperm(len(rows), generator=random)
            weight = torch.ones(len(rows), dtype=torch.float64)
            losses.append(
                DSM(antithetic=antithetic)(
                    model, TrainingRows(rows[order], weight), VP_LEVELS, random
                )
            )
            gains.append(HeldOutBound.draw(rows, VP_LEVELS, 4, random).gain(model).mean())
    losses, gains = torch.stack(losses), torch.stack(gains)
    error = ((losses.var() + gains.var()) / len(losses)).sqrt()
    assert abs(losses.mean() + gains.mean()) < 4 * error


# The loss as a function of weights, noise and generator.


@pytest.mark.parametrize("antithetic", [True, False])
def test_an_untrained_correction_has_no_loss_and_no_gain(mixture, generator, antithetic):
    problem = mixture(3)
    rows, weight = problem.draw(9, seed=0), torch.ones(9, dtype=torch.float64)
    model = CorrectedScore(problem.gaussian, ScoreNetwork(3, (6, 6), generator(1)).double())
    assert (
        DSM(antithetic=antithetic)(model, TrainingRows(rows, weight), VP_LEVELS, generator(2)) == 0
    )
    gain = HeldOutBound.draw(rows, VP_LEVELS, 3, generator(2)).gain(model)
    assert torch.equal(gain, torch.zeros(9, dtype=torch.float64))


@pytest.mark.parametrize("antithetic", [True, False])
def test_the_loss_is_linear_in_the_weights(corrected, generator, antithetic):
    model, rows = corrected()
    loss, random = DSM(antithetic=antithetic), generator(0)
    first, second = torch.rand(2, len(rows), generator=random, dtype=torch.float64)
    values = [
        loss(model, TrainingRows(rows, weight), VP_LEVELS, generator(5))
        for weight in (first, second, 2 * first + 3 * second)
    ]
    torch.testing.assert_close(2 * values[0] + 3 * values[1], values[2], rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("antithetic", [True, False])
def test_a_row_of_weight_zero_contributes_nothing(corrected, generator, antithetic):
    model, rows = corrected()
    weight = torch.ones(len(rows), dtype=torch.float64)
    weight[::3] = 0
    moved = rows.clone()
    moved[::3] = 1e3
    loss = DSM(antithetic=antithetic)
    values = [
        loss(model, TrainingRows(each, weight), VP_LEVELS, generator(5)) for each in (rows, moved)
    ]
    torch.testing.assert_close(values[0], values[1], rtol=1e-13, atol=0)


def test_an_integer_weight_is_a_repetition_on_average(corrected, generator):
    model, rows = corrected(n=4)
    weight, random = tensor([1.0, 3.0, 2.0, 2.0]), generator(0)
    repeated = rows.repeat_interleave(weight.long(), 0)
    weighted_losses, repeated_losses = [], []
    with torch.no_grad():
        for _ in range(1500):
            order = torch.randperm(4, generator=random)
            weighted_losses.append(
                DSM()(
                    model,
                    TrainingRows(rows[order], weight[order] / weight.mean()),
                    VP_LEVELS,
                    random,
                )
            )
            order = torch.randperm(8, generator=random)
            ones = torch.ones(8, dtype=torch.float64)
            repeated_losses.append(
                DSM()(model, TrainingRows(repeated[order], ones), VP_LEVELS, random)
            )
    first, second = torch.stack(weighted_losses), torch.stack(repeated_losses)
    error = ((first.var() + second.var()) / len(first)).sqrt()
    assert abs(first.mean() - second.mean()) < 4 * error


def test_antithetic_noise_keeps_the_gradient_steady_towards_the_data(corrected, generator):
    """At one price, model calls, the variance at high log-SNR falls by more than ten."""
    model, rows = corrected(n=32)
    levels, parameters = LogisticLevels(9.0, 12.0), list(model.network.parameters())

    def variance(loss, rows):
        gradients = []
        for seed in range(60):
            weight = torch.ones(len(rows), dtype=torch.float64)
            value = loss(model, TrainingRows(rows, weight), levels, generator(seed))
            parts = torch.autograd.grad(value, parameters)
            gradients.append(torch.cat([part.flatten() for part in parts]))
        return torch.stack(gradients).var(0).sum()

    plain = variance(DSM(antithetic=False), rows.repeat_interleave(2, 0))
    assert variance(DSM(), rows) < 0.1 * plain


@pytest.mark.parametrize("antithetic", [True, False])
def test_the_loss_depends_on_the_generator_alone(corrected, generator, antithetic):
    model, rows = corrected()
    weight, state = torch.ones(len(rows), dtype=torch.float64), torch.get_rng_state()
    loss = DSM(antithetic=antithetic)
    first, again, other = (
        loss(model, TrainingRows(rows, weight), VP_LEVELS, generator(seed)) for seed in (3, 3, 4)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(state, torch.get_rng_state())


def test_the_bound_is_the_same_at_every_evaluation(corrected, generator):
    model, rows = corrected()
    bound = HeldOutBound.draw(rows, VP_LEVELS, 3, generator(0))
    assert torch.equal(bound.gain(model), bound.gain(model))
    again = HeldOutBound.draw(rows, VP_LEVELS, 3, generator(0))
    assert torch.equal(bound.gain(model), again.gain(model))
    assert not bound.gain(model).requires_grad


def test_the_bound_gives_every_row_one_level_in_each_slice_of_the_law(mixture, generator):
    n_draws, rows = 5, mixture(2).draw(8, seed=0)
    bound = HeldOutBound.draw(rows, VP_LEVELS, n_draws, generator(0))
    edges = VP_LEVELS.quantile(torch.linspace(0, 1, n_draws + 1, dtype=torch.float64))
    assert bound.noise.shape == (n_draws, 8, 2)
    assert ((edges[:-1, None] <= bound.log_snr) & (bound.log_snr <= edges[1:, None])).all()
    torch.testing.assert_close(bound.density, VP_LEVELS.density(bound.log_snr), rtol=0, atol=0)


# Parametrisations.


@pytest.mark.parametrize("log_snr", [-6.0, 0.0, 6.0])
def test_noise_clean_value_and_score_say_the_same(mixture, generator, randomized, log_snr):
    """eps -> score -> x0 -> eps returns the model's noise."""
    problem = mixture(3)
    network = randomized(ScoreNetwork(3, (8, 7), generator(1)), seed=2)
    x = problem.draw(30, seed=1)
    for level in (NoiseLevel.from_log_snr(tensor(log_snr)), NoiseLevel(tensor(1.0), tensor(2.0))):
        model = CorrectedScore(problem.gaussian, network)
        noise = sum(model.noise_and_correction(x, level))
        clean = (x + level.v * model.score(x, level)) / level.a
        torch.testing.assert_close(
            (x - level.a * clean) / level.v.sqrt(), noise, rtol=1e-10, atol=1e-10
        )


@pytest.mark.parametrize("log_snr", [-6.0, 0.0, 6.0])
def test_the_clean_value_of_an_exact_model_is_the_posterior_mean(mixture, log_snr):
    """E[X0 | x] = sum_k r_k (mu_k + a S_k C_k^-1 (x - a mu_k))."""
    problem, level = mixture(3), NoiseLevel.from_log_snr(tensor(log_snr))
    x = problem.draw(30, seed=1)
    model = CorrectedScore(problem.gaussian, ExactCorrection(problem.gaussian, problem.model))
    clean = (x - level.v.sqrt() * sum(model.noise_and_correction(x, level))) / level.a
    noised = level.a**2 * problem.covariances + level.v * torch.eye(3, dtype=torch.float64)
    law = torch.distributions.MultivariateNormal(level.a * problem.means, noised)
    posterior = (problem.weights.log() + law.log_prob(x[:, None])).softmax(1)
    gain = level.a * problem.covariances @ torch.linalg.inv(noised)
    shift = torch.einsum("kij,nkj->nki", gain, x[:, None] - level.a * problem.means)
    expected = torch.einsum("nk,nki->ni", posterior, problem.means + shift)
    torch.testing.assert_close(clean, expected, rtol=1e-10, atol=1e-10)


# Names and options.


def test_a_name_stands_for_the_default_loss():
    assert repr(resolve_loss("dsm")) == repr(DSM())


def test_an_unknown_name_lists_the_allowed_ones():
    with pytest.raises(ValueError, match="unknown") as caught:
        resolve_loss("dsn")
    assert "'dsn'" in str(caught.value)
    assert all(repr(name) in str(caught.value) for name in LOSSES)


def test_a_bad_option_is_named():
    with pytest.raises(ValueError, match="'antithetic' parameter of DSM"):
        resolve_loss(DSM(antithetic="yes"))
