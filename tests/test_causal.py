"""Causal orders from scores: exact scores, invariances, known structures, and real data."""

from __future__ import annotations

import pickle
from inspect import signature

import networkx as nx
import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, clone
from sklearn.utils.estimator_checks import (
    check_dataframe_column_names_consistency,
    check_param_validation,
    parametrize_with_checks,
)

from sklearn_dsm import (
    DensityScoreEstimator,
    GMMScoreEstimator,
    KernelExponentialFamily,
    KernelScoreEstimator,
    ScoreCausalDiscovery,
    SteinScoreEstimator,
)
from sklearn_dsm.causal import sort_by_variance, varsortability
from sklearn_dsm.causal._pruning import additive_pvalues, jacobian_candidates
from sklearn_dsm.causal._removal import marginal_score, without_leaves
from sklearn_dsm.causal._structure import spline_pvalues
from sklearn_dsm.datasets import load_sachs, make_anm
from sklearn_dsm.metrics import (
    order_divergence,
    structural_hamming_distance,
    structural_intervention_distance,
)

STRICT = (
    {"xfail_strict": True}
    if "xfail_strict" in signature(parametrize_with_checks).parameters
    else {}
)
OF_UNITS = pytest.mark.filterwarnings("ignore:The variance rises along")


class Sines:
    """The model x_j = sum_i w_ij sin(x_i + c_ij) + e_j with normal noise."""

    def __init__(self, weights, shifts, variances):
        self.weights, self.shifts, self.variances = weights, shifts, variances

    def sample(self, n, seed):
        random, d = np.random.default_rng(seed), len(self.weights)
        X = np.zeros((n, d))
        for j in nx.topological_sort(nx.DiGraph(self.weights != 0)):
            X[:, j] = self.mean(X)[:, j] + np.sqrt(self.variances[j]) * random.normal(size=n)
        return X

    def mean(self, X):
        return (self.weights * np.sin(X[:, :, None] + self.shifts)).sum(1)

    def score_of(self, X, kept=slice(None)):
        """Score and Jacobian of the features kept, an ancestral set."""
        X, weights = X[:, kept], self.weights[kept][:, kept]
        shifts, variances = self.shifts[kept][:, kept], self.variances[kept]
        angles = X[:, :, None] + shifts
        error = (X - (weights * np.sin(angles)).sum(1)) / variances
        slope, bend = weights * np.cos(angles), -weights * np.sin(angles)
        score = -error + np.einsum("nij,nj->ni", slope, error)
        across = np.eye(X.shape[1]) - slope
        jacobian = -np.einsum("nij,nkj,j->nik", across, across, 1 / variances)
        places = np.arange(X.shape[1])
        jacobian[:, places, places] += np.einsum("nij,nj->ni", bend, error)
        return score, jacobian


def sines(d, seed, share=0.6):
    random = np.random.default_rng(seed)
    upper = np.triu(random.random((d, d)) < share, 1) * random.uniform(1, 2, (d, d))
    order = random.permutation(d)
    weights = upper[np.ix_(order, order)]
    return Sines(weights, random.uniform(0, 6, (d, d)), random.uniform(0.5, 1.5, d))


class Exact(BaseEstimator):
    """The exact score of those features of a model that are fitted, known by their values."""

    def __init__(self, law=None, X=None):
        self.law, self.X = law, X

    def fit(self, X):
        self.kept_ = [int(np.flatnonzero((x[:, None] == self.X).all(0))[0]) for x in X.T]
        return self

    def full(self, X):
        wide = np.zeros((len(X), self.X.shape[1]))
        wide[:, self.kept_] = X
        return self.law.score_of(wide, self.kept_)

    def stein_score(self, X):
        return self.full(X)[0]

    def score_jacobian(self, X, *, diagonal=False):
        jacobian = self.full(X)[1]
        return np.einsum("njj->nj", jacobian) if diagonal else jacobian

    def __sklearn_clone__(self):
        return Exact(self.law, self.X)


@OF_UNITS
@pytest.mark.parametrize("removal", ["refit", "residue"])
@pytest.mark.parametrize("seed", range(4))
def test_the_exact_score_gives_a_true_order(seed, removal):
    law = sines(6, seed)
    X = law.sample(300, seed)
    found = ScoreCausalDiscovery(Exact(law, X), removal=removal, pruning=None).fit(X)
    assert order_divergence(found.order_, law.weights != 0) == 0
    np.testing.assert_allclose(found.noise_variances_, law.variances, rtol=1e-6)


def test_the_exact_score_is_a_gradient_and_its_jacobian():
    law = sines(5, 0)
    X, step = law.sample(20, 1), 1e-5 * np.eye(5)

    def log_density(X):
        return -0.5 * ((X - law.mean(X)) ** 2 / law.variances).sum(1)

    score, jacobian = law.score_of(X)
    slopes = [(log_density(X + e) - log_density(X - e)) / 2e-5 for e in step]
    bends = [(law.score_of(X + e)[0] - law.score_of(X - e)[0]) / 2e-5 for e in step]
    np.testing.assert_allclose(score, np.stack(slopes, 1), atol=1e-6)
    np.testing.assert_allclose(jacobian, np.stack(bends, 2), atol=1e-6)


def leaf_and_rest(law):
    leaf = int(np.flatnonzero((law.weights != 0).sum(1) == 0)[0])
    return leaf, np.delete(np.arange(len(law.weights)), leaf)


def test_residue_identity_has_a_minus():
    """s_j of the features left is s_j - s_l H_lj / H_ll; with a plus it is something else."""
    law = sines(5, 0)
    X = law.sample(100, 1)
    leaf, rest = leaf_and_rest(law)
    score, jacobian = law.score_of(X)
    exact, _ = law.score_of(X, rest)
    residue = score[:, [leaf]] * jacobian[:, leaf][:, rest] / jacobian[:, leaf, [leaf]]
    np.testing.assert_allclose(score[:, rest] - residue, exact, atol=1e-12)
    assert np.abs(score[:, rest] + residue - exact).max() > 1
    np.testing.assert_allclose(without_leaves(score, jacobian, [leaf])[0], exact, atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_the_score_without_several_leaves(seed):
    law = sines(6, seed)
    X = law.sample(50, 1)
    order = list(nx.topological_sort(nx.DiGraph(law.weights != 0)))
    kept = sorted(order[:3])
    moved, deviations = X, X.std(0)
    for place in range(1, 4):
        some = sorted(order[-place:])
        score, jacobian, moved = marginal_score(law.score_of, moved, some, deviations)
    np.testing.assert_array_equal(moved[:, kept], X[:, kept])
    exact_score, exact_jacobian = law.score_of(X, kept)
    np.testing.assert_allclose(score, exact_score, atol=1e-6)
    np.testing.assert_allclose(jacobian, exact_jacobian, atol=1e-6)


def test_linear_gaussian_scores_marginalise_exactly():
    random = np.random.default_rng(0)
    factor = random.normal(size=(4, 4))
    covariance = factor @ factor.T + np.eye(4)
    X, precision = random.normal(size=(10, 4)), np.linalg.inv(covariance)
    jacobian = np.broadcast_to(-precision, (10, 4, 4))
    score, left = without_leaves(-X @ precision, jacobian, [1, 2])
    kept = np.ix_([0, 3], [0, 3])
    np.testing.assert_allclose(left[0], -np.linalg.inv(covariance[kept]))
    np.testing.assert_allclose(score, -X[:, [0, 3]] @ np.linalg.inv(covariance[kept]))


def table(n=200, d=4, seed=0):
    return make_anm(n, d, noise_variance=1.0, random_state=seed).data


# Orders and graphs.


def quadratic_pair(n=1000, seed=0):
    random = np.random.default_rng(seed)
    cause = random.normal(size=n)
    return np.column_stack([cause**2 + random.normal(size=n), cause])


ESTIMATORS = {
    "Stein": SteinScoreEstimator(),
    "kernel family": KernelExponentialFamily(),
    "mixture": DensityScoreEstimator(GMMScoreEstimator(8, random_state=0, standard_errors=False)),
}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_quadratic_cause_has_a_varying_curvature(name):
    X = quadratic_pair()
    diagonal = clone(ESTIMATORS[name]).fit(X).score_jacobian(X, diagonal=True)
    assert diagonal[:, 1].var() > 3 * diagonal[:, 0].var()
    found = ScoreCausalDiscovery(ESTIMATORS[name]).fit(X)
    np.testing.assert_array_equal(found.order_, [1, 0])
    # Entry [i, j] stands for an edge from i to j.
    np.testing.assert_array_equal(found.adjacency_, [[0, 0], [1, 0]])
    assert found.edge_pvalues_[1, 0] < 1e-10 and np.isnan(found.edge_pvalues_[0, 1])


def test_the_mean_curvature_orders_linear_gaussian_pairs():
    random = np.random.default_rng(0)
    cause = random.normal(size=1000)
    X = np.column_stack([1.5 * cause + random.normal(size=1000), cause])
    found = ScoreCausalDiscovery(criterion="mean").fit(X)
    np.testing.assert_array_equal(found.order_, [1, 0])
    mean = SteinScoreEstimator().fit(X).score_jacobian(diagonal=True).mean(0)
    # Without an estimate: -1 and -1 - 1.5^2.
    assert -2 < mean[0] < -0.5 and -6.5 < mean[1] < -1.6


@pytest.mark.parametrize("noise", ["normal", "laplace", "gumbel", "exponential"])
def test_residuals_order_pairs_with_any_noise(noise):
    random = np.random.default_rng(0)
    draw = random.normal if noise == "normal" else getattr(random, noise)
    right = 0
    for _ in range(5):
        cause = draw(size=300)
        effect = np.sin(2 * cause) + cause**2 + 0.7 * draw(size=300)
        found = ScoreCausalDiscovery(criterion="residual", pruning=None).fit(
            np.column_stack([effect, cause])
        )
        right += found.order_.tolist() == [1, 0]
    assert right >= 4


@OF_UNITS
def test_the_relative_variance_orders_standardised_pairs():
    random, right = np.random.default_rng(0), 0
    for _ in range(8):
        cause = random.normal(size=500)
        X = np.column_stack([cause**2 + 0.5 * random.normal(size=500), cause])
        options = {"criterion": "relative_variance", "pruning": None, "standardize": True}
        right += ScoreCausalDiscovery(**options).fit(X).order_.tolist() == [1, 0]
    assert right >= 7


def test_das_tests_all_but_a_few_of_the_predecessors():
    random = np.random.default_rng(0)
    effects = np.abs(random.normal(size=(400, 12)))
    effects[:, [2, 5, 9]] += 3
    effects[:, [7]] += 1
    kept = jacobian_candidates(effects, 0.01)
    assert {2, 5, 7, 9} <= set(kept) and len(kept) < 10
    # Without effects, the strongest few pass without a test.
    alike = np.tile(effects[:, :1], 12)
    assert len(jacobian_candidates(alike, 0.01)) == 5


@OF_UNITS
def test_das_leaves_out_predecessors_before_the_splines():
    anm = make_anm(500, 12, edges_per_node=1, random_state=0)
    das, cam = (
        ScoreCausalDiscovery(pruning=name, alpha=0.05).fit(anm.data) for name in ("das", "cam")
    )
    assert (np.nan_to_num(das.edge_pvalues_, nan=1.0) == 1).sum() > (
        np.nan_to_num(cam.edge_pvalues_, nan=1.0) == 1
    ).sum()


def test_tables_from_which_no_order_can_be_learned():
    X = table(60, 4)
    with pytest.warns(UserWarning, match=r"linear combinations: \d"):
        ScoreCausalDiscovery(pruning=None).fit(np.column_stack([X, X[:, 0] + X[:, 1]]))
    with pytest.warns(UserWarning, match="4 samples of 4 features, too few"):
        ScoreCausalDiscovery(pruning=None).fit(X[:4])


CRITERIA = ["variance", "relative_variance", "mean", "residual"]


@OF_UNITS
@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("pruning", ["cam", "das", None])
def test_renumbering_features_renumbers_the_graph(criterion, pruning):
    X, order = table(150, 5), np.array([3, 0, 4, 2, 1])
    plain = ScoreCausalDiscovery(criterion=criterion, pruning=pruning).fit(X)
    other = ScoreCausalDiscovery(criterion=criterion, pruning=pruning).fit(X[:, order])
    np.testing.assert_array_equal(order[other.order_], plain.order_)
    np.testing.assert_array_equal(other.adjacency_, plain.adjacency_[np.ix_(order, order)])
    np.testing.assert_allclose(other.noise_variances_, plain.noise_variances_[order])
    assert nx.is_directed_acyclic_graph(plain.to_networkx())


@OF_UNITS
def test_units_and_samples_in_another_order():
    X = table(200, 5)
    plain = ScoreCausalDiscovery().fit(X)
    scaled = ScoreCausalDiscovery().fit(1e4 * X - 3)
    np.testing.assert_array_equal(plain.order_, scaled.order_)
    np.testing.assert_allclose(scaled.noise_variances_, 1e8 * plain.noise_variances_, rtol=1e-5)
    units = np.array([1e-3, 1.0, 20.0, 5e5, 3.0])
    options = {"standardize": True, "criterion": "relative_variance"}
    found = [ScoreCausalDiscovery(**options).fit(X * u) for u in (1.0, units)]
    np.testing.assert_array_equal(found[0].order_, found[1].order_)
    np.testing.assert_array_equal(found[0].adjacency_, found[1].adjacency_)
    ratios = found[1].noise_variances_ / found[0].noise_variances_
    np.testing.assert_allclose(ratios, units**2, rtol=1e-5)
    reversed_ = ScoreCausalDiscovery().fit(X[::-1])
    np.testing.assert_array_equal(reversed_.order_, plain.order_)


def test_equivalent_orders_have_the_same_parents():
    anm = make_anm(500, 6, random_state=2)
    graph = nx.DiGraph(anm.adjacency)
    orders = list(nx.all_topological_sorts(graph))
    graphs = []
    for order in (orders[0], orders[-1]):
        allowed = np.zeros((6, 6), dtype=bool)
        for place, j in enumerate(order):
            allowed[order[:place], j] = True
        graphs.append(spline_pvalues(anm.data, order, allowed) < 1e-3)
    assert orders[0] != orders[-1]
    np.testing.assert_array_equal(graphs[0], graphs[1])


def test_pvalues_of_splines_are_uniform_without_an_effect_and_small_with_one():
    random = np.random.default_rng(0)
    null = []
    for _ in range(150):
        X, noise = random.normal(size=(200, 2)), random.normal(size=200)
        values = additive_pvalues(np.sin(2 * X[:, 0]) + 0.5 * noise, X)
        assert values[0] < 1e-6
        null.append(values[1])
    assert 0.02 < np.mean(np.array(null) < 0.1) < 0.2 and 0.4 < np.mean(null) < 0.6


def test_more_predecessors_than_the_samples_suffice_for():
    random = np.random.default_rng(0)
    X = random.normal(size=(80, 60))
    values = additive_pvalues(X[:, 7] ** 2 + 0.1 * random.normal(size=80), X)
    assert values[7] < 1e-6 and (values == 1).sum() >= 50
    few = np.column_stack([X[:, 0] > 0, np.round(X[:, 1])]).astype(float)
    assert additive_pvalues(few[:, 0] + 0.1 * X[:, 2], few)[0] < 1e-10


@OF_UNITS
@pytest.mark.slow
def test_random_graphs_are_found_and_found_better_than_by_variance():
    errors, divergences, by_variance, few = [], [], [], []
    for seed in range(10):
        anm = make_anm(1000, 10, noise_variance=1.0, random_state=seed)
        found = ScoreCausalDiscovery().fit(anm.data)
        errors.append(structural_hamming_distance(anm.adjacency, found.adjacency_))
        divergences.append(order_divergence(found.order_, anm.adjacency))
        assert errors[-1] >= divergences[-1]
        _, graph = sort_by_variance(anm.data)
        by_variance.append(structural_hamming_distance(anm.adjacency, graph))
        start = ScoreCausalDiscovery(pruning=None).fit(anm.data[:100])
        few.append(order_divergence(start.order_, anm.adjacency))
    assert np.mean(errors) <= 2.0 and np.mean(divergences) <= 0.8
    assert np.mean(errors) < np.mean(by_variance)
    assert np.mean(few) >= np.mean(divergences)


@OF_UNITS
def test_smaller_random_graphs_are_found():
    errors, by_variance = [], []
    for seed in range(5):
        anm = make_anm(400, 6, noise_variance=1.0, random_state=seed)
        found = ScoreCausalDiscovery().fit(anm.data)
        errors.append(structural_hamming_distance(anm.adjacency, found.adjacency_))
        _, graph = sort_by_variance(anm.data)
        by_variance.append(structural_hamming_distance(anm.adjacency, graph))
    assert np.mean(errors) <= 2.0 and np.mean(errors) < np.mean(by_variance)


def figures(order, adjacency, true):
    return (
        order_divergence(order, true),
        structural_hamming_distance(true, adjacency),
        structural_intervention_distance(true, adjacency),
    )


def test_sachs_has_the_published_figures_which_sorting_by_variance_matches():
    sachs = load_sachs()
    true = sachs.adjacency
    assert true.sum() == len(sachs.edges) == 17
    assert nx.is_directed_acyclic_graph(nx.DiGraph(true))
    assert true[sachs.feature_names.index("PKC"), sachs.feature_names.index("PKA")] == 1
    with pytest.warns(UserWarning, match="order may be one of the features' units"):
        found = ScoreCausalDiscovery().fit(sachs.data)
    assert figures(found.order_, found.adjacency_, true) == (8, 12, 45)
    assert found.score(true_graph=true) == pytest.approx(4 / 9)
    assert figures(*sort_by_variance(sachs.data), true) == (7, 12, 45)


def test_standardised_sachs_is_no_better_than_the_empty_graph():
    sachs = load_sachs()
    found = ScoreCausalDiscovery(standardize=True).fit(sachs.data)
    assert figures(found.order_, found.adjacency_, sachs.adjacency)[1] >= 16


# What a fitted graph offers.


@pytest.fixture(scope="module")
def named():
    anm = make_anm(200, 4, noise_variance=1.0, random_state=0)
    frame = pd.DataFrame(anm.data, columns=list("dbca"))
    return frame, anm.adjacency, ScoreCausalDiscovery().fit(frame)


def test_graphs_with_names(named):
    frame, true, found = named
    matrix, graph = found.adjacency_matrix_, found.causal_graph_
    assert list(matrix.columns) == list(matrix.index) == list(frame.columns)
    assert list(graph.nodes) == [frame.columns[j] for j in found.order_]
    for i, source in enumerate(frame.columns):
        for j, target in enumerate(frame.columns):
            assert graph.has_edge(source, target) == matrix.loc[source, target]
            if graph.has_edge(source, target):
                assert graph.edges[source, target]["pvalue"] == found.edge_pvalues_[i, j]
    shown = nx.relabel_nodes(nx.DiGraph(true), dict(enumerate(frame.columns)))
    labelled = pd.DataFrame(true, index=frame.columns, columns=frame.columns)
    for metric in ("f1", "auc", "neg_shd", "neg_sid", "neg_order_divergence"):
        values = [
            found.score(frame, true_graph=graph, metric=metric)
            for graph in (true, shown, labelled.loc[list("abcd"), list("abcd")])
        ]
        assert values[0] == values[1] == values[2]
    assert found.score(true_graph=found.adjacency_) == 1
    unnamed = ScoreCausalDiscovery().fit(frame.to_numpy())
    np.testing.assert_array_equal(unnamed.adjacency_matrix_, found.adjacency_)
    assert set(unnamed.to_networkx().nodes) == {0, 1, 2, 3}


def test_without_networkx_an_error_names_the_extra(named, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "networkx", None)
    with pytest.raises(ImportError, match=r"pip install 'sklearn_dsm\[graphs\]'"):
        named[2].to_networkx()


def test_stability_is_reproducible_and_sure_of_a_strong_edge():
    found = ScoreCausalDiscovery().fit(quadratic_pair(400))
    stability = found.stability(6, random_state=0)
    np.testing.assert_array_equal(stability.edges, [[0, 0], [1, 0]])
    np.testing.assert_array_equal(stability.order + stability.order.T, 1 - np.eye(2))
    again = pickle.loads(pickle.dumps(found)).stability(6, random_state=0)
    np.testing.assert_array_equal(again.order, stability.order)
    with pytest.raises(ValueError, match="n_bootstrap"):
        found.stability(0)


def test_varsortability_of_rising_and_falling_variances():
    X = np.random.default_rng(0).normal(size=(500, 3)) * [1.0, 2.0, 4.0]
    chain = np.array([[0, 1, 0], [0, 0, 1], [0, 0, 0]])
    assert varsortability(X, chain) == 1 and varsortability(X, chain.T) == 0
    assert varsortability(X / X.std(0), chain) == 0.5
    assert np.isnan(varsortability(X, np.zeros((3, 3))))
    order, _ = sort_by_variance(X[:, ::-1])
    np.testing.assert_array_equal(order, [2, 1, 0])


def test_errors_of_tables_and_options():
    X = table(100, 3)
    with pytest.raises(ValueError, match="minimum of 2 is required"):
        ScoreCausalDiscovery().fit(X[:, :1])
    with pytest.raises(ValueError, match=r"Column\(s\) 1 hold one value only"):
        ScoreCausalDiscovery().fit(X * [1, 0, 1])
    with pytest.raises(ValueError, match="Column 3 is a linear function of column 0"):
        ScoreCausalDiscovery().fit(np.column_stack([X, 2 - X[:, 0]]))
    missing = pd.DataFrame(X, columns=list("abc"))
    missing.loc[3, "b"] = np.nan
    with pytest.raises(ValueError, match=r"(?s)column 'b' has 1 missing values.*SimpleImputer"):
        ScoreCausalDiscovery().fit(missing)
    with pytest.raises(ValueError, match="removal='residue' needs the score at samples"):
        ScoreCausalDiscovery(removal="residue").fit(X)
    with pytest.raises(TypeError, match="DensityScoreEstimator"):
        ScoreCausalDiscovery(GMMScoreEstimator()).fit(X)
    found = ScoreCausalDiscovery(pruning=None).fit(X)
    assert found.edge_pvalues_ is None and found.adjacency_.sum() == 3
    with pytest.raises(ValueError, match="pass true_graph"):
        found.score(X)
    with pytest.raises(ValueError, match="ranks edges by p-values"):
        found.score(true_graph=np.triu(np.ones((3, 3)), 1), metric="auc")


# scikit-learn's checks.

CHECKED = [
    SteinScoreEstimator(),
    KernelExponentialFamily(20),
    DensityScoreEstimator(KernelScoreEstimator()),
    ScoreCausalDiscovery(),
]


NEEDS_TRUTH = "score compares the graph with the true one, which no check passes"
WITH_SCORE = (
    "check_fit_score_takes_y",
    "check_pipeline_consistency",
    "check_array_api_input",
)


def excused(estimator):
    """Checks that an estimator need not pass, and why."""
    if not isinstance(estimator, ScoreCausalDiscovery):
        return {}
    return dict.fromkeys(WITH_SCORE, NEEDS_TRUTH)


@OF_UNITS
@parametrize_with_checks(CHECKED, expected_failed_checks=excused, **STRICT)
def test_sklearn_checks(estimator, check):
    check(estimator)


@OF_UNITS
@pytest.mark.parametrize("estimator", CHECKED, ids=lambda each: type(each).__name__)
def test_sklearn_checks_left_out_of_its_list(estimator):
    check_param_validation(type(estimator).__name__, estimator)
    if not isinstance(estimator, ScoreCausalDiscovery):  # NEEDS_TRUTH
        check_dataframe_column_names_consistency(type(estimator).__name__, estimator)
