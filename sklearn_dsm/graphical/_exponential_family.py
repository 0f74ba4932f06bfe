"""Exponential families of polynomials, fitted by score matching."""

from __future__ import annotations

from numbers import Integral, Real

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted

from .._columns import dependent_columns, named, weighted_rows_to_fit
from .._compat import Interval, StrOptions, validate_parameter_constraints
from .._fit import whole_fit
from .._polynomials.monomials import family_exponents, maximal_cliques
from .._polynomials.polynomial import Polynomial, base_measure
from .._warn import warn
from ._edge_selection import corrected, graph_of
from ._polynomial_density import PolynomialDensity
from ._polynomial_fits import L1, BoundedFit, L1Fit, PlainFit, recover_structure
from ._polynomial_inference import infer
from ._polynomial_solvers import SingularEquations
from ._quadratic import UnboundedLoss

# A relative error of the log-density from which on its evaluation deserves a warning.
MAX_CANCELLATION = 1e-4


class ExponentialFamilyEstimator(PolynomialDensity):
    r"""Find which features depend on each other by fitting a polynomial log-density.

    .. math:: \log p(x) = \sum_k \theta_k f_k(x) - \sum_i x_i^D - \psi(\theta), \qquad
        f_k(x) = \prod_i x_i^{k_i}

    The sum over i, the base measure, is there only if ``base_degree`` D is given. The normalising
    constant :math:`\psi` is unknown, and score matching does not need it. There is one fit at each
    feature i, of the terms that contain it. With :math:`F = (\partial_i f_k)_k` over these terms,
    the fit minimises

    .. math:: L_i(\theta) = \tfrac12 \theta^T E[F F^T] \theta
        + E[\partial_i F + F\, \partial_i \log h]^T \theta, \qquad
        \log h(x) = -\sum_j x_j^D.

    A term of several features has one estimate from each of them. Its coefficient is their mean.
    The graph joins two features if a term with non-zero coefficient contains both.

    Parameters
    ----------
    degree : int, default=4
        Largest total degree of a term.
    interaction_order : int, default=2
        Largest number of features in a term.
    multilinear : bool, default=False
        Whether every feature of a term has power 1. Needs ``base_degree``.
    base_degree : int or None, default=None
        The even degree D of the base measure :math:`h(x) = \exp(-\sum_i x_i^D)`, in the units of
        the input. If D is above ``degree``, every fitted density has an integral.
    l1_bound : float or None, default=None
        Upper bound of the sum of absolute coefficients at each feature. Not together with
        ``alpha``.
    alpha : float, default=0.0
        Weight of the l1 penalty: ``alpha`` times the sum of the absolute coefficients is added to
        :math:`L_i`. Coefficients of weak terms become zero.
    threshold : float or None, default=None
        How the graph is found.

        - None: by one fit of all terms. Without an l1 penalty, no coefficient is zero. The method
          :meth:`adjacency` then tests the edges.
        - A number: by deletion. The terms with all features of a maximal clique are deleted if
          none has an absolute coefficient above ``threshold`` at any feature. The rest is fitted
          again, until no term is deleted.
    tol : float, default=1e-8
        With a penalty or bound, largest deviation of the gradient from the conditions of a
        minimum, in units of the largest slope at zero.
    max_iter : int, default=10000
        Largest number of steps of the fit at one feature. Each step solves linear equations.

    Attributes
    ----------
    exponents_ : ndarray of shape (n_terms, n_features)
        Powers :math:`k_i`, ordered by degree as by
        :class:`sklearn.preprocessing.PolynomialFeatures`, without the constant.
    coef_ : ndarray of shape (n_terms,)
        Coefficients in the units of the input: the unit of term k is 1 over that of
        :math:`f_k`. 0 for deleted terms.
    local_coef_ : ndarray of shape (n_features, n_terms)
        The estimates from each feature; 0 where a term does not contain it.
    coef_stderr_, coef_pvalues_ : ndarray of shape (n_terms,), or None
        Sandwich standard errors, and p-values of the hypothesis that the coefficient is zero; NaN
        for deleted terms. None if ``alpha`` or ``l1_bound`` shrinks the coefficients.
    local_coef_stderr_ : ndarray of shape (n_features, n_terms), or None
        Standard errors of ``local_coef_``.
    edge_pvalues_ : ndarray of shape (n_features, n_features), or None
        P-values of Wald tests that all terms with both features have coefficient zero; 1 where
        there are no such terms.
    maximal_cliques_ : list of tuples of int
        The sets of features of terms with non-zero coefficients that are part of no larger such
        set.
    adjacency_ : ndarray of shape (n_features, n_features), int
        1 where two different features share a term with non-zero coefficient; symmetric. Unlike
        :meth:`adjacency`, not the result of tests.
    location_, covariance_ : ndarray of shape (n_features,) and (n_features, n_features)
        Mean and covariance of the training samples, where the chains of :meth:`sample` start.
    n_iter_ : int
        Steps of all fits together; 0 if neither ``alpha`` nor ``l1_bound`` has an effect.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features; only if X had names.

    Notes
    -----
    Without penalty or bound, the fit standardises the features and converts the coefficients back.
    The effects of a penalty, a bound or ``threshold`` depend on the units of the features:
    standardise features of different units first, for instance with
    :class:`sklearn.preprocessing.StandardScaler`.

    A fit of degree 2 is that of the normal distribution: the coefficients of :math:`x_i^2` are
    minus half the diagonal of the inverse covariance, and those of :math:`x_i x_j` minus its other
    entries.

    With ``threshold``, standard errors and p-values are those of the last fit. They ignore that its
    terms were selected.

    References
    ----------
    [PolynomialGraphs]_, [Hyvarinen2005]_

    Examples
    --------
    >>> from sklearn_dsm import ExponentialFamilyEstimator
    >>> from sklearn_dsm.datasets import make_polynomial_family
    >>> X, family = make_polynomial_family(8000, random_state=0)
    >>> estimator = ExponentialFamilyEstimator(degree=4, threshold=0.3).fit(X)
    >>> estimator.maximal_cliques_
    [(0, 1), (1, 2), (2, 3)]
    >>> estimator.adjacency_
    array([[0, 1, 0, 0],
           [1, 0, 1, 0],
           [0, 1, 0, 1],
           [0, 0, 1, 0]])
    """

    _parameter_constraints = {
        "degree": [Interval(Integral, 1, None, closed="left")],
        "interaction_order": [Interval(Integral, 1, None, closed="left")],
        "multilinear": ["boolean"],
        "base_degree": [Interval(Integral, 2, None, closed="left"), None],
        "l1_bound": [Interval(Real, 0, None, closed="neither"), None],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "threshold": [Interval(Real, 0, None, closed="left"), None],
        "tol": [Interval(Real, 0, None, closed="neither")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        degree=4,
        *,
        interaction_order=2,
        multilinear=False,
        base_degree=None,
        l1_bound=None,
        alpha=0.0,
        threshold=None,
        tol=1e-8,
        max_iter=10000,
    ):
        self.degree = degree
        self.interaction_order = interaction_order
        self.multilinear = multilinear
        self.base_degree = base_degree
        self.l1_bound = l1_bound
        self.alpha = alpha
        self.threshold = threshold
        self.tol = tol
        self.max_iter = max_iter

    @whole_fit
    def fit(self, X, y=None, sample_weight=None):
        """Fit the coefficients at each feature and find the graph.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            At least two features; every feature must vary.
        y : Ignored
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights; a sample of weight w counts as w equal samples.

        Returns
        -------
        self : ExponentialFamilyEstimator

        Raises
        ------
        ValueError
            In any of these cases:

            - X holds NaN, infinity, text or a constant feature, or only one feature.
            - Without penalty or bound, the coefficients are not unique: X has too few samples for
              the terms, or terms are linear combinations of others.
            - ``alpha`` is too small for the number of samples, so that the loss has no minimum.
            - ``base_degree`` is odd, ``multilinear`` is true without it, or both ``alpha`` and
              ``l1_bound`` are given.

        Warns
        -----
        ConvergenceWarning
            If a fit with penalty or bound did not converge within ``max_iter``.
        UserWarning
            If the mean of a feature is so many times its standard deviation that the log-density
            cannot be evaluated accurately in the units of the input.
        """
        self._check_combination()
        X, weight = weighted_rows_to_fit(self, X, sample_weight, min_features=2)
        exponents = self._exponents(X.shape[1])
        fit = self._local_fit(exponents, X, weight)
        try:
            kept, local = self._solved(fit, exponents)
        except SingularEquations as error:
            raise ValueError(self._singular(X, exponents)) from error
        except UnboundedLoss as error:
            raise ValueError(
                f"alpha={self.alpha!r} is too small for {len(X)} samples with {exponents.shape[1]} "
                f"features and degree={self.degree!r}: the penalised loss has no minimum. Raise "
                "alpha, or use l1_bound, or lower degree or interaction_order."
            ) from error
        self.exponents_, self.local_coef_ = exponents, local
        self.coef_ = local.sum(0) / (exponents > 0).sum(1)
        self.location_ = np.average(X, axis=0, weights=weight)
        self.covariance_ = np.cov(X.T, aweights=weight, bias=True)
        self.n_iter_ = fit.n_iter
        self._keep_graph()
        self._keep_inference(fit, kept)
        self._warn_of_fit(fit)
        return self

    def _check_combination(self):
        """Refuse options that exclude each other, and families without a density."""
        if self.base_degree is not None and self.base_degree % 2:
            raise ValueError(
                f"base_degree={self.base_degree!r} must be even: exp(-x^base_degree) of an odd "
                f"degree has no integral. Use base_degree={self.base_degree + 1}."
            )
        if self.l1_bound is not None and self.alpha > 0:
            raise ValueError(
                f"l1_bound={self.l1_bound!r} and alpha={self.alpha!r} are two forms of one "
                "penalty. Use alpha=0 or l1_bound=None."
            )
        if self.base_degree is None and (self.multilinear or self.degree < 2):
            raise ValueError(
                f"A density with degree={self.degree!r} and multilinear={self.multilinear!r} has "
                "no integral without a base measure. Give an even base_degree, for instance 4."
            )

    def _exponents(self, n_features):
        return family_exponents(n_features, self.degree, self.interaction_order, self.multilinear)

    def _local_fit(self, exponents, X, weight):
        base = base_measure(X.shape[1], self.base_degree)
        if self.l1_bound is None and self.alpha == 0:
            return PlainFit(exponents, base, X, weight)
        l1 = L1(self.alpha, self.l1_bound, self.tol, self.max_iter)
        shrunk = L1Fit(exponents, base, X, weight, l1)
        if self.l1_bound is None:
            return shrunk
        return BoundedFit(PlainFit(exponents, base, X, weight), shrunk, self.l1_bound)

    def _solved(self, fit, exponents):
        """Which terms are kept, and the local coefficients."""
        if self.threshold is None:
            kept = np.ones(len(exponents), dtype=bool)
            return kept, fit.solve(kept)
        return recover_structure(exponents, fit.solve, self.threshold)

    def _singular(self, X, exponents):
        """What to do where the equations have no unique solution."""
        n_own, columns = int((exponents > 0).sum(0).max()), dependent_columns(X)
        fix = "Lower degree or interaction_order"
        if len(X) <= n_own:
            why = f"X has {len(X)} samples of positive weight, and {n_own} terms hold one feature"
        elif len(columns):
            names = named(columns, getattr(self, "feature_names_in_", None))
            why, fix = f"column(s) {names} are linear combinations of others", "Drop them"
        else:
            why = f"some of the {n_own} terms of a feature are linear combinations of others"
        return (
            f"The coefficients are not unique: {why}. {fix}; or shrink the coefficients, for "
            "instance with l1_bound=1 and standardised columns."
        )

    def _keep_graph(self):
        """Cliques and adjacency, from the coefficients."""
        active = self.exponents_[(self.local_coef_ != 0).any(0)]
        self.maximal_cliques_ = maximal_cliques(active)
        adjacency = (active > 0).astype(int).T @ (active > 0).astype(int) > 0
        self.adjacency_ = (adjacency & ~np.eye(len(adjacency), dtype=bool)).astype(int)

    def _keep_inference(self, fit, kept):
        """Standard errors where no penalty shrinks the coefficients."""
        if fit.unshrunk is None:
            self.coef_stderr_ = self.coef_pvalues_ = None
            self.local_coef_stderr_ = self.edge_pvalues_ = None
            return
        inference = infer(fit.unshrunk, self.exponents_, kept, self.coef_)
        self.coef_stderr_, self.coef_pvalues_ = inference.coef_stderr, inference.coef_pvalues
        self.local_coef_stderr_ = inference.local_stderr
        self.edge_pvalues_ = inference.edge_pvalues

    def _warn_of_fit(self, fit):
        if not fit.converged:
            warn(
                f"A fit had not converged after {self.max_iter} steps; raise max_iter or alpha, "
                "or lower l1_bound.",
                ConvergenceWarning,
            )
        offset = np.abs(self.location_) / np.sqrt(np.diag(self.covariance_))
        degree = int(self.exponents_.sum(1).max())
        if (offset**degree * np.finfo(float).eps).max() > MAX_CANCELLATION:
            names = getattr(self, "feature_names_in_", None)
            warn(
                f"The mean of column {named([offset.argmax()], names)} is {offset.max():.2g} times "
                f"its standard deviation, so that terms of degree {degree} cancel each other "
                "in the log-density. Centre the column.",
                UserWarning,
            )

    def adjacency(self, level=0.05, correction=None):
        """Test the edges of the graph.

        Parameters
        ----------
        level : float, default=0.05
            An edge is kept if its p-value in ``edge_pvalues_``, after correction, is at most
            ``level``.
        correction : {"bonferroni", "holm", "fdr_bh"} or None, default=None
            Correction for the number of pairs. "bonferroni" and "holm" bound the probability of
            any false edge; "holm" finds at least as many edges. "fdr_bh" (Benjamini-Hochberg)
            bounds the expected share of false edges.

        Returns
        -------
        ndarray of shape (n_features, n_features), bool
            True where two features are joined; symmetric, with False on the diagonal.

        Raises
        ------
        ValueError
            If the fit has no p-values, because a penalty or bound shrinks the coefficients.
        """
        check_is_fitted(self)
        validate_parameter_constraints(
            {
                "level": [Interval(Real, 0, 1, closed="both")],
                "correction": [StrOptions({"bonferroni", "holm", "fdr_bh"}), None],
            },
            {"level": level, "correction": correction},
            caller_name="adjacency",
        )
        if self.edge_pvalues_ is None:
            raise ValueError(
                "A fit with an active penalty or bound has no p-values. Fit with alpha=0 and "
                "l1_bound=None, or read the graph from adjacency_."
            )
        upper = np.triu_indices(self.n_features_in_, 1)
        return graph_of(corrected(self.edge_pvalues_[upper], correction) <= level, upper)

    def _log_density(self) -> Polynomial:
        check_is_fitted(self)
        family = Polynomial(self.exponents_, self.coef_)
        base = base_measure(self.n_features_in_, self.base_degree)
        return (family + base).without_zeros()
