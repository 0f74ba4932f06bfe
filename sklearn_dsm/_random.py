"""Generators from scikit-learn's random_state, without the global ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from sklearn.utils import check_random_state


def seed_from(random_state: int | np.integer | np.random.RandomState | None) -> int:
    """A seed: drawn from a RandomState, fresh for None, and the integer's own for an integer."""
    if random_state is None:
        return int(np.random.SeedSequence().generate_state(1)[0])
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(np.iinfo(np.int32).max))
    return int(random_state)


def standard_normal(
    shape: Sequence[int], like: torch.Tensor, generator: torch.Generator | None
) -> torch.Tensor:
    """Standard normal numbers of a shape, of the type and on the device of a tensor."""
    return torch.randn(*shape, generator=generator, dtype=like.dtype, device=like.device)


def torch_generator(seed: int, device: str | torch.device = "cpu") -> torch.Generator:
    """A generator of its own on a device."""
    return torch.Generator(device=device).manual_seed(seed)


def numpy_random(
    random_state: int | np.integer | np.random.RandomState | np.random.Generator | None,
) -> np.random.RandomState | np.random.Generator:
    """A source of numpy's numbers: a given one itself, a fresh one for None."""
    if isinstance(random_state, np.random.Generator):
        return random_state
    return np.random.RandomState() if random_state is None else check_random_state(random_state)
