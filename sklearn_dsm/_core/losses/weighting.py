"""What an integral over noise levels is weighted by."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..noise.processes import NoiseProcess

# The law of log sigma that EDM draws training levels from, for data of unit variance: its own
# is for a deviation of one half.
EDM_MEAN, EDM_DEVIATION = -1.2 + math.log(2), 1.2


def _likelihood_measure(process: NoiseProcess, log_snr: Tensor) -> Tensor:
    return torch.ones_like(log_snr)


def _time_measure(process: NoiseProcess, log_snr: Tensor) -> Tensor:
    low, high = process.log_snr_range
    with torch.enable_grad():
        levels = log_snr.detach().requires_grad_()
        slope = torch.autograd.grad(process.time(levels).sum(), levels)[0]
    inside = (log_snr >= low) & (log_snr <= high)
    return torch.where(inside, -slope, 0.0) * (high - low)


def _edm_measure(process: NoiseProcess, log_snr: Tensor) -> Tensor:
    z = (-log_snr / 2 - EDM_MEAN) / EDM_DEVIATION
    return torch.exp(-(z**2) / 2) * (1 + torch.exp(-log_snr))


# What an integral over noise levels is weighted by, as a density in the log-SNR; the error of
# the predicted noise is what is weighted.
MEASURES = {"likelihood": _likelihood_measure, "simple": _time_measure, "edm": _edm_measure}
