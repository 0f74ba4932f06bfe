"""A density of several features below a kernel estimate, by which it is drawn from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from scipy.special import logsumexp
from torch import Tensor
from torch.quasirandom import SobolEngine

from .._core.arrays import tensor_of
from .._core.distributions.kernel import KernelScore
from .._core.noise.level import NoiseLevel
from .._core.random import torch_generator
from .._evaluation.latent_density import LatentDensity

# Widths of the two kernels in those of the components, and the wider one's share.
NARROW, WIDE, WIDE_SHARE = 0.5, 1.5, 0.1
MAX_CENTERS, PROPOSALS_AT_ONCE = 4096, 512
# The bound is so many times the largest ratio that draws have shown, or less where a draw would
# take more than so many proposals.
MARGIN, MAX_PROPOSALS = 1.5, 30.0


class Envelope(NamedTuple):
    """A kernel estimate with two widths, and how far above it a density may lie.

    Attributes
    ----------
    centers : ndarray of shape (k, d)
    weights : ndarray of shape (k,)
    scale : float
        Width of the components.
    log_bound : float
        Logarithm of the largest ratio of the density, as yet without its mass, to the estimate.
    """

    centers: np.ndarray
    weights: np.ndarray
    scale: float
    log_bound: float

    @classmethod
    def around(
        cls, Z: np.ndarray, share: np.ndarray, scale: float, generator: torch.Generator
    ) -> Envelope:
        """Of as many rows as are fast, with no bound as yet."""
        chosen = torch.randperm(len(Z), generator=generator)[:MAX_CENTERS].numpy()
        # In order, so that even draws are spread over the rows as evenly as they can be.
        chosen = chosen[np.argsort(Z[chosen, 0])]
        weights = share[chosen] / share[chosen].sum()
        return cls(Z[chosen], weights, scale, float(np.inf))

    def log_density(self, z: Tensor) -> Tensor:
        """Log-densities (n,) of the kernel estimate."""
        clean = NoiseLevel.clean(z)
        narrow, wide = (kernel.log_density(z, clean) for kernel in self._kernels(z))
        return torch.logaddexp(
            narrow + float(np.log(1 - WIDE_SHARE)), wide + float(np.log(WIDE_SHARE))
        )

    def sample(self, uniform: Tensor) -> Tensor:
        """Draws (n, d) of the kernel estimate from uniform numbers (n, d + 2)."""
        uniform = uniform.clamp(1e-12, 1 - 1e-12)
        cumulated = self.weights.cumsum()
        k = np.searchsorted(cumulated, uniform[:, 0].numpy() * cumulated[-1])
        width = torch.where(uniform[:, 1:2] < WIDE_SHARE, WIDE, NARROW) * self.scale
        return tensor_of(self.centers[k]) + width * torch.special.ndtri(uniform[:, 2:])

    def _kernels(self, z: Tensor) -> tuple[KernelScore, KernelScore]:
        centers, weights = tensor_of(self.centers).to(z), tensor_of(self.weights).to(z)
        return (
            KernelScore(centers, NARROW * self.scale, weights),
            KernelScore(centers, WIDE * self.scale, weights),
        )


@dataclass(frozen=True)
class EnvelopeDensity(LatentDensity):
    """The identity's density where it is below a multiple of a kernel estimate, which bounds it.

    Draws are those of the estimate, accepted with the ratio of the density to the multiple.
    """

    envelope: Envelope = field(kw_only=True)

    def sample(
        self, n: int, method: str, seed: int, context: np.ndarray | None = None
    ) -> np.ndarray:
        envelope, log_bound = self.envelope, self._log_bound
        generator = torch_generator(seed)
        parts: list[np.ndarray] = []
        n_left = n
        while n_left > 0:
            # The envelope has so many times the density's mass.
            size = min(int(1.1 * n_left * np.exp(log_bound)) + 16, PROPOSALS_AT_ONCE)
            uniform = torch.rand(
                size, self.n_features + 3, generator=generator, dtype=torch.float64
            )
            proposals = envelope.sample(uniform[:, :-1])
            ceiling = envelope.log_density(proposals).numpy() + log_bound
            value, _ = self.log_density(proposals.numpy())
            accepted = uniform[:, -1].log().numpy() < value - ceiling
            parts.append(proposals.numpy()[accepted][:n_left])
            n_left -= len(parts[-1])
        return np.concatenate(parts)

    def _log_density(self, z: Tensor, context: Tensor | None) -> tuple[Tensor, int]:
        value, n_missed = super()._log_density(z, context)
        return torch.minimum(value, self.envelope.log_density(z) + self._log_bound), n_missed

    @property
    def _log_bound(self) -> float:
        """The logarithm of the envelope's multiple that bounds the density."""
        return self.envelope.log_bound - self.log_mass


def bounded(
    envelope: Envelope, density: LatentDensity, n_draws: int
) -> tuple[Envelope, float, float]:
    """The envelope with a bound for a density, its logarithmic mass, and a sample's acceptance."""
    sobol = SobolEngine(density.n_features + 2, scramble=True, seed=0)
    draws = envelope.sample(sobol.draw(n_draws, dtype=torch.float64))
    value, _ = density.log_density(draws.numpy())
    ratio = value - torch.cat([envelope.log_density(part) for part in draws.split(512)]).numpy()
    log_mass = float(logsumexp(ratio) - np.log(n_draws))
    log_bound = min(float(ratio.max()) + np.log(MARGIN), log_mass + np.log(MAX_PROPOSALS))
    log_mass = float(logsumexp(np.minimum(ratio, log_bound)) - np.log(n_draws))
    return envelope._replace(log_bound=log_bound), log_mass, float(np.exp(log_mass - log_bound))
