"""Evaluating a latent density: on its device, in float64, in chunks that bound memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from .._core.arrays import tensor_of
from .._core.likelihood.adjoint import ode_gradient
from .._core.likelihood.identity import IdentityNodes, identity_log_density, sobol_nodes
from .._core.likelihood.ode import (
    CALIBRATION_STEPS,
    CALIBRATION_TRUTH_STEPS,
    SolverPlan,
    calibrated_plan,
    ode_log_density,
)
from .._core.likelihood.solvers import sample
from .._core.noise.level import NoiseLevel
from .._core.noise.level_sampling import LogisticLevels
from .._core.random import torch_generator
from .._core.scores.amortised import LogDensityHead
from .._core.scores.corrected import CorrectedScore
from .._core.scores.model import ExactScore, ScoreModel
from .._core.scores.network import padded
from .._core.scores.tangents import ROW_BLOCK
from .._threads import one_thread_in_workers

# Numbers a chunk of rows may put into one layer: half a MiB of float32, which a cache holds.
CHUNK_NUMBERS = 2**17
# A head's layers are in half precision, and its larger chunks keep the processor busier.
HEAD_CHUNK_NUMBERS = 2**19
# A gradient keeps all nodes of the identity, or one step of the solution with a tangent a column.
# The latter in ten columns takes up to five times as long in chunks as small as the former's.
GRADIENT_CHUNK_NUMBERS, STEP_CHUNK_NUMBERS = 2**16, 2**21
# A GPU wants so many times as many, and its memory allows so many times as many gradients.
CHUNK_FACTORS, GRADIENT_CHUNK_FACTORS = {"cpu": 1, "cuda": 2**5}, {"cpu": 1, "cuda": 2**2}
IDENTITY_LEVELS, IDENTITY_NOISE = 24, 32
DEFAULT_PLAN = SolverPlan()
# Held-out rows on which a network's log-density is compared with its reference's, and those
# on which the steps of the ODE are chosen, with the steps that a row takes for either.
MAX_SCORED_ROWS, STEPS_TO_SCORE = 500, 30
MAX_CALIBRATION_ROWS, MIN_SECONDS = 96, 0.5
# Of the steps of a row while a fit compares densities.
FEW_DOUBLINGS = 2
STEPS_TO_CALIBRATE = CALIBRATION_TRUTH_STEPS + sum(CALIBRATION_STEPS)
SAMPLE_STEPS = {"ode": 24, "sde": 200}
ALL = slice(None)


def chunks(n: int, size: int) -> Iterator[slice]:
    """Slices of at most ``size`` that cover ``n`` rows."""
    return (slice(start, start + size) for start in range(0, n, size))


@dataclass(frozen=True)
class LatentDensity:
    """A score model with all that turns it into log-densities, gradients and samples.

    Attributes
    ----------
    model : ScoreModel
        On ``device``, in float64; its network perhaps in float32.
    reference : ExactScore
        Its law ends the ODE and controls the identity. The model may be the reference
        itself, and is then evaluated in closed form.
    levels : LogisticLevels
    n_features : int
    numbers_per_row : int
        Numbers that a row puts into the widest layer, which sizes the chunks.
    likelihood : {"ode", "identity", "fast"}
    tolerance : float
    device : torch.device
    plan : SolverPlan
    head : LogDensityHead, needed by "fast"
    nodes : IdentityNodes, those of the identity where not the usual ones
    log_mass : float
        Logarithm of the mass of the identity's density, which it is divided by.
    """

    model: ScoreModel
    reference: ExactScore
    levels: LogisticLevels
    n_features: int
    numbers_per_row: int
    likelihood: str
    tolerance: float
    device: torch.device
    plan: SolverPlan = DEFAULT_PLAN
    head: LogDensityHead | None = None
    nodes: IdentityNodes | None = None
    log_mass: float = 0.0

    def calibrated(
        self, Z: np.ndarray, seconds: float, context: np.ndarray | None = None
    ) -> tuple[LatentDensity, int]:
        """The same with a plan for the ODE that was measured on some of these rows.

        Also how many of the rows can be scored, when both are to take so many seconds, or at
        least ``MIN_SECONDS``. Where that is too little to measure anything the plan stays as it
        is.
        """
        if not self._solves:
            return self, MAX_SCORED_ROWS
        row_steps = max(seconds, MIN_SECONDS) * self._row_steps_per_second(Z, context)
        n_scored = int(np.clip(row_steps / 2 / STEPS_TO_SCORE, ROW_BLOCK, MAX_SCORED_ROWS))
        n_measured = int(min(row_steps / 2 / STEPS_TO_CALIBRATE, MAX_CALIBRATION_ROWS))
        if n_measured < ROW_BLOCK:
            return self, n_scored
        plan = calibrated_plan(
            self.model,
            self.reference,
            self._tensor(Z[:n_measured]),
            self.levels,
            self.tolerance,
            self._chunk_size(CHUNK_NUMBERS),
            self._given(context, slice(n_measured)),
        )
        return replace(self, plan=plan), n_scored

    def of_few_doublings(self) -> LatentDensity:
        """The same, solved less finely for rows on which the score is rough, in bounded time."""
        return replace(self, plan=self.plan._replace(max_doublings=FEW_DOUBLINGS))

    def _row_steps_per_second(self, Z: np.ndarray, context: np.ndarray | None) -> float:
        """How many steps of the ODE, times rows, are taken in a second."""
        rough = replace(self, plan=SolverPlan(2), tolerance=np.inf)
        # A GPU takes as long for a few.
        n = MAX_CALIBRATION_ROWS * CHUNK_FACTORS[self.device.type]
        started = time.perf_counter()
        repeated = np.arange(n) % len(Z)
        rough.log_density(Z[repeated], None if context is None else context[repeated])
        return 2 * n / (time.perf_counter() - started)

    @torch.no_grad()
    @one_thread_in_workers()
    def log_density(
        self, Z: np.ndarray, context: np.ndarray | None = None
    ) -> tuple[np.ndarray, int]:
        """Log-densities (n,), and how many of them missed the tolerance."""
        if self._solves:
            value, n_missed = self._log_density(self._tensor(Z), self._given(context))
            return value.cpu().numpy(), n_missed
        values = np.empty(len(Z))
        numbers = CHUNK_NUMBERS if self.head is None else HEAD_CHUNK_NUMBERS
        for part in chunks(len(Z), self._chunk_size(numbers)):
            value, _ = self._log_density(self._tensor(Z[part]), self._given(context, part))
            values[part] = value.cpu().numpy()
        return values, 0

    @torch.no_grad()
    def reference_log_density(self, Z: np.ndarray, context: np.ndarray | None = None) -> np.ndarray:
        """Log-densities (n,) of the reference alone, in closed form."""
        level, given = self._clean_level(), self._given(context)
        return self.reference.log_density(self._tensor(Z), level, given).cpu().numpy()

    @one_thread_in_workers()
    def gradient(self, Z: np.ndarray, context: np.ndarray | None = None) -> np.ndarray:
        """Gradients (n, d) of :meth:`log_density`."""
        if self.model is self.reference:
            return self.score(Z, self._clean_level(), context)
        numbers = STEP_CHUNK_NUMBERS if self._solves else GRADIENT_CHUNK_NUMBERS
        size = self._chunk_size(numbers // self.n_features, GRADIENT_CHUNK_FACTORS)
        if self._solves:
            found = ode_gradient(
                self.model,
                self.reference,
                self._tensor(Z),
                self.levels,
                self.tolerance,
                self.plan,
                size,
                self._given(context),
            )
            return found.gradient.cpu().numpy()
        gradients = np.empty_like(Z)
        for part in chunks(len(Z), size):
            z = self._tensor(Z[part]).requires_grad_()
            value, _ = self._log_density(z, self._given(context, part))
            gradients[part] = torch.autograd.grad(value.sum(), z)[0].cpu().numpy()
        return gradients

    @torch.no_grad()
    def score(
        self, Z: np.ndarray, level: NoiseLevel, context: np.ndarray | None = None
    ) -> np.ndarray:
        """The model's score (n, d) of rows at a noise level of any process."""
        scores = np.empty_like(Z)
        level = self._here(level)
        for part in chunks(len(Z), self._chunk_size(CHUNK_NUMBERS)):
            z, given = self._tensor(Z[part]), self._given(context, part)
            scores[part] = self.model.score(z, level, given).cpu().numpy()
        return scores

    def score_jacobian(self, Z: np.ndarray, level: NoiseLevel) -> np.ndarray:
        """The Jacobian (n, d, d) of the model's score, of all rows at once."""
        jacobian = self.model.jacobian(self._tensor(Z), self._here(level))
        return jacobian.detach().cpu().numpy()

    @torch.no_grad()
    @one_thread_in_workers()
    def sample(
        self, n: int, method: str, seed: int, context: np.ndarray | None = None
    ) -> np.ndarray:
        """n rows (n, d), the same for a seed on one kind of device; a context has n rows."""
        generator = torch_generator(seed, self.device)
        rows = np.empty((n, self.n_features))
        for part in chunks(n, self._chunk_size(CHUNK_NUMBERS)):
            size, given = min(part.stop, n) - part.start, self._given(context, part)
            if self.model is self.reference:
                draws = self.reference.sample(size, self._clean_level(), generator, given)
            else:
                draws = self._carried(size, method, generator, given)
            rows[part] = draws.cpu().numpy()
        return rows

    @torch.no_grad()
    def trajectories(self, n: int, method: str, seed: int) -> np.ndarray:
        """Paths (n_states, n, d) from noise to the rows of :meth:`sample`.

        A closed form has the paths of its ODE.
        """
        generator = torch_generator(seed, self.device)
        found = []
        for part in chunks(n, self._chunk_size(CHUNK_NUMBERS)):
            states: list[Tensor] = []
            size = min(part.stop, n) - part.start
            end = self._carried(size, method, generator, None, states.append)
            found.append(torch.stack([*states, end]))
        return torch.cat(found, 1).cpu().numpy()

    def _carried(
        self,
        n: int,
        method: str,
        generator: torch.Generator,
        context: Tensor | None,
        watch: Callable[[Tensor], None] | None = None,
    ) -> Tensor:
        """Draws of the noise end, carried to the data."""
        low = torch.tensor(self.levels.low, dtype=torch.float64, device=self.device)
        start = self.reference.sample(n, NoiseLevel.from_log_snr(low), generator, context)
        if watch is not None:
            watch(start)
        return sample(
            self.model,
            start,
            self.levels,
            SAMPLE_STEPS[method],
            method=method,
            generator=generator,
            context=context,
            watch=watch,
        )

    def _log_density(self, z: Tensor, context: Tensor | None) -> tuple[Tensor, int]:
        if self.model is self.reference:
            return self.reference.log_density(z, self._clean_level(), context), 0
        if self.head is not None:
            learned = self.head(padded(z))[: len(z)]
            return self.reference.log_density(z, self._clean_level(), context) + learned, 0
        if not self._solves:
            value = identity_log_density(self.model, self.reference, z, self._nodes, context)
            return value - self.log_mass, 0
        result = ode_log_density(
            self.model,
            self.reference,
            z,
            self.levels,
            self.tolerance,
            self.plan,
            self._chunk_size(CHUNK_NUMBERS),
            context,
        )
        return result.value, int((~result.converged).sum())

    @property
    def _solves(self) -> bool:
        """Whether a log-density is the solution of the ODE."""
        return self.likelihood == "ode" and self.model is not self.reference

    @cached_property
    def _nodes(self) -> IdentityNodes:
        return self.nodes or sobol_nodes(
            IDENTITY_LEVELS, IDENTITY_NOISE, self.n_features, self.levels.low, self.levels.high
        )

    def _here(self, level: NoiseLevel) -> NoiseLevel:
        return NoiseLevel(*(part.to(self.device) for part in level))

    def _clean_level(self) -> NoiseLevel:
        return NoiseLevel.clean(torch.empty(0, dtype=torch.float64, device=self.device))

    def _chunk_size(self, numbers: int, factors: Mapping[str, int] = CHUNK_FACTORS) -> int:
        noise = IDENTITY_NOISE if self.likelihood == "identity" else 1
        rows = numbers * factors[self.device.type] // (self.numbers_per_row * noise)
        # Without a network a row may put in very many, and blocks bring nothing.
        block = ROW_BLOCK if isinstance(self.model, CorrectedScore) else 1
        return max(block, rows - rows % block)

    def _tensor(self, Z: np.ndarray) -> Tensor:
        return tensor_of(np.ascontiguousarray(Z)).to(self.device)

    def _given(self, context: np.ndarray | None, part: slice = ALL) -> Tensor | None:
        """What rows of a part are conditional on."""
        return None if context is None else self._tensor(context[part])


def exact_density(
    score: ExactScore, n_features: int, numbers_per_row: int, device: torch.device
) -> LatentDensity:
    """A density whose score is exact: closed forms, whatever the level."""
    score = score.to(device)
    return LatentDensity(
        model=score,
        reference=score,
        levels=LogisticLevels(-12.0, 12.0),
        n_features=n_features,
        numbers_per_row=numbers_per_row,
        likelihood="ode",
        tolerance=1e-3,
        device=device,
    )
