"""A module's weights as plain arrays, and back."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn


def arrays_of(module: nn.Module) -> dict[str, np.ndarray]:
    """The module's state as arrays, wherever it lies."""
    return {name: value.cpu().numpy() for name, value in module.state_dict().items()}


def state_of(arrays: dict[str, np.ndarray]) -> dict[str, Tensor]:
    """What ``load_state_dict`` takes, from arrays."""
    return {name: torch.from_numpy(value) for name, value in arrays.items()}
