"""Sliced score matching."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from ..._compat import StrOptions
from ..forward_mode import load_forward_mode
from ..random import standard_normal
from .field import Field
from .loss import ScoreLoss


class SSM(ScoreLoss):
    r"""Sliced score matching, with the trace along one random direction per sample.

    .. math:: L = \int v\, E\left[ \tfrac12 (w \cdot s)^2 + w^T (\nabla s)\, w \right] d\lambda,
        \qquad E[w w^T] = I,

    for the score s at the noised samples and the random direction w.

    Parameters
    ----------
    variance_reduced : bool, default=False
        Whether the first term is replaced by its expectation :math:`\tfrac12 |s|^2` ("ssm_vr").
    direction : {"rademacher", "gaussian"}, default="rademacher"
        Distribution of w.

        - "rademacher": random signs. The trace has no error if the Jacobian is diagonal.
        - "gaussian": standard normal.
    weighting : {"likelihood", "simple", "edm"}, default="likelihood"
        As in :class:`DSM`.
    noise_level : float or None, default=None
        Process time in [0, 1] of the one level whose score is learned. None learns all levels.

    References
    ----------
    [SSM]_

    Examples
    --------
    >>> from sklearn_dsm import SSM
    >>> SSM(variance_reduced=True)
    SSM(variance_reduced=True)
    """

    _parameter_constraints = ScoreLoss._parameter_constraints | {
        "variance_reduced": ["boolean"],
        "direction": [StrOptions({"rademacher", "gaussian"})],
    }
    differentiates = True
    n_evaluations = 2
    repeats = True

    def __init__(
        self,
        *,
        variance_reduced: bool = False,
        direction: str = "rademacher",
        weighting: str = "likelihood",
        noise_level: float | None = None,
    ) -> None:
        self.variance_reduced = variance_reduced
        self.direction = direction
        self.weighting = weighting
        self.noise_level = noise_level

    def draw(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        w = standard_normal(rows.shape, rows, generator)
        return w.sign() if self.direction == "rademacher" else w

    def terms(self, field: Field, rows: Tensor, drawn: Tensor) -> tuple[Tensor, Tensor]:
        load_forward_mode()

        def correction_and_seen(x: Tensor) -> tuple[Tensor, Tensor]:
            seen, correction = field(x)
            return correction, seen

        moved = torch.func.jvp(correction_and_seen, (rows,), (drawn,), has_aux=True)
        correction, slope, seen = cast(tuple[Tensor, Tensor, Tensor], moved)
        trace = field.scale.squeeze(-1) * (drawn * slope).sum(-1)
        if self.variance_reduced:
            return trace - (seen * correction).sum(-1), correction.square().sum(-1)
        along, seen_along = ((drawn * part).sum(-1) for part in (correction, seen))
        return trace - seen_along * along, along.square()
