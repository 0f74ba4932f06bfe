"""The tilted density in the latent space of its base."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from itertools import count
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
from ._weights import branch_generator, branch_steps

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
        return rows, np.concatenate([self._log_weights(path) for path in found])

    @torch.no_grad()
    def paths(self, n: int, seed: int) -> Iterator[Paths]:
        """Chunks of n paths."""
        generator = torch_generator(seed)
        for part in chunks(n, CHUNK_PATHS):
            yield self.follow(min(part.stop, n) - part.start, generator)

    @torch.no_grad()
    def trajectories(self, n, method, seed):
        generator, found = torch_generator(seed), []
        for part in chunks(n, CHUNK_PATHS):
            steps: list[Any] = []
            end = self.follow(min(part.stop, n) - part.start, generator, steps.append)
            found.append(torch.stack([*(step.rows for step in steps), end.rows]))
        return torch.cat(found, 1).numpy()

    @torch.no_grad()
    def branched_weights(
        self, n: int, seed: int, n_moments: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Log-weights of the paths of :meth:`weighted_sample`, and of others that branch off.

        Returns
        -------
        log_weights : ndarray of shape (n,)
        steps : ndarray of shape (n_branches + 1,)
            From 0 to the last one, after which nothing branches off.
        others : ndarray of shape (n_branches, n)
            Of paths that are the same up to a step, and have other noise after it.
        """
        generator, seeds = torch_generator(seed), branch_generator(seed)
        steps = branch_steps(len(self.kernels), n_moments)
        log_weights, others = [], []
        for part in chunks(n, CHUNK_PATHS):
            size, begun = min(part.stop, n) - part.start, generator.get_state()
            log_weights.append(self._log_weights(self.follow(size, generator)))
            ends = [self._branched(size, begun, step, seeds) for step in steps[:-1]]
            others.append(np.stack([self._log_weights(end) for end in ends]))
        return np.concatenate(log_weights), steps, np.concatenate(others, 1)

    def _branched(self, n: int, begun: Tensor, step: int, seeds: torch.Generator) -> Paths:
        """Paths from a generator's state, whose noise is that of another seed after a step."""
        generator, numbers = torch.Generator(), count()
        generator.set_state(begun)
        seed = int(torch.randint(2**31 - 1, (), generator=seeds))

        def watch(_: Any) -> None:
            if next(numbers) == step:
                generator.manual_seed(seed)

        return self.follow(n, generator, watch)

    def _log_weights(self, end: Paths) -> np.ndarray:
        return end.log_ratio.numpy() + self.weight.values(end.rows.numpy())

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
