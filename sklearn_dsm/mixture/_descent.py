"""Natural-gradient descent of a mixture's denoising loss, with fresh noise in every batch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from .._core.distributions.mixture_algebra import mixture_terms
from .._core.distributions.mixture_network import MixtureNetwork
from .._core.noise.level import NoiseLevel
from .._core.noise.level_sampling import LogisticLevels
from .._core.random import standard_normal

# Levels of a batch, and the rows of one for every parameter of the mixture.
N_LEVELS, ROWS_PER_PARAMETER, MIN_BATCH_ROWS = 32, 1, 1024
MAX_BATCH_NUMBERS = 2**24
# Steps fall geometrically over a descent. A step of one is that of a fully informed gradient.
FIRST_STEP, LAST_STEP = 0.1, 0.03
# No step changes a weight, a mean or a variance by more than this, in its natural unit.
MAX_CHANGE = 0.7
MIN_WEIGHT = 1e-6


class Mixture(NamedTuple):
    """Parameters in float64; components that share one covariance have one of its parts.

    Attributes
    ----------
    weights : Tensor of shape (k,)
    means : Tensor of shape (k, d)
    eigenvalues : Tensor of shape (k or 1, d)
    axes : Tensor of shape (k or 1, d, d)
        In columns.
    """

    weights: Tensor
    means: Tensor
    eigenvalues: Tensor
    axes: Tensor

    @classmethod
    def of(cls, network: MixtureNetwork) -> Mixture:
        with torch.no_grad():
            parts = (
                network.logits.softmax(0),
                network.means.clone(),
                network.eigenvalues().clone(),
                network.axes().clone(),
            )
        return cls(*parts)

    def covariances(self) -> Tensor:
        return (self.axes * self.eigenvalues[:, None]) @ self.axes.mT

    def network(self, kind: str, floor: float) -> MixtureNetwork:
        return MixtureNetwork(self.weights, self.means, self.covariances(), kind, floor)


class Slopes(NamedTuple):
    """A loss, and its gradient in the log-weights, the means and the covariances.

    That of the means (k, d) and of the covariances (k, d, d) is in the components' axes.
    """

    loss: float
    weights: Tensor
    means: Tensor
    covariances: Tensor


class Batch(NamedTuple):
    """Rows (l, m, d) at l levels (l,), their noise, and what each row counts for (l, m)."""

    rows: Tensor
    noise: Tensor
    log_snr: Tensor
    share: Tensor


def denoising_slopes(mixture: Mixture, batch: Batch) -> Slopes:
    r"""The denoising loss over all levels and its gradient, by hand and in single precision.

    .. math:: \tfrac12 \int v\, E\left[ |s|^2 + 2 \beta \nabla\cdot s
        + 2 (1 - \beta) Z \cdot s / \sqrt v \right] d\lambda \text{ minus that of } N(0, I),

    whatever the share :math:`\beta`, by Stein's identity. With posterior r_k, pulls
    :math:`g_k = C_k^{-1} (x - a \mu_k)` and curvatures
    :math:`c_k = |g_k|^2 - \operatorname{tr} C_k^{-1}` the score is :math:`-\sum_k r_k g_k`,
    its divergence :math:`\sum_k r_k c_k - |s|^2`.
    """
    k, d = mixture.means.shape
    rows = batch.rows
    level = NoiseLevel.from_log_snr(batch.log_snr[:, None, None])
    a, v = level.a, level.v
    stein = _stein_share(mixture, level)
    axes = mixture.axes.expand(k, d, d)
    centers = torch.einsum("kd,kde->ke", mixture.means, axes)
    parameters = mixture.weights.log(), centers, mixture.eigenvalues, axes

    clean, noise = a * rows, v.sqrt() * batch.noise
    x = torch.cat([clean + noise, clean - noise], 1)
    share = torch.cat([batch.share, batch.share], 1) / 2 * v[:, :, 0] / 2
    terms = mixture_terms(x, a, v, *(part.to(rows) for part in parameters))
    pulls, precisions = terms.pulls, terms.precisions
    posterior, score = terms.posterior_and_score()
    curvature = stein * terms.curvatures()
    z = torch.cat([batch.noise, -batch.noise], 1) * ((1 - stein) / v.sqrt())
    against = (2 * stein - 1) * score - z
    integrand = 2 * (posterior * curvature).sum(-1) + ((z - against) * score).sum(-1)
    of_normal = (x * (x - 2 * z)).sum(-1) - 2 * d * stein[..., 0]
    loss = float((share * (integrand - of_normal)).sum())

    rotated = (against @ terms.axes.permute(1, 0, 2).reshape(d, k * d)).unflatten(-1, (k, d))
    gain = 2 * ((rotated * pulls).sum(-1) + curvature)
    tilt = posterior * (gain - (posterior * gain).sum(-1, keepdim=True))
    tilt, held = tilt * share[..., None], posterior * share[..., None]
    bent = (rotated + 2 * stein[..., None] * pulls) * precisions
    lever = a[..., None] * (tilt[..., None] / 4 * pulls - held[..., None] * bent)
    of_means = 2 * lever.sum((0, 1)) + torch.einsum("lnk,lnkd->kd", tilt * a / 2, pulls)
    outer = lever.reshape(-1, k, d).permute(1, 2, 0) @ (
        (a[..., None] * pulls).reshape(-1, k, d).transpose(0, 1)
    )
    parts = precisions[:, 0]
    tilts, helds = ((a**2 * part).sum(1)[..., None] for part in (tilt, held))
    diagonal = (2 * stein * helds * parts**2 - tilts * parts / 2).sum(0)
    of_covariances = outer + outer.mT + torch.diag_embed(diagonal)
    gradient = (tilt.sum((0, 1)), of_means, of_covariances)
    return Slopes(loss, *(part.double() for part in gradient))


def _stein_share(mixture: Mixture, level: NoiseLevel) -> Tensor:
    r"""The share :math:`\beta` of levels of shape (l, 1, 1), with the least noisy gradient.

    For one Gaussian in one column of variance :math:`\eta` that is
    :math:`a^2 \eta / (a^2 \eta + v)`, and the gradient in :math:`\eta` has then no noise at all;
    for a mixture the mean over components and axes. Against either end, 0 and 1, the
    gradient has a third to a half of the variance on tables.
    """
    a, v = level.a[..., None], level.v[..., None]
    clean = a**2 * mixture.eigenvalues.to(a)
    shares = (clean / (clean + v)).mean(-1).squeeze(1).expand(-1, len(mixture.weights))
    return (shares @ mixture.weights.to(a))[:, None, None]


def moved(mixture: Mixture, slopes: Slopes, step: float, kind: str, floor: float) -> Mixture:
    r"""The mixture after a step along the natural gradient of labelled rows.

    .. math:: \Delta \log w_k = -\epsilon G_w / w_k, \quad
        \Delta\mu_k = -\epsilon \Sigma_k G_\mu / w_k, \quad
        \Delta\Sigma_k = -2 \epsilon \Sigma_k G_\Sigma \Sigma_k / w_k,

    the covariance by a quadratic that stays positive definite.
    """
    weights, means, eigenvalues, axes = mixture
    k, d = means.shape
    heavy = weights.clamp(min=MIN_WEIGHT)
    change = (-step * slopes.weights / heavy).clamp(-MAX_CHANGE, MAX_CHANGE)
    weights = (weights * change.exp()).clamp(min=MIN_WEIGHT)

    roots = eigenvalues.sqrt()
    shift = -step * roots * slopes.means / heavy[:, None]
    shift = _bounded(shift, torch.linalg.vector_norm(shift, dim=1), MAX_CHANGE * math.sqrt(d))
    means = means + torch.einsum("kde,ke->kd", axes.expand(k, d, d), roots * shift)

    bend = -2 * step * roots[:, :, None] * slopes.covariances * roots[:, None]
    bend = bend.sum(0, keepdim=True) if kind == "tied" else bend / heavy[:, None, None]
    if kind in ("diag", "spherical"):
        diagonal = bend.diagonal(0, 1, 2)
        if kind == "spherical":
            diagonal = diagonal.mean(1, keepdim=True).expand(k, d)
        diagonal = diagonal.clamp(-MAX_CHANGE, MAX_CHANGE)
        eigenvalues = eigenvalues * (1 + diagonal + diagonal**2 / 2)
    else:
        bend = _bounded(bend, torch.linalg.matrix_norm(bend, 2), MAX_CHANGE)
        growth = torch.eye(d).to(bend) + bend + bend @ bend / 2
        grown = roots[:, :, None] * growth * roots[:, None]
        eigenvalues, turn = torch.linalg.eigh((grown + grown.mT) / 2)
        axes = axes @ turn
    return Mixture(weights / weights.sum(), means, eigenvalues.clamp(min=2 * floor), axes)


def _bounded(change: Tensor, size: Tensor, largest: float) -> Tensor:
    """Changes of the components (k, ...), shortened to a largest size."""
    factor = (largest / size.clamp(min=1e-12)).clamp(max=1)
    return change * factor.reshape(-1, *[1] * (change.dim() - 1))


class Descent:
    """Descents of mixtures on the same rows.

    Parameters
    ----------
    rows : Tensor of shape (n, d), float32
    weight : Tensor of shape (n,)
    levels : LogisticLevels
    generator : torch.Generator
    """

    def __init__(
        self, rows: Tensor, weight: Tensor, levels: LogisticLevels, generator: torch.Generator
    ):
        self.rows, self.weight = rows, weight / weight.mean()
        self.levels, self.generator = levels, generator

    def run(self, mixture: Mixture, kind: str, floor: float, n_steps: int) -> Mixture:
        """The average of the iterates of some steps."""
        sums: list[Tensor] | None = None
        for i, batch in enumerate(self._batches(self._batch_rows(mixture), n_steps)):
            step = FIRST_STEP * (LAST_STEP / FIRST_STEP) ** (i / n_steps)
            mixture = moved(mixture, denoising_slopes(mixture, batch), step, kind, floor)
            found = [mixture.weights, mixture.means, mixture.covariances()]
            sums = found if sums is None else [a + b for a, b in zip(sums, found, strict=True)]
        assert sums is not None
        weights, means, covariances = (part / n_steps for part in sums)
        return Mixture(weights, means, *torch.linalg.eigh(covariances))

    def loss(self, mixture: Mixture, seed: int, max_batches: int | None = None) -> float:
        """The loss over a pass, with rows and noise that are the same for a seed."""
        generator = torch.Generator(self.generator.device).manual_seed(seed)
        n_steps = self.steps_per_pass(mixture)
        n_steps = min(n_steps, max_batches or n_steps)
        batches = self._batches(self._batch_rows(mixture), n_steps, generator)
        return sum(denoising_slopes(mixture, batch).loss for batch in batches) / n_steps

    def steps_per_pass(self, mixture: Mixture) -> int:
        """How many batches the rows fill."""
        return max(1, len(self.rows) // self._batch_rows(mixture))

    def _batch_rows(self, mixture: Mixture) -> int:
        k, d = mixture.means.shape
        wanted = max(MIN_BATCH_ROWS, ROWS_PER_PARAMETER * k * (1 + d + d * (d + 1) // 2))
        return min(wanted, max(N_LEVELS, MAX_BATCH_NUMBERS // (2 * k * d)), len(self.rows))

    def _batches(self, batch_rows: int, n: int, generator=None) -> Iterator[Batch]:
        """n batches, in which every row comes as often as any other."""
        generator = generator or self.generator
        rows = self.rows
        n_levels = min(N_LEVELS, batch_rows)
        size = batch_rows - batch_rows % n_levels
        left = torch.empty(0, dtype=torch.long, device=rows.device)
        for _ in range(n):
            if len(left) < size:
                left = torch.randperm(len(rows), generator=generator, device=rows.device)
            own, left = left[:size].reshape(n_levels, -1), left[size:]
            noise = standard_normal((*own.shape, rows.shape[1]), rows, generator)
            log_snr = self.levels.stratified(n_levels, generator, rows)
            share = self.weight[own] / size / self.levels.density(log_snr)[:, None]
            yield Batch(rows[own], noise, log_snr, share)
