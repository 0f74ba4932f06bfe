"""Sums of Gaussian kernels in up to three features, from a grid that the kernels are spread on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .._evaluation.latent_density import chunks

# A kernel of width h is two of width s = h / sqrt(2), one after the other. The sum over the nodes
# of a grid that stands for the integral between the two errs by 2 exp(-(pi s / step)^2), relative
# to each kernel. Both are cut at REACH s, so a sum errs by about exp(-REACH^2 / 2) of its maximum.
STEP, REACH = 0.8, 7.0
N_NODES = 2 * int(np.ceil(REACH / STEP))
MAX_FEATURES, MAX_CELLS, CHUNK_CELLS = 3, 2**22, 2**21
# Beyond so many steps float64 does not tell nodes apart.
MAX_STEPS = 2.0**52


@dataclass(frozen=True, eq=False)
class Axis:
    """The nodes on one axis of the grid that are near a centre.

    Attributes
    ----------
    origin, step, width : float
        A node, the distance between nodes, and the width s of a kernel.
    first : ndarray of int, sorted
        Where the stretches of ``N_NODES`` nodes around the centres begin.
    place : ndarray of int
        Where ``first`` are kept, without the nodes in wide gaps.
    """

    origin: float
    step: float
    width: float
    first: np.ndarray
    place: np.ndarray

    @classmethod
    def near(cls, centers: np.ndarray, h: float) -> Axis:
        """The axis for centres with these coordinates (k,)."""
        width = h / np.sqrt(2)
        origin, step = float(centers.min()), STEP * width
        first = np.unique(_first_node(centers, origin, step))
        gaps = np.minimum(np.diff(first), 2 * N_NODES)
        return cls(origin, step, width, first, N_NODES + np.append(0, np.cumsum(gaps)))

    @property
    def size(self) -> int:
        return int(self.place[-1]) + 2 * N_NODES

    def spread(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Places of the nodes near coordinates (m,), with kernels and their slopes in x there.

        All three (m, N_NODES). Where no centre is near, the kernels are zero.
        """
        first = _first_node(x, self.origin, self.step)
        left = np.searchsorted(self.first, first, side="right") - 1
        right = np.minimum(left + 1, len(self.first) - 1)
        after_left = np.where(left < 0, N_NODES, first - self.first[left])
        before_right = np.where(left < right, self.first[right] - first, N_NODES)
        place = np.where(
            after_left < N_NODES, self.place[left] + after_left, self.place[right] - before_right
        )
        near = (after_left < N_NODES) | (before_right < N_NODES)
        nodes = np.arange(N_NODES)
        offset = np.where(near, x - self.origin - first * self.step, 0.0)
        u = (offset[:, None] - self.step * nodes) / self.width
        share = np.sqrt(self.step) / (self.width * np.sqrt(2 * np.pi))
        kernels = np.exp(-0.5 * u**2) * (share * near)[:, None]
        return np.where(near, place, 0)[:, None] + nodes, kernels, -u / self.width * kernels


def _first_node(x: np.ndarray, origin: float, step: float) -> np.ndarray:
    steps = np.clip((x - origin) / step, -MAX_STEPS, MAX_STEPS)
    return np.floor(steps).astype(np.int64) - (N_NODES // 2 - 1)


class KernelGrid:
    """The kernels, spread on the nodes of a grid.

    Parameters
    ----------
    centers : ndarray of shape (k, d), with d at most ``MAX_FEATURES``
    weights : ndarray of shape (k,)
    axes : list of d Axis, as :func:`axes_near` gives them
    """

    def __init__(self, centers: np.ndarray, weights: np.ndarray, axes: list[Axis]):
        self.axes = axes
        self.cells = np.zeros(int(np.prod([axis.size for axis in axes])))
        for part in self._parts(len(centers)):
            places, kernels = self._nodes(centers[part])
            product = weights[part]
            for kernel, _ in kernels:
                product = product[..., None] * _beside(kernel, product.ndim)
            self.cells += np.bincount(places.ravel(), product.ravel(), minlength=len(self.cells))

    def sums(self, points: np.ndarray) -> np.ndarray:
        """The sums (m,) at points (m, d)."""
        values = np.empty(len(points))
        for part in self._parts(len(points)):
            places, kernels = self._nodes(points[part])
            values[part] = _contracted(self.cells[places], [kernel for kernel, _ in kernels])
        return values

    def sums_and_gradients(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The sums (m,), and their gradients (m, d)."""
        values, gradients = np.empty(len(points)), np.empty(points.shape)
        for part in self._parts(len(points)):
            places, kernels = self._nodes(points[part])
            patch = self.cells[places]
            values[part] = _contracted(patch, [kernel for kernel, _ in kernels])
            for j in range(points.shape[1]):
                factors = [pair[int(i == j)] for i, pair in enumerate(kernels)]
                gradients[part, j] = _contracted(patch, factors)
        return values, gradients

    def _parts(self, n: int):
        return chunks(n, max(1, CHUNK_CELLS // N_NODES ** len(self.axes)))

    def _nodes(self, points: np.ndarray):
        """Cells (m, N_NODES, ..., N_NODES) around points, and each axis's kernels and slopes."""
        kernels, cells = [], np.zeros(len(points), dtype=np.int64)
        for j, axis in enumerate(self.axes):
            places, kernel, slope = axis.spread(points[:, j])
            cells = cells[..., None] * axis.size + _beside(places, cells.ndim)
            kernels.append((kernel, slope))
        return cells, kernels


def axes_near(centers: np.ndarray, h: float) -> list[Axis] | None:
    """Axes of a grid for these centres; None where it would have too many features or cells."""
    if centers.shape[1] > MAX_FEATURES:
        return None
    axes = [Axis.near(column, h) for column in centers.T]
    return axes if np.prod([float(axis.size) for axis in axes]) <= MAX_CELLS else None


def _beside(values: np.ndarray, n_axes: int) -> np.ndarray:
    """Values (m, N_NODES) along the last axis of an array with so many axes before it."""
    return values.reshape(len(values), *[1] * (n_axes - 1), -1)


def _contracted(patch: np.ndarray, factors: list[np.ndarray]) -> np.ndarray:
    """The sum of a patch (m, p, ..., p) times one factor (m, p) for each axis."""
    for factor in reversed(factors):
        patch = np.einsum("m...p,mp->m...", patch, factor)
    return patch
