"""Fast products of matrices and compiled networks, where a device has them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch
from torch import nn

MAX_COMPILED = 128


@cache
def product_type(device_type: str) -> torch.dtype:
    """bfloat16 where such a device multiplies it faster than float32."""
    if device_type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        capabilities = torch.cpu.get_capabilities()
        fast = any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16"))
    return torch.bfloat16 if fast else torch.float32


def half_precision(device: torch.device, wanted: bool = True) -> torch.autocast:
    """Matrix products in bfloat16 where the device multiplies it faster than float32."""
    fast = wanted and product_type(device.type) == torch.bfloat16
    return torch.autocast(device.type, torch.bfloat16, enabled=fast)


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
