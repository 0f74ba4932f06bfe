"""Laws whose rows can be drawn and whose log-density is known exactly.

Every law has ``n_features``, ``draw(n, generator)`` with a numpy generator, and
``log_density(X)`` of shape (n,).
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from scipy.linalg import solve_triangular
from scipy.special import logsumexp

LOG_2PI = float(np.log(2 * np.pi))
CHUNK_ROWS = 500
# Size of the means, and degrees of freedom a column of the covariances, in ``Mixture``.
MEAN_SCALE, WISHART_FACTOR = 0.45, 8


class Law(Protocol):
    n_features: int

    def draw(self, n: int, generator: np.random.Generator) -> np.ndarray: ...

    def log_density(self, X: np.ndarray) -> np.ndarray: ...


class TwoMoons:
    """Two half circles with uniform angles, plus Gaussian noise of one deviation."""

    n_features = 2

    def __init__(self, noise: float = 0.1, n_nodes: int = 2000):
        self.noise = noise
        # The midpoint rule; its nodes lie far closer together than the noise is wide.
        angles = (np.arange(n_nodes) + 0.5) * np.pi / n_nodes
        self.nodes = np.concatenate([self._points(angles, moon) for moon in (0, 1)])

    @staticmethod
    def _points(angles: np.ndarray, moon) -> np.ndarray:
        upper = np.c_[np.cos(angles), np.sin(angles)]
        lower = np.c_[1 - np.cos(angles), 0.5 - np.sin(angles)]
        return np.where(np.reshape(moon, (-1, 1)) == 0, upper, lower)

    def draw(self, n: int, generator: np.random.Generator) -> np.ndarray:
        points = self._points(generator.uniform(0, np.pi, n), generator.integers(2, size=n))
        return points + self.noise * generator.normal(size=(n, 2))

    def log_density(self, X: np.ndarray) -> np.ndarray:
        parts = np.array_split(X, -(-len(X) // CHUNK_ROWS))
        return np.concatenate([self._log_density(part) for part in parts])

    def _log_density(self, X: np.ndarray) -> np.ndarray:
        squared = ((X[:, None] - self.nodes) ** 2).sum(2)
        log_kernel = -squared / (2 * self.noise**2) - LOG_2PI - 2 * np.log(self.noise)
        return logsumexp(log_kernel, axis=1) - np.log(len(self.nodes))


class Checkerboard:
    """Uniform on eight of the sixteen squares of side two in [-4, 4]^2."""

    n_features = 2

    def draw(self, n: int, generator: np.random.Generator) -> np.ndarray:
        column, row = generator.integers(4, size=n), generator.integers(2, size=n)
        corner = np.c_[column, 2 * row + column % 2]
        return 2 * (corner + generator.uniform(size=(n, 2))) - 4

    def log_density(self, X: np.ndarray) -> np.ndarray:
        square = np.floor((X + 4) / 2).astype(int)
        inside = (np.abs(X) < 4).all(1) & (square.sum(1) % 2 == 0)
        return np.where(inside, -np.log(32), -np.inf)


class Funnel:
    """Neal's funnel: a column from N(0, 9), the others from N(0, exp(the first))."""

    def __init__(self, n_features: int = 10):
        self.n_features = n_features

    def draw(self, n: int, generator: np.random.Generator) -> np.ndarray:
        first = 3 * generator.normal(size=(n, 1))
        others = np.exp(first / 2) * generator.normal(size=(n, self.n_features - 1))
        return np.concatenate([first, others], 1)

    def log_density(self, X: np.ndarray) -> np.ndarray:
        first, others = X[:, 0], X[:, 1:]
        log_first = -0.5 * (LOG_2PI + np.log(9) + first**2 / 9)
        squared = (others**2).sum(1) * np.exp(-first)
        return log_first - 0.5 * ((LOG_2PI + first) * others.shape[1] + squared)

    def entropy(self) -> float:
        """The mean of the first column is 0, so the others add what standard normals would."""
        return 0.5 * (self.n_features * (LOG_2PI + 1) + float(np.log(9)))


class Mixture:
    """Gaussian components of equal weight with full covariances, near enough to overlap a little.

    The means and covariances are drawn once from a seed. A draw's likeliest component is not
    its own in about three of a hundred rows.
    """

    def __init__(self, n_features: int = 50, n_components: int = 10, seed: int = 0):
        generator, self.n_features = np.random.default_rng(seed), n_features
        self.means = MEAN_SCALE * generator.normal(size=(n_components, n_features))
        shape = (n_components, n_features, WISHART_FACTOR * n_features)
        factors = generator.normal(size=shape) / np.sqrt(shape[2])
        self.roots = np.linalg.cholesky(factors @ factors.swapaxes(1, 2))

    def draw(self, n: int, generator: np.random.Generator) -> np.ndarray:
        return self.draw_labelled(n, generator)[0]

    def draw_labelled(self, n: int, generator: np.random.Generator):
        """Rows, and the component that each was drawn from."""
        component = generator.integers(len(self.means), size=n)
        X = np.empty((n, self.n_features))
        for k, (mean, root) in enumerate(zip(self.means, self.roots, strict=True)):
            own = component == k
            X[own] = mean + generator.normal(size=(own.sum(), self.n_features)) @ root.T
        return X, component

    def log_joint(self, X: np.ndarray) -> np.ndarray:
        """Log of weight times density, for every row and component."""
        columns = []
        for mean, root in zip(self.means, self.roots, strict=True):
            white = solve_triangular(root, (X - mean).T, lower=True)
            log_volume = np.log(np.diag(root)).sum() + 0.5 * self.n_features * LOG_2PI
            columns.append(-0.5 * (white**2).sum(0) - log_volume)
        return np.stack(columns, 1) - np.log(len(self.means))

    def log_density(self, X: np.ndarray) -> np.ndarray:
        return logsumexp(self.log_joint(X), axis=1)


class SineChain:
    """The first column is N(0, 1), each other N(sin(2 x), (.2 + .4 sigmoid(x))^2).

    x is the column before it.
    """

    def __init__(self, n_features: int):
        self.n_features = n_features

    @staticmethod
    def _moments(before: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.sin(2 * before), 0.2 + 0.4 / (1 + np.exp(-before))

    def draw(self, n: int, generator: np.random.Generator) -> np.ndarray:
        X = generator.normal(size=(n, self.n_features))
        for j in range(1, self.n_features):
            mean, deviation = self._moments(X[:, j - 1])
            X[:, j] = mean + deviation * X[:, j]
        return X

    def log_density(self, X: np.ndarray) -> np.ndarray:
        mean, deviation = self._moments(X[:, :-1])
        white = np.column_stack([X[:, 0], (X[:, 1:] - mean) / deviation])
        squared = (white**2).sum(1) + self.n_features * LOG_2PI
        return -0.5 * squared - np.log(deviation).sum(1)
