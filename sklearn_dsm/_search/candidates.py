"""What a fit chooses between."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from sklearn.mixture import GaussianMixture

from .._core.likelihood.ode import SolverPlan
from .._training import TrainingRecord
from .._transforms.chain import Chain
from .clock import Clock
from .split import Split


class Reference(NamedTuple):
    """A mixture to correct in a space, and the values that training must reach.

    Behind the first early on, or on its way to less than the second, it is not worth its time.

    Where no network corrects it, the mixture, or the map in front of a Gaussian, can have the
    held-out rows too, which is expected to bring ``gain_alone``.
    """

    split: Split
    mixture: GaussianMixture
    hurdle: float = -math.inf
    final_hurdle: float = -math.inf
    with_held_out_rows: Callable[[Clock], tuple[Chain, GaussianMixture]] | None = None
    gain_alone: float = 0.0

    def alone(self, clock: Clock) -> tuple[Chain, GaussianMixture]:
        """The map and the mixture that no network corrects."""
        if self.with_held_out_rows is None:
            return self.split.latent, self.mixture
        return self.with_held_out_rows(clock)


class Candidate(NamedTuple):
    """A reference, how training went there, and a density made of both."""

    reference: Reference
    record: TrainingRecord
    reference_value: float
    value: float
    weights: dict[str, np.ndarray]
    plan: SolverPlan = SolverPlan()
