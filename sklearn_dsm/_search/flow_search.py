"""Autoregressive flows as base densities: short trainings first, longer ones where they lead."""

from __future__ import annotations

import math
from operator import attrgetter
from typing import NamedTuple

import numpy as np

from .._budget import Budget
from .._checkpoint import NO_CHECKPOINT, Checkpoint
from .._random import seed_from
from .._transforms.autoregressive import AutoregressiveTransform, fit_autoregressive
from .base_densities import Base, Family, gaussian
from .split import Split
from .tuning import TUNING


class _Flow(NamedTuple):
    """A flow of so many layers, the value of the Gaussian behind it, and its later gain."""

    transform: AutoregressiveTransform
    value: float
    later_gain: float
    n_layers: int


class FlowSearch(Family):
    """Flows of standardised features, in their own order, and the Gaussian behind them.

    Parameters
    ----------
    straight : Split
        Rows behind lines and a whitening.
    random_state : RandomState
    max_epochs : int
    checkpoint : Checkpoint
    """

    name = "autoregressive flow"

    def __init__(
        self,
        straight: Split,
        random_state: np.random.RandomState,
        max_epochs: int,
        checkpoint: Checkpoint = NO_CHECKPOINT,
    ):
        self.rows, self.checkpoint = straight.in_column_order(), checkpoint
        self.random_state, self.max_epochs = random_state, max_epochs
        self.found: list[_Flow] = []
        self.value = -np.inf

    @staticmethod
    def suits(split: Split) -> bool:
        """Whether there are features to order, and rows enough for the flow's weights."""
        n, d = split.train_rows[0].shape
        return d > 1 and n >= TUNING.flow_rows_per_feature * d

    @property
    def _best(self) -> _Flow:
        return max(self.found, key=attrgetter("value"))

    def base(self) -> Base:
        return gaussian(self.rows.behind(self._best.transform))

    def start(self, budget: Budget, best_value: float) -> None:
        """Train for a short time with either number of layers, up to one that is the best base."""
        n_epochs = self.max_epochs
        if np.isinf(budget.seconds):
            n_epochs = min(n_epochs, TUNING.flow_epochs)
        for n_layers in TUNING.flow_layers:
            if self.value <= best_value:
                seconds = TUNING.flow_share * budget.seconds
                self._train(n_layers, False, min(seconds, budget.left()), n_epochs, best_value)

    def expected_value(self, budget: Budget) -> float:
        """The value to expect, if every doubling of the time gains a share of the one before."""
        if not self.found or budget.left(TUNING.grown_until) <= 0:
            return self.value
        doublings = math.log2(TUNING.grown_flow_share / TUNING.flow_share)
        ratio = TUNING.max_gain_ratio
        gains = ratio * (1 - ratio**doublings) / (1 - ratio)
        return self.value + gains * self._best.later_gain

    def grow(self, budget: Budget) -> None:
        """Train longer with the better number of layers, with the shift before and after."""
        n_layers = self._best.n_layers
        for shift_last in (False, True):
            seconds = min(TUNING.grown_flow_share * budget.seconds, budget.left(TUNING.grown_until))
            self._train(n_layers, shift_last, seconds, self.max_epochs, self.value)

    def _train(
        self, n_layers: int, shift_last: bool, seconds: float, n_epochs: int, wanted: float
    ) -> None:
        """Train one flow; it is pruned where it is not half of the way to what is wanted."""
        if seconds <= 0:
            return
        rows = self.rows
        found = fit_autoregressive(
            rows.train_rows,
            rows.held_out_rows,
            n_layers,
            shift_last,
            wanted - rows.mean_log_slope,
            (TUNING.pruned_between[0], 1.0),
            TUNING.flow_epochs_to_tell,
            seconds,
            n_epochs,
            seed_from(self.random_state),
            self.checkpoint,
        )
        if found is not None:
            value = found.value + rows.mean_log_slope
            self.found.append(_Flow(found.transform, value, found.later_gain, n_layers))
            self.value = self._best.value
