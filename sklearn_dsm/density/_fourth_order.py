"""Kernel estimates of order four in one feature, carried by the points of a fine grid."""

from __future__ import annotations

import numpy as np

from .._evaluation.latent_density import chunks
from ._boundaries import Box
from ._images import Kernels

# The points are so close that their own kernels, as wide as the step between them, do not show.
# They lie within so many bandwidths of the samples, and beyond a bound within so many steps.
MIN_POINTS, MAX_POINTS, POINTS_PER_BANDWIDTH, REACH, STEPS_BEYOND = 4000, 10**6, 20, 6, 8
POINTS_AT_ONCE, KERNELS_AT_ONCE = 64, 2**20


def fourth_order_points(kernels: Kernels, h: float, box: Box | None) -> tuple[Kernels, float]:
    """The estimate, negative densities set to zero, as points (k, 1) with the width of a kernel."""
    z = kernels.centers[:, 0]
    low, high = z.min() - REACH * h, z.max() + REACH * h
    if box is not None:
        low, high = max(low, box.low[0]), min(high, box.high[0])
    wanted = POINTS_PER_BANDWIDTH * (high - low) / h
    n_points = int(np.clip(wanted, MIN_POINTS, MAX_POINTS))
    step = (high - low) / n_points
    points = low + step * (np.arange(n_points) + 0.5)
    density = fourth_order_sums(points, kernels, h).clip(min=0)
    parts = [(points, density)]
    if box is not None:
        # Where points end at a bound, their own kernels need more of them beyond it.
        edge, turn = slice(None, STEPS_BEYOND), (high - low) * box.periodic[0]
        back = slice(-STEPS_BEYOND, None)
        if low == box.low[0]:
            parts.append(
                (points[back] - turn, density[back])
                if turn
                else (2 * low - points[edge], density[edge])
            )
        if high == box.high[0]:
            parts.append(
                (points[edge] + turn, density[edge])
                if turn
                else (2 * high - points[back], density[back])
            )
    points, density = (np.concatenate(part) for part in zip(*parts, strict=True))
    kept = density > 0
    weights = density[kept] / density[kept].sum()
    return Kernels(points[kept, None], weights, np.flatnonzero(kept)), float(step)


def fourth_order_sums(points: np.ndarray, kernels: Kernels, h: float) -> np.ndarray:
    """The kernel estimate at points (m,), from the centres near enough to count."""
    total, sorting = np.empty(len(points)), np.argsort(points)
    order = np.argsort(kernels.centers[:, 0])
    centers, weights = kernels.centers[order, 0], kernels.weights[order]
    for part in chunks(len(points), POINTS_AT_ONCE):
        x = points[sorting[part]]
        first, last = np.searchsorted(centers, [x[0] - 8 * h, x[-1] + 8 * h])
        sums = np.zeros(len(x))
        for some in chunks(last - first, KERNELS_AT_ONCE // POINTS_AT_ONCE):
            near = slice(first + some.start, min(first + some.stop, last))
            squared = ((x[:, None] - centers[near]) / h) ** 2
            sums += (np.exp(-0.5 * squared) * (3 - squared)) @ weights[near]
        total[sorting[part]] = sums / (2 * h * np.sqrt(2 * np.pi))
    return total
