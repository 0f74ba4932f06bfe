"""Laws of losses that regress on the gradient of a known log-density."""

import pytest
import torch

from sklearn_dsm import DSM
from sklearn_dsm._core.losses.loss import TrainingRows
from sklearn_dsm._core.losses.target_score import NSM, TSM
from sklearn_dsm._core.noise.level import NoiseLevel
from sklearn_dsm._core.noise.level_sampling import LogisticLevels
from sklearn_dsm._core.scores.corrected import CorrectedScore
from sklearn_dsm._core.scores.network import ScoreNetwork

LEVELS = LogisticLevels(-4.0, 4.0)
LOSSES = [DSM(), TSM(), NSM()]


def clean_level():
    return NoiseLevel(torch.ones((), dtype=torch.float64), torch.zeros((), dtype=torch.float64))


@pytest.fixture(scope="module")
def corrected(mixture, generator, randomized):
    """A randomised correction of a Gaussian, rows of a mixture, and the mixture."""
    problem = mixture(2)
    network = randomized(ScoreNetwork(2, (8, 7), generator(1)).double(), seed=2)
    return CorrectedScore(problem.gaussian, network), problem.draw(6400, seed=3), problem


def gradients(loss, model, examples, seed, n_parts=20):
    """The loss's gradient in the last matrix, of every part of the rows."""
    random, size = torch.Generator().manual_seed(seed), len(examples.rows) // n_parts
    parts = zip(*(part.split(size) for part in examples.present.values()), strict=True)
    batches = [TrainingRows(**dict(zip(examples.present, part, strict=True))) for part in parts]
    values = [loss(model, batch, LEVELS, random) for batch in batches]
    return torch.stack([torch.autograd.grad(v, model.network.output)[0] for v in values])


def test_every_target_has_the_gradient_of_denoising(corrected):
    model, rows, problem = corrected
    score = problem.model.score(rows, clean_level())
    examples = TrainingRows(rows, torch.ones(len(rows), dtype=rows.dtype), None, score)
    found = [gradients(loss, model, examples, seed) for seed, loss in enumerate(LOSSES)]
    for other in found[1:]:
        error = ((found[0].var(0) + other.var(0)) / len(other)).sqrt()
        assert ((found[0].mean(0) - other.mean(0)).abs() < 4.5 * error).all()


def test_importance_weights_stand_for_rows_of_the_other_density(corrected, mixture):
    """Rows of one mixture, weighted by a ratio of densities, teach the score of another."""
    model, rows, problem = corrected
    shift = torch.tensor([0.4, -0.2], dtype=rows.dtype)

    def tilted_rows_and_weights():
        ratio = problem.model.log_density(rows - shift, clean_level())
        ratio = (ratio - problem.model.log_density(rows, clean_level())).exp()
        return rows, ratio / ratio.mean()

    weighted = TrainingRows(*tilted_rows_and_weights())
    moved = TrainingRows(rows + shift, torch.ones(len(rows), dtype=rows.dtype))
    first, second = gradients(DSM(), model, weighted, 0), gradients(DSM(), model, moved, 1)
    error = ((first.var(0) + second.var(0)) / len(first)).sqrt()
    assert ((first.mean(0) - second.mean(0)).abs() < 4.5 * error).all()
    plain = gradients(DSM(), model, TrainingRows(rows, moved.weight), 2)
    assert ((plain.mean(0) - second.mean(0)).abs() > 6 * error).any()


@pytest.mark.parametrize("loss", [TSM(), NSM()], ids=str)
def test_a_target_score_has_to_be_given(corrected, loss):
    model, rows, _ = corrected
    with pytest.raises(ValueError, match="give clean_score"):
        loss(model, TrainingRows(rows[:8], torch.ones(8)), LEVELS, torch.Generator())
