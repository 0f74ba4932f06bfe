"""Implicit score matching."""

from __future__ import annotations

from torch import Tensor

from .field import Field
from .loss import ScoreLoss


class ISM(ScoreLoss):
    r"""Implicit score matching with the exact trace of the Jacobian.

    .. math:: L = \int v\, E\left[ \tfrac12 |s|^2 + \nabla \cdot s \right] d\lambda

    for the score s at the noised samples. With two hidden layers the trace costs one matrix
    product. With more layers it costs about one pass of the network per feature.

    Parameters
    ----------
    weighting : {"likelihood", "simple", "edm"}, default="likelihood"
        As in :class:`DSM`.
    noise_level : float or None, default=None
        Process time in [0, 1] of the one level whose score is learned. None learns all levels.

    References
    ----------
    [Hyvarinen2005]_

    Examples
    --------
    >>> from sklearn_dsm import ISM, DSMDensityEstimator
    >>> DSMDensityEstimator(loss=ISM(noise_level=0.1), hidden_layer_sizes=(64, 64))
    DSMDensityEstimator(hidden_layer_sizes=(64, 64), loss=ISM(noise_level=0.1))
    """

    differentiates = True
    n_evaluations = 2
    repeats = True

    def __init__(self, *, weighting: str = "likelihood", noise_level: float | None = None) -> None:
        self.weighting = weighting
        self.noise_level = noise_level

    def terms(self, field: Field, rows: Tensor, drawn: Tensor) -> tuple[Tensor, Tensor]:
        seen, correction, divergence = field.with_divergence(rows)
        trace = field.scale.squeeze(-1) * divergence
        return trace - (seen * correction).sum(-1), correction.square().sum(-1)
