"""One thread or all of them, whichever trains faster at the time."""

from __future__ import annotations

import threading
import time

import torch
from skorch.callbacks import Callback

from .record import TrainingSettings

# A trial times steps in turns, each at least so many, and for so long a share of the training.
TURNS, MIN_STEPS, TURN_SHARE = 2, 2, 0.002
# Seconds over which steps are compared with those of the last trial, how much slower they are where
# there is a new one, and after how many seconds all threads have another chance.
WATCHED_SECONDS, SLOWER, RETRY_SECONDS = 1.0, 1.5, 10.0


class ThreadChoice(Callback):
    """Trains with one thread while several are slower, and puts their number back afterwards.

    On a busy machine a step with several threads waits for the one that has no core. The sums of
    other numbers of threads differ in their last digits; so there is a choice only where the time
    is limited, and the result depends on the clock in any case. Only the main thread chooses:
    the number belongs to the whole process.
    """

    def __init__(self, settings: TrainingSettings):
        self.given = torch.get_num_threads()
        limit = settings.max_fit_time
        self.active = (
            limit is not None
            and torch.device(settings.device).type == "cpu"
            and self.given > 1
            and threading.current_thread() is threading.main_thread()
        )
        self.turn_seconds = TURN_SHARE * (limit or 0.0)

    def __enter__(self) -> ThreadChoice:
        if self.active:
            self._begin_trial()
        return self

    def __exit__(self, *error) -> None:
        if self.active:
            torch.set_num_threads(self.given)

    def on_batch_begin(self, net, **kwargs):
        self.began = time.perf_counter()

    def on_batch_end(self, net, **kwargs):
        if not self.active:
            return
        now = time.perf_counter()
        self.n_steps += 1
        self.seconds += now - self.began
        wanted = self.turn_seconds if self.turns else WATCHED_SECONDS
        if self.n_steps < MIN_STEPS or self.seconds < wanted:
            return
        mean = self.seconds / self.n_steps
        if self.turns:
            self._end_turn(mean, now)
        elif mean > SLOWER * self.expected or now > self.retry_at:
            self._begin_trial()
        else:
            self._count_anew()

    def _count_anew(self) -> None:
        self.n_steps, self.seconds = 0, 0.0

    def _begin_trial(self) -> None:
        self.turns = [1, self.given] * TURNS
        self.taken = {1: 0.0, self.given: 0.0}
        self._take(self.turns[0])

    def _take(self, n_threads: int) -> None:
        torch.set_num_threads(n_threads)
        self._count_anew()

    def _end_turn(self, mean: float, now: float) -> None:
        self.taken[self.turns.pop(0)] += mean / TURNS
        if self.turns:
            return self._take(self.turns[0])
        fastest = min(self.taken, key=self.taken.__getitem__)
        self.expected = self.taken[fastest]
        self.retry_at = now + (RETRY_SECONDS if fastest == 1 else float("inf"))
        self._take(fastest)
