"""Where a training is, as plain values, and how it goes on from there."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, cast

import torch
from skorch.callbacks import Callback

from .._checkpoint import Step
from .._core.arrays import arrays_of, state_of, tensor_of
from .._core.averaging import WeightAverage
from .callbacks import Averaging, Schedule, Selection
from .record import TrainingRecord


class Resuming(Callback):
    """Offers the state of a training to its step after every epoch that does not end it.

    Parameters
    ----------
    step : Step
    schedule, averaging, selection : Callback
        Of the same training.
    generator : torch.Generator
        What all that is random in it comes from.
    objective : ScoreLoss or None
        The loss of this training, which may remember something.
    """

    def __init__(
        self,
        step: Step,
        schedule: Schedule,
        averaging: Averaging,
        selection: Selection,
        generator: torch.Generator,
        objective: Any,
    ):
        self.step, self.schedule, self.averaging = step, schedule, averaging
        self.selection, self.generator, self.objective = selection, generator, objective

    def on_epoch_end(self, net, **kwargs):
        self.step.reached(lambda: self._state(net))

    def _state(self, net) -> dict[str, Any]:
        schedule = self.schedule
        return {
            "record": asdict(self.selection.record),
            "best_epoch": self.selection.best_epoch,
            "weights": arrays_of(net.module_),
            "average": cast(WeightAverage, self.averaging.average).memory,
            "optimizer": [part.cpu().numpy() for part in net.optimizer_.memory],
            "schedule": [schedule.n_steps, schedule.seconds, schedule.first_last_epochs],
            "generator": self.generator.get_state().numpy(),
            "loss": self.objective.memory if self.objective else {},
        }

    def restore(self, net) -> None:
        """Put a training that has begun anew where it was stored."""
        state = self.step.state
        if state is None:
            return
        earlier = TrainingRecord(**state["record"])
        vars(self.selection.record).update(vars(earlier))
        self.selection.best_epoch = state["best_epoch"]
        net.module_.load_state_dict(state_of(state["weights"]))
        self.averaging.average = WeightAverage(net.module_)
        self.averaging.average.memory = state["average"]
        for part, stored in zip(net.optimizer_.memory, state["optimizer"], strict=True):
            part.copy_(tensor_of(stored))
        n_steps, seconds, last_epochs = state["schedule"]
        self.schedule.n_steps, self.schedule.seconds = n_steps, seconds
        self.schedule.first_last_epochs = last_epochs
        self.generator.set_state(tensor_of(state["generator"]))
        if state["loss"]:
            self.objective.memory = state["loss"]
        for _ in range(earlier.n_epochs):
            net.history.new_epoch()
        self.step.checkpoint.say(f"resumes a training after epoch {earlier.n_epochs}")
