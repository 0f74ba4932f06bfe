"""Pairwise graphical models with inference for every edge."""

from __future__ import annotations

from numbers import Integral, Real

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from .._compat import Interval, StrOptions
from .._fit import whole_fit
from .._warn import warn
from ._domains import check_independent, check_inside, checked_rows, nonnegative
from ._pairwise_families import FAMILIES, family_of
from ._pairwise_inference import EdgeInference, InteractionDifference
from ._pairwise_steps import EdgeEstimates, estimate_edges, node_equation

# Penalty of both selections, in units of sqrt(log(p) / n) times the loading of a parameter.
LAM_CONSTANT = 1.0
# All parameters are kept where samples outnumber them so: their bias is then well below a
# standard error.
FULL_RATIO = 4.0
# Samples for each parameter of an edge below which its standard error is too small.
FEW_SAMPLES = 3


class PairwiseScoreMatching(EdgeInference, BaseEstimator):
    r"""Learn which features interact, with a p-value and an interval for every pair.

    The log-density is a sum over pairs of features and over features,

    .. math:: \log p(x) = \sum_{a < b} \theta_{ab} t(x_a, x_b) + \sum_a u_a(x_a) - \psi,

    and :math:`\theta_{ab} = 0` if and only if features a and b are independent given all others.
    Each pair counts once. If the sum is over ordered pairs, as in [Inference]_, interactions are
    half of these.

    ======================  ==========  =======================  ===================
    ``family``              domain      :math:`t(x_a, x_b)`      :math:`u_a(x_a)`
    ======================  ==========  =======================  ===================
    "gaussian"              real        :math:`-x_a x_b`         :math:`-K_{aa}x_a^2/2 + \eta_a x_a`
    "truncated_gaussian"    x >= 0      :math:`-x_a x_b`         :math:`-K_{aa}x_a^2/2`
    "exponential"           x >= 0      :math:`-x_a x_b`         :math:`-\theta_a x_a`
    "normal_conditionals"   real        :math:`x_a^2 x_b^2`      :math:`b_a x_a^2 + c_a x_a`
    ======================  ==========  =======================  ===================

    Neither estimation nor tests need the constant :math:`\psi`. The score-matching loss of the
    conditional density of :math:`(x_a, x_b)` given all other features is quadratic,
    :math:`\frac12 \theta^T \Gamma \theta + g^T \theta`, where :math:`\Gamma` and :math:`g` are
    means of :math:`\Gamma_i` and :math:`g_i` over samples i. Three steps estimate
    :math:`\theta_{ab}` [Inference]_:

    1. A lasso for each feature selects the parameters of its conditional density. An edge takes
       those of its two features.
    2. A second lasso selects the parameters that predict the derivative of the edge's statistic.
    3. The estimate minimises the loss over both selections and the edge itself. Its variance is
       :math:`\Gamma^{-1} \mathrm{Cov}(\Gamma_i \theta + g_i) \Gamma^{-1} / n`, with two
       corrections for few samples. The first is a factor :math:`2n / (2n - s)` for s parameters in
       2n equations. The second divides the influence of each sample by one minus its leverage on
       the edge [HC3]_. Intervals and p-values use Student's t distribution, whose degrees of
       freedom follow from the kurtosis of the influences [Satterthwaite]_.

    Parameters
    ----------
    family : str, default="gaussian"
        "gaussian", "truncated_gaussian", "exponential" or "normal_conditionals", as in the table.
    weight : {"log1p", "min3", "square", "identity"}, default="log1p"
        Weight :math:`h(x)` of the loss of non-negative features, zero at x = 0: log(1 + x),
        min(x, 3), the square of x, or x. The unit of x is a feature's root mean square. Families
        with real domain have no weight, and take the default only.
    lam : "auto" or float, default="auto"
        Penalty of both lassos, in units of the standard deviation of the loss's derivative in each
        parameter. "auto" is :math:`\sqrt{\log p / n}` for p features and n samples. Smaller values
        select more parameters. Intervals are too short unless the selected parameters are few
        compared with n.
    support : {"auto", "double_selection", "full"}, default="auto"
        The parameters that are estimated together with an edge.

        - "double_selection": those that the two lassos select. For many features.
        - "full": all. A feature has as many parameters as it has own terms and edges together, and
          n must be larger than this number. ``lam`` must be "auto".
        - "auto": "full" for at least :math:`4 p^2` samples, else "double_selection". With "auto",
          a number as ``lam`` selects "double_selection".
    centered : "auto" or bool, default="auto"
        Whether the two Gaussian families have no linear terms :math:`\eta_a x_a`. "auto" leaves
        them out for "truncated_gaussian" only. The other two families take "auto" only.
    n_jobs : int or None, default=None
        Number of parallel jobs, over features.

    Attributes
    ----------
    interaction_ : ndarray of shape (n_features, n_features)
        The estimates of :math:`\theta_{ab}` in the units of the input, symmetric, with zeros on
        the diagonal.
    precision_ : ndarray of shape (n_features, n_features)
        The matrix K of :math:`-x^T K x / 2`, equal to ``interaction_`` off the diagonal. Gaussian
        families only.
    node_coef_ : ndarray of shape (n_features, n_node_terms)
        Coefficients of each feature's own terms, in the order of the table.
    edge_stderr_ : ndarray of shape (n_features, n_features)
        Standard errors of ``interaction_``; NaN on the diagonal.
    edge_pvalues_ : ndarray of shape (n_features, n_features)
        Two-sided p-values of :math:`\theta_{ab} = 0`; NaN on the diagonal. They are those of Rao's
        score test, whose standard error assumes :math:`\theta_{ab} = 0`. For skewed features, this
        makes small p-values more accurate than those from ``edge_stderr_``. They may disagree with
        the intervals of ``confint``, which rest on ``edge_stderr_``.
    edge_dof_ : ndarray of shape (n_features, n_features)
        Degrees of freedom of Student's t distribution of each edge; NaN on the diagonal.
    edge_covariance_ : ndarray of shape (n_features, n_features, n_features)
        ``[a]`` is the covariance of the estimates in row a of ``interaction_``.
    support_sizes_ : ndarray of shape (n_features, n_features)
        Number of parameters that were estimated together with each edge.
    n_samples_ : int
        Number of samples of the fit.
    scale_, shift_ : ndarray of shape (n_features,)
        Units and origin of the features in the loss.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features; only if X had names.

    Notes
    -----
    A change of a feature's unit rescales interactions and standard errors, and leaves p-values as
    they are. With ``family="gaussian"`` and ``support="full"``, ``precision_`` is the inverse of
    the covariance. For families other than "gaussian", standard errors are somewhat too small
    below 1000 samples.

    References
    ----------
    [Inference]_, [Hyvarinen2005]_, [GeneralizedSM]_, [HC3]_, [Satterthwaite]_

    Examples
    --------
    >>> from sklearn_dsm import PairwiseScoreMatching
    >>> from sklearn_dsm.datasets import make_pairwise
    >>> X, model = make_pairwise(10000, 4, family="exponential", graph="chain", random_state=0)
    >>> graph = PairwiseScoreMatching("exponential").fit(X)
    >>> graph.adjacency(correction="holm").astype(int)
    array([[0, 1, 0, 0],
           [1, 0, 1, 0],
           [0, 1, 0, 1],
           [0, 0, 1, 0]])
    >>> graph.confint()[0, 1].shape
    (2,)
    """

    _parameter_constraints = {
        "family": [StrOptions(set(FAMILIES))],
        "weight": [StrOptions({"log1p", "min3", "square", "identity"})],
        "lam": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "support": [StrOptions({"auto", "double_selection", "full"})],
        "centered": [StrOptions({"auto"}), "boolean"],
        "n_jobs": [Integral, None],
    }

    def __init__(
        self,
        family="gaussian",
        *,
        weight="log1p",
        lam="auto",
        support="auto",
        centered="auto",
        n_jobs=None,
    ):
        self.family = family
        self.weight = weight
        self.lam = lam
        self.support = support
        self.centered = centered
        self.n_jobs = n_jobs

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.positive_only = self.family in ("truncated_gaussian", "exponential")
        return tags

    @whole_fit
    def fit(self, X, y=None):
        """Estimate all interactions.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            At least two features; each must vary, and none may be a linear combination of others.
        y : Ignored

        Returns
        -------
        self : PairwiseScoreMatching

        Raises
        ------
        ValueError
            In any of these cases:

            - X holds NaN, infinity or text, or has fewer than two features.
            - A feature is constant, or a linear combination of others.
            - X holds negative values, and the family is on non-negative data.
            - ``support`` is "full", and there are too few samples.
            - ``lam`` is too small for the number of samples.
            - An option is set that has no effect with ``family`` or ``support``.

        Warns
        -----
        UserWarning
            If there are fewer than three samples for each parameter estimated with an edge.
        """
        self._check_combination()
        family = self._family()
        X = self._checked(X, family)
        n, p = X.shape
        check_independent(X, getattr(self, "feature_names_in_", None))
        lam = self._penalty(n, p, len(family.node_powers) + p - 1)
        self.shift_ = X.mean(0) if self._is_shifted(family) else np.zeros(p)
        self.scale_ = np.sqrt(((X - self.shift_) ** 2).mean(0))
        estimates = self._estimates(family, (X - self.shift_) / self.scale_, lam)
        self.support_sizes_ = estimates.support_sizes
        if FEW_SAMPLES * self.support_sizes_.max() > n:
            warn(
                f"Up to {self.support_sizes_.max()} parameters are estimated from {n} samples, so "
                "the standard errors are too small. Raise lam, or use RegularizedScoreMatching, "
                "which estimates the graph without tests.",
                UserWarning,
            )
        self._store(family, estimates, n)
        return self

    def _check_combination(self):
        family = self._family()
        if not family.nonnegative and self.weight != "log1p":
            raise ValueError(
                f"weight={self.weight!r} is for families on non-negative data, and has no effect "
                f"with family={self.family!r}. Leave weight out."
            )
        if not family.is_gaussian and self.centered != "auto":
            raise ValueError(
                f"centered={self.centered!r} is for the Gaussian families, and has no effect with "
                f"family={self.family!r}. Leave centered out."
            )
        if self.support == "full" and self.lam != "auto":
            raise ValueError(
                f"lam={self.lam!r} has no effect with support='full', which selects nothing. Use "
                "support='double_selection', or leave lam out."
            )

    def _family(self):
        centered = self.family == "truncated_gaussian" if self.centered == "auto" else self.centered
        return family_of(self.family, centered)

    def _checked(self, X, family, *, reset=True):
        """The samples, inside the domain of the family."""
        X = checked_rows(self, X, reset=reset)
        if family.nonnegative:
            names = getattr(self, "feature_names_in_", None)
            check_inside(X, nonnegative(X.shape[1]), names, f"family={self.family!r}")
        return X

    def _is_shifted(self, family):
        """Whether the model is the same at every origin."""
        return family.is_gaussian and not family.nonnegative and len(family.node_powers) == 2

    def _penalty(self, n, p, n_parameters):
        """The penalty of the selections; None where all parameters are kept."""
        full = self.support == "full"
        if self.support == "auto":
            full = self.lam == "auto" and n >= FULL_RATIO * p**2
        if full and n <= n_parameters:
            raise ValueError(
                f"support='full' estimates {n_parameters} parameters for each feature, and needs "
                f"more samples than that; X has {n}. Use support='double_selection', or "
                "RegularizedScoreMatching, which penalises the interactions."
            )
        if full:
            return None
        return LAM_CONSTANT * np.sqrt(np.log(p) / n) if self.lam == "auto" else self.lam

    def _estimates(self, family, Z, lam) -> EdgeEstimates:
        try:
            return estimate_edges(family, self.weight, Z, lam, self.n_jobs)
        except np.linalg.LinAlgError as error:
            raise ValueError(
                f"The parameters that lam={lam:.3g} selects are not determined by the {len(Z)} "
                "samples. Use a larger lam, or RegularizedScoreMatching, which penalises the "
                "interactions."
            ) from error

    def _store(self, family, estimates: EdgeEstimates, n):
        """The estimates in the units of the input."""
        power = self.scale_**family.edge_power
        unit = np.outer(power, power)
        covariance = estimates.covariance / (unit[:, :, None] * unit[:, None, :])
        null_variance = estimates.null_variance / unit**2
        self._store_edges(estimates.interaction / unit, covariance, estimates.dof, n, null_variance)
        powers = np.array(family.node_powers)
        self.node_coef_ = estimates.node_coef / self.scale_[:, None] ** powers
        if family.is_gaussian:
            self.precision_ = self.interaction_ + np.diag(self.node_coef_[:, 0])
        if self._is_shifted(family):
            self.node_coef_[:, 1] += self.precision_ @ self.shift_

    def _require_estimates(self):
        check_is_fitted(self)

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
            models of the same samples and family.
        """
        check_is_fitted(self)
        family, p = self._family(), self.n_features_in_
        X = self._checked(X, family, reset=False)
        Z = (X - self.shift_) / self.scale_
        power = self.scale_**family.edge_power
        terms = self.node_coef_.copy()
        if self._is_shifted(family):
            terms[:, 1] -= self.precision_ @ self.shift_
        terms *= self.scale_[:, None] ** np.array(family.node_powers)
        edges = self.interaction_ * np.outer(power, power)
        loss = 0.0
        for node in range(p):
            equation = node_equation(family, self.weight, Z, node)
            coef = np.concatenate([terms[node], np.delete(edges[node], node)])
            loss += np.mean(0.5 * (equation.root @ coef) ** 2 + equation.linear @ coef)
        return -float(loss)

    def difference(self, other):
        """Compare the interactions with those of a model of other, independent samples.

        Parameters
        ----------
        other : PairwiseScoreMatching
            A fitted model with the same family and the same features.

        Returns
        -------
        InteractionDifference
            The difference of the interactions, this model minus ``other``, with
            ``interaction_``, ``edge_stderr_``, ``edge_pvalues_``, ``confint``, ``adjacency`` and
            ``test_node`` as here. ``test_node`` tests whether a feature's interactions are the same
            in both models.

        Raises
        ------
        ValueError
            If the families or the features differ.

        Examples
        --------
        >>> from sklearn_dsm import PairwiseScoreMatching
        >>> from sklearn_dsm.datasets import make_pairwise
        >>> X, _ = make_pairwise(1000, 4, graph="chain", random_state=0)
        >>> Y, _ = make_pairwise(1000, 4, graph="empty", random_state=1)
        >>> model = PairwiseScoreMatching()
        >>> first, second = model.fit(X), PairwiseScoreMatching().fit(Y)
        >>> first.difference(second).adjacency(0.01, "holm")[0]
        array([False,  True, False, False])
        """
        check_is_fitted(self)
        check_is_fitted(other)
        unnamed = np.arange(self.n_features_in_)
        mine, theirs = (getattr(each, "feature_names_in_", unnamed) for each in (self, other))
        same_names = mine is unnamed or theirs is unnamed or np.array_equal(mine, theirs)
        if self.n_features_in_ != other.n_features_in_ or not same_names:
            raise ValueError(
                "The two models have different features. Fit both to the same columns, in the "
                "same order."
            )
        if self.family != other.family or len(self._family().node_powers) != len(
            other._family().node_powers
        ):
            raise ValueError(
                f"The two models have different families, {self.family!r} and {other.family!r} "
                "with their options, whose interactions do not compare. Fit both with one family."
            )
        return InteractionDifference(self, other)
