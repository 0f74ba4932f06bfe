"""Laws of the targets a score may be regressed on."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sklearn_dsm import PBM, VE, VP
from sklearn_dsm._core.distributions.gaussian import GaussianScore
from sklearn_dsm._core.losses.targets import (
    bootstrapped_noise,
    conditional_target,
    earlier_level,
    novel_target,
    target_score_target,
)
from sklearn_dsm._core.noise.conversions import TO_NOISE, convert
from sklearn_dsm._core.noise.level import NoiseLevel
from sklearn_dsm._core.noise.processes import PROCESSES


def tensor(value):
    return torch.tensor(value, dtype=torch.float64)


def clean_level():
    return NoiseLevel(tensor(1.0), tensor(0.0))


def posterior(problem, x, level, nodes):
    """Probabilities of the clean values (nodes, 1) given each noised row, shape (n, m)."""
    log_prior = problem.model.log_density(nodes, clean_level())
    log_noise = -((x - level.a * nodes.T) ** 2) / (2 * level.v)
    return torch.softmax(log_prior + log_noise, 1)


LEVELS = [VP().level(tensor(t)) for t in (0.05, 0.3, 0.7)] + [
    VE().level(tensor(0.4)),
    PBM(1.5).level(tensor(0.6)),
]


@pytest.mark.parametrize("level", LEVELS, ids=str)
@pytest.mark.parametrize("scale", [0.6, 1.0, 2.0])
def test_every_target_has_the_score_as_its_mean(mixture, level, scale):
    problem = mixture(1)
    x = level.a * problem.draw(6, seed=1) + level.v.sqrt() * 0.4
    nodes = torch.linspace(-14, 14, 40001, dtype=torch.float64)[:, None]
    probability = posterior(problem, x, level, nodes)
    clean_score = problem.model.score(nodes, clean_level())
    targets = {
        "conditional": conditional_target(nodes[None], x[:, None], level),
        "target": target_score_target(clean_score, level).expand(6, -1, -1),
        "novel": novel_target(nodes[None], clean_score, x[:, None], level, scale),
    }
    score = problem.model.score(x, level)
    for target in targets.values():
        mean = (probability[..., None] * target).sum(1)
        torch.testing.assert_close(mean, score, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("level", LEVELS, ids=str)
def test_the_novel_target_is_the_closed_form(mixture, generator, level):
    problem, scale = mixture(3), 1.3
    clean = problem.draw(20, seed=2)
    noise = torch.randn(clean.shape, generator=generator(0), dtype=clean.dtype)
    x = level.a * clean + level.v.sqrt() * noise
    clean_score = problem.model.score(clean, clean_level())
    variance = (level.a * scale) ** 2 + level.v
    pull = level.a * scale**2 / variance * (clean_score + clean / scale**2)
    expected = pull - x / variance
    novel = novel_target(clean, clean_score, x, level, scale)
    torch.testing.assert_close(novel, expected, rtol=1e-9, atol=1e-9)


def mean_variances(problem, squared_a):
    """Mean conditional variance of each target at a variance-preserving level."""
    level = NoiseLevel(tensor(squared_a).sqrt(), tensor(1 - squared_a))
    nodes = torch.linspace(-8, 8, 4001, dtype=torch.float64)[:, None]
    x = torch.linspace(-8, 8, 801, dtype=torch.float64)[:, None]
    probability = posterior(problem, x, level, nodes)
    density = problem.model.log_density(x, level).exp()
    density = density / density.sum()
    clean_score = problem.model.score(nodes, clean_level())
    targets = (
        conditional_target(nodes[None], x[:, None], level),
        target_score_target(clean_score, level).expand(len(x), -1, -1),
        novel_target(nodes[None], clean_score, x[:, None], level),
    )
    variances = []
    for target in targets:
        values = target[..., 0]
        mean = (probability * values).sum(1, keepdim=True)
        variances.append(float(density @ (probability * (values - mean) ** 2).sum(1)))
    return variances


def test_denoising_explodes_at_the_data_the_clean_score_at_the_noise_and_the_novel_nowhere(mixture):
    problem = mixture(1)
    found = {a: mean_variances(problem, a) for a in (0.99, 0.9, 0.5, 0.1, 0.01)}
    conditional, target, novel = ({a: values[k] for a, values in found.items()} for k in range(3))
    # v Var and a^2 Var tend to constants at the end where each explodes.
    assert abs((1 - 0.99) * conditional[0.99] - 1) < 0.1
    spread = float(problem.model.score(problem.draw(4000, seed=0), clean_level()).square().mean())
    assert abs(0.01 * target[0.01] / spread - 1) < 0.15
    assert conditional[0.99] > 50 > 5 > novel[0.99]
    assert target[0.01] > 50 > 5 > novel[0.01]
    assert max(novel.values()) < 5


# Bootstrapping.


def path(problem, late_time, early_time, n, random):
    """Clean rows, the noised rows at two times of one path, the levels, and the noises."""
    late, early = (NoiseLevel(torch.exp(-t), -torch.expm1(-2 * t)) for t in (late_time, early_time))
    clean = problem.draw(n, seed=3)
    early_noise, step = (
        torch.randn(clean.shape, generator=random, dtype=clean.dtype) for _ in range(2)
    )
    x_early = early.a * clean + early.v.sqrt() * early_noise
    noise = bootstrapped_noise(early_noise, step, early, late)
    return clean, x_early, late.a * clean + late.v.sqrt() * noise, early, late, early_noise, step


def test_the_earlier_level_is_so_many_times_earlier():
    time = tensor([0.01, 0.3, 2.0])
    log_snr = -torch.log(torch.expm1(2 * time))
    earlier = earlier_level(log_snr, 2.5)
    torch.testing.assert_close(-torch.log(torch.expm1(2 * time / 2.5)), earlier)


def test_the_noise_of_a_path_is_that_of_its_end(mixture, generator):
    """It is standard normal, and carries the earlier row to the later one exactly."""
    problem = mixture(2)
    clean, x_early, x, early, late, _, step = path(
        problem, tensor(0.8), tensor(0.3), 40000, generator(0)
    )
    noise = (x - late.a * clean) / late.v.sqrt()
    torch.testing.assert_close(noise.T.cov(), torch.eye(2).double(), rtol=0, atol=0.03)
    kept = late.a / early.a
    moved = kept * x_early + (late.v - kept**2 * early.v).sqrt() * step
    torch.testing.assert_close(moved, x, rtol=1e-12, atol=1e-12)


def test_the_bootstrapped_target_is_the_share_of_two_targets(mixture, generator):
    """R = q C + (1 - q) B with C from the earlier score and B from the step alone."""
    problem = mixture(2)
    _, x_early, _, early, late, _, step = path(problem, tensor(0.8), tensor(0.3), 50, generator(0))
    score = problem.model.score(x_early, early)
    noise = bootstrapped_noise(-early.v.sqrt() * score, step, early, late)
    kept = late.a / early.a
    step_variance = late.v - kept**2 * early.v
    share = kept**2 * early.v / late.v
    expected = share * score / kept - (1 - share) * step / step_variance.sqrt()
    torch.testing.assert_close(-noise / late.v.sqrt(), expected, rtol=1e-12, atol=1e-12)


def test_from_no_noise_the_bootstrapped_target_is_that_of_denoising(mixture, generator):
    problem, late_time = mixture(2), tensor(0.8)
    clean, _, x, early, late, _, step = path(problem, late_time, tensor(0.0), 50, generator(0))
    noise = bootstrapped_noise(torch.zeros_like(step), step, early, late)
    target = conditional_target(clean, x, late)
    torch.testing.assert_close(-noise / late.v.sqrt(), target, rtol=1e-12, atol=1e-12)


def test_with_the_exact_score_the_bootstrapped_target_is_unbiased(mixture, generator):
    problem = mixture(2)
    _, x_early, x, early, late, _, step = path(
        problem, tensor(0.8), tensor(0.4), 20000, generator(1)
    )
    earlier_noise = -early.v.sqrt() * problem.model.score(x_early, early)
    target = -bootstrapped_noise(earlier_noise, step, early, late) / late.v.sqrt()
    gap = (target - problem.model.score(x, late)).numpy()
    x = x.numpy()
    features = np.column_stack([np.ones(len(x)), x, x[:, :1] * x[:, 1:], np.sin(x[:, :1])])
    for column in gap.T:
        coefficient, _, _, _ = np.linalg.lstsq(features, column, rcond=None)
        rest = column - features @ coefficient
        inverse = np.linalg.inv(features.T @ features)
        error = np.sqrt(np.diag(inverse) * rest.var())
        assert (np.abs(coefficient) < 4 * error).all()


def test_the_variance_of_the_bootstrapped_target_of_a_gaussian(generator):
    """Var(R) / Var(A) = .269 for N(0, 1) at times 1 and 1/2, given the noised value."""
    data = GaussianScore(tensor([0.0]), tensor([[1.0]]))
    late, early = (NoiseLevel(tensor(t).neg().exp(), -tensor(-2 * t).expm1()) for t in (1.0, 0.5))
    random, n = generator(0), 400000
    clean, early_noise, step = (
        torch.randn(n, 1, generator=random, dtype=torch.float64) for _ in range(3)
    )
    x_early = early.a * clean + early.v.sqrt() * early_noise
    noise = bootstrapped_noise(early_noise, step, early, late)
    x = late.a * clean + late.v.sqrt() * noise
    of_score = -early.v.sqrt() * data.score(x_early, early)
    target = -bootstrapped_noise(of_score, step, early, late) / late.v.sqrt()
    score = data.score(x, late)
    variances = [(t - score).square().mean() for t in (target, conditional_target(clean, x, late))]
    assert abs(variances[0] / variances[1] / 0.269 - 1) < 0.03


# Conversions.


@pytest.mark.parametrize("name", PROCESSES)
@pytest.mark.parametrize("kind", TO_NOISE)
def test_conversions_go_round(name, kind, generator):
    random = generator(0)
    x, value = (torch.randn(9, 3, generator=random, dtype=torch.float64) for _ in range(2))
    process = PROCESSES[name]()
    for time in (0.05, 0.4, 0.9):
        level = process.level(tensor(time))
        for to in TO_NOISE:
            there = convert(value, x, level, kind, to)
            torch.testing.assert_close(
                convert(there, x, level, to, kind), value, rtol=1e-9, atol=1e-9 / float(level.a)
            )


def test_conversions_of_what_a_row_is_made_of(generator):
    random = generator(0)
    clean, noise = (torch.randn(9, 2, generator=random, dtype=torch.float64) for _ in range(2))
    level = PBM(2.0).level(tensor(0.3))
    x = level.a * clean + level.v.sqrt() * noise
    made_of = {
        "noise": noise,
        "clean": clean,
        "score": conditional_target(clean, x, level),
        "velocity": level.a * noise - level.v.sqrt() * clean,
    }
    for kind, value in made_of.items():
        for to, other in made_of.items():
            torch.testing.assert_close(convert(value, x, level, kind, to), other)


@pytest.mark.parametrize("name", PROCESSES)
def test_exact_scores_denoise_to_the_mean_of_clean_rows(name, mixture):
    """Tweedie's formula, against the posterior mean by quadrature, in every process."""
    problem, level = mixture(1), PROCESSES[name]().level(tensor(0.35))
    x = level.a * problem.draw(5, seed=2) + 0.3 * level.v.sqrt()
    nodes = torch.linspace(-14, 14, 20001, dtype=torch.float64)[:, None]
    expected = posterior(problem, x, level, nodes) @ nodes
    torch.testing.assert_close(
        problem.model.posterior_mean(x, level), expected, rtol=1e-8, atol=1e-8
    )
