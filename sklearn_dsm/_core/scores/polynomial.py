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
# Log-SNRs that differ by less are those of one rung.
SAME_LEVEL = 1e-6
# Every so many rungs one denoises rows for the cells of those below it.
ANCHOR_STEP = 3
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
    apart : bool
        Whether the cells are so far apart that the noise cannot hide a row's own.
    """

    time: float
    centers: Tensor
    location: Tensor
    width: Tensor
    coefficients: Tensor
    apart: bool

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
        rung = self.rungs[k]
        with torch.no_grad():
            clean = x / rung.a if rung.apart else self.clean(x, rung.time, k)
            cell = nearest(clean, rung.centers)
        return rung.noise(x, cell, self.powers)

    def clean(self, x: Tensor, time: float, k: int) -> Tensor:
        """Rows (n, d) of a time, denoised at the first anchor above rung k.

        The anchors above it have found their cells, from one on whose cells need no denoising.
        """
        clean = x * math.exp(time)
        for j in reversed(self._anchors(k)):
            rung = self.rungs[j]
            here = x * math.exp(time - rung.time)
            noise = rung.noise(here, nearest(clean, rung.centers), self.powers)
            clean = self.denoised(here, noise, rung)
        return clean

    def _anchors(self, k: int) -> list[int]:
        """Rungs above rung k that denoise on its behalf, from low to high noise."""
        path: list[int] = []
        for j in range(k + 1, len(self.rungs)):
            if (len(self.rungs) - 1 - j) % ANCHOR_STEP == 0:
                path.append(j)
                if self.rungs[j].apart:
                    break
        return path

    def denoised(self, x: Tensor, noise: Tensor, rung: Rung) -> Tensor:
        """The clean rows that this noise implies, within the ball."""
        clean = (x - rung.sigma * noise) / rung.a
        norm = torch.linalg.vector_norm(clean, dim=1, keepdim=True)
        within: Tensor = clean * (self.radius / norm).clamp(max=1)
        return within

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


def nearest(rows: Tensor, centers: Tensor) -> Tensor:
    """Index (n,) of the centre nearest to each row."""
    if len(centers) == 1:
        return torch.zeros(len(rows), dtype=torch.long, device=rows.device)
    if centers.shape[1] == 1:
        ordered, order = centers[:, 0].sort()
        return order[torch.bucketize(rows[:, 0].contiguous(), (ordered[1:] + ordered[:-1]) / 2)]
    parts = rows.split(ROWS_AT_ONCE)
    return torch.cat([torch.cdist(part, centers).argmin(1) for part in parts])
