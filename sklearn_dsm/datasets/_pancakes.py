"""Gaussian pancakes: densities that are hard to learn as the dimension grows."""

from __future__ import annotations

import numpy as np
from scipy.special import logsumexp
from sklearn.utils import check_random_state

# Components farther out weigh less than this.
LEAST_LOG_WEIGHT = -40.0


class GaussianPancakes:
    r"""Standard normal but for one hidden direction, along which mass lies in thin slices.

    .. math:: w^T x \sim \sum_{i \in Z} \pi_i N\left( \frac{\sqrt{2\pi}\, \gamma i}{s^2},
        \frac{\beta^2}{s^2} \right), \qquad \pi_i \propto e^{-\pi i^2 / s^2}, \qquad
        s^2 = \beta^2 + \gamma^2,

    and every direction orthogonal to w is N(0, 1), independently. The slices lie
    :math:`\sqrt{2\pi}\gamma/s^2` apart. For :math:`\gamma \ge 2\sqrt d` no algorithm is
    known that tells the law from N(0, I) in polynomial time, and there are reasons to
    believe that none exists.

    Parameters
    ----------
    n_features : int
    gamma : float, default=2.0
        Inverse distance of the slices, about.
    beta : float, default=0.1
        Their relative width.
    random_state : int, RandomState or None, default=None
        Seed of the hidden direction.

    Attributes
    ----------
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
        direction = check_random_state(random_state).standard_normal(n_features)
        self.direction = direction / np.linalg.norm(direction)
        squared = beta**2 + gamma**2
        most = int(np.ceil(np.sqrt(-LEAST_LOG_WEIGHT * squared / np.pi)))
        index = np.arange(-most, most + 1)
        log_weights = -np.pi * index**2 / squared
        self._log_weights = log_weights - logsumexp(log_weights)
        self._means = np.sqrt(2 * np.pi) * gamma * index / squared
        self._deviation = beta / np.sqrt(squared)

    def sample(self, n_samples=1, random_state=None):
        """Draw rows.

        Parameters
        ----------
        n_samples : int, default=1
        random_state : int, RandomState or None, default=None

        Returns
        -------
        ndarray of shape (n_samples, n_features)
        """
        random = check_random_state(random_state)
        slices = random.choice(len(self._means), n_samples, p=np.exp(self._log_weights))
        along = self._means[slices] + self._deviation * random.standard_normal(n_samples)
        X = random.standard_normal((n_samples, len(self.direction)))
        return X + np.outer(along - X @ self.direction, self.direction)

    def log_density(self, X):
        """Exact log-density.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        X = np.asarray(X, dtype=np.float64)
        along = X @ self.direction
        across = (X**2).sum(1) - along**2
        n_across = len(self.direction) - 1
        rest = -0.5 * (across + n_across * np.log(2 * np.pi))
        return logsumexp(self._log_joint(along), axis=1) + rest

    def score(self, X):
        """Gradient of the log-density.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_features)
        """
        X = np.asarray(X, dtype=np.float64)
        along = X @ self.direction
        log_joint = self._log_joint(along)
        posterior = np.exp(log_joint - logsumexp(log_joint, axis=1, keepdims=True))
        pull = (posterior * (self._means - along[:, None])).sum(1) / self._deviation**2
        return -X + np.outer(pull + along, self.direction)

    def _log_joint(self, along):
        y = (along[:, None] - self._means) / self._deviation
        return self._log_weights - 0.5 * (y**2 + np.log(2 * np.pi)) - np.log(self._deviation)


def make_gaussian_pancakes(n_samples=100, n_features=2, *, gamma=2.0, beta=0.1, random_state=None):
    """Draw rows from Gaussian pancakes with a random hidden direction.

    Parameters
    ----------
    n_samples : int, default=100
    n_features : int, default=2
    gamma, beta : float
        As in :class:`GaussianPancakes`.
    random_state : int, RandomState or None, default=None
        Seed of the direction and of the rows.

    Returns
    -------
    X : ndarray of shape (n_samples, n_features)
    law : GaussianPancakes
        With the exact ``log_density`` and ``score``, and more rows by ``sample``.

    Examples
    --------
    >>> from sklearn_dsm.datasets import make_gaussian_pancakes
    >>> X, law = make_gaussian_pancakes(50, 4, random_state=0)
    >>> X.shape
    (50, 4)
    """
    random = check_random_state(random_state)
    law = GaussianPancakes(n_features, gamma, beta, random)
    return law.sample(n_samples, random), law
