"""What a fitted polynomial log-density can tell: values, gradients and samples."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from numbers import Integral

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from .._columns import rows_to_evaluate
from .._compat import Interval, validate_parameter_constraints
from .._evaluation.base import check_number_of_draws
from .._polynomials.polynomial import Polynomial, growing_direction
from .._polynomials.sampling import MIN_CHAINS, sample_chains
from .._random import numpy_random
from .._threads import take_one_thread_where_forked


class PolynomialDensity(BaseEstimator, metaclass=ABCMeta):
    """Base class of estimators whose log-density is a polynomial, up to a constant."""

    location_: np.ndarray
    covariance_: np.ndarray

    def score(self, X, y=None):
        r"""Negative score-matching loss of the fitted density, which a grid search maximises.

        .. math:: -\frac1n \sum_x \sum_i \left[ \partial_{ii} \log p(x)
            + \tfrac12 (\partial_i \log p(x))^2 \right]

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : Ignored

        Returns
        -------
        float
            Larger is better. The value depends on the units of the features, so compare it on the
            same samples only.
        """
        return -float(np.mean(self._log_density().score_matching_loss(self._checked(X))))

    def unnormalized_log_density(self, X):
        r"""Natural logarithm of the density, up to its constant :math:`\psi`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        return self._log_density().value(self._checked(X))

    def stein_score(self, X):
        """Stein score: the gradient of the log-density.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            In inverse units of X.
        """
        return self._log_density().gradient(self._checked(X))

    def score_jacobian(self, X, *, diagonal=False):
        """Jacobian of the Stein score: the second derivatives of the log-density.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        diagonal : bool, default=False
            Whether to return the diagonals only.

        Returns
        -------
        ndarray of shape (n_samples, n_features, n_features) or (n_samples, n_features)
            Symmetric matrices, or their diagonals, in inverse squared units of X.
        """
        jacobian = self._log_density().hessian(self._checked(X))
        return np.diagonal(jacobian, axis1=1, axis2=2).copy() if diagonal else jacobian

    def sample(self, n_samples=1, random_state=None, *, n_sweeps=200):
        """Draw samples from the fitted density by Metropolis within Gibbs.

        Each sample is the end of a chain of its own, which starts at a draw from the normal
        distribution with mean ``location_`` and covariance ``covariance_``.

        Parameters
        ----------
        n_samples : int, default=1
        random_state : int, RandomState or None, default=None
            The same integer gives the same samples.
        n_sweeps : int, default=200
            Sweeps of each chain over all features. Strongly dependent features need more.

        Returns
        -------
        ndarray of shape (n_samples, n_features)

        Raises
        ------
        ValueError
            If the fitted log-density does not fall in some direction, so that it has no integral.
        """
        check_is_fitted(self)
        take_one_thread_where_forked()
        n = check_number_of_draws(n_samples, random_state)
        validate_parameter_constraints(
            {"n_sweeps": [Interval(Integral, 1, None, closed="left")]},
            {"n_sweeps": n_sweeps},
            caller_name="sample",
        )
        scale = np.sqrt(np.diag(self.covariance_))
        scaled = self._log_density().of_scaled(self.location_, scale)
        direction = growing_direction(scaled)
        if direction is not None:
            raise ValueError(
                "The fitted log-density does not fall along the direction "
                f"{(direction * scale).round(3)}, so it has no integral and no samples. Use an "
                "even base_degree above degree, a lower degree, or more samples to fit."
            )
        random = numpy_random(random_state)
        # Of dependent features there is no Cholesky factor.
        variances, axes = np.linalg.eigh(self.covariance_ / np.outer(scale, scale))
        start = random.standard_normal((max(n, MIN_CHAINS), len(scale)))
        start = (start * np.sqrt(variances.clip(min=0))) @ axes.T
        Z = sample_chains(scaled, start, n_sweeps, random)[:n]
        return self.location_ + Z * scale

    @abstractmethod
    def _log_density(self) -> Polynomial:
        """The fitted log-density in the units of the input, up to its constant."""

    def _checked(self, X):
        return rows_to_evaluate(self, X)
