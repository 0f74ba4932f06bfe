"""A module's weights as plain arrays and back, and rows split with what belongs to them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn


def tensor_of(array: np.ndarray) -> Tensor:
    """A tensor that shares the array's memory, or a copy of it where that is read-only.

    Arrays that joblib maps from a file are, and torch has no tensors that must not be written.
    """
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def arrays_of(module: nn.Module) -> dict[str, np.ndarray]:
    """The module's state as arrays, wherever it lies."""
    return {name: value.cpu().numpy() for name, value in module.state_dict().items()}


def state_of(arrays: dict[str, np.ndarray]) -> dict[str, Tensor]:
    """What ``load_state_dict`` takes, from arrays."""
    return {name: tensor_of(value) for name, value in arrays.items()}


def split_alike(
    rows: Tensor, context: Tensor | None, size: int
) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Parts of so many rows, each with its context where there is one."""
    parts = rows.split(size)
    contexts = [None] * len(parts) if context is None else context.split(size)
    return zip(parts, contexts, strict=True)
