"""Forward-mode derivatives."""

from __future__ import annotations

import warnings
from functools import cache

import torch


@cache
def load_forward_mode() -> None:
    """Have torch load what forward-mode derivatives need, which warns of torch's own doings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        one = torch.ones(())
        torch.func.jvp(torch.sin, (one,), (one,))
