"""Laws of the pictures of graphs, orders and intervals."""

import subprocess
import sys

import networkx
import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from sklearn.base import BaseEstimator
from sklearn.covariance import GraphicalLassoCV

from sklearn_dsm import GMMScoreEstimator, PairwiseScoreMatching, report
from sklearn_dsm.datasets import make_pairwise
from sklearn_dsm.inspection import EdgeIntervalDisplay, GraphDisplay, OrderDisplay
from sklearn_dsm.inspection._graph import FOUND_FALSE, FOUND_TRUE


@pytest.fixture(autouse=True)
def closed_figures():
    plt.switch_backend("agg")
    yield
    plt.close("all")


class Found(BaseEstimator):
    """An estimator with the attributes that it is given."""

    def fit(self, X=None, y=None):
        return self

    def fitted(self, **attributes):
        vars(self).update(attributes)
        return self

    def confint(self, level=0.95):
        half = 2 * self.edge_stderr_
        return np.stack([self.interaction_ - half, self.interaction_ + half], -1)


def causal():
    adjacency = np.zeros((4, 4), dtype=int)
    adjacency[0, 1] = adjacency[1, 2] = adjacency[0, 3] = 1
    return Found().fitted(
        order_=np.array([0, 1, 3, 2]),
        adjacency_=adjacency,
        edge_pvalues_=np.where(adjacency, 1e-5, 0.4),
        n_features_in_=4,
    )


def pairwise():
    interaction = np.array([[0, 1.0, 0.1], [1.0, 0, -0.6], [0.1, -0.6, 0]])
    return Found().fitted(
        interaction_=interaction,
        edge_stderr_=np.full((3, 3), 0.1),
        edge_pvalues_=np.array([[np.nan, 0, 0.3], [0, np.nan, 0.01], [0.3, 0.01, np.nan]]),
        n_features_in_=3,
        feature_names_in_=np.array(["a", "b", "c"]),
    )


def report_of_two():
    X = np.random.default_rng(0).normal(size=(60, 2))
    return report(GMMScoreEstimator(random_state=0).fit(X), X)


def test_edges_are_those_whose_p_values_are_small():
    display = GraphDisplay.from_estimator(pairwise())
    assert display.edges.pairs() == [(0, 1), (1, 2)]
    assert GraphDisplay.from_estimator(pairwise(), level=1e-3).edges.pairs() == [(0, 1)]
    assert [text.get_text() for text in display.ax_.texts] == ["a", "b", "c"]


def test_corrected_edges_are_those_of_the_estimator():
    X, _ = make_pairwise(300, 6, family="gaussian", random_state=0)
    graph = PairwiseScoreMatching().fit(X)
    display = GraphDisplay.from_estimator(graph, level=0.2, correction="fdr_bh")
    np.testing.assert_array_equal(display.edges.present, graph.adjacency(0.2, "fdr_bh"))
    assert display.ax_.get_title() == "edges at level 0.2, corrected by fdr_bh"
    assert "alone" in GraphDisplay.from_estimator(graph).ax_.get_title()
    with pytest.raises(ValueError, match="Leave correction out"):
        GraphDisplay.from_estimator(causal(), correction="holm")


@pytest.mark.parametrize("draw", [lambda: GraphDisplay.from_estimator(pairwise()), report_of_two])
def test_matplotlib_is_named_where_it_is_missing(draw, monkeypatch):
    for name in ("figure", "pyplot"):
        monkeypatch.setitem(sys.modules, f"matplotlib.{name}", None)
    with pytest.raises(ImportError, match=r"sklearn_dsm\[plots\]"):
        draw()


def test_edges_are_wider_if_stronger_and_coloured_by_p_value():
    display = GraphDisplay.from_estimator(pairwise())
    (lines,) = [each for each in display.ax_.collections if isinstance(each, LineCollection)]
    strong, weak = lines.get_linewidths()
    assert strong > weak
    first, second = lines.get_colors()
    assert not np.allclose(first, second)
    # Outlines below the edges tell those of the true graph from others.
    truth = np.array([[0, 1, 1], [1, 0, 0], [1, 0, 0]])
    display = GraphDisplay.from_estimator(pairwise(), true_graph=truth)
    drawn = [each for each in display.ax_.collections if isinstance(each, LineCollection)]
    missed, outline, lines = drawn
    assert len(missed.get_segments()) == 1 and missed.get_linestyle() != lines.get_linestyle()
    assert (outline.get_linewidths() > lines.get_linewidths()).all()
    colours = outline.get_colors()
    np.testing.assert_allclose(colours[0][:3], to_rgb(FOUND_TRUE))
    np.testing.assert_allclose(colours[1][:3], to_rgb(FOUND_FALSE))


def test_networkx_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "networkx", None)
    with pytest.raises(ImportError, match=r"sklearn_dsm\[graphs\]"):
        GraphDisplay.from_estimator(pairwise())


def test_a_graph_without_p_values_has_partial_correlations():
    X = np.random.default_rng(0).normal(size=(300, 4))
    X[:, 1] += X[:, 0]
    fit = GraphicalLassoCV().fit(X)
    strength = GraphDisplay.from_estimator(fit).edges.strength
    root = np.sqrt(np.diag(fit.precision_))
    expected = np.abs(fit.precision_ / np.outer(root, root)) * (1 - np.eye(4))
    np.testing.assert_allclose(strength, expected)


def test_sources_are_left_of_what_they_cause():
    positions = GraphDisplay.from_estimator(causal()).positions_
    for parent, child in ((0, 1), (1, 2), (0, 3)):
        assert positions[parent][0] < positions[child][0]


@pytest.mark.parametrize("as_networkx", [False, True])
def test_a_true_graph_outlines_what_is_in_it(as_networkx):
    truth = np.zeros((4, 4), dtype=bool)
    truth[0, 1] = truth[3, 2] = True
    if as_networkx:
        truth = networkx.DiGraph([("x0", "x1"), ("x3", "x2")])
    display = GraphDisplay.from_estimator(causal(), true_graph=truth)
    expected = np.zeros((4, 4), dtype=bool)
    expected[0, 1] = expected[3, 2] = True
    np.testing.assert_array_equal(display.true_graph, expected)


def test_red_arcs_are_the_order_divergence():
    truth = np.zeros((4, 4), dtype=bool)
    truth[0, 1] = truth[2, 1] = truth[2, 3] = True
    display = OrderDisplay.from_estimator(causal(), true_graph=truth)
    colours = [line.get_color() for line in display.ax_.lines]
    assert colours.count("tab:red") == 2 and colours.count("tab:blue") == 3


def test_intervals_are_in_the_order_of_their_significance():
    display = EdgeIntervalDisplay.from_estimator(pairwise(), true_interaction=np.zeros((3, 3)))
    assert [text.get_text() for text in display.ax_.get_yticklabels()] == [
        "a - b",
        "b - c",
        "a - c",
    ]
    np.testing.assert_allclose(display.intervals[0], [0.8, 1.2])
    assert len(EdgeIntervalDisplay.from_estimator(pairwise(), max_edges=1).pairs) == 1


@pytest.mark.parametrize(
    ("display", "message"),
    [
        (GraphDisplay, "has no graph"),
        (OrderDisplay, "has no order_"),
        (EdgeIntervalDisplay, "has no confint"),
    ],
)
def test_what_has_no_picture_says_what_has(display, message):
    with pytest.raises(TypeError, match=message):
        display.from_estimator(Nothing().fit())


class Nothing(BaseEstimator):
    def fit(self, X=None, y=None):
        self.fitted_ = True
        return self


def test_a_true_graph_of_another_size_is_refused():
    with pytest.raises(ValueError, match="true_graph has 3 nodes, and the data have 4"):
        GraphDisplay.from_estimator(causal(), true_graph=np.zeros((3, 3)))


def test_the_room_is_entered_without_matplotlib():
    code = (
        "import sys, sklearn_dsm.inspection as room; before = set(sys.modules);"
        "assert 'matplotlib' not in before; assert room.GraphDisplay"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
