"""Distribution functions, quantiles and draws of mixtures of normals, one for each sample."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr, ndtri

from .._evaluation.latent_density import chunks
from .._tabular.heads import Normals

# Points of a first grid, steps of Newton and bisection after it, and how near a quantile is.
GRID, MAX_STEPS, TOLERANCE = 64, 100, 1e-11
ROOT_2PI = np.sqrt(2 * np.pi)
# Numbers that are held at once.
CHUNK_NUMBERS = 2**22


def cdf(law: Normals, y: np.ndarray) -> np.ndarray:
    """Probabilities (n, ...) of values up to y (n, ...), under laws (n, n_components)."""
    weight, mean, scale = _parts(law)
    shape = (len(weight), *[1] * (y.ndim - 1), weight.shape[1])
    each = ndtr((y[..., None] - mean.reshape(shape)) / scale.reshape(shape))
    return (each * weight.reshape(shape)).sum(-1).clip(0, 1)


def means(law: Normals) -> np.ndarray:
    """Means (n,) of laws."""
    weight, mean, _ = _parts(law)
    return (weight * mean).sum(1)


def quantiles(law: Normals, probabilities: np.ndarray) -> np.ndarray:
    """Quantiles (n, k) of laws, at probabilities (n, k)."""
    weight, mean, scale = _parts(law)
    step = max(1, CHUNK_NUMBERS // (weight.shape[1] * max(GRID, probabilities.shape[1])))
    found = np.empty(probabilities.shape)
    for rows in chunks(len(found), step):
        found[rows] = _quantiles(weight[rows], mean[rows], scale[rows], probabilities[rows])
    return found


def draws(law: Normals, number: int, random: np.random.RandomState) -> np.ndarray:
    """Draws (n, number), of laws."""
    weight, mean, scale = _parts(law)
    row = np.arange(len(weight))[:, None]
    # One sorted array for all rows: the cumulated weights of row i lie between i and i + 1.
    ends = (weight.cumsum(1) + row).ravel()
    places = row + random.uniform(size=(len(weight), number))
    chosen = np.searchsorted(ends, places.ravel(), side="right").reshape(places.shape)
    chosen = np.minimum(chosen - row * weight.shape[1], weight.shape[1] - 1)
    return mean[row, chosen] + scale[row, chosen] * random.normal(size=chosen.shape)


def _parts(law: Normals) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    weight = np.exp(law.log_weight.numpy())
    return weight / weight.sum(1, keepdims=True), law.mean.numpy(), np.exp(law.log_scale.numpy())


def _quantiles(weight, mean, scale, probabilities) -> np.ndarray:
    """By Newton's method where it stays in a bracket, else by bisection."""
    # Quantiles lie between those of the components.
    low, high = _ends(mean, scale, probabilities.min(1)), _ends(mean, scale, probabilities.max(1))
    grid = np.linspace(low.min(1), high.max(1), GRID, axis=1)
    below = (ndtr((grid[..., None] - mean[:, None]) / scale[:, None]) @ weight[:, :, None])[..., 0]
    after = (below[:, :, None] < probabilities[:, None]).sum(1).clip(1, GRID - 1)
    low = np.take_along_axis(grid, after - 1, 1).ravel()
    high = np.take_along_axis(grid, after, 1).ravel()
    wanted, row = probabilities.ravel(), np.repeat(np.arange(len(mean)), probabilities.shape[1])
    found, width = 0.5 * (low + high), (grid[:, -1] - grid[:, 0])[row]
    active = np.arange(len(found))
    for _ in range(MAX_STEPS):
        i, x = row[active], found[active]
        z = (x[:, None] - mean[i]) / scale[i]
        gap = (ndtr(z) * weight[i]).sum(1) - wanted[active]
        slope = (np.exp(-0.5 * z**2) * weight[i] / scale[i]).sum(1) / ROOT_2PI
        low[active] = np.where(gap < 0, x, low[active])
        high[active] = np.where(gap < 0, high[active], x)
        with np.errstate(divide="ignore", invalid="ignore"):
            ahead = x - gap / slope
        within = (ahead > low[active]) & (ahead < high[active])
        found[active] = np.where(within, ahead, 0.5 * (low[active] + high[active]))
        active = active[np.abs(found[active] - x) > TOLERANCE * width[active]]
        if not len(active):
            break
    return found.reshape(probabilities.shape)


def _ends(mean, scale, probability) -> np.ndarray:
    return mean + scale * ndtri(probability)[:, None]
