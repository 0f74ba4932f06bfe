"""The time a fit may take."""

from __future__ import annotations

import math
import time
from copy import copy


class _Clock:
    """When something began, which all budgets of a fit share."""

    def __init__(self):
        self.started = time.perf_counter()


class Budget:
    """The seconds a fit may take, and those it has left; infinite where there is no limit."""

    def __init__(self, max_fit_time: float | None = None):
        self.seconds = math.inf if max_fit_time is None else max_fit_time
        self.clock = _Clock()

    def first(self, share: float) -> Budget:
        """A budget of a first share of the seconds, started with this one."""
        part = copy(self)
        part.seconds *= share
        return part

    @property
    def taken(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self.clock.started

    @taken.setter
    def taken(self, seconds: float) -> None:
        """Of this budget and of all that were started with it."""
        self.clock.started = time.perf_counter() - seconds

    @property
    def is_over(self) -> bool:
        """Whether no seconds are left."""
        return self.left() <= 0

    @property
    def share_taken(self) -> float:
        """The share of the seconds that is over; 0 where there is no limit."""
        return self.taken / self.seconds

    def left(self, until: float = 1.0) -> float:
        """Seconds left until this share of them is over."""
        return until * self.seconds - self.taken
