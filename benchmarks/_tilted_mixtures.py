"""A mixture in two features times the exponential of a quadratic function: all in closed form."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from scipy.special import logsumexp
from sklearn.mixture import GaussianMixture

from sklearn_dsm._mixtures.parameters import mixture_from

WEIGHTS = np.array([0.3, 0.4, 0.3])
MEANS = np.array([[-2.0, 0.0], [2.0, 1.0], [0.0, -2.0]])
COVARIANCES = np.array([[[0.3, 0.0], [0.0, 0.3]], [[0.4, 0.2], [0.2, 0.3]], [[0.25, 0], [0, 0.25]]])
CURVATURE, SLOPE = np.diag([0.3, 0.2]), np.array([0.8, 0.6])


class TiltedMixture(NamedTuple):
    """The tilted density, a mixture as well, and the logarithm of its mass."""

    mixture: GaussianMixture
    log_normalizer: float


def log_weight(x: torch.Tensor) -> torch.Tensor:
    """-x'Ax/2 + b'x."""
    A, b = (torch.as_tensor(each, dtype=x.dtype) for each in (CURVATURE, SLOPE))
    return x @ b - 0.5 * ((x @ A) * x).sum(1)


def base() -> GaussianMixture:
    return mixture_from(WEIGHTS, MEANS, COVARIANCES)


def tilted() -> TiltedMixture:
    """By completing the square in every component."""
    precisions = np.linalg.inv(COVARIANCES)
    covariances = np.linalg.inv(precisions + CURVATURE)
    means = np.einsum("kij,kj->ki", covariances, np.einsum("kij,kj->ki", precisions, MEANS) + SLOPE)
    logs = np.log(WEIGHTS) + 0.5 * (
        np.linalg.slogdet(covariances)[1]
        - np.linalg.slogdet(COVARIANCES)[1]
        - np.einsum("ki,kij,kj->k", MEANS, precisions, MEANS)
        + np.einsum("ki,kij,kj->k", means, np.linalg.inv(covariances), means)
    )
    total = float(logsumexp(logs))
    return TiltedMixture(mixture_from(np.exp(logs - total), means, covariances), total)
