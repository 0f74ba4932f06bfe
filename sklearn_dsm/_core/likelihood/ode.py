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

MAX_DOUBLINGS = 7
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
    """

    n_steps: int = 20
    error_growth: float = 20.0

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
    plan = plan or SolverPlan()

    def solve(which: Tensor | slice, n_steps: int) -> tuple[Tensor, Tensor]:
        given = None if context is None else context[which]
        value, error = _solve_in_chunks(model, prior, x[which], levels, n_steps, chunk_rows, given)
        return value, plan.error_growth * error

    n_steps = plan.n_steps
    values, errors = solve(slice(None), n_steps)
    for _ in range(MAX_DOUBLINGS):
        coarse = torch.nonzero(~_converged(values, errors, tolerance)).squeeze(1)
        if len(coarse) == 0:
            break
        n_steps *= 2
        value, error = solve(coarse, n_steps)
        values = values.index_put((coarse,), value)
        errors = errors.index_put((coarse,), error)
    return LogDensity(values, errors, _converged(values, errors, tolerance))


def _solve_in_chunks(
    model: ScoreModel,
    prior: ExactScore,
    x: Tensor,
    levels: LogisticLevels,
    n_steps: int,
    chunk_rows: int | None,
    context: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Solve for chunks of rows."""
    results, size = [], chunk_rows or max(1, len(x))
    for part, given in split_alike(x, context, size):
        given = None if given is None else padded(given)
        solved = _ode_pass(model, prior, padded(part), levels, n_steps, given)
        results.append([out[: len(part)] for out in solved])
    values, errors = zip(*results, strict=True)
    return torch.cat(values), torch.cat(errors)


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

    def solve(n_steps: int) -> tuple[Tensor, Tensor]:
        return _solve_in_chunks(model, prior, x, levels, n_steps, chunk_rows, context)

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


class _Trace:
    """The integral of the divergence along a trajectory, where its position is known.

    The position does not depend on the divergence, which costs more than the score, so the
    divergence is taken at the ends and the middle of every step only: the trapezoidal rule
    with Gregory's correction of the ends. It converges geometrically, so its error goes as
    the square of its difference from the rule with half the nodes.
    """

    def __init__(self, rate: Callable[[Tensor, Tensor], Tensor], x: Tensor, u: Tensor):
        self.rate = repeated(rate, x.device)
        self.nodes = [self.rate(x, u)]
        self.position_error = x.new_zeros(len(x))

    def add(self, step: Step, sensitivity: Tensor) -> None:
        """Take a step; ``sensitivity`` is the gradient of the answer in the position."""
        self.nodes.append(self.rate(step.middle, (step.start + step.end) / 2))
        self.nodes.append(self.rate(step.state, step.end))
        self.position_error += (sensitivity * step.error).sum(1).detach().abs()

    def integral_and_error(self) -> tuple[Tensor, Tensor]:
        """The integral over positions 0 to 1, and a measure of its error, each (n,)."""
        nodes = torch.stack(self.nodes)
        fine, coarse = _gregory(nodes), _gregory(nodes[::2])
        gap = (fine - coarse).detach().abs()
        return fine, self.position_error + gap.minimum(gap**2)


def _gregory(nodes: Tensor) -> Tensor:
    """The integral over [0, 1] from values at equal distances (k, n), exact for cubics."""
    weights = torch.ones_like(nodes[:, 0])
    correction = torch.tensor(GREGORY, dtype=nodes.dtype, device=nodes.device)
    weights[:3] += correction
    weights[-3:] += correction.flip(0)
    return (weights / (len(nodes) - 1)) @ nodes


def _ode_pass(
    model: ScoreModel,
    prior: ExactScore,
    x: Tensor,
    levels: LogisticLevels,
    n_steps: int,
    context: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Log-densities (n,), and a measure of the error of each (n,)."""
    d = x.shape[1]

    def excess(state: Tensor, log_snr: Tensor) -> Tensor:
        return state + model.score(state, NoiseLevel.from_log_snr(log_snr), context)

    def pace(u: Tensor) -> tuple[Tensor, Tensor]:
        log_snr = path.at(u)
        return log_snr, noise_rate(log_snr) * path.slope(u)

    def field(state: Tensor, u: Tensor) -> Tensor:
        log_snr, rate = pace(u)
        return rate * excess(state, log_snr)

    def trace_rate(state: Tensor, u: Tensor) -> Tensor:
        log_snr, rate = pace(u)
        level = NoiseLevel.from_log_snr(log_snr)
        return rate * (d + model.divergence(state, level, context))

    def watch(step: Step) -> None:
        # An error e of the position changes the answer by score . e, whatever comes after.
        _, rate = pace(step.end)
        trace.add(step, step.slope / rate - step.state)

    leg, path = CleanLeg.to(levels.high), SolverLevels(levels.low, levels.high)
    start, half = leg.cross(excess, x, -1)
    middle = NoiseLevel.from_log_snr(x.new_tensor(leg.middle))
    grid = torch.linspace(1, 0, n_steps + 1, dtype=x.dtype, device=x.device)
    trace = _Trace(trace_rate, start, grid[0])
    end = integrate(field, start, grid, watch=watch)
    integral, error = trace.integral_and_error()
    base = prior.log_density(end, NoiseLevel.from_log_snr(x.new_tensor(levels.low)), context)
    return base - integral - leg.time * (d + model.divergence(half, middle, context)), error
