"""The tilted density in the latent space of its base."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from .._core.arrays import tensor_of
from .._core.likelihood.controlled import Paths, StepKernel, control_of, controlled_paths
from .._core.likelihood.guided import guided_paths
from .._core.noise.level import NoiseLevel
from .._core.random import torch_generator
from .._core.scores.corrected import CorrectedScore
from .._evaluation.latent_density import LatentDensity, chunks
from .._transforms.chain import Chain
from ._callables import RowFunction

# Paths that are followed together; draws depend on it only through the generator's stream.
CHUNK_PATHS = 2**12


class LatentWeight:
    """A log-weight of samples as one of latent rows, with gradients there.

    Parameters
    ----------
    function : RowFunction
        Of samples in input units.
    latent : Chain
        From samples to latent rows.
    """

    def __init__(self, function: RowFunction, latent: Chain):
        self.function, self.latent = function, latent

    def values(self, Z: np.ndarray) -> np.ndarray:
        """Log-weights (n,)."""
        return self.function.values(tensor_of(self.latent.inverse(Z))).numpy()

    def gradients(self, Z: np.ndarray) -> np.ndarray:
        """Gradients (n, d) in the latent rows."""
        X = self.latent.inverse(Z)
        _, gradients = self.function.values_and_gradients(tensor_of(X))
        return self.latent.push_forward(X, gradients.numpy())


@dataclass(frozen=True)
class TiltedDensity(LatentDensity):
    """A density times exp(log-weight), whose score a network has learned.

    Attributes
    ----------
    base : LatentDensity
    weight : LatentWeight
    log_normalizer : float
    kernels : sequence of StepKernel
        Of the paths from noise to data.
    guided : bool
        Whether paths follow the gradient of the weight, and the network gives the velocity along
        them. Then the model is not the score of noised rows.
    """

    base: LatentDensity = field(kw_only=True)
    weight: LatentWeight = field(kw_only=True)
    log_normalizer: float = field(kw_only=True)
    kernels: Sequence[StepKernel] = field(kw_only=True)
    guided: bool = field(kw_only=True, default=False)

    @classmethod
    def of(
        cls,
        base: LatentDensity,
        model: CorrectedScore,
        weight: LatentWeight,
        log_normalizer: float,
        kernels: Sequence[StepKernel],
        guided: bool = False,
    ) -> TiltedDensity:
        """The density of a base and what tilts it."""
        shared = {each.name: getattr(base, each.name) for each in fields(LatentDensity)}
        return cls(
            **shared | {"model": model},
            base=base,
            weight=weight,
            log_normalizer=log_normalizer,
            kernels=kernels,
            guided=guided,
        )

    def log_density(self, Z, context=None):
        values, n_missed = self.base.log_density(Z, context)
        return values + self.weight.values(Z) - self.log_normalizer, n_missed

    def gradient(self, Z, context=None):
        return self.base.gradient(Z, context) + self.weight.gradients(Z)

    def calibrated(self, Z, seconds, context=None):
        return self, len(Z)

    def of_few_doublings(self):
        return self

    def sample(self, n, method, seed, context=None):
        rows = [path.rows.numpy() for path in self.paths(n, seed)]
        return np.concatenate(rows)

    def weighted_sample(self, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows (n, d), and log-weights (n,) whose mean weight is the normaliser."""
        found = list(self.paths(n, seed))
        rows = np.concatenate([path.rows.numpy() for path in found])
        ratios = np.concatenate([path.log_ratio.numpy() for path in found])
        return rows, ratios + self.weight.values(rows)

    @torch.no_grad()
    def paths(self, n: int, seed: int) -> Iterator[Paths]:
        """Chunks of n paths."""
        generator = torch_generator(seed)
        for part in chunks(n, CHUNK_PATHS):
            yield self.follow(min(part.stop, n) - part.start, generator)

    def follow(
        self, n: int, generator: torch.Generator, watch: Callable[[Any], None] = lambda step: None
    ) -> Paths:
        """n paths from the noise end, of which every Step or GuidedStep is watched."""
        model = cast(CorrectedScore, self.model)
        noisiest = NoiseLevel.from_log_snr(self.kernels[0].log_snr)
        start = self.reference.sample(n, noisiest, generator)
        if self.guided:
            return guided_paths(model, self.slope, start, self.kernels, generator, watch)
        return controlled_paths(control_of(model), start, self.kernels, generator, watch)

    def slope(self, z: Tensor) -> Tensor:
        """Gradients of the weight at latent rows."""
        return tensor_of(self.weight.gradients(z.numpy()))
