"""Score matching by targets that rest on the gradient of a known log-density."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor

from ..noise.conversions import convert
from .denoising import RegressionLoss
from .loss import NoisedRows
from .targets import novel_target, target_score_target


class ScoreTargetLoss(RegressionLoss):
    r"""A regression on a target whose mean given the noised row is the score.

    Rows may come from another density than the one whose score is learned, with importance
    weights, and their ``clean_score`` is the gradient of the log-density that is.
    """

    repeats = True

    @abstractmethod
    def score_target(self, batch: NoisedRows) -> Tensor:
        """The target (m, k, d), in units of a score."""

    def target(self, batch: NoisedRows) -> Tensor:
        return convert(self.score_target(batch), batch.rows, batch.level, "score", "noise")

    @staticmethod
    def clean_score(batch: NoisedRows) -> Tensor:
        """That of the batch, which has to have one."""
        if batch.clean_score is None:
            raise ValueError(
                "This target rests on the gradient of the rows' log-density: give clean_score "
                "with the training rows, or train with DSM(), which needs none."
            )
        return batch.clean_score


class TSM(ScoreTargetLoss):
    """Target score matching: the clean score, whose variance is small at low noise.

    Source: [TSM]_
    """

    def score_target(self, batch: NoisedRows) -> Tensor:
        return target_score_target(self.clean_score(batch), batch.level)


class NSM(ScoreTargetLoss):
    """The mixture of both targets whose variance is bounded at every level.

    Source: [Unified]_
    """

    def score_target(self, batch: NoisedRows) -> Tensor:
        return novel_target(batch.clean, self.clean_score(batch), batch.rows, batch.level)
