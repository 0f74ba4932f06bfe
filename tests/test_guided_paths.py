"""Guided paths along tilted densities: the identities of Crooks and Jarzynski."""

import math

import pytest
import torch
from test_controlled_paths import BASE, LOG_Z, chain
from test_controlled_paths import log_weight as mixture_log_weight

from sklearn_dsm._core.distributions.gaussian import GaussianScore
from sklearn_dsm._core.likelihood.controlled import StepKernel
from sklearn_dsm._core.likelihood.guided import (
    GuidedStep,
    guided_paths,
    log_ratios,
    transport_residual,
    velocity_of,
)
from sklearn_dsm._core.noise.level import NoiseLevel
from sklearn_dsm._core.random import torch_generator
from sklearn_dsm._core.scores.corrected import CorrectedScore
from sklearn_dsm._core.scores.network import ScoreNetwork

A = torch.tensor([[0.5, 0.1], [0.1, 0.3]], dtype=torch.float64)
B = torch.tensor([-0.6, 0.4], dtype=torch.float64)
WHITE = GaussianScore(torch.zeros(2).double(), torch.eye(2).double())


def slope(x):
    return B - x @ A


def network(size, seed=0):
    net = ScoreNetwork(2, [16, 16], torch_generator(seed)).double()
    with torch.no_grad():
        net.output.copy_(size * torch.randn(2, 16, generator=torch_generator(seed + 1)).double())
    return net


def gaussian_log_normalizer(covariance):
    """Of N(0, C) times exp(-x'Ax/2 + B'x)."""
    precision = torch.linalg.inv(covariance) + A
    return float(
        0.5 * (B @ torch.linalg.inv(precision) @ B)
        - 0.5 * torch.logdet(precision)
        - 0.5 * torch.logdet(covariance)
    )


def guided(base, net, n, n_steps, seed, watch=lambda step: None):
    kernels = chain(n_steps, base)
    generator = torch_generator(seed)
    start = base.sample(n, NoiseLevel.from_log_snr(kernels[0].log_snr), generator)
    with torch.no_grad():
        return guided_paths(CorrectedScore(base, net), slope, start, kernels, generator, watch)


@pytest.mark.parametrize("size", [0.0, 0.3])
def test_weights_are_unbiased_where_the_chain_of_the_base_is_reversible(size):
    """For a standard normal base, with few steps and any network."""
    found = guided(WHITE, network(size), 100_000, 16, 0)
    log_weights = found.log_ratio + mixture_log_weight(found.rows)
    w = (log_weights - gaussian_log_normalizer(torch.eye(2).double())).exp()
    assert abs(float(w.mean()) - 1) < 4 * float(w.std()) / math.sqrt(len(w))


@pytest.mark.parametrize("size", [0.0, 0.1])
def test_the_error_of_crooks_relation_falls_with_the_steps(size):
    errors = []
    for n_steps in (6, 24, 150):
        found = guided(BASE, network(size), 20_000, n_steps, 1)
        log_weights = found.log_ratio + mixture_log_weight(found.rows)
        errors.append(abs(float(log_weights.logsumexp(0)) - math.log(20_000) - LOG_Z))
    assert errors[2] < 0.01
    assert errors[2] < errors[0]


def test_ratios_of_kept_paths_are_those_of_the_simulation():
    steps, net = [], network(0.3)
    found = guided(BASE, net, 50, 20, 2, steps.append)
    again = log_ratios(CorrectedScore(BASE, net), GuidedStep.stacked(steps), found.rows)
    torch.testing.assert_close(again.detach(), found.log_ratio)


def work(covariance, velocity, noise, n, n_steps, seed):
    """Integrals of the residual along paths of the velocity, and their ends.

    Between each two log-SNRs the path takes one Euler step, and the residual is that in the middle
    of the step.
    """
    base = GaussianScore(torch.zeros(2).double(), covariance)
    grid = torch.linspace(-12.0, 12.0, n_steps + 1).double()
    generator = torch_generator(seed)
    x = base.sample(n, NoiseLevel.from_log_snr(grid[0]), generator)
    total, h = torch.zeros(n).double(), float(grid[1] - grid[0])

    def state(x, log_snr):
        level = NoiseLevel.from_log_snr(log_snr)
        kernel = StepKernel(log_snr, level.a, level.v, level.v)
        step = GuidedStep(x, kernel, base.score(x, level), level.a * slope(level.a * x))
        return step, level, *velocity(x, level)

    for low in grid[:-1]:
        step, level, n_, divergence = state(x, low)
        total = total + 0.5 * h * transport_residual(step, n_, divergence, level)
        drift = x + step.score + n_ + noise * (step.score + step.guide)
        x = x + 0.5 * h * level.v * drift
        x = x + (noise * level.v * h).sqrt() * torch.randn(x.shape, generator=generator).double()
        step, level, n_, divergence = state(x, low + h)
        total = total + 0.5 * h * transport_residual(step, n_, divergence, level)
    return total, x


def none(x, level):
    return torch.zeros_like(x), x.new_zeros(len(x))


RANDOM = network(0.1)


def random(x, level):
    with torch.no_grad():
        output, trace = RANDOM.forward_and_divergence(x, level.log_snr)
    return velocity_of(output, level), -trace / level.v.sqrt()


COVARIANCE = torch.tensor([[1.2, 0.4], [0.4, 0.9]], dtype=torch.float64)


@pytest.mark.parametrize("noise", [0.0, 0.5])
@pytest.mark.parametrize("velocity", [none, random])
def test_jarzynskis_equality(velocity, noise):
    total, ends = work(COVARIANCE, velocity, torch.tensor(noise), 30_000, 200, 0)
    log_z = float(total.logsumexp(0)) - math.log(len(total))
    assert abs(log_z - gaussian_log_normalizer(COVARIANCE)) < 0.01
    mean = (total.softmax(0)[:, None] * ends).sum(0)
    exact = torch.linalg.solve(torch.linalg.inv(COVARIANCE) + A, B)
    torch.testing.assert_close(mean, exact, atol=0.03, rtol=0)


def exact_velocity(variance):
    """What carries N(0, a^2 C + v) times exp(-A (a x)^2 / 2 + B a x) along, in one feature."""

    def moments(log_snr):
        level = NoiseLevel.from_log_snr(log_snr)
        precision = 1 / (level.a**2 * variance + level.v) + level.a**2
        return torch.stack([level.a / precision, 1 / precision])

    def velocity(x, level):
        moved = torch.func.jacrev(moments)(level.log_snr)
        mean, width = moments(level.log_snr)
        slope = 0.5 * moved[1] / width
        total = moved[0] + slope * (x - mean)
        spread = level.a**2 * variance + level.v
        base = 0.5 * level.v * (x - x / spread)
        divergence = (slope - 0.5 * level.v * (1 - 1 / spread)) * 2 / level.v
        return 2 / level.v * (total - base), divergence.expand(len(x))

    return velocity


def test_the_exact_velocity_leaves_a_constant():
    """And every path then has the same weight."""
    variance = 1.4
    velocity, x = exact_velocity(variance), torch.linspace(-3, 3, 50).double()[:, None]
    for log_snr in (-6.0, -1.0, 0.0, 2.0, 8.0):
        level = NoiseLevel.from_log_snr(torch.tensor(log_snr).double())
        kernel = StepKernel(*(torch.tensor(log_snr).double(),) * 4)
        score = -x / (level.a**2 * variance + level.v)
        step = GuidedStep(x, kernel, score, level.a * (1 - level.a * x))
        residual = transport_residual(step, *velocity(x, level), level)
        assert float(residual.max() - residual.min()) < 1e-8
