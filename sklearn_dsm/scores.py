"""Score models: grad log p at every noise level, exact ones and a learned correction of them."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod

import torch
from torch import Tensor, nn

from ._constants import LOG_2PI
from ._random import standard_normal
from .conversions import convert
from .levels import NoiseLevel
from .networks import NoiseNetwork


class ScoreModel(nn.Module, metaclass=ABCMeta):
    r"""The score :math:`\nabla \log p_s(x)` of data noised to a level, with its divergence.

    Rows are tensors of shape (..., n, d); a level has fields of shape () or (n, 1). Scores
    have the rows' shape, divergences (..., n).
    """

    @abstractmethod
    def score_and_divergence(self, x: Tensor, level: NoiseLevel) -> tuple[Tensor, Tensor]:
        """The score and the trace of its Jacobian."""

    def score(self, x: Tensor, level: NoiseLevel) -> Tensor:
        """The score alone."""
        return self.score_and_divergence(x, level)[0]

    def divergence(self, x: Tensor, level: NoiseLevel) -> Tensor:
        """The trace of the score's Jacobian alone."""
        return self.score_and_divergence(x, level)[1]

    def posterior_mean(self, x: Tensor, level: NoiseLevel) -> Tensor:
        r"""The clean row to expect, :math:`E[X_0 \mid X_s = x] = (x + v\,s(x)) / a`."""
        return convert(self.score(x, level), x, level, "score", "clean")


class ExactScore(ScoreModel, metaclass=ABCMeta):
    """A score model that knows the log-density of the noised data as well."""

    @abstractmethod
    def log_density(self, x: Tensor, level: NoiseLevel) -> Tensor:
        """Log-density of the data noised to this level, shape (..., n)."""

    @abstractmethod
    def sample(self, n: int, level: NoiseLevel, generator: torch.Generator) -> Tensor:
        """n draws of the data noised to this level, shape (n, d)."""


def _choose_components(n: int, log_weights: Tensor, generator: torch.Generator) -> Tensor:
    return torch.multinomial(log_weights.exp(), n, replacement=True, generator=generator)


class GaussianScore(ExactScore):
    r"""Data from :math:`N(\mu, \Sigma)`; at a level they are :math:`N(a\mu, a^2\Sigma + vI)`.

    Parameters
    ----------
    mean : Tensor of shape (d,)
    covariance : Tensor of shape (d, d), positive definite
    """

    mean: Tensor
    eigenvalues: Tensor
    axes: Tensor

    def __init__(self, mean: Tensor, covariance: Tensor):
        super().__init__()
        eigenvalues, axes = torch.linalg.eigh(covariance)
        self.register_buffer("mean", mean)
        self.register_buffer("eigenvalues", eigenvalues)
        self.register_buffer("axes", axes)

    def _standardize(self, x: Tensor, level: NoiseLevel) -> tuple[Tensor, Tensor]:
        variances = level.a**2 * self.eigenvalues + level.v
        return (x - level.a * self.mean) @ self.axes, variances

    def score_and_divergence(self, x: Tensor, level: NoiseLevel) -> tuple[Tensor, Tensor]:
        y, variances = self._standardize(x, level)
        divergence = -variances.reciprocal().sum(-1).expand(x.shape[:-1])
        return -(y / variances) @ self.axes.T, divergence

    def log_density(self, x: Tensor, level: NoiseLevel) -> Tensor:
        y, variances = self._standardize(x, level)
        return -0.5 * (y**2 / variances + variances.log() + LOG_2PI).sum(-1)

    def sample(self, n: int, level: NoiseLevel, generator: torch.Generator) -> Tensor:
        noise = standard_normal((n, len(self.mean)), self.mean, generator)
        deviations = (level.a**2 * self.eigenvalues + level.v).sqrt()
        return level.a * self.mean + (noise * deviations) @ self.axes.T


class GaussianMixtureScore(ExactScore):
    r"""Data from :math:`\sum_k w_k N(\mu_k, \Sigma_k)`, a Gaussian mixture at every level.

    Parameters
    ----------
    weights : Tensor of shape (k,), positive, summing to 1
    means : Tensor of shape (k, d)
    covariances : Tensor of shape (k, d, d), positive definite
    """

    log_weights: Tensor
    eigenvalues: Tensor
    axes: Tensor
    rotated_means: Tensor

    def __init__(self, weights: Tensor, means: Tensor, covariances: Tensor):
        super().__init__()
        eigenvalues, axes = torch.linalg.eigh(covariances)
        self.register_buffer("log_weights", weights.log())
        self.register_buffer("eigenvalues", eigenvalues)
        self.register_buffer("axes", axes)
        self.register_buffer("rotated_means", torch.einsum("kd,kde->ke", means, axes))

    def _components(self, x: Tensor, level: NoiseLevel) -> tuple[Tensor, Tensor, Tensor]:
        """Weighted log-densities, pulls C_k^-1 (x - m_k) in the axes, and traces of C_k^-1."""
        a, v = level.a[..., None], level.v[..., None]
        variances = a**2 * self.eigenvalues + v
        k, d = self.rotated_means.shape
        rotated = (x @ self.axes.permute(1, 0, 2).reshape(d, k * d)).reshape(*x.shape[:-1], k, d)
        offsets = rotated - a * self.rotated_means
        pulls = offsets / variances
        log_joint = self.log_weights - 0.5 * (
            (offsets * pulls).sum(-1) + variances.log().sum(-1) + d * LOG_2PI
        )
        return log_joint, pulls, variances.reciprocal().sum(-1)

    def score_and_divergence(self, x: Tensor, level: NoiseLevel) -> tuple[Tensor, Tensor]:
        log_joint, pulls, traces = self._components(x, level)
        posterior = log_joint.softmax(-1)
        k, d = self.rotated_means.shape
        weighted = (posterior[..., None] * pulls).flatten(-2)
        score = -weighted @ self.axes.permute(0, 2, 1).reshape(k * d, d)
        curvature = pulls.square().sum(-1) - traces
        return score, (posterior * curvature).sum(-1) - score.square().sum(-1)

    def log_density(self, x: Tensor, level: NoiseLevel) -> Tensor:
        return self._components(x, level)[0].logsumexp(-1)

    def sample(self, n: int, level: NoiseLevel, generator: torch.Generator) -> Tensor:
        chosen = _choose_components(n, self.log_weights, generator)
        noise = standard_normal((n, self.rotated_means.shape[1]), self.rotated_means, generator)
        deviations = (level.a**2 * self.eigenvalues[chosen] + level.v).sqrt()
        rotated = level.a * self.rotated_means[chosen] + noise * deviations
        return torch.einsum("ne,nde->nd", rotated, self.axes[chosen])


class KernelScore(ExactScore):
    r"""Data from a Gaussian kernel estimate, :math:`\sum_i w_i N(x_i, h^2 I)`.

    Parameters
    ----------
    centers : Tensor of shape (k, d)
    bandwidth : float, positive
    weights : Tensor of shape (k,), positive, summing to 1; equal where None
    """

    centers: Tensor
    log_weights: Tensor

    def __init__(self, centers: Tensor, bandwidth: float, weights: Tensor | None = None):
        super().__init__()
        k = len(centers)
        equal = torch.full((k,), 1 / k, dtype=centers.dtype, device=centers.device)
        self.register_buffer("centers", centers)
        self.register_buffer("log_weights", (equal if weights is None else weights).log())
        self.bandwidth = bandwidth

    def _variance(self, level: NoiseLevel) -> Tensor:
        return level.a**2 * self.bandwidth**2 + level.v

    def _log_joint(self, x: Tensor, level: NoiseLevel) -> Tensor:
        variance, d = self._variance(level), x.shape[-1]
        # The centred rows keep the expanded square accurate; (n, k, d) is never formed.
        shift = self.centers.mean(0)
        x, centers = x - level.a * shift, self.centers - shift
        squared = (
            x.square().sum(-1, keepdim=True)
            - 2 * level.a * (x @ centers.T)
            + level.a**2 * centers.square().sum(-1)
        )
        return self.log_weights - 0.5 * (squared / variance + d * (variance.log() + LOG_2PI))

    def score_and_divergence(self, x: Tensor, level: NoiseLevel) -> tuple[Tensor, Tensor]:
        variance = self._variance(level)
        shift = self.centers.mean(0)
        centers = self.centers - shift
        posterior = self._log_joint(x, level).softmax(-1)
        mean = posterior @ centers
        spread = (posterior @ centers.square().sum(-1)) - mean.square().sum(-1)
        pull = (x - level.a * (mean + shift)) / variance
        trace = (level.a**2 * spread[..., None] / variance - x.shape[-1]) / variance
        return -pull, trace.squeeze(-1)

    def log_density(self, x: Tensor, level: NoiseLevel) -> Tensor:
        return self._log_joint(x, level).logsumexp(-1)

    def sample(self, n: int, level: NoiseLevel, generator: torch.Generator) -> Tensor:
        chosen = self.centers[_choose_components(n, self.log_weights, generator)]
        noise = standard_normal(chosen.shape, chosen, generator)
        return level.a * chosen + self._variance(level).sqrt() * noise


class CorrectedScore(ScoreModel):
    r"""A reference score plus a learned correction.

    The network works on the *noise* a row holds, :math:`\epsilon = -\sqrt v\,s`: with y the
    row divided by the level's scale, the score is
    :math:`s_{ref}(x) - c(y, \lambda) / \sqrt v`. A network that returns zero leaves the
    reference as it is.

    Parameters
    ----------
    reference : ExactScore
        What is corrected, and in any case what likelihoods are measured against.
    network : NoiseNetwork
        Maps rows (..., n, d) and a log-SNR of shape () or (n, 1) to an output (..., n, d).
        One built with ``whole=True`` gives the whole score.
    """

    def __init__(self, reference: ExactScore, network: NoiseNetwork):
        super().__init__()
        self.reference = reference
        self.network = network
        self.residual = not network.whole

    def noise_and_correction(self, x: Tensor, level: NoiseLevel) -> tuple[Tensor, Tensor]:
        """The noise the reference sees in the rows, and what this model adds to it."""
        reference = -level.v.sqrt() * self.reference.score(x, level)
        output = self.network(x / level.scale, level.log_snr)
        return reference, output if self.residual else output - reference

    def noise_correction_and_divergence(
        self, x: Tensor, level: NoiseLevel
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As :meth:`noise_and_correction`, and the correction's exact divergence (..., n) in x."""
        output, trace = self.network.forward_and_divergence(x / level.scale, level.log_snr)
        trace = trace / level.scale.squeeze(-1)
        score, base = self.reference.score_and_divergence(x, level)
        noise, sigma = -level.v.sqrt() * score, level.v.sqrt()
        if self.residual:
            return noise, output, trace
        return noise, output - noise, trace + sigma.squeeze(-1) * base

    def score(self, x: Tensor, level: NoiseLevel) -> Tensor:
        learned = -self.network(*self._inputs(x, level)).to(x.dtype) / level.v.sqrt()
        return learned + self.reference.score(x, level) if self.residual else learned

    def score_and_divergence(self, x: Tensor, level: NoiseLevel) -> tuple[Tensor, Tensor]:
        noise, trace = self.network.forward_and_divergence(*self._inputs(x, level))
        factor = -level.v.sqrt().reciprocal()
        score = factor * noise.to(x.dtype)
        divergence = (factor / level.scale).squeeze(-1) * trace.to(x.dtype)
        if not self.residual:
            return score, divergence
        base = self.reference.score_and_divergence(x, level)
        return base[0] + score, base[1] + divergence

    def _inputs(self, x: Tensor, level: NoiseLevel) -> tuple[Tensor, Tensor]:
        """What the network sees, in its own precision, which may be below the rows'."""
        dtype = next((weight.dtype for weight in self.network.parameters()), x.dtype)
        return (x / level.scale).to(dtype), level.log_snr.to(dtype)
