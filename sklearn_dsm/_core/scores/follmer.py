"""The drift that steers a pinned Brownian motion to the data."""

from __future__ import annotations

from torch import Tensor

from ..noise.processes import FIRST_TIME, PBM
from .model import ScoreModel


def foellmer_drift(model: ScoreModel, process: PBM, y: Tensor, time: Tensor) -> Tensor:
    r"""The drift that steers a pinned Brownian motion from 0 to the data.

    .. math:: b(y, t) = \frac{E[X_0 \mid Y_t = y] - y}{1 - t}, \qquad t = 1 - s,

    through the denoised row, which stays finite where the path is pinned.

    Parameters
    ----------
    model : ScoreModel
    process : PBM
    y : Tensor of shape (n, d)
        In the process's own scaled space.
    time : Tensor of shape () or (n, 1)
        Process time s in (0, 1]; 1 is where the path is pinned.

    Returns
    -------
    Tensor of shape (n, d)

    References
    ----------
    [PinDown]_
    """
    level = process.level(time.clamp(max=1 - FIRST_TIME))
    return (model.posterior_mean(y, level) - y) / time
