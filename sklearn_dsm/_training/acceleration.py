"""Compiled networks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

MAX_COMPILED = 128


@contextmanager
def compiled(network: nn.Module, wanted: bool) -> Iterator[None]:
    """Have calls of a network compiled, where wanted.

    The weights keep their names and places, and copies of the network are not compiled.
    """
    if not wanted:
        yield
        return
    # Imports the compiler, which takes seconds.
    import torch._dynamo.config
    from torch._dynamo.exc import TorchDynamoException

    network.compile()
    try:
        # A network of another shape is compiled again, and too many are silently not compiled.
        with torch._dynamo.config.patch(recompile_limit=MAX_COMPILED):
            yield
    except TorchDynamoException as error:
        reason = " ".join(str(error).split("\n")[:2])
        raise RuntimeError(
            f"torch could not compile the network: {reason} On a CPU it needs a C++ compiler "
            "(the variable CXX names one), on a GPU triton. Or fit with compile=False."
        ) from error
