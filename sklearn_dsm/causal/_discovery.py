"""Causal graphs from the curvature of a log-density."""

from __future__ import annotations

from numbers import Integral, Real

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from .._columns import as_numbers, check_copies, dependent_columns, rows_to_fit
from .._compat import Interval, StrOptions, validate_parameter_constraints
from .._fit import whole_fit
from .._random import seed_from
from .._warn import warn
from ..metrics import (
    edge_auc,
    edge_f1,
    order_divergence,
    structural_hamming_distance,
    structural_intervention_distance,
)
from ..metrics._graphs import numbered
from ._graphs import as_frame, as_networkx
from ._ordering import CRITERIA
from ._protocol import check_score_estimator
from ._stability import Stability, resampled
from ._stein import SteinScoreEstimator
from ._structure import Options, learn
from ._variance_order import varsortability

# A graph of so many edges along which the variance rises this often may be one of units alone.
MIN_EDGES, SUSPECT_VARSORTABILITY = 8, 0.9


def _negative(distance):
    return lambda self, graph: -float(distance(graph, self.adjacency_))


# Larger is better.
METRICS = {
    "f1": lambda self, graph: edge_f1(graph, self.adjacency_),
    "auc": lambda self, graph: edge_auc(graph, -self._tested_pvalues()),
    "neg_shd": _negative(structural_hamming_distance),
    "neg_sid": _negative(structural_intervention_distance),
    "neg_order_divergence": lambda self, graph: -float(order_divergence(self.order_, graph)),
}


class ScoreCausalDiscovery(BaseEstimator):
    r"""Find a causal graph from observations, by the curvature of their log-density.

    The data follow an additive noise model :math:`x_j = f_j(x_{pa(j)}) + e_j` with parents pa(j),
    children ch(j) and independent noises. With the Jacobian H of the Stein score
    :math:`s = \nabla \log p`, and normal noises of variance :math:`\sigma_j^2`,

    .. math:: H_{jj} = -\frac1{\sigma_j^2} - \sum_{i \in ch(j)} \frac{(\partial_j f_i)^2}
        {\sigma_i^2} + \sum_{i \in ch(j)} \frac{e_i\, \partial_{jj} f_i}{\sigma_i^2},

    so :math:`H_{jj}` is constant if j is a leaf, a feature without children. ``fit`` removes one
    leaf after the other; the reverse of this sequence is a causal order. Tests then choose each
    feature's parents among the features before it.

    Parameters
    ----------
    score_estimator : estimator or None, default=None
        Estimates the Stein score and its Jacobian.

        - None: ``SteinScoreEstimator()``. The most accurate choice for about a thousand samples.
        - A :class:`SteinScoreEstimator`, for instance with ``max_samples`` for large data.
        - A :class:`KernelExponentialFamily`, whose score is known everywhere.
        - A :class:`DensityScoreEstimator`, for a density estimator of this package.
        - Any estimator with the methods ``fit(X)``, ``stein_score(X)`` and ``score_jacobian(X,
          diagonal=False)``. If the score is known at training samples only, the attribute
          ``sample_indices_`` must hold their indices.
    criterion : {"variance", "relative_variance", "mean", "residual"}, default="variance"
        Which feature j is taken for a leaf.

        - "variance": that with the least variance of :math:`H_{jj}` [SCORE]_. For nonlinear
          functions and features in comparable units.
        - "relative_variance": that with the least variance divided by the squared mean of
          :math:`H_{jj}`. For nonlinear functions and standardised features.
        - "mean": that with the largest mean of :math:`H_{jj}` [CaPS]_. For linear functions too, if
          the noise variances are about equal or do not fall along the order.
        - "residual": that whose component :math:`s_j` is predicted best by the residual of the
          feature given the others [NoGAM]_. For noise that is not normal. Takes longest.
    removal : {"refit", "residue"}, default="refit"
        How the score of the remaining features is found after a leaf l is removed.

        - "refit": by a new fit to the remaining features, :math:`x_{-l}`.
        - "residue": from one fit, by :math:`s_j(x_{-l}) = s_j(x) - s_l(x) H_{lj}(x) / H_{ll}(x)`,
          which is exact for normal noise. For score estimators that take long to fit. Not for
          :class:`SteinScoreEstimator`, since the score must be known everywhere.
    pruning : {"cam", "das"} or None, default="cam"
        How the parents of a feature l are chosen among the features before it.

        - "cam": F-tests in an additive model with cubic B-splines [CAM]_.
        - "das": first tests of :math:`|H_{lj}|`, then "cam" [DAS]_. For many features.
        - None: all features before it are parents.
    alpha : float, default=1e-3
        Level of the F-test of each edge, without correction for their number.
    standardize : bool, default=False
        Whether features are scaled to unit variance before ``fit``. The variances carry
        information in simulated data, and none if the units are arbitrary.

    Attributes
    ----------
    order_ : ndarray of shape (n_features,)
        Indices of the features in a causal order, sources first.
    adjacency_ : ndarray of shape (n_features, n_features)
        Entry [i, j] is 1 for an edge from i to j, else 0. The graph has no cycle.
    edge_pvalues_ : ndarray of shape (n_features, n_features) or None
        P-values of the F-tests of the edges along ``order_``: 1 for edges that an earlier test
        left out, NaN for pairs against the order. They do not account for the choice of the order.
        None if ``pruning`` is None.
    noise_variances_ : ndarray of shape (n_features,)
        Estimates :math:`-1 / E[H_{ll}]` at the removal of each feature l, in its squared units.
        With :class:`SteinScoreEstimator`, they are too small, by a factor of up to two for ten
        features. NaN if the mean is not negative.
    varsortability_ : float
        Share of the paths of the graph found along which the variance of the features rises. See
        :func:`~sklearn_dsm.causal.varsortability`. NaN without edges.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features; only if X had names.

    Notes
    -----
    With linear functions and normal noise, H is constant for all features, so its variances say
    nothing. Use ``criterion="mean"`` then. The result depends on the units of the features unless
    ``standardize`` is True. Compare the results with and without ``standardize`` and that of
    :func:`~sklearn_dsm.causal.sort_by_variance`.

    References
    ----------
    [SCORE]_, [DAS]_, [NoGAM]_, [CaPS]_, [CAM]_, [ScoreSampleComplexity]_, [Varsortability]_

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_dsm import ScoreCausalDiscovery
    >>> random = np.random.default_rng(0)
    >>> cause = random.normal(size=500)
    >>> effect = cause**2 + random.normal(size=500)
    >>> found = ScoreCausalDiscovery().fit(np.column_stack([effect, cause]))
    >>> found.order_
    array([1, 0])
    >>> found.adjacency_
    array([[0, 0],
           [1, 0]])
    """

    _parameter_constraints = {
        # Checked with the rest of the protocol.
        "score_estimator": "no_validation",
        "criterion": [StrOptions(set(CRITERIA))],
        "removal": [StrOptions({"refit", "residue"})],
        "pruning": [StrOptions({"cam", "das"}), None],
        "alpha": [Interval(Real, 0, 1, closed="neither")],
        "standardize": ["boolean"],
    }

    def __init__(
        self,
        score_estimator=None,
        *,
        criterion="variance",
        removal="refit",
        pruning="cam",
        alpha=1e-3,
        standardize=False,
    ):
        self.score_estimator = score_estimator
        self.criterion = criterion
        self.removal = removal
        self.pruning = pruning
        self.alpha = alpha
        self.standardize = standardize

    @whole_fit
    def fit(self, X, y=None):
        """Find the order of the features, and the edges.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            At least two features; none may be constant or a linear function of another.
        y : Ignored

        Returns
        -------
        self : ScoreCausalDiscovery

        Raises
        ------
        TypeError
            If ``score_estimator`` lacks a method.
        ValueError
            In any of these cases:

            - X holds NaN, infinity or text, has fewer than two features, or has a feature that is
              constant or a linear function of another.
            - The kernel matrix of :class:`SteinScoreEstimator` needs too much memory.
            - ``removal`` is "residue", and the score is known at the training samples only.

        Warns
        -----
        UserWarning
            If the variance rises along nearly all paths of a graph with at least eight edges. The
            order may then reflect the units only. No warning if ``standardize`` is True.
            Also if a feature is a linear combination of several others, or if there are no more
            samples than features.
        """
        X = rows_to_fit(self, X, min_features=2, copy=True)
        names = getattr(self, "feature_names_in_", None)
        check_copies(X, names, "no causal order of the two exists")
        self._warn_of_shape(X, names)
        structure = learn(X, self._options())
        self.order_, self.adjacency_ = structure.order, structure.adjacency
        self.edge_pvalues_ = structure.pvalues
        self.noise_variances_ = structure.noise_variances
        self.varsortability_ = varsortability(X, self.adjacency_)
        self._samples = X
        if not self.standardize:
            self._warn_of_units()
        return self

    def _options(self):
        estimator = self.score_estimator
        if estimator is None:
            estimator = SteinScoreEstimator()
        check_score_estimator(estimator)
        rest = (getattr(self, name) for name in Options._fields[1:])
        return Options(estimator, *rest)

    def _warn_of_shape(self, X, names):
        n, d = X.shape
        if n <= d:
            warn(
                f"X has {n} samples of {d} features, too few to learn an order from: the graph is "
                "not to be trusted. Give more samples, or fewer features.",
                UserWarning,
            )
        dependent = dependent_columns(X)
        if len(dependent):
            shown = [str(j) if names is None else repr(str(names[j])) for j in dependent]
            warn(
                f"Features that others determine as linear combinations: {', '.join(shown)}. They "
                "have no noise of their own, so their place in the order means nothing. Leave "
                "them out.",
                UserWarning,
            )

    def _warn_of_units(self):
        if self.adjacency_.sum() < MIN_EDGES or self.varsortability_ < SUSPECT_VARSORTABILITY:
            return
        warn(
            f"The variance rises along {self.varsortability_:.0%} of the paths of the graph. Its "
            "order may be one of the features' units, since sorting them by variance gives such a "
            "graph too. Compare it with the graphs of standardize=True, "
            "criterion='relative_variance', and of sort_by_variance.",
            UserWarning,
        )

    @property
    def adjacency_matrix_(self):
        """``adjacency_`` as a pandas DataFrame if the features have names, else an array."""
        check_is_fitted(self)
        return as_frame(self.adjacency_, getattr(self, "feature_names_in_", None))

    @property
    def causal_graph_(self):
        """The graph as a :class:`networkx.DiGraph`; see :meth:`to_networkx`."""
        return self.to_networkx()

    def to_networkx(self):
        """Return the graph as a :class:`networkx.DiGraph`.

        Nodes are the names of the features, or their indices. They are in the causal order, and
        have the attribute ``noise_variance``. Edges have the attribute ``pvalue`` if ``pruning``
        is not None.

        Returns
        -------
        networkx.DiGraph

        Raises
        ------
        ImportError
            If networkx is not installed.
        """
        check_is_fitted(self)
        names = getattr(self, "feature_names_in_", None)
        return as_networkx(
            self.adjacency_, self.order_, names, self.edge_pvalues_, self.noise_variances_
        )

    def score(self, X=None, y=None, *, true_graph=None, metric="f1"):
        """Compare the graph with the true one. Larger is better.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or None, default=None
            Has no effect on the result.
        y : Ignored
        true_graph : array-like of shape (n_features, n_features) or networkx.DiGraph
            Required. Entry [i, j] is non-zero for an edge from i to j.
        metric : {"f1", "auc", "neg_shd", "neg_sid", "neg_order_divergence"}, default="f1"
            :func:`~sklearn_dsm.metrics.edge_f1`; :func:`~sklearn_dsm.metrics.edge_auc` of the
            p-values; or the negative of
            :func:`~sklearn_dsm.metrics.structural_hamming_distance`,
            :func:`~sklearn_dsm.metrics.structural_intervention_distance` or
            :func:`~sklearn_dsm.metrics.order_divergence`.

        Returns
        -------
        float

        Raises
        ------
        ValueError
            If there is no ``true_graph``, it has a different number of nodes, or ``metric`` is
            "auc" and ``pruning`` is None.
        """
        check_is_fitted(self)
        if X is not None:
            as_numbers(self, X, reset=False)
        constraints = {"metric": [StrOptions(set(METRICS))]}
        validate_parameter_constraints(constraints, {"metric": metric}, caller_name="score")
        if true_graph is None:
            raise ValueError("score compares the graph with the true one: pass true_graph.")
        return float(METRICS[metric](self, self._numbered(true_graph)))

    def _numbered(self, graph):
        """The true graph in the order of the features."""
        names = getattr(self, "feature_names_in_", range(self.n_features_in_))
        return numbered(graph, "true_graph", list(names))

    def _tested_pvalues(self):
        if self.edge_pvalues_ is None:
            raise ValueError("metric='auc' ranks edges by p-values. Set pruning to 'cam' or 'das'.")
        return self.edge_pvalues_

    def stability(self, n_bootstrap=50, random_state=None) -> Stability:
        """Find the share of random halves of the samples in which each edge is found.

        Halves are drawn without replacement, since repeated samples would make p-values too small.
        A half has fewer samples than ``fit`` had, so the shares are conservative.

        Parameters
        ----------
        n_bootstrap : int, default=50
            Number of halves.
        random_state : int, RandomState or None, default=None
            Seed of the draws.

        Returns
        -------
        Stability
            A named tuple. Entry [i, j] of ``edges``, ndarray of shape (n_features, n_features), is
            the share of halves with an edge from i to j. Entry [i, j] of ``order``, of the same
            shape, is the share with i before j. ``n_bootstrap`` is the number of halves.

        Raises
        ------
        ValueError
            If ``n_bootstrap`` is out of range, or there are fewer than four samples.
        """
        check_is_fitted(self)
        validate_parameter_constraints(
            {
                "n_bootstrap": [Interval(Integral, 1, None, closed="left")],
                "random_state": ["random_state"],
            },
            {"n_bootstrap": n_bootstrap, "random_state": random_state},
            caller_name="stability",
        )
        random = np.random.RandomState(seed_from(random_state))
        return resampled(self._samples, self._options(), n_bootstrap, random)
