"""The algebra of a Gaussian mixture at a noise level, whatever its parameters are made of."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..constants import LOG_2PI


def responsibilities(log_joint: Tensor) -> Tensor:
    """Posterior probabilities of the components, along the last axis.

    That axis is short, where torch's own softmax is several times slower.
    """
    joint = (log_joint - log_joint.amax(-1, keepdim=True)).exp()
    return joint / joint.sum(-1, keepdim=True)


class MixtureTerms(NamedTuple):
    r"""What scores and densities of a mixture are made of, for rows (..., n, d), k components.

    With precisions :math:`P_k = C_k^{-1}`, pulls :math:`g_k = P_k (x - a \mu_k)` and
    responsibilities :math:`r_k`,

    .. math:: s = -\sum_k r_k g_k, \qquad
        \nabla s = \sum_k r_k (g_k g_k^T - P_k) - s s^T.

    Attributes
    ----------
    log_joint : Tensor of shape (..., n, k)
        Log of weight times density.
    pulls : Tensor of shape (..., n, k, d)
        In the axes of the component.
    precisions : Tensor of shape (..., n or 1, k, d), or (k, d)
        Diagonal of :math:`P_k` in the axes of the component.
    axes : Tensor of shape (k, d, d)
        In columns.
    """

    log_joint: Tensor
    pulls: Tensor
    precisions: Tensor
    axes: Tensor

    def log_density(self) -> Tensor:
        """Shape (..., n)."""
        return self.log_joint.logsumexp(-1)

    def score(self) -> Tensor:
        """Shape (..., n, d)."""
        return self.posterior_and_score()[1]

    def posterior_and_score(self) -> tuple[Tensor, Tensor]:
        """Responsibilities (..., n, k), and the score."""
        posterior = responsibilities(self.log_joint)
        weighted = (posterior[..., None] * self.pulls).flatten(-2)
        return posterior, -weighted @ self.axes.mT.flatten(0, 1)

    def score_and_divergence(self) -> tuple[Tensor, Tensor]:
        """The score, and the trace of its Jacobian (..., n)."""
        posterior, score = self.posterior_and_score()
        return score, (posterior * self.curvatures()).sum(-1) - score.square().sum(-1)

    def score_and_jacobian_diagonal(self) -> tuple[Tensor, Tensor]:
        """The score, and the diagonal of its Jacobian (..., n, d)."""
        posterior, score = self.posterior_and_score()
        pulls = torch.einsum("...ke,kde->...kd", self.pulls, self.axes)
        precisions = torch.einsum("...ke,kde->...kd", self.precisions, self.axes.square())
        curved = (posterior[..., None] * (pulls.square() - precisions)).sum(-2)
        return score, curved - score.square()

    def curvatures(self) -> Tensor:
        r""":math:`|g_k|^2 - \operatorname{tr} P_k`, shape (..., n, k)."""
        return self.pulls.square().sum(-1) - self.precisions.sum(-1)


def mixture_terms(
    x: Tensor,
    a: Tensor,
    v: Tensor,
    log_weights: Tensor,
    rotated_means: Tensor,
    eigenvalues: Tensor,
    axes: Tensor,
) -> MixtureTerms:
    r"""The terms of :math:`\sum_k w_k N(a \mu_k, a^2 Q_k \Lambda_k Q_k^T + v I)`.

    At all levels the covariances have the same axes, so a level costs no decomposition.

    Parameters
    ----------
    x : Tensor of shape (..., n, d)
    a, v : Tensor of shape () or (..., n or 1, 1)
        The level.
    log_weights : Tensor of shape (k,)
    rotated_means : Tensor of shape (k, d)
        The means in the axes of their components.
    eigenvalues : Tensor of shape (k or 1, d)
    axes : Tensor of shape (k, d, d)
        In columns.
    """
    k, d = rotated_means.shape
    a, v = a[..., None], v[..., None]
    variances = a**2 * eigenvalues.expand(k, d) + v
    rotated = (x @ axes.permute(1, 0, 2).reshape(d, k * d)).unflatten(-1, (k, d))
    offsets = rotated - a * rotated_means
    pulls = offsets / variances
    squares = (offsets * pulls).sum(-1) + variances.log().sum(-1) + d * LOG_2PI
    return MixtureTerms(log_weights - 0.5 * squares, pulls, variances.reciprocal(), axes)
