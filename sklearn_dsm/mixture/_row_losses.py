"""Score-matching losses of a mixture, row by row, with noise that is drawn once."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from functools import partial

import torch
from torch import Tensor

from .._core.distributions.mixture_network import MixtureScores
from .._core.forward_mode import load_forward_mode
from .._core.likelihood.identity import hermite_nodes
from .._core.noise.level import NoiseLevel
from .._core.random import standard_normal

# A perturbation of LCSS, in units of the columns' deviations.
LCSS_SIGMA = 0.1


# The variance of a component whose gradient Stein's identity frees of noise.
TYPICAL_VARIANCE = 0.2


def stein_share(a: Tensor, v: Tensor) -> Tensor:
    r"""The share of :math:`E[Z \cdot s / \sqrt v]` to take as :math:`E[\nabla\cdot s]`.

    Both are the same by Stein's identity. With this share, none where the rows are noise and
    all where they are clean, the loss's gradient has a third of either's variance: for one
    Gaussian of this variance, none.
    """
    return a**2 * TYPICAL_VARIANCE / (a**2 * TYPICAL_VARIANCE + v)


class RowLosses(metaclass=ABCMeta):
    """The loss of every row under a mixture; the same rows have the same noise."""

    def __init__(self, rows: Tensor):
        self.rows = rows

    @abstractmethod
    def part(self, network: MixtureScores, part: slice) -> Tensor:
        """Losses (n,) of some rows."""

    @property
    @abstractmethod
    def evaluations_per_row(self) -> int:
        """How often a row's score is taken."""


class DenoisingLosses(RowLosses):
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
        super().__init__(rows)
        n, d = rows.shape
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
        a, v = NoiseLevel.from_log_snr(self.log_snr[:, None, None])
        noise = self.noise[:, part]
        noised = a[..., None] * self.rows[part, None] + v[..., None].sqrt() * noise
        x, z = noised.flatten(1, 2), noise.flatten(1, 2) / v.sqrt()
        share = stein_share(a, v)
        score, divergence = network.score_and_divergence(x, a, v)
        gain = (score.square() - x.square() + 2 * (1 - share) * z * (score + x)).sum(-1)
        gain = gain + 2 * share[..., 0] * (divergence + x.shape[-1])
        by_row = gain.unflatten(1, (-1, noise.shape[2])) @ self.noise_weights
        return self.level_weights * torch.sigmoid(-self.log_snr) / 2 @ by_row


class CleanLosses(RowLosses):
    """A loss of the data's own score, at no noise."""

    evaluations_per_row = 2

    def __init__(self, rows: Tensor):
        super().__init__(rows)
        self.level = rows.new_ones(()), rows.new_zeros(())

    def score(self, network: MixtureScores, x: Tensor) -> Tensor:
        return network.score(x, *self.level)


class ImplicitLosses(CleanLosses):
    r"""Implicit score matching, :math:`\tfrac12 |s|^2 + \nabla\cdot s`, with the exact trace.

    Source: [Hyvarinen2005]_.
    """

    def part(self, network: MixtureScores, part: slice) -> Tensor:
        score, divergence = network.score_and_divergence(self.rows[part], *self.level)
        return 0.5 * score.square().sum(-1) + divergence


class SlicedLosses(CleanLosses):
    r"""Sliced score matching, :math:`\tfrac12 |s|^2 + v^T \nabla s\, v`, with signs as v.

    Source: [SSM]_, with the reduced variance.
    """

    def __init__(self, rows: Tensor, generator: torch.Generator):
        super().__init__(rows)
        load_forward_mode()
        half = torch.full(rows.shape, 0.5, dtype=rows.dtype, device=rows.device)
        self.direction = 2 * torch.bernoulli(half, generator=generator) - 1

    def part(self, network: MixtureScores, part: slice) -> Tensor:
        direction = self.direction[part]
        of_network = partial(self.score, network)
        score, slope = torch.func.jvp(of_network, (self.rows[part],), (direction,))[:2]
        return 0.5 * score.square().sum(-1) + (slope * direction).sum(-1)


class SmoothedLosses(CleanLosses):
    r"""Local curvature smoothing, the trace by Stein's identity over a small noise.

    .. math:: \tfrac12 |s(x)|^2 + \frac{(s(x + \sigma z) - s(x - \sigma z)) \cdot z}{2 \sigma}

    Source: [LCSS]_.
    """

    evaluations_per_row = 3

    def __init__(self, rows: Tensor, generator: torch.Generator, sigma: float = LCSS_SIGMA):
        super().__init__(rows)
        self.sigma = sigma
        self.noise = standard_normal(rows.shape, rows, generator)

    def part(self, network: MixtureScores, part: slice) -> Tensor:
        x, z = self.rows[part], self.noise[part]
        ahead, behind = (self.score(network, x + sign * self.sigma * z) for sign in (1, -1))
        curvature = ((ahead - behind) * z).sum(-1) / (2 * self.sigma)
        return 0.5 * self.score(network, x).square().sum(-1) + curvature
