"""One integrator in log-SNR: the probability-flow ODE and the reverse SDE, and samples by both.

In the log-SNR every linear noise process is the same process up to scale, so the solver
works at variance-preserving levels whatever process the model was trained under.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from ..cuda_graphs import repeated
from ..noise.level import NoiseLevel
from ..noise.level_sampling import LogisticLevels, SolverLevels
from ..random import standard_normal
from ..scores.model import ScoreModel

Field = Callable[[Tensor, Tensor], Tensor]


class Tableau(NamedTuple):
    """An explicit Runge-Kutta method.

    ``stages`` are the coefficients of the second and later stages, at ``nodes``, and in
    the last row those of the step itself. ``error`` weighs the stages and the slope at
    the end of the step into the difference from the embedded method, ``middle`` into the
    state halfway.
    """

    nodes: tuple[float, ...]
    stages: tuple[tuple[float, ...], ...]
    error: tuple[float, ...] = ()
    middle: tuple[float, ...] = ()


class Step(NamedTuple):
    """A step that was taken, from one level to another.

    ``middle`` is the state halfway and ``error`` the local error of the state at the end,
    where ``slope`` is the slope.
    """

    start: Tensor
    end: Tensor
    middle: Tensor
    state: Tensor
    slope: Tensor
    error: Tensor


# Dormand and Prince (1980), order 5 with an embedded method of order 4; the state halfway, of
# order 4, is due to Shampine (1986).
DORMAND_PRINCE = Tableau(
    nodes=(1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0),
    stages=(
        (1 / 5,),
        (3 / 40, 9 / 40),
        (44 / 45, -56 / 15, 32 / 9),
        (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
        (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
        (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
    ),
    error=(71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40),
    middle=(
        6025192743 / 60171106304,
        0.0,
        51252292925 / 130801643196,
        -2691868925 / 90256659456,
        187940372067 / 3189068634112,
        -1776094331 / 39487288512,
        11237099 / 470086768,
    ),
)
EULER = Tableau(nodes=(), stages=((1.0,),))


def _combine(coefficients: tuple[float, ...], slopes: list[Tensor]) -> Tensor:
    terms = (c * k for c, k in zip(coefficients, slopes, strict=True) if c)
    total = next(terms, None)
    if total is None:
        return torch.zeros_like(slopes[0])
    for term in terms:
        total = total + term
    return total


def stepper(
    field: Field,
    tableau: Tableau = DORMAND_PRINCE,
    *,
    after_step: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None,
    watched: bool = True,
) -> Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, ...]]:
    """One step of a method: (state, slope there, start, end) -> (state, slope) at the end.

    A watched step also gives the state halfway and the local error.
    """

    def take(before: Tensor, slope: Tensor, start: Tensor, end: Tensor) -> tuple[Tensor, ...]:
        step, slopes = end - start, [slope]
        for node, row in zip(tableau.nodes, tableau.stages[:-1], strict=False):
            slopes.append(field(before + step * _combine(row, slopes), start + node * step))
        state = before + step * _combine(tableau.stages[-1], slopes)
        if after_step is not None:
            state = after_step(state, start, end)
        slopes.append(field(state, end))
        if not watched:
            return state, slopes[-1]
        middle = before + step * _combine(tableau.middle, slopes)
        return state, slopes[-1], middle, step * _combine(tableau.error, slopes)

    return take


def integrate(
    field: Field,
    state: Tensor,
    grid: Tensor,
    tableau: Tableau = DORMAND_PRINCE,
    *,
    after_step: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None,
    generator: torch.Generator | None = None,
    watch: Callable[[Step], None] | None = None,
) -> Tensor:
    """Integrate ``d state / d level = field(state, level)`` over the levels of a grid.

    Parameters
    ----------
    field : callable (state, level) -> slope
    state : Tensor of shape (n, k)
    grid : Tensor of shape (n_steps + 1,)
        Increasing or decreasing; every row takes the same steps.
    tableau : Tableau
    after_step : callable (state, start, end) -> state, optional
        Applied after every step; the reverse SDE adds its noise here.
    generator : torch.Generator, optional
        What ``after_step`` draws from.
    watch : callable (Step) -> None, optional
        Sees every step.

    Returns
    -------
    Tensor of shape (n, k)
    """

    take = stepper(field, tableau, after_step=after_step, watched=watch is not None)
    take = repeated(take, state.device, generator)
    slope = field(state, grid[0])
    for start, end in pairwise(grid):
        state, slope, *others = take(state, slope, start, end)
        if watch is not None:
            middle, error = others
            watch(Step(start, end, middle, state, slope, error))
    return state


class CleanLeg(NamedTuple):
    """The way between the data and the first noised level: OU time, and the level halfway."""

    time: float
    middle: float

    @classmethod
    def to(cls, log_snr: float) -> CleanLeg:
        """The leg that ends at this log-SNR."""
        time = math.log1p(math.exp(-log_snr)) / 2
        return cls(time, -math.log(math.expm1(time)))

    def cross(self, excess: Field, state: Tensor, direction: int) -> tuple[Tensor, Tensor]:
        """The state at the other end by the midpoint rule, and the state halfway.

        Parameters
        ----------
        excess : callable (state, log_snr) -> slope
            Minus the rate of change of the state in Ornstein-Uhlenbeck time.
        state : Tensor of shape (n, k)
        direction : {1, -1}
            1 towards the data, -1 away from them.
        """
        middle = state.new_tensor(self.middle)
        half = state + direction * self.time / 2 * excess(state, middle)
        return state + direction * self.time * excess(half, middle), half


def noise_rate(log_snr: Tensor) -> Tensor:
    """d(OU time) / d(-log_snr) = v / 2."""
    return torch.sigmoid(-log_snr) / 2


def sample(
    model: ScoreModel,
    start: Tensor,
    levels: LogisticLevels,
    n_steps: int,
    *,
    method: str = "ode",
    generator: torch.Generator | None = None,
    context: Tensor | None = None,
    watch: Callable[[Tensor], None] | None = None,
) -> Tensor:
    r"""Carry draws of the noise end of a process to the data.

    Parameters
    ----------
    model : ScoreModel
    start : Tensor of shape (n, d)
        Draws from the data noised to ``levels.low``, variance preserved.
    levels : LogisticLevels
    n_steps : int
    method : {"ode", "sde"}
        The probability flow :math:`dY = (Y + s)\,dt`, or the reverse diffusion
        :math:`dY = (Y + 2 s)\,dt + \sqrt2\,dW` in Ornstein-Uhlenbeck time.
    generator : torch.Generator, needed by "sde"
    context : Tensor of shape (n, m), optional
        What the density is conditional on.
    watch : callable (Tensor) -> None, optional
        Sees the state after every step, but for the last one, which is returned.

    Returns
    -------
    Tensor of shape (n, d)
    """
    stochastic = method == "sde"

    excess = _excess(model, context)

    def flow(x: Tensor, log_snr: Tensor) -> Tensor:
        return (2 if stochastic else 1) * noise_rate(log_snr) * excess(x, log_snr)

    def refresh(x: Tensor, low: Tensor, high: Tensor) -> Tensor:
        # The rest of the drift, -Y dt + sqrt(2) dW, is an OU process: take it exactly.
        time = (torch.nn.functional.softplus(-low) - torch.nn.functional.softplus(-high)) / 2
        noise = standard_normal(x.shape, x, generator)
        return torch.exp(-time) * x + (-torch.expm1(-2 * time)).sqrt() * noise

    grid = SolverLevels(levels.low, levels.high).grid(n_steps, start)
    x = start
    for part in [grid] if watch is None else grid.unfold(0, 2, 1):
        x = integrate(
            flow,
            x,
            part,
            EULER if stochastic else DORMAND_PRINCE,
            after_step=refresh if stochastic else None,
            generator=generator,
        )
        if watch is not None:
            watch(x)
    return CleanLeg.to(levels.high).cross(excess, x, 1)[0]


def to_noise(
    model: ScoreModel,
    x: Tensor,
    levels: LogisticLevels,
    n_steps: int,
    context: Tensor | None = None,
) -> Tensor:
    """Carry data to the noise end by the probability flow, the way back of :func:`sample`."""
    excess = _excess(model, context)

    def flow(x: Tensor, log_snr: Tensor) -> Tensor:
        return noise_rate(log_snr) * excess(x, log_snr)

    x = CleanLeg.to(levels.high).cross(excess, x, -1)[0]
    return integrate(flow, x, SolverLevels(levels.low, levels.high).grid(n_steps, x).flip(0))


def _excess(model: ScoreModel, context: Tensor | None) -> Field:
    """Minus the rate of change of the flow's state in Ornstein-Uhlenbeck time."""

    def excess(x: Tensor, log_snr: Tensor) -> Tensor:
        return x + model.score(x, NoiseLevel.from_log_snr(log_snr), context)

    return excess
