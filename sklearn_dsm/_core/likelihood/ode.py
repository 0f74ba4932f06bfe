"""Log-densities by the probability-flow ODE, with the exact divergence."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ..arrays import split_alike
from ..cuda_graphs import repeated
from ..noise.level import NoiseLevel
from ..noise.level_sampling import LogisticLevels, SolverLevels
from ..scores.model import ExactScore, ScoreModel
from ..scores.network import padded
from .solvers import CleanLeg, Step, integrate, noise_rate

# A row of a table with a two-valued column asked for seven, which took 45 s; five take eight.
MAX_DOUBLINGS = 5
CALIBRATION_STEPS = (6, 8, 10, 12, 14, 16, 20, 24, 28)
CALIBRATION_TRUTH_STEPS = 56
SAFETY, MIN_GROWTH, MAX_GROWTH = 3.0, 0.1, 50.0
# Added to weights of one at either end of equally distant nodes: half the trapezoidal rule's
# end weight, and Gregory's correction, which makes it exact for cubics.
GREGORY = (-5 / 8, 1 / 6, -1 / 24)


class SolverPlan(NamedTuple):
    """How finely to integrate, and how to read the local errors.

    Attributes
    ----------
    n_steps : int
        Steps to begin with.
    error_growth : float
        What the sum of the local errors is multiplied by to estimate a log-density's error:
        local errors grow on the way to the data. On exact mixtures in 1 to 10 columns the
        true error stayed below twenty times their sum once it was below 0.1 nats.
    max_doublings : int, optional
        How often a row is solved again with twice the steps; ``MAX_DOUBLINGS`` where not given.
    """

    n_steps: int = 20
    error_growth: float = 20.0
    max_doublings: int | None = None

    def for_tolerance(self, tolerance: float, planned_for: float) -> SolverPlan:
        """The plan for another tolerance, by the method's order."""
        steps = self.n_steps * max(1.0, (planned_for / tolerance) ** 0.2)
        return self._replace(n_steps=2 * math.ceil(steps / 2))


class LogDensity(NamedTuple):
    """Log-densities (n,), the estimated error of each (n,), and whether that suffices (n,)."""

    value: Tensor
    error: Tensor
    converged: Tensor


def ode_log_density(
    model: ScoreModel,
    prior: ExactScore,
    x: Tensor,
    levels: LogisticLevels,
    tolerance: float = 1e-4,
    plan: SolverPlan | None = None,
    chunk_rows: int | None = None,
    context: Tensor | None = None,
) -> LogDensity:
    r"""Log-density of the probability flow, with the exact divergence.

    .. math:: \log p_0(x_0) = \log p_T(x_T) + \int_0^T (d + \nabla\cdot s_t(x_t))\,(-dt),
        \qquad \dot x = -(x + s_t),

    integrated in the log-SNR. Each row is integrated on a grid of its own: it starts
    with a few steps and doubles them while its estimated error exceeds the tolerance, so
    a row's value does not depend on the rows it is scored with.

    Parameters
    ----------
    model : ScoreModel
    prior : ExactScore
        Its law at ``levels.low`` ends the integral.
    x : Tensor of shape (n, d)
    levels : LogisticLevels
        Their ends are those of the integral. The leg between ``levels.high`` and the data
        is one step of the midpoint rule, whose error, of order e^(-3 high), is not in the
        estimate.
    tolerance : float
        Bound on the estimated error of a log-density, in nats; for rows so far out that the
        log-density is below -1000, a thousandth of it relative to that.
    plan : SolverPlan, optional
        From :func:`calibrated_plan`, or one that suits exact scores.
    chunk_rows : int, optional
        Rows that are integrated together, which bounds memory; all of them where not given.
    context : Tensor of shape (n, m), optional
        What the density is conditional on.

    References
    ----------
    [ScoreSDE]_
    """
    plan, solution = plan or SolverPlan(), _solution(model, prior, levels)

    def solve(which: Tensor | slice, n_steps: int) -> tuple[Tensor, ...]:
        given = None if context is None else context[which]
        value, error = in_chunks(solution, x[which], n_steps, chunk_rows, given)
        return value, plan.error_growth * error

    return LogDensity(*refined(solve, plan, tolerance))


def refined(
    solve: Callable[[Tensor | slice, int], tuple[Tensor, ...]], plan: SolverPlan, tolerance: float
) -> tuple[Tensor, ...]:
    """Solutions of all rows, again with twice the steps for those whose errors are too large.

    ``solve`` gives values, errors and perhaps more for some rows and a number of steps. What it
    gave last for every row is returned, and before the rest, in the place of the errors, these
    and whether they suffice.
    """
    n_steps = plan.n_steps
    found = solve(slice(None), n_steps)
    for _ in range(MAX_DOUBLINGS if plan.max_doublings is None else plan.max_doublings):
        coarse = torch.nonzero(~_converged(found[0], found[1], tolerance)).squeeze(1)
        if len(coarse) == 0:
            break
        n_steps *= 2
        again = solve(coarse, n_steps)
        found = tuple(old.index_put((coarse,), new) for old, new in zip(found, again, strict=True))
    value, error, *others = found
    return value, error, _converged(value, error, tolerance), *others


def in_chunks(
    solve: Callable[[Tensor, int, Tensor | None], tuple[Tensor, ...]],
    x: Tensor,
    n_steps: int,
    chunk_rows: int | None,
    context: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """What a function gives for rows, a number of steps and a context, some rows at a time."""
    results, size = [], chunk_rows or max(1, len(x))
    for part, given in split_alike(x, context, size):
        given = None if given is None else padded(given)
        solved = solve(padded(part), n_steps, given)
        results.append([out[: len(part)] for out in solved])
    return tuple(torch.cat(parts) for parts in zip(*results, strict=True))


def _converged(values: Tensor, errors: Tensor, tolerance: float) -> Tensor:
    """Which errors are small enough; a non-finite one is not."""
    return errors <= tolerance * (values.detach().abs() / 1000).clamp(min=1)


@torch.no_grad()
def calibrated_plan(
    model: ScoreModel,
    prior: ExactScore,
    x: Tensor,
    levels: LogisticLevels,
    tolerance: float,
    chunk_rows: int | None = None,
    context: Tensor | None = None,
) -> SolverPlan:
    """The cheapest plan that is within a tolerance on some rows, measured against fine steps.

    For every number of steps the growth of the local errors is what covers the true errors of
    19 rows in 20, three times over. The cheapest number counts the rows that would
    be integrated again with twice the steps.
    """

    solution = _solution(model, prior, levels)

    def solve(n_steps: int) -> tuple[Tensor, ...]:
        return in_chunks(solution, x, n_steps, chunk_rows, context)

    truth, _ = solve(CALIBRATION_TRUTH_STEPS)
    best, lowest_cost = SolverPlan(CALIBRATION_TRUTH_STEPS), math.inf
    for n_steps in CALIBRATION_STEPS:
        if n_steps >= lowest_cost:
            break
        values, errors = solve(n_steps)
        growth = float(((values - truth).abs() / errors).nan_to_num(MAX_GROWTH).quantile(0.95))
        growth = min(max(SAFETY * growth, MIN_GROWTH), MAX_GROWTH)
        again = float((~_converged(values, growth * errors, tolerance)).double().mean())
        cost = n_steps / (1 - 2 * again) if again < 0.5 else math.inf
        if cost < lowest_cost:
            best, lowest_cost = SolverPlan(n_steps, growth), cost
    return best


def gregory_weights(n_nodes: int, like: Tensor) -> Tensor:
    """Weights of equally distant values for the integral over [0, 1], exact for cubics."""
    weights = torch.ones(n_nodes, dtype=like.dtype, device=like.device)
    correction = torch.tensor(GREGORY, dtype=like.dtype, device=like.device)
    weights[:3] += correction
    weights[-3:] += correction.flip(0)
    return weights / (n_nodes - 1)


def integral_and_error(nodes: Tensor) -> tuple[Tensor, Tensor]:
    """The integral over [0, 1] from values at equal distances (k, n), and a measure of its error.

    The trapezoidal rule with Gregory's correction of the ends converges geometrically, so its
    error goes as the square of its difference from the rule with half the nodes.
    """
    fine, coarse = (gregory_weights(len(part), part) @ part for part in (nodes, nodes[::2]))
    gap = (fine - coarse).detach().abs()
    return fine, gap.minimum(gap**2)


class ProbabilityFlow:
    """The flow of a model between the data and the noise, over positions u from 1 to 0.

    Parameters
    ----------
    model : ScoreModel
    prior : ExactScore
        Its law ends the integral.
    levels : LogisticLevels
        Their ends are those of the integral.
    context : Tensor of shape (n, m), optional
    """

    def __init__(
        self,
        model: ScoreModel,
        prior: ExactScore,
        levels: LogisticLevels,
        context: Tensor | None = None,
    ):
        self.model, self.prior, self.context, self.low = model, prior, context, levels.low
        self.leg, self.path = CleanLeg.to(levels.high), SolverLevels(levels.low, levels.high)

    def grid(self, n_steps: int, like: Tensor) -> Tensor:
        """Positions from the data to the noise."""
        return torch.linspace(1, 0, n_steps + 1, dtype=like.dtype, device=like.device)

    def excess(self, state: Tensor, log_snr: Tensor) -> Tensor:
        """Minus the rate of change in Ornstein-Uhlenbeck time."""
        return state + self.model.score(state, NoiseLevel.from_log_snr(log_snr), self.context)

    def pace(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """The log-SNR of a position, and by how much time goes on there."""
        log_snr = self.path.at(u)
        return log_snr, noise_rate(log_snr) * self.path.slope(u)

    def field(self, state: Tensor, u: Tensor) -> Tensor:
        log_snr, rate = self.pace(u)
        return rate * self.excess(state, log_snr)

    def trace_rate(self, state: Tensor, u: Tensor) -> Tensor:
        """The divergence of the field (n,)."""
        log_snr, rate = self.pace(u)
        return rate * self._trace(state, log_snr)

    def leg_trace(self, half: Tensor) -> Tensor:
        """The integral of the divergence over the leg to the data, from the state halfway."""
        return self.leg.time * self._trace(half, half.new_tensor(self.leg.middle))

    def _trace(self, state: Tensor, log_snr: Tensor) -> Tensor:
        level = NoiseLevel.from_log_snr(log_snr)
        return state.shape[1] + self.model.divergence(state, level, self.context)

    def end(self, state: Tensor) -> Tensor:
        """The log-density at the noise (n,)."""
        level = NoiseLevel.from_log_snr(state.new_tensor(self.low))
        return self.prior.log_density(state, level, self.context)

    def error_of_position(self, step: Step) -> Tensor:
        """By how much a step's local error changes the answer (n,)."""
        # An error e of the position changes the answer by score . e, whatever comes after.
        _, rate = self.pace(step.end)
        return ((step.slope / rate - step.state) * step.error).sum(1).abs()


def _solution(
    model: ScoreModel, prior: ExactScore, levels: LogisticLevels
) -> Callable[[Tensor, int, Tensor | None], tuple[Tensor, ...]]:
    """Log-densities and errors of rows by so many steps, given a context."""

    def solve(x: Tensor, n_steps: int, context: Tensor | None) -> tuple[Tensor, Tensor]:
        return _log_density(ProbabilityFlow(model, prior, levels, context), x, n_steps)

    return solve


def _log_density(flow: ProbabilityFlow, x: Tensor, n_steps: int) -> tuple[Tensor, Tensor]:
    """Log-densities (n,), and a measure of the error of each (n,)."""
    start, half = flow.leg.cross(flow.excess, x, -1)
    grid = flow.grid(n_steps, x)
    rate = repeated(flow.trace_rate, x.device)
    nodes, position_error = [rate(start, grid[0])], x.new_zeros(len(x))

    def watch(step: Step) -> None:
        # The position does not depend on the divergence, which costs more than the score, so
        # the divergence is taken at the ends and the middle of every step only.
        nodes.append(rate(step.middle, (step.start + step.end) / 2))
        nodes.append(rate(step.state, step.end))
        position_error.add_(flow.error_of_position(step).detach())

    end = integrate(flow.field, start, grid, watch=watch)
    integral, error = integral_and_error(torch.stack(nodes))
    return flow.end(end) - integral - flow.leg_trace(half), position_error + error
