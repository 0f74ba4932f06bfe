"""Local curvature smoothing."""

from __future__ import annotations

from numbers import Real

import torch
from torch import Tensor

from ..._compat import Interval, StrOptions
from ..random import standard_normal
from .field import Field
from .loss import ScoreLoss


class LCSS(ScoreLoss):
    r"""Local curvature smoothing: the trace by Stein's identity, with a small extra noise.

    .. math:: L = \int v\, E\left[ \tfrac12 |s(x)|^2
        + \frac{(s(x + \delta z) - s(x - \delta z)) \cdot z}{2 \delta} \right] d\lambda,
        \qquad \delta = \sigma \sqrt v.

    The loss needs no Jacobian and no distribution of noised samples given clean ones. It smooths
    the trace but not the norm, so it has a bias of order :math:`\delta^2`, which grows in tails.

    Parameters
    ----------
    sigma : float, default=0.1
        Standard deviation of the extra noise, as a multiple of that of the level's noise;
        positive.
    norm_at : {"clean", "noisy"}, default="clean"
        Where the norm of the score is taken.

        - "clean": at x.
        - "noisy": at x with the extra noise. The loss is then that of denoising the extra noise.
    two_sided : bool, default=True
        Whether the extra noise is used with both signs. With one sign, the loss needs one score
        less, but its trace has a variance of :math:`|s|^2 / \delta^2`.
    weighting : {"likelihood", "simple", "edm"}, default="likelihood"
        As in :class:`DSM`.
    noise_level : float or None, default=None
        Process time in [0, 1] of the one level whose score is learned. None learns all levels.

    References
    ----------
    [LCSS]_

    Examples
    --------
    >>> from sklearn_dsm import LCSS
    >>> LCSS(sigma=0.05, norm_at="noisy")
    LCSS(norm_at='noisy', sigma=0.05)
    """

    _parameter_constraints = ScoreLoss._parameter_constraints | {
        "sigma": [Interval(Real, 0, None, closed="neither")],
        "norm_at": [StrOptions({"clean", "noisy"})],
        "two_sided": ["boolean"],
    }
    half_precision = False
    n_evaluations = 3
    dropout = False
    repeats = True

    def __init__(
        self,
        *,
        sigma: float = 0.1,
        norm_at: str = "clean",
        two_sided: bool = True,
        weighting: str = "likelihood",
        noise_level: float | None = None,
    ) -> None:
        self.sigma = sigma
        self.norm_at = norm_at
        self.two_sided = two_sided
        self.weighting = weighting
        self.noise_level = noise_level

    def draw(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        return standard_normal(rows.shape, rows, generator)

    def terms(self, field: Field, rows: Tensor, drawn: Tensor) -> tuple[Tensor, Tensor]:
        signs = (1, -1) if self.two_sided else (1,)
        sides = [field(rows + sign * self.sigma * field.scale * drawn) for sign in signs]
        steps = (
            sign * (drawn * moved).sum(-1) for sign, (_, moved) in zip(signs, sides, strict=True)
        )
        trace = sum(steps) / (len(signs) * self.sigma)
        if self.norm_at == "clean":
            sides = [field(rows)]
        seen, correction = (torch.stack(parts) for parts in zip(*sides, strict=True))
        cross = (seen * correction).sum(-1).mean(0)
        return trace - cross, correction.square().sum(-1).mean(0)
