"""Normal distributions with independent features."""

from __future__ import annotations

from torch import Tensor

from .._core.constants import LOG_2PI


def log_normal(x: Tensor, mean: Tensor | float, std: Tensor) -> Tensor:
    """Log-densities (..., n) of a normal distribution with independent features."""
    return (-0.5 * (((x - mean) / std) ** 2 + LOG_2PI) - std.log()).sum(-1)
