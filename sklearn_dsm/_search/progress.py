"""Lines on the stages of a fit."""

from __future__ import annotations

import time


class Progress:
    """Prints what a fit is about to do and what came of it, with the seconds since it began."""

    def __init__(self, verbose: int = 0):
        self.verbose, self.started = verbose, time.perf_counter()

    def __call__(self, line: str) -> None:
        if self.verbose:
            print(f"[{time.perf_counter() - self.started:6.1f} s] {line}", flush=True)
