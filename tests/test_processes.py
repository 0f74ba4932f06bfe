"""Laws of the noise processes."""

from __future__ import annotations

import math

import pytest
import torch
from sklearn.base import clone

from sklearn_dsm import PBM, VE, VP, SubVP
from sklearn_dsm._core.distributions.gaussian import GaussianScore
from sklearn_dsm._core.noise.level import NoiseLevel
from sklearn_dsm._core.noise.processes import PROCESSES, NoiseProcess, resolve_process
from sklearn_dsm._core.scores.follmer import foellmer_drift

PARAMETERS = [
    VP(),
    VP(beta_min=1e-3, beta_max=8.0),
    VP(beta_min=5.0, beta_max=40.0),
    VE(),
    VE(sigma_min=0.1, sigma_max=3.0),
    VE(sigma_min=1e-3, sigma_max=200.0),
    SubVP(),
    SubVP(beta_min=1.0, beta_max=12.0),
    PBM(),
    PBM(sigma=0.3),
    PBM(sigma=5.0),
]
every_process = pytest.mark.parametrize("process", PARAMETERS, ids=repr)
TIMES = torch.linspace(0, 1, 41, dtype=torch.float64)[1:]
# A pinned process has no log-SNR at its end.
INNER_TIMES = TIMES[:-1]


@every_process
def test_log_snr_is_that_of_the_coefficients(process):
    level = process.level(INNER_TIMES)
    torch.testing.assert_close(level.log_snr, (level.a**2 / level.v).log(), rtol=1e-12, atol=1e-12)


@every_process
def test_noise_grows_with_time(process):
    assert (process.level(INNER_TIMES).log_snr.diff() < 0).all()


@every_process
def test_time_inverts_the_log_snr(process):
    level = process.level(INNER_TIMES)
    torch.testing.assert_close(process.time(level.log_snr), INNER_TIMES, rtol=1e-10, atol=1e-12)


@every_process
def test_log_snr_range_ends_at_times_zero_and_one(process):
    low, high = process.log_snr_range
    ends = process.time(torch.tensor([low, high], dtype=torch.float64))
    assert 1 - 2e-5 <= ends[0] <= 1 + 1e-10
    assert -1e-10 <= ends[1] <= 1e-3 + 1e-10
    assert low < high


@pytest.mark.parametrize("process", [p for p in PARAMETERS if isinstance(p, VP)], ids=repr)
def test_vp_preserves_variance_and_has_its_linear_rate(process):
    level = process.level(TIMES)
    torch.testing.assert_close(level.a**2 + level.v, torch.ones_like(TIMES), rtol=1e-13, atol=0)
    beta = process.beta_min + TIMES * (process.beta_max - process.beta_min)
    drift, diffusion = process.drift_and_diffusion(TIMES)
    torch.testing.assert_close(drift, -beta / 2, rtol=1e-10, atol=0)
    torch.testing.assert_close(diffusion, beta, rtol=1e-10, atol=0)


@pytest.mark.parametrize("process", [p for p in PARAMETERS if isinstance(p, VE)], ids=repr)
def test_ve_has_no_drift_and_a_geometric_scale(process):
    level = process.level(TIMES)
    ratio = process.sigma_max / process.sigma_min
    sigma = process.sigma_min * ratio**TIMES
    drift, diffusion = process.drift_and_diffusion(TIMES)
    torch.testing.assert_close(level.a, torch.ones_like(TIMES), rtol=0, atol=0)
    torch.testing.assert_close(level.v.sqrt(), sigma, rtol=1e-12, atol=0)
    torch.testing.assert_close(drift, torch.zeros_like(TIMES), rtol=0, atol=0)
    torch.testing.assert_close(diffusion, 2 * math.log(ratio) * sigma**2, rtol=1e-10, atol=0)


@pytest.mark.parametrize("process", [p for p in PARAMETERS if isinstance(p, SubVP)], ids=repr)
def test_subvp_has_the_mean_of_vp_and_the_square_of_its_variance(process):
    level, vp = process.level(TIMES), VP(**process.get_params()).level(TIMES)
    torch.testing.assert_close(level.a, vp.a, rtol=1e-14, atol=0)
    torch.testing.assert_close(level.v, vp.v**2, rtol=1e-12, atol=0)
    beta = process.beta_min + TIMES * (process.beta_max - process.beta_min)
    drift, diffusion = process.drift_and_diffusion(TIMES)
    torch.testing.assert_close(drift, -beta / 2, rtol=1e-10, atol=0)
    torch.testing.assert_close(diffusion, beta * (1 - vp.a**4), rtol=1e-9, atol=0)


@pytest.mark.parametrize("process", [p for p in PARAMETERS if isinstance(p, PBM)], ids=repr)
def test_pbm_has_constant_noise_and_forgets_the_data_exactly(process):
    drift, diffusion = process.drift_and_diffusion(INNER_TIMES)
    by_definition = NoiseProcess.drift_and_diffusion(process, INNER_TIMES)
    torch.testing.assert_close(drift, -1 / (1 - INNER_TIMES), rtol=1e-12, atol=0)
    torch.testing.assert_close(diffusion, torch.full_like(drift, process.sigma**2))
    torch.testing.assert_close(by_definition, (drift, diffusion), rtol=1e-10, atol=1e-12)
    assert process.level(TIMES[-1]) == (0, 0)


@every_process
def test_divided_by_its_scale_a_process_is_ornstein_uhlenbeck_in_another_time(process):
    """The correlation of two noised values of one path depends on the log-SNRs alone."""
    early, late = (process.level(INNER_TIMES[k]) for k in (10, 25))
    # Cov(X_s, X_t) given X_0 is v(s) a(t) / a(s); the scales divide out as for VP levels.
    kept = (late.a / early.a) * early.v.sqrt() / late.v.sqrt()
    pairs = [NoiseLevel.from_log_snr(level.log_snr) for level in (early, late)]
    expected = (pairs[1].a / pairs[0].a) * pairs[0].v.sqrt() / pairs[1].v.sqrt()
    torch.testing.assert_close(kept, expected, rtol=1e-10, atol=0)


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("time", [0.02, 0.3, 0.9, 0.999])
def test_the_foellmer_drift_in_four_ways(mixture, sigma, time):
    """From the denoised row, from the score, from the steered Gaussian, and from the expectation
    of the density ratio, which the last one is the log-gradient of, by quadrature."""
    process, problem = PBM(sigma), mixture(1)
    s = torch.tensor(time, dtype=torch.float64)
    level, t = process.level(s), 1 - s
    y = (level.a * problem.draw(7, seed=1) + level.v.sqrt() * 0.7).requires_grad_()
    drift = foellmer_drift(problem.model, process, y, s)
    of_score = y / t + sigma**2 * problem.model.score(y, level)
    # The data's density over N(0, sigma^2), smoothed by what the Brownian motion has left.
    nodes = torch.linspace(-14, 14, 20001, dtype=torch.float64)
    rest = nodes.new_tensor(sigma**2) * s
    clean = NoiseLevel(torch.ones_like(s), torch.zeros_like(s))
    log_ratio = problem.model.log_density(nodes[:, None], clean) + nodes**2 / (2 * sigma**2)
    log_heat = torch.logsumexp(log_ratio - (nodes - y) ** 2 / (2 * rest), 1)
    by_quadrature = sigma**2 * torch.autograd.grad(log_heat.sum(), y)[0]
    weights = torch.softmax(log_ratio - (nodes - y) ** 2 / (2 * rest), 1)
    by_mean = ((weights @ nodes)[:, None] - y) / s
    for other in (of_score, by_quadrature, by_mean):
        torch.testing.assert_close(drift, other, rtol=1e-6, atol=1e-6)


def test_the_foellmer_drift_starts_at_the_mean_of_the_data(mixture):
    problem, one = mixture(2), torch.ones((), dtype=torch.float64)
    start = torch.zeros(1, 2, dtype=torch.float64)
    mean = problem.weights @ problem.means
    drift = foellmer_drift(problem.model, PBM(), start, one)[0]
    torch.testing.assert_close(drift, mean, rtol=0, atol=1e-3)


@pytest.mark.parametrize("sigma", [0.7, 1.5])
def test_the_foellmer_drift_of_a_gaussian_in_closed_form(sigma):
    mean, variance = 0.8, 0.3
    parts = (torch.tensor(part, dtype=torch.float64) for part in ([mean], [[variance]]))
    data = GaussianScore(*parts)
    y = torch.linspace(-2, 2, 5, dtype=torch.float64)[:, None]
    for time in (0.1, 0.5, 0.97):
        t = 1 - time
        expected = (sigma**2 * mean + (variance - sigma**2) * y) / (
            t * variance + (1 - t) * sigma**2
        )
        s = torch.tensor(time, dtype=torch.float64)
        drift = foellmer_drift(data, PBM(sigma), y, s)
        torch.testing.assert_close(drift, expected, rtol=1e-9, atol=1e-9)


@every_process
def test_coefficients_solve_the_moment_equations(process):
    """a' = f a and v' = 2 f v + g^2, by central differences."""
    h, times = 1e-5, INNER_TIMES
    ahead, behind, here = (process.level(times + step) for step in (h, -h, 0.0))
    drift, diffusion = process.drift_and_diffusion(times)
    slopes = [(end - start) / (2 * h) for end, start in zip(ahead, behind, strict=True)]
    torch.testing.assert_close(slopes[0], drift * here.a, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(slopes[1], 2 * drift * here.v + diffusion, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    "process", [VP(), VP(1.0, 6.0), VE(0.1, 3.0), VE(), SubVP(), PBM(), PBM(0.5)], ids=repr
)
def test_simulated_sde_has_the_mean_and_variance_of_the_level(process, generator):
    """Euler-Maruyama of dX = f X ds + g dW from X_0 = 2, with midpoint coefficients."""
    n_paths, n_steps, random = 20000, 400, generator(0)
    # A pinned path is at one point at time 1, whatever it did before.
    last = 0.8 if isinstance(process, PBM) else 1.0
    x = torch.full((n_paths,), 2.0, dtype=torch.float64)
    start = process.level(torch.zeros((), dtype=torch.float64))
    x = start.a * x + start.v.sqrt() * torch.randn(n_paths, generator=random, dtype=x.dtype)
    step = last / n_steps
    middles = (torch.arange(n_steps, dtype=torch.float64) + 0.5) * step
    drifts, diffusions = process.drift_and_diffusion(middles)
    for drift, diffusion in zip(drifts, diffusions, strict=True):
        noise = torch.randn(n_paths, generator=random, dtype=x.dtype)
        x = x + drift * x * step + (diffusion * step).sqrt() * noise
    end = process.level(torch.tensor(last, dtype=torch.float64))
    assert abs(x.mean() - 2 * end.a) < 4 * (end.v / n_paths).sqrt()
    assert abs(x.var() / end.v - 1) < 4 * math.sqrt(2 / n_paths)


@every_process
def test_parameters_clone_and_search(process):
    copy = clone(process)
    assert copy is not process
    assert copy.get_params() == process.get_params()
    name, value = next(iter(process.get_params().items()))
    assert copy.set_params(**{name: value / 2}).get_params()[name] == value / 2
    assert process.get_params()[name] == value


@pytest.mark.parametrize(
    ("process", "name"),
    [
        (VP(beta_min=0.0), "beta_min"),
        (VP(beta_min=-1.0), "beta_min"),
        (VP(beta_max="20"), "beta_max"),
        (VP(beta_max=math.nan), "beta_max"),
        (VP(beta_max=math.inf), "beta_max"),
        (VE(sigma_min=0.0), "sigma_min"),
        (VE(sigma_max=-1.0), "sigma_max"),
        (VE(sigma_min=None), "sigma_min"),
        (SubVP(beta_min=-0.1), "beta_min"),
        (PBM(sigma=0.0), "sigma"),
        (PBM(sigma=-1.0), "sigma"),
    ],
    ids=repr,
)
def test_a_bad_parameter_is_named(process, name):
    with pytest.raises(ValueError, match=f"'{name}' parameter of {type(process).__name__}"):
        resolve_process(process)


@pytest.mark.parametrize(
    "process", [VP(2.0, 1.0), VP(1.0, 1.0), VE(1.0, 0.5), VE(1.0, 1.0), SubVP(2.0, 1.0)], ids=repr
)
def test_a_schedule_that_does_not_grow_names_both_parameters_and_their_values(process):
    with pytest.raises(ValueError) as caught:
        resolve_process(process)
    for name, value in process.get_params().items():
        assert f"{name}={value}" in str(caught.value)


class Returning(NoiseProcess):
    """A process of a user's own whose noise does not only grow."""

    def level(self, time):
        return NoiseLevel(torch.ones_like(time), 0.1 + (3 * time).sin() ** 2)

    def time(self, log_snr):
        return torch.asin((torch.exp(-log_snr) - 0.1).sqrt()) / 3

    log_snr_range = (-1.0, 2.0)


class Inconsistent(VE):
    """A process whose time is not the inverse of its level."""

    def time(self, log_snr):
        return super().time(log_snr) ** 2


@pytest.mark.parametrize(
    ("process", "message"), [(Returning(), "monotone"), (Inconsistent(), "inverse")]
)
def test_a_schedule_of_ones_own_is_checked(process, message):
    with pytest.raises(ValueError, match=message):
        resolve_process(process)


def test_a_pinned_path_has_no_score_where_it_is_pinned():
    with pytest.raises(ValueError, match=r"at one point.*level below"):
        PBM().scored_level(1.0)


@every_process
def test_nothing_is_trained_at_a_level_cleaner_than_the_cleanest(process):
    _, high = process.log_snr_range
    assert abs(process.trained_level(0.0).log_snr - high) < 1e-6
    for level in (process.trained_level(0.5), process.scored_level(0.5)):
        assert level == process.level(torch.tensor(0.5, dtype=torch.float64))


def test_a_name_stands_for_the_default_process():
    assert repr(resolve_process("vp")) == repr(VP())
    assert repr(resolve_process("ve")) == repr(VE())
    assert repr(resolve_process("subvp")) == repr(SubVP())
    assert repr(resolve_process("pbm")) == repr(PBM())


def test_an_unknown_name_lists_the_allowed_ones():
    with pytest.raises(ValueError, match="unknown") as caught:
        resolve_process("vpp")
    assert "'vpp'" in str(caught.value)
    assert all(repr(name) in str(caught.value) for name in PROCESSES)
