"""What is to be learned: a model, a loss, and where levels and rows come from."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .._core.losses.loss import ScoreLoss, TrainingRows
from .._core.noise.level_sampling import LevelLaw
from .._core.precision import half_precision
from .._core.scores.corrected import CorrectedScore
from .net import BatchLoss


@dataclass
class Lesson:
    """Losses of batches for one training of a score model.

    Attributes
    ----------
    model : CorrectedScore
    loss : ScoreLoss
    levels : LevelLaw
    fields : tuple of str
        Those of :class:`TrainingRows` that a batch holds, in its order.
    """

    model: CorrectedScore
    loss: ScoreLoss
    levels: LevelLaw
    fields: tuple[str, ...]

    def begin(self, generator: torch.Generator) -> tuple[BatchLoss, ScoreLoss]:
        """The loss of model and batch, and what it remembers; all noise is the generator's."""
        network = self.model.network
        network.generator = generator
        objective = self.loss.started(self.model)
        in_half = network.half_precision and self.loss.half_precision

        def batch_loss(model: CorrectedScore, *parts: Tensor) -> Tensor:
            batch = TrainingRows(**dict(zip(self.fields, parts, strict=True)))
            with half_precision(batch.rows.device, in_half):
                return objective(model, batch, self.levels, generator)

        return batch_loss, objective
