"""The wall-clock budget that every competitor of the density benchmark is fitted within."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any


def n_threads() -> int:
    """OMP_NUM_THREADS where it is set, else the number of cores."""
    return int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)


class Clock:
    """Seconds since the start, and how many are left of a budget."""

    def __init__(self, budget: float):
        self.budget, self.started = budget, time.perf_counter()

    @property
    def elapsed(self) -> float:
        return time.perf_counter() - self.started

    @property
    def left(self) -> float:
        return self.budget - self.elapsed


def processor_timed(function: Callable[[], Any]) -> tuple[Any, float]:
    """What a call gives, and the processor's seconds, which other processes do not lengthen."""
    started = time.process_time()
    return function(), time.process_time() - started


def timed(function: Callable[[], Any]) -> tuple[Any, float]:
    """What a call gives, and its seconds."""
    clock = Clock(0.0)
    return function(), clock.elapsed
