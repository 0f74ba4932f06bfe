"""Losses of controls, from the weights of paths."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ._control import Control
from ._processes.process import Path
from ._target import DifferentiableTarget, Target

# Nats below the least density of other ends, for ends where it is zero.
ZERO_DENSITY = 10.0
# Centred log-weights are clipped to so many of their median absolute values.
LARGEST_WEIGHT = 10.0


class Loss(NamedTuple):
    """What is differentiated, and the number that a user reads."""

    surrogate: Tensor
    value: float


# (process, control, target, number of paths, generator) -> Loss
PathLoss = Callable[[Any, Control, Target, int, torch.Generator], Loss]


def _possible(path: Path) -> Path:
    """The paths, with ends of zero density given one that is less than all others."""
    finite = torch.isfinite(path.log_density)
    if finite.all():
        return path
    if not finite.any():
        raise ValueError(
            "All weights are zero: log_density is -inf at every sample. Give bounds, or a "
            "prior_scale that reaches where it is finite."
        )
    lowest = path.log_density.detach()[finite].min() - ZERO_DENSITY
    return replace(path, log_density=torch.where(finite, path.log_density, lowest))


def kullback_leibler(process, control, target, n, generator) -> Loss:
    r"""The reverse divergence :math:`-E \log w`, differentiated through the paths."""
    path = process.simulate(control, DifferentiableTarget(target), n, generator)
    log_weights, _ = process.log_weights(_possible(path))
    loss = -log_weights.mean()
    return Loss(loss, float(loss.detach()))


def _detached(process, control, target, n, generator) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        path = process.simulate(control, target, n, generator)
    log_weights, generation = process.log_weights(process.with_controls(_possible(path), control))
    return log_weights, generation


def _centred(log_weights: Tensor) -> Tensor:
    """Log-weights less their mean, without a graph; a few outliers do not drown the others."""
    centred = log_weights.detach() - log_weights.detach().mean()
    limit = LARGEST_WEIGHT * centred.abs().median()
    return centred.clamp(-limit, limit)


def log_variance(process, control, target, n, generator) -> Loss:
    r"""The variance of :math:`\log w` over paths that are not differentiated."""
    log_weights, _ = _detached(process, control, target, n, generator)
    surrogate = 2 * (_centred(log_weights) * log_weights).mean()
    return Loss(surrogate, float(log_weights.detach().var()))


def log_derivative(process, control, target, n, generator) -> Loss:
    r"""The reverse divergence, its gradient in the log-derivative form.

    :math:`-E[(\log w - c) \nabla \log P_u] - E[\nabla \log (w P_u)]` for any constant c.
    """
    log_weights, generation = _detached(process, control, target, n, generator)
    surrogate = -(_centred(log_weights) * generation).mean() - (log_weights + generation).mean()
    return Loss(surrogate, -float(log_weights.detach().mean()))


LOSSES: dict[str, PathLoss] = {
    "kl": kullback_leibler,
    "lv": log_variance,
    "rkl_ld": log_derivative,
}
