"""Kernel estimates in the latent space: within their box, by fast sums where there is no noise."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch

from .._core.arrays import tensor_of
from .._core.distributions.boxed_kernel import BoxedKernelScore
from .._core.distributions.gaussian import GaussianScore
from .._core.distributions.kernel import KernelScore
from .._core.distributions.mixed import MixedScore
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
    kernel : KernelScore
        The kernels alone.
    box : Box or None
    wide : GaussianScore or None
        What the reference has besides the kernels, with the weight ``wide_weight``.
    """

    kernel: KernelScore = field(kw_only=True)
    box: Box | None = None
    wide: GaussianScore | None = None
    wide_weight: float = 0.0

    def log_density(self, Z, context=None):
        Z, inside = self._placed(Z)
        values, n_missed = np.full(len(Z), -np.inf), 0
        if self._sums is not None:
            values[inside], _ = self._joined(self._sums.log_sums(Z[inside]), Z[inside])
        elif inside.any():
            values[inside], n_missed = super().log_density(Z[inside], context)
        return values, n_missed

    def gradient(self, Z, context=None):
        Z, inside = self._placed(Z)
        gradients = np.full(Z.shape, np.nan)
        if self._sums is not None:
            gradients[inside] = self._joined_gradient(
                *self._sums.log_sums_and_scores(Z[inside]), Z[inside]
            )
        elif inside.any():
            gradients[inside] = super().gradient(Z[inside], context)
        return gradients

    def score(self, Z, level, context=None):
        if self._sums is None or self.box is not None or self.wide is not None:
            return super().score(Z, level, context)
        a, v = float(level.a), float(level.v)
        if (a, v) not in self._noised_sums:
            # Noised kernels are kernels.
            width = float(np.sqrt((a * self.kernel.bandwidth) ** 2 + v))
            noised = KernelSums(a * self._sums.centers, self._sums.weights, width)
            self._noised_sums[a, v] = noised
        return self._noised_sums[a, v].scores(Z)

    @cached_property
    def _noised_sums(self) -> dict[tuple[float, float], KernelSums]:
        return {}

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

    @cached_property
    def _sums(self) -> KernelSums | None:
        """The sums that are the density; None where a solver or a GPU gives it."""
        kernel = self.kernel
        if self.model is not self.reference or self.device.type != "cpu":
            return None
        weights = kernel.log_weights.exp().numpy()
        return KernelSums(kernel.centers.numpy(), weights, kernel.bandwidth)

    def _joined(self, log_sums: np.ndarray, Z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The log-density, of which kernels have given sums, and what share of it is theirs."""
        if isinstance(self.kernel, BoxedKernelScore):
            log_sums = log_sums - self.kernel.log_mass
        if self.wide is None:
            return log_sums, np.ones(len(Z))
        log_wide = self.wide.log_density(self._tensor(Z), self._clean_level()).numpy()
        log_kernels = log_sums + np.log1p(-self.wide_weight)
        values = np.logaddexp(log_kernels, log_wide + np.log(self.wide_weight))
        return values, np.exp(log_kernels - values)

    def _joined_gradient(
        self, log_sums: np.ndarray, scores: np.ndarray, Z: np.ndarray
    ) -> np.ndarray:
        """The gradient of the log-density, of which kernels have given sums and scores."""
        if self.wide is None:
            return scores
        _, share = self._joined(log_sums, Z)
        wide = self.wide.score(self._tensor(Z), self._clean_level()).numpy()
        return share[:, None] * scores + (1 - share)[:, None] * wide


def kernel_density(
    centers: np.ndarray,
    weights: np.ndarray,
    width: float,
    box: Box | None,
    wide_weight: float,
    device: torch.device,
) -> KernelLatentDensity:
    """The density of weighted Gaussian kernels.

    It is cut to a box where there is one. A standard normal distribution has the weight
    ``wide_weight`` in it.
    """
    parts, d = (tensor_of(centers), width, tensor_of(weights)), centers.shape[1]
    if box is None:
        kernel = KernelScore(*parts)
    else:
        kernel = BoxedKernelScore(*parts, tensor_of(box.low), tensor_of(box.high))
    if wide_weight == 0:
        exact = exact_density(kernel, d, len(centers), device)
        return KernelLatentDensity(**vars(exact), box=box, kernel=kernel)
    one = torch.ones(d, dtype=torch.float64)
    wide = GaussianScore(0 * one, one.diag())
    shares = torch.tensor([1 - wide_weight, wide_weight], dtype=torch.float64)
    exact = exact_density(MixedScore([kernel, wide], shares), d, len(centers), device)
    return KernelLatentDensity(
        **vars(exact), box=box, kernel=kernel, wide=wide, wide_weight=wide_weight
    )
