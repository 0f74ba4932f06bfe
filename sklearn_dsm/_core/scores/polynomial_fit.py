"""Polynomial scores, regressed level by level."""

from __future__ import annotations

import math
import time as clock
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from .polynomial import (
    MAX_COORDINATE,
    ROWS_AT_ONCE,
    PolynomialScore,
    Rung,
    exponents,
    hermite_features,
    nearest,
)

RIDGE, LLOYD_STEPS, MAX_COVERED_ROWS, MAX_CELLS = 1e-6, 5, 4000, 400
# Samples a cell needs for each of its coefficients. Noised copies of one sample tell no more.
SAMPLES_PER_COEFFICIENT = 20
# A cell farther from all others, in radii of the cover, is kept with a lower degree instead.
APART = 3.0
# Cells are no narrower than so many deviations of the noise, which hides what is finer.
COVER_NOISE = 1.5
# Where time is short: rows of the first level, of any level at the least, and by how much levels
# with less noise may take longer.
FIRST_ROWS, FEWEST_ROWS, COST_MARGIN = 1000, 200, 1.2


class Regressions(NamedTuple):
    """What is regressed at every level.

    Attributes
    ----------
    times : list of float
        From low to high noise.
    degree : int
    cover_radius : float
        No denoised row is much farther from its cell's centre, where the noise is low.
    n_noise : int
        Antithetic pairs of noise vectors a row.
    seconds_left : callable () -> float
        Until all levels should be done.
    """

    times: list[float]
    degree: int
    cover_radius: float
    n_noise: int
    seconds_left: Callable[[], float]


def ladder_times(shortest: float, longest: float, n_levels: int) -> list[float]:
    """Times whose log-SNRs are equally far apart, from low to high noise."""
    low, high = (math.log(math.expm1(2 * time)) for time in (shortest, longest))
    steps = torch.linspace(low, high, n_levels, dtype=torch.float64).tolist()
    return [math.log1p(math.exp(u)) / 2 for u in steps]


def fit_polynomial_score(
    rows: Tensor, weight: Tensor, plan: Regressions, generator: torch.Generator
) -> tuple[PolynomialScore, int]:
    """Regress the noise of noised rows on polynomials in cells, from high noise to low.

    Parameters
    ----------
    rows : Tensor of shape (n, d)
        Of about unit variance.
    weight : Tensor of shape (n,)
    plan : Regressions
    generator : torch.Generator

    Returns
    -------
    score : PolynomialScore
    n_rows : int
        The rows of the level that had the fewest; all, if there is time.
    """
    radius = float(torch.linalg.vector_norm(rows, dim=1).max())
    powers = exponents(rows.shape[1], plan.degree)
    rungs: list[Rung] = []
    n_fewest, seconds_per_row = len(rows), 0.0
    for k, time in enumerate(reversed(plan.times)):
        started = clock.perf_counter()
        n = _affordable(len(rows), plan.seconds_left(), len(plan.times) - k, seconds_per_row)
        chosen = slice(None) if n == len(rows) else _subset(len(rows), n, generator)
        above = PolynomialScore(rungs, plan.degree, radius) if rungs else None
        rungs.insert(0, _rung(above, rows[chosen], weight[chosen], time, powers, plan, generator))
        n_fewest, seconds_per_row = min(n, n_fewest), (clock.perf_counter() - started) / n
    return PolynomialScore(rungs, plan.degree, radius), n_fewest


def _subset(n: int, size: int, generator: torch.Generator) -> Tensor:
    return torch.randperm(n, generator=generator)[:size]


def _affordable(n: int, seconds_left: float, n_levels: int, seconds_per_row: float) -> int:
    """How many of n rows there is time for at each of some levels that are left."""
    if math.isinf(seconds_left):
        return n
    if not seconds_per_row:
        return min(n, FIRST_ROWS)
    share = max(seconds_left, 0.0) / (n_levels * seconds_per_row * COST_MARGIN)
    return min(n, max(FEWEST_ROWS, int(share)))


def _rung(
    above: PolynomialScore | None,
    rows: Tensor,
    weight: Tensor,
    time: float,
    powers: Tensor,
    plan: Regressions,
    generator: torch.Generator,
) -> Rung:
    """The regression at one level."""
    half = torch.randn(plan.n_noise, *rows.shape, generator=generator, dtype=rows.dtype)
    noise = torch.cat([half, -half]).flatten(0, 1)
    a, sigma = math.exp(-time), math.sqrt(-math.expm1(-2 * time))
    x = a * rows.repeat(2 * plan.n_noise, 1) + sigma * noise
    min_rows = 2 * plan.n_noise * SAMPLES_PER_COEFFICIENT * len(powers)
    if above is None:
        centers, apart = torch.zeros(1, x.shape[1], dtype=x.dtype), True
        cell = torch.zeros(len(x), dtype=torch.long)
    else:
        cover_radius = max(plan.cover_radius, COVER_NOISE * sigma)
        centers, cell, apart = _cells(above, x, time, cover_radius, min_rows, generator)
    w = weight.repeat(2 * plan.n_noise)
    return _regressed(x, noise, w, cell, centers, time, powers, apart, min_rows)


def _cells(
    above: PolynomialScore,
    x: Tensor,
    time: float,
    cover_radius: float,
    min_rows: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor, bool]:
    """Centres of cells (n_cells, d), the cell of every row (n,), and if it needs no denoising."""
    clean = torch.cat([above.clean(part, time, -1) for part in x.split(ROWS_AT_ONCE)])
    chosen = torch.randperm(len(x), generator=generator)[:MAX_COVERED_ROWS]
    centers = _cover(clean[chosen], cover_radius)
    for _ in range(LLOYD_STEPS):
        cell = nearest(clean[chosen], centers)
        sums = torch.zeros_like(centers).index_add_(0, cell, clean[chosen])
        counts = torch.bincount(cell, minlength=len(centers)).to(x)
        centers = (sums / counts.clamp(min=1)[:, None])[counts > 0]
    few = min_rows * len(chosen) / len(x)
    centers = _merged(clean[chosen], centers, few, APART * cover_radius)
    cell = nearest(clean, centers)
    return centers, cell, bool((nearest(x * math.exp(time), centers) == cell).all())


def _merged(rows: Tensor, centers: Tensor, min_rows: float, distance: float) -> Tensor:
    """The centres without those of too few rows, but for such as are far from all others."""
    while len(centers) > 1:
        counts = torch.bincount(nearest(rows, centers), minlength=len(centers))
        gaps = torch.cdist(centers, centers).fill_diagonal_(math.inf).amin(1)
        small = torch.nonzero((counts < min_rows) & (gaps <= distance))[:, 0]
        if not len(small):
            break
        keep = torch.ones(len(centers), dtype=torch.bool)
        keep[small[counts[small].argsort()[: 1 + len(small) // 4]]] = False
        centers = centers[keep]
    return centers


def _cover(points: Tensor, radius: float) -> Tensor:
    """Points such that none of the others is farther than the radius from all of them."""
    centers: list[Tensor] = []
    left = points
    while len(left) and len(centers) < MAX_CELLS:
        centers.append(left[0])
        left = left[torch.linalg.vector_norm(left - left[0], dim=1) > radius]
    return torch.stack(centers)


def _regressed(
    x: Tensor,
    noise: Tensor,
    weight: Tensor,
    cell: Tensor,
    centers: Tensor,
    time: float,
    powers: Tensor,
    apart: bool,
    min_rows: int,
) -> Rung:
    """A ridge regression of the noise in every cell, of a degree that its rows allow."""
    location, width, coefficients = [], [], []
    degrees, n_terms = powers.sum(1), len(powers)
    for c in range(len(centers)):
        own = cell == c
        w = weight[own] / weight[own].sum()
        mean = w @ x[own]
        spread = (w @ (x[own] - mean) ** 2).sqrt().clamp(min=1e-12)
        u = ((x[own] - mean) / spread).clamp(-MAX_COORDINATE, MAX_COORDINATE)
        degree = int(degrees[min(n_terms, max(1, int(own.sum()) * n_terms // min_rows)) - 1])
        used = degrees <= max(1, degree)
        features = hermite_features(u, powers[used])
        normal = features.T @ (w[:, None] * features)
        normal += RIDGE * torch.eye(features.shape[1], dtype=x.dtype)
        found = torch.zeros(n_terms, x.shape[1], dtype=x.dtype)
        found[used] = torch.linalg.solve(normal, features.T @ (w[:, None] * noise[own]))
        location.append(mean)
        width.append(spread)
        coefficients.append(found)
    return Rung(
        time, centers, torch.stack(location), torch.stack(width), torch.stack(coefficients), apart
    )
