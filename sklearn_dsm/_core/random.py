"""Random numbers in torch, from generators that are given."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def standard_normal(
    shape: Sequence[int], like: torch.Tensor, generator: torch.Generator | None
) -> torch.Tensor:
    """Standard normal numbers of a shape, of the type and on the device of a tensor."""
    return torch.randn(*shape, generator=generator, dtype=like.dtype, device=like.device)


def torch_generator(seed: int, device: str | torch.device = "cpu") -> torch.Generator:
    """A generator of its own on a device."""
    return torch.Generator(device=device).manual_seed(seed)
