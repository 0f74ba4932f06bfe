"""Weighted sums of Gaussian kernels at many points, with their gradients."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from scipy.spatial import KDTree

from .._core.arrays import tensor_of
from .._core.constants import LOG_2PI
from .._evaluation.latent_density import chunks
from ._kernel_grid import MAX_FEATURES, N_NODES, KernelGrid, axes_near

# A sum from the grid stands where it is so large, relative to the largest possible or found.
MIN_SHARE = 1e-4
# What centres too far to count may add to a sum, relative to it.
OMITTED = 1e-8
# Of the blocks of points by centres whose kernels are held at once.
BLOCK_POINTS, BLOCK_CENTERS = 128, 1024
# Points that share the centres near them, and how many centres make it worth a search.
NEIGHBOURS, MIN_SEARCHED = 32, 5000
# Nearest centres among which one is looked for that is not left out.
SEARCHED = 8
# Features up to which distances are those of differences, and exact however far the centres are.
MAX_DIFFERENCES = 4


class LeftOut(NamedTuple):
    """Centres whose weight is reduced, for one point each.

    Attributes
    ----------
    owner : ndarray of int, shape (m,)
        Whose centres are reduced at each point.
    owners : ndarray of int, shape (k,)
        Whose each centre is.
    kept : ndarray of shape (m,)
        Factor of the weights that are reduced.
    """

    owner: np.ndarray
    owners: np.ndarray
    kept: np.ndarray


class KernelSums:
    r"""The sum :math:`S(x) = \sum_k c_k \varphi_h(x - z_k)`, with normal densities of width h.

    In up to three features, many points are evaluated from a grid, with a relative error of
    1e-5 at most. All other sums are exact up to ``OMITTED``.

    Parameters
    ----------
    centers : ndarray of shape (k, d)
    weights : ndarray of shape (k,), positive
    width : float
    """

    def __init__(self, centers: np.ndarray, weights: np.ndarray, width: float):
        self.centers, self.weights, self.width = centers, weights, width
        self.shift = centers.mean(0)
        self._searched = centers.shape[1] <= MAX_FEATURES and len(centers) >= MIN_SEARCHED

    def log_sums(self, points: np.ndarray) -> np.ndarray:
        """log S at points (m, d)."""
        found = self._grid_for(len(points))
        if found is None:
            return self.exact(points)[0]
        grid, least = found
        values = grid.sums(points)
        with np.errstate(divide="ignore", invalid="ignore"):
            result = np.log(values)
        rest = ~(values > least)
        result[rest] = self.exact(points[rest])[0]
        return result

    def scores(self, points: np.ndarray) -> np.ndarray:
        """Gradients (m, d) of log S."""
        return self.log_sums_and_scores(points)[1]

    def log_sums_and_scores(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Both of these."""
        found = self._grid_for(len(points))
        if found is None:
            return self.exact(points, gradients=True)
        grid, least = found
        values, gradients = grid.sums_and_gradients(points)
        rest = ~(values > least)
        values[rest] = 1.0
        log_sums, scores = np.log(values), gradients / values[:, None]
        log_sums[rest], scores[rest] = self.exact(points[rest], gradients=True)
        return log_sums, scores

    def exact(
        self, points: np.ndarray, gradients: bool = False, left_out: LeftOut | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """log S and, where asked for, the gradients, summed centre by centre."""
        values, scores = np.empty(len(points)), np.empty(points.shape if gradients else (0, 0))
        for some, near in self._parts(points, left_out):
            value, score = self._block(points[some], near, gradients, left_out, some)
            values[some] = value
            if gradients:
                scores[some] = score
        return values, scores

    def _grid_for(self, n_points: int) -> tuple[KernelGrid, float] | None:
        """The grid and its least sum, once so many points were asked for at a time that it pays."""
        d = self.centers.shape[1]
        if "_grid" not in self.__dict__ and (
            d > MAX_FEATURES
            or n_points < N_NODES**d
            or n_points * len(self.centers) < MIN_SEARCHED * N_NODES**d
        ):
            return None
        return self._grid

    @cached_property
    def _grid(self) -> tuple[KernelGrid, float] | None:
        """The grid, and what a sum must exceed to stand, by the sums at some centres."""
        axes = axes_near(self.centers, self.width)
        if axes is None:
            return None
        grid = KernelGrid(self.centers, self.weights, axes)
        every = -(-len(self.centers) // 2000)
        return grid, MIN_SHARE * float(grid.sums(self.centers[::every]).max())

    @cached_property
    def _tree(self) -> KDTree:
        return KDTree(self.centers)

    def _nearest(
        self, points: np.ndarray, left_out: LeftOut | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Distance to a near centre that is not left out, or infinity; and its index."""
        if left_out is None:
            return self._tree.query(points)
        distance, index = self._tree.query(points, k=SEARCHED)
        own = left_out.owners[index] == left_out.owner[:, None]
        first = own.argmin(1)[:, None]
        distance = np.where(
            np.take_along_axis(own, first, 1), np.inf, np.take_along_axis(distance, first, 1)
        )
        return distance[:, 0], np.take_along_axis(index, first, 1)[:, 0]

    def _parts(
        self, points: np.ndarray, left_out: LeftOut | None
    ) -> Iterator[tuple[np.ndarray, np.ndarray | slice]]:
        """Points that are near each other, and the centres that count for them."""
        everything = np.arange(len(points))
        if not self._searched or len(points) == 0:
            for part in chunks(len(points), BLOCK_POINTS):
                yield everything[part], slice(None)
            return
        distance, index = self._nearest(points, left_out)
        total = self.weights.sum()
        spread = 2 * self.width**2 * np.log(total / (self.weights[index] * OMITTED))
        reach = np.sqrt(distance**2 + spread)
        order = KDTree(points, leafsize=NEIGHBOURS).indices
        for part in chunks(len(points), NEIGHBOURS):
            some = order[part]
            middle = (points[some].max(0) + points[some].min(0)) / 2
            away = np.sqrt(((points[some] - middle) ** 2).sum(1))
            radius = float((away + reach[some]).max()) * 1.001
            if np.isfinite(radius):
                found = self._tree.query_ball_point(middle, radius, return_sorted=True)
                yield some, np.asarray(found, dtype=np.int64)
            else:
                yield some, slice(None)

    def _block(self, points, near, gradients, left_out, some):
        """The sums at a few points, with running maxima over blocks of centres."""
        centers = tensor_of(self.centers[near] - self.shift)
        log_weights = tensor_of(np.log(self.weights[near]))
        x = tensor_of(points - self.shift)
        top = torch.full((len(x), 1), -torch.inf, dtype=x.dtype)
        total, pulled = torch.zeros_like(top), torch.zeros_like(x)
        for part in chunks(len(centers), BLOCK_CENTERS):
            log_terms = _squared_distances(x, centers[part]) * (-0.5 / self.width**2)
            log_terms += log_weights[part]
            if left_out is not None:
                own = left_out.owners[near][part] == left_out.owner[some, None]
                with np.errstate(divide="ignore"):
                    log_kept = np.log(left_out.kept[some])
                log_terms += tensor_of(np.where(own, log_kept[:, None], 0.0))
            higher = torch.maximum(top, log_terms.amax(1, keepdim=True))
            finite = torch.where(higher.isfinite(), higher, 0)
            terms = log_terms.sub_(finite).exp_()
            factor = (top - finite).exp()
            total = total * factor + terms.sum(1, keepdim=True)
            if gradients:
                pulled = pulled * factor + terms @ centers[part]
            top = higher
        d = x.shape[1]
        value = (top + total.log())[:, 0] - d * (np.log(self.width) + LOG_2PI / 2)
        score = (pulled / total - x) / self.width**2
        return value.numpy(), score.numpy()


def _squared_distances(x: torch.Tensor, centers: torch.Tensor) -> torch.Tensor:
    """Squared distances (m, k) of points and centres."""
    if x.shape[1] <= MAX_DIFFERENCES:
        squared = (x[:, None, 0] - centers[:, 0]).square_()
        for j in range(1, x.shape[1]):
            squared += (x[:, None, j] - centers[:, j]).square_()
        return squared
    squares = x.square().sum(1, keepdim=True) + centers.square().sum(1)
    return torch.addmm(squares, x, centers.T, alpha=-2).clamp_(min=0)
