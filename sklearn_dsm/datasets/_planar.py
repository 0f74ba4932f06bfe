"""Laws of two columns that every density estimator is drawn with."""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import cdist
from scipy.special import log_ndtr

from .._core.constants import LOG_2PI
from ._law import ExactLaw

# Narrower moons would take too many nodes.
LEAST_NOISE = 0.001
PANEL_NODES = 16


class TwoMoons(ExactLaw):
    r"""Two interleaved half circles, blurred by Gaussian noise.

    .. math:: x = c + \sigma z, \qquad c = (\cos t, \sin t) \text{ or }
        (1 - \cos t, \tfrac12 - \sin t), \qquad t \sim U(0, \pi),

    each half circle with probability one half. The density is an integral over t, which is computed
    by a composite Gauss-Legendre rule. Near the moons it is exact to rounding.

    Parameters
    ----------
    noise : float, default=0.1
        Standard deviation :math:`\sigma` of the noise; at least 0.001.

    Attributes
    ----------
    n_features : int
        Two.

    Raises
    ------
    ValueError
        If ``noise`` is less than 0.001.

    Examples
    --------
    >>> from sklearn_dsm.datasets import TwoMoons
    >>> law = TwoMoons()
    >>> X = law.sample(5, random_state=0)
    >>> law.log_density(X).shape, law.score(X).shape
    ((5,), (5, 2))
    """

    n_features = 2

    def __init__(self, noise=0.1):
        if not LEAST_NOISE <= noise < np.inf:
            raise ValueError(f"noise={noise!r} must be a number of at least {LEAST_NOISE}.")
        self.noise = noise
        angles, weights = _panel_rule(0, np.pi, int(np.ceil(np.pi / (2 * noise))))
        self._nodes = np.concatenate([self._points(angles, moon) for moon in (0, 1)])
        self._weights = np.tile(weights, 2) / weights.sum() / 2
        self._numbers_per_row = 2 * len(self._nodes)

    @staticmethod
    def _points(angles, moon):
        upper = np.c_[np.cos(angles), np.sin(angles)]
        lower = np.c_[1 - np.cos(angles), 0.5 - np.sin(angles)]
        return np.where(np.reshape(moon, (-1, 1)) == 0, upper, lower)

    def _sample(self, n_samples, random):
        points = self._points(random.uniform(0, np.pi, n_samples), random.choice(2, n_samples))
        return points + self.noise * random.normal(size=(n_samples, 2))

    def _evaluate(self, X, a, v):
        nodes, variance = a * self._nodes, (a * self.noise) ** 2 + v
        log_kernel = cdist(X, nodes, "sqeuclidean") / (-2 * variance)
        largest = log_kernel.max(1, keepdims=True)
        kernel = self._weights * np.exp(log_kernel - largest)
        mass = kernel.sum(1)
        log_density = largest[:, 0] + np.log(mass) - LOG_2PI - np.log(variance)
        return log_density, (kernel @ nodes / mass[:, None] - X) / variance


def _panel_rule(low, high, n_panels):
    """Nodes and weights of Gauss-Legendre rules on equal parts of an interval."""
    nodes, weights = np.polynomial.legendre.leggauss(PANEL_NODES)
    half = (high - low) / n_panels / 2
    centers = low + half * (2 * np.arange(n_panels) + 1)
    return (centers[:, None] + half * nodes).ravel(), np.tile(half * weights, n_panels)


class Checkerboard(ExactLaw):
    """Uniform distribution on eight of the sixteen squares of side two in :math:`[-4, 4]^2`.

    Inside these squares the score is zero. Outside them the score does not exist, and is NaN. With
    added noise the score exists everywhere. The square in the lower left corner is one of the
    eight.

    Attributes
    ----------
    n_features : int
        Two.

    Examples
    --------
    >>> from sklearn_dsm.datasets import Checkerboard
    >>> law = Checkerboard()
    >>> law.log_density([[-3.0, -3.0], [-1.0, -3.0]])
    array([-3.4657359,       -inf])
    >>> law.noised_score([[-3.0, -3.0]], a=1.0, v=1.0).round(3)
    array([[0.082, 0.082]])
    """

    n_features = 2
    _numbers_per_row = 200

    def _sample(self, n_samples, random):
        column, row = random.choice(4, n_samples), random.choice(2, n_samples)
        corner = np.c_[column, 2 * row + column % 2]
        return 2 * (corner + random.uniform(size=(n_samples, 2))) - 4

    def _evaluate(self, X, a, v):
        return self._blurred(X, a, np.sqrt(v)) if v else self._sharp(X / a, a)

    def _sharp(self, X, a):
        square = np.floor((X + 4) / 2).astype(int)
        inside = (np.abs(X) < 4).all(1) & (square.sum(1) % 2 == 0)
        log_density = np.where(inside, -np.log(32 * a**2), -np.inf)
        return log_density, np.where(inside[:, None], np.zeros_like(X), np.nan)

    def _blurred(self, X, a, deviation):
        """Squares are products of intervals, and noise keeps them so."""
        log_mass, slopes = _noised_intervals(X, a * (2 * np.arange(5) - 4), deviation)
        column = np.repeat(np.arange(4), 2)
        row = np.tile([0, 2], 4) + column % 2
        log_joint = log_mass[:, 0, column] + log_mass[:, 1, row]
        log_total = np.logaddexp.reduce(log_joint, axis=1)
        posterior = np.exp(log_joint - log_total[:, None])
        slope = np.stack([slopes[:, 0, column], slopes[:, 1, row]], 1)
        score = (posterior[:, None] * slope).sum(2)
        return log_total - np.log(32 * a**2), score


def _noised_intervals(X, edges, deviation):
    """Log of the probability that noise leads from a number into an interval, and its slope."""
    low, high = ((part - X[..., None]) / deviation for part in (edges[:-1], edges[1:]))
    # Differences of the upper tail cancel, those of the lower do not.
    flip = low + high > 0
    nearer, farther = np.where(flip, -low, high), np.where(flip, -high, low)
    log_near = log_ndtr(nearer)
    log_mass = log_near + np.log(-np.expm1(log_ndtr(farther) - log_near))
    at_low, at_high = (np.exp(-0.5 * (z**2 + LOG_2PI) - log_mass) for z in (low, high))
    return log_mass, (at_low - at_high) / deviation
