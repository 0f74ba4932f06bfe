"""Score-matching losses of a mixture, row by row, with noise that is drawn once."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .._core.distributions.gaussian import GaussianScore
from .._core.distributions.mixture_network import MixtureScores
from .._core.likelihood.identity import hermite_nodes
from .._core.losses.curvature import LCSS
from .._core.losses.field import CleanField, NoisedField
from .._core.losses.implicit import ISM
from .._core.losses.loss import ScoreLoss
from .._core.losses.sliced import SSM
from .._core.noise.level import NoiseLevel
from .._core.noise.level_sampling import LogisticLevels
from .._core.random import standard_normal
from .._core.scores.corrected import CorrectedScore

# Log-SNRs between which the denoising loss is integrated: at the lower end rows of unit
# variance are noise to a thousandth of a nat, at the upper one the noise is a hundredth of a
# column's deviation.
LEVELS = LogisticLevels(-7.0, 9.0)
N_LEVELS, HERMITE_LEVELS, HERMITE_PAIRS = 16, 20, 6
# Those at the data's own level.
CLEAN_LOSSES = {"ism": ISM(), "ssm": SSM(variance_reduced=True), "lcss": LCSS()}
# The variance of a component whose gradient Stein's identity frees of noise.
TYPICAL_VARIANCE = 0.2


def stein_share(a: Tensor, v: Tensor) -> Tensor:
    r"""The share of :math:`E[Z \cdot s / \sqrt v]` to take as :math:`E[\nabla\cdot s]`.

    Both are the same by Stein's identity. With this share, none where the rows are noise and
    all where they are clean, the loss's gradient has a third of either's variance: for one
    Gaussian of this variance, none.
    """
    return a**2 * TYPICAL_VARIANCE / (a**2 * TYPICAL_VARIANCE + v)


class RowLosses:
    """The loss of every row's own score under a mixture; the same rows have the same draws."""

    def __init__(self, loss: ScoreLoss, rows: Tensor, generator: torch.Generator):
        self.loss, self.rows = loss, rows
        self.drawn = loss.draw(rows, generator)
        self.level = NoiseLevel.clean(rows)

    @property
    def evaluations_per_row(self) -> int:
        """How often a row's score is taken."""
        return self.loss.n_evaluations

    def rows_within(self, numbers: int, n_components: int) -> int:
        """Rows whose losses put no more numbers than that into one array."""
        per_row = self.evaluations_per_row * n_components * self.rows.shape[1]
        return max(1, numbers // per_row)

    def part(self, network: MixtureScores, part: slice) -> Tensor:
        """Losses (n,) of some rows."""
        field = CleanField(network, self.level)
        product, square = self.loss.terms(field, self.rows[part], self.drawn[part])
        return square / 2 - product


class DenoisingRowLosses(RowLosses):
    r"""Denoising over all levels: minus the gain of the likelihood bound over N(0, I).

    .. math:: \ell(x) = \tfrac12 \int E\left[ |Z - \hat\epsilon(X_\lambda)|^2
        - |Z - \sqrt v X_\lambda|^2 \,\middle|\, X_0 = x \right] d\lambda

    by Gauss-Legendre nodes in the log-SNR. In one column the expectation is by Gauss-Hermite
    nodes; in more, every row has antithetic pairs of its own at each level, and a share of
    the noise's product with the score is taken as the divergence, see :func:`stein_share`.

    Source: [DDPMLearning]_, Definition 1.
    """

    def __init__(
        self,
        rows: Tensor,
        low: float,
        high: float,
        n_levels: int,
        n_noise: int,
        generator: torch.Generator,
    ):
        self.rows = rows
        n, d = rows.shape
        self.reference = GaussianScore(rows.new_zeros(d), torch.eye(d).to(rows))
        nodes = hermite_nodes(n_levels, 2 * n_noise, low, high)
        self.log_snr, self.level_weights = nodes.log_snr.to(rows), nodes.log_snr_weights.to(rows)
        if d == 1:
            self.noise = nodes.noise.to(rows)[:, None].expand(len(self.log_snr), n, -1, 1)
            self.noise_weights = nodes.noise_weights.to(rows)
            return
        shape = (len(self.log_snr), n, n_noise, d)
        half = standard_normal(shape, rows, generator)
        self.noise = torch.cat([half, -half], 2)
        self.noise_weights = rows.new_full((2 * n_noise,), 1 / (2 * n_noise))

    @property
    def evaluations_per_row(self) -> int:
        return len(self.log_snr) * self.noise.shape[2]

    def part(self, network: MixtureScores, part: slice) -> Tensor:
        level = NoiseLevel.from_log_snr(self.log_snr[:, None, None])
        noise, clean = self.noise[:, part], self.rows[part, None]
        noised = level.a[..., None] * clean + level.v[..., None].sqrt() * noise
        field = NoisedField(CorrectedScore(self.reference, network), level)
        seen, correction, divergence = field.with_divergence(noised.flatten(1, 2))
        share = stein_share(*level)
        product = (((1 - share) * noise.flatten(1, 2) - seen) * correction).sum(-1)
        product = product + (share * field.scale).squeeze(-1) * divergence
        losses = correction.square().sum(-1) / 2 - product
        by_row = losses.unflatten(1, (-1, noise.shape[2])) @ self.noise_weights
        return self.level_weights @ by_row


def row_losses(
    loss: str, n_noise: int, rows: Tensor, generator: torch.Generator, high: float = LEVELS.high
) -> RowLosses:
    """The losses of rows by the loss's name; one column needs no noise.

    ``high`` is the log-SNR up to which denoising is integrated.
    """
    if loss != "dsm":
        return RowLosses(CLEAN_LOSSES[loss], rows, generator)
    n_levels, n_pairs = denoising_nodes(rows.shape[1], n_noise)
    n_levels = math.ceil(n_levels * (high - LEVELS.low) / (LEVELS.high - LEVELS.low))
    return DenoisingRowLosses(rows, LEVELS.low, high, n_levels, n_pairs, generator)


def denoising_nodes(n_features: int, n_noise: int) -> tuple[int, int]:
    """How many levels a row is noised to, and antithetic pairs of noise at each."""
    return (HERMITE_LEVELS, HERMITE_PAIRS) if n_features == 1 else (N_LEVELS, n_noise)
