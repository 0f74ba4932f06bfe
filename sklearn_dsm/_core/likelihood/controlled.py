r"""Reverse diffusions that a correction of the score steers, and what each path weighs.

A step between two noise levels is a normal kernel. With :math:`\alpha` the ratio of the signals,
:math:`w = v_s - \alpha^2 v_t` the noise that the step from the cleaner level t to the noisier
level s adds, and the score at s,

.. math:: Y_t \mid Y_s \sim N\left( \frac{Y_s + w\, s(Y_s)}{\alpha}, \sigma^2 I \right), \qquad
    \sigma^2 = \frac{v_t w}{v_s} + \frac{w^2}{\alpha^2 v_s} \left( 1 - v_s E[s^2] \right),

where the mean is exact, and the variance is the mean of the exact one, which the mean square of the
base's score tells [AnalyticDPM]_. A base and a corrected score have kernels of this variance. Their
means differ by :math:`\sigma u = w c / \alpha` for the correction c, so the density ratio of the
two chains along a path is exact, whatever the correction and the number of steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..noise.level import NoiseLevel
from ..noise.level_sampling import LogisticLevels, SolverLevels
from ..random import standard_normal
from ..scores.corrected import CorrectedScore
from ..scores.model import ScoreModel

# Base score and correction (n, d) of rows (n, d) at a log-SNR.
Control = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class StepKernel(NamedTuple):
    """The kernel of one step: the mean is ``(y + added * score) / ratio``.

    ``log_snr`` is that of the level where it starts, and ``deviation`` of shape (d,).
    """

    log_snr: Tensor
    ratio: Tensor
    added: Tensor
    deviation: Tensor

    @classmethod
    def between(cls, noisier: Tensor, cleaner: Tensor, mean_square: Tensor) -> StepKernel:
        """That of two log-SNRs, for a score of this mean square (d,) at the noisier level."""
        s, t = NoiseLevel.from_log_snr(noisier), NoiseLevel.from_log_snr(cleaner)
        # v_s - ratio^2 v_t, without a difference of nearly equal numbers.
        log_signal = torch.nn.functional.logsigmoid
        added = -torch.expm1(log_signal(noisier) - log_signal(cleaner))
        ratio = s.a / t.a
        share = (1 - s.v * mean_square).clamp(0, 1)
        variance = added / s.v * (t.v + added / ratio**2 * share)
        return cls(noisier, ratio, added, variance.sqrt())

    @classmethod
    def stacked(cls, kernels: Sequence[StepKernel]) -> StepKernel:
        """Several kernels as one, for rows (n_kernels, n, d)."""
        parts = (torch.stack(part) for part in zip(*kernels, strict=True))
        return cls(*(part.reshape(len(kernels), 1, -1) for part in parts))

    def chosen(self, which: Any) -> StepKernel:
        """Some of several."""
        return StepKernel(*(part[which] for part in self))

    def mean(self, y: Tensor, score: Tensor) -> Tensor:
        """The mean of the next rows."""
        return (y + self.added * score) / self.ratio

    def control(self, correction: Tensor) -> Tensor:
        """The difference of the two means, in standard deviations."""
        return self.added * correction / (self.ratio * self.deviation)


def kernels_of(
    base: ScoreModel,
    clean: Tensor,
    levels: LogisticLevels,
    n_steps: int,
    generator: torch.Generator,
) -> list[StepKernel]:
    """The kernels of a chain from noise to data.

    Parameters
    ----------
    base : ScoreModel
    clean : Tensor of shape (n, d)
        Rows of the base, which are noised to take mean squares of the score.
    levels : LogisticLevels
    n_steps : int
    generator : torch.Generator
    """
    found = []
    for noisier, cleaner in pairwise(SolverLevels(levels.low, levels.high).grid(n_steps, clean)):
        level = NoiseLevel.from_log_snr(noisier)
        rows = level.a * clean + level.v.sqrt() * standard_normal(clean.shape, clean, generator)
        mean_square = base.score(rows, level).square().mean(0)
        found.append(StepKernel.between(noisier, cleaner, mean_square))
    return found


class Step(NamedTuple):
    """A step that was taken: where from, by which kernel, and the control."""

    rows: Tensor
    kernel: StepKernel
    control: Tensor


class Paths(NamedTuple):
    """Ends (n, d) of paths, and the logarithms (n,) of base chain over controlled chain."""

    rows: Tensor
    log_ratio: Tensor


def control_of(model: CorrectedScore) -> Control:
    """The base score and the correction of a network that corrects it."""

    def control(y: Tensor, log_snr: Tensor) -> tuple[Tensor, Tensor]:
        level = NoiseLevel.from_log_snr(log_snr)
        noise, correction = model.noise_and_correction(y, level)
        return -noise / level.v.sqrt(), -correction.to(y.dtype) / level.v.sqrt()

    return control


def difference_of(base: ScoreModel, tilted: ScoreModel) -> Control:
    """The same of two score models."""

    def control(y: Tensor, log_snr: Tensor) -> tuple[Tensor, Tensor]:
        level = NoiseLevel.from_log_snr(log_snr)
        score = base.score(y, level)
        return score, tilted.score(y, level) - score

    return control


def controlled_paths(
    control: Control,
    start: Tensor,
    kernels: Sequence[StepKernel],
    generator: torch.Generator,
    watch: Callable[[Step], None] = lambda step: None,
) -> Paths:
    """Follow the controlled chain from draws at the noisiest level.

    Parameters
    ----------
    control : Control
    start : Tensor of shape (n, d)
    kernels : sequence of StepKernel
        From noise to data.
    generator : torch.Generator
    watch : callable (Step) -> None, optional
        Sees every step.
    """
    rows, log_ratio = start, start.new_zeros(len(start))
    for kernel in kernels:
        score, correction = control(rows, kernel.log_snr)
        u = kernel.control(correction)
        watch(Step(rows, kernel, u))
        noise = standard_normal(rows.shape, rows, generator)
        log_ratio = log_ratio - (u * noise).sum(1) - 0.5 * u.square().sum(1)
        rows = kernel.mean(rows, score) + kernel.deviation * (u + noise)
    return Paths(rows, log_ratio)


def lean_adjoints(base: ScoreModel, steps: list[Step], end: Tensor) -> list[Tensor]:
    r"""The adjoints behind every step, carried back through the base chain alone.

    .. math:: a_K = -\nabla r(Y_K), \qquad
        a_k = \left( \frac{\partial m_k}{\partial y}(Y_k) \right)^T a_{k+1}

    for the means :math:`m_k` of the base chain. Without control, :math:`a_0` is minus the gradient
    of :math:`r(Y_K)` in the start, for the noise that was drawn.

    Parameters
    ----------
    base : ScoreModel
    steps : list of Step
    end : Tensor of shape (n, d)
        :math:`a_K`.

    Returns
    -------
    list of Tensor of shape (n, d)
        :math:`a_1` to :math:`a_K`, and :math:`a_0` before them.

    References
    ----------
    [AdjointMatching]_
    """
    adjoints = [end]
    for step in reversed(steps):
        with torch.enable_grad():
            rows = step.rows.detach().requires_grad_()
            score = base.score(rows, NoiseLevel.from_log_snr(step.kernel.log_snr))
            through = torch.autograd.grad(score, rows, adjoints[-1])[0]
        adjoints.append((adjoints[-1] + step.kernel.added * through) / step.kernel.ratio)
    return adjoints[::-1]
