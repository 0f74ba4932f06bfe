"""Kernels whose centres are samples, and their images beyond bounds and periods."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import log_ndtr, ndtr

from .._core.constants import LOG_2PI
from ._boundaries import Box
from ._kernel_grid import MAX_FEATURES
from ._kernel_sums import KernelSums

# How many bandwidths beyond a bound, and beyond the ends of a period, centres still count.
REACH, PERIODIC_REACH = 5.0, 6.0
# The slope at a bound has a kernel of so many bandwidths, at most a third of the way to the other
# bound, and is that of the samples within SLOPE_REACH times its width. So many samples without a
# slope are added, and the slope is limited.
SLOPE_WIDTH, SLOPE_REACH, PRIOR_SAMPLES, MAX_SLOPE = 2.0, 6.0, 2.0, 4.0
# Samples that slopes are estimated from in many features.
MAX_SLOPE_SAMPLES = 2000
# Of all coordinates of all centres: 160 MB.
MAX_NUMBERS = 2 * 10**7


class TooManyImagesError(ValueError):
    """The images of samples would not fit in memory."""


class Kernels(NamedTuple):
    """Centres (k, d), their weights (k,), and the sample (k,) that each belongs to."""

    centers: np.ndarray
    weights: np.ndarray
    owners: np.ndarray

    def of(self, index: np.ndarray) -> Kernels:
        return Kernels(*(part[index] for part in self))


def with_images(Z: np.ndarray, share: np.ndarray, n: float, h: float, box: Box | None) -> Kernels:
    r"""Samples in the box, and their images outside of it.

    - A period: the copies by whole periods, with unchanged weights.
    - A bound: the mirror images, with weights that continue the density beyond the bound along
      its slope there. If r is the derivative of its logarithm at the bound, inwards, the image of
      a sample at distance t has its weight times :math:`e^{-2 r t}`. Where the density falls
      inwards, the second-order Taylor polynomial of this factor limits what far samples add.
      Either way, density and continuation agree up to terms in :math:`t^2`, so the bias of the
      kernel estimate is of order :math:`h^2` at the bound.

    Parameters
    ----------
    Z : ndarray of shape (n_samples, d)
    share : ndarray of shape (n_samples,), positive, summing to 1
    n : float
        Number of samples that the shares are worth.
    h : float
    box : Box or None
    """
    kernels = Kernels(Z, share, np.arange(len(Z)))
    if box is None:
        return kernels
    _check_number(Z, h, box)
    slopes = [(j, low) for j in box.bounded for low in (True, False)]
    slopes = [(j, low) for j, low in slopes if np.isfinite((box.low if low else box.high)[j])]
    gains = {(j, low): _gains(Z, share, n, h, box, j, low) for j, low in slopes}
    for j in np.flatnonzero(box.periodic).tolist():
        kernels = _joined(kernels, _copies(kernels, h, box, j))
    away = np.zeros(len(kernels.centers))
    for j in box.bounded:
        parts, distances = [kernels], [away]
        for low in (True, False):
            if (j, low) not in gains:
                continue
            t = _distance(kernels.centers, box, j, low)
            squared = away + t**2
            near = np.flatnonzero(squared <= (REACH * h) ** 2)
            mirrored = kernels.of(near)
            mirrored.centers[:, j] += -2 * t[near] if low else 2 * t[near]
            gain = gains[j, low][mirrored.owners]
            parts.append(mirrored._replace(weights=mirrored.weights * gain))
            distances.append(squared[near])
        kernels, away = _joined(*parts), np.concatenate(distances)
    return kernels


def _check_number(Z: np.ndarray, h: float, box: Box) -> None:
    """Refuse what would have too many images, by their distances from the samples alone."""
    owners, away = np.arange(len(Z)), np.zeros(len(Z))
    for j in range(Z.shape[1]):
        new = [(owners, away)]
        if box.periodic[j]:
            n_copies = int(np.ceil(2 * _periodic_reach(h, box, j) / (box.high[j] - box.low[j])))
            new += [(owners, away)] * n_copies
        else:
            for low in (True, False):
                squared = away + _distance(Z[owners], box, j, low) ** 2
                near = squared <= (REACH * h) ** 2
                new.append((owners[near], squared[near]))
        size = sum(len(part) for part, _ in new) * Z.shape[1]
        if size > MAX_NUMBERS:
            raise TooManyImagesError(
                f"Bounds and periods of the first {j + 1} features need {size:.1e} coordinates of "
                f"centres with this bandwidth, more than {MAX_NUMBERS:.0e}. Use a smaller "
                "bandwidth, fewer samples, or support and period for fewer features."
            )
        owners, away = (np.concatenate(part) for part in zip(*new, strict=True))


def _joined(*parts: Kernels) -> Kernels:
    return Kernels(*(np.concatenate(pieces) for pieces in zip(*parts, strict=True)))


def _copies(kernels: Kernels, h: float, box: Box, j: int) -> Kernels:
    """The centres, moved by whole periods to where kernels reach into the box."""
    z, low, high = kernels.centers[:, j], box.low[j], box.high[j]
    period = high - low
    reach = _periodic_reach(h, box, j)
    n_turns = int(np.ceil(reach / period))
    parts = []
    for turn in [k for k in range(-n_turns, n_turns + 1) if k != 0]:
        moved = z + turn * period
        near = np.flatnonzero((moved >= low - reach) & (moved <= high + reach))
        part = kernels.of(near)
        part.centers[:, j] = moved[near]
        parts.append(part)
    return _joined(*parts)


def _periodic_reach(h: float, box: Box, j: int) -> float:
    """How far from the box copies are kept, so that one is within half a period of any point."""
    return max((box.high[j] - box.low[j]) / 2, PERIODIC_REACH * h)


def _distance(Z: np.ndarray, box: Box, j: int, low: bool) -> np.ndarray:
    return Z[:, j] - box.low[j] if low else box.high[j] - Z[:, j]


def _gains(
    Z: np.ndarray, share: np.ndarray, n: float, h: float, box: Box, j: int, low: bool
) -> np.ndarray:
    """Factors (n_samples,) of the images' weights at one bound."""
    t = _distance(Z, box, j, low)
    width = min(SLOPE_WIDTH * h, (box.high[j] - box.low[j]) / 3)
    seen = np.flatnonzero(t <= SLOPE_REACH * width)
    asked = np.flatnonzero(t <= REACH * h)
    gains = np.zeros(len(Z))
    if len(asked) == 0:
        return gains
    weights = share[seen] * np.exp(-0.5 * (t[seen] / width) ** 2)
    mean = _mean_distances(Z, seen, asked, weights, t / width, n, width, box, j)
    slope = _slopes(mean) / width
    u = slope * t[asked]
    gains[asked] = np.where(u > 0, np.exp(-2 * np.maximum(u, 0)), 1 - 2 * u + 2 * u**2)
    return gains


def _mean_distances(Z, seen, asked, weights, t, n, width, box, j):
    """Weighted mean distance to the bound near some samples, in units of the width."""
    d = Z.shape[1]
    prior = PRIOR_SAMPLES / n
    if d == 1:
        total, pulled = weights.sum(), weights @ t[seen]
        return (pulled + prior * FLAT) / (total + prior)
    if d - 1 > MAX_FEATURES and len(seen) > MAX_SLOPE_SAMPLES:
        every = -(-len(seen) // MAX_SLOPE_SAMPLES)
        seen, weights = seen[::every], weights[::every] * every
    others = np.delete(np.arange(d), j)
    part = Box(box.low[others], box.high[others], box.periodic[others])
    kernels = Kernels(Z[np.ix_(seen, others)], weights, seen)
    for i in np.flatnonzero(part.periodic).tolist():
        kernels = _joined(kernels, _copies(kernels, width, part, i))
    points = Z[np.ix_(asked, others)]
    moments = np.maximum(t[kernels.owners], 1e-9)
    log_peak = -(d - 1) * (np.log(width) + LOG_2PI / 2)
    total, pulled = (
        np.exp(KernelSums(kernels.centers, weights, width).log_sums(points) - log_peak)
        for weights in (kernels.weights, kernels.weights * moments)
    )
    return (pulled + prior * FLAT) / (total + prior)


def _slopes(mean: np.ndarray) -> np.ndarray:
    r"""The slopes :math:`\rho` at which :math:`e^{\rho t - t^2 / 2}` has these means on t > 0."""
    grid = np.linspace(-MAX_SLOPE, MAX_SLOPE, 2001)
    return np.interp(mean, _half_normal_mean(grid), grid)


def _half_normal_mean(slope):
    return slope + np.exp(-0.5 * (slope**2 + LOG_2PI) - log_ndtr(slope))


FLAT = float(_half_normal_mean(0.0))


def log_mass(kernels: Kernels, h: float, box: Box | None) -> float:
    """Logarithm of the mass of the kernels within the box."""
    if box is None:
        return 0.0
    masses = kernels.weights.copy()
    for j in np.flatnonzero(np.isfinite(box.low) | np.isfinite(box.high)):
        z = kernels.centers[:, j]
        masses *= ndtr((box.high[j] - z) / h) - ndtr((box.low[j] - z) / h)
    return float(np.log(masses.sum()))
