"""Matrix products in bfloat16, where a device has fast ones."""

from __future__ import annotations

from functools import cache

import torch


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
