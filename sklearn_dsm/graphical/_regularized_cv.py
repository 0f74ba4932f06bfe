"""The penalty of a sparse interaction matrix, chosen along a path."""

from __future__ import annotations

from numbers import Integral, Real

import numpy as np
from scipy.special import gammaln
from sklearn.model_selection import check_cv

from .._compat import Interval, StrOptions
from .._fit import whole_fit
from ._regularized import BaseRegularized
from ._regularized_losses import MatrixFit


def path(loss, alphas, *, tol, max_iter) -> list[MatrixFit]:
    """Minima for decreasing penalties, each from the one before."""
    fits: list[MatrixFit] = []
    for alpha in alphas:
        start = fits[-1].matrix if fits else None
        fits.append(loss.minimum(alpha, start=start, tol=tol, max_iter=max_iter))
    return fits


def number_of_edges(K: np.ndarray) -> int:
    return int(np.count_nonzero(np.triu(K, 1)))


def ebic(n: int, m: int, edges: int, loss: float, gamma: float, unit: float = 1.0) -> float:
    """Extended Bayesian information criterion; ``unit`` is what an edge without effect gains."""
    pairs = m * (m - 1) / 2
    graphs = gammaln(pairs + 1) - gammaln(edges + 1) - gammaln(pairs - edges + 1)
    return 2 * n * loss + unit * (edges * np.log(n) + 2 * gamma * graphs)


class RegularizedScoreMatchingCV(BaseRegularized):
    r"""Sparse graph of interactions, with a penalty chosen by a criterion or cross-validation.

    The models are those of :class:`~sklearn_dsm.RegularizedScoreMatching`. They are fitted along a
    path of penalties, and the best one is kept.

    ==========  ==============================================  ===================================
    selection   smallest value of                               when to use it
    ==========  ==============================================  ===================================
    "cl_ebic"   :math:`2 n L + u (|E| \log n + 2 \gamma B)`      graphs with few false edges
    "ebic"      :math:`2 n L + |E| \log n + 2 \gamma B`          comparison with [RegularizedSM]_
    "cv"        mean loss of the validation sets                prediction; keeps the most edges
    ==========  ==============================================  ===================================

    Here E is the set of edges at a penalty, and L is the score-matching loss after a refit of these
    edges without penalty. For m features, :math:`B = \log \binom{m(m-1)/2}{|E|}`. If L is a
    negative log-likelihood, an edge without effect lowers :math:`2 n L` by one on average. If
    L is the mean of other losses :math:`L_i` of the samples, as in composite likelihoods
    [CompositeBIC]_, the average is
    :math:`u = \mathrm{mean}_{e \in E} \mathrm{Var}(\partial_e L_i) / \partial_e^2 L`.

    Parameters
    ----------
    alphas : int or array-like of shape (n_alphas,), default=30
        Penalties, or their number. A number gives a geometric sequence from ``alpha_max_`` down to
        ``alpha_min_ratio * alpha_max_``.
    selection : {"cl_ebic", "ebic", "cv"}, default="cl_ebic"
        The criterion, as in the table.
    gamma : float, default=0.5
        :math:`\gamma` of "cl_ebic" and "ebic", from 0, the BIC, to 1. No effect with "cv".
    cv : int, cross-validation generator, iterable or None, default=None
        As in :class:`sklearn.covariance.GraphicalLassoCV`; None is 5 folds. Only for
        ``selection="cv"``.
    alpha_min_ratio : float, default=0.01
        Smallest penalty divided by the largest. No effect if ``alphas`` is an array.
    domain, weight, centered, robust, diagonal_multiplier, tol, max_iter : various types
        As in :class:`~sklearn_dsm.RegularizedScoreMatching`.

    Attributes
    ----------
    precision_, covariance_, eta_, location_, scale_, shift_
        As in :class:`~sklearn_dsm.RegularizedScoreMatching`.
    alpha_ : float
        The penalty chosen.
    alpha_max_ : float
        The smallest penalty without interactions.
    alphas_ : ndarray of shape (n_alphas,)
        Penalties of the path, decreasing.
    path_ : ndarray of shape (n_alphas, n_features, n_features)
        ``precision_`` of each penalty.
    cv_results_ : dict of str to ndarray
        "alphas" and "n_edges". With "cl_ebic" and "ebic", also "ebic", the values of the criterion.
        With "cv", also "mean_test_score", "std_test_score", "split0_test_score" and so on, where a
        score is the negative loss.
    n_iter_ : int
        Number of sweeps along the path.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features; only if X had names.

    References
    ----------
    [RegularizedSM]_, [GeneralizedSM]_, [CompositeBIC]_

    Examples
    --------
    >>> from sklearn_dsm import RegularizedScoreMatchingCV
    >>> from sklearn_dsm.datasets import make_pairwise
    >>> X, model = make_pairwise(500, 5, family="gaussian", random_state=0)
    >>> graph = RegularizedScoreMatchingCV().fit(X)
    >>> (graph.precision_[0] != 0).astype(int)
    array([1, 1, 0, 0, 0])
    >>> graph.path_.shape
    (30, 5, 5)
    """

    _parameter_constraints = {
        **BaseRegularized._parameter_constraints,
        "alphas": [Interval(Integral, 1, None, closed="left"), "array-like"],
        "selection": [StrOptions({"ebic", "cl_ebic", "cv"})],
        "gamma": [Interval(Real, 0, 1, closed="both")],
        "cv": ["cv_object"],
        "alpha_min_ratio": [Interval(Real, 0, 1, closed="neither")],
    }

    def __init__(
        self,
        alphas=30,
        *,
        selection="cl_ebic",
        gamma=0.5,
        cv=None,
        alpha_min_ratio=0.01,
        domain="real",
        weight="min3",
        centered="auto",
        robust=None,
        diagonal_multiplier="auto",
        tol=1e-5,
        max_iter=1000,
    ):
        self.alphas = alphas
        self.selection = selection
        self.gamma = gamma
        self.cv = cv
        self.alpha_min_ratio = alpha_min_ratio
        self.domain = domain
        self.weight = weight
        self.centered = centered
        self.robust = robust
        self.diagonal_multiplier = diagonal_multiplier
        self.tol = tol
        self.max_iter = max_iter

    @whole_fit
    def fit(self, X, y=None):
        """Fit the path, and keep the best model.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            At least two features; each must vary, and none may be a linear function of another.
        y : Ignored

        Returns
        -------
        self : RegularizedScoreMatchingCV

        Raises
        ------
        ValueError
            As in :class:`~sklearn_dsm.RegularizedScoreMatching`, or if a penalty is not positive,
            or if ``cv`` is given with another ``selection``.

        Warns
        -----
        ConvergenceWarning
            If ``max_iter`` sweeps do not reach ``tol`` at the penalty chosen.
        UserWarning
            If features are linear combinations of others, or if ``domain`` is "real" and the
            precision is not positive definite.
        """
        self._check_combination()
        if self.selection != "cv" and self.cv is not None:
            raise ValueError(
                f"cv has no effect with selection={self.selection!r}. Use selection='cv'."
            )
        X = self._checked(X)
        self._set_units(X)
        loss = self._loss(X)
        self.alpha_max_ = loss.largest_alpha()
        self.alphas_ = self._grid()
        fits = self._path(loss)
        self.cv_results_ = {
            "alphas": self.alphas_,
            "n_edges": np.array([number_of_edges(fit.matrix) for fit in fits]),
        }
        by_cv = self.selection == "cv"
        best = self._best_by_cv(X) if by_cv else self._best_by_ebic(X, loss, fits)
        self.alpha_ = float(self.alphas_[best])
        self.n_iter_ = sum(fit.n_iter for fit in fits)
        self.path_ = np.stack([fit.matrix for fit in fits]) / np.outer(self.scale_, self.scale_)
        self._store(fits[best])
        return self

    def _path(self, loss) -> list[MatrixFit]:
        return self._solved(lambda: path(loss, self.alphas_, **self._precision()))

    def _precision(self):
        return {"tol": self.tol, "max_iter": self.max_iter}

    def _grid(self):
        if isinstance(self.alphas, Integral):
            return self.alpha_max_ * np.geomspace(1, self.alpha_min_ratio, self.alphas)
        alphas = np.sort(np.asarray(self.alphas, dtype=np.float64).ravel())[::-1]
        if not len(alphas) or not np.isfinite(alphas).all() or alphas[-1] <= 0:
            raise ValueError(
                f"alphas={self.alphas!r} must be positive numbers. For the estimate without "
                "penalty, use RegularizedScoreMatching(alpha=0)."
            )
        return alphas

    def _best_by_ebic(self, X, loss, fits) -> int:
        values = np.array([self._ebic(X, loss, fit) for fit in fits])
        self.cv_results_["ebic"] = values
        return int(values.argmin())

    def _ebic(self, X, loss, fit) -> float:
        """The criterion of the support of a fit; infinite where its refit has no minimum."""
        refit = loss.refit(fit.matrix, **self._precision())
        if refit is None:
            return np.inf
        edges, unit = number_of_edges(refit.matrix), 1.0
        if self.selection == "cl_ebic" and edges:
            variances = self._edge_variances(X, loss, refit)
            unit = float((variances / loss.curvatures(refit.matrix)).mean())
        n, m = X.shape
        return ebic(n, m, edges, loss.loss(refit.matrix), self.gamma, unit)

    def _best_by_cv(self, X) -> int:
        splits = list(check_cv(self.cv).split(X))
        scores = np.empty((len(splits), len(self.alphas_)))
        for k, (train, test) in enumerate(splits):
            fits = self._path(self._loss(X[train]))
            held_out = self._loss(X[test])
            scores[k] = [-held_out.loss(fit.matrix) for fit in fits]
            self.cv_results_[f"split{k}_test_score"] = scores[k]
        self.cv_results_["mean_test_score"] = scores.mean(0)
        self.cv_results_["std_test_score"] = scores.std(0)
        return int(scores.mean(0).argmax())
