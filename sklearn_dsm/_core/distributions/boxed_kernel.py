"""Gaussian kernel estimates within known bounds, at every noise level."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..constants import LOG_2PI
from ..noise.level import NoiseLevel
from ..random import standard_normal
from .kernel import KernelScore
from .mixture import choose_components

# Standard deviations beyond which a normal distribution has no mass that float64 knows.
FAR = 50.0


class BoxedKernelScore(KernelScore):
    r"""Data from a Gaussian kernel estimate that is cut to a box,

    .. math:: p(x) = \frac{1}{M} \sum_i w_i \varphi_h(x - x_i) \, 1[l \le x \le u].

    Given a kernel, the features are independent. The noised data :math:`a X_0 + \sqrt v Z` at y
    have, in each feature, the density :math:`N(y; a x_i, V)` with :math:`V = a^2 h^2 + v`, times
    the mass that :math:`X_0 \mid y`, a normal of mean :math:`x_i + a h^2 (y - a x_i) / V` and
    variance :math:`h^2 v / V`, has within the bounds.

    Parameters
    ----------
    centers : Tensor of shape (k, d)
        Within the box or outside of it.
    bandwidth : float, positive
    weights : Tensor of shape (k,), positive
    low, high : Tensor of shape (d,)
        The bounds; infinite at open ends.
    """

    log_kernel_masses: Tensor
    low: Tensor
    high: Tensor

    def __init__(
        self, centers: Tensor, bandwidth: float, weights: Tensor, low: Tensor, high: Tensor
    ):
        super().__init__(centers, bandwidth, weights)
        self.register_buffer("low", low)
        self.register_buffer("high", high)
        self.bounded = (low.isfinite() | high.isfinite()).nonzero()[:, 0].tolist()
        masses = torch.zeros_like(self.log_weights)
        for j in self.bounded:
            masses += self._inside(centers[:, j], bandwidth, j).log_mass
        self.register_buffer("log_kernel_masses", self.log_weights + masses)
        self.log_mass = float(self.log_kernel_masses.logsumexp(0))

    def _inside(self, mean: Tensor, deviation: Tensor | float, j: int) -> Truncated:
        """A normal distribution within the bounds of a feature."""
        low, high = (self.low[j] - mean) / deviation, (self.high[j] - mean) / deviation
        # Open ends are finite here, so that gradients are.
        if not self.low[j].isfinite():
            low = (high.clamp(max=0) - FAR).detach()
        if not self.high[j].isfinite():
            high = (low.clamp(min=0) + FAR).detach()
        return truncated(low, high)

    def _posterior(self, x: Tensor, level: NoiseLevel, j: int) -> Truncated:
        """What the kernels (n, k) have of a feature of X_0, given noised rows."""
        variance = self._variance(level)
        center = self.centers[:, j]
        mean = (
            center + level.a * self.bandwidth**2 * (x[..., j, None] - level.a * center) / variance
        )
        return self._inside(mean, self.bandwidth * (level.v / variance).sqrt(), j)

    def _outside(self, x: Tensor) -> Tensor:
        return ((x < self.low) | (x > self.high)).any(-1)

    def log_density(self, x: Tensor, level: NoiseLevel, context: Tensor | None = None) -> Tensor:
        log_joint = self._log_joint(x, level)
        if _is_clean(level):
            inside = log_joint.logsumexp(-1) - self.log_mass
            return torch.where(self._outside(x), -torch.inf, inside)
        for j in self.bounded:
            log_joint = log_joint + self._posterior(x, level, j).log_mass
        return log_joint.logsumexp(-1) - self.log_mass

    def score_and_jacobian_diagonal(
        self, x: Tensor, level: NoiseLevel, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        if _is_clean(level):
            score, diagonal = super().score_and_jacobian_diagonal(x, level)
            outside = self._outside(x)[..., None]
            return score.masked_fill(outside, torch.nan), diagonal.masked_fill(outside, torch.nan)
        posteriors = {j: self._posterior(x, level, j) for j in self.bounded}
        log_joint = self._log_joint(x, level)
        for posterior in posteriors.values():
            log_joint = log_joint + posterior.log_mass
        share, variance = log_joint.softmax(-1), self._variance(level)
        gain = level.a * self.bandwidth * (1 / (variance * level.v)).sqrt()
        parts = []
        for j in range(x.shape[-1]):
            # Each kernel's own score and its derivative; their mean and spread over the kernels.
            pull = -(x[..., j, None] - level.a * self.centers[:, j]) / variance
            slope = (-1 / variance).expand_as(pull)
            if j in posteriors:
                pull = pull + gain * posteriors[j].mean
                slope = slope + gain**2 * (posteriors[j].variance - 1)
            score = (share * pull).sum(-1)
            centred = pull - score[..., None]
            parts.append((score, (share * (slope + centred.square())).sum(-1)))
        scores, diagonals = zip(*parts, strict=True)
        return torch.stack(scores, -1), torch.stack(diagonals, -1)

    def sample(
        self,
        n: int,
        level: NoiseLevel,
        generator: torch.Generator,
        context: Tensor | None = None,
    ) -> Tensor:
        log_share = self.log_kernel_masses - self.log_mass
        chosen = self.centers[choose_components(n, log_share, generator)]
        clean = chosen + self.bandwidth * standard_normal(chosen.shape, chosen, generator)
        for j in self.bounded:
            low, high = ((end[j] - chosen[:, j]) / self.bandwidth for end in (self.low, self.high))
            drawn = _draw_truncated(low, high, generator)
            clean[:, j] = (chosen[:, j] + self.bandwidth * drawn).clamp(self.low[j], self.high[j])
        if _is_clean(level):
            return clean
        noise = standard_normal(clean.shape, clean, generator)
        return level.a * clean + level.v.sqrt() * noise


class Truncated(NamedTuple):
    """A standard normal variable within bounds: log of its mass, and its mean and variance."""

    log_mass: Tensor
    mean: Tensor
    variance: Tensor


def truncated(low: Tensor, high: Tensor) -> Truncated:
    """Moments of a standard normal variable between bounds, low below high."""
    # The lower tail keeps its digits.
    flipped = low > 0
    start, stop = torch.where(flipped, -high, low), torch.where(flipped, -low, high)
    log_stop = torch.special.log_ndtr(stop)
    log_mass = log_stop + torch.log1p(-torch.exp(torch.special.log_ndtr(start) - log_stop))
    at_start, at_stop = (_density(end, log_mass) for end in (start, stop))
    mean = at_start - at_stop
    variance = 1 + start * at_start - stop * at_stop - mean.square()
    return Truncated(log_mass, torch.where(flipped, -mean, mean), variance.clamp(0, 1))


def _density(x: Tensor, log_mass: Tensor) -> Tensor:
    return torch.exp(-0.5 * (x.square() + LOG_2PI) - log_mass)


def _draw_truncated(low: Tensor, high: Tensor, generator: torch.Generator) -> Tensor:
    """One draw of a standard normal variable between each pair of bounds."""
    flipped = low > 0
    start, stop = torch.where(flipped, -high, low), torch.where(flipped, -low, high)
    uniform = torch.rand(len(low), generator=generator, dtype=low.dtype, device=low.device)
    below, above = torch.special.ndtr(start), torch.special.ndtr(stop)
    drawn = torch.special.ndtri(below + uniform * (above - below)).clamp(start, stop)
    return torch.where(flipped, -drawn, drawn)


def _is_clean(level: NoiseLevel) -> bool:
    """Whether no noise was added, at a level that all rows share."""
    return level.v.dim() == 0 and bool(level.v == 0)
