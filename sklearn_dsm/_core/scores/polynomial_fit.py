"""Polynomial scores, regressed level by level."""

from __future__ import annotations

import math
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
SAMPLES_PER_COEFFICIENT = 12
# Cells are no narrower than so many deviations of the noise, which hides what is finer.
COVER_NOISE = 1.5


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
    """

    times: list[float]
    degree: int
    cover_radius: float
    n_noise: int


def ladder_times(shortest: float, longest: float, n_levels: int) -> list[float]:
    """Times whose log-SNRs are equally far apart, from low to high noise."""
    low, high = (math.log(math.expm1(2 * time)) for time in (shortest, longest))
    steps = torch.linspace(low, high, n_levels, dtype=torch.float64).tolist()
    return [math.log1p(math.exp(u)) / 2 for u in steps]


def fit_polynomial_score(
    rows: Tensor, weight: Tensor, plan: Regressions, generator: torch.Generator
) -> PolynomialScore:
    """Regress the noise of noised rows on polynomials in cells, from high noise to low.

    Parameters
    ----------
    rows : Tensor of shape (n, d)
        Of about unit variance.
    weight : Tensor of shape (n,)
    plan : Regressions
    generator : torch.Generator
    """
    radius = float(torch.linalg.vector_norm(rows, dim=1).max())
    powers = exponents(rows.shape[1], plan.degree)
    min_rows = 2 * plan.n_noise * SAMPLES_PER_COEFFICIENT * len(powers)
    rungs: list[Rung] = []
    for time in reversed(plan.times):
        half = torch.randn(plan.n_noise, *rows.shape, generator=generator, dtype=rows.dtype)
        noise = torch.cat([half, -half]).flatten(0, 1)
        a, sigma = math.exp(-time), math.sqrt(-math.expm1(-2 * time))
        x = a * rows.repeat(2 * plan.n_noise, 1) + sigma * noise
        w = weight.repeat(2 * plan.n_noise)
        cover_radius = max(plan.cover_radius, COVER_NOISE * sigma)
        if rungs:
            above = PolynomialScore(rungs, plan.degree, radius)
            centers, cell, apart = _cells(above, x, time, cover_radius, min_rows, generator)
        else:
            centers, apart = torch.zeros(1, x.shape[1], dtype=x.dtype), True
            cell = torch.zeros(len(x), dtype=torch.long)
        rungs.insert(0, _regressed(x, noise, w, cell, centers, time, powers, apart))
    return PolynomialScore(rungs, plan.degree, radius)


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
    counts = torch.bincount(nearest(clean, centers), minlength=len(centers))
    enough = counts >= min(min_rows, int(counts.max()))
    centers = centers[enough]
    cell = nearest(clean, centers)
    return centers, cell, bool((nearest(x * math.exp(time), centers) == cell).all())


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
) -> Rung:
    """A ridge regression of the noise in every cell."""
    location, width, coefficients = [], [], []
    for c in range(len(centers)):
        own = cell == c
        w = weight[own] / weight[own].sum()
        mean = w @ x[own]
        spread = (w @ (x[own] - mean) ** 2).sqrt().clamp(min=1e-9)
        u = ((x[own] - mean) / spread).clamp(-MAX_COORDINATE, MAX_COORDINATE)
        features = hermite_features(u, powers)
        normal = features.T @ (w[:, None] * features)
        normal += RIDGE * torch.eye(len(powers), dtype=x.dtype)
        right = features.T @ (w[:, None] * noise[own])
        location.append(mean)
        width.append(spread)
        coefficients.append(torch.linalg.solve(normal, right))
    parts = (torch.stack(each) for each in (location, width, coefficients))
    return Rung(time, centers, *parts, apart)
