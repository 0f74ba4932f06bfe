"""Distances between graphs: published examples, laws, and a slow definition to compare with."""

from __future__ import annotations

from itertools import product

import networkx as nx
import numpy as np
import pandas as pd
import pytest

from sklearn_dsm.datasets import make_anm
from sklearn_dsm.metrics import (
    edge_auc,
    edge_f1,
    order_divergence,
    structural_hamming_distance,
    structural_intervention_distance,
)

EDGE, REVERSED, NONE = np.array([[0, 1], [0, 0]]), np.array([[0, 0], [1, 0]]), np.zeros((2, 2))
DISTANCES = (structural_hamming_distance, structural_intervention_distance, edge_f1)


def random_dag(d, share, seed):
    random = np.random.default_rng(seed)
    upper = np.triu(random.random((d, d)) < share, 1).astype(int)
    order = random.permutation(d)
    return upper[np.ix_(order, order)]


def published():
    """Two causes of three effects, after Peters and Buhlmann."""
    true = np.zeros((5, 5), dtype=int)
    true[0, 1:] = true[1, 2:] = 1
    additional, reversed_ = true.copy(), true.copy()
    additional[2, 3] = 1
    reversed_[0, 1], reversed_[1, 0] = 0, 1
    return true, additional, reversed_


def test_the_published_example():
    true, additional, reversed_ = published()
    assert structural_intervention_distance(true, additional) == 0
    assert structural_intervention_distance(true, reversed_) == 8
    assert structural_hamming_distance(true, additional) == 1
    assert structural_hamming_distance(true, reversed_) == 1


def test_a_reversal_costs_what_it_is_told_to():
    assert structural_hamming_distance(EDGE, REVERSED) == 1
    assert structural_hamming_distance(EDGE, REVERSED, reversal_cost=2) == 2
    assert structural_hamming_distance(EDGE, NONE, reversal_cost=2) == 1
    assert structural_hamming_distance(EDGE, EDGE | REVERSED, reversal_cost=2) == 1


def slow_wrong_effect(true, found, i, j):
    """Whether the parents found for i are no valid adjustment set for its effect on j."""
    graph = nx.DiGraph(true)
    parents = set(np.flatnonzero(found[:, i]))
    if j in parents:
        return nx.has_path(graph, i, j)
    passed = {
        w
        for w in range(len(true))
        if w != i and nx.has_path(graph, i, w) and nx.has_path(graph, w, j)
    }
    if any(nx.has_path(graph, w, z) for w, z in product(passed, parents)):
        return True
    cut = graph.copy()
    cut.remove_edges_from([(i, w) for w in list(graph.successors(i)) if w in passed])
    return not nx.is_d_separator(cut, {i}, {j}, parents)


@pytest.mark.parametrize("seed", range(12))
def test_intervention_distance_is_its_definition(seed):
    true, found = random_dag(6, 0.4, seed), random_dag(6, 0.4, 100 + seed)
    pairs = product(range(6), repeat=2)
    expected = sum(slow_wrong_effect(true, found, i, j) for i, j in pairs if i != j)
    assert structural_intervention_distance(true, found) == expected


@pytest.mark.parametrize("seed", range(5))
def test_laws_of_equal_and_of_renumbered_graphs(seed):
    true, found = random_dag(8, 0.4, seed), random_dag(8, 0.4, 50 + seed)
    assert structural_hamming_distance(true, true) == 0
    assert structural_intervention_distance(true, true) == 0
    assert edge_f1(true, true) == 1
    order = np.random.default_rng(seed).permutation(8)
    for distance in DISTANCES:
        renumbered = distance(true[np.ix_(order, order)], found[np.ix_(order, order)])
        assert renumbered == distance(true, found)
    assert structural_hamming_distance(true, found) == structural_hamming_distance(found, true)


@pytest.mark.parametrize("seed", range(5))
def test_additional_edges_along_the_order_do_not_spoil_effects(seed):
    anm = make_anm(2, 8, random_state=seed)
    full = np.zeros((8, 8), dtype=int)
    for place, node in enumerate(anm.order):
        full[node, anm.order[place + 1 :]] = 1
    assert structural_intervention_distance(anm.adjacency, full) == 0
    assert order_divergence(anm.order, anm.adjacency) == 0
    assert order_divergence(anm.order[::-1], anm.adjacency) == anm.adjacency.sum()


@pytest.mark.parametrize("seed", range(5))
def test_divergence_bounds_the_hamming_distance_of_graphs_of_the_order(seed):
    anm, random = make_anm(2, 8, random_state=seed), np.random.default_rng(seed)
    order, found = random.permutation(8), np.zeros((8, 8), dtype=int)
    for place, node in enumerate(order):
        later = order[place + 1 :]
        found[node, later] = random.random(len(later)) < 0.3
    distance = structural_hamming_distance(anm.adjacency, found)
    assert distance >= order_divergence(order, anm.adjacency)


def test_arrays_frames_and_networkx_graphs_are_the_same():
    true, found = random_dag(6, 0.4, 0), random_dag(6, 0.4, 1)
    names = list("fbdace")
    frames = [pd.DataFrame(each, index=names, columns=names) for each in (true, found)]
    graphs = [nx.relabel_nodes(nx.DiGraph(each), dict(enumerate(names))) for each in (true, found)]
    shuffled = frames[1].loc[sorted(names), sorted(names)]
    for distance in DISTANCES:
        expected = distance(true, found)
        assert distance(nx.DiGraph(true), nx.DiGraph(found)) == expected
        assert distance(graphs[0], graphs[1]) == expected
        assert distance(frames[0], shuffled) == distance(graphs[0], shuffled) == expected
    order = ["a", "b", "c", "d", "e", "f"]
    places = [names.index(name) for name in order]
    assert order_divergence(order, graphs[0]) == order_divergence(places, true)


def test_undirected_edges():
    line = nx.path_graph(3)
    assert structural_hamming_distance(line, nx.DiGraph([(0, 1), (1, 2)])) == 2
    assert edge_f1(EDGE, REVERSED) == 0 and edge_f1(EDGE, REVERSED, directed=False) == 1
    assert edge_f1(NONE, NONE) == 1


def test_area_under_the_curve_of_edges():
    weights = np.array([[np.nan, 3.0, 2.0], [-9.0, 0.0, 1.0], [np.nan, 0.5, 7.0]])
    true = np.array([[0, 1, 0], [0, 0, 1], [0, 0, 0]])
    # The edges have ranks 1 and 3 of six; four pairs without an edge, one of which is between.
    assert edge_auc(true, weights) == 7 / 8
    assert edge_auc(true, np.exp(weights)) == 7 / 8
    # Of three pairs of nodes, the two edges are the first and the last.
    assert edge_auc(true, weights, directed=False) == 1 / 2
    with pytest.raises(ValueError, match="area is not defined"):
        edge_auc(np.zeros((3, 3)), weights)


def test_errors_of_graphs():
    cycle = np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0]])
    with pytest.raises(ValueError, match="true has a cycle"):
        structural_intervention_distance(cycle, np.zeros((3, 3)))
    assert structural_intervention_distance(np.zeros((3, 3)), cycle) == 0
    with pytest.raises(ValueError, match="square"):
        structural_hamming_distance(np.zeros((2, 3)), EDGE)
    with pytest.raises(ValueError, match="same nodes"):
        structural_hamming_distance(EDGE, np.zeros((3, 3)))
    with pytest.raises(ValueError, match="to itself"):
        edge_f1(np.eye(2), EDGE)
    with pytest.raises(ValueError, match="different nodes"):
        edge_f1(nx.DiGraph([("a", "b")]), nx.DiGraph([("a", "c")]))
    with pytest.raises(ValueError, match="each of the 2 nodes"):
        order_divergence([0, 0], EDGE)
    with pytest.raises(ValueError, match="holds NaN"):
        edge_f1(EDGE, [[np.nan, 1], [0, 0]])
