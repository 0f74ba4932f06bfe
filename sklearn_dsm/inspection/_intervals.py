"""Edges with their confidence intervals."""

from __future__ import annotations

import numpy as np
from sklearn.utils.validation import check_is_fitted

from ._axes import axes_of
from ._edges import names_of

APART, NOT_APART = "tab:blue", "0.6"


class EdgeIntervalDisplay:
    """Draw edges with their confidence intervals: a forest plot.

    Each line is a pair of features. Pairs are sorted by the absolute z-statistic, the estimate
    divided by its standard error, largest first. Intervals that exclude zero are blue, others
    grey. True values, if given, are crosses.

    Use :meth:`from_estimator` to create a display.

    Parameters
    ----------
    pairs : ndarray of shape (n_edges, 2)
        Indices of the features.
    estimates : ndarray of shape (n_edges,)
    intervals : ndarray of shape (n_edges, 2)
        Lower and upper ends.
    names : list of str
        Names of the features.
    truth : ndarray of shape (n_edges,) or None
        True interactions.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    """

    def __init__(self, pairs, estimates, intervals, names: list[str], truth=None):
        self.pairs, self.estimates, self.intervals = pairs, estimates, intervals
        self.names, self.truth = names, truth

    @classmethod
    def from_estimator(cls, estimator, *, level=0.95, max_edges=25, true_interaction=None, ax=None):
        """Draw the edges of a fitted estimator.

        Parameters
        ----------
        estimator : object
            A fitted estimator with ``interaction_``, ``edge_stderr_`` and ``confint``, such as
            :class:`~sklearn_dsm.PairwiseScoreMatching`.
        level : float, default=0.95
            Coverage of each single interval, without correction for their number.
        max_edges : int, default=25
            Largest number of pairs to draw: those with the largest absolute z-statistics.
        true_interaction : array-like of shape (n_features, n_features), default=None
        ax : matplotlib Axes, default=None

        Returns
        -------
        EdgeIntervalDisplay
        """
        check_is_fitted(estimator)
        if not hasattr(estimator, "confint"):
            raise TypeError(
                f"{type(estimator).__name__} has no confint. Pass a fitted PairwiseScoreMatching."
            )
        first, second = np.triu_indices(len(estimator.interaction_), 1)
        sizes = np.abs(estimator.interaction_ / estimator.edge_stderr_)[first, second]
        chosen = np.argsort(-sizes, kind="stable")[:max_edges]
        pairs = np.stack([first, second], 1)[chosen]
        rows, columns = pairs.T
        truth = None
        if true_interaction is not None:
            truth = np.asarray(true_interaction, dtype=float)[rows, columns]
        return cls(
            pairs,
            estimator.interaction_[rows, columns],
            estimator.confint(level)[rows, columns],
            names_of(estimator),
            truth,
        ).plot(ax=ax)

    def plot(self, *, ax=None):
        """Draw the intervals.

        Parameters
        ----------
        ax : matplotlib Axes, default=None

        Returns
        -------
        EdgeIntervalDisplay
        """
        n = len(self.pairs)
        self.ax_, self.figure_ = axes_of(ax, (6, 1.2 + 0.26 * n))
        ax = self.ax_
        heights = np.arange(n)[::-1]
        low, high = self.intervals.T
        apart = (low > 0) | (high < 0)
        colours = np.where(apart, APART, NOT_APART)
        ax.axvline(0, color="black", linewidth=0.8)
        ax.hlines(heights, low, high, colors=colours, linewidth=2)
        ax.scatter(self.estimates, heights, c=colours, s=28, zorder=3)
        if self.truth is not None:
            ax.scatter(
                self.truth, heights, marker="x", c="tab:red", s=34, zorder=4, label="true value"
            )
            ax.legend(loc="best")
        names = [f"{self.names[i]} - {self.names[j]}" for i, j in self.pairs]
        ax.set_yticks(heights, names)
        ax.set_xlabel("interaction")
        ax.set_ylim(-0.8, n - 0.2)
        return self
