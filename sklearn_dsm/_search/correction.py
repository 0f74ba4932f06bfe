"""Networks that correct base densities, and which density the validation rows prefer."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from operator import attrgetter
from typing import NamedTuple

import numpy as np
import torch

from .._budget import Budget
from .._core.arrays import tensor_of
from .._core.likelihood.ode import SolverPlan
from .._core.losses.loss import ScoreLoss, TrainingRows
from .._core.noise.level_sampling import LevelLaw
from .._core.random import torch_generator
from .._evaluation.builder import DensityBuilder, Weights
from .._evaluation.latent_density import MAX_CALIBRATION_ROWS
from .._random import seed_from
from .._training import (
    NonFiniteLossError,
    TrainingRecord,
    TrainingSettings,
    train,
)
from .._training.processes import ALONE, Processes
from .base_densities import Base
from .epoch_tasks import EpochTasks
from .progress import Progress
from .split import Split, Table
from .stream import Stream
from .tuning import TUNING


class Candidate(NamedTuple):
    """A base density, how training went there, and a density made of both.

    Attributes
    ----------
    base : Base
    record : TrainingRecord
    base_value, value : float
        Mean log-densities of the validation rows: of the base that the recorded training corrected,
        and of the density made of both.
    weights : dict of str to ndarray
        The network's; empty where the base stands alone.
    plan : SolverPlan
    """

    base: Base
    record: TrainingRecord
    base_value: float
    value: float
    weights: dict[str, np.ndarray]
    plan: SolverPlan = SolverPlan()


@contextmanager
def kept_if_interrupted(candidates: list[Candidate]) -> Iterator[None]:
    """Let an interrupt end the search for more candidates where there are some."""
    try:
        yield
    except KeyboardInterrupt:
        if not candidates:
            raise
        _mark(candidates, "interrupted")


def _mark(candidates: list[Candidate], stop_reason: str) -> None:
    """Let each of them say what ended the fit, whichever is kept."""
    for candidate in candidates:
        candidate.record.stop_reason = stop_reason


@dataclass
class Correction:
    """Trains networks that correct base densities, and values what comes of each.

    Attributes
    ----------
    table : Table
        Whose training rows networks are trained on, however few the base densities are fitted to.
    builder : DensityBuilder
    loss : ScoreLoss
    levels : LevelLaw
        Those of the training.
    settings : TrainingSettings
        All but the time and what a training has to reach.
    likelihood : {"ode", "identity"}
        How densities are compared.
    budget : Budget
    random_state : RandomState
    epochs : EpochTasks
    candidates : list of Candidate
    yardstick : Base, optional
        The best base density so far. Networks are scored on some of the validation rows, and by how
        much they differ from it there; a base far from the rows would tell chance differences.
    progress : Progress
    start : dict of str to ndarray, optional
        Weights with which trainings begin, and which they keep where they find no better ones.
    processes : Processes
        Those that train networks together.
    stream : Stream, optional
        Where epochs of networks get their rows from, if not from the table.
    """

    table: Table
    builder: DensityBuilder
    loss: ScoreLoss
    levels: LevelLaw
    settings: TrainingSettings
    likelihood: str
    budget: Budget
    random_state: np.random.RandomState
    epochs: EpochTasks
    candidates: list[Candidate] = field(default_factory=list)
    yardstick: Base | None = None
    progress: Progress = field(default_factory=Progress)
    start: Weights | None = None
    stream: Stream | None = None
    processes: Processes = ALONE

    def best(self) -> Candidate:
        """The candidate of the greatest value, the first of equals."""
        return max(self.candidates, key=lambda candidate: candidate.value)

    @property
    def best_value(self) -> float:
        """Its value; -inf before there is one."""
        return self.best().value if self.candidates else -math.inf

    @property
    def ended(self) -> bool:
        """Whether an interrupt or a callback ended the fit."""
        reasons = (candidate.record.stop_reason for candidate in self.candidates)
        return any(reason in ("callback", "interrupted") for reason in reasons)

    def train_on(self, base: Base, prune_below: float = -math.inf) -> None:
        """Add the base, corrected where that pays; pruned where it is soon behind a value.

        What an earlier training brought outlives one that has no time or diverges.
        """
        if self.candidates and self._time_left <= 0:
            return self.keep_without_network(base)
        # Where no log-densities are to be had, a correction is measured against no correction.
        value = base.value if self._has_densities else 0.0
        self.epochs.begin(base, value)
        try:
            record = self._train(base, prune_below - value)
        except NonFiniteLossError:
            if not self.candidates:
                raise
            return self.keep_without_network(base)
        # An interrupt from here on leaves what was learned, by its bound.
        learned, gain = record.weights or {}, max(record.best_gain, 0.0)
        self.candidates.append(Candidate(base, record, value, value + gain, learned))
        self.candidates[-1:] = self._with_and_without_network(self.candidates[-1])
        self.progress(
            f"network: {record.n_epochs} epochs, ended by {record.stop_reason}; from {value:.4f} "
            f"to {self.candidates[-1].value:.4f} nats on the validation set"
        )
        if self.ended:
            _mark(self.candidates, record.stop_reason)

    def keep_without_network(self, base: Base) -> None:
        """Add a base that no network is trained for, with the record of the last training."""
        last = self.candidates[-1]
        record, value = replace(last.record, weights=None), base.expected_value_alone
        self.candidates.append(Candidate(base, record, last.base_value, value, {}))

    @property
    def _has_densities(self) -> bool:
        """Whether scores of all levels are learned, from which log-densities follow."""
        return self.loss.noise_level is None

    @property
    def _time_left(self) -> float:
        """Seconds that a training may take."""
        return self.budget.left(TUNING.training_until)

    def _train(self, base: Base, prune_below: float) -> TrainingRecord:
        """Train a network; its record, with no weights if it brought nothing."""
        split = base.split
        if len(split.train_rows[0]) < TUNING.min_train_rows:
            return TrainingRecord(self.start, stop_reason="too_few_rows")
        draw = None if self.stream is None else partial(self.stream.draw, split.latent)
        # Mapping a long table takes time as well.
        mapped = draw is not None or split.table is self.table
        whole = split if mapped else Split(split.latent, self.table)
        time_left = self._time_left
        if time_left <= 0:
            return TrainingRecord(self.start, stop_reason="max_fit_time")
        settings = replace(
            self.settings,
            max_fit_time=time_left,
            prune_below=prune_below,
            pruned_between=TUNING.pruned_between,
        )
        device = torch.device(settings.device)
        model = self.builder.score_model(base.reference, {}, seed_from(self.random_state))
        model = model.float().to(device)
        train_rows, held_out_rows = (
            TrainingRows(*(tensor_of(part).float().to(device) for part in parts))
            for parts in (whole.train_rows, split.held_out_rows)
        )
        return train(
            model,
            self.loss,
            self.levels,
            train_rows,
            held_out_rows,
            settings,
            torch_generator(seed_from(self.random_state), device),
            self.epochs,
            self.start,
            draw,
            self.processes,
        )

    def _with_and_without_network(self, corrected: Candidate) -> list[Candidate]:
        """The base, and the network's density where it has one, scored alike."""
        base, record = corrected.base, corrected.record
        alone = corrected._replace(value=corrected.base_value + base.gain_of_refit, weights={})
        if record.weights is None or record.stop_reason == "pruned":
            return [alone]
        # A base alone has closed forms; a chance gain is not worth the way of the ODE.
        chance = 0.0
        if self._has_densities:
            corrected, rows = self._scored(corrected)
            chance = base.split.chance_gain(rows)
        if self.builder.network["whole"]:
            return [corrected]
        return [alone, corrected] if corrected.value > alone.value + chance else [alone]

    def _scored(self, candidate: Candidate) -> tuple[Candidate, slice]:
        """The candidate with the ODE's plan and the value of its density, and on which rows."""
        base, weights = candidate.base, candidate.weights
        density = self.builder.density(base.reference, weights, self.likelihood, SolverPlan())
        split = base.split
        rows = split.at_least(MAX_CALIBRATION_ROWS)
        density, n_scored = density.calibrated(rows, self.budget.left())
        rough, scored = density.of_few_doublings(), slice(n_scored)
        yardstick = max((base, self.yardstick or base), key=attrgetter("value"))
        value = yardstick.value + split.score(lambda Z: rough.log_density(Z)[0], scored)
        value -= yardstick.split.score(yardstick.log_density, scored)
        return candidate._replace(value=value, plan=density.plan), scored
