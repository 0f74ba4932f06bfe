"""A Gaussian mixture in the place of a score network: its parameters are the weights to train."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn

from ..noise.level import NoiseLevel
from ..scores.network import NoiseNetwork
from .mixture import GaussianMixtureScore
from .mixture_algebra import MixtureTerms, mixture_terms


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
    def terms(self, x: Tensor, level: NoiseLevel) -> MixtureTerms:
        """The algebra of rows (..., n, d) at levels of shape () or (..., n or 1, 1)."""

    def forward(self, y: Tensor, log_snr: Tensor, context: Tensor | None = None) -> Tensor:
        level = NoiseLevel.from_log_snr(log_snr)
        return -level.v.sqrt() * self.terms(y, level).score()

    def forward_and_jacobian_diagonal(
        self, y: Tensor, log_snr: Tensor, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        level = NoiseLevel.from_log_snr(log_snr)
        score, diagonal = self.terms(y, level).score_and_jacobian_diagonal()
        return -level.v.sqrt() * score, -level.v.sqrt() * diagonal

    def forward_and_divergence(
        self, y: Tensor, log_snr: Tensor, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        level = NoiseLevel.from_log_snr(log_snr)
        score, divergence = self.terms(y, level).score_and_divergence()
        return -level.v.sqrt() * score, -level.v.sqrt().squeeze(-1) * divergence


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
            values, axes = torch.linalg.eigh(covariances)
            return values, axes
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
        turned: Tensor = self.base @ torch.linalg.matrix_exp(skew - skew.mT)
        return turned

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

    def terms(self, x: Tensor, level: NoiseLevel) -> MixtureTerms:
        k, d = self.means.shape
        axes = self.axes().expand(k, d, d)
        rotated_means = torch.einsum("kd,kde->ke", self.means, axes)
        log_weights = self.logits.log_softmax(0)
        return mixture_terms(x, *level, log_weights, rotated_means, self.eigenvalues(), axes)
