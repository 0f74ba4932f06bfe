"""Functions of a kernel exponential family: combinations of kernels, or of their derivatives."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod

import numpy as np
from scipy.spatial.distance import cdist


class KernelBasis(metaclass=ABCMeta):
    r"""Functions on R^d around m points, with the kernel :math:`\exp(-|x - y|^2 / \sigma)`."""

    def __init__(self, points: np.ndarray, sigma: float):
        self.points, self.sigma = points, sigma

    def kernel(self, X: np.ndarray) -> np.ndarray:
        """Kernels (n, m) between rows and points."""
        return np.exp(-cdist(X, self.points, "sqeuclidean") / self.sigma)

    @abstractmethod
    def gram(self) -> np.ndarray:
        """Inner products (p, p) of the functions in the kernel's Hilbert space."""

    @abstractmethod
    def derivatives(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """First derivatives (n, d, p) and second derivatives (n, d, p) along each axis."""

    @abstractmethod
    def value(self, X: np.ndarray, coef: np.ndarray) -> np.ndarray:
        """Values (n,) of the combination with the coefficients (p,)."""

    @abstractmethod
    def gradient_and_hessian(
        self, X: np.ndarray, coef: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Gradients (n, d) and Hessians (n, d, d) of the combination."""


class Kernels(KernelBasis):
    """The kernels themselves: m functions."""

    def gram(self):
        return self.kernel(self.points)

    def derivatives(self, X):
        kernel, offsets = self.kernel(X)[:, None], X[:, :, None] - self.points.T
        first = -2 / self.sigma * offsets * kernel
        return first, (4 / self.sigma**2 * offsets**2 - 2 / self.sigma) * kernel

    def value(self, X, coef):
        return self.kernel(X) @ coef

    def gradient_and_hessian(self, X, coef):
        weighted = self.kernel(X) * coef
        offsets = X[:, None] - self.points
        along = weighted[:, :, None] * offsets
        hessian = 4 / self.sigma**2 * (np.swapaxes(along, 1, 2) @ offsets)
        hessian -= 2 / self.sigma * weighted.sum(1)[:, None, None] * np.eye(X.shape[1])
        return -2 / self.sigma * along.sum(1), hessian


class KernelDerivatives(KernelBasis):
    """The kernels' derivatives at the points along each axis: m d functions."""

    def gram(self):
        m, d = self.points.shape
        offsets = self.points[:, None] - self.points
        outer = -4 / self.sigma**2 * offsets[..., :, None] * offsets[..., None, :]
        blocks = (outer + 2 / self.sigma * np.eye(d)) * self.kernel(self.points)[..., None, None]
        return blocks.transpose(0, 2, 1, 3).reshape(m * d, m * d)

    def derivatives(self, X):
        # With u = x - y: function i at y is 2 u_i k / sigma.
        (n, d), m, ratio = X.shape, len(self.points), 2 / self.sigma
        u, kernel = X[:, None] - self.points, self.kernel(X)[:, None, :, None]
        across = np.swapaxes(u, 1, 2)[..., None]
        same = np.eye(d)[:, None]
        first = (ratio * same - ratio**2 * across * u[:, None]) * kernel
        second = (
            -2 * ratio**2 * across * same + (ratio**3 * across**2 - ratio**2) * u[:, None]
        ) * kernel
        return first.reshape(n, d, m * d), second.reshape(n, d, m * d)

    def value(self, X, coef):
        offsets = X[:, None] - self.points
        along = np.einsum("nmi,mi->nm", offsets, coef.reshape(self.points.shape))
        return 2 / self.sigma * (self.kernel(X) * along).sum(1)

    def gradient_and_hessian(self, X, coef):
        beta, ratio = coef.reshape(self.points.shape), 2 / self.sigma
        offsets, kernel = X[:, None] - self.points, self.kernel(X)
        weighted = kernel * np.einsum("nmi,mi->nm", offsets, beta)
        along = weighted[:, :, None] * offsets
        gradient = ratio * (kernel @ beta - ratio * along.sum(1))
        crossed = np.einsum("nm,mi,nmj->nij", kernel, beta, offsets, optimize=True)
        hessian = ratio**2 * np.swapaxes(along, 1, 2) @ offsets
        hessian -= ratio * (crossed + np.swapaxes(crossed, 1, 2))
        hessian -= ratio * weighted.sum(1)[:, None, None] * np.eye(X.shape[1])
        return gradient, ratio * hessian


BASES: dict[str, type[KernelBasis]] = {"kernels": Kernels, "derivatives": KernelDerivatives}
