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
    r"""Denoising score matching over all noise levels, weighted as in the likelihood.

    .. math:: L = \tfrac12 \int E\left[ |Z - \hat\epsilon(X_\lambda)|^2
        - |Z - \hat\epsilon_{ref}(X_\lambda)|^2 \right] d\lambda,

    where Z is the noise, and the model and the reference predict :math:`\hat\epsilon` and
    :math:`\hat\epsilon_{ref}`. L is minus the gain in evidence lower bound (ELBO) over the
    reference, so it is zero before training. Levels are drawn from a truncated logistic
    distribution, one in each of equally likely cells, and each term is divided by the density of
    its level. A few samples share each level, which saves time.

    Parameters
    ----------
    weighting : {"likelihood", "simple", "edm"}, default="likelihood"
        The weight of the noise levels, in the place of :math:`d\lambda`.

        - "likelihood": :math:`d\lambda` itself. For log-densities.
        - "simple": uniform in process time. For samples rather than log-densities.
        - "edm": :math:`1 + \sigma^2` times a normal density of :math:`\log \sigma`, where
          :math:`\sigma` is the ratio of noise to signal. Also for samples.
    noise_level : float or None, default=None
        Process time in (0, 1] of the one level whose score is learned. None learns all levels,
        which log-densities and samples need.
    antithetic : bool, default=True
        Whether every noise vector is used with both signs. The variance of the gradient then
        stays bounded at low noise.

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

    def __init__(
        self,
        *,
        weighting: str = "likelihood",
        noise_level: float | None = None,
        antithetic: bool = True,
    ) -> None:
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

    def target(self, batch: NoisedRows) -> Tensor:
        return batch.noise
