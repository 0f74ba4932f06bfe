"""Laws of the score models."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from scipy import stats

from sklearn_dsm import PBM, VE, VP, SubVP
from sklearn_dsm._core.distributions.gaussian import GaussianScore
from sklearn_dsm._core.distributions.kernel import KernelScore
from sklearn_dsm._core.distributions.mixture import GaussianMixtureScore
from sklearn_dsm._core.noise.level import NoiseLevel
from sklearn_dsm._core.scores.corrected import CorrectedScore
from sklearn_dsm._core.scores.network import ScoreNetwork


def tensor(value):
    return torch.tensor(value, dtype=torch.float64)


LEVELS = {
    "vp-early": VP().level(tensor(0.05)),
    "vp-late": VP().level(tensor(0.6)),
    "ve-early": VE(0.05, 20.0).level(tensor(0.2)),
    "ve-late": VE(0.05, 20.0).level(tensor(0.9)),
    "subvp": SubVP().level(tensor(0.3)),
    "pbm": PBM(2.0).level(tensor(0.5)),
    "log-snr-low": NoiseLevel.from_log_snr(tensor(-3.0)),
    "log-snr-high": NoiseLevel.from_log_snr(tensor(6.0)),
}
at_every_level = pytest.mark.parametrize("level", LEVELS.values(), ids=LEVELS)
EXACT = ["gaussian", "mixture", "kernel", "weighted-kernel"]
LEARNED = ["corrected", "corrected-deep", "corrected-shallow", "network-alone"]
every_model = pytest.mark.parametrize("name", EXACT + LEARNED)
every_exact_model = pytest.mark.parametrize("name", EXACT)
LAYERS = {"corrected-deep": (9, 8, 7), "corrected-shallow": (9,)}
N_FEATURES = 3


@pytest.fixture(scope="session")
def build(mixture, generator, randomized):
    """(name, n_features) -> a score model."""

    def model(name, n_features=N_FEATURES):
        problem = mixture(n_features, 3, seed=1)
        centers = problem.draw(6, seed=2)
        if name == "gaussian":
            return problem.gaussian
        if name == "mixture":
            return problem.model
        if name == "kernel":
            return KernelScore(centers, 0.4)
        if name == "weighted-kernel":
            return KernelScore(centers, 0.4, torch.arange(1, 7, dtype=torch.float64) / 21)
        sizes, whole = LAYERS.get(name, (9, 8)), name == "network-alone"
        network = ScoreNetwork(n_features, sizes, generator(3), whole=whole)
        return CorrectedScore(problem.model, randomized(network, seed=4))

    return model


@pytest.fixture(scope="session")
def components():
    """model -> weights, means and covariances of an exact model as a mixture."""

    def parts(model):
        if isinstance(model, KernelScore):
            k, d = model.centers.shape
            covariance = model.bandwidth**2 * torch.eye(d, dtype=torch.float64)
            return model.log_weights.exp(), model.centers, covariance.expand(k, d, d)
        axes = model.axes
        covariances = axes * model.eigenvalues[..., None, :] @ axes.mT
        if isinstance(model, GaussianScore):
            return axes.new_ones(1), model.mean[None], covariances[None]
        means = torch.einsum("kde,ke->kd", axes, model.rotated_means)
        return model.log_weights.exp(), means, covariances

    return parts


def rows(level, n=7, n_features=N_FEATURES, seed=0):
    noise = torch.randn(n, n_features, generator=torch.Generator().manual_seed(seed)).double()
    return 1.5 * level.scale * noise


def as_column(log_snr):
    return NoiseLevel.from_log_snr(tensor(log_snr)[:, None])


@every_exact_model
@at_every_level
def test_score_is_the_gradient_of_the_log_density(build, name, level):
    model, x = build(name), rows(level).requires_grad_()
    gradient = torch.autograd.grad(model.log_density(x, level).sum(), x)[0]
    torch.testing.assert_close(model.score(x, level), gradient, rtol=1e-9, atol=1e-10)


@every_model
@at_every_level
def test_divergence_is_the_trace_of_the_jacobian(build, name, level):
    model, x = build(name), rows(level).requires_grad_()
    score = model.score(x, level)
    trace = sum(
        torch.autograd.grad(score[:, j].sum(), x, retain_graph=True)[0][:, j]
        for j in range(N_FEATURES)
    )
    torch.testing.assert_close(model.divergence(x, level), trace, rtol=1e-9, atol=1e-10)


@every_model
@at_every_level
def test_jacobian_has_the_diagonal_and_the_trace(build, name, level):
    model, x = build(name), rows(level)
    score, diagonal = model.score_and_jacobian_diagonal(x, level)
    close = partial(torch.testing.assert_close, rtol=1e-9, atol=1e-10)
    close(score, model.score(x, level))
    close(model.jacobian(x, level).diagonal(dim1=-2, dim2=-1), diagonal)
    close(model.divergence(x, level), diagonal.sum(-1))


@every_model
@at_every_level
def test_jacobian_is_symmetric_where_the_score_is_a_gradient(build, name, level):
    jacobian = build(name).jacobian(rows(level), level)
    if name in EXACT:
        torch.testing.assert_close(jacobian, jacobian.mT, rtol=1e-9, atol=1e-10)
    else:
        assert not torch.allclose(jacobian, jacobian.mT)


@every_model
def test_a_density_that_is_not_conditional_is_the_same_in_any_context(build, name):
    model, level = build(name), LEVELS["vp-late"]
    x = rows(level)
    context = torch.randn(len(x), 2, dtype=x.dtype, generator=torch.Generator().manual_seed(0))
    assert torch.equal(model.score(x, level, context), model.score(x, level))


@every_model
@at_every_level
def test_score_alone_is_the_score_of_the_pair(build, name, level):
    model, x = build(name), rows(level)
    score, divergence = model.score_and_divergence(x, level)
    torch.testing.assert_close(model.score(x, level), score, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(model.divergence(x, level), divergence, rtol=0, atol=0)


@every_model
@at_every_level
@pytest.mark.parametrize("factor", [0.2, 7.0])
def test_levels_of_one_log_snr_differ_by_a_scale_only(build, name, level, factor):
    """s(x; a, v) = c s(c x; c a, c^2 v), and the divergence with c^2."""
    model, x = build(name), rows(level)
    scaled = NoiseLevel(factor * level.a, factor**2 * level.v)
    score, divergence = model.score_and_divergence(x, level)
    other, other_divergence = model.score_and_divergence(factor * x, scaled)
    torch.testing.assert_close(score, factor * other, rtol=1e-10, atol=1e-11)
    torch.testing.assert_close(divergence, factor**2 * other_divergence, rtol=1e-10, atol=1e-11)


@every_exact_model
@at_every_level
@pytest.mark.parametrize("factor", [0.2, 7.0])
def test_densities_of_one_log_snr_differ_by_a_scale_only(build, name, level, factor):
    model, x = build(name), rows(level)
    scaled = NoiseLevel(factor * level.a, factor**2 * level.v)
    expected = model.log_density(factor * x, scaled) + N_FEATURES * math.log(factor)
    torch.testing.assert_close(model.log_density(x, level), expected, rtol=1e-10, atol=1e-10)


@every_model
@pytest.mark.parametrize("time", [0.05, 0.5, 2.0])
def test_variance_preserving_score_is_the_exploding_one_rescaled(build, name, time):
    """s_OU(x, t) = e^t s_VE(e^t x, sigma) with sigma^2 = e^2t - 1."""
    model, t = build(name), tensor(time)
    ornstein_uhlenbeck = NoiseLevel((-t).exp(), -torch.expm1(-2 * t))
    exploding = NoiseLevel(torch.ones_like(t), torch.expm1(2 * t))
    x = rows(ornstein_uhlenbeck)
    expected = t.exp() * model.score(t.exp() * x, exploding)
    torch.testing.assert_close(model.score(x, ornstein_uhlenbeck), expected, rtol=1e-10, atol=1e-10)


@every_model
def test_score_at_levels_of_their_own_is_that_of_each_row_alone(build, name):
    log_snr = [-4.0, -1.0, 0.5, 3.0, 7.0]
    model, x = build(name), rows(as_column([0.0]), n=5)
    score = model.score(x, as_column(log_snr))
    for i, value in enumerate(log_snr):
        alone = model.score(x[i : i + 1], NoiseLevel.from_log_snr(tensor(value)))
        torch.testing.assert_close(score[i : i + 1], alone, rtol=1e-11, atol=1e-12)


@every_model
@pytest.mark.parametrize("n", [5, 9])
def test_divergence_at_levels_of_their_own_is_that_of_each_row_alone(build, name, n):
    """With as many rows as hidden units a wrong broadcast would go unseen."""
    log_snr = torch.linspace(-4, 7, n).tolist()
    model, x = build(name), rows(as_column([0.0]), n=n)
    divergence = model.divergence(x, as_column(log_snr))
    for i, value in enumerate(log_snr):
        alone = model.divergence(x[i : i + 1], NoiseLevel.from_log_snr(tensor(value)))
        torch.testing.assert_close(divergence[i : i + 1], alone, rtol=1e-11, atol=1e-12)


@every_exact_model
def test_log_density_at_levels_of_their_own_is_that_of_each_row_alone(build, name):
    log_snr = [-4.0, -1.0, 0.5, 3.0, 7.0]
    model, x = build(name), rows(as_column([0.0]), n=5)
    value = model.log_density(x, as_column(log_snr))
    for i, each in enumerate(log_snr):
        alone = model.log_density(x[i : i + 1], NoiseLevel.from_log_snr(tensor(each)))
        torch.testing.assert_close(value[i : i + 1], alone, rtol=1e-11, atol=1e-12)


@every_model
@pytest.mark.parametrize("own_levels", [False, True])
def test_score_takes_leading_dimensions(build, name, own_levels):
    model = build(name)
    level = as_column([-2.0, 0.0, 1.0, 4.0]) if own_levels else LEVELS["vp-early"]
    x = torch.stack([rows(LEVELS["vp-early"], n=4, seed=seed) for seed in range(2)])
    expected = torch.stack([model.score(part, level) for part in x])
    torch.testing.assert_close(model.score(x, level), expected, rtol=1e-12, atol=1e-12)


@every_model
@pytest.mark.parametrize("n", [N_FEATURES, 4])
def test_divergence_takes_leading_dimensions(build, name, n):
    model, level = build(name), LEVELS["vp-early"]
    x = torch.stack([rows(level, n=n, seed=seed) for seed in range(2)])
    expected = torch.stack([model.divergence(part, level) for part in x])
    torch.testing.assert_close(model.divergence(x, level), expected, rtol=1e-12, atol=1e-12)


@every_exact_model
def test_log_density_takes_leading_dimensions(build, name):
    model, level = build(name), as_column([-2.0, 0.0, 1.0, 4.0])
    x = torch.stack([rows(LEVELS["vp-early"], n=4, seed=seed) for seed in range(2)])
    expected = torch.stack([model.log_density(part, level) for part in x])
    torch.testing.assert_close(model.log_density(x, level), expected, rtol=1e-12, atol=1e-12)


@at_every_level
@pytest.mark.parametrize("name", ["gaussian", "kernel", "weighted-kernel"])
def test_every_exact_model_is_a_mixture(build, components, name, level):
    model, x = build(name), rows(level)
    mixture = GaussianMixtureScore(*components(model))
    for expected, value in zip(
        (*mixture.score_and_divergence(x, level), mixture.log_density(x, level)),
        (*model.score_and_divergence(x, level), model.log_density(x, level)),
        strict=True,
    ):
        torch.testing.assert_close(value, expected, rtol=1e-10, atol=1e-10)


def test_kernel_keeps_its_digits_far_from_the_origin(build):
    """A shift of rows and centers leaves score and divergence as they are."""
    model, x, level = build("kernel"), rows(LEVELS["vp-early"]), LEVELS["vp-early"]
    far = KernelScore(model.centers + 1e5, model.bandwidth)
    for expected, value in zip(
        model.score_and_divergence(x, level),
        far.score_and_divergence(x + 1e5 * level.a, level),
        strict=True,
    ):
        torch.testing.assert_close(value, expected, rtol=1e-7, atol=1e-7)


@at_every_level
def test_a_correction_of_zero_is_the_reference(mixture, generator, level):
    reference, x = mixture(N_FEATURES).model, rows(level)
    network = ScoreNetwork(N_FEATURES, (6, 5), generator(0)).double()
    model = CorrectedScore(reference, network)
    for value, expected in zip(
        model.score_and_divergence(x, level), reference.score_and_divergence(x, level), strict=True
    ):
        torch.testing.assert_close(value, expected, rtol=0, atol=0)


@pytest.mark.parametrize("name", LEARNED)
@at_every_level
def test_noise_and_correction_sum_to_the_scaled_score(build, name, level):
    model, x = build(name), rows(level)
    noise, correction = model.noise_and_correction(x, level)
    expected = -level.v.sqrt() * model.score(x, level)
    torch.testing.assert_close(noise + correction, expected, rtol=1e-11, atol=1e-11)
    reference = -level.v.sqrt() * model.reference.score(x, level)
    torch.testing.assert_close(noise, reference, rtol=0, atol=0)


def _mixture_cdf(weights, law):
    return lambda values: law.cdf(values[:, None]) @ weights


@every_exact_model
@at_every_level
def test_sample_follows_the_mixture_along_any_direction(build, components, generator, name, level):
    """Kolmogorov-Smirnov against the exact distribution function of a projection."""
    model = build(name)
    x = model.sample(4000, level, generator(5))
    weights, means, covariances = components(model)
    directions = torch.randn(3, N_FEATURES, generator=generator(6), dtype=torch.float64)
    for u in directions:
        centers = level.a * means @ u
        deviations = (level.a**2 * (covariances @ u @ u) + level.v * u @ u).sqrt()
        law = _mixture_cdf(weights.numpy(), stats.norm(centers.numpy(), deviations.numpy()))
        assert stats.kstest((x @ u).numpy(), law).pvalue > 1e-3


@every_exact_model
@at_every_level
def test_sample_has_the_moments_of_the_level(build, components, generator, name, level):
    """Mean a m and covariance a^2 S + v I within five standard errors."""
    n, model = 20000, build(name)
    x = model.sample(n, level, generator(7))
    weights, means, covariances = components(model)
    mean = weights @ means
    spread = torch.einsum("k,ki,kj->ij", weights, means - mean, means - mean)
    covariance = level.a**2 * (torch.einsum("k,kij->ij", weights, covariances) + spread)
    covariance = covariance + level.v * torch.eye(N_FEATURES)
    centered = x - level.a * mean
    assert (centered.mean(0).abs() < 5 * (covariance.diagonal() / n).sqrt()).all()
    products = torch.einsum("ni,nj->nij", centered, centered)
    assert ((products.mean(0) - covariance).abs() < 5 * products.std(0) / math.sqrt(n)).all()


@every_exact_model
def test_sample_depends_on_the_generator_alone(build, generator, name):
    model, level, state = build(name), LEVELS["vp-late"], torch.get_rng_state()
    first, again = (model.sample(5, level, generator(8)) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, model.sample(5, level, generator(9)))
    assert torch.equal(state, torch.get_rng_state())


@every_exact_model
@at_every_level
def test_tweedie_gives_the_posterior_mean(build, name, level, clean):
    """a E[X_0 | x] = x + v s(x), by quadrature over the clean value in one column."""
    model = build(name, n_features=1)
    x = rows(level, n=9, n_features=1)
    grid = torch.linspace(-12, 12, 40001, dtype=torch.float64)
    log_joint = model.log_density(grid[:, None], clean) - (x - level.a * grid) ** 2 / (2 * level.v)
    posterior = log_joint.softmax(1)
    expected = (posterior @ grid)[:, None]
    tweedie = (x + level.v * model.score(x, level)) / level.a
    torch.testing.assert_close(tweedie, expected, rtol=1e-8, atol=1e-8)


@every_exact_model
@at_every_level
@pytest.mark.parametrize("n_features", [1, 2])
def test_integration_by_parts(build, components, name, level, n_features):
    """The density has mass 1, E s = 0 and E div s = -E |s|^2, by the trapezoidal rule."""
    model = build(name, n_features)
    _, means, covariances = components(model)
    deviations = (level.a**2 * covariances.diagonal(dim1=1, dim2=2) + level.v).sqrt()
    reach = (level.a * means.abs() + 9 * deviations).max()
    axis = torch.linspace(-1, 1, 401, dtype=torch.float64) * reach
    x = torch.cartesian_prod(*[axis] * n_features).reshape(-1, n_features)
    mass = model.log_density(x, level).exp() * (axis[1] - axis[0]) ** n_features
    score, divergence = model.score_and_divergence(x, level)
    size = float(mass @ score.square().sum(1))
    assert abs(mass.sum() - 1) < 1e-7
    assert (mass @ score).abs().max() < 1e-7 * (1 + size)
    assert abs(mass @ divergence + size) < 1e-6 * (1 + size)
