"""Laws that all losses share, and what each does in a way of its own."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_dsm import BSM, DSM, FDSSM, ISM, LCSS, PBM, SSM, VE, VP, DSMDensityEstimator, SubVP
from sklearn_dsm._core.distributions.gaussian import GaussianScore
from sklearn_dsm._core.losses import finite_difference
from sklearn_dsm._core.losses.loss import NoisedRows, TrainingRows
from sklearn_dsm._core.losses.registry import LOSSES, resolve_loss
from sklearn_dsm._core.losses.weighting import MEASURES
from sklearn_dsm._core.noise.level import NoiseLevel
from sklearn_dsm._core.noise.level_sampling import LogisticLevels, SingleLevel
from sklearn_dsm._core.scores.corrected import CorrectedScore
from sklearn_dsm._core.scores.network import ScoreNetwork

LEVELS = LogisticLevels(-6.0, 8.0)
SOFT_STEP = 1e-3
# Losses whose expectations agree, with finite steps so short that these do not matter.
EQUAL = [
    DSM(),
    ISM(),
    SSM(),
    SSM(direction="gaussian"),
    SSM(variance_reduced=True),
    FDSSM(step=SOFT_STEP),
    LCSS(sigma=SOFT_STEP),
    LCSS(sigma=SOFT_STEP, two_sided=False),
]


def tensor(value):
    return torch.tensor(value, dtype=torch.float64)


class Linear(nn.Module):
    """The noise that a linear score -A x sees."""

    whole = True

    def __init__(self, matrix):
        super().__init__()
        self.matrix = matrix

    def forward(self, y, log_snr, context=None):
        return torch.sigmoid(-log_snr).sqrt() * (y @ self.matrix)

    def forward_and_divergence(self, y, log_snr, context=None):
        trace = torch.sigmoid(-log_snr).sqrt().squeeze(-1) * self.matrix.trace()
        return self(y, log_snr), trace.expand(y.shape[:-1])


def white(d):
    return GaussianScore(torch.zeros(d, dtype=torch.float64), torch.eye(d, dtype=torch.float64))


def terms_of(loss, model, clean, log_snr, seed=0, noise=None):
    """The loss of every row (n,), at one level, without weights."""
    random = torch.Generator().manual_seed(seed)
    if noise is None:
        noise = torch.randn(clean.shape, generator=random, dtype=clean.dtype)
    batch = NoisedRows(clean[None], noise[None], tensor([[log_snr]]))
    product, square = loss.batch_terms(model, batch, random)
    return (square / 2 - product)[0]


@pytest.fixture
def correction(mixture, generator, randomized):
    """A randomised network with a reference, and many rows of a mixture."""
    problem = mixture(3)
    network = randomized(ScoreNetwork(3, (8, 7), generator(1)), seed=2).double()
    return CorrectedScore(problem.gaussian, network).eval(), problem.draw(60000, seed=3)


@pytest.mark.parametrize("loss", EQUAL[1:], ids=repr)
@pytest.mark.parametrize("log_snr", [-1.0, 2.0])
def test_every_loss_is_that_of_denoising_in_expectation(correction, loss, log_snr):
    model, rows = correction
    with torch.no_grad():
        gap = terms_of(loss, model, rows, log_snr, seed=1) - terms_of(
            DSM(), model, rows, log_snr, seed=1
        )
    assert abs(gap.mean()) < 4 * gap.std() / math.sqrt(len(gap))


@pytest.mark.parametrize("loss", EQUAL[1:], ids=repr)
def test_every_loss_has_the_gradient_of_denoising(correction, loss):
    """Projected on random directions of the weights."""
    model, rows = correction
    random = torch.Generator().manual_seed(0)
    weights = list(model.parameters())
    directions = [torch.randn(w.shape, generator=random, dtype=w.dtype) for w in weights]
    n_parts = 40
    slopes = {}
    for name, each in (("denoising", DSM()), ("loss", loss)):
        values = terms_of(each, model, rows, 1.0, seed=1).reshape(n_parts, -1).mean(1)
        slopes[name] = torch.stack(
            [
                sum(
                    (g * v).sum()
                    for g, v in zip(
                        torch.autograd.grad(value, weights, retain_graph=True),
                        directions,
                        strict=True,
                    )
                )
                for value in values
            ]
        )
    gap = slopes["loss"] - slopes["denoising"]
    assert abs(gap.mean()) < 4 * gap.std() / math.sqrt(n_parts)


@pytest.mark.parametrize(
    "loss",
    [*EQUAL[1:], FDSSM(step=0.7), LCSS(sigma=0.5), LCSS(sigma=0.5, two_sided=False)],
    ids=repr,
)
def test_on_linear_scores_steps_of_any_length_are_exact(loss, generator):
    """All losses have one expectation, whatever the step."""
    random, d = generator(4), 3
    matrix = torch.randn(d, d, generator=random, dtype=torch.float64)
    model = CorrectedScore(white(d), Linear(matrix @ matrix.T))
    rows = torch.randn(60000, d, generator=random, dtype=torch.float64)
    with torch.no_grad():
        gap = terms_of(loss, model, rows, 0.5, seed=1) - terms_of(ISM(), model, rows, 0.5, seed=1)
    assert abs(gap.mean()) < 4 * gap.std() / math.sqrt(len(gap)) + 1e-12


def test_a_direction_of_no_length_is_no_fault(monkeypatch):
    """As a normal number of single precision is now and then."""
    monkeypatch.setattr(
        finite_difference, "standard_normal", lambda shape, like, generator: like.new_zeros(shape)
    )
    rows = torch.ones(5, 1, dtype=torch.float64)
    loss = terms_of(FDSSM(), CorrectedScore(white(1), Linear(tensor([[0.5]]))), rows, 0.5)
    assert torch.isfinite(loss).all()


def test_signs_have_no_error_where_the_jacobian_is_diagonal(generator):
    model = CorrectedScore(white(3), Linear(torch.diag(tensor([0.3, 1.0, 2.5]))))
    rows = torch.randn(50, 3, generator=generator(0), dtype=torch.float64)
    exact = terms_of(ISM(), model, rows, 1.0)
    signs = terms_of(SSM(variance_reduced=True), model, rows, 1.0)
    normal = terms_of(SSM(variance_reduced=True, direction="gaussian"), model, rows, 1.0)
    torch.testing.assert_close(signs, exact)
    assert (normal - exact).abs().max() > 0.1


# Curvature smoothing.


def quadratic_minimiser(loss, rows, log_snr):
    """The matrix of the linear score with the least loss, which is quadratic in it."""
    d = rows.shape[1]

    def value(flat):
        model = CorrectedScore(white(d), Linear(flat.reshape(d, d)))
        return terms_of(loss, model, rows, log_snr).mean()

    start = torch.zeros(d * d, dtype=torch.float64)
    gradient = torch.autograd.functional.jacobian(value, start)
    hessian = torch.autograd.functional.hessian(value, start)
    return -torch.linalg.solve(hessian, gradient).reshape(d, d)


@pytest.mark.parametrize("sigma", [0.1, 0.5])
def test_smoothing_is_unbiased_among_linear_scores_and_denoising_it_is_not(sigma, generator):
    """For rows noised to a level: their precision, or that of rows noised further."""
    covariance = tensor([[1.0, 0.6], [0.6, 0.8]])
    log_snr, n = 3.0, 400000
    level = NoiseLevel.from_log_snr(tensor(log_snr))
    draws = torch.randn(n, 2, generator=generator(5), dtype=torch.float64)
    rows = draws @ torch.linalg.cholesky(covariance).T
    noised = level.a**2 * covariance + level.v * torch.eye(2)
    found = quadratic_minimiser(LCSS(sigma=sigma), rows, log_snr)
    torch.testing.assert_close(found, torch.linalg.inv(noised), rtol=0.02, atol=0.02)
    further = noised + sigma**2 * level.v * torch.eye(2)
    found = quadratic_minimiser(LCSS(sigma=sigma, norm_at="noisy"), rows, log_snr)
    torch.testing.assert_close(found, torch.linalg.inv(further), rtol=0.02, atol=0.02)


def test_with_the_norm_at_the_moved_rows_smoothing_is_denoising(correction):
    """Pathwise: v |s(x') + z / delta|^2 / 2 less the reference's."""
    model, rows = correction
    rows, sigma, log_snr = rows[:40], 0.3, 1.0
    level = NoiseLevel.from_log_snr(tensor(log_snr))
    loss = LCSS(sigma=sigma, norm_at="noisy", two_sided=False)
    random = torch.Generator().manual_seed(7)
    noise, z = (torch.randn(rows.shape, generator=random, dtype=rows.dtype) for _ in range(2))
    noised = level.a * rows + level.v.sqrt() * noise
    delta = sigma * level.v.sqrt()
    moved = noised + delta * z
    errors = [
        level.v * (m.score(moved, level) + z / delta).square().sum(1) / 2
        for m in (model, model.reference)
    ]
    weights = list(model.parameters())
    value = terms_of(loss, model, rows, log_snr, seed=7)
    torch.testing.assert_close(value, errors[0] - errors[1], rtol=1e-9, atol=1e-9)
    gradients = [torch.autograd.grad(v.mean(), weights) for v in (value, errors[0])]
    for mine, denoising in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, denoising, rtol=1e-8, atol=1e-10)


def test_smoothing_tends_to_the_exact_trace_as_the_square_of_sigma(correction):
    """With the same draws at every sigma."""
    model, rows = correction
    with torch.no_grad():
        values = [
            terms_of(LCSS(sigma=sigma), model, rows[:20000], 0.0).mean()
            for sigma in (0.4, 0.2, 0.1, 0.05)
        ]
    gaps = [abs(float(a - b)) for a, b in pairwise(values)]
    assert gaps[0] / gaps[1] == pytest.approx(4, rel=0.25)
    assert gaps[1] / gaps[2] == pytest.approx(4, rel=0.1)


def test_moving_rows_both_ways_takes_the_variance_out(correction):
    """The variance of one way is that of s . z / sigma."""
    model, rows = correction
    with torch.no_grad():
        variances = [
            terms_of(LCSS(sigma=0.03, two_sided=two_sided), model, rows, 1.0).var()
            for two_sided in (True, False)
        ]
    assert variances[0] < 0.1 * variances[1]


# Bootstrapping.


def test_bootstrapping_starts_as_denoising(correction):
    model, rows = correction
    loss = BSM(n_plain_steps=1).started(model)
    weight = torch.ones(64, dtype=torch.float64)
    plain = DSM()(model, TrainingRows(rows[:64], weight), LEVELS, torch.Generator().manual_seed(3))
    values = [
        loss(model, TrainingRows(rows[:64], weight), LEVELS, torch.Generator().manual_seed(3))
        for _ in range(2)
    ]
    assert values[0] == plain
    assert values[1] != plain


def test_bootstrapping_from_the_exact_score_has_the_gradient_of_denoising(mixture, generator):
    """And less variance."""
    problem = mixture(2)

    class Exact(nn.Module):
        whole = True

        def __init__(self):
            super().__init__()
            self.factor = nn.Parameter(tensor(1.0))

        def forward(self, y, log_snr, context=None):
            level = NoiseLevel.from_log_snr(log_snr)
            return -self.factor * level.v.sqrt() * problem.model.score(y, level)

    model = CorrectedScore(problem.gaussian, Exact())
    rows = problem.draw(20000, seed=4)
    slopes = {}
    for name, loss in (("bsm", BSM(n_plain_steps=0).started(model)), ("dsm", DSM())):
        product, square = (
            term[0]
            for term in loss.batch_terms(
                model,
                NoisedRows(
                    rows[None].repeat(1, 2, 1),
                    loss._noise_like(rows[None], generator(1)),
                    tensor([[-0.5]]),
                ),
                generator(2),
            )
        )
        values = (square / 2 - product).reshape(200, -1).mean(1)
        slopes[name] = torch.stack(
            [
                torch.autograd.grad(value, model.network.factor, retain_graph=True)[0]
                for value in values
            ]
        )
    gap = slopes["bsm"] - slopes["dsm"]
    assert abs(gap.mean()) < 4 * gap.std() / math.sqrt(200)
    assert slopes["bsm"].var() < 0.8 * slopes["dsm"].var()


def test_the_frozen_network_follows_the_one_that_is_trained(correction):
    model, rows = correction
    run = BSM(n_plain_steps=0).started(model)
    weight = torch.ones(16, dtype=torch.float64)
    run(model, TrainingRows(rows[:16], weight), LEVELS, torch.Generator().manual_seed(0))
    with torch.no_grad():
        for w in model.network.parameters():
            w += 1.0
    run(model, TrainingRows(rows[:16], weight), LEVELS, torch.Generator().manual_seed(0))
    moved = [
        float((w - a).detach().abs().max())
        for w, a in zip(model.network.parameters(), run.average.module.parameters(), strict=True)
    ]
    assert all(0 < step < 1 for step in moved)
    assert BSM().started(model).n_steps == 0


# Weightings and single levels.


@pytest.mark.parametrize("process", [VP(), VE(), SubVP(), PBM(2.0)], ids=repr)
@pytest.mark.parametrize("weighting", MEASURES)
def test_a_weighting_is_a_measure_whatever_law_the_levels_are_drawn_from(process, weighting):
    """Mean of f times importance is the integral of f over the measure."""
    low, high = process.log_snr_range
    loss = DSM(weighting=weighting)
    grid = torch.linspace(low, high, 200001, dtype=torch.float64)
    inside = grid[1:-1]
    integral = (MEASURES[weighting](process, inside) * torch.sigmoid(inside)).sum()
    integral = integral * (grid[1] - grid[0])
    for law in (LogisticLevels(low, high), LogisticLevels(low, high, 0.0, 8.0)):
        levels = loss.levels(process, law)
        drawn = levels.stratified(200000, torch.Generator().manual_seed(0), integral)
        mean = (levels.importance(drawn) * torch.sigmoid(drawn)).mean()
        torch.testing.assert_close(mean, integral, rtol=2e-3, atol=0)


@pytest.mark.parametrize("process", [VP(), VE(), SubVP(), PBM(2.0)], ids=repr)
def test_simple_weights_are_a_mean_over_process_time(process):
    low, high = process.log_snr_range
    law = LogisticLevels(low, high, 0.0, 6.0)
    levels = DSM(weighting="simple").levels(process, law)
    drawn = levels.stratified(400000, torch.Generator().manual_seed(0), tensor(0.0))
    mean = (levels.importance(drawn) * torch.sigmoid(drawn / 2)).mean() / (high - low)
    times = (torch.arange(100000, dtype=torch.float64) + 0.5) / 100000
    expected = torch.sigmoid(process.level(times).log_snr / 2).mean()
    torch.testing.assert_close(mean, expected, rtol=5e-3, atol=0)


@pytest.mark.parametrize("loss", [DSM(noise_level=0.3), ISM(noise_level=0.0)], ids=repr)
def test_a_single_level_is_weighed_as_the_error_of_the_score(correction, loss):
    _, rows = correction
    levels = loss.levels(VP(), LEVELS)
    assert isinstance(levels, SingleLevel)
    log_snr = levels.stratified(3, torch.Generator(), rows[0])
    assert log_snr.unique().numel() == 1
    torch.testing.assert_close(
        levels.importance(log_snr), 1 / NoiseLevel.from_log_snr(log_snr).v, rtol=1e-9, atol=0
    )
    product = levels.importance(log_snr) * levels.density(log_snr)
    torch.testing.assert_close(product, torch.ones_like(product))


# The estimator.


@pytest.mark.slow
@pytest.mark.parametrize("loss", sorted(LOSSES))
@pytest.mark.parametrize("process", ["vp", "pbm"])
def test_the_estimator_learns_with_every_loss(bimodal, loss, process):
    """Better than its Gaussian reference by most of what there is to gain."""
    problem = bimodal(2.0)
    X, fresh = (problem.draw(n, seed).numpy() for n, seed in ((1500, 0), (2000, 1)))
    fit = DSMDensityEstimator(
        process,
        loss=loss,
        marginals="standardize",
        reference="gaussian",
        hidden_layer_sizes=(48, 48),
        max_epochs=12,
        random_state=0,
    ).fit(X)
    truth = problem.model.log_density(torch.from_numpy(fresh), NoiseLevel(tensor(1.0), tensor(0.0)))
    gaussian = -0.5 * (np.log(2 * np.pi * X.var()) + (fresh - X.mean()) ** 2 / X.var())
    best, least = float(truth.mean()), float(gaussian.mean())
    assert fit.score(fresh) > least + 0.8 * (best - least)


@pytest.mark.parametrize("loss", sorted(LOSSES))
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_no_unit_is_left_out_where_outputs_are_compared(bimodal, loss):
    """A difference between two calls would be that of the units left out."""
    X = bimodal(2.0).draw(60, seed=0).numpy()
    fit = DSMDensityEstimator(loss=loss, max_epochs=1, random_state=0).fit(X)
    assert (fit.network_["dropout"] > 0) is (loss not in ("fd_ssm", "lcss"))


@pytest.mark.slow
@pytest.mark.parametrize("weighting", ["simple", "edm"])
def test_the_estimator_learns_with_every_weighting(bimodal, weighting):
    problem = bimodal(2.0)
    X = problem.draw(1500, seed=0).numpy()
    fits = [
        DSMDensityEstimator(
            loss=loss, reference="gaussian", marginals="standardize", max_epochs=6, random_state=0
        ).fit(X)
        for loss in (DSM(), DSM(weighting=weighting))
    ]
    scores = [fit.score(X) for fit in fits]
    assert scores[0] != scores[1]
    assert abs(scores[0] - scores[1]) < 0.05


@pytest.mark.parametrize(
    "loss", [DSM(noise_level=0.15), ISM(noise_level=0.15), LCSS(noise_level=0.15)], ids=repr
)
def test_a_single_level_learns_the_score_of_that_level(bimodal, loss):
    problem = bimodal(2.0)
    X = problem.draw(3000, seed=0).numpy()
    fit = DSMDensityEstimator(
        loss=loss, marginals=None, hidden_layer_sizes=(48, 48), max_epochs=15, random_state=0
    ).fit(X)
    level = fit.process_.level(tensor(0.15))
    # White rows are noised; a row of X stands for its image there.
    scale = X.std()
    x = np.linspace(-2, 2, 41)[:, None] * scale
    white_problem = problem.whitened()
    z = torch.from_numpy((x - X.mean()) / scale)
    exact = white_problem.model.score(z, level).numpy() / scale
    gaussian = -z.numpy() / scale
    error, least = (
        np.square(fit.stein_score(x, 0.15) - exact).mean(),
        np.square(gaussian - exact).mean(),
    )
    assert error < 0.15 * least


def test_a_single_level_refuses_what_needs_the_others(bimodal):
    X = bimodal(2.0).draw(200, seed=0).numpy()
    fit = DSMDensityEstimator(loss=ISM(noise_level=0.0), max_epochs=2, random_state=0).fit(X)
    assert np.isfinite(fit.stein_score(X)).all()
    for call in (fit.score_samples, fit.score):
        with pytest.raises(ValueError, match="log-densities need all levels: fit with noise_level"):
            call(X)
    with pytest.raises(ValueError, match="samples need all levels: fit with noise_level=None"):
        fit.sample(3)
    with pytest.raises(ValueError, match=r"at noise_level=0 only.*at noise_level=0.5 is another"):
        fit.stein_score(X, 0.5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "csm"}, "gradient of a known log-density.*choose one of"),
        ({"loss": "nsm"}, "gradient of a known log-density.*choose one of"),
        ({"loss": "hinge"}, "unknown; choose one of"),
        ({"loss": DSM(noise_level=0.0)}, "denoising needs noise. Choose a noise_level above 0"),
        ({"loss": DSM(noise_level=1.5)}, "'noise_level' parameter of DSM"),
        ({"loss": LCSS(sigma=0.0)}, "'sigma' parameter of LCSS"),
        ({"loss": LCSS(norm_at="both")}, "'norm_at' parameter of LCSS"),
        ({"loss": FDSSM(step=-1.0)}, "'step' parameter of FDSSM"),
        ({"loss": SSM(direction="sphere")}, "'direction' parameter of SSM"),
        ({"loss": BSM(ratio=1.0)}, "'ratio' parameter of BSM"),
        ({"loss": DSM(weighting="uniform")}, "'weighting' parameter of DSM"),
        ({"loss": "ism", "compile": True}, "takes its derivatives: use compile=False"),
        ({"loss": DSM(noise_level=0.2), "likelihood": "fast"}, "one level.*noise_level=None"),
        ({"loss": DSM(noise_level=0.2), "reference": "gmm"}, "one level.*noise_level=None"),
        ({"loss": DSM(noise_level=1.0), "process": "pbm"}, "at one point.*level below"),
        ({"process": PBM(sigma=0.0)}, "'sigma' parameter of PBM"),
        ({"process": SubVP(3.0, 1.0)}, "beta_min must be below beta_max"),
    ],
    ids=str,
)
def test_what_has_no_meaning_is_refused_with_the_reason(options, message):
    X = np.random.RandomState(0).randn(60, 2)
    with pytest.raises(ValueError, match=message):
        DSMDensityEstimator(max_epochs=1, **options).fit(X)


def test_losses_and_their_parameters_are_searched():
    fit = DSMDensityEstimator(loss=LCSS())
    assert fit.set_params(loss__sigma=0.2, process=PBM()).loss.sigma == 0.2
    assert fit.set_params(process__sigma=3.0).process.sigma == 3.0
    assert resolve_loss("ssm_vr").variance_reduced
