"""Training of an amortised log-density."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .._core.arrays import state_of
from .._core.scores.amortised import LogDensityHead
from .judges import ErrorJudge
from .record import TrainingSettings
from .run import train_module

# Errors beyond this many spreads of the targets count linearly, not squared.
HUBER_DELTA = 2.0


def fit_head(
    head: LogDensityHead,
    rows: tuple[Tensor, Tensor],
    held_out: tuple[Tensor, Tensor],
    settings: TrainingSettings,
    generator: torch.Generator,
) -> float:
    """Train a head in place, and free it of its mean error on held-out rows.

    Parameters
    ----------
    head : LogDensityHead
    rows, held_out : tuple of Tensor
        Latent rows (n, d) and their differences (n,) in nats.
    settings : TrainingSettings
    generator : torch.Generator

    Returns
    -------
    float
        Root mean square of the held-out rows' errors, in nats; NaN for fewer than two.

    Raises
    ------
    KeyboardInterrupt
        Where training is interrupted: the ODE is better than a head half taught.
    """
    (z, target), (held_out_z, held_out_target) = rows, held_out
    middle = target.median()
    head.radius.copy_(torch.linalg.vector_norm(z, dim=-1).max())
    head.center.copy_(middle)
    head.spread.copy_((1.5 * (target - middle).abs().median()).clamp(min=1e-3))

    def batch_loss(head: LogDensityHead, z: Tensor, target: Tensor) -> Tensor:
        error = (head(z) - target) / head.spread
        return nn.functional.huber_loss(error, torch.zeros_like(error), delta=HUBER_DELTA)

    judge = ErrorJudge(held_out_z, held_out_target)
    record = train_module(head, batch_loss, (z, target), judge, settings, generator)
    if record.stop_reason == "interrupted":
        raise KeyboardInterrupt
    if record.weights is not None:
        head.load_state_dict(state_of(record.weights))
    head.eval()
    with torch.no_grad():
        error = held_out_target - head(held_out_z)
    head.center += error.mean()
    return float(error.std())
