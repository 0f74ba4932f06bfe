"""A drawn causal order."""

from __future__ import annotations

import numpy as np
from sklearn.utils.validation import check_is_fitted

from ..metrics._graphs import numbered
from ._axes import axes_of
from ._edges import names_of

FOUND, BACKWARDS = "tab:blue", "tab:red"


class OrderDisplay:
    """Draw a causal order, with its edges as arcs.

    The features are on a line, sources on the left. The edges found are arcs above the line. If the
    true graph is given, its edges are arcs below the line: grey if they agree with the order, and
    red if they point backwards. The number of red arcs is the order divergence.

    Use :meth:`from_estimator` to create a display.

    Parameters
    ----------
    order : ndarray of shape (n_features,)
        Indices of the features, sources first.
    adjacency : ndarray of shape (n_features, n_features), bool
        Entry [i, j] is True for an edge from i to j.
    names : list of str
    true_graph : ndarray of shape (n_features, n_features), bool, or None

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    """

    def __init__(self, order, adjacency, names: list[str], true_graph=None):
        self.order, self.adjacency = np.asarray(order), np.asarray(adjacency) != 0
        self.names, self.true_graph = names, true_graph

    @classmethod
    def from_estimator(cls, estimator, *, true_graph=None, ax=None):
        """Draw the order of a fitted estimator.

        Parameters
        ----------
        estimator : object
            A fitted estimator with ``order_`` and ``adjacency_``.
        true_graph : array-like of shape (n_features, n_features) or networkx graph, default=None
        ax : matplotlib Axes, default=None

        Returns
        -------
        OrderDisplay
        """
        check_is_fitted(estimator)
        if not hasattr(estimator, "order_"):
            raise TypeError(
                f"{type(estimator).__name__} has no order_. Pass a fitted ScoreCausalDiscovery; "
                "GraphDisplay draws graphs without an order."
            )
        names = names_of(estimator)
        truth = None if true_graph is None else numbered(true_graph, "true_graph", names) != 0
        return cls(estimator.order_, estimator.adjacency_, names, truth).plot(ax=ax)

    def plot(self, *, ax=None):
        """Draw the order.

        Parameters
        ----------
        ax : matplotlib Axes, default=None

        Returns
        -------
        OrderDisplay
        """
        d = len(self.order)
        self.ax_, self.figure_ = axes_of(ax, (max(5.0, 0.75 * d), 3.6))
        ax = self.ax_
        place = np.argsort(self.order)
        heights = [self._arc(place[i], place[j], 1, FOUND) for i, j in np.argwhere(self.adjacency)]
        if self.true_graph is not None:
            for i, j in np.argwhere(self.true_graph):
                colour = "0.5" if place[i] < place[j] else BACKWARDS
                heights.append(self._arc(place[i], place[j], -1, colour))
        ax.scatter(range(d), np.zeros(d), s=60, color="black", zorder=3)
        for k, node in enumerate(self.order):
            ax.annotate(
                self.names[node],
                (k, 0),
                xytext=(0, -11),
                textcoords="offset points",
                ha="center",
                va="top",
                zorder=4,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8, "alpha": 0.85},
            )
        tallest = max((abs(height) for height in heights), default=1.0)
        below = -1.15 * tallest if self.true_graph is not None else -0.25 * tallest
        ax.set_ylim(below - 0.1, 1.15 * tallest + 0.1)
        ax.set_xlim(-0.7, d - 0.3)
        ax.text(-0.6, 0.9 * tallest, "found", color=FOUND)
        if self.true_graph is not None:
            ax.text(-0.6, -1.05 * tallest, "true (red: against the order)", color="0.35")
        ax.set_axis_off()
        return self

    def _arc(self, start: int, end: int, side: int, colour) -> float:
        """An arc with an arrow at its middle; how far it reaches."""
        t = np.linspace(0, np.pi, 60)
        middle, radius = (start + end) / 2, (end - start) / 2
        x, y = middle - radius * np.cos(t), side * 0.5 * abs(radius) * np.sin(t)
        self.ax_.plot(x, y, color=colour, linewidth=1.4, alpha=0.85)
        self.ax_.annotate(
            "",
            (x[31], y[31]),
            xytext=(x[29], y[29]),
            arrowprops={"arrowstyle": "-|>", "color": colour, "shrinkA": 0, "shrinkB": 0},
        )
        return float(y[30])
