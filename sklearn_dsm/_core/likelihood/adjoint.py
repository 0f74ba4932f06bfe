"""Gradients of log-densities by the probability-flow ODE: its steps taken back one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ..noise.level_sampling import LogisticLevels
from ..scores.model import ExactScore, ScoreModel
from .ode import (
    ProbabilityFlow,
    SolverPlan,
    gregory_weights,
    in_chunks,
    integral_and_error,
    refined,
)
from .solvers import Step, integrate, stepper


class LogDensityGradient(NamedTuple):
    """Log-densities (n,), their errors and whether these suffice, and the gradients (n, d)."""

    value: Tensor
    error: Tensor
    converged: Tensor
    gradient: Tensor


@torch.no_grad()
def ode_gradient(
    model: ScoreModel,
    prior: ExactScore,
    x: Tensor,
    levels: LogisticLevels,
    tolerance: float,
    plan: SolverPlan,
    chunk_rows: int,
    context: Tensor | None = None,
) -> LogDensityGradient:
    """The gradient of what :func:`~.ode.ode_log_density` computes, and that.

    Solutions are stored at the ends of their steps only. From the noise back to the data every
    step is taken again and its derivatives are gathered, so that the memory is that of one step,
    and the divergences that the value needs are computed once, with their gradients.

    Parameters
    ----------
    model, prior, x, levels, tolerance, plan, chunk_rows, context
        As in :func:`~.ode.ode_log_density`.
    """

    def taken_back(x: Tensor, n_steps: int, context: Tensor | None) -> tuple[Tensor, ...]:
        return _taken_back(ProbabilityFlow(model, prior, levels, context), x, n_steps)

    def solve(which: Tensor | slice, n_steps: int) -> tuple[Tensor, ...]:
        given = None if context is None else context[which]
        value, error, gradient = in_chunks(taken_back, x[which], n_steps, chunk_rows, given)
        return value, plan.error_growth * error, gradient

    return LogDensityGradient(*refined(solve, plan, tolerance))


def _taken_back(flow: ProbabilityFlow, x: Tensor, n_steps: int) -> tuple[Tensor, Tensor, Tensor]:
    """Log-densities (n,), a measure of their errors (n,) and their gradients (n, d).

    The adjoint of a quantity is the derivative of the log-densities in it.
    """
    leg, grid, steps = flow.leg, flow.grid(n_steps, x), list[Step]()
    start, half = leg.cross(flow.excess, x, -1)
    end = integrate(flow.field, start, grid, watch=steps.append)
    states = [start, *(step.state for step in steps)]
    slopes = [flow.field(start, grid[0]), *(step.slope for step in steps)]
    weights = gregory_weights(2 * n_steps + 1, x)
    take = stepper(flow.field)

    def trace(state: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        return _value_and_gradient(lambda state: flow.trace_rate(state, u), state)

    base, adjoint = _value_and_gradient(flow.end, end)
    node, gradient = trace(end, grid[-1])
    nodes, slope_adjoint = [node], torch.zeros_like(adjoint)
    adjoint = adjoint - weights[-1] * gradient
    for k in reversed(range(n_steps)):
        step = steps[k]
        node, gradient = trace(step.middle, (step.start + step.end) / 2)
        nodes.append(node)
        adjoint, slope_adjoint = _adjoints(
            lambda state, slope, step=step: take(state, slope, step.start, step.end)[:3],
            (states[k], slopes[k]),
            (adjoint, slope_adjoint, -weights[2 * k + 1] * gradient),
        )
        node, gradient = trace(states[k], step.start)
        nodes.append(node)
        adjoint = adjoint - weights[2 * k] * gradient
    (more,) = _adjoints(lambda x: (flow.field(x, grid[0]),), (start,), (slope_adjoint,))
    leg_trace, gradient = _value_and_gradient(flow.leg_trace, half)
    (adjoint,) = _adjoints(
        lambda x: leg.cross(flow.excess, x, -1), (x,), (adjoint + more, -gradient)
    )
    integral, error = integral_and_error(torch.stack(nodes).flip(0))
    position_error = torch.stack([flow.error_of_position(step) for step in steps]).sum(0)
    return base - integral - leg_trace, position_error + error, adjoint


@torch.enable_grad()
def _value_and_gradient(function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """A value a row (n,), and its gradient (n, d)."""
    x = x.detach().requires_grad_()
    value = function(x)
    (gradient,) = torch.autograd.grad(value.sum(), x)
    return value.detach(), gradient


@torch.enable_grad()
def _adjoints(
    function: Callable[..., tuple[Tensor, ...]],
    inputs: tuple[Tensor, ...],
    adjoints: tuple[Tensor, ...],
) -> tuple[Tensor, ...]:
    """The adjoints of a function's inputs, from those of its outputs."""
    inputs = tuple(each.detach().requires_grad_() for each in inputs)
    return torch.autograd.grad(function(*inputs), inputs, adjoints)
