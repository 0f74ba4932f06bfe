"""Laws of the integrator and of the samplers."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from sklearn_dsm import PBM, VE, VP, SubVP
from sklearn_dsm._core.distributions.gaussian import GaussianScore
from sklearn_dsm._core.distributions.kernel import KernelScore
from sklearn_dsm._core.likelihood.solvers import DORMAND_PRINCE, EULER, CleanLeg, integrate, sample
from sklearn_dsm._core.noise.level import NoiseLevel
from sklearn_dsm._core.noise.level_sampling import LogisticLevels, SolverLevels

LEVELS = LogisticLevels(*VP().log_snr_range)
TABLEAUS = [DORMAND_PRINCE, EULER]
STEPS = {"ode": 24, "sde": 200}
every_method = pytest.mark.parametrize("method", STEPS)


def tensor(value):
    return torch.tensor(value, dtype=torch.float64)


LOW = NoiseLevel.from_log_snr(tensor(LEVELS.low))
CLEAN = NoiseLevel(tensor(1.0), tensor(0.0))


def uniform(n_steps, start=0.0, end=2.0):
    return torch.linspace(start, end, n_steps + 1, dtype=torch.float64)


def field(state, time):
    """y' = cos(t) y + sin(3 t), linear and not autonomous."""
    return time.cos() * state + (3 * time).sin()


def truth(time, start):
    """y = e^sin(t) (y0 + int_0^t sin(3 u) e^-sin(u) du), the integral by quadrature."""
    grid = torch.linspace(0, float(time), 20001, dtype=torch.float64)
    integrand = (3 * grid).sin() * (-grid.sin()).exp()
    weights = torch.full_like(grid, 2)
    weights[1::2], weights[0], weights[-1] = 4, 1, 1
    return math.exp(math.sin(time)) * (start + (weights @ integrand) * (grid[1] - grid[0]) / 3)


# The integrator.


@pytest.mark.parametrize(("tableau", "order"), [(DORMAND_PRINCE, 5), (EULER, 1)])
def test_order_of_convergence(tableau, order):
    start = tensor([[1.0], [-0.5]])
    steps = [8, 16, 32] if order == 5 else [200, 400, 800]
    errors = [
        (integrate(field, start, uniform(n), tableau) - truth(2.0, start)).abs().max().log2()
        for n in steps
    ]
    for coarse, fine in pairwise(errors):
        assert abs(coarse - fine - order) < (0.6 if order == 5 else 0.1)


def test_the_local_error_is_of_fifth_order():
    start, sizes = tensor([[1.0], [-0.5]]), [0.04, 0.02, 0.01]
    seen = []
    for size in sizes:
        integrate(
            field,
            start,
            uniform(1, 0.5, 0.5 + size),
            watch=lambda step: seen.append(step.error.abs().max().log2()),
        )
    for coarse, fine in pairwise(seen):
        assert abs(coarse - fine - 5) < 0.4


def test_the_state_halfway_is_of_fifth_order():
    start, sizes = tensor([[1.0], [-0.5]]), [0.4, 0.2, 0.1]
    errors = []
    for size in sizes:
        begin = truth(0.5, start)
        grid = uniform(1, 0.5, 0.5 + size)
        exact = truth(0.5 + size / 2, start)
        integrate(
            field,
            begin,
            grid,
            watch=lambda step, exact=exact: errors.append((step.middle - exact).abs().max().log2()),
        )
    for coarse, fine in pairwise(errors):
        assert 4.3 < coarse - fine < 5.7


def test_the_local_error_is_the_step_less_that_of_the_embedded_method():
    """Dormand and Prince (1980): the fourth-order weights, the last on the slope at the end."""
    fourth = (5179 / 57600, 0, 7571 / 16695, 393 / 640, -92097 / 339200, 187 / 2100, 1 / 40)
    fifth = (*DORMAND_PRINCE.stages[-1], 0)
    expected = [new - old for new, old in zip(fifth, fourth, strict=True)]
    assert pytest.approx(expected, abs=1e-15) == DORMAND_PRINCE.error


@pytest.mark.parametrize("tableau", TABLEAUS, ids=["dormand-prince", "euler"])
def test_stages_lie_at_their_nodes(tableau):
    assert [sum(row) for row in tableau.stages] == pytest.approx([*tableau.nodes, 1.0])
    assert abs(sum(tableau.error)) < 1e-15


@pytest.mark.parametrize("degree", range(5))
def test_dormand_prince_is_exact_for_polynomials(degree):
    start = torch.zeros(1, 1, dtype=torch.float64)
    end = integrate(lambda y, t: (degree + 1) * t**degree + 0 * y, start, uniform(3))
    torch.testing.assert_close(end, tensor([[2.0 ** (degree + 1)]]), rtol=1e-13, atol=0)


def test_a_grid_taken_backwards_leads_back():
    start = tensor([[1.0], [-0.5]])
    there = integrate(field, start, uniform(60))
    back = integrate(field, there, uniform(60).flip(0))
    torch.testing.assert_close(back, start, rtol=0, atol=1e-8)


def test_hooks_see_every_step():
    grid, seen, after = uniform(4), [], []

    def double(state, start, end):
        after.append((float(start), float(end)))
        return 2 * state

    end = integrate(
        lambda y, t: 0 * y,
        tensor([[1.0]]),
        grid,
        after_step=double,
        watch=lambda step: seen.append((float(step.state), float(step.end))),
    )
    assert float(end) == 16.0
    assert after == list(pairwise(grid.tolist()))
    assert seen == list(zip([2.0, 4.0, 8.0, 16.0], grid[1:].tolist(), strict=True))


@pytest.mark.parametrize("log_snr", [-5.0, 0.0, 3.0, 20.0, 40.0])
@pytest.mark.parametrize("direction", [1, -1])
def test_the_clean_leg_takes_the_time_to_the_level(log_snr, direction):
    """log SNR = -log(e^2t - 1)."""
    start = torch.full((1, 1), 2.0, dtype=torch.float64)
    leg = CleanLeg.to(log_snr)
    end, half = leg.cross(lambda x, _: torch.ones_like(x), 0 * start, direction)
    assert float(half) == float(end) / 2
    assert -math.log(math.expm1(2 * abs(float(end)))) == pytest.approx(log_snr, rel=1e-12)
    assert math.copysign(1, float(end)) == direction


# Samplers.


@every_method
def test_white_noise_stays_white(generator, method):
    """The flow of N(0, I) is at rest; the reverse diffusion leaves its law alone."""
    white = GaussianScore(torch.zeros(3).double(), torch.eye(3).double())
    n = 40000
    start = torch.randn(n, 3, generator=generator(0), dtype=torch.float64)
    x = sample(white, start, LEVELS, 20, method=method, generator=generator(1))
    if method == "ode":
        torch.testing.assert_close(x, start, rtol=0, atol=1e-12)
    assert (x.mean(0).abs() < 4 / math.sqrt(n)).all()
    gap = torch.cov(x.T) - torch.eye(3, dtype=torch.float64)
    assert gap.abs().max() < 4 * math.sqrt(2 / n)


def _place(law, z, level):
    """Rows of a Gaussian at a level with these standardised coordinates."""
    deviations = (level.a**2 * law.eigenvalues + level.v).sqrt()
    return level.a * law.mean + (z * deviations) @ law.axes.T


@pytest.mark.parametrize("n_features", [1, 2, 5])
def test_the_flow_of_a_gaussian_keeps_standardised_coordinates(mixture, n_features, generator):
    law = mixture(n_features).gaussian
    z = torch.randn(50, n_features, generator=generator(0), dtype=torch.float64)
    x = sample(law, _place(law, z, LOW), LEVELS, 100)
    torch.testing.assert_close(x, _place(law, z, CLEAN), rtol=0, atol=1e-5)


def test_the_last_leg_takes_out_the_noise_that_is_left(mixture, generator):
    """Its error is of third order in the time from a coarse last level; the noise of first."""
    law, highs = mixture(2).gaussian, [3.0, 5.0]
    z = torch.randn(50, 2, generator=generator(0), dtype=torch.float64)
    errors = []
    for high in highs:
        x = sample(law, _place(law, z, LOW), LogisticLevels(LEVELS.low, high), 400)
        errors.append((x - _place(law, z, CLEAN)).abs().max())
    times = [math.log1p(math.exp(-high)) for high in highs]
    assert abs(math.log(errors[0] / errors[1]) / math.log(times[0] / times[1]) - 3) < 0.5


def test_the_reverse_diffusion_from_a_row_draws_from_its_posterior(mixture, generator):
    """Of Gaussian data noised to a level: mean and covariance of X_0 given the row."""
    law, n, low = mixture(2).gaussian, 20000, -1.0
    level = NoiseLevel.from_log_snr(tensor(low))
    row = law.mean + tensor([1.0, -0.5])
    x = sample(
        law,
        row.expand(n, 2),
        LogisticLevels(low, LEVELS.high),
        800,
        method="sde",
        generator=generator(0),
    )
    precision = law.axes / law.eigenvalues @ law.axes.T
    inverse = precision + level.a**2 / level.v * torch.eye(2, dtype=torch.float64)
    mean = torch.linalg.solve(inverse, precision @ law.mean + level.a / level.v * row)
    z = (x - mean) @ torch.linalg.cholesky(inverse)
    assert (z.mean(0).abs() < 4 / math.sqrt(n)).all()
    gap = torch.cov(z.T) - torch.eye(2, dtype=torch.float64)
    assert gap.abs().max() < 4 * math.sqrt(2 / n)


@every_method
def test_the_reverse_of_a_gaussian_has_its_moments(mixture, generator, method):
    law, n = mixture(2).gaussian, 8000
    start = law.sample(n, LOW, generator(0))
    x = sample(law, start, LEVELS, STEPS[method], method=method, generator=generator(1))
    z = (x - law.mean) @ law.axes / law.eigenvalues.sqrt()
    assert (z.mean(0).abs() < 4 / math.sqrt(n)).all()
    covariance = torch.cov(z.T) - torch.eye(2, dtype=torch.float64)
    assert covariance.abs().max() < 4 * math.sqrt(2 / n)


@every_method
@pytest.mark.parametrize("kind", ["mixture", "kernel"])
@pytest.mark.parametrize("n_features", [1, 2, 10])
def test_samples_follow_the_mixture(
    mixture, problem, generator, energy_p_value, method, kind, n_features
):
    """Moments and mean log-density within five standard errors, and the energy test."""
    data = mixture(n_features).whitened()
    model = data.model
    if kind == "kernel":
        centers = data.draw(6, seed=1)
        covariance = 0.09 * torch.eye(n_features, dtype=torch.float64)
        data = problem(torch.full((6,), 1 / 6).double(), centers, covariance.expand(6, -1, -1))
        model = KernelScore(centers, 0.3)
    n = 4000
    start = data.gaussian.sample(n, LOW, generator(0))
    x = sample(model, start, LEVELS, STEPS[method], method=method, generator=generator(2))
    exact = data.draw(n, seed=3)
    law = data.gaussian
    z = (x - law.mean) @ law.axes / law.eigenvalues.sqrt()
    products = torch.einsum("ni,nj->nij", z, z)
    gaps = products.mean(0) - torch.eye(n_features, dtype=torch.float64)
    assert (z.mean(0).abs() < 5 / math.sqrt(n)).all()
    assert (gaps.abs() < 5 * products.std(0) / math.sqrt(n)).all()
    first, second = data.log_density(x), data.log_density(exact)
    error = ((first.var() + second.var()) / n).sqrt()
    assert abs(first.mean() - second.mean()) < 5 * error
    assert energy_p_value(x[:800], exact[:800], seed=4) > 0.01


def test_the_energy_test_sees_a_wrong_law(bimodal, generator, energy_p_value):
    """Draws of the Gaussian of the same moments are told from those of two modes."""
    data = bimodal(2.0)
    wrong = data.gaussian.sample(800, CLEAN, generator(0))
    assert energy_p_value(wrong, data.draw(800, seed=1), seed=4) < 0.01


@every_method
@pytest.mark.parametrize("process", [VP(), VE(), VE(0.05, 20.0), SubVP(), PBM()], ids=repr)
def test_samples_follow_the_mixture_whatever_the_process(
    mixture, generator, energy_p_value, method, process
):
    data, levels = mixture(2).whitened(), LogisticLevels(*process.log_snr_range)
    low = NoiseLevel.from_log_snr(tensor(levels.low))
    start = data.gaussian.sample(800, low, generator(0))
    x = sample(data.model, start, levels, STEPS[method], method=method, generator=generator(1))
    assert energy_p_value(x, data.draw(800, seed=3), seed=4) > 0.01


@pytest.mark.parametrize("n_features", [1, 2, 10])
def test_the_sampling_flow_inverts_the_likelihood_flow(mixture, n_features):
    data = mixture(n_features).whitened()
    x = data.draw(100, seed=0)

    def excess(state, log_snr):
        return state + data.model.score(state, NoiseLevel.from_log_snr(log_snr))

    def flow(state, log_snr):
        return torch.sigmoid(-log_snr) / 2 * excess(state, log_snr)

    noised, _ = CleanLeg.to(LEVELS.high).cross(excess, x, -1)
    noised = integrate(flow, noised, SolverLevels(LEVELS.low, LEVELS.high).grid(128, x).flip(0))
    torch.testing.assert_close(sample(data.model, noised, LEVELS, 128), x, rtol=0, atol=1e-5)


@every_method
def test_samples_depend_on_the_generator_alone(mixture, generator, method):
    data, state = mixture(2), torch.get_rng_state()
    start = data.gaussian.sample(10, LOW, generator(0))
    first, again, other = (
        sample(data.model, start, LEVELS, 10, method=method, generator=generator(seed))
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert torch.equal(first, other) == (method == "ode")
    assert torch.equal(state, torch.get_rng_state())


def test_the_flow_moves_every_row_on_its_own(mixture):
    data = mixture(2)
    start = data.gaussian.sample(10, LOW, torch.Generator().manual_seed(0))
    together = sample(data.model, start, LEVELS, 10)
    alone = torch.cat([sample(data.model, row[None], LEVELS, 10) for row in start])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-9)
