"""A Gaussian mixture in the place of a score network: its parameters are the weights to train."""

from __future__ import annotations

from abc import abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..constants import LOG_2PI
from ..scores.network import NoiseNetwork
from .mixture import GaussianMixtureScore


class MixtureTerms(NamedTuple):
    """What scores and densities of a mixture are made of, for rows (..., n) and k components.

    Attributes
    ----------
    log_joint : Tensor of shape (..., n, k)
        Log of weight times density.
    pulls : Tensor of shape (..., n, k, d)
        C_k^-1 (x - m_k) in the axes of the component.
    trace : Tensor of shape (..., k)
        Trace of C_k^-1.
    """

    log_joint: Tensor
    pulls: Tensor
    trace: Tensor


class MixtureScores(NoiseNetwork):
    """The noise that a Gaussian mixture sees in noised rows, whatever its parameters are.

    In the place of a network that is the whole score (``whole``) it is trained and evaluated
    as one.

    Attributes
    ----------
    logits : Parameter of shape (k,)
    means : Parameter of shape (k, d)
    """

    whole, half_precision = True, False
    logits: nn.Parameter
    means: nn.Parameter

    @abstractmethod
    def axes(self) -> Tensor:
        """The axes that pulls are given in, shape (k or 1, d, d), in columns."""

    @abstractmethod
    def terms(self, x: Tensor, a: Tensor, v: Tensor) -> MixtureTerms:
        """Of rows (..., n, d) at levels whose fields have shape () or (..., n or 1, 1)."""

    def score(self, x: Tensor, a: Tensor, v: Tensor) -> Tensor:
        """The score (..., n, d) at levels as in :meth:`terms`; ``a = 1, v = 0`` is the data's."""
        return self._score(self.terms(x, a, v))

    def score_and_divergence(self, x: Tensor, a: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """The score, and the trace of its Jacobian (..., n)."""
        terms = self.terms(x, a, v)
        score = self._score(terms)
        curvature = terms.pulls.square().sum(-1) - terms.trace
        posterior = terms.log_joint.softmax(-1)
        return score, (posterior * curvature).sum(-1) - score.square().sum(-1)

    def _score(self, terms: MixtureTerms) -> Tensor:
        k, d = self.means.shape
        weighted = (terms.log_joint.softmax(-1)[..., None] * terms.pulls).flatten(-2)
        return -weighted @ self.axes().expand(k, d, d).mT.reshape(k * d, d)

    def forward(self, y: Tensor, log_snr: Tensor) -> Tensor:
        a, v = torch.sigmoid(log_snr).sqrt(), torch.sigmoid(-log_snr)
        return -v.sqrt() * self.score(y, a, v)

    def forward_and_divergence(self, y: Tensor, log_snr: Tensor) -> tuple[Tensor, Tensor]:
        """The output (..., n, d) and the trace of its Jacobian in y (..., n)."""
        a, v = torch.sigmoid(log_snr).sqrt(), torch.sigmoid(-log_snr)
        score, divergence = self.score_and_divergence(y, a, v)
        return -v.sqrt() * score, -v.sqrt().squeeze(-1) * divergence


class MixtureNetwork(MixtureScores):
    r"""The noise that a Gaussian mixture sees in noised rows, with trainable parameters.

    .. math:: \hat\epsilon(x, \lambda) = -\sqrt v\, \nabla \log \sum_k w_k
        N(x; a \mu_k, a^2 \Sigma_k + v I), \qquad
        \Sigma_k = Q_k (e^{\eta_k} + c) Q_k^T, \quad Q_k = B_k e^{S_k},

    with skew-symmetric :math:`S_k`. At all levels the covariances have the same axes, so a
    level costs no decomposition.

    Parameters
    ----------
    weights : Tensor of shape (k,)
    means : Tensor of shape (k, d)
    covariances : Tensor of shape (k, d, d), or (1, d, d) for one that all components share
    kind : {"full", "tied", "diag", "spherical"}
        What may vary from there on.
    floor : float
        Added to every eigenvalue: c above.
    """

    base: Tensor

    def __init__(
        self, weights: Tensor, means: Tensor, covariances: Tensor, kind: str, floor: float
    ):
        super().__init__()
        self.kind, self.floor = kind, floor
        eigenvalues, base = self._decomposed(covariances)
        self.register_buffer("base", base)
        self.logits = nn.Parameter(weights.log())
        self.means = nn.Parameter(means.clone())
        self.log_eigenvalues = nn.Parameter((eigenvalues - floor).clamp(min=floor).log())
        n, d = base.shape[:2]
        n_angles = d * (d - 1) // 2 if kind in ("full", "tied") else 0
        self.angles = nn.Parameter(means.new_zeros(n, n_angles))

    def _decomposed(self, covariances: Tensor) -> tuple[Tensor, Tensor]:
        """Eigenvalues and axes of covariances of this kind."""
        n, d = covariances.shape[:2]
        if self.kind in ("full", "tied"):
            return torch.linalg.eigh(covariances)
        variances = covariances.diagonal(dim1=1, dim2=2)
        if self.kind == "spherical":
            variances = variances.mean(1, keepdim=True)
        return variances, torch.eye(d).to(covariances).expand(n, d, d).clone()

    def axes(self) -> Tensor:
        """The covariances' axes, shape (k or 1, d, d), in columns."""
        if self.angles.shape[1] == 0:
            return self.base
        n, d = self.base.shape[:2]
        rows, columns = torch.triu_indices(d, d, 1)
        skew = self.angles.new_zeros(n, d, d).index_put(
            (torch.arange(n)[:, None], rows, columns), self.angles
        )
        return self.base @ torch.linalg.matrix_exp(skew - skew.mT)

    def eigenvalues(self) -> Tensor:
        """The covariances' eigenvalues, shape (k or 1, d)."""
        return (self.log_eigenvalues.exp() + self.floor).expand(-1, self.base.shape[1])

    def covariances(self) -> Tensor:
        """The covariances, shape (k or 1, d, d)."""
        axes = self.axes()
        return (axes * self.eigenvalues()[:, None]) @ axes.mT

    def exact(self) -> GaussianMixtureScore:
        """The mixture as it stands, in float64."""
        k, d = self.means.shape
        covariances = self.covariances().expand(k, d, d)
        parts = (self.logits.softmax(0), self.means, covariances)
        return GaussianMixtureScore(*(part.detach().double() for part in parts))

    def terms(self, x: Tensor, a: Tensor, v: Tensor) -> MixtureTerms:
        """Of rows (..., n, d) at levels whose fields have shape () or (..., n or 1, 1)."""
        k, d = self.means.shape
        axes = self.axes().expand(k, d, d)
        a, v = a[..., None], v[..., None]
        variances = a**2 * self.eigenvalues().expand(k, d) + v
        flat = axes.permute(1, 0, 2).reshape(d, k * d)
        rotated = (x @ flat).unflatten(-1, (k, d))
        offsets = rotated - a * torch.einsum("kd,kde->ke", self.means, axes)
        pulls = offsets / variances
        squares = (offsets * pulls).sum(-1) + variances.log().sum(-1) + d * LOG_2PI
        log_joint = self.logits.log_softmax(0) - 0.5 * squares
        return MixtureTerms(log_joint, pulls, variances.reciprocal().sum(-1))
