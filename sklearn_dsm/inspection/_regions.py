"""Densities over two features on a grid, and the levels whose regions hold given shares."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ._columns import without_names

# Cells of a histogram in each direction, before it is smoothed.
N_CELLS = 80
# Panels reach beyond these quantiles by a share of the distance between them, but not far beyond
# the outermost values.
FAR, REACH, MARGIN = 0.02, 0.25, 0.04


class Regions(NamedTuple):
    """A density on a grid.

    Attributes
    ----------
    x : ndarray of shape (n_x,)
    y : ndarray of shape (n_y,)
    density : ndarray of shape (n_y, n_x)
    levels : ndarray of shape (n_shares,)
        Samples of the model have at least this density with the probabilities that were asked for.
    """

    x: np.ndarray
    y: np.ndarray
    density: np.ndarray
    levels: np.ndarray


def limits_of(*columns: np.ndarray) -> tuple[float, float]:
    """Where a panel begins and ends: single far samples would squeeze all others."""
    ends = np.array([np.nanquantile(column, [0, FAR, 1 - FAR, 1]) for column in columns])
    (least, low), (high, most) = ends[:, :2].min(axis=0), ends[:, 2:].max(axis=0)
    span = high - low or most - least or 1.0
    low = max(low - REACH * span, least - MARGIN * span)
    high = min(high + REACH * span, most + MARGIN * span)
    return float(low), float(high)


def levels_of(density: np.ndarray, shares) -> np.ndarray:
    """Densities above which these shares of the samples lie, given the density of each sample."""
    return np.quantile(density, 1 - np.asarray(shares, dtype=float))


def exact_regions(
    estimator, samples: np.ndarray, order: np.ndarray, limits, shares, resolution: int
) -> Regions:
    """Those of a density of two features, whose places among x and y are the order."""
    x, y = (np.linspace(low, high, resolution) for low, high in limits)
    grid = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)[:, order]
    with without_names():
        found = np.exp(estimator.score_samples(np.concatenate([grid, samples])))
    density = found[: len(grid)].reshape(len(y), len(x))
    return Regions(x, y, density, levels_of(found[len(grid) :], shares))


def smoothed_regions(samples: np.ndarray, limits, shares) -> Regions:
    """Those of a smoothed histogram of samples (n, 2), which estimates a marginal density."""
    from scipy.ndimage import gaussian_filter

    samples = samples[np.isfinite(samples).all(axis=1)]
    edges = [np.linspace(low, high, N_CELLS + 1) for low, high in limits]
    counts = np.histogram2d(samples[:, 0], samples[:, 1], bins=edges)[0]
    cells = np.array([each[1] - each[0] for each in edges])
    width = _spread(samples) * max(len(samples), 1) ** (-1 / 6)
    smoothed = gaussian_filter(counts, np.maximum(width / cells, 0.7), mode="constant")
    density = smoothed / (len(samples) * cells.prod())
    places = [
        np.searchsorted(each, column) - 1 for each, column in zip(edges, samples.T, strict=True)
    ]
    inside = np.all([(place >= 0) & (place < N_CELLS) for place in places], axis=0)
    at_samples = np.zeros(len(samples))
    at_samples[inside] = density[places[0][inside], places[1][inside]]
    x, y = ((each[1:] + each[:-1]) / 2 for each in edges)
    return Regions(x, y, density.T, levels_of(at_samples, shares))


def _spread(samples: np.ndarray) -> np.ndarray:
    """Standard deviations (2,), by quartiles where tails are long."""
    quartiles = np.quantile(samples, [0.25, 0.75], axis=0)
    robust = (quartiles[1] - quartiles[0]) / 1.349
    deviation = samples.std(axis=0)
    return np.where(robust > 0, np.minimum(robust, deviation), deviation)
