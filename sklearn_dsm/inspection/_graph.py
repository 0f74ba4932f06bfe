"""A drawn graph."""

from __future__ import annotations

import numpy as np

from ..metrics._graphs import numbered
from ._axes import axes_of, networkx_module, pyplot
from ._edges import Edges, edges_of, is_tested

MAX_WIDTH, MIN_WIDTH, OUTLINE, NODE_SIZE = 5.0, 0.8, 4.0, 700
FOUND_TRUE, FOUND_FALSE, MISSED = "tab:green", "tab:red", "0.6"


class GraphDisplay:
    """Draw the graph of a fitted estimator.

    The width of an edge grows with its strength: the absolute interaction or partial correlation,
    or, in a causal graph, the negative logarithm of the p-value. The colour of an edge shows its
    p-value; edges are black if there are no p-values. If the true graph is given, true edges have a
    green outline and false edges a red one. Missed edges are dashed grey lines.

    Use :meth:`from_estimator` to create a display. Needs matplotlib and networkx.

    Parameters
    ----------
    edges : Edges
        Present edges, strengths, p-values and names.
    true_graph : ndarray of shape (n_features, n_features), bool, or None
        Entry [i, j] is True for an edge from feature i to feature j.
    title : str, default=""
        What was tested.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    positions_ : dict of int to ndarray of shape (2,)
        Where the nodes are drawn.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.covariance import GraphicalLassoCV
    >>> from sklearn_dsm.inspection import GraphDisplay
    >>> X = np.random.default_rng(0).normal(size=(200, 4))
    >>> X[:, 1] += X[:, 0]
    >>> display = GraphDisplay.from_estimator(GraphicalLassoCV().fit(X))
    >>> sorted(display.positions_)
    [0, 1, 2, 3]
    """

    def __init__(self, edges: Edges, true_graph: np.ndarray | None = None, title: str = ""):
        self.edges, self.true_graph, self.title = edges, true_graph, title

    @classmethod
    def from_estimator(
        cls,
        estimator,
        *,
        true_graph=None,
        level=0.05,
        correction=None,
        positions=None,
        ax=None,
    ):
        """Draw the graph of a fitted estimator.

        Parameters
        ----------
        estimator : object
            A fitted estimator of a causal graph, with ``adjacency_`` and ``order_``, or of an
            undirected graph, with ``interaction_``, ``precision_`` or ``adjacency_``.
        true_graph : array-like of shape (n_features, n_features) or networkx graph, default=None
        level : float, default=0.05
            Edges are tested at this level; the title of the picture says how. No effect on causal
            graphs and without p-values.
        correction : str or None, default=None
            How to account for the number of tests: what the method ``adjacency`` of the estimator
            takes, for instance "holm". None bounds the probability of a false edge for each pair.
        positions : dict of int to pair of float, default=None
            Where to draw the nodes. By default, a causal graph has its sources on the left, and
            any other graph has its nodes on a circle.
        ax : matplotlib Axes, default=None

        Returns
        -------
        GraphDisplay

        Raises
        ------
        ValueError
            If ``correction`` is given for a graph that is not tested, or is not one of those of
            the estimator.
        """
        edges = edges_of(estimator, level, correction)
        truth = None if true_graph is None else numbered(true_graph, "true_graph", edges.names) != 0
        if truth is not None and not edges.directed:
            truth = truth | truth.T
        order = getattr(estimator, "order_", None)
        title = _title(level, correction) if is_tested(estimator) else ""
        return cls(edges, truth, title).plot(positions=positions, order=order, ax=ax)

    def plot(self, *, positions=None, order=None, ax=None):
        """Draw the graph.

        Parameters
        ----------
        positions : dict of int to pair of float, default=None
        order : array-like of shape (n_features,), default=None
            Causal order of the features, from left to right. No effect if ``positions`` is given.
        ax : matplotlib Axes, default=None

        Returns
        -------
        GraphDisplay
        """
        plt, networkx = pyplot(), networkx_module()
        self.ax_, self.figure_ = axes_of(ax, (6, 5))
        ax = self.ax_
        self.positions_ = positions or _positions(self.edges, order)
        options = {"pos": self.positions_, "ax": ax, "node_size": NODE_SIZE}
        if self.edges.directed:
            options["connectionstyle"] = "arc3,rad=0.15"
        self._draw_missed(networkx, options)
        self._draw_found(plt, networkx, options)
        self._draw_nodes(networkx)
        ax.margins(0.12)
        ax.set_axis_off()
        ax.set_title(self.title, fontsize="small")
        return self

    def _graph_of(self, networkx, pairs):
        graph = networkx.DiGraph() if self.edges.directed else networkx.Graph()
        graph.add_nodes_from(range(len(self.edges.names)))
        graph.add_edges_from(pairs)
        return graph

    def _draw_found(self, plt, networkx, options):
        found = self.edges.pairs()
        if not found:
            return
        graph, widths = self._graph_of(networkx, found), _widths(self.edges, found)
        if self.true_graph is not None:
            outlines = [FOUND_TRUE if self.true_graph[edge] else FOUND_FALSE for edge in found]
            headless = {"arrows": True, "arrowstyle": "-"} if self.edges.directed else {}
            networkx.draw_networkx_edges(
                graph,
                edgelist=found,
                width=widths + OUTLINE,
                edge_color=outlines,
                alpha=0.45,
                **headless,
                **options,
            )
        colours = self._colours(plt, found)
        networkx.draw_networkx_edges(
            graph, edgelist=found, width=widths, edge_color=colours, **options
        )

    def _draw_nodes(self, networkx):
        graph, labels = self._graph_of(networkx, []), dict(enumerate(self.edges.names))
        nodes = networkx.draw_networkx_nodes(
            graph,
            self.positions_,
            node_size=NODE_SIZE,
            node_color="white",
            edgecolors="black",
            ax=self.ax_,
        )
        nodes.set_zorder(3)
        texts = networkx.draw_networkx_labels(
            graph, self.positions_, labels, font_size=9, ax=self.ax_
        )
        for text in texts.values():
            text.set_zorder(4)

    def _colours(self, plt, found):
        """Of edges, by their p-values; black where there are none."""
        if self.edges.pvalues is None:
            return "black"
        from matplotlib.colors import Normalize

        sizes = -np.log10(np.maximum([self.edges.pvalues[edge] for edge in found], 1e-16))
        scale = plt.cm.ScalarMappable(Normalize(0, max(4.0, float(np.max(sizes)))), "viridis_r")
        self.figure_.colorbar(scale, ax=self.ax_, label="-log10 of the p-value", shrink=0.7)
        return [scale.to_rgba(size) for size in sizes]

    def _draw_missed(self, networkx, options):
        if self.true_graph is None:
            return
        missed = self.true_graph & ~self.edges.present
        missed = missed if self.edges.directed else np.triu(missed, 1)
        pairs = [(int(i), int(j)) for i, j in np.argwhere(missed)]
        if pairs:
            networkx.draw_networkx_edges(
                self._graph_of(networkx, pairs),
                edgelist=pairs,
                edge_color=MISSED,
                style="dashed",
                width=1.2,
                **options,
            )


def _title(level: float, correction: str | None) -> str:
    """Which edges of an undirected graph are drawn."""
    if correction == "support_recovery":
        return "edges by support recovery"
    how = f"corrected by {correction}" if correction else "each pair tested alone"
    return f"edges at level {level:g}, {how}"


def _widths(edges: Edges, found: list[tuple[int, int]]) -> np.ndarray:
    strengths = np.array([edges.strength[edge] for edge in found], dtype=float)
    largest = strengths.max(initial=0.0)
    if largest == 0:
        return np.full(len(found), MIN_WIDTH)
    return MIN_WIDTH + (MAX_WIDTH - MIN_WIDTH) * strengths / largest


def _positions(edges: Edges, order) -> dict[int, np.ndarray]:
    """On a circle; a causal graph from left to right, by the longest path from a source."""
    d = len(edges.names)
    if not edges.directed or order is None:
        angles = np.pi / 2 - 2 * np.pi * np.arange(d) / d
        return {j: np.array([np.cos(angles[j]), np.sin(angles[j])]) for j in range(d)}
    depth = np.zeros(d, dtype=int)
    for node in order:
        parents = np.flatnonzero(edges.present[:, node])
        depth[node] = 1 + depth[parents].max(initial=-1)
    positions = {}
    for level in range(depth.max() + 1):
        here = [int(node) for node in order if depth[node] == level]
        for k, node in enumerate(here):
            # Levels are shifted against each other, so that no edge runs through a node.
            shift = 0.35 if level % 2 else 0.0
            positions[node] = np.array([level, (len(here) - 1) / 2 - k + shift])
    return positions
