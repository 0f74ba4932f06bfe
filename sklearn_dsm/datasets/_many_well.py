"""Products of double wells and normals."""

from __future__ import annotations

import itertools
from numbers import Integral

import numpy as np
from scipy.special import logsumexp

from .._core.constants import LOG_2PI
from ._sampled import Sampled
from ._target import Target

# The double well beyond this end is below e^-400, and the trapezoidal rule is exact to rounding.
END, N_NODES = 6.0, 2**16 + 1
# Where the two wells of a pair are taken to be, and how many combinations are listed at most.
WELL, MOST_MODES = 1.7, 2**12


class ManyWell(Sampled, Target):
    r"""Unnormalised density of pairs of features: a double well times a normal density.

    .. math:: \log\gamma(x) = \sum_{k=1}^{d/2} \left( -x_{2k-1}^4 + 6 x_{2k-1}^2
        + \tfrac12 x_{2k-1} - \tfrac12 x_{2k}^2 \right).

    All pairs are independent. The density has :math:`2^{d/2}` modes of unequal weight, and the
    integral :math:`e^{10.29 d/2}`. In each pair, the right well is near 1.7 and has probability
    0.844. ``sample`` inverts the distribution function of the double well.

    Parameters
    ----------
    n_features : int, default=32
        Number d of features, an even number.

    Attributes
    ----------
    n_features : int
    log_normalizer : float
        Logarithm of the integral, by quadrature.
    right_probability : float
        Probability that the first feature of a pair is positive.

    Raises
    ------
    ValueError
        If ``n_features`` is odd or less than two.

    Examples
    --------
    >>> from sklearn_dsm.datasets import ManyWell
    >>> target = ManyWell(2)
    >>> round(target.log_normalizer, 4), round(target.right_probability, 4)
    (10.2935, 0.8443)
    >>> target.sample(5, random_state=0).shape
    (5, 2)
    >>> target.mode_centers()
    array([[-1.7,  0. ],
           [ 1.7,  0. ]])
    """

    def __init__(self, n_features=32):
        if not isinstance(n_features, Integral) or n_features < 2 or n_features % 2:
            raise ValueError(
                f"n_features={n_features!r} must be an even integer, since features come in pairs."
            )
        self.n_features = int(n_features)
        self._nodes = np.linspace(-END, END, N_NODES)
        log_values = -(self._nodes**4) + 6 * self._nodes**2 + 0.5 * self._nodes
        log_mass = logsumexp(log_values)
        pair = log_mass + np.log(self._nodes[1] - self._nodes[0]) + 0.5 * LOG_2PI
        self.log_normalizer = float(self.n_features // 2 * pair)
        share = np.exp(log_values - log_mass)
        self.right_probability = float(share[self._nodes > 0].sum() + share[N_NODES // 2] / 2)
        # The distribution function at the nodes, by the trapezoidal rule.
        self._levels = np.cumsum(share) - 0.5 * share

    def _sample(self, n_samples, random):
        X = np.empty((n_samples, self.n_features))
        levels = random.uniform(size=(n_samples, self.n_features // 2))
        X[:, ::2] = np.interp(levels, self._levels, self._nodes)
        X[:, 1::2] = random.normal(size=levels.shape)
        return X

    def mode_centers(self):
        """List the centres of all modes: plus or minus 1.7 in each double well, and 0.

        Returns
        -------
        ndarray of shape (2 ** (n_features / 2), n_features)

        Raises
        ------
        ValueError
            If there are more than 4096 modes.
        """
        signs = self._signs()
        centers = np.zeros((len(signs), self.n_features))
        centers[:, ::2] = WELL * signs
        return centers

    def mode_weights(self):
        """Compute the probability of each mode, in the order of ``mode_centers``.

        Returns
        -------
        ndarray of shape (2 ** (n_features / 2),)

        Raises
        ------
        ValueError
            If there are more than 4096 modes.
        """
        right = self.right_probability
        return np.where(self._signs() > 0, right, 1 - right).prod(1)

    def _signs(self):
        n_modes = 2 ** (self.n_features // 2)
        if n_modes > MOST_MODES:
            raise ValueError(
                f"ManyWell({self.n_features}) has {n_modes} modes, too many to list. The signs of "
                "the first features of all pairs tell the modes of samples."
            )
        return np.array(list(itertools.product([-1.0, 1.0], repeat=self.n_features // 2)))

    def _log_density(self, x):
        wells, normals = x[:, ::2], x[:, 1::2]
        squared = wells * wells
        return (squared * (6 - squared) + 0.5 * wells - 0.5 * normals * normals).sum(1)
