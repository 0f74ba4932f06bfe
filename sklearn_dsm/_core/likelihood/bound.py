"""The likelihood bound of held-out rows, with draws that are made once."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..arrays import split_alike
from ..losses.loss import NoisedRows, gain_terms
from ..noise.level_sampling import LevelLaw
from ..random import standard_normal
from ..scores.corrected import CorrectedScore

# Rows whose draws are evaluated together: what a processor's cache holds, and what keeps a GPU
# busy.
ROWS_AT_ONCE = {"cpu": 1024, "cuda": 2**17}
# Rows evaluated together with one draw each, which bounds the memory for large tables.
MAX_ROWS = {"cpu": 2**13, "cuda": 2**17}


class HeldOutBound(NamedTuple):
    """Rows (n, d) with fixed antithetic noise (m, n, d) and levels (m, n), m draws a row.

    ``context`` (n, c) is what their density is conditional on.

    Every evaluation uses the same draws, so differences between models are exact in them
    and the noise of the estimate cancels.
    """

    rows: Tensor
    noise: Tensor
    log_snr: Tensor
    density: Tensor
    context: Tensor | None = None

    @classmethod
    def draw(
        cls,
        rows: Tensor,
        levels: LevelLaw,
        n_draws: int,
        generator: torch.Generator,
        context: Tensor | None = None,
    ) -> HeldOutBound:
        """Draw the levels and the noise of ``n_draws`` pairs a row."""
        n, d = rows.shape
        order = torch.rand(n, generator=generator, device=rows.device).argsort()
        log_snr = levels.stratified(n * n_draws, generator, rows).reshape(n_draws, n)[:, order]
        noise = standard_normal((n_draws, n, d), rows, generator)
        return cls(rows, noise, log_snr, levels.density(log_snr), context)

    @torch.no_grad()
    def terms(self, model: CorrectedScore) -> tuple[Tensor, Tensor]:
        """The integrands ``r . c`` and ``|c|^2`` of every draw (m, n), see :meth:`gain`."""
        size = MAX_ROWS[self.rows.device.type]
        rows, contexts = zip(*split_alike(self.rows, self.context, size), strict=True)
        split = (rows, self.noise.split(size, 1), self.log_snr.split(size, 1), contexts)
        blocks = (self._terms_of(model, *block) for block in zip(*split, strict=True))
        parts = zip(*blocks, strict=True)
        products, squares = (torch.cat(part, 1) / self.density for part in parts)
        return products, squares

    @staticmethod
    def _terms_of(
        model: CorrectedScore,
        rows: Tensor,
        noise: Tensor,
        log_snr: Tensor,
        context: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """The integrands of some rows without the levels' density, some draws at a time."""
        at_once = max(1, ROWS_AT_ONCE[rows.device.type] // len(rows))
        draws = []
        for eps, level in zip(noise.split(at_once), log_snr.split(at_once), strict=True):
            batch = NoisedRows(rows, torch.stack([eps, -eps]), level, context)
            pair = gain_terms(batch.field_of(model), batch.rows, batch.noise)
            draws.append([term.mean(0) for term in pair])
        products, squares = (torch.cat(part) for part in zip(*draws, strict=True))
        return products, squares

    def gain(self, model: CorrectedScore) -> Tensor:
        """Each row's gain in the log-likelihood bound over the reference, in nats, shape (n,)."""
        products, squares = self.terms(model)
        return (products - squares / 2).mean(0)
