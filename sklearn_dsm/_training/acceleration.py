"""Compiled networks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from .._compat import compiling

MAX_COMPILED = 128


@contextmanager
def compiled(network: nn.Module, wanted: bool) -> Iterator[None]:
    """Have calls of a network compiled, where wanted.

    The weights keep their names and places, and copies of the network are not compiled.
    """
    if not wanted:
        yield
        return
    network.compile()
    # A network of another shape is compiled again, and too many are silently not compiled.
    with compiling(MAX_COMPILED):
        yield
