"""Generators from scikit-learn's random_state, without the global ones."""

from __future__ import annotations

import numpy as np
import torch


def seed_from(random_state: int | np.integer | np.random.RandomState | None) -> int:
    """A seed: drawn from a RandomState, fresh for None, and the integer's own for an integer."""
    if random_state is None:
        return int(np.random.SeedSequence().generate_state(1)[0])
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(np.iinfo(np.int32).max))
    return int(random_state)


def torch_generator(seed: int, device: str | torch.device = "cpu") -> torch.Generator:
    """A generator of its own on a device."""
    return torch.Generator(device=device).manual_seed(seed)
