"""What the network of a tilted density learns from its own paths."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod

import torch
from torch import Tensor

from .._core.arrays import tensor_of
from .._core.likelihood.controlled import Step, StepKernel, control_of, lean_adjoints
from .._core.likelihood.guided import GuidedStep, log_ratios, transport_residual, velocity_of
from .._core.noise.level import NoiseLevel
from .._core.scores.corrected import CorrectedScore
from .._core.scores.network import ScoreNetwork
from .._evaluation.latent_density import LatentDensity
from ._tilted_density import TiltedDensity

# Paths that are simulated together, and the steps of theirs that a gradient takes.
N_PATHS, N_STEPS = 512, 8
# Paths of which a gradient takes all steps.
N_VARIED = 128


class Lesson(metaclass=ABCMeta):
    """A set of paths, and losses of the network on it.

    Parameters
    ----------
    base : LatentDensity
    network : ScoreNetwork
        In float64.
    """

    guided = True

    def __init__(self, base: LatentDensity, network: ScoreNetwork):
        self.model = CorrectedScore(base.model, network)

    @abstractmethod
    def prepare(self, density: TiltedDensity, generator: torch.Generator) -> None:
        """Simulate paths of the density, whose model is this network."""

    @abstractmethod
    def loss(self, generator: torch.Generator) -> Tensor:
        """A loss on some steps of the paths."""


class AdjointMatching(Lesson):
    r"""Regress the control on lean adjoints of its own paths.

    The mean of :math:`|u_k + \sigma_k a_{k+1}|^2` over some steps of every path is minimised by the
    conditional mean of :math:`-\sigma_k a_{k+1}` [AdjointMatching]_.
    """

    guided = False

    @torch.no_grad()
    def prepare(self, density, generator):
        steps: list[Step] = []
        paths = density.follow(N_PATHS, generator, steps.append)
        adjoints = lean_adjoints(density.base.model, steps, -density.slope(paths.rows))[1:]
        self.targets = -torch.stack(
            [a * step.kernel.deviation for a, step in zip(adjoints, steps, strict=True)]
        )
        self.rows = torch.stack([step.rows for step in steps])
        self.kernels = StepKernel.stacked([step.kernel for step in steps])

    def loss(self, generator):
        chosen = _some(len(self.rows), generator)
        kernel = self.kernels.chosen(chosen)
        _, correction = control_of(self.model)(self.rows[chosen], kernel.log_snr)
        return (kernel.control(correction) - self.targets[chosen]).square().sum(-1).mean()


class _Guided(Lesson):
    @torch.no_grad()
    def prepare(self, density, generator):
        steps: list[GuidedStep] = []
        paths = density.follow(N_PATHS, generator, steps.append)
        self.steps, self.ends = GuidedStep.stacked(steps), paths.rows


class LogVariance(_Guided):
    r"""The variance of :math:`\log w` over guided paths, which are not differentiated [CMCD]_."""

    def prepare(self, density, generator):
        super().prepare(density, generator)
        self.log_weight = tensor_of(density.weight.values(self.ends.numpy()))

    def loss(self, generator):
        possible = torch.isfinite(self.log_weight).nonzero()[:, 0]
        some = possible[torch.randperm(len(possible), generator=generator)[:N_VARIED]]
        steps = self.steps.of_paths(some)
        return (log_ratios(self.model, steps, self.ends[some]) + self.log_weight[some]).var()


class TransportResidual(_Guided):
    """The variance of what the velocity leaves of the equation of continuity [NETS]_."""

    def loss(self, generator):
        step = self.steps.chosen(_some(len(self.steps.rows), generator))
        level = NoiseLevel.from_log_snr(step.kernel.log_snr)
        output, trace = self.model.network.forward_and_divergence(step.rows, level.log_snr)
        divergence = -trace / level.v.sqrt().squeeze(-1)
        residual = transport_residual(step, velocity_of(output, level), divergence, level)
        return residual.var(1).mean()


def _some(n_steps: int, generator: torch.Generator) -> Tensor:
    return torch.randperm(n_steps, generator=generator)[:N_STEPS]


PATH_METHODS: dict[str, type[Lesson]] = {
    "adjoint": AdjointMatching,
    "cmcd": LogVariance,
    "nets": TransportResidual,
}
