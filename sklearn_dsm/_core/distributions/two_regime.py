"""Kernel estimates at low noise, the samples themselves at high noise."""

from __future__ import annotations

import torch
from torch import Tensor

from ..noise.level import NoiseLevel
from ..scores.model import ExactScore, ScoreModel
from .kernel import KernelScore


class TwoRegimeKernelScore(ScoreModel):
    r"""The score of a kernel estimate at low noise, of the empirical measure at high noise.

    Where the noise is wider than the kernel the kernel only adds bias: beyond
    :math:`t^* = n^{-2/(2s+d)}` the score is that of the rows themselves, noised.

    Parameters
    ----------
    kernel : ExactScore
        The estimate.
    rows : KernelScore
        The empirical measure, as an estimate of no width.
    switch : float
        The log-SNR below which the rows stand for themselves.

    References
    ----------
    [DDPMLearning]_
    """

    def __init__(self, kernel: ExactScore, rows: KernelScore, switch: float):
        super().__init__()
        self.kernel, self.rows, self.switch = kernel, rows, switch

    def score_and_jacobian_diagonal(
        self, x: Tensor, level: NoiseLevel, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        noisy = level.log_snr < self.switch
        if noisy.dim() == 0:
            return (self.rows if noisy else self.kernel).score_and_jacobian_diagonal(x, level)
        low = self.rows.score_and_jacobian_diagonal(x, level)
        high = self.kernel.score_and_jacobian_diagonal(x, level)
        score, diagonal = (torch.where(noisy, *pair) for pair in zip(low, high, strict=True))
        return score, diagonal
