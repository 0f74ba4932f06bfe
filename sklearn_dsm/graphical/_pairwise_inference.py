"""What estimates of edges with their covariances tell: intervals, graphs and tests."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import t as student

from .._compat import Interval, StrOptions, validate_parameter_constraints
from .._random import seed_from
from ._edge_selection import corrected, graph_of

LEVEL = [Interval(Real, 0, 1, closed="neither")]
CORRECTIONS = {"bonferroni", "holm", "fdr_bh", "support_recovery"}


class NodeTest(NamedTuple):
    """Result of a test of all edges of a node."""

    statistic: float
    pvalue: float


class EdgeInference:
    """Intervals, graphs and tests from ``interaction_`` and ``edge_covariance_``."""

    interaction_: np.ndarray
    edge_covariance_: np.ndarray
    edge_stderr_: np.ndarray
    edge_dof_: np.ndarray
    edge_pvalues_: np.ndarray
    n_samples_: Any

    def _require_estimates(self):
        """Raise where there are no estimates."""

    def confint(self, level=0.95):
        """Compute confidence intervals of all interactions.

        The quantiles are those of Student's t distribution with ``edge_dof_`` degrees of freedom.

        Parameters
        ----------
        level : float, default=0.95
            Coverage of each single interval, without correction for their number.

        Returns
        -------
        ndarray of shape (n_features, n_features, 2)
            Lower and upper ends; NaN on the diagonal.
        """
        self._require_estimates()
        validate_parameter_constraints({"level": LEVEL}, {"level": level}, caller_name="confint")
        half = student.ppf(0.5 + level / 2, self.edge_dof_) * self.edge_stderr_
        return np.stack([self.interaction_ - half, self.interaction_ + half], axis=-1)

    def adjacency(self, level=0.05, correction=None):
        r"""Decide which edges are in the graph.

        Parameters
        ----------
        level : float, default=0.05
            Level of the tests. ``correction`` says what it bounds.
        correction : {"bonferroni", "holm", "fdr_bh", "support_recovery"} or None, default=None
            How to account for the number of pairs.

            - None: ``level`` bounds the probability of a false edge for each pair.
            - "bonferroni": ``level`` bounds the probability of any false edge.
            - "holm": as "bonferroni", and at least as powerful.
            - "fdr_bh": the Benjamini-Hochberg procedure, for exploration. ``level`` bounds the
              expected share of false edges.
            - "support_recovery": no test. An edge is kept if
              :math:`|\hat\theta_{ab}| > \sqrt{2 \log p}\, \mathrm{se}_{ab}` with p features, which
              finds the true graph as the number of samples grows. Leave out ``level``.

        Returns
        -------
        ndarray of shape (n_features, n_features), bool
            Symmetric, with False on the diagonal.

        Raises
        ------
        ValueError
            If ``level`` is given with "support_recovery".
        """
        self._require_estimates()
        validate_parameter_constraints(
            {"level": LEVEL, "correction": [StrOptions(CORRECTIONS), None]},
            {"level": level, "correction": correction},
            caller_name="adjacency",
        )
        p = len(self.interaction_)
        upper = np.triu_indices(p, 1)
        if correction == "support_recovery":
            if level != 0.05:
                raise ValueError(
                    f"level={level!r} has no effect with correction='support_recovery', whose "
                    "threshold depends on the number of features. Leave level out."
                )
            threshold = np.sqrt(2 * np.log(p)) * self.edge_stderr_[upper]
            kept = np.abs(self.interaction_[upper]) > threshold
        else:
            kept = corrected(self.edge_pvalues_[upper], correction) <= level
        return graph_of(kept, upper)

    def test_node(self, node, n_bootstrap=500, random_state=None):
        r"""Test whether a node has any edge, by the multiplier bootstrap.

        The statistic :math:`T = \max_b \sqrt n |\hat\theta_{ab}|` is compared with
        :math:`\max_b |n^{-1/2} \sum_i z_{iab} e_i|`, where :math:`z_{iab}` is the influence of
        sample i on the estimate, and :math:`e_i` is standard normal. Given the data, these sums
        are normal with the covariance of the influence values, and are drawn directly.

        Parameters
        ----------
        node : int
            Index of the feature.
        n_bootstrap : int, default=500
            Number of draws.
        random_state : int, RandomState or None, default=None
            Seed of the draws.

        Returns
        -------
        NodeTest
            Named tuple of ``statistic`` and ``pvalue``.

        Raises
        ------
        ValueError
            If ``node`` is not the index of a feature.
        """
        self._require_estimates()
        p = len(self.interaction_)
        validate_parameter_constraints(
            {
                "node": [Interval(Integral, 0, p - 1, closed="both")],
                "n_bootstrap": [Interval(Integral, 1, None, closed="left")],
                "random_state": ["random_state"],
            },
            {"node": node, "n_bootstrap": n_bootstrap, "random_state": random_state},
            caller_name="test_node",
        )
        n, others = self.n_samples_, np.delete(np.arange(p), node)
        statistic = np.abs(self.interaction_[node, others]).max()
        values, vectors = np.linalg.eigh(self.edge_covariance_[node][np.ix_(others, others)])
        root = vectors * np.sqrt(values.clip(min=0))
        random = np.random.RandomState(seed_from(random_state))
        draws = np.abs(random.standard_normal((n_bootstrap, p - 1)) @ root.T).max(1)
        pvalue = (1 + (draws >= statistic).sum()) / (n_bootstrap + 1)
        return NodeTest(float(np.sqrt(n) * statistic), float(pvalue))

    def _store_edges(self, interaction, covariance, dof, n_samples, null_variance=None):
        """Keep the estimates, with their standard errors, degrees of freedom and p-values.

        The p-values rest on ``null_variance`` (p, p), the variances under the hypothesis, or else
        on the standard errors.
        """
        variance = np.diagonal(covariance, axis1=1, axis2=2).copy()
        np.fill_diagonal(variance, np.nan)
        self.interaction_, self.edge_covariance_ = interaction, covariance
        self.edge_stderr_, self.edge_dof_ = np.sqrt(variance), dof
        deviation = self.edge_stderr_.copy()
        if null_variance is not None:
            deviation = np.where(np.isnan(deviation), np.nan, np.sqrt(null_variance))
        self.edge_pvalues_ = 2 * student.sf(np.abs(interaction) / deviation, dof)
        self.n_samples_ = n_samples


class InteractionDifference(EdgeInference):
    """Difference of the interactions of two models fitted to independent samples.

    Attributes
    ----------
    interaction_ : ndarray of shape (n_features, n_features)
        The difference, first model minus second.
    edge_stderr_, edge_pvalues_ : ndarray of shape (n_features, n_features)
        Standard errors, and p-values of the hypothesis that an interaction is the same in both
        models.
    edge_covariance_ : ndarray of shape (n_features, n_features, n_features)
        ``[a]`` is the covariance of row a of ``interaction_``.
    edge_dof_ : ndarray of shape (n_features, n_features)
        Degrees of freedom of the standard errors, by the Welch-Satterthwaite equation.
    n_samples_ : float
        ``n1 * n2 / (n1 + n2)``, for n1 and n2 samples of the two models.
    """

    def __init__(self, first: EdgeInference, second: EdgeInference):
        n_samples = 1 / (1 / first.n_samples_ + 1 / second.n_samples_)
        variances = first.edge_stderr_**2, second.edge_stderr_**2
        parts = variances[0] ** 2 / first.edge_dof_ + variances[1] ** 2 / second.edge_dof_
        self._store_edges(
            first.interaction_ - second.interaction_,
            first.edge_covariance_ + second.edge_covariance_,
            sum(variances) ** 2 / parts,
            n_samples,
        )
