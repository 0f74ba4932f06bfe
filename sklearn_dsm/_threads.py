"""How many threads torch takes where it does not have the process to itself."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from joblib.parallel import get_active_backend
from threadpoolctl import threadpool_limits

IMPORTED_IN = os.getpid()


def take_one_thread_where_forked() -> None:
    """Compute with one thread in a forked process.

    OpenMP's threads do not survive a fork: a process that waits for them waits for ever.
    """
    if os.getpid() != IMPORTED_IN and torch.get_num_threads() > 1:
        threadpool_limits(1, user_api="openmp")
        torch.set_num_threads(1)


class _Workers:
    """The worker threads that compute at present, and the number of threads they were given."""

    lock = threading.Lock()
    n = 0
    given = 0


@contextmanager
def one_thread_in_workers() -> Iterator[None]:
    """In a worker thread of joblib, compute with one thread, and put their number back.

    A number of threads belongs to the thread that sets it, but a new thread begins with the one
    that any thread set last.
    """
    backend, _ = get_active_backend()
    is_main = threading.current_thread() is threading.main_thread()
    if is_main or not backend.nesting_level:
        yield
        return
    with _Workers.lock:
        if _Workers.n == 0:
            _Workers.given = torch.get_num_threads()
        _Workers.n += 1
        torch.set_num_threads(1)
    try:
        yield
    finally:
        with _Workers.lock:
            _Workers.n -= 1
            torch.set_num_threads(_Workers.given)
