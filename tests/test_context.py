"""Laws of conditional densities: a context goes wherever rows go."""

import numpy as np
import pytest
import torch

from sklearn_dsm import DSM
from sklearn_dsm._core.distributions.gaussian import GaussianScore
from sklearn_dsm._core.likelihood.bound import HeldOutBound
from sklearn_dsm._core.likelihood.identity import identity_log_density, sobol_nodes
from sklearn_dsm._core.likelihood.ode import calibrated_plan, ode_log_density
from sklearn_dsm._core.likelihood.solvers import sample
from sklearn_dsm._core.losses.loss import TrainingRows
from sklearn_dsm._core.noise.level import NoiseLevel
from sklearn_dsm._core.noise.level_sampling import LogisticLevels
from sklearn_dsm._core.scores.corrected import CorrectedScore
from sklearn_dsm._core.scores.model import ExactScore
from sklearn_dsm._core.scores.network import ScoreNetwork
from sklearn_dsm._evaluation.latent_density import LatentDensity
from sklearn_dsm._training import TrainingSettings, train

LEVELS = LogisticLevels(-10.0, 10.0)
SLOPES = torch.tensor([[1.0, -0.5], [0.3, 0.8], [0.0, 0.4]], dtype=torch.float64)
N_FEATURES, N_CONTEXT = SLOPES.shape


def clean():
    return NoiseLevel(torch.ones((), dtype=torch.float64), torch.zeros((), dtype=torch.float64))


class LinearGaussian(ExactScore):
    """x given c is N(B c, I / 4): the Gaussian of zero mean at rows less what c explains."""

    def __init__(self):
        super().__init__()
        eye = torch.eye(N_FEATURES, dtype=torch.float64)
        self.centered = GaussianScore(torch.zeros(N_FEATURES, dtype=torch.float64), eye / 4)

    def rest(self, x, level, context):
        return x - level.a * (context @ SLOPES.T)

    def score_and_jacobian_diagonal(self, x, level, context=None):
        return self.centered.score_and_jacobian_diagonal(self.rest(x, level, context), level)

    def log_density(self, x, level, context=None):
        return self.centered.log_density(self.rest(x, level, context), level)

    def sample(self, n, level, generator, context=None):
        draws = self.centered.sample(n, level, generator)
        return draws + level.a * (context @ SLOPES.T)


@pytest.fixture
def reference():
    return LinearGaussian()


@pytest.fixture
def table(generator):
    """n -> rows and contexts of the linear Gaussian."""

    def draw(n, seed=0):
        random = generator(seed)
        context = torch.randn(n, N_CONTEXT, generator=random, dtype=torch.float64)
        return LinearGaussian().sample(n, clean(), random, context), context

    return draw


@pytest.fixture
def corrected(reference, generator, randomized):
    """hidden layers -> the linear Gaussian with a conditional correction."""

    def build(sizes=(9, 8, 7)):
        network = ScoreNetwork(N_FEATURES, sizes, generator(1), n_context=N_CONTEXT)
        return CorrectedScore(reference, randomized(network, seed=2))

    return build


def test_a_network_without_a_context_has_the_same_weights_as_before(generator):
    without, given = (ScoreNetwork(3, (8, 7), generator(0), n_context=n) for n in (0, 2))
    assert "context_weight" not in without.state_dict()
    for name, value in without.state_dict().items():
        assert torch.equal(value, given.state_dict()[name])


def test_a_conditional_network_needs_its_context(corrected, table):
    x, _ = table(4)
    model = corrected()
    with pytest.raises(ValueError, match=r"context of shape \(..., n, 2\)"):
        model.network(x, torch.zeros((), dtype=torch.float64))


@pytest.mark.parametrize("sizes", [(9,), (9, 8), (9, 8, 7)])
def test_the_score_depends_on_each_row_s_own_context(corrected, table, sizes):
    (x, context), level = table(6), NoiseLevel.from_log_snr(torch.zeros((), dtype=torch.float64))
    model = corrected(sizes)
    together = model.score_and_jacobian_diagonal(x, level, context)
    alone = [
        model.score_and_jacobian_diagonal(x[i : i + 1], level, context[i : i + 1])
        for i in range(len(x))
    ]
    for whole, parts in zip(together, zip(*alone, strict=True), strict=True):
        torch.testing.assert_close(whole, torch.cat(parts), rtol=1e-12, atol=1e-12)
    swapped = model.score(x, level, context.flip(0))
    assert (swapped - together[0]).abs().min() > 1e-6
    jacobian = model.jacobian(x, level, context)
    torch.testing.assert_close(
        jacobian.diagonal(dim1=-2, dim2=-1), together[1], rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize("likelihood", ["ode", "identity"])
def test_a_log_density_is_conditional_on_its_row_s_context(reference, corrected, table, likelihood):
    x, context = table(40)

    def log_density(model, x, context, chunk=None):
        if likelihood == "ode":
            return ode_log_density(
                model, reference, x, LEVELS, chunk_rows=chunk, context=context
            ).value
        nodes = sobol_nodes(8, 8, N_FEATURES, LEVELS.low, LEVELS.high)
        return identity_log_density(model, reference, x, nodes, context)

    exact = reference.log_density(x, clean(), context)
    torch.testing.assert_close(log_density(reference, x, context), exact, rtol=0, atol=2e-4)
    model = corrected()
    values, order = log_density(model, x, context, 7), torch.randperm(40)
    again = log_density(model, x[order], context[order])
    torch.testing.assert_close(again, values[order], rtol=1e-9, atol=1e-9)
    assert (log_density(model, x, context.flip(0)) - values).abs().mean() > 0.1


def test_samples_follow_their_context(reference, generator):
    context = torch.tensor([[1.0, -2.0]], dtype=torch.float64).expand(4000, -1)
    level = NoiseLevel.from_log_snr(torch.tensor(LEVELS.low, dtype=torch.float64))
    start = reference.sample(4000, level, generator(0), context)
    draws = sample(reference, start, LEVELS, 24, context=context)
    mean = (context @ SLOPES.T)[0]
    assert ((draws.mean(0) - mean).abs() < 4 * 0.5 / 4000**0.5).all()
    torch.testing.assert_close(draws.std(0), torch.full_like(mean, 0.5), rtol=0.05, atol=0)


def test_a_density_evaluates_in_chunks_with_their_context(reference, corrected, table):
    x, context = (part.numpy() for part in table(96))
    model = corrected().eval()
    density = LatentDensity(
        model=model,
        reference=reference,
        levels=LEVELS,
        n_features=N_FEATURES,
        numbers_per_row=2**12,
        likelihood="ode",
        tolerance=1e-3,
        device=torch.device("cpu"),
    )
    density, _ = density.calibrated(x, 10.0, context)
    values, _ = density.log_density(x, context)
    some, _ = density.log_density(x[60:70], context[60:70])
    assert abs(values[60:70] - some).max() < 1e-6
    gradient = density.gradient(x[:3], context[:3])
    step = 1e-4
    for j in range(N_FEATURES):
        moved = [x[:3] + sign * step * np.eye(N_FEATURES)[j] for sign in (1, -1)]
        ends = [density.log_density(each, context[:3])[0] for each in moved]
        assert abs((ends[0] - ends[1]) / (2 * step) - gradient[:, j]).max() < 1e-2
    assert density.sample(96, "ode", 0, context).shape == (96, N_FEATURES)
    level = NoiseLevel.from_log_snr(torch.zeros((), dtype=torch.float64))
    scores = model.score(torch.from_numpy(x), level, torch.from_numpy(context)).detach().numpy()
    assert abs(density.score(x, level, context) - scores).max() < 1e-12
    reference_values = density.reference_log_density(x, context)
    exact = reference.log_density(torch.from_numpy(x), clean(), torch.from_numpy(context))
    assert abs(reference_values - exact.numpy()).max() < 1e-12


def test_a_correction_learns_what_its_context_says(table, generator):
    """From a reference that does not know the context, most of the gain that is there."""
    (x, context), (held_out, held_out_context) = table(2000, 1), table(1000, 2)
    covariance = x.T @ x / len(x)
    marginal = GaussianScore(torch.zeros(N_FEATURES, dtype=torch.float64), covariance)
    network = ScoreNetwork(N_FEATURES, (32, 32), generator(0), n_context=N_CONTEXT).double()
    model, ones = CorrectedScore(marginal, network), torch.ones(2000, dtype=torch.float64)
    settings = TrainingSettings(20, 200, 0.01, n_iter_no_change=20)
    record = train(
        model,
        DSM(),
        LEVELS,
        TrainingRows(x, ones, context),
        TrainingRows(held_out, ones[:1000], held_out_context),
        settings,
        generator(3),
    )
    exact = LinearGaussian().log_density(held_out, clean(), held_out_context)
    possible = float((exact - marginal.log_density(held_out, clean())).mean())
    assert 0.8 * possible < record.best_gain < possible + 0.1
    bound = HeldOutBound.draw(held_out, LEVELS, 4, generator(4), held_out_context.flip(0))
    assert float(bound.gain(model).mean()) < 0


def test_a_plan_is_measured_with_the_context(reference, corrected, table):
    x, context = table(32)
    plans = [
        calibrated_plan(corrected(), reference, x, LEVELS, 1e-3, chunk, context)
        for chunk in (None, 8)
    ]
    assert plans[0].n_steps == plans[1].n_steps
