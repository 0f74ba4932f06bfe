"""Sparse interaction matrices by score matching with an l1 penalty."""

from __future__ import annotations

from numbers import Integral, Real

import numpy as np
from scipy.linalg import pinvh
from scipy.stats import median_abs_deviation
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted

from .._columns import dependent_columns, named
from .._compat import Interval, StrOptions
from .._fit import whole_fit
from .._warn import warn
from ._domains import (
    Box,
    box_of,
    check_inside,
    check_simplex,
    checked_rows,
    nonnegative,
    real,
)
from ._quadratic import UnboundedLoss
from ._regularized_losses import (
    MatrixFit,
    SimplexLoss,
    diagonal_multiplier,
    edge_variances,
    moment_loss,
    normal_scores,
    rank_correlation,
    sample_loss,
    simplex_sample_loss,
    weighted_loss,
)


class BaseRegularized(BaseEstimator):
    """What the estimators of one penalty and of a path share."""

    _parameter_constraints: dict = {
        "domain": [StrOptions({"real", "nonnegative", "simplex"}), tuple, list],
        "weight": [StrOptions({"min3", "log1p", "square", "identity"})],
        "centered": [StrOptions({"auto"}), "boolean"],
        "robust": [StrOptions({"rank"}), None],
        "diagonal_multiplier": [StrOptions({"auto"}), Interval(Real, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="neither")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
    }

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.positive_only = self.domain in ("nonnegative", "simplex")
        return tags

    def _is_centered(self) -> bool:
        if self.centered == "auto":
            return self.domain == "nonnegative"
        return self.centered

    def _check_combination(self):
        is_box = self.domain not in ("real", "simplex")
        for name, default, works, where in (
            ("weight", "min3", is_box, "domains with a boundary, other than the simplex"),
            ("robust", None, self.domain == "real", "domain='real'"),
            ("centered", "auto", self.domain != "simplex", "domains other than the simplex"),
            ("diagonal_multiplier", "auto", self.domain != "simplex", "the other domains"),
        ):
            value = getattr(self, name)
            if value != default and not works:
                raise ValueError(
                    f"{name}={value!r} is for {where}, and has no effect with "
                    f"domain={self.domain!r}. Leave {name} out."
                )
        if self.robust is not None and self.centered is True:
            raise ValueError(
                "centered=True has no effect with robust='rank', since ranks know no origin. Leave "
                "centered out."
            )

    def _checked(self, X, *, reset=True):
        """The samples, inside the domain."""
        X = checked_rows(self, X, reset=reset)
        names = getattr(self, "feature_names_in_", None)
        if self.domain == "simplex":
            check_simplex(X, names)
        else:
            check_inside(X, self._box(X.shape[1]), names, f"domain={self.domain!r}")
        return X

    def _note_dependent(self, X):
        """Warn of features that others determine; the parts of a composition always do."""
        dependent = dependent_columns(X)
        self._has_dependent = len(dependent) > 0
        if self._has_dependent:
            names = getattr(self, "feature_names_in_", None)
            warn(
                f"Column(s) {named(dependent, names)} are linear combinations of others, up to "
                "rounding, so their interactions are determined by the penalty alone. Drop these "
                "columns.",
                UserWarning,
            )

    def _solved(self, solve):
        """The result of a minimisation, or an error that says why there is none."""
        try:
            return solve()
        except UnboundedLoss as error:
            raise ValueError(
                "The loss has no minimum: there are too few samples for the features, or some "
                "features determine others, and the penalty is too small. Raise alpha, or use "
                "diagonal_multiplier='auto'."
            ) from error

    def _box(self, m) -> Box:
        named = {"nonnegative": nonnegative, "real": real}
        return named[self.domain](m) if isinstance(self.domain, str) else box_of(self.domain, m)

    def _set_units(self, X):
        """The unit and the origin of each feature."""
        m = X.shape[1]
        self.shift_, self.scale_ = np.zeros(m), np.ones(m)
        if self.domain == "simplex":
            return
        self._note_dependent(X)
        if self.robust == "rank":
            self.shift_ = np.median(X, axis=0)
            self.scale_ = median_abs_deviation(X, axis=0, scale="normal")
            if not self.scale_.all():
                raise ValueError(
                    "robust='rank' scales features by their median absolute deviation, which is "
                    f"zero in column {int(np.argmin(self.scale_))}: half of its values are equal. "
                    "Drop the column, or use robust=None."
                )
            return
        # A model with linear terms is the same at every origin.
        if not self._is_centered():
            self.shift_ = X.mean(0)
        self.scale_ = np.sqrt(((X - self.shift_) ** 2).mean(0))

    def _loss(self, X):
        """The loss of samples, in the units of the fit."""
        n, m = X.shape
        if self.domain == "simplex":
            return SimplexLoss(X)
        multiplier = self.diagonal_multiplier
        if multiplier == "auto":
            unbounded = self.domain == "real"
            singular = n <= m or self._has_dependent
            multiplier = diagonal_multiplier(n, m, unbounded=unbounded) if singular else 1.0
        if self.robust == "rank":
            return moment_loss(rank_correlation(X), n, multiplier=multiplier)
        Z = (X - self.shift_) / self.scale_
        weight, slope = self._weights(Z)
        return weighted_loss(Z, weight, slope, centered=self._is_centered(), multiplier=multiplier)

    def _edge_variances(self, X, loss, fit: MatrixFit) -> np.ndarray:
        """Variances of the derivatives of samples' losses in the edges of a fit."""
        if isinstance(loss, SimplexLoss):
            return loss.edge_variances(X, fit)
        ranks = self.robust == "rank"
        Z = normal_scores(X) if ranks else (X - self.shift_) / self.scale_
        weight, slope = self._weights(Z)
        return edge_variances(Z, weight, slope, fit, centered=self._is_centered())

    def _weights(self, Z):
        return self._box(Z.shape[1]).scaled(self.shift_, self.scale_).weights(Z, self.weight)

    def _store(self, fit: MatrixFit):
        """The estimate in the units of the input."""
        self.precision_ = fit.matrix / np.outer(self.scale_, self.scale_)
        self.eta_ = fit.linear / self.scale_ + self.precision_ @ self.shift_
        self.covariance_ = pinvh(self.precision_)
        self.location_ = self.covariance_ @ self.eta_
        if self.robust == "rank":
            self.location_ = self.shift_.copy()
            self.eta_ = self.precision_ @ self.location_
        elif self._is_centered():
            self.location_ = np.zeros(len(self.eta_))
        if not fit.converged:
            warn(
                f"Coordinate descent had not converged after {fit.n_iter} iterations. Raise "
                "max_iter, tol or alpha; with as many features as samples or more, keep "
                "diagonal_multiplier='auto'.",
                ConvergenceWarning,
            )
        if self.domain == "real" and np.linalg.eigvalsh(fit.matrix)[0] <= 0:
            warn(
                "The estimated precision is not positive definite, so it is that of no normal "
                "distribution. Its zeros still describe a graph; for a distribution, raise alpha.",
                UserWarning,
            )

    def score(self, X, y=None):
        """Negative mean score-matching loss of samples, which a grid search maximises.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : Ignored

        Returns
        -------
        float
            Larger is better. The loss is that of features in units of ``scale_``, so compare only
            models of the same samples and domain.
        """
        check_is_fitted(self)
        X = self._checked(X, reset=False)
        if self.domain == "simplex":
            return -simplex_sample_loss(X, self.precision_, self.eta_)
        Z = (X - self.shift_) / self.scale_
        matrix = self.precision_ * np.outer(self.scale_, self.scale_)
        linear = (self.eta_ - self.precision_ @ self.shift_) * self.scale_
        weight, slope = self._weights(Z)
        return -sample_loss(Z, weight, slope, matrix, linear)


class RegularizedScoreMatching(BaseRegularized):
    r"""Sparse graph of interactions between features, for data with or without bounds.

    .. math:: p(x) \propto \exp(-\tfrac12 x^T K x + \eta^T x), \qquad x \in D.

    Two features are independent given all others if and only if their entry of K is zero. With
    :math:`x \in R^m`, this is the normal distribution with precision K. On other domains, it is a
    truncated one, whose normalising constant is unknown. The estimate minimises the generalised
    score-matching loss [GeneralizedSM]_ with a penalty; for :math:`\eta = 0`,

    .. math:: \sum_j \Big( \tfrac12 k_j^T \Gamma_j k_j - g_j^T k_j \Big)
        + \alpha \sum_{j \ne k} |K_{jk}|, \qquad
        \Gamma_j = \mathrm{mean}(h_j x x^T), \quad
        g_j = \mathrm{mean}(h_j' x) + \mathrm{mean}(h_j) e_j,

    over symmetric K with columns :math:`k_j`. The weight :math:`h_j` vanishes at the boundary of
    feature j, and is 1 if there is no boundary; :math:`e_j` is a unit vector. The linear terms
    :math:`\eta` have no penalty.

    Parameters
    ----------
    alpha : float, default=0.1
        Penalty, for features divided by ``scale_``. 0 gives the estimate without penalty.
    domain : {"real", "nonnegative", "simplex"} or tuple (low, high), default="real"
        Where the density is positive.

        - "real": everywhere.
        - "nonnegative": at :math:`x \ge 0`.
        - (low, high): between two bounds. Each is a number, one number for each feature, or None
          for no bound. The weight depends on the distance to the nearer bound [DomainSM]_.
        - "simplex": compositions, positive with sum 1. The model is the log-log interaction model
          :math:`\exp(-\tfrac12 (\log x)^T K \log x + \eta^T \log x)` with :math:`K 1 = 0`, a
          product of a logistic normal and a Dirichlet density [CompositionalSM]_. It is fitted to
          centred log-ratios, which have no boundary. A diagonal entry of K is minus the sum of the
          other entries of its row. If K is zero, x has a Dirichlet distribution.
    weight : {"min3", "log1p", "square", "identity"}, default="min3"
        :math:`h`, as a function of the distance t from the boundary in units of ``scale_``:
        min(t, 3), log(1 + t), the square of t, or t. "real" and "simplex" take the default only.
    centered : "auto" or bool, default="auto"
        Whether :math:`\eta = 0`. "auto" is True for "nonnegative" only. "simplex" takes "auto"
        only.
    robust : "rank" or None, default=None
        "rank" estimates correlations by :math:`2 \sin(\pi \rho / 6)` from Spearman's rank
        correlations :math:`\rho` [Nonparanormal]_. Scales are median absolute deviations, and
        locations are medians. Outliers have little effect, and monotone transforms of features do
        not change the graph. Only for domain "real".
    diagonal_multiplier : "auto" or float, default="auto"
        Factor of the diagonals of :math:`\Gamma_j`. If there are no more samples than features, the
        loss with factor 1 and small ``alpha`` has no minimum. "auto" is 1 if there are more samples
        than features and none is a linear combination of others. Otherwise, it is the bound of
        [GeneralizedSM]_. "simplex" takes "auto" only.
    tol : float, default=1e-5
        Coordinate descent stops after a sweep that changes no entry by more than ``tol``, in units
        of the entry's curvature.
    max_iter : int, default=1000
        Largest number of sweeps.

    Attributes
    ----------
    precision_ : ndarray of shape (n_features, n_features)
        K in the units of the input, symmetric.
    covariance_ : ndarray of shape (n_features, n_features)
        Inverse or pseudo-inverse of ``precision_``. It estimates the covariance of the data only if
        the domain is "real" and ``centered`` is not True.
    eta_ : ndarray of shape (n_features,)
        The linear terms.
    location_ : ndarray of shape (n_features,)
        ``covariance_ @ eta_``, the mean of the normal distribution before truncation. Zeros if
        centred, medians with ``robust="rank"``.
    alpha_ : float
        The penalty.
    alpha_max_ : float
        The smallest penalty without interactions.
    scale_, shift_ : ndarray of shape (n_features,)
        Units and origin of the features in the loss: standard deviations and means. If centred,
        root mean squares and zeros; with "rank", median absolute deviations and medians; for
        "simplex", ones and zeros.
    n_iter_ : int
        Number of sweeps.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features; only if X had names.

    References
    ----------
    [RegularizedSM]_, [GeneralizedSM]_, [DomainSM]_, [CompositionalSM]_, [Nonparanormal]_

    Examples
    --------
    >>> from sklearn_dsm import RegularizedScoreMatching
    >>> from sklearn_dsm.datasets import make_pairwise
    >>> X, model = make_pairwise(5000, 4, family="truncated_gaussian", random_state=0)
    >>> graph = RegularizedScoreMatching(0.05, domain="nonnegative").fit(X)
    >>> (graph.precision_ != 0).astype(int)
    array([[1, 1, 0, 0],
           [1, 1, 1, 0],
           [0, 1, 1, 1],
           [0, 0, 1, 1]])
    """

    _parameter_constraints = {
        **BaseRegularized._parameter_constraints,
        "alpha": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(
        self,
        alpha=0.1,
        *,
        domain="real",
        weight="min3",
        centered="auto",
        robust=None,
        diagonal_multiplier="auto",
        tol=1e-5,
        max_iter=1000,
    ):
        self.alpha = alpha
        self.domain = domain
        self.weight = weight
        self.centered = centered
        self.robust = robust
        self.diagonal_multiplier = diagonal_multiplier
        self.tol = tol
        self.max_iter = max_iter

    @whole_fit
    def fit(self, X, y=None):
        """Fit the matrix of interactions.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            At least two features; each must vary, and none may be a linear function of another.
        y : Ignored

        Returns
        -------
        self : RegularizedScoreMatching

        Raises
        ------
        ValueError
            In any of these cases:

            - X holds NaN, infinity or text, has one feature, or has a constant or repeated one.
            - X holds values outside of ``domain``.
            - ``alpha`` is too small for the number of samples, so that the loss has no unique
              minimum.
            - An option is set that has no effect with ``domain``.

        Warns
        -----
        ConvergenceWarning
            If ``max_iter`` sweeps do not reach ``tol``.
        UserWarning
            If features are linear combinations of others, or if ``domain`` is "real" and the
            precision is not positive definite.
        """
        self._check_combination()
        X = self._checked(X)
        self._check_determined(*X.shape)
        self._set_units(X)
        loss = self._loss(X)
        fit = self._solved(lambda: loss.minimum(self.alpha, tol=self.tol, max_iter=self.max_iter))
        self.alpha_, self.alpha_max_ = float(self.alpha), loss.largest_alpha()
        self.n_iter_ = fit.n_iter
        self._store(fit)
        return self

    def _check_determined(self, n, m):
        simplex = self.domain == "simplex"
        bounded = self.diagonal_multiplier != 1 and not simplex
        if self.alpha == 0 and n <= m and not bounded:
            raise ValueError(
                f"alpha=0 has no unique minimum for {n} samples of {m} features. Use a positive "
                "alpha" + ("." if simplex else ", or diagonal_multiplier='auto'.")
            )
