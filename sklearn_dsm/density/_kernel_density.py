"""Kernel estimates in the latent space: within their box, by fast sums where there is no noise."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from .._core.arrays import tensor_of
from .._core.distributions.boxed_kernel import BoxedKernelScore
from .._core.distributions.kernel import KernelScore
from .._core.random import torch_generator
from .._evaluation.latent_density import LatentDensity, chunks, exact_density
from ._boundaries import Box
from ._kernel_sums import KernelSums

DRAWS_AT_ONCE = 2**14


@dataclass(frozen=True)
class KernelLatentDensity(LatentDensity):
    """The density of a kernel estimate, zero outside of a box.

    On a CPU, log-densities and their gradients are those of :class:`KernelSums`. Periodic features
    are moved into the box first.

    Attributes
    ----------
    box : Box or None
    """

    box: Box | None = None

    def log_density(self, Z, context=None):
        Z, inside = self._placed(Z)
        values, n_missed = np.full(len(Z), -np.inf), 0
        if self._sums is not None:
            values[inside] = self._sums.log_sums(Z[inside]) - self._log_mass
        elif inside.any():
            values[inside], n_missed = super().log_density(Z[inside], context)
        return values, n_missed

    def gradient(self, Z, context=None):
        Z, inside = self._placed(Z)
        gradients = np.full(Z.shape, np.nan)
        if self._sums is not None:
            gradients[inside] = self._sums.scores(Z[inside])
        elif inside.any():
            gradients[inside] = super().gradient(Z[inside], context)
        return gradients

    @torch.no_grad()
    def sample(self, n, method, seed, context=None):
        if self.model is not self.reference:
            return super().sample(n, method, seed, context)
        generator, rows = torch_generator(seed, self.device), np.empty((n, self.n_features))
        for part in chunks(n, DRAWS_AT_ONCE):
            size = min(part.stop, n) - part.start
            draws = self.reference.sample(size, self._clean_level(), generator)
            rows[part] = draws.cpu().numpy()
        return rows

    def _placed(self, Z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Samples, periodic features moved into the box, and which of them are in it."""
        if self.box is None:
            return Z, np.ones(len(Z), dtype=bool)
        Z = self.box.wrapped(Z)
        return Z, self.box.contains(Z)

    @property
    def kernel(self) -> KernelScore:
        """The kernel estimate, of which the score may be that of the model at some levels only."""
        assert isinstance(self.reference, KernelScore)
        return self.reference

    @cached_property
    def _sums(self) -> KernelSums | None:
        """The sums that are the density; None where a solver or a GPU gives it."""
        kernel = self.kernel
        if self.model is not kernel or self.device.type != "cpu":
            return None
        weights = kernel.log_weights.exp().numpy()
        return KernelSums(kernel.centers.numpy(), weights, kernel.bandwidth)

    @property
    def _log_mass(self) -> float:
        return self.reference.log_mass if isinstance(self.reference, BoxedKernelScore) else 0.0


def kernel_density(
    centers: np.ndarray, weights: np.ndarray, width: float, box: Box | None, device: torch.device
) -> KernelLatentDensity:
    """The density of weighted Gaussian kernels, cut to a box where there is one."""
    parts = tensor_of(centers), width, tensor_of(weights)
    if box is None:
        model = KernelScore(*parts)
    else:
        model = BoxedKernelScore(*parts, tensor_of(box.low), tensor_of(box.high))
    exact = exact_density(model, centers.shape[1], len(centers), device)
    return KernelLatentDensity(**vars(exact), box=box)
