"""Bootstrapped score matching."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor

from ..._compat import Interval
from ..averaging import WeightAverage
from ..scores.corrected import CorrectedScore
from .denoising import RegressionLoss
from .loss import NoisedRows, ScoreLoss
from .targets import bootstrapped_noise, earlier_level


class BSM(RegressionLoss):
    r"""Bootstrapped score matching, with targets from the model itself at a less noisy level.

    Let :math:`X_{t'}` and :math:`X_t = \alpha X_{t'} + \sigma_\Delta Z_\Delta` lie on one path.
    Denoising has the noise Z as its target. Here the target is the expectation of Z given both
    points, which a network with a frozen average of the weights predicts,

    .. math:: Z \to \frac{\alpha \sigma_{t'} \hat\epsilon_{t'}(X_{t'})
        + \sigma_\Delta Z_\Delta}{\sigma_t}, \qquad t' = t / r, \quad \sigma_t^2 = 1 - e^{-2t}.

    The target never has a larger variance than Z. Errors of the frozen network are passed on from
    level to level.

    Parameters
    ----------
    ratio : float, default=2.0
        The ratio r of the times; larger than 1. Close to 1, the variance is low, but errors add
        up over many levels.
    n_plain_steps : int, default=500
        Number of steps of denoising score matching that come first.
    weighting : {"likelihood", "simple", "edm"}, default="likelihood"
        As in :class:`DSM`.

    References
    ----------
    [BSM]_

    Examples
    --------
    >>> from sklearn_dsm import BSM
    >>> BSM(ratio=1.5)
    BSM(ratio=1.5)
    """

    _parameter_constraints = {
        "ratio": [Interval(Real, 1, None, closed="neither")],
        "n_plain_steps": [Interval(Integral, 0, None, closed="left")],
        "weighting": ScoreLoss._parameter_constraints["weighting"],
    }

    def __init__(
        self, *, ratio: float = 2.0, n_plain_steps: int = 500, weighting: str = "likelihood"
    ) -> None:
        self.ratio = ratio
        self.n_plain_steps = n_plain_steps
        self.weighting = weighting

    def started(self, model: CorrectedScore) -> ScoreLoss:
        return _Bootstrapping(self, model)

    def target(self, batch: NoisedRows) -> Tensor:
        """That of denoising, which bootstrapping starts as."""
        return batch.noise


class _Bootstrapping(RegressionLoss):
    """A run of :class:`BSM`: its frozen average, and how many steps it has made."""

    def __init__(self, loss: BSM, model: CorrectedScore):
        self.loss = loss
        self.average = WeightAverage(model.network)
        self.n_steps = 0

    @property
    def memory(self) -> dict[str, Any]:
        return {"n_steps": self.n_steps, "average": self.average.memory}

    @memory.setter
    def memory(self, memory: dict[str, Any]) -> None:
        self.n_steps, self.average.memory = memory["n_steps"], memory["average"]

    def target(self, batch: NoisedRows) -> Tensor:
        return self.loss.target(batch)

    def batch_terms(
        self, model: CorrectedScore, batch: NoisedRows, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        if self.n_steps > 0:
            self.average.update(model.network)
        self.n_steps += 1
        if self.n_steps <= self.loss.n_plain_steps:
            return super().batch_terms(model, batch, generator)
        step = self._noise_like(batch.noise[:, : batch.noise.shape[1] // 2], generator)
        late, early = batch, batch._replace(log_snr=earlier_level(batch.log_snr, self.loss.ratio))
        with torch.no_grad():
            frozen = CorrectedScore(model.reference, self.average.module).eval()
            expected = torch.add(*early.field_of(frozen)(early.rows))
            target, noise = (
                bootstrapped_noise(start, step, early.level, late.level)
                for start in (expected, early.noise)
            )
        late = late._replace(noise=noise)
        return self.terms(late.field_of(model), late.rows, target)
