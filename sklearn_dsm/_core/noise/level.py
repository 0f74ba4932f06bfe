"""A noise level: what is left of a sample and the variance of the noise added to it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class NoiseLevel(NamedTuple):
    r"""The law of a noised row, :math:`X_s \mid X_0 \sim N(a X_0, v I)`.

    Attributes
    ----------
    a : Tensor of shape () or (n, 1)
        Factor on the clean row.
    v : Tensor of shape () or (n, 1)
        Variance of the added Gaussian noise.
    """

    a: Tensor
    v: Tensor

    @classmethod
    def from_log_snr(cls, log_snr: Tensor) -> NoiseLevel:
        """The variance-preserving level (a^2 + v = 1) with this log signal-to-noise ratio."""
        return cls(torch.sigmoid(log_snr).sqrt(), torch.sigmoid(-log_snr))

    @classmethod
    def clean(cls, like: Tensor) -> NoiseLevel:
        """The level without noise, of the dtype and on the device of a tensor."""
        return cls(like.new_ones(()), like.new_zeros(()))

    @property
    def log_snr(self) -> Tensor:
        """log(a^2 / v)."""
        return 2 * self.a.log() - self.v.log()

    @property
    def scale(self) -> Tensor:
        """sqrt(a^2 + v): the standard deviation of noised unit-variance data."""
        return (self.a**2 + self.v).sqrt()
