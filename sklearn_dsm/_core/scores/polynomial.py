"""Scores by polynomial regression in cells, from high noise to low."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..noise.level import NoiseLevel
from .model import ScoreModel

# Coordinates of a cell are clipped here, so that a polynomial cannot run away.
MAX_COORDINATE = 4.0
RIDGE, LLOYD_STEPS, MAX_COVERED_ROWS, MAX_CELLS = 1e-6, 5, 4000, 400
# Log-SNRs that differ by less are those of one rung.
SAME_LEVEL = 1e-6
# Rows a cell needs for each of its coefficients.
ROWS_PER_COEFFICIENT = 6
# Rows whose distances from all cells are held at once.
ROWS_AT_ONCE = 2**13


def exponents(n_features: int, degree: int) -> Tensor:
    """Exponents of the monomials up to a total degree, shape (n_terms, n_features)."""
    monomials = [
        factors
        for total in range(degree + 1)
        for factors in itertools.combinations_with_replacement(range(n_features), total)
    ]
    powers = torch.zeros(len(monomials), n_features, dtype=torch.long)
    for row, factors in zip(powers, monomials, strict=True):
        for j in factors:
            row[j] += 1
    return powers


def hermite_features(u: Tensor, powers: Tensor) -> Tensor:
    """Products of normalised Hermite polynomials (n, n_terms) at coordinates (n, d)."""
    degree = int(powers.max())
    columns = [torch.ones_like(u), u]
    for k in range(1, degree):
        columns.append(u * columns[k] - k * columns[k - 1])
    scaled = [column / math.sqrt(math.factorial(k)) for k, column in enumerate(columns)]
    table = torch.stack(scaled[: degree + 1])
    features = torch.ones(len(u), len(powers), dtype=u.dtype, device=u.device)
    for j in range(u.shape[1]):
        features = features * table[powers[:, j], :, j].T
    return features


@dataclass(frozen=True)
class Rung:
    """The regression at one level: cells by their centres, and a polynomial in each.

    Attributes
    ----------
    time : float
        Ornstein-Uhlenbeck time.
    centers : Tensor of shape (n_cells, d)
        Of denoised rows; a row belongs to the nearest.
    location, width : Tensor of shape (n_cells, d)
        Of the noised rows in a cell.
    coefficients : Tensor of shape (n_cells, n_terms, d)
        Of the noise.
    """

    time: float
    centers: Tensor
    location: Tensor
    width: Tensor
    coefficients: Tensor

    @property
    def a(self) -> float:
        return math.exp(-self.time)

    @property
    def sigma(self) -> float:
        return math.sqrt(-math.expm1(-2 * self.time))

    @property
    def log_snr(self) -> float:
        return -math.log(math.expm1(2 * self.time))

    def noise(self, x: Tensor, cell: Tensor, powers: Tensor) -> Tensor:
        """The noise (n, d) seen in rows of given cells."""
        u = (x - self.location[cell]) / self.width[cell]
        features = hermite_features(u.clamp(-MAX_COORDINATE, MAX_COORDINATE), powers)
        return torch.einsum("np,npd->nd", features, self.coefficients[cell])


class PolynomialScore(ScoreModel):
    r"""Denoising regressions at a ladder of levels, each in cells by the one above it.

    A row at a level is carried to the next noisier level, denoised there, and belongs to the
    cell of the nearest centre; its noise is a polynomial of that cell. Between rungs the noise
    is interpolated in the log-SNR; below the lowest rung the score stays, above the highest
    it is that of N(0, I).

    Parameters
    ----------
    rungs : list of Rung
        From low to high noise.
    degree : int
    radius : float
        Denoised rows are drawn into the ball of this radius.

    References
    ----------
    [DDPMLearning]_
    """

    def __init__(self, rungs: list[Rung], degree: int, radius: float):
        super().__init__()
        self.rungs, self.degree, self.radius = rungs, degree, radius
        self.powers = exponents(rungs[0].centers.shape[1], degree)

    def rung_noise(self, x: Tensor, k: int) -> Tensor:
        """The noise (n, d) in rows at the level of a rung."""
        cell = torch.zeros(len(x), dtype=torch.long, device=x.device)
        # Where a level has a single cell, the levels above it have no say.
        single = (j for j in range(k, len(self.rungs)) if len(self.rungs[j].centers) == 1)
        for j in range(next(single), k, -1):
            rung, below = self.rungs[j], self.rungs[j - 1]
            here = x * math.exp(self.rungs[k].time - rung.time)
            with torch.no_grad():
                noise = rung.noise(here, cell, self.powers)
                clean = self.denoised(here, noise, rung)
                cell = _nearest(clean, below.centers)
        return self.rungs[k].noise(x, cell, self.powers)

    def denoised(self, x: Tensor, noise: Tensor, rung: Rung) -> Tensor:
        """The clean rows that this noise implies, within the ball."""
        clean = (x - rung.sigma * noise) / rung.a
        norm = torch.linalg.vector_norm(clean, dim=1, keepdim=True)
        return clean * (self.radius / norm).clamp(max=1)

    def noise(self, x: Tensor, log_snr: Tensor) -> Tensor:
        """The noise (n, d) in rows at variance-preserving levels of their own, (n,)."""
        ladder = [rung.log_snr for rung in self.rungs]
        # A level that a rung is meant for may differ from it by rounding.
        above = torch.stack([log_snr > each + SAME_LEVEL for each in ladder]).sum(0)
        noise = torch.zeros_like(x)
        for k in above.unique().tolist():
            own = above == k
            noise[own] = self._noise_between(x[own], log_snr[own, None], len(ladder) - k)
        return noise

    def _noise_between(self, x: Tensor, log_snr: Tensor, k: int) -> Tensor:
        """The same where rung k is the first of no more noise than the levels (n, 1)."""
        ladder, sigma = [rung.log_snr for rung in self.rungs], torch.sigmoid(-log_snr).sqrt()
        if k == 0:
            return self.rung_noise(x, 0) * (sigma / self.rungs[0].sigma)
        lower = self.rung_noise(x, k - 1)
        if k == len(ladder):
            share = (ladder[-1] - log_snr).clamp(0, 1)
            return (1 - share) * lower + share * sigma * x
        share = ((ladder[k - 1] - log_snr) / (ladder[k - 1] - ladder[k])).clamp(0, 1)
        at_the_rung = bool((share < SAME_LEVEL).all())
        return lower if at_the_rung else (1 - share) * lower + share * self.rung_noise(x, k)

    def score(self, x: Tensor, level: NoiseLevel, context: Tensor | None = None) -> Tensor:
        dtype, d = self.rungs[0].centers.dtype, x.shape[-1]
        log_snr = level.log_snr.to(dtype).expand(*x.shape[:-1], 1)
        rows = (x / level.scale).to(dtype).reshape(-1, d)
        noise = self.noise(rows, log_snr.reshape(-1)).reshape(x.shape).to(x.dtype)
        return -noise / level.v.sqrt()

    def score_and_jacobian_diagonal(
        self, x: Tensor, level: NoiseLevel, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        differentiated = x.requires_grad and torch.is_grad_enabled()
        with torch.enable_grad():
            x = x if differentiated else x.detach().requires_grad_()
            score = self.score(x, level)
            slopes = [
                torch.autograd.grad(
                    score[:, j].sum(), x, retain_graph=True, create_graph=differentiated
                )[0][:, j]
                for j in range(x.shape[1])
            ]
        return (score if differentiated else score.detach()), torch.stack(slopes, -1)


def ladder_times(shortest: float, longest: float, n_levels: int) -> list[float]:
    """Times whose log-SNRs are equally far apart, from low to high noise."""
    low, high = (math.log(math.expm1(2 * time)) for time in (shortest, longest))
    steps = torch.linspace(low, high, n_levels, dtype=torch.float64).tolist()
    return [math.log1p(math.exp(u)) / 2 for u in steps]


def fit_polynomial_score(
    rows: Tensor,
    weight: Tensor,
    times: list[float],
    degree: int,
    cover_radius: float,
    n_noise: int,
    generator: torch.Generator,
) -> PolynomialScore:
    """Regress the noise of noised rows on polynomials in cells, from high noise to low.

    Parameters
    ----------
    rows : Tensor of shape (n, d)
        Of about unit variance.
    weight : Tensor of shape (n,)
    times : list of float
        From low to high noise.
    degree : int
    cover_radius : float
        No denoised row is much farther from its cell's centre.
    n_noise : int
        Antithetic pairs of noise vectors a row.
    generator : torch.Generator
    """
    radius = float(torch.linalg.vector_norm(rows, dim=1).max())
    powers = exponents(rows.shape[1], degree)
    rungs: list[Rung] = []
    for time in reversed(times):
        half = torch.randn(n_noise, *rows.shape, generator=generator, dtype=rows.dtype)
        noise = torch.cat([half, -half]).flatten(0, 1)
        a, sigma = math.exp(-time), math.sqrt(-math.expm1(-2 * time))
        x = a * rows.repeat(2 * n_noise, 1) + sigma * noise
        w = weight.repeat(2 * n_noise)
        centers, cell = _cells(rungs, x, time, degree, radius, cover_radius, len(powers), generator)
        rungs.insert(0, _regressed(x, noise, w, cell, centers, time, powers))
    return PolynomialScore(rungs, degree, radius)


def _cells(
    rungs: list[Rung],
    x: Tensor,
    time: float,
    degree: int,
    radius: float,
    cover_radius: float,
    n_terms: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Centres of cells (n_cells, d), and the cell of every row (n,)."""
    if not rungs:
        return torch.zeros(1, x.shape[1], dtype=x.dtype), torch.zeros(len(x), dtype=torch.long)
    above = PolynomialScore(rungs, degree, radius)
    here = x * math.exp(time - rungs[0].time)
    parts = here.split(ROWS_AT_ONCE)
    clean = torch.cat([above.denoised(p, above.rung_noise(p, 0), rungs[0]) for p in parts])
    chosen = torch.randperm(len(x), generator=generator)[:MAX_COVERED_ROWS]
    centers = _cover(clean[chosen], cover_radius)
    for _ in range(LLOYD_STEPS):
        cell = _nearest(clean[chosen], centers)
        sums = torch.zeros_like(centers).index_add_(0, cell, clean[chosen])
        counts = torch.bincount(cell, minlength=len(centers)).to(x)
        centers = (sums / counts.clamp(min=1)[:, None])[counts > 0]
    counts = torch.bincount(_nearest(clean, centers), minlength=len(centers))
    enough = counts >= min(ROWS_PER_COEFFICIENT * n_terms, int(counts.max()))
    centers = centers[enough]
    return centers, _nearest(clean, centers)


def _nearest(rows: Tensor, centers: Tensor) -> Tensor:
    """Index (n,) of the centre nearest to each row."""
    parts = rows.split(ROWS_AT_ONCE)
    return torch.cat([torch.cdist(part, centers).argmin(1) for part in parts])


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
    return Rung(time, centers, torch.stack(location), torch.stack(width), torch.stack(coefficients))
