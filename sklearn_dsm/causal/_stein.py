"""Stein's estimator of a score and of its Jacobian, at the training samples."""

from __future__ import annotations

from numbers import Integral, Real

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from .._columns import rows_to_evaluate, rows_to_fit
from .._compat import Interval, StrOptions
from .._fit import whole_fit
from .._random import seed_from
from ._kernel_matrix import check_kernel_memory, stein_estimate

FEWER_SAMPLES = (
    "Set max_samples to {most} or less, which draws so many of the samples; in "
    "ScoreCausalDiscovery, score_estimator=SteinScoreEstimator(max_samples={most})."
)


class SteinScoreEstimator(BaseEstimator):
    r"""Estimate the Stein score of a density, and its Jacobian, at the training samples.

    The Stein score is the gradient of the log-density. With the Gaussian kernel
    :math:`k(x, y) = \exp(-|x - y|^2 / 2 h^2)` and its matrix K over the samples, Stein's identity
    gives the score G and its Jacobian H at the samples by ridge regression:

    .. math:: G_{kj} = \Big[(K + \eta I)^{-1} \nabla_j K\Big]_k, \qquad
        H_{kjl} = -G_{kj} G_{kl} + \Big[(K + \eta I)^{-1} \nabla_{jl} K\Big]_k,

    where :math:`(\nabla_j K)_k = -\sum_i (x_{kj} - x_{ij}) k(x_k, x_i) / h^2` and
    :math:`\nabla_{jl} K` are row sums of derivatives of the kernel. Memory grows with the square
    of the number of samples, time with its cube.

    The Jacobian is good for comparisons between features and between samples. Its absolute values
    are too large, for ten features by a factor of about two. For the score at other samples, use
    :class:`~sklearn_dsm.KernelExponentialFamily`.

    Parameters
    ----------
    eta : float, default=1e-3
        Ridge :math:`\eta` of both regressions, relative to the kernel's largest value.
    bandwidth : "median" or float, default="median"
        Bandwidth h of the kernel. "median" is the median distance of all pairs of samples,
        including each sample with itself. A number is in the units of X.
    kernel : {"unnormalised", "normalised"}, default="unnormalised"
        Whether the kernel is divided by its bandwidth.

        - "unnormalised": the estimate does not depend on the units of X.
        - "normalised": as in the algorithm SCORE [SCORE]_. The effective ridge is
          ``eta * bandwidth``, so the estimate depends on the units of X. For comparison with
          published results.
    max_samples : int or None, default=None
        Largest number of samples that are used. If there are more, ``fit`` draws ``max_samples`` of
        them without replacement. None uses all, and raises an error if their kernel matrix needs
        more than 4 GiB.
    random_state : int, RandomState or None, default=None
        Seed of the draw.

    Attributes
    ----------
    sample_indices_ : ndarray of shape (n_used,)
        Indices of the training samples at which the score is known.
    samples_ : ndarray of shape (n_used, n_features)
        These samples.
    bandwidth_ : float
        The bandwidth, in the units of X.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features; only if X had names.

    References
    ----------
    [SteinGradient]_, [SCORE]_

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_dsm import SteinScoreEstimator
    >>> X = np.random.default_rng(0).normal(size=(400, 2))
    >>> stein = SteinScoreEstimator().fit(X)
    >>> stein.stein_score().shape, stein.score_jacobian().shape
    ((400, 2), (400, 2, 2))
    >>> bool(np.corrcoef(stein.stein_score()[:, 0], -X[:, 0])[0, 1] > 0.8)
    True
    """

    _parameter_constraints = {
        "eta": [Interval(Real, 0, None, closed="neither")],
        "bandwidth": [StrOptions({"median"}), Interval(Real, 0, None, closed="neither")],
        "kernel": [StrOptions({"unnormalised", "normalised"})],
        "max_samples": [Interval(Integral, 2, None, closed="left"), None],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        eta=1e-3,
        *,
        bandwidth="median",
        kernel="unnormalised",
        max_samples=None,
        random_state=None,
    ):
        self.eta = eta
        self.bandwidth = bandwidth
        self.kernel = kernel
        self.max_samples = max_samples
        self.random_state = random_state

    @whole_fit
    def fit(self, X, y=None):
        """Estimate the score at the samples.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Every feature must vary.
        y : Ignored

        Returns
        -------
        self : SteinScoreEstimator

        Raises
        ------
        ValueError
            If X holds NaN, infinity, text or a constant feature, or if the kernel matrix needs
            too much memory.
        """
        X = rows_to_fit(self, X, copy=True)
        n_used = min(len(X), self.max_samples or len(X))
        check_kernel_memory(n_used, FEWER_SAMPLES)
        self.sample_indices_ = np.arange(len(X))
        if n_used < len(X):
            random = np.random.RandomState(seed_from(self.random_state))
            self.sample_indices_ = np.sort(random.choice(len(X), n_used, replace=False))
        self.samples_ = X[self.sample_indices_]
        bandwidth = None if self.bandwidth == "median" else float(self.bandwidth)
        estimate = self._estimate(bandwidth, diagonal=True)
        self.bandwidth_ = estimate.bandwidth
        self._score, self._jacobian_diagonal = estimate.score, estimate.jacobian
        return self

    def stein_score(self, X=None):
        """Return the gradient of the log-density at the training samples.

        Parameters
        ----------
        X : array-like of shape (n_used, n_features) or None, default=None
            The training samples, ``samples_``. None stands for them.

        Returns
        -------
        ndarray of shape (n_used, n_features), float64
            In inverse units of X.

        Raises
        ------
        ValueError
            If X is not ``samples_``.
        """
        self._check_known(X)
        return self._score.copy()

    def score_jacobian(self, X=None, *, diagonal=False):
        """Return the Jacobian of the score at the training samples.

        Parameters
        ----------
        X : array-like of shape (n_used, n_features) or None, default=None
            The training samples, ``samples_``. None stands for them.
        diagonal : bool, default=False
            Whether to return the diagonals only, which costs no further time.

        Returns
        -------
        ndarray of shape (n_used, n_features, n_features) or (n_used, n_features), float64
            Entry [i, j, k] is the derivative of the score's component j along feature k at sample
            i, in inverse squared units of X. The matrices are symmetric.

        Raises
        ------
        ValueError
            If X is not ``samples_``.
        """
        self._check_known(X)
        if diagonal:
            return self._jacobian_diagonal.copy()
        return self._estimate(self.bandwidth_, diagonal=False).jacobian

    def _estimate(self, bandwidth, diagonal):
        normalised = self.kernel == "normalised"
        return stein_estimate(
            self.samples_, self.eta, bandwidth, normalised=normalised, diagonal=diagonal
        )

    def _check_known(self, X):
        if X is None:
            check_is_fitted(self)
            return
        X = rows_to_evaluate(self, X)
        if not np.array_equal(X, self.samples_):
            raise ValueError(
                "Stein's estimate is known at the training samples only: pass samples_, or "
                "nothing. KernelExponentialFamily estimates the score at other samples."
            )
