"""Score-matching losses of a learned correction, and the held-out likelihood bound."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor

from ._validation import ParamsObject, resolve
from .levels import LogisticLevels, NoiseLevel
from .scores import CorrectedScore

ROWS_PER_LEVEL = 8


class ScoreLoss(ParamsObject, metaclass=ABCMeta):
    """A training objective: rows in, one differentiable number out, in nats per row."""

    @abstractmethod
    def __call__(
        self,
        model: CorrectedScore,
        rows: Tensor,
        weight: Tensor,
        levels: LogisticLevels,
        generator: torch.Generator,
    ) -> Tensor:
        """The loss of a batch of rows (n, d) with weights (n,) of mean one over the table."""


def gain_terms(
    model: CorrectedScore, rows: Tensor, noise: Tensor, log_snr: Tensor
) -> tuple[Tensor, Tensor]:
    """``r . c`` and ``|c|^2`` of rows (..., n, d) noised by Z: shapes (..., n) as the noise.

    c is what the model adds to the noise the reference sees, r the noise it misses. The
    squared error of the noise changes by |c|^2 - 2 r . c.
    """
    level = NoiseLevel.from_log_snr(log_snr[..., None])
    noised = level.a * rows + level.v.sqrt() * noise
    seen, correction = model.noise_and_correction(noised, level)
    return (correction * (noise - seen)).sum(-1), correction.square().sum(-1)


class DSM(ScoreLoss):
    r"""Denoising score matching over all noise levels, weighted as the likelihood is.

    .. math:: L = \tfrac12 \int E\left[ |Z - \hat\epsilon(X_\lambda)|^2
        - |Z - \hat\epsilon_{ref}(X_\lambda)|^2 \right] d\lambda,

    the negative log-likelihood bound of the model minus the reference's: zero for an
    untrained correction. Levels are drawn from a truncated logistic law, one in each of
    equally likely cells, and divided by its density; a few rows share each, which saves
    time.

    Parameters
    ----------
    antithetic : bool, default=True
        Use every noise vector with both signs; the variance of the gradient then stays
        bounded towards the data.

    References
    ----------
    [Vincent2011]_, [ScoreFlow]_

    Examples
    --------
    >>> from sklearn_dsm import DSM
    >>> DSM(antithetic=False)
    DSM(antithetic=False)
    """

    _parameter_constraints = {"antithetic": ["boolean"]}

    def __init__(self, *, antithetic: bool = True):
        self.antithetic = antithetic

    def __call__(self, model, rows, weight, levels, generator):
        n, d = rows.shape
        shared = ROWS_PER_LEVEL if n % ROWS_PER_LEVEL == 0 else 1
        rows, weight = rows.reshape(-1, shared, d), weight.reshape(-1, shared)
        log_snr = levels.stratified(len(rows), generator, rows)[:, None]
        noise = torch.randn(rows.shape, generator=generator, dtype=rows.dtype, device=rows.device)
        if self.antithetic:
            rows, weight = rows.repeat(1, 2, 1), weight.repeat(1, 2)
            noise = torch.cat([noise, -noise], 1)
        product, square = gain_terms(model, rows, noise, log_snr)
        return (weight / levels.density(log_snr) * (square / 2 - product)).mean()


LOSSES: dict[str, type[ScoreLoss]] = {"dsm": DSM}


def resolve_loss(loss: str | ScoreLoss) -> ScoreLoss:
    """The loss a shortcut names, or the loss itself, with its parameters checked."""
    return resolve("loss", loss, LOSSES)


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
        cls, rows: Tensor, levels: LogisticLevels, n_draws: int, generator: torch.Generator
    ) -> HeldOutBound:
        """Draw the levels and the noise of ``n_draws`` pairs a row."""
        n, d = rows.shape
        order = torch.rand(n, generator=generator, device=rows.device).argsort()
        log_snr = levels.stratified(n * n_draws, generator, rows).reshape(n_draws, n)[:, order]
        noise = torch.randn(
            n_draws, n, d, generator=generator, dtype=rows.dtype, device=rows.device
        )
        return cls(rows, noise, log_snr, levels.density(log_snr))

    @torch.no_grad()
    def terms(self, model: CorrectedScore) -> tuple[Tensor, Tensor]:
        """The integrands ``r . c`` and ``|c|^2`` of every draw (m, n), see :meth:`gain`."""
        draws = []
        for noise, log_snr, density in zip(self.noise, self.log_snr, self.density, strict=True):
            pair = gain_terms(model, self.rows, torch.stack([noise, -noise]), log_snr)
            draws.append([term.mean(0) / density for term in pair])
        products, squares = zip(*draws, strict=True)
        return torch.stack(products), torch.stack(squares)

    def gain(self, model: CorrectedScore) -> Tensor:
        """Each row's gain in the log-likelihood bound over the reference, in nats, shape (n,)."""
        products, squares = self.terms(model)
        return (products - squares / 2).mean(0)
