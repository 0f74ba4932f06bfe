"""Gaussian mixtures of scikit-learn: made of parameters, moved, joined, as exact scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from sklearn.mixture import GaussianMixture
from torch import Tensor

from .._core.arrays import tensor_of
from .._core.distributions.gaussian import GaussianScore
from .._core.distributions.mixture import GaussianMixtureScore
from .._core.scores.model import ExactScore


class Parameters(NamedTuple):
    """Those of a mixture, in float64.

    Attributes
    ----------
    weights : Tensor of shape (k,)
    means : Tensor of shape (k, d)
    covariances : Tensor
        Of shape (k, d, d), (d, d), (k, d) or (k,), as scikit-learn's of the same kind.
    """

    weights: Tensor
    means: Tensor
    covariances: Tensor


def all_covariances(parameters: Parameters, kind: str) -> Tensor:
    """Full covariances (k, d, d), whatever their kind."""
    (k, d), covariances = parameters.means.shape, parameters.covariances
    if kind in ("full", "tied"):
        return covariances.expand(k, d, d)
    variances = covariances if kind == "diag" else covariances[:, None]
    return torch.diag_embed(variances.expand(k, d))


def standard_gaussian(n_features: int) -> GaussianMixture:
    """N(0, I) as a one-component mixture."""
    return mixture_from(np.ones(1), np.zeros((1, n_features)), np.eye(n_features)[None])


def mixture_from(
    weights: np.ndarray, means: np.ndarray, covariances: np.ndarray
) -> GaussianMixture:
    """A fitted scikit-learn mixture with full covariances and these parameters."""
    mixture = GaussianMixture(len(weights), covariance_type="full")
    mixture.weights_, mixture.means_, mixture.covariances_ = weights, means, covariances
    factors = np.linalg.cholesky(np.linalg.inv(covariances))
    mixture.precisions_cholesky_ = factors
    mixture.precisions_ = factors @ factors.transpose(0, 2, 1)
    mixture.converged_, mixture.n_iter_, mixture.lower_bound_ = True, 0, np.nan
    mixture.n_features_in_ = means.shape[1]
    return mixture


def full_covariances(mixture) -> np.ndarray:
    """A fitted mixture's covariances (k, d, d), whatever its covariance_type."""
    k, d = mixture.means_.shape
    covariances, eye = mixture.covariances_, np.eye(d)
    if mixture.covariance_type == "full":
        return covariances
    if mixture.covariance_type == "tied":
        return np.broadcast_to(covariances, (k, d, d)).copy()
    variances = covariances if covariances.ndim == 2 else covariances[:, None]
    return variances[:, :, None] * eye


def transformed(mixture: GaussianMixture, shift: np.ndarray, matrix: np.ndarray) -> GaussianMixture:
    """The mixture of (x - shift) @ matrix."""
    covariances = matrix.T @ full_covariances(mixture) @ matrix
    return mixture_from(mixture.weights_, (mixture.means_ - shift) @ matrix, covariances)


def joined(mixtures: Sequence[GaussianMixture], weights: Sequence[float]) -> GaussianMixture:
    """The weighted mean of the densities of mixtures, a mixture of all their components."""
    return mixture_from(
        np.concatenate([w * each.weights_ for w, each in zip(weights, mixtures, strict=True)]),
        np.concatenate([each.means_ for each in mixtures]),
        np.concatenate([full_covariances(each) for each in mixtures]),
    )


def without_rare_components(mixture: GaussianMixture, least: float) -> GaussianMixture:
    """The mixture without components of less than a weight; at least the heaviest stays."""
    kept = mixture.weights_ >= min(least, mixture.weights_.max())
    if kept.all():
        return mixture
    weights = mixture.weights_[kept] / mixture.weights_[kept].sum()
    return mixture_from(weights, mixture.means_[kept], full_covariances(mixture)[kept])


def numbers_in(mixture: GaussianMixture) -> int:
    """How many free parameters a mixture with full covariances has."""
    k, d = mixture.means_.shape
    return k * (d + d * (d + 1) // 2) + k - 1


def as_score(mixture: GaussianMixture) -> ExactScore:
    """The mixture as an exact score model, in float64."""
    means = tensor_of(mixture.means_)
    covariances = tensor_of(full_covariances(mixture))
    if len(means) == 1:
        return GaussianScore(means[0], covariances[0])
    return GaussianMixtureScore(tensor_of(mixture.weights_), means, covariances)
