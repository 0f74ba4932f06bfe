"""What all processes share: how they run, forwards and backwards."""

from __future__ import annotations

import math
from abc import ABCMeta, abstractmethod
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from .._control import Control, Schedule
from .._target import Target

# A step moves means by no more than so many standard deviations of its noise, and so many units.
LARGEST_MOVE, LARGEST_DRIFT = 5.0, 100.0
# A step or state by its number, or several.
Steps = slice | int | Tensor
# Share of a step's length that does not fall to zero at the samples.
FLOOR = 0.0003


@dataclass(frozen=True)
class Path:
    """Chains of states, from noise to samples, and all that their weights need.

    Attributes
    ----------
    states : Tensor of shape (n_steps + 1, n, d)
    gradients : Tensor of shape (n_controlled, n, d), or None
        Of the log-density at the controlled states, which are the first so many.
    controls : Tensor of shape (n_controlled, n, d)
    log_density : Tensor of shape (n,)
        At the last states.
    """

    states: Tensor
    gradients: Tensor | None
    controls: Tensor
    log_density: Tensor


def step_shares(n_steps: int) -> Tensor:
    """Lengths of the steps, which sum to one: long ones at first, short ones at the samples."""
    phase = (torch.arange(n_steps, dtype=torch.float64) + 0.5) / n_steps
    lengths = (0.5 * math.pi * phase).cos() ** 4 + FLOOR
    return lengths / lengths.sum()


class Process(nn.Module, metaclass=ABCMeta):
    """Chains of Gaussian steps with a control, whose weights have the mean Z for any control.

    Parameters
    ----------
    n_features, n_steps : int
    learned : bool
        Whether the scale of the start, for each feature, and what else a process has are learned.
    """

    needs_gradient = False
    guided = True
    # Whether the last state has a control of its own.
    controls_end = False

    def __init__(self, n_features: int, n_steps: int, learned: bool):
        super().__init__()
        self.n_features, self.n_steps = n_features, n_steps
        zeros = torch.zeros(n_features, dtype=torch.float64)
        self.log_scale = nn.Parameter(zeros, requires_grad=learned)

    @property
    def scale(self) -> Tensor:
        return self.log_scale.exp()

    @property
    def controlled(self) -> slice:
        """The numbers of states with a control."""
        return slice(0, self.n_steps + self.controls_end)

    @abstractmethod
    def start(self, noise: Tensor) -> Tensor:
        """First states (n, d) from standard normal numbers."""

    @abstractmethod
    def step_std(self, steps: Steps) -> Tensor:
        """Standard deviations of steps, that of the start being one."""

    @abstractmethod
    def guide(self, x: Tensor, gradients: Tensor, steps: Steps) -> Tensor:
        """What the control is told of the log-density at states with these numbers."""

    @abstractmethod
    def forward_step(self, x: Tensor, gradient, control: Tensor, step: int) -> Tensor:
        """Means (n, d) of the states after a step."""

    @abstractmethod
    def backward_step(self, x: Tensor, gradient, control, step: int, noise: Tensor) -> Tensor:
        """States (n, d) before a step, drawn given those after it."""

    @abstractmethod
    def log_weights(self, path: Path) -> tuple[Tensor, Tensor]:
        """Log-weights (n,) of paths, and the log-densities of generating the paths."""

    def _limit(self, steps: Steps) -> Tensor:
        return (LARGEST_MOVE / self.step_std(steps)).clamp_max(LARGEST_DRIFT)

    def clipped(self, gradients: Tensor, steps: Steps) -> Tensor:
        """Gradients (..., n, d) at states with these numbers, each of a bounded size."""
        limit = self._limit(steps)
        return torch.minimum(torch.maximum(gradients, -limit), limit)

    def simulate(
        self,
        control: Control,
        target: Target,
        n: int,
        generator: torch.Generator | None,
        begun: Path | None = None,
        first: int = 0,
    ) -> Path:
        """Paths from the start to samples, or those that were begun, from their first new step."""

        def normal() -> Tensor:
            return torch.randn(n, self.n_features, generator=generator, dtype=torch.float64)

        with_gradients = control.guided or self.needs_gradient
        schedule = control.schedule()
        if begun is None:
            states, gradients, controls = [self.start(normal())], [], []
        else:
            states, controls = list(begun.states[: first + 1]), list(begun.controls[:first])
            gradients = [] if begun.gradients is None else list(begun.gradients[:first])
        x = states[-1]
        for step in range(first, self.n_steps):
            gradient = target.gradients(x) if with_gradients else None
            u = self.steer(control, schedule, x, gradient, step)
            std = self.step_std(step) * self.scale
            x = self.forward_step(x, gradient, u, step) + std * normal()
            states.append(x)
            gradients.append(gradient)
            controls.append(u)
        if self.controls_end:
            log_density, gradient = target.values_and_gradients(x)
            gradients.append(gradient)
            controls.append(self.steer(control, schedule, x, gradient, self.n_steps))
        else:
            log_density = target.values(x)
        stacked = torch.stack(gradients) if with_gradients else None  # type: ignore[arg-type]
        return Path(torch.stack(states), stacked, torch.stack(controls), log_density)

    @torch.no_grad()
    def reverse(
        self, control: Control, target: Target, x: Tensor, generator: torch.Generator | None
    ) -> Path:
        """Paths from samples of the target back to the start."""
        with_gradients = control.guided or self.needs_gradient
        schedule = control.schedule()
        log_density = target.values(x)
        states, gradients, controls = [x], [], []
        for step in range(self.n_steps, -1, -1):
            gradient = u = None
            if step < self.n_steps or self.controls_end:
                gradient = target.gradients(x) if with_gradients else None
                u = self.steer(control, schedule, x, gradient, step)
                gradients.append(gradient)
                controls.append(u)
            if step:
                noise = torch.randn(*x.shape, generator=generator, dtype=x.dtype)
                x = self.backward_step(x, gradient, u, step - 1, noise)
                states.append(x)
        stacked = torch.stack(gradients[::-1]) if with_gradients else None  # type: ignore[arg-type]
        return Path(torch.stack(states[::-1]), stacked, torch.stack(controls[::-1]), log_density)

    def with_controls(self, path: Path, control: Control) -> Path:
        """The same paths with the controls of a network, through which torch differentiates."""
        x, schedule = path.states[self.controlled], control.schedule()
        controls = self.steer(control, schedule, x, path.gradients, self.controlled)
        return replace(path, controls=controls)

    def steer(
        self, control: Control, schedule: Schedule, x: Tensor, gradients, steps: Steps
    ) -> Tensor:
        """Controls (..., n, d) of states with these numbers, and of a bounded length."""
        guide = self.guide(x, gradients, steps) if control.guided else None
        u = control(x, steps, guide, schedule)
        return u / (1 + (u / self._limit(steps)) ** 2).sqrt()
