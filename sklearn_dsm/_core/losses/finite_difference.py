"""Finite-difference sliced score matching."""

from __future__ import annotations

from numbers import Real

import torch
from torch import Tensor, nn

from ..._compat import Interval
from ..random import standard_normal
from .field import Field
from .loss import ScoreLoss


class FDSSM(ScoreLoss):
    r"""Sliced score matching by finite differences: two scores per sample, and no Jacobian.

    .. math:: L = \int v\, E\left[ \tfrac18 |s(x + w) + s(x - w)|^2
        + \frac{d}{2 |w|^2} (s(x + w) - s(x - w)) \cdot w \right] d\lambda

    for the score s and a direction w that is uniform on a sphere. If the score is linear, the
    differences are exact.

    Parameters
    ----------
    step : float, default=0.1
        Length of w, as a multiple of the standard deviation of the level's noise; positive.
    weighting : {"likelihood", "simple", "edm"}, default="likelihood"
        As in :class:`DSM`.
    noise_level : float or None, default=None
        Process time in [0, 1] of the one level whose score is learned. None learns all levels.

    References
    ----------
    [FDSSM]_

    Examples
    --------
    >>> from sklearn_dsm import FDSSM
    >>> FDSSM(step=0.05)
    FDSSM(step=0.05)
    """

    _parameter_constraints = ScoreLoss._parameter_constraints | {
        "step": [Interval(Real, 0, None, closed="neither")]
    }
    half_precision = False
    n_evaluations = 2
    dropout = False
    repeats = True

    def __init__(
        self, *, step: float = 0.1, weighting: str = "likelihood", noise_level: float | None = None
    ) -> None:
        self.step = step
        self.weighting = weighting
        self.noise_level = noise_level

    def draw(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        # In one column a draw can be zero, which has no direction and is left at zero.
        return nn.functional.normalize(standard_normal(rows.shape, rows, generator), dim=-1)

    def terms(self, field: Field, rows: Tensor, drawn: Tensor) -> tuple[Tensor, Tensor]:
        move = self.step * field.scale * drawn
        (seen, ahead), (seen_behind, behind) = (field(rows + sign * move) for sign in (1, -1))
        trace = rows.shape[-1] / (2 * self.step) * ((ahead - behind) * drawn).sum(-1)
        correction, seen = (ahead + behind) / 2, (seen + seen_behind) / 2
        return trace - (seen * correction).sum(-1), correction.square().sum(-1)
