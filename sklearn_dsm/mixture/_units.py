"""Parameters of a mixture in the units of the input, and in those it is fitted in."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from scipy.linalg import rq
from torch import Tensor

from .._core.arrays import tensor_of
from .._mixtures.parameters import Parameters, all_covariances
from .._transforms.chain import Chain
from .._transforms.fitting import linear_map
from .._transforms.marginal import MarginalTransform
from .._transforms.whitening import Whitening, exact_whitening


def fit_units(X: np.ndarray, weight: np.ndarray, kind: str) -> Chain:
    """Zero mean and unit covariance, as far as the kind of covariance stays what it is.

    "full" and "tied" covariances stay so in any basis, "diag" ones in any scales of the columns,
    "spherical" ones in one scale of all. Rows that span no basis have scales alone.
    """
    mean = np.average(X, axis=0, weights=weight)
    variance = np.average((X - mean) ** 2, axis=0, weights=weight)
    if kind == "spherical":
        variance = np.full_like(variance, variance.mean())
    scales = linear_map(mean, np.sqrt(variance))
    if kind not in ("full", "tied") or are_few(*X.shape):
        return scales
    return scales.then(exact_whitening(scales.forward(X)[0], weight))


def are_few(n_rows: int, n_features: int) -> bool:
    """Whether every covariance of so many rows is singular."""
    return n_rows <= n_features


def standardized(X: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Rows in which clusters are looked for: whitened, those far apart would come near."""
    return fit_units(X, weight, "diag").forward(X)[0]


class Units(NamedTuple):
    """The rows z = (x - shift) @ matrix, and the matrix back."""

    shift: Tensor
    matrix: Tensor
    inverse: Tensor

    @classmethod
    def of(cls, latent: Chain) -> Units:
        """Those of what :func:`fit_units` gives."""
        marginal = latent.part(MarginalTransform)
        shift, scale = marginal.location, marginal.scale
        matrix, inverse = np.diag(1 / scale), np.diag(scale)
        if latent.has(Whitening):
            whitening = latent.part(Whitening)
            shift = shift + scale * whitening.mean
            matrix, inverse = matrix @ whitening.matrix, whitening.coloring @ inverse
        return cls(tensor_of(shift), tensor_of(matrix), tensor_of(inverse))

    def outside(self, parameters: Parameters, kind: str) -> Parameters:
        """The same mixture in the units of the input."""
        means = self.shift + parameters.means @ self.inverse
        return self._turned(parameters, means, self.inverse, kind)

    def inside(self, parameters: Parameters, kind: str) -> Parameters:
        """The mixture in the units of the fit, of one in those of the input."""
        means = (parameters.means - self.shift) @ self.matrix
        return self._turned(parameters, means, self.matrix, kind)

    @staticmethod
    def _turned(parameters: Parameters, means: Tensor, matrix: Tensor, kind: str) -> Parameters:
        covariances = matrix.T @ all_covariances(parameters, kind) @ matrix
        covariances = (covariances + covariances.mT) / 2
        return Parameters(parameters.weights, means, of_kind(covariances, kind))

    def factors_outside(self, covariances: Tensor) -> np.ndarray:
        """Upper triangular factors (k, d, d) of the precisions in the units of the input.

        From covariances in those of the fit, where nearly collinear columns are no trouble.
        """
        white = torch.linalg.inv(torch.linalg.cholesky(covariances)).mT
        factors = []
        for factor in (self.matrix @ white).numpy():
            upper, _ = rq(factor)
            factors.append(upper * np.sign(np.diag(upper)))
        return np.stack(factors)

    def covariances_inside(self, factors: Tensor) -> Tensor:
        """Covariances (k, d, d) in the units of the fit, from such factors."""
        roots = torch.linalg.inv(self.inverse @ factors)
        return roots.mT @ roots


def of_kind(covariances: Tensor, kind: str) -> Tensor:
    """Full covariances (k, d, d) in the shape of their kind, whose form they have."""
    if kind == "full":
        return covariances
    if kind == "tied":
        return covariances[0]
    variances = covariances.diagonal(dim1=1, dim2=2)
    return variances.mean(1) if kind == "spherical" else variances
