"""Controlled reverse diffusions: weights, adjoints, and the exact control of a tilted mixture."""

import math

import pytest
import torch

from sklearn_dsm._core.distributions.gaussian import GaussianScore
from sklearn_dsm._core.distributions.mixture import GaussianMixtureScore
from sklearn_dsm._core.likelihood.controlled import (
    StepKernel,
    controlled_paths,
    difference_of,
    kernels_of,
    lean_adjoints,
)
from sklearn_dsm._core.noise.level import NoiseLevel
from sklearn_dsm._core.noise.level_sampling import LogisticLevels
from sklearn_dsm._core.random import torch_generator

LEVELS = LogisticLevels(-12.0, 12.0)
WEIGHTS = torch.tensor([0.3, 0.4, 0.3], dtype=torch.float64)
MEANS = torch.tensor([[-1.5, 0.0], [1.0, 1.0], [0.5, -1.2]], dtype=torch.float64)
COVARIANCES = torch.stack(
    [
        0.1 * torch.eye(2, dtype=torch.float64),
        torch.tensor([[0.2, 0.1], [0.1, 0.15]], dtype=torch.float64),
        0.2 * torch.eye(2, dtype=torch.float64),
    ]
)
A = torch.tensor([[0.5, 0.1], [0.1, 0.3]], dtype=torch.float64)
B = torch.tensor([-0.6, 0.4], dtype=torch.float64)


def log_weight(x):
    return -0.5 * torch.einsum("ni,ij,nj->n", x, A, x) + x @ B


def tilted_mixture(weights, means, covariances, A, b):
    """The mixture times exp(-x'Ax/2 + b'x), and the logarithm of its mass."""
    precisions = torch.linalg.inv(covariances)
    new = torch.linalg.inv(precisions + A)
    moved = torch.einsum("kij,kj->ki", precisions, means) + b
    centers = torch.einsum("kij,kj->ki", new, moved)
    log_mass = 0.5 * (
        torch.logdet(new)
        - torch.logdet(covariances)
        - torch.einsum("ki,kij,kj->k", means, precisions, means)
        + torch.einsum("ki,kij,kj->k", centers, torch.linalg.inv(new), centers)
    )
    logs = weights.log() + log_mass
    total = logs.logsumexp(0)
    return GaussianMixtureScore((logs - total).exp(), centers, new), float(total)


BASE = GaussianMixtureScore(WEIGHTS, MEANS, COVARIANCES)
TILTED, LOG_Z = tilted_mixture(WEIGHTS, MEANS, COVARIANCES, A, B)


def chain(n_steps, base=BASE, levels=LEVELS):
    clean = base.sample(2000, NoiseLevel.clean(MEANS), torch_generator(9))
    return kernels_of(base, clean, levels, n_steps, torch_generator(10))


def paths(control, n, n_steps, seed, base=BASE, watch=lambda step: None, levels=LEVELS):
    kernels = chain(n_steps, base, levels)
    generator = torch_generator(seed)
    start = base.sample(n, NoiseLevel.from_log_snr(kernels[0].log_snr), generator)
    return controlled_paths(control, start, kernels, generator, watch)


def mean_and_error(log_weights):
    w = log_weights.exp()
    return float(w.mean()), float(w.std() / math.sqrt(len(w)))


def test_a_kernel_is_bayes_rule_for_a_known_clean_row():
    """With the score of N(a x0, v), a step is the law of the cleaner level given the noisier."""
    noisier, cleaner = torch.tensor([-1.0, 0.5], dtype=torch.float64)
    s, t = NoiseLevel.from_log_snr(noisier), NoiseLevel.from_log_snr(cleaner)
    kernel = StepKernel.between(noisier, cleaner, 1 / s.v)
    y, x0 = torch.tensor(0.7), torch.tensor(-0.3)
    mean = kernel.mean(y, -(y - s.a * x0) / s.v)
    forward = s.v - (s.a / t.a) ** 2 * t.v
    precision = 1 / t.v + (s.a / t.a) ** 2 / forward
    expected = (t.a * x0 / t.v + (s.a / t.a) * y / forward) / precision
    torch.testing.assert_close(mean, expected)
    torch.testing.assert_close(kernel.deviation**2, 1 / precision)


def test_the_chain_of_white_rows_is_exact():
    """With the variance of the base's score, a step from N(0, I) ends at N(0, I)."""
    log_snrs = torch.tensor([-1.0, 0.5], dtype=torch.float64)
    kernel = StepKernel.between(*log_snrs, torch.ones(2).double())
    slope = (1 - kernel.added) / kernel.ratio
    torch.testing.assert_close(slope**2 + kernel.deviation**2, torch.ones(2).double())


def test_the_closed_form_is_that_of_weighted_samples():
    clean = NoiseLevel.clean(MEANS)
    x = BASE.sample(200_000, clean, torch_generator(0))
    logs = log_weight(x)
    assert abs(float(logs.logsumexp(0)) - math.log(len(x)) - LOG_Z) < 0.005
    mean = (logs.softmax(0)[:, None] * x).sum(0)
    expected = TILTED.sample(200_000, clean, torch_generator(1)).mean(0)
    torch.testing.assert_close(mean, expected, atol=0.01, rtol=0)


def test_the_exact_control_halves_the_deviation_with_four_times_the_steps():
    deviations, gaps = [], []
    for n_steps in (25, 100, 400):
        found = paths(difference_of(BASE, TILTED), 2000, n_steps, 0)
        log_weights = found.log_ratio + log_weight(found.rows)
        deviations.append(float(log_weights.std()))
        gaps.append(LOG_Z - float(log_weights.mean()))
    assert deviations[1] < 0.6 * deviations[0]
    assert deviations[2] < 0.6 * deviations[1]
    assert abs(gaps[2]) < 0.01


@pytest.mark.parametrize("wrong", [-1.0, 0.5, 2.0])
def test_the_mean_weight_is_the_base_chain_s_for_any_control(wrong):
    exact = difference_of(BASE, TILTED)

    def control(y, log_snr):
        score, correction = exact(y, log_snr)
        return score, wrong * correction

    plain = paths(difference_of(BASE, BASE), 40_000, 10, 1)
    assert (plain.log_ratio == 0).all()
    expected, error = mean_and_error(log_weight(plain.rows))
    found = paths(control, 40_000, 10, 2)
    mean, own_error = mean_and_error(found.log_ratio + log_weight(found.rows))
    assert abs(mean - expected) < 4 * math.hypot(error, own_error)


def test_the_base_chain_s_error_falls_with_the_steps():
    errors = []
    for n_steps in (6, 24, 96):
        found = paths(difference_of(BASE, TILTED), 20_000, n_steps, 3)
        mean, _ = mean_and_error(found.log_ratio + log_weight(found.rows))
        errors.append(abs(math.log(mean) - LOG_Z))
    assert errors[2] < 0.01
    assert errors[2] < errors[1] < errors[0]


def test_lean_adjoints_are_derivatives_of_the_end_in_the_start():
    kernels = chain(30)
    start = BASE.sample(20, NoiseLevel.from_log_snr(kernels[0].log_snr), torch_generator(0))
    start.requires_grad_()
    steps = []
    found = controlled_paths(
        difference_of(BASE, BASE), start, kernels, torch_generator(1), steps.append
    )
    expected = -torch.autograd.grad(log_weight(found.rows).sum(), start)[0]
    ends = found.rows.detach()
    adjoints = lean_adjoints(BASE, steps, ends @ A - B)
    torch.testing.assert_close(adjoints[0], expected, atol=1e-12, rtol=0)
    assert len(adjoints) == 31


def test_lean_adjoints_of_white_rows_shrink_by_the_signal():
    """For a log-concave base they are bounded so; for the standard normal they are equal."""
    white = GaussianScore(torch.zeros(2, dtype=torch.float64), torch.eye(2, dtype=torch.float64))
    steps = []
    found = paths(difference_of(white, white), 10, 800, 0, white, steps.append)
    end = torch.ones_like(found.rows)
    adjoints = lean_adjoints(white, steps, end)
    for step, adjoint in list(zip(steps, adjoints, strict=False))[::100]:
        a = NoiseLevel.from_log_snr(step.kernel.log_snr).a
        torch.testing.assert_close(adjoint, a * end, atol=0.01, rtol=0)
    narrow = GaussianScore(torch.zeros(2, dtype=torch.float64), 0.3 * torch.eye(2).double())
    steps = []
    paths(difference_of(narrow, narrow), 10, 800, 0, narrow, steps.append)
    for step, adjoint in zip(steps, lean_adjoints(narrow, steps, end), strict=False):
        level = NoiseLevel.from_log_snr(step.kernel.log_snr)
        bound = level.a * 0.3 / (level.a**2 * 0.3 + level.v)
        assert float(adjoint.max()) <= float(bound) + 0.01


def test_a_start_that_remembers_the_data_loses_a_share_of_the_tilt():
    """A linear weight moves the mean by its slope less the squared correlation of the ends."""
    variance = 1.3
    base = GaussianScore(
        torch.zeros(1, dtype=torch.float64), variance * torch.eye(1, dtype=torch.float64)
    )
    tilted = GaussianScore(torch.full((1,), variance).double(), base_covariance(variance))
    levels = LogisticLevels(0.0, 12.0)
    found = paths(difference_of(base, tilted), 40_000, 200, 0, base, levels=levels)
    level = NoiseLevel.from_log_snr(torch.tensor(0.0).double())
    squared = float(level.a**2 * variance / (level.a**2 * variance + level.v))
    assert abs(float(found.rows.mean()) - (1 - squared) * variance) < 0.03


def base_covariance(variance):
    return variance * torch.eye(1, dtype=torch.float64)
