"""Mixtures of Student's t distributions."""

from __future__ import annotations

import math

import torch

from .._random import numpy_random
from ._sampled import Sampled
from ._target import Target


class StudentMixture(Sampled, Target):
    r"""Mixture of Student's t distributions with heavy tails and random means.

    .. math:: p(x) = \frac1K \sum_k \prod_j t_\nu(x_j - \mu_{kj}), \qquad
        \mu_{kj} \text{ uniform on } (-s, s).

    The features are independent within a component. With two degrees of freedom, the default,
    the variance is infinite.

    Parameters
    ----------
    n_features : int, default=2
    n_components : int, default=10
    df : float, default=2.0
        Degrees of freedom :math:`\nu`.
    spread : float, default=10.0
        Half the side s of the cube of means.
    random_state : int, RandomState, Generator or None, default=0
        Seed of the means.

    Attributes
    ----------
    n_features : int
    means : ndarray of shape (n_components, n_features)
    log_normalizer : float
        Zero.

    Raises
    ------
    ValueError
        If one of the numbers is not positive.

    Examples
    --------
    >>> from sklearn_dsm.datasets import StudentMixture
    >>> target = StudentMixture(3)
    >>> X = target.sample(4, random_state=0)
    >>> target.log_density(X).shape, target.score(X).shape
    ((4,), (4, 3))
    """

    log_normalizer = 0.0

    def __init__(self, n_features=2, n_components=10, *, df=2.0, spread=10.0, random_state=0):
        if not (n_features >= 1 and n_components >= 1 and df > 0 and spread > 0):
            raise ValueError(
                f"n_features={n_features!r} and n_components={n_components!r} must be at least 1, "
                f"df={df!r} and spread={spread!r} positive."
            )
        self.n_features, self.df = n_features, df
        shape = (n_components, n_features)
        self.means = numpy_random(random_state).uniform(-spread, spread, shape)

    def _sample(self, n_samples, random):
        component = random.choice(len(self.means), n_samples)
        return self.means[component] + random.standard_t(self.df, (n_samples, self.n_features))

    def _log_density(self, x):
        half = 0.5 * (self.df + 1)
        constant = (
            math.lgamma(half) - math.lgamma(0.5 * self.df) - 0.5 * math.log(self.df * math.pi)
        )
        offsets = x[:, None, :] - torch.as_tensor(self.means, dtype=x.dtype)
        log_each = constant - half * torch.log1p(offsets**2 / self.df)
        return log_each.sum(2).logsumexp(1) - math.log(len(self.means))
