"""Gaussian pancakes: densities that are hard to learn as the dimension grows."""

from __future__ import annotations

import numpy as np
from scipy.special import logsumexp

from .._random import numpy_random
from ._law import ExactLaw

# Components farther out weigh less than this.
LEAST_LOG_WEIGHT = -40.0


class GaussianPancakes(ExactLaw):
    r"""Standard normal distribution, cut into thin slices along one hidden direction.

    .. math:: w^T x \sim \sum_{i \in Z} \pi_i N\left( \frac{\sqrt{2\pi}\, \gamma i}{s^2},
        \frac{\beta^2}{s^2} \right), \qquad \pi_i \propto e^{-\pi i^2 / s^2}, \qquad
        s^2 = \beta^2 + \gamma^2.

    Along every direction orthogonal to w, x is N(0, 1) and independent of :math:`w^T x`. The slices
    lie :math:`\sqrt{2\pi}\gamma/s^2` apart. If :math:`\gamma \ge 2\sqrt d`, no algorithm is known
    that tells the distribution from N(0, I) in polynomial time, and there are reasons to believe
    that none exists.

    Parameters
    ----------
    n_features : int
    gamma : float, default=2.0
        The slices are about :math:`\sqrt{2\pi} / \gamma` apart.
    beta : float, default=0.1
        The standard deviation across a slice is about :math:`\beta / \gamma`.
    random_state : int, RandomState or None, default=None
        Seed of the hidden direction.

    Attributes
    ----------
    n_features : int
    direction : ndarray of shape (n_features,)
        The hidden unit vector w.

    References
    ----------
    [DDPMLearning]_, Definition 17, in units where every column has variance one.

    Examples
    --------
    >>> from sklearn_dsm.datasets import GaussianPancakes
    >>> law = GaussianPancakes(3, random_state=0)
    >>> X = law.sample(5, random_state=0)
    >>> law.log_density(X).shape, law.score(X).shape
    ((5,), (5, 3))
    """

    def __init__(self, n_features, gamma=2.0, beta=0.1, random_state=None):
        if not (n_features >= 1 and gamma > 0 and beta > 0):
            raise ValueError(
                f"n_features={n_features!r} must be at least 1, gamma={gamma!r} and "
                f"beta={beta!r} positive."
            )
        self.n_features = n_features
        direction = numpy_random(random_state).standard_normal(n_features)
        self.direction = direction / np.linalg.norm(direction)
        squared = beta**2 + gamma**2
        most = int(np.ceil(np.sqrt(-LEAST_LOG_WEIGHT * squared / np.pi)))
        index = np.arange(-most, most + 1)
        log_weights = -np.pi * index**2 / squared
        self._log_weights = log_weights - logsumexp(log_weights)
        self._means = np.sqrt(2 * np.pi) * gamma * index / squared
        self._deviation = beta / np.sqrt(squared)
        self._numbers_per_row = n_features + len(index)

    def _sample(self, n_samples, random):
        slices = random.choice(len(self._means), n_samples, p=np.exp(self._log_weights))
        along = self._means[slices] + self._deviation * random.standard_normal(n_samples)
        X = random.standard_normal((n_samples, self.n_features))
        return X + np.outer(along - X @ self.direction, self.direction)

    def _evaluate(self, X, a, v):
        along, variance = X @ self.direction, a**2 + v
        across, n_across = (X**2).sum(1) - along**2, self.n_features - 1
        rest = -0.5 * (across / variance + n_across * np.log(2 * np.pi * variance))
        offsets, narrow = a * self._means - along[:, None], (a * self._deviation) ** 2 + v
        log_joint = self._log_weights - 0.5 * (offsets**2 / narrow + np.log(2 * np.pi * narrow))
        log_along = logsumexp(log_joint, axis=1)
        pull = (np.exp(log_joint - log_along[:, None]) * offsets).sum(1) / narrow
        score = -X / variance + np.outer(pull + along / variance, self.direction)
        return log_along + rest, score


def make_gaussian_pancakes(n_samples=100, n_features=2, *, gamma=2.0, beta=0.1, random_state=None):
    """Draw samples from Gaussian pancakes with a random hidden direction.

    Parameters
    ----------
    n_samples : int, default=100
    n_features : int, default=2
    gamma, beta : float
        As in :class:`GaussianPancakes`.
    random_state : int, RandomState or None, default=None
        Seed of the direction and of the samples.

    Returns
    -------
    X : ndarray of shape (n_samples, n_features)
    law : GaussianPancakes
        The distribution, with its exact ``log_density`` and ``score``, and ``sample`` for more
        samples.

    Examples
    --------
    >>> from sklearn_dsm.datasets import make_gaussian_pancakes
    >>> X, law = make_gaussian_pancakes(50, 4, random_state=0)
    >>> X.shape
    (50, 4)
    """
    random = numpy_random(random_state)
    law = GaussianPancakes(n_features, gamma, beta, random)
    return law.sample(n_samples, random), law
