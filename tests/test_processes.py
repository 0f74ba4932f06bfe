"""Laws of the noise processes."""

from __future__ import annotations

import math

import pytest
import torch
from sklearn.base import clone

from sklearn_dsm import VE, VP
from sklearn_dsm.processes import PROCESSES, resolve_process

PARAMETERS = [
    VP(),
    VP(beta_min=1e-3, beta_max=8.0),
    VP(beta_min=5.0, beta_max=40.0),
    VE(),
    VE(sigma_min=0.1, sigma_max=3.0),
    VE(sigma_min=1e-3, sigma_max=200.0),
]
every_process = pytest.mark.parametrize("process", PARAMETERS, ids=repr)
TIMES = torch.linspace(0, 1, 41, dtype=torch.float64)[1:]


@every_process
def test_log_snr_is_that_of_the_coefficients(process):
    level = process.level(TIMES)
    torch.testing.assert_close(level.log_snr, (level.a**2 / level.v).log(), rtol=1e-12, atol=1e-12)


@every_process
def test_noise_grows_with_time(process):
    assert (process.level(TIMES).log_snr.diff() < 0).all()


@every_process
def test_time_inverts_the_log_snr(process):
    level = process.level(TIMES)
    torch.testing.assert_close(process.time(level.log_snr), TIMES, rtol=1e-10, atol=1e-12)


@every_process
def test_log_snr_range_ends_at_times_zero_and_one(process):
    low, high = process.log_snr_range
    ends = process.time(torch.tensor([low, high], dtype=torch.float64))
    torch.testing.assert_close(ends[0], ends.new_tensor(1.0), rtol=0, atol=1e-10)
    assert -1e-10 <= ends[1] <= 1e-4
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


@every_process
def test_coefficients_solve_the_moment_equations(process):
    """a' = f a and v' = 2 f v + g^2, by central differences."""
    h, times = 1e-5, TIMES[:-1]
    ahead, behind, here = (process.level(times + step) for step in (h, -h, 0.0))
    drift, diffusion = process.drift_and_diffusion(times)
    slopes = [(end - start) / (2 * h) for end, start in zip(ahead, behind, strict=True)]
    torch.testing.assert_close(slopes[0], drift * here.a, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(slopes[1], 2 * drift * here.v + diffusion, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("process", [VP(), VP(1.0, 6.0), VE(0.1, 3.0), VE()], ids=repr)
def test_simulated_sde_has_the_mean_and_variance_of_the_level(process, generator):
    """Euler-Maruyama of dX = f X ds + g dW from X_0 = 2, with midpoint coefficients."""
    n_paths, n_steps, random = 20000, 400, generator(0)
    x = torch.full((n_paths,), 2.0, dtype=torch.float64)
    start = process.level(torch.zeros((), dtype=torch.float64))
    x = start.a * x + start.v.sqrt() * torch.randn(n_paths, generator=random, dtype=x.dtype)
    middles = (torch.arange(n_steps, dtype=torch.float64) + 0.5) / n_steps
    drifts, diffusions = process.drift_and_diffusion(middles)
    for drift, diffusion in zip(drifts, diffusions, strict=True):
        noise = torch.randn(n_paths, generator=random, dtype=x.dtype)
        x = x + drift * x / n_steps + (diffusion / n_steps).sqrt() * noise
    end = process.level(torch.ones((), dtype=torch.float64))
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
    ],
    ids=repr,
)
def test_a_bad_parameter_is_named(process, name):
    with pytest.raises(ValueError, match=f"'{name}' parameter of {type(process).__name__}"):
        resolve_process(process)


@pytest.mark.parametrize(
    "process", [VP(2.0, 1.0), VP(1.0, 1.0), VE(1.0, 0.5), VE(1.0, 1.0)], ids=repr
)
def test_a_schedule_that_does_not_grow_names_both_parameters_and_their_values(process):
    with pytest.raises(ValueError) as caught:
        resolve_process(process)
    for name, value in process.get_params().items():
        assert f"{name}={value}" in str(caught.value)


def test_a_name_stands_for_the_default_process():
    assert repr(resolve_process("vp")) == repr(VP())
    assert repr(resolve_process("ve")) == repr(VE())


def test_an_unknown_name_lists_the_allowed_ones():
    with pytest.raises(ValueError, match="unknown") as caught:
        resolve_process("vpp")
    assert "'vpp'" in str(caught.value)
    assert all(repr(name) in str(caught.value) for name in PROCESSES)
