"""Matrix products in bfloat16, where a device has fast ones."""

from __future__ import annotations

from functools import cache

import torch


def product_type(device: str | torch.device, wanted: bool = True) -> torch.dtype:
    """bfloat16 where it is wanted, and multiplied faster than float32."""
    fast = wanted and _multiplies_bfloat16(torch.device(device).type)
    return torch.bfloat16 if fast else torch.float32


@cache
def _multiplies_bfloat16(device_type: str) -> bool:
    if device_type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16"))


def half_precision(device: torch.device, wanted: bool = True) -> torch.autocast:
    """Matrix products in bfloat16 where the device multiplies it faster than float32."""
    fast = product_type(device, wanted) == torch.bfloat16
    return torch.autocast(device.type, torch.bfloat16, enabled=fast)
