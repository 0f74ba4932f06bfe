"""Kernel exponential families fitted by score matching."""

from __future__ import annotations

from numbers import Integral, Real

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.spatial.distance import pdist
from sklearn.base import BaseEstimator
from sklearn.utils import gen_batches

from .._columns import rows_to_evaluate, rows_to_fit
from .._compat import Interval, StrOptions
from .._fit import whole_fit
from .._random import seed_from
from ._kernel_basis import BASES, KernelBasis
from ._protocol import diagonals

# Squared bandwidths that are compared, in units of the median squared distance, and ridges.
BANDWIDTHS, RIDGES = (0.25, 0.5, 1.0, 2.0, 4.0), tuple(np.geomspace(1e-6, 1.0, 7))
JITTER, VALIDATION_FRACTION = 1e-5, 0.2
# Numbers that are held at once.
CHUNK_NUMBERS = 2**21
# Of the base density's covariance, in units of a feature's variance.
FLOOR = 1e-6


class KernelExponentialFamily(BaseEstimator):
    r"""Estimate a log-density up to a constant, its score and the score's Jacobian, with kernels.

    The Stein score is the gradient of the log-density. The log-density is that of a Gaussian
    :math:`q_0` with the mean and covariance of the data, plus a function in the Hilbert space of
    the kernel :math:`k(x, y) = \exp(-|x - y|^2 / \sigma)`:

    .. math:: \log p = \log q_0 + f + const, \qquad f = \sum_p \beta_p \phi_p, \qquad
        \beta = -\Big(\tfrac1n B^T B + \lambda G\Big)^{-1} h.

    This is the closed form of score matching. B holds the derivatives of the functions
    :math:`\phi_p` along every feature at every sample, :math:`h_p` is the mean over samples of
    :math:`\sum_j \partial_{jj} \phi_p + \partial_j \phi_p\, \partial_j \log q_0`, and G is the
    Gram matrix of the functions. These are centred at a few random samples, the points (Nystrom).
    Score and Jacobian are known everywhere, unlike those of :class:`SteinScoreEstimator`.

    Parameters
    ----------
    n_points : int, default=200
        Number of points; all samples if there are fewer. Time grows with its square.
    basis : {"kernels", "derivatives"}, default="kernels"
        The functions :math:`\phi_p`.

        - "kernels": :math:`k(x, y)` at each point y. Fast.
        - "derivatives": the derivatives of :math:`k(x, y)` with respect to each component of y.
          More accurate with few points; time grows with the cube of the number of features.
    bandwidth : "auto" or float, default="auto"
        The squared bandwidth :math:`\sigma`, in units of the median squared distance of the
        standardised points. "auto" chooses from 0.25 to 4 by the score-matching loss of a
        validation set.
    alpha : "auto" or float, default="auto"
        The ridge :math:`\lambda`. "auto" chooses from 1e-6 to 1 by the same loss.
    random_state : int, RandomState or None, default=0
        Seed of the points and of the validation set, which is a fifth of the samples.

    Attributes
    ----------
    bandwidth_, alpha_ : float
        The values used in the fit.
    points_ : ndarray of shape (n_points, n_features)
        The points, standardised.
    coef_ : ndarray of shape (n_functions,)
        The coefficients :math:`\beta`.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features; only if X had names.

    References
    ----------
    [KernelExponentialFamily]_, [NystromScoreMatching]_

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_dsm import KernelExponentialFamily
    >>> X = np.random.default_rng(0).normal(size=(500, 2))
    >>> family = KernelExponentialFamily().fit(X)
    >>> family.stein_score([[1.0, 0.0]]).shape, family.score_jacobian([[1.0, 0.0]]).shape
    ((1, 2), (1, 2, 2))
    >>> bool(np.diff(family.unnormalized_log_density([[0.0, 0.0], [2.0, 0.0]]))[0] < -1)
    True
    """

    _parameter_constraints = {
        "n_points": [Interval(Integral, 1, None, closed="left")],
        "basis": [StrOptions(set(BASES))],
        "bandwidth": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "alpha": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "random_state": ["random_state"],
    }

    def __init__(
        self, n_points=200, *, basis="kernels", bandwidth="auto", alpha="auto", random_state=0
    ):
        self.n_points = n_points
        self.basis = basis
        self.bandwidth = bandwidth
        self.alpha = alpha
        self.random_state = random_state

    @whole_fit
    def fit(self, X, y=None):
        """Fit the function f by score matching.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Every feature must vary.
        y : Ignored

        Returns
        -------
        self : KernelExponentialFamily

        Raises
        ------
        ValueError
            If X holds NaN, infinity, text or a constant feature, or if most samples are equal.
        """
        X = rows_to_fit(self, X, copy=True)
        random = np.random.RandomState(seed_from(self.random_state))
        self._location, self._scale = X.mean(0), X.std(0)
        Z = (X - self._location) / self._scale
        covariance = np.atleast_2d(np.cov(Z.T, bias=True)) + FLOOR * np.eye(X.shape[1])
        self._precision = np.linalg.inv(covariance)
        shuffled = random.permutation(len(Z))
        self.points_ = Z[shuffled[: self.n_points]]
        self._unit = float(np.median(pdist(self.points_, "sqeuclidean"))) if len(X) > 2 else 1.0
        if self._unit <= 0:
            raise ValueError(
                "The median distance between samples is zero, because most of the samples are "
                "equal. Drop repeated samples."
            )
        self.bandwidth_, self.alpha_ = self._chosen(Z[shuffled])
        functions = self._functions(self.bandwidth_)
        self.coef_ = _solution(self._equations(functions, Z), functions.gram(), self.alpha_)
        return self

    def _functions(self, bandwidth) -> KernelBasis:
        return BASES[self.basis](self.points_, bandwidth * self._unit)

    def _equations(self, functions, Z):
        """B'B / n and h of the score matching loss 0.5 beta' (B'B / n) beta + h' beta."""
        size = self.points_.size if self.basis == "derivatives" else len(self.points_)
        quadratic, linear = np.zeros((size, size)), np.zeros(size)
        for part in gen_batches(len(Z), max(1, CHUNK_NUMBERS // (size * Z.shape[1]))):
            first, second = functions.derivatives(Z[part])
            base = -Z[part] @ self._precision
            linear += second.sum((0, 1)) + np.einsum("nj,njp->p", base, first)
            flat = first.reshape(-1, size)
            quadratic += flat.T @ flat
        return quadratic / len(Z), linear / len(Z)

    def _chosen(self, Z):
        """Bandwidth and ridge with the least loss of a validation set, as far as not given."""
        widths = BANDWIDTHS if self.bandwidth == "auto" else (self.bandwidth,)
        ridges = RIDGES if self.alpha == "auto" else (self.alpha,)
        n_validation = int(len(Z) * VALIDATION_FRACTION)
        if len(widths) * len(ridges) == 1 or n_validation < 1:
            return float(widths[len(widths) // 2]), float(ridges[len(ridges) // 2])
        losses = {}
        for width in widths:
            functions = self._functions(width)
            # The points are the first of the rows, the validation set is the last.
            train = self._equations(functions, Z[:-n_validation])
            quadratic, linear = self._equations(functions, Z[-n_validation:])
            gram = functions.gram()
            for ridge in ridges:
                coef = _solution(train, gram, ridge)
                losses[width, ridge] = 0.5 * coef @ quadratic @ coef + linear @ coef
        width, ridge = min(losses, key=losses.__getitem__)
        return float(width), float(ridge)

    def stein_score(self, X):
        """Gradient of the log-density.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_features), float64
            In inverse units of X.
        """
        return self._evaluated(X)[0]

    def score_jacobian(self, X, *, diagonal=False):
        """Jacobian of the score: the Hessian of the log-density.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        diagonal : bool, default=False
            Whether to return the diagonals only.

        Returns
        -------
        ndarray of shape (n_samples, n_features, n_features) or (n_samples, n_features), float64
            In inverse squared units of X.
        """
        jacobian = self._evaluated(X)[1]
        return diagonals(jacobian).copy() if diagonal else jacobian

    def _evaluated(self, X):
        Z = self._standardized(X)
        functions = self._functions(self.bandwidth_)
        score, jacobian = np.empty(Z.shape), np.empty((*Z.shape, Z.shape[1]))
        for part in gen_batches(len(Z), max(1, CHUNK_NUMBERS // self.points_.size)):
            gradient, hessian = functions.gradient_and_hessian(Z[part], self.coef_)
            score[part] = gradient - Z[part] @ self._precision
            jacobian[part] = hessian - self._precision
        return score / self._scale, jacobian / np.outer(self._scale, self._scale)

    def unnormalized_log_density(self, X):
        """Log-density up to a constant that is the same for all samples.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,), float64
            Natural logarithms.
        """
        Z = self._standardized(X)
        functions = self._functions(self.bandwidth_)
        parts = gen_batches(len(Z), max(1, CHUNK_NUMBERS // self.points_.size))
        values = [functions.value(Z[part], self.coef_) for part in parts]
        return np.concatenate(values) - 0.5 * np.einsum("ni,ij,nj->n", Z, self._precision, Z)

    def score(self, X, y=None):
        r"""Negative score-matching loss of samples, which a grid search maximises.

        The loss is the mean of :math:`\sum_j \partial_{jj} \log p + \tfrac12 (\partial_j \log
        p)^2`, with the features in units of their standard deviations in the training set.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : Ignored

        Returns
        -------
        float
        """
        score, jacobian = self._evaluated(X)
        curvature = diagonals(jacobian) * self._scale**2
        return -float((curvature + 0.5 * (score * self._scale) ** 2).sum(1).mean())

    def _standardized(self, X):
        return (rows_to_evaluate(self, X) - self._location) / self._scale


def _solution(equations, gram, ridge):
    quadratic, linear = equations
    penalised = quadratic + ridge * gram
    penalised[np.diag_indices_from(penalised)] += JITTER * ridge + 1e-12 * np.trace(penalised)
    return -cho_solve(cho_factor(penalised, check_finite=False), linear)
