"""Mixtures of any exact distributions, at every noise level."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from ..noise.level import NoiseLevel
from ..scores.model import ExactScore
from .mixture import choose_components


class MixedScore(ExactScore):
    r"""Data from :math:`\sum_m w_m p_m`, whose score is the parts' mean given the noised row.

    Parameters
    ----------
    parts : sequence of ExactScore
    weights : Tensor of shape (n_parts,), positive, summing to 1
    """

    log_weights: Tensor

    def __init__(self, parts: Sequence[ExactScore], weights: Tensor):
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.register_buffer("log_weights", weights.log())

    @property
    def _exact(self) -> list[ExactScore]:
        return [cast(ExactScore, part) for part in self.parts]

    def _log_joint(self, x: Tensor, level: NoiseLevel) -> Tensor:
        densities = [part.log_density(x, level) for part in self._exact]
        return torch.stack(densities, -1) + self.log_weights

    def log_density(self, x: Tensor, level: NoiseLevel, context: Tensor | None = None) -> Tensor:
        return self._log_joint(x, level).logsumexp(-1)

    def score_and_jacobian_diagonal(
        self, x: Tensor, level: NoiseLevel, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        share = self._log_joint(x, level).softmax(-1)[..., None, :]
        found = [part.score_and_jacobian_diagonal(x, level) for part in self._exact]
        scores, diagonals = (torch.stack(each, -1) for each in zip(*found, strict=True))
        score = (share * scores).sum(-1)
        spread = (scores - score[..., None]).square()
        return score, (share * (diagonals + spread)).sum(-1)

    def sample(
        self,
        n: int,
        level: NoiseLevel,
        generator: torch.Generator,
        context: Tensor | None = None,
    ) -> Tensor:
        chosen = choose_components(n, self.log_weights, generator)
        draws = torch.stack([part.sample(n, level, generator) for part in self._exact])
        return draws[chosen, torch.arange(n, device=chosen.device)]
