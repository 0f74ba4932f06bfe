"""Neal's funnel."""

from __future__ import annotations

import numpy as np

from .._core.constants import LOG_2PI
from ._law import ExactLaw

# Nodes of a scan and of the final rule, and how often the scan is narrowed.
SCAN_NODES, RULE_NODES, N_SCANS = 65, 401, 5
# Nodes whose integrand is below the largest by more than this count for nothing.
NEGLIGIBLE = 42.0
# How many deviations of a Gaussian that takes.
REACH = 10.0


class Funnel(ExactLaw):
    r"""Neal's funnel: the first feature sets the variance of all others.

    .. math:: x_1 \sim N(0, s^2), \qquad x_i \mid x_1 \sim N(0, e^{x_1}), \quad i = 2, \dots, d,

    where :math:`e^{x_1}` is a variance. Given the first feature :math:`u` without noise, the noised
    distribution is Gaussian. The noised density is therefore a one-dimensional integral,

    .. math:: p(x) = \int N(u; 0, s^2)\, N(x_1; a u, v)
        \prod_{i=2}^d N(x_i; 0, a^2 e^u + v)\, du,

    which is computed by the trapezoidal rule, with a relative error of about 1e-9.

    Parameters
    ----------
    n_features : int, default=10
        At least two.
    scale : float, default=3.0
        Standard deviation s of the first feature.

    Attributes
    ----------
    n_features : int
    scale : float

    Raises
    ------
    ValueError
        If ``n_features`` is less than two or ``scale`` is not positive.

    References
    ----------
    [Neal2003]_, section 8.

    Examples
    --------
    >>> from sklearn_dsm.datasets import Funnel
    >>> law = Funnel(3)
    >>> law.score([[0.0, 1.0, -2.0]])
    array([[ 1.5, -1. ,  2. ]])
    >>> law.noised_score([[0.0, 1.0, -2.0]], a=0.8, v=0.36).shape
    (1, 3)
    """

    _numbers_per_row = 4 * RULE_NODES

    def __init__(self, n_features=10, scale=3.0):
        if not (n_features >= 2 and 0 < scale < np.inf):
            raise ValueError(
                f"n_features={n_features!r} must be at least 2 and scale={scale!r} positive."
            )
        self.n_features, self.scale = n_features, scale

    def entropy(self):
        """Entropy: minus the expected log-density.

        Returns
        -------
        float
            In nats.
        """
        # The mean of the first column is 0, so the others add what standard normals would.
        return 0.5 * (self.n_features * (LOG_2PI + 1) + float(np.log(self.scale**2)))

    def _sample(self, n_samples, random):
        first = self.scale * random.normal(size=(n_samples, 1))
        others = np.exp(first / 2) * random.normal(size=(n_samples, self.n_features - 1))
        return np.concatenate([first, others], 1)

    def _evaluate(self, X, a, v):
        return self._noised(X, a, v) if v else self._clean(X, a)

    def _clean(self, X, a):
        first, others = X[:, 0] / a, X[:, 1:] / a
        n_others, variance = others.shape[1], self.scale**2
        squared = (others**2).sum(1) * np.exp(-first)
        log_first = -0.5 * (LOG_2PI + np.log(variance) + first**2 / variance)
        log_density = log_first - 0.5 * ((LOG_2PI + first) * n_others + squared)
        score_first = -first / variance + 0.5 * (squared - n_others)
        score = np.column_stack([score_first, -others * np.exp(-first)[:, None]])
        return log_density - self.n_features * np.log(a), score / a

    def _noised(self, X, a, v):
        """By quadrature over z, where the clean first column given its noised one is m + t z."""
        first, others = X[:, :1], X[:, 1:]
        variance = a**2 * self.scale**2 + v
        mean = a * self.scale**2 / variance * first
        deviation = self.scale * np.sqrt(v / variance)
        squared = (others**2).sum(1, keepdims=True)

        def log_integrand(z):
            conditional = a**2 * np.exp(mean + deviation * z) + v
            log_others = np.log(conditional) * others.shape[1] + squared / conditional
            return -0.5 * (z**2 + log_others), conditional

        z = _where_it_matters(log_integrand, self._bracket(mean, deviation, squared, a, v))
        log_values, conditional = log_integrand(z)
        log_mass = np.logaddexp.reduce(log_values, axis=1, keepdims=True)
        posterior = np.exp(log_values - log_mass)
        log_density = log_mass + np.log(z[:, 1:2] - z[:, :1]) - 0.5 * np.log(variance)
        log_density += -0.5 * (first**2 / variance + (self.n_features + 1) * LOG_2PI)
        # The pull on the first column, a t E[z] / v, in a form that stays finite as v vanishes.
        pull = a * self.scale / np.sqrt(v * variance) * (posterior * z).sum(1, keepdims=True)
        precision = (posterior / conditional).sum(1, keepdims=True)
        return log_density[:, 0], np.hstack([pull - first / variance, -others * precision])

    def _bracket(self, mean, deviation, squared, a, v):
        """Where the integrand can peak: between z = 0 and the best z for the other columns."""
        n_others = self.n_features - 1
        excess = np.maximum(squared / n_others - v, np.finfo(float).tiny)
        best = (np.log(excess / a**2) - mean) / deviation
        # The logarithm of the others' density falls by at most n_others / 2 per unit of u.
        best = np.maximum(best, -0.5 * n_others * deviation)
        return np.minimum(best, 0) - REACH, np.maximum(best, 0) + REACH


def _where_it_matters(log_integrand, bracket):
    """Equidistant nodes (n, RULE_NODES) over each row's part that is not negligible."""
    low, high = bracket
    for _ in range(N_SCANS):
        z = low + (high - low) * np.linspace(0, 1, SCAN_NODES)
        log_values, _ = log_integrand(z)
        matters = log_values > log_values.max(1, keepdims=True) - NEGLIGIBLE
        step = z[:, 1:2] - z[:, :1]
        low = np.where(matters, z, np.inf).min(1, keepdims=True) - step
        high = np.where(matters, z, -np.inf).max(1, keepdims=True) + step
    return low + (high - low) * np.linspace(0, 1, RULE_NODES)


def make_funnel(n_samples=100, n_features=10, *, scale=3.0, random_state=None):
    """Draw samples from Neal's funnel.

    Parameters
    ----------
    n_samples : int, default=100
    n_features : int, default=10
    scale : float, default=3.0
        Standard deviation of the first feature.
    random_state : int, RandomState, Generator or None, default=None

    Returns
    -------
    X : ndarray of shape (n_samples, n_features)
    law : Funnel
        The distribution, with its exact ``log_density`` and ``score``, and ``sample`` for more
        samples.

    References
    ----------
    [Neal2003]_

    Examples
    --------
    >>> from sklearn_dsm.datasets import make_funnel
    >>> X, law = make_funnel(50, random_state=0)
    >>> X.shape
    (50, 10)
    """
    law = Funnel(n_features, scale)
    return law.sample(n_samples, random_state), law
