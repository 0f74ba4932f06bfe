"""The likelihood bound of held-out rows, with draws that are made once."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ._random import standard_normal
from .levels import LevelLaw
from .losses import gain_terms
from .scores import CorrectedScore

# Rows whose draws are evaluated together: what a processor's cache holds, and what keeps a GPU
# busy.
ROWS_AT_ONCE = {"cpu": 1024, "cuda": 2**17}


class HeldOutBound(NamedTuple):
    """Rows (n, d) with fixed antithetic noise (m, n, d) and levels (m, n), m draws a row.

    Every evaluation uses the same draws, so differences between models are exact in them
    and the noise of the estimate cancels.
    """

    rows: Tensor
    noise: Tensor
    log_snr: Tensor
    density: Tensor

    @classmethod
    def draw(
        cls, rows: Tensor, levels: LevelLaw, n_draws: int, generator: torch.Generator
    ) -> HeldOutBound:
        """Draw the levels and the noise of ``n_draws`` pairs a row."""
        n, d = rows.shape
        order = torch.rand(n, generator=generator, device=rows.device).argsort()
        log_snr = levels.stratified(n * n_draws, generator, rows).reshape(n_draws, n)[:, order]
        noise = standard_normal((n_draws, n, d), rows, generator)
        return cls(rows, noise, log_snr, levels.density(log_snr))

    @torch.no_grad()
    def terms(self, model: CorrectedScore) -> tuple[Tensor, Tensor]:
        """The integrands ``r . c`` and ``|c|^2`` of every draw (m, n), see :meth:`gain`."""
        at_once = max(1, ROWS_AT_ONCE[self.rows.device.type] // len(self.rows))
        draws = []
        parts = (part.split(at_once) for part in (self.noise, self.log_snr))
        for noise, log_snr in zip(*parts, strict=True):
            pair = gain_terms(model, self.rows, torch.stack([noise, -noise]), log_snr)
            draws.append([term.mean(0) for term in pair])
        products, squares = (torch.cat(parts) / self.density for parts in zip(*draws, strict=True))
        return products, squares

    def gain(self, model: CorrectedScore) -> Tensor:
        """Each row's gain in the log-likelihood bound over the reference, in nats, shape (n,)."""
        products, squares = self.terms(model)
        return (products - squares / 2).mean(0)
