"""Threads in a process that was forked from one whose threads had worked."""

from __future__ import annotations

import os

import torch
from threadpoolctl import threadpool_limits

IMPORTED_IN = os.getpid()


def take_one_thread_where_forked() -> None:
    """Compute with one thread in a forked process.

    OpenMP's threads do not survive a fork: a process that waits for them waits for ever.
    """
    if os.getpid() != IMPORTED_IN and torch.get_num_threads() > 1:
        threadpool_limits(1, user_api="openmp")
        torch.set_num_threads(1)
