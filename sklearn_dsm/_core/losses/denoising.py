"""Denoising score matching."""

from __future__ import annotations

from abc import abstractmethod
from typing import Self

import torch
from torch import Tensor

from ..scores.corrected import CorrectedScore
from .field import Field
from .loss import NoisedRows, ScoreLoss, gain_terms


class RegressionLoss(ScoreLoss):
    """A loss that regresses the noise in noised rows on what has it as mean."""

    @abstractmethod
    def target(self, batch: NoisedRows) -> Tensor:
        """What to regress on, of the shape of the noise: the mean given the row is its noise."""

    def terms(self, field: Field, rows: Tensor, drawn: Tensor) -> tuple[Tensor, Tensor]:
        return gain_terms(field, rows, drawn)

    def batch_terms(
        self, model: CorrectedScore, batch: NoisedRows, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        return self.terms(batch.field_of(model), batch.rows, self.target(batch))


class DSM(RegressionLoss):
    r"""Denoising score matching, over all noise levels weighted as the likelihood is.

    .. math:: L = \tfrac12 \int E\left[ |Z - \hat\epsilon(X_\lambda)|^2
        - |Z - \hat\epsilon_{ref}(X_\lambda)|^2 \right] d\lambda,

    the negative log-likelihood bound of the model minus the reference's: zero for an
    untrained correction. Levels are drawn from a truncated logistic law, one in each of
    equally likely cells, and divided by its density; a few rows share each, which saves
    time.

    Parameters
    ----------
    weighting : {"likelihood", "simple", "edm"}, default="likelihood"
        What stands for :math:`d\lambda`. "simple": uniform in process time. "edm": a normal
        law of :math:`\log \sigma` times :math:`1 + \sigma^2`, sigma being the noise's scale
        over the signal's.
    noise_level : float or None, default=None
        Process time in (0, 1] of the one level whose score is learned; None is all of them,
        which log-densities and samples need.
    antithetic : bool, default=True
        Use every noise vector with both signs; the variance of the gradient then stays
        bounded towards the data.

    References
    ----------
    [Vincent2011]_, [ScoreFlow]_, [EDM]_

    Examples
    --------
    >>> from sklearn_dsm import DSM
    >>> DSM(antithetic=False)
    DSM(antithetic=False)
    """

    _parameter_constraints = ScoreLoss._parameter_constraints | {"antithetic": ["boolean"]}
    repeats = True

    def __init__(self, *, weighting="likelihood", noise_level=None, antithetic=True):
        self.weighting = weighting
        self.noise_level = noise_level
        self.antithetic = antithetic

    def validate(self) -> Self:
        super().validate()
        if self.noise_level == 0:
            raise ValueError(
                "DSM(noise_level=0): denoising needs noise. Choose a noise_level above 0, or "
                "ISM(noise_level=0), which matches the score of the data themselves."
            )
        return self

    def target(self, batch):
        return batch.noise
