"""Forward-mode derivatives."""

from __future__ import annotations

import threading
import warnings
from functools import cache

import torch

_LOCK = threading.Lock()


def load_forward_mode() -> None:
    """Have torch load what forward-mode derivatives need, once and in one thread."""
    with _LOCK:
        _load()


@cache
def _load() -> None:
    """Torch warns of its own doings meanwhile."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        one = torch.ones(())
        torch.func.jvp(torch.sin, (one,), (one,))
