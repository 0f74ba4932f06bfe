"""Densities between a normal distribution and a target."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .._core.random import standard_normal
from ._bounds import Bounds
from ._callables import RowFunction
from ._normal import log_normal
from ._target import unbounded_values_and_gradients

# Numbers held at once while the target is evaluated.
CHUNK_NUMBERS = 2**21


class Cloud(NamedTuple):
    """Particles z (n, d) with the target's log-density (n,) and its gradient (n, d)."""

    z: Tensor
    value: Tensor
    gradient: Tensor

    def take(self, index: Tensor) -> Cloud:
        return Cloud(*(part[index] for part in self))

    def where(self, condition: Tensor, other: Cloud) -> Cloud:
        """Own particles where the condition (n,) holds, and the other's elsewhere."""
        wide = condition[:, None]
        return Cloud(
            torch.where(wide, self.z, other.z),
            torch.where(condition, self.value, other.value),
            torch.where(wide, self.gradient, other.gradient),
        )


class GeometricPath:
    """Densities q^(1 - beta) gamma^beta of unbounded particles, with q = N(mean, scale^2).

    The target gamma is the user's density times the Jacobian of the map onto the box.
    """

    def __init__(self, function: RowFunction, bounds: Bounds, mean: Tensor, scale: Tensor):
        self.function, self.bounds = function, bounds
        self.mean, self.scale = mean, scale

    def with_prior(self, mean: Tensor, scale: Tensor) -> GeometricPath:
        """The path from another normal distribution to the same target."""
        return GeometricPath(self.function, self.bounds, mean, scale)

    def draw(self, n: int, generator: torch.Generator) -> Cloud:
        """Particles from q."""
        noise = standard_normal((n, len(self.mean)), self.mean, generator)
        return self.cloud(self.mean + self.scale * noise)

    def cloud(self, z: Tensor) -> Cloud:
        """The particles z with what the target says of them."""
        size = max(1, CHUNK_NUMBERS // z.shape[1])
        parts = [
            unbounded_values_and_gradients(self.function, self.bounds, rows)
            for rows in z.split(size)
        ]
        values, gradients = (torch.cat(part) for part in zip(*parts, strict=True))
        return Cloud(z, values, gradients)

    def log_ratio(self, cloud: Cloud) -> Tensor:
        """Log of gamma / q, the derivative of the log-density along beta."""
        return cloud.value - log_normal(cloud.z, self.mean, self.scale)

    def log_density(self, cloud: Cloud, beta: float) -> Tensor:
        """Unnormalised log-density (n,) at a positive beta."""
        return (1 - beta) * log_normal(cloud.z, self.mean, self.scale) + beta * cloud.value

    def slope(self, cloud: Cloud, beta: float) -> Tensor:
        """Gradient (n, d) of the log-density at beta."""
        return (beta - 1) * (cloud.z - self.mean) / self.scale**2 + beta * cloud.gradient

    def reaches(self, z: Tensor, most: float) -> Tensor:
        """Whether particles (n,) are within so many scales of the mean, feature by feature."""
        return (((z - self.mean) / self.scale).abs() < most).all(1)
