"""Training a network for one reference after another, and which density held-out rows prefer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from .._core.likelihood.ode import SolverPlan
from .._core.losses.loss import ScoreLoss, TrainingRows
from .._core.noise.level_sampling import LevelLaw
from .._core.random import torch_generator
from .._evaluation.builder import DensityBuilder
from .._evaluation.latent_density import MAX_CALIBRATION_ROWS
from .._random import seed_from
from .._training import TrainingRecord, TrainingSettings, train, warn_if_interrupted
from .candidates import Candidate, Reference
from .clock import Clock
from .epoch_tasks import EpochTasks

MIN_TRAIN_ROWS = 10
# What follows training takes time as well.
TRAINING_SHARE = 0.93


@contextmanager
def kept_if_interrupted(candidates: list[Candidate]) -> Iterator[None]:
    """Let an interrupt end the search for more candidates where there are some."""
    try:
        yield
    except KeyboardInterrupt:
        if not candidates:
            raise
        _mark(candidates, "interrupted")
        warn_if_interrupted(candidates[-1].record)


def _mark(candidates: list[Candidate], stop_reason: str) -> None:
    """Let each of them say what ended the fit, whichever is kept."""
    for candidate in candidates:
        candidate.record.stop_reason = stop_reason


@dataclass
class CandidateSearch:
    """Trains networks for references and values what comes of each by held-out rows.

    Attributes
    ----------
    builder : DensityBuilder
    loss : ScoreLoss
    levels : LevelLaw
        Those of the training.
    settings : TrainingSettings
        All but the time and the hurdles, which are the reference's.
    likelihood : {"ode", "identity"}
        How densities are compared.
    clock : Clock
    random : RandomState
    epochs : EpochTasks
    candidates : list of Candidate
    """

    builder: DensityBuilder
    loss: ScoreLoss
    levels: LevelLaw
    settings: TrainingSettings
    likelihood: str
    clock: Clock
    random: np.random.RandomState
    epochs: EpochTasks
    candidates: list[Candidate] = field(default_factory=list)

    def best(self) -> Candidate:
        """The candidate of the greatest value, the first of equals."""
        return max(self.candidates, key=lambda candidate: candidate.value)

    def best_value(self) -> float:
        """Its value; -inf before there is one."""
        return self.best().value if self.candidates else -math.inf

    def go_through(self, references: Iterable[Reference]) -> None:
        """Train for each reference that is not behind yet.

        An interrupt ends the search, and so does a callback.
        """
        with kept_if_interrupted(self.candidates):
            for reference in references:
                value = self._value_of(reference)
                if value <= self.best_value():
                    continue
                self.epochs.begin(reference, value)
                record = self._train(reference, value)
                # An interrupt from here on leaves what was learned, by its bound.
                learned, gain = record.weights or {}, max(record.best_gain, 0.0)
                self.candidates.append(Candidate(reference, record, value, value + gain, learned))
                self.candidates[-1:] = self._with_and_without_network(self.candidates[-1])
                if record.stop_reason in ("callback", "interrupted"):
                    _mark(self.candidates, record.stop_reason)
                    break

    @property
    def _has_densities(self) -> bool:
        """Whether scores of all levels are learned, from which log-densities follow."""
        return self.loss.noise_level is None

    def _value_of(self, reference: Reference) -> float:
        """What a reference alone is worth: its held-out log-density, where that is the aim."""
        if not self._has_densities:
            return 0.0
        return reference.split.score(reference.mixture.score_samples)

    def _train(self, reference: Reference, value: float) -> TrainingRecord:
        """Train a network for a reference; its record, with no weights if it lost."""
        split = reference.split
        if len(split.train[0]) < MIN_TRAIN_ROWS:
            return TrainingRecord(stop_reason="too_few_rows")
        time_left = self.clock.left(TRAINING_SHARE)
        if time_left <= 0:
            return TrainingRecord(stop_reason="max_fit_time")
        settings = replace(
            self.settings,
            max_fit_time=time_left,
            hurdle=reference.hurdle - value,
            final_hurdle=reference.final_hurdle - value,
        )
        device, seed = torch.device(settings.device), seed_from(self.random)
        model = self.builder.score_model(reference.mixture, {}, seed).float().to(device)
        train_rows, held_out_rows = (
            TrainingRows(*(torch.from_numpy(part).float().to(device) for part in parts))
            for parts in (split.train, split.held_out)
        )
        return train(
            model,
            self.loss,
            self.levels,
            train_rows,
            held_out_rows,
            settings,
            torch_generator(seed, device),
            self.epochs,
        )

    def _with_and_without_network(self, corrected: Candidate) -> list[Candidate]:
        """The reference, and the network's density where it has one, scored alike."""
        reference, record = corrected.reference, corrected.record
        value = corrected.reference_value + reference.gain_alone
        alone = corrected._replace(value=value, weights={})
        if record.weights is None or record.stop_reason == "behind":
            return [alone]
        # A reference alone has closed forms; a chance gain is not worth the way of the ODE.
        chance = 0.0
        if self._has_densities:
            corrected, rows = self._scored(corrected)
            chance = reference.split.chance_gain(rows)
        if self.builder.network["whole"]:
            return [corrected]
        return [alone, corrected] if corrected.value > alone.value + chance else [alone]

    def _scored(self, candidate: Candidate) -> tuple[Candidate, slice]:
        """The candidate with the ODE's plan and the value of its density, and on which rows."""
        split, mixture = candidate.reference.split, candidate.reference.mixture
        density = self.builder.density(mixture, candidate.weights, self.likelihood, SolverPlan())
        rows = split.at_least(MAX_CALIBRATION_ROWS)
        density, n_scored = density.calibrated(rows, self.clock.left())
        scored = slice(n_scored)
        gain = split.score(lambda Z: density.log_density(Z)[0], scored)
        gain -= split.score(mixture.score_samples, scored)
        value = candidate.reference_value + gain
        return candidate._replace(value=value, plan=density.plan), scored
