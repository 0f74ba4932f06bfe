"""The losses by their short names."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ..params import resolve
from .bootstrapped import BSM
from .curvature import LCSS
from .denoising import DSM
from .finite_difference import FDSSM
from .implicit import ISM
from .loss import ScoreLoss
from .sliced import SSM

LOSSES: dict[str, Callable[[], ScoreLoss]] = {
    "dsm": DSM,
    "ism": ISM,
    "ssm": SSM,
    "ssm_vr": partial(SSM, variance_reduced=True),
    "fd_ssm": FDSSM,
    "lcss": LCSS,
    "bsm": BSM,
}
TARGET_LOSSES = ("csm", "tsm", "nsm")


def resolve_loss(loss: str | ScoreLoss) -> ScoreLoss:
    """The loss a shortcut names, or the loss itself, with its parameters checked."""
    if loss in TARGET_LOSSES:
        raise ValueError(
            f"loss={loss!r} regresses on the gradient of a known log-density, which a table of "
            f"rows does not have; choose one of {sorted(LOSSES)}."
        )
    return resolve("loss", loss, LOSSES)
