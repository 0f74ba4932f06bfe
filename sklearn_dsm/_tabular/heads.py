"""Laws of one field from the outputs of a network: of states, and of numbers."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from scipy.special import ndtr, ndtri
from torch import Tensor

from .._core.constants import LOG_2PI

N_COMPONENTS = 8
N_OUTPUTS = 2 + 3 * N_COMPONENTS
# A share of every law is the column's own law without the other columns.
MARGINAL_SHARE = 1e-3
MIN_LOG_SCALE = -9.0
# Cells narrower than this, in standard deviations, have the density at their middle in training.
NARROW = 0.02
FIRST_LOG_SCALE = math.log(0.5)


class Normals(NamedTuple):
    """Mixtures of normals, each an array of shape (..., n_components)."""

    log_weight: Tensor
    mean: Tensor
    log_scale: Tensor

    def log_density(self, score: Tensor) -> Tensor:
        """Log-densities (...) of scores (...)."""
        standard = (score[..., None] - self.mean) * torch.exp(-self.log_scale)
        joint = self.log_weight - self.log_scale - 0.5 * (standard**2 + LOG_2PI)
        return torch.logsumexp(joint, -1)

    def log_mass(self, low: Tensor, high: Tensor) -> Tensor:
        """Log-probabilities (...) of intervals."""
        joint = self.log_weight + self.log_shares(low, high)
        return torch.logsumexp(joint, -1)

    def log_shares(self, low: Tensor, high: Tensor) -> Tensor:
        """Log-probabilities (..., n_components) of intervals under each component."""
        rate = torch.exp(-self.log_scale)
        a, b = (low[..., None] - self.mean) * rate, (high[..., None] - self.mean) * rate
        # In the lower tail logarithms keep their digits.
        flip = a + b > 0
        a, b = torch.where(flip, -b, a), torch.where(flip, -a, b)
        width = b - a
        narrow = width < NARROW
        middle = 0.5 * (a + b)
        of_density = (
            torch.log(width.clamp_min(1e-30))
            - 0.5 * (middle**2 + LOG_2PI)
            # The second term of the integral over the cell.
            + torch.log1p((middle**2 - 1).clamp(max=1e4) * width**2 / 24)
        )
        above = torch.special.log_ndtr(torch.where(narrow, torch.ones_like(b), b))
        below = torch.special.log_ndtr(torch.where(narrow, -torch.ones_like(a), a))
        difference = above + torch.log1p(-torch.exp((below - above).clamp(max=-1e-7)))
        return torch.where(narrow, of_density, difference)


def normals(outputs: Tensor) -> Normals:
    """Mixtures from outputs (..., N_OUTPUTS), where all of 0 is nearly a standard normal."""
    k = N_COMPONENTS
    location, spread = outputs[..., :1], outputs[..., 1:2]
    logits, shifts, widths = outputs[..., 2:].split(k, -1)
    places = (torch.arange(k, dtype=outputs.dtype, device=outputs.device) + 0.5) / k
    mean = location + torch.exp(spread) * (torch.special.ndtri(places) + shifts)
    log_scale = (spread + FIRST_LOG_SCALE + widths).clamp_min(MIN_LOG_SCALE)
    return Normals(torch.log_softmax(logits, -1), mean, log_scale)


def averaged(each: Normals) -> Normals:
    """The average over the first axis, a mixture of all components there."""
    log_weight, mean, log_scale = (part.movedim(0, -2).flatten(-2) for part in each)
    return Normals(log_weight - math.log(len(each.mean)), mean, log_scale)


def pooled(each: Normals) -> Normals:
    """The average over the first axis, and the marginal share."""
    law = averaged(each)
    one = torch.ones_like(law.mean[..., :1])
    return Normals(
        torch.cat(
            [law.log_weight + math.log1p(-MARGINAL_SHARE), math.log(MARGINAL_SHARE) * one], -1
        ),
        torch.cat([law.mean, 0 * one], -1),
        torch.cat([law.log_scale, 0 * one], -1),
    )


def log_states(outputs: Tensor, log_marginal: Tensor) -> Tensor:
    """Log-probabilities (n, n_states) from outputs (n_members, n, n_states)."""
    found = torch.logsumexp(torch.log_softmax(outputs, -1), 0) - math.log(len(outputs))
    marginal = math.log(MARGINAL_SHARE) + log_marginal
    return torch.logaddexp(found + math.log1p(-MARGINAL_SHARE), marginal)


def draw_scores(
    law: Normals, low: np.ndarray, high: np.ndarray, choice: np.ndarray, place: np.ndarray
) -> np.ndarray:
    """Scores (n,) within intervals, from mixtures of shape (n, n_components) and uniforms (n,)."""
    weight = torch.softmax(law.log_weight + law.log_shares(*map(torch.from_numpy, (low, high))), -1)
    chosen = draw_states(weight.numpy(), choice)
    rows = np.arange(len(chosen))
    mean, scale = law.mean.numpy()[rows, chosen], np.exp(law.log_scale.numpy()[rows, chosen])
    a, b = (low - mean) / scale, (high - mean) / scale
    # In the lower tail probabilities keep their digits.
    flip = a + b > 0
    a, b = np.where(flip, -b, a), np.where(flip, -a, b)
    below, above = ndtr(a), ndtr(b)
    standard = ndtri(below + place * (above - below)).clip(a, b)
    return np.clip(mean + scale * np.where(flip, -standard, standard), low, high)


def draw_states(weight: np.ndarray, choice: np.ndarray) -> np.ndarray:
    """States (n,) by probabilities (n, n_states) up to a factor, from uniforms (n,)."""
    total = np.cumsum(weight, axis=1)
    u = choice * total[:, -1]
    return np.minimum((total <= u[:, None]).sum(1), weight.shape[1] - 1)
