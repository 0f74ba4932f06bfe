r"""Reverse diffusions along tilted densities: guided steps, forwards and backwards, and weights.

With the weight :math:`r_s(x) = r(a x)` at the noise level of signal a and variance v, a path goes
along the densities

.. math:: \rho_s \propto p_s e^{r_s}, \qquad q = \nabla r_s(x) = a \nabla r(a x),

from the noise, where :math:`r_s` is constant, to the tilted density. For a normal base with unit
variance and a linear r, this is the noised tilted density. A velocity n, in units of half the noise
that a step adds, is learned. A step forwards adds :math:`\tfrac12 (n + q)` to the score; a step
backwards moves the mean of the noising kernel of added variance w,

.. math:: B(x \mid x') = N\left( \alpha x' - \tfrac{w}{2} (n - q)(x'), w I \right).

The weight of a path is

.. math::
    \log w = r(X_K) + \sum_k \left( \log \frac{B_k}{B^0_k} - \log \frac{F_k}{F^0_k} \right)

with the kernels :math:`F^0, B^0` of the base, which cancel each other in the limit of small steps:
Crooks' relation. Its mean is then the normalising constant, for any n [CMCD]_, [Unified]_.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..noise.level import NoiseLevel
from ..random import standard_normal
from ..scores.corrected import CorrectedScore
from .controlled import Paths, StepKernel

# Gradients (n, d) of a log-weight at rows (n, d).
Slope = Callable[[Tensor], Tensor]
# Half of a guide moves each feature's mean by no more than half of so many standard deviations of
# the step's noise.
LARGEST_MOVE = 5.0


class GuidedStep(NamedTuple):
    """Where a step starts, its kernel, and the base's score and the guide q there."""

    rows: Tensor
    kernel: StepKernel
    score: Tensor
    guide: Tensor

    @classmethod
    def stacked(cls, steps: Sequence[GuidedStep]) -> GuidedStep:
        """Several steps as one, with a leading axis."""
        rows, kernels, scores, guides = zip(*steps, strict=True)
        return cls(
            torch.stack(rows),
            StepKernel.stacked(kernels),
            torch.stack(scores),
            torch.stack(guides),
        )

    def chosen(self, which: Any) -> GuidedStep:
        """Some of several."""
        rows, kernel, score, guide = self
        return GuidedStep(rows[which], kernel.chosen(which), score[which], guide[which])

    def of_paths(self, which: Any) -> GuidedStep:
        """Some of the paths of several steps."""
        rows, kernel, score, guide = self
        return GuidedStep(rows[:, which], kernel, score[:, which], guide[:, which])


class Drive(NamedTuple):
    """What is added to the score of a step forwards, and of the step backwards from its rows."""

    ahead: Tensor
    behind: Tensor

    @classmethod
    def of(cls, step: GuidedStep, velocity: Tensor) -> Drive:
        """That of a velocity n and a guide of bounded size."""
        moved = step.kernel.control(step.guide)
        guide = step.guide / (1 + (moved / LARGEST_MOVE) ** 2).sqrt()
        return cls(0.5 * (velocity + guide), 0.5 * (velocity - guide))


def forward_ratio(step: GuidedStep, ahead: Tensor, following: Tensor) -> Tensor:
    """Log-ratio (..., n) of the guided kernel to the base's, of steps that end at these rows."""
    kernel = step.kernel
    noise = (following - kernel.mean(step.rows, step.score)) / kernel.deviation
    u = kernel.control(ahead)
    return (u * noise - 0.5 * u**2).sum(-1)


def backward_ratio(step: GuidedStep, behind: Tensor, following: Tensor) -> Tensor:
    """The same of the kernels that lead from the rows where a step ended to where it started."""
    kernel = step.kernel
    noise = (step.rows - kernel.ratio * following) / kernel.added.sqrt()
    u = -kernel.added.sqrt() * behind
    return (u * noise - 0.5 * u**2).sum(-1)


def velocity_of(output: Tensor, level: NoiseLevel) -> Tensor:
    """The velocity n that a network predicts in units of the noise, as it does corrections."""
    return -output / level.v.sqrt()


def guided_paths(
    model: CorrectedScore,
    slope: Slope,
    start: Tensor,
    kernels: Sequence[StepKernel],
    generator: torch.Generator,
    watch: Callable[[GuidedStep], None] = lambda step: None,
) -> Paths:
    """Follow guided steps from draws at the noisiest level.

    The last step has no guide backwards, which would need the score of clean rows.

    Parameters
    ----------
    model : CorrectedScore
        The base's score, and the network that gives the velocity.
    slope : callable
        Gradients of r.
    start : Tensor of shape (n, d)
    kernels : sequence of StepKernel
        From noise to data.
    generator : torch.Generator
    watch : callable (GuidedStep) -> None, optional
        Sees every step.
    """
    rows, log_ratio, last = start, start.new_zeros(len(start)), None
    for kernel in kernels:
        level = NoiseLevel.from_log_snr(kernel.log_snr)
        noise, output = model.noise_and_correction(rows, level)
        step = GuidedStep(rows, kernel, -noise / level.v.sqrt(), level.a * slope(level.a * rows))
        watch(step)
        drive = Drive.of(step, velocity_of(output.to(rows.dtype), level))
        if last is not None:
            log_ratio = log_ratio + backward_ratio(last, drive.behind, rows)
        drawn = kernel.control(drive.ahead) + standard_normal(rows.shape, rows, generator)
        rows = kernel.mean(rows, step.score) + kernel.deviation * drawn
        log_ratio = log_ratio - forward_ratio(step, drive.ahead, rows)
        last = step
    return Paths(rows, log_ratio)


def log_ratios(model: CorrectedScore, steps: GuidedStep, ends: Tensor) -> Tensor:
    """Log-ratios (n,) of all steps of given paths, which torch differentiates in the network."""
    level = NoiseLevel.from_log_snr(steps.kernel.log_snr)
    output = model.network(steps.rows, level.log_snr)
    drive = Drive.of(steps, velocity_of(output, level))
    following = torch.cat([steps.rows[1:], ends[None]])
    backward = backward_ratio(steps.chosen(slice(-1)), drive.behind[1:], following[:-1])
    return backward.sum(0) - forward_ratio(steps, drive.ahead, following).sum(0)


def transport_residual(
    step: GuidedStep, velocity: Tensor, divergence: Tensor, level: NoiseLevel
) -> Tensor:
    r"""What a velocity n leaves of the equation of continuity, (..., n), by log-SNR.

    .. math:: \tfrac{v}{2} \left( (2 x + s) \cdot q + \nabla \cdot n + n \cdot (s + q) \right)

    for the base's score s. It is the same for all x if and only if n carries :math:`\rho_s` along.
    Its integral over the log-SNR along a path of the velocity, with or without Langevin noise, is
    the logarithm of a weight whose mean is the normalising constant: Jarzynski's equality
    [NETS]_.
    """
    x, _, s, q = step
    inner = ((2 * x + s) * q).sum(-1) + divergence + (velocity * (s + q)).sum(-1)
    return 0.5 * level.v.squeeze(-1) * inner
