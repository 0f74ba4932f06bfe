"""Laws of the density benchmark beside those of ``sklearn_dsm.datasets``."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from sklearn_dsm.datasets import GaussianMixtureLaw

LOG_2PI = float(np.log(2 * np.pi))
# Size of the means, and degrees of freedom a column of the covariances, in ``mixture``.
MEAN_SCALE, WISHART_FACTOR = 0.45, 8


class Law(Protocol):
    """Rows can be drawn, and their log-density is known exactly."""

    n_features: int

    def sample(self, n_samples: int, random_state: np.random.Generator) -> np.ndarray: ...

    def log_density(self, X: np.ndarray) -> np.ndarray: ...


def mixture(n_features: int = 50, n_components: int = 10, seed: int = 0) -> GaussianMixtureLaw:
    """Gaussian components of equal weight with full covariances, near enough to overlap a little.

    The means and covariances are drawn once from a seed. A draw's likeliest component is not
    its own in about three of a hundred rows.
    """
    generator = np.random.default_rng(seed)
    means = MEAN_SCALE * generator.normal(size=(n_components, n_features))
    shape = (n_components, n_features, WISHART_FACTOR * n_features)
    factors = generator.normal(size=shape) / np.sqrt(shape[2])
    return GaussianMixtureLaw(means, factors @ factors.swapaxes(1, 2))


class SineChain:
    """The first column is N(0, 1), each other N(sin(2 x), (.2 + .4 sigmoid(x))^2).

    x is the column before it.
    """

    def __init__(self, n_features: int):
        self.n_features = n_features

    @staticmethod
    def _moments(before: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.sin(2 * before), 0.2 + 0.4 / (1 + np.exp(-before))

    def sample(self, n_samples: int, random_state: np.random.Generator) -> np.ndarray:
        X = random_state.normal(size=(n_samples, self.n_features))
        for j in range(1, self.n_features):
            mean, deviation = self._moments(X[:, j - 1])
            X[:, j] = mean + deviation * X[:, j]
        return X

    def log_density(self, X: np.ndarray) -> np.ndarray:
        mean, deviation = self._moments(X[:, :-1])
        white = np.column_stack([X[:, 0], (X[:, 1:] - mean) / deviation])
        squared = (white**2).sum(1) + self.n_features * LOG_2PI
        return -0.5 * squared - np.log(deviation).sum(1)
