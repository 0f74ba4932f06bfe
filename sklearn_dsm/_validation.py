"""Checks of user input that scikit-learn does not make: weights, devices and layers."""

from __future__ import annotations

import sys
from numbers import Integral

import numpy as np
import torch

from ._compat import check_sample_weight

# The device that accelerate has given to a process.
ACCELERATE = "accelerate"


def resolve_device(device: str) -> torch.device:
    """The torch device a name stands for; "auto" is CUDA where there is one."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        raise ValueError(
            f"device={device!r} is not a torch device; use 'auto', 'cpu' or 'cuda'."
        ) from error
    if resolved.type not in ("cpu", "cuda"):
        raise ValueError(f"device={device!r} is not supported; use 'auto', 'cpu' or 'cuda'.")
    n_devices = _n_devices()
    if resolved.type == "cuda" and n_devices == 0:
        raise ValueError(
            f"device={device!r}, but torch {torch.__version__} finds no CUDA device here; use "
            "device='auto' or 'cpu', or install a CUDA build of torch."
        )
    if _is_missing(resolved):
        raise ValueError(
            f"device={device!r}, but there are {n_devices} CUDA devices here, counted from 0; use "
            "'cuda' for the current one."
        )
    return resolved


def evaluation_device(device: str) -> torch.device:
    """The device a fit asked for, or the one there is on the machine it was carried to."""
    if device == ACCELERATE:
        accelerate = sys.modules.get("accelerate.state")
        if accelerate is not None and accelerate.is_initialized():
            return accelerate.PartialState().device
        device = "auto"
    if _n_devices() == 0:
        return torch.device("cpu")
    missing = device != "auto" and _is_missing(torch.device(device))
    return resolve_device("cuda" if missing else device)


def _n_devices() -> int:
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _is_missing(device: torch.device) -> bool:
    return device.type == "cuda" and (device.index or 0) >= _n_devices()


def check_weight(sample_weight, X: np.ndarray) -> np.ndarray:
    """Weights (n,) in float64, none negative, not all zero."""
    return check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)


def distinct_rows(X: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Different rows, sorted, each with the summed weight of its equals."""
    X, inverse = np.unique(X, axis=0, return_inverse=True)
    return X, np.bincount(inverse.ravel(), weight)


def effective_number(weight: np.ndarray) -> float:
    """How many equally weighted rows have a mean as certain as that of rows so weighted."""
    return float(weight.sum() ** 2 / (weight**2).sum())


def checked_layer_sizes(sizes, also: str = "") -> list[int]:
    """Widths of hidden layers, of which there is at least one; ``also`` names other values."""
    valid = isinstance(sizes, (tuple, list)) and len(sizes)
    if not valid or not all(isinstance(size, Integral) and int(size) > 0 for size in sizes):
        raise ValueError(
            f"hidden_layer_sizes={sizes!r} must be {also}a tuple of positive integers."
        )
    return [int(size) for size in sizes]
