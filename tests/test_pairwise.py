"""Laws of the pairwise models: what their estimates, intervals and tests are."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import kstest
from scipy.stats import t as student
from sklearn.base import clone
from sklearn.utils.estimator_checks import (
    check_dataframe_column_names_consistency,
    check_param_validation,
    parametrize_with_checks,
)

from sklearn_dsm import PairwiseScoreMatching
from sklearn_dsm.datasets import load_sachs, make_pairwise
from sklearn_dsm.graphical._edge_selection import corrected
from sklearn_dsm.graphical._pairwise_families import FAMILIES, family_of
from sklearn_dsm.graphical._pairwise_steps import node_equation
from sklearn_dsm.graphical._quadratic import lasso

UPPER = np.triu_indices(6, 1)
# Scikit-learn's tables have too few samples for their features here and there.
FEW = "ignore:Up to .* parameters are estimated:UserWarning"


def drawn(family, n=3000, p=6, graph="chain", seed=0):
    return make_pairwise(n, p, family=family, graph=graph, n_sweeps=40, random_state=seed)


@pytest.fixture(scope="module")
def fits():
    """A fit of each family with each kind of support, and the model of the samples."""
    found = {}
    for family in FAMILIES:
        X, model = drawn(family)
        for support in ("full", "double_selection"):
            fit = PairwiseScoreMatching(family, support=support).fit(X)
            found[family, support] = X, model, fit
    return found


def joint_estimate(family, X, weight, a, b):
    """All parameters of the pair's conditional score at once.

    The edge, its sandwich variance, and the same variance where the edge is zero.
    """
    p, k = X.shape[1], len(family.node_powers)
    roots, linears = [], []
    for node, other in ((a, b), (b, a)):
        root, linear = node_equation(family, weight, X, node)
        edge = k + int(np.flatnonzero(np.delete(np.arange(p), node) == other)[0])
        order = [edge, *np.delete(np.arange(root.shape[1]), edge)]
        roots.append(root[:, order])
        linears.append(linear[:, order])
    nothing = np.zeros((len(X), roots[0].shape[1] - 1))
    first, second = np.hstack([roots[0], nothing]), np.insert(roots[1], [1], nothing, axis=1)
    g = np.hstack([linears[0], nothing]) + np.insert(linears[1], [1], nothing, axis=1)
    gamma = (first.T @ first + second.T @ second) / len(X)
    theta = -np.linalg.solve(gamma, g.mean(0))
    without = theta.copy()
    without[0] = 0
    without[1:] = -np.linalg.solve(gamma[1:, 1:], g.mean(0)[1:])
    along = np.linalg.inv(gamma)[0]
    correction = 2 * len(X) / (2 * len(X) - len(theta)) / len(X)
    leverage = ((first @ along) ** 2 + (second @ along) ** 2) / (len(X) * along[0])
    variances = []
    for value in (without, theta):
        U = first * (first @ value)[:, None] + second * (second @ value)[:, None] + g
        influence = U @ along / (1 - leverage)
        variances.append(correction * np.mean(influence**2))
    return theta[0], *variances, 2 * len(X) / (kurtosis(influence) - 1)


def kurtosis(x):
    return np.mean(x**4) / np.mean(x**2) ** 2


@pytest.mark.parametrize("family", FAMILIES)
def test_an_edge_is_the_minimum_of_the_loss_of_its_pair(family):
    """The paper's estimate in one system of equations, without profiling."""
    X, _ = drawn(family, n=400, p=5)
    centered = family == "truncated_gaussian"
    X /= np.sqrt((X**2).mean(0))
    if family == "gaussian":
        X = (X - X.mean(0)) / X.std(0)
    fit = PairwiseScoreMatching(family, support="full").fit(X)
    for a, b in ((0, 1), (1, 4), (3, 2)):
        value, null_variance, variance, dof = joint_estimate(
            family_of(family, centered), X, "log1p", a, b
        )
        assert fit.interaction_[a, b] == pytest.approx(value, rel=1e-8)
        assert fit.edge_stderr_[a, b] == pytest.approx(np.sqrt(variance), rel=1e-8)
        assert fit.edge_dof_[a, b] == pytest.approx(dof, rel=1e-8)
        pvalue = 2 * student.sf(abs(value) / np.sqrt(null_variance), dof)
        assert fit.edge_pvalues_[a, b] == pytest.approx(pvalue, rel=1e-6)


def test_the_full_gaussian_is_the_inverse_covariance():
    X, _ = drawn("gaussian", n=300)
    fit = PairwiseScoreMatching(support="full").fit(X + 5)
    K = np.linalg.inv(np.cov(X.T, bias=True))
    np.testing.assert_allclose(fit.precision_, K, atol=1e-10)
    np.testing.assert_allclose(fit.node_coef_[:, 1], K @ (X.mean(0) + 5), atol=1e-8)
    fit = PairwiseScoreMatching(support="full", centered=True).fit(X)
    np.testing.assert_allclose(fit.precision_, np.linalg.inv(X.T @ X / 300), atol=1e-10)


def test_gaussian_variances_are_those_of_maximum_likelihood():
    X, model = drawn("gaussian", n=100_000, p=4, graph="nearest")
    K = model.precision
    fit = PairwiseScoreMatching().fit(X)
    efficient = np.outer(np.diag(K), np.diag(K)) + K**2
    upper = np.triu_indices(4, 1)
    variance = (len(X) * fit.edge_stderr_**2)[upper]
    np.testing.assert_allclose(variance, efficient[upper], rtol=0.04)


@pytest.mark.parametrize("support", ["full", "double_selection"])
@pytest.mark.parametrize("family", FAMILIES)
def test_estimates_are_near_the_truth(family, support, fits):
    """With the sign and the factor of the documented density."""
    _, model, fit = fits[family, support]
    z = ((fit.interaction_ - model.interaction) / fit.edge_stderr_)[UPPER]
    assert np.abs(z).max() < 3.5
    np.testing.assert_allclose(fit.node_coef_[:, 0], model.node_coef[:, 0], rtol=0.25)
    strong = np.abs(model.interaction) > 0
    assert np.sign(fit.interaction_[strong]).tolist() == np.sign(model.interaction[strong]).tolist()


@pytest.mark.parametrize("family", FAMILIES)
def test_outputs_are_symmetric_and_follow_the_columns(family, fits):
    X, _, fit = fits[family, "double_selection"]
    order = np.random.RandomState(0).permutation(X.shape[1])
    other = clone(fit).fit(X[:, order])
    for name in ("interaction_", "edge_stderr_", "edge_pvalues_"):
        value = getattr(fit, name)
        np.testing.assert_array_equal(value, value.T)
        np.testing.assert_allclose(getattr(other, name), value[np.ix_(order, order)], rtol=1e-6)


@pytest.mark.parametrize("support", ["full", "double_selection"])
@pytest.mark.parametrize("family", FAMILIES)
def test_units_of_features_change_no_z_statistic(family, support, fits):
    X, _, fit = fits[family, support]
    units = 10.0 ** np.array([-3, 0, 2, 1, -1, 4])
    other = clone(fit).fit(X * units)
    power = 2 if family == "normal_conditionals" else 1
    expected = fit.interaction_ / np.outer(units, units) ** power
    np.testing.assert_allclose(other.interaction_, expected, rtol=1e-6)
    np.testing.assert_allclose(other.edge_pvalues_, fit.edge_pvalues_, rtol=1e-5)
    assert other.score(X * units) == pytest.approx(fit.score(X), rel=1e-8)


def test_the_origin_of_a_gaussian_is_free(fits):
    X, _, fit = fits["gaussian", "double_selection"]
    other = clone(fit).fit(X + 100.0)
    np.testing.assert_allclose(other.interaction_, fit.interaction_, atol=1e-8)
    assert other.score(X + 100.0) == pytest.approx(fit.score(X), rel=1e-8)


def test_the_score_is_largest_at_the_full_estimate():
    """For one pair the estimate is the minimum of the loss that the score is minus of."""
    X, _ = drawn("exponential", n=500, p=2)
    fit = PairwiseScoreMatching("exponential", support="full").fit(X)
    assert fit.score(X) > 0
    best = fit.score(X)
    for change in (-0.1, 0.1):
        fit.node_coef_[0, 0] += change
        assert fit.score(X) < best + 0.05
        fit.node_coef_[0, 0] -= change


def test_intervals_are_student_s_and_p_values_near_them(fits):
    _, _, fit = fits["gaussian", "full"]
    interval = fit.confint(0.9)
    assert interval.shape == (6, 6, 2) and np.isnan(interval[0, 0]).all()
    np.testing.assert_allclose(interval.mean(-1)[UPPER], fit.interaction_[UPPER])
    half = student.ppf(0.95, fit.edge_dof_) * fit.edge_stderr_
    np.testing.assert_allclose((interval[..., 1] - interval[..., 0])[UPPER] / 2, half[UPPER])
    np.testing.assert_array_equal(fit.adjacency(0.1)[UPPER], fit.edge_pvalues_[UPPER] <= 0.1)
    # The two standard errors are one where there is no edge.
    wald = 2 * student.sf(np.abs(fit.interaction_ / fit.edge_stderr_), fit.edge_dof_)[UPPER]
    null = wald > 0.01
    np.testing.assert_allclose(fit.edge_pvalues_[UPPER][null], wald[null], rtol=0.1)


def test_corrections():
    pvalues = np.array([0.01, 0.04, 0.03, 0.5])
    np.testing.assert_allclose(corrected(pvalues, "bonferroni"), [0.04, 0.16, 0.12, 1.0])
    np.testing.assert_allclose(corrected(pvalues, "holm"), [0.04, 0.09, 0.09, 0.5])
    np.testing.assert_allclose(corrected(pvalues, "fdr_bh"), [0.04, 0.16 / 3, 0.16 / 3, 0.5])
    assert corrected(pvalues, None) is pvalues


def test_graphs_are_nested_by_correction_and_recover_the_chain(fits):
    _, model, fit = fits["gaussian", "double_selection"]
    graphs = [fit.adjacency(0.05, name) for name in ("bonferroni", "holm", "fdr_bh", None)]
    for smaller, larger in pairwise(graphs):
        assert (larger | ~smaller).all()
    np.testing.assert_array_equal(graphs[1], model.interaction != 0)
    consistent = fit.adjacency(correction="support_recovery")
    threshold = np.sqrt(2 * np.log(6)) * fit.edge_stderr_
    kept = np.abs(fit.interaction_[UPPER]) > threshold[UPPER]
    np.testing.assert_array_equal(consistent[UPPER], kept)
    assert (kept | (model.interaction[UPPER] == 0)).all()
    with pytest.raises(ValueError, match=r"level=0\.1 has no effect"):
        fit.adjacency(0.1, "support_recovery")


def test_the_test_of_a_node(fits):
    _, _, fit = fits["gaussian", "full"]
    result = fit.test_node(0, n_bootstrap=200, random_state=0)
    assert result.pvalue == pytest.approx(1 / 201)
    expected = np.sqrt(fit.n_samples_) * np.abs(fit.interaction_[0]).max()
    assert result.statistic == pytest.approx(expected)
    assert fit.test_node(0, 200, random_state=0) == result
    with pytest.raises(ValueError, match="'node' parameter"):
        fit.test_node(6)


def test_isolated_nodes_give_uniform_p_values():
    X, _ = make_pairwise(120 * 150, 4, graph="empty", random_state=0)
    pvalues = [
        PairwiseScoreMatching(support="full").fit(part).test_node(0, 200, random_state=0).pvalue
        for part in X.reshape(150, 120, 4)
    ]
    assert kstest(pvalues, "uniform").pvalue > 0.001


def test_difference_of_two_models():
    X, _ = drawn("gaussian", n=1500)
    Y, _ = drawn("gaussian", n=3000, graph="nearest", seed=1)
    first, second = PairwiseScoreMatching().fit(X), PairwiseScoreMatching().fit(Y)
    change = first.difference(second)
    np.testing.assert_array_equal(change.interaction_, first.interaction_ - second.interaction_)
    expected = np.hypot(first.edge_stderr_, second.edge_stderr_)[UPPER]
    np.testing.assert_allclose(change.edge_stderr_[UPPER], expected)
    # Between those of the smaller part and their sum, as Welch's are.
    parts = first.edge_dof_[UPPER], second.edge_dof_[UPPER]
    assert (change.edge_dof_[UPPER] >= np.minimum(*parts)).all()
    assert (change.edge_dof_[UPPER] <= np.add(*parts)).all()
    assert change.adjacency(0.01, "holm")[0].tolist() == [False, False, True, False, False, False]
    assert change.test_node(0, random_state=0).pvalue < 0.01
    same = first.difference(PairwiseScoreMatching().fit(drawn("gaussian", n=1500, seed=2)[0]))
    assert same.test_node(0, random_state=0).pvalue > 0.01
    with pytest.raises(ValueError, match="different features"):
        first.difference(PairwiseScoreMatching().fit(X[:, :5]))
    with pytest.raises(ValueError, match="different families"):
        first.difference(PairwiseScoreMatching("exponential").fit(np.abs(X)))


@pytest.mark.parametrize("family", ["gaussian", "exponential"])
def test_intervals_cover(family):
    """P-values of a pair without an edge are uniform; an edge's intervals cover it."""
    p, n, n_replicates = 5, 250, 200
    X, model = make_pairwise(n * n_replicates, p, family=family, n_sweeps=30, random_state=1)
    covered, pvalues = [], []
    for part in X.reshape(n_replicates, n, p):
        fit = PairwiseScoreMatching(family, support="full").fit(part)
        low, high = fit.confint()[0, 1]
        covered.append(low <= model.interaction[0, 1] <= high)
        pvalues.append(fit.edge_pvalues_[0, 4])
    assert 0.90 <= np.mean(covered) <= 0.985
    assert kstest(pvalues, "uniform").pvalue > 0.001


@pytest.mark.slow
def test_intervals_cover_after_selection():
    covered, far, pvalues = [], [], []
    for seed in range(200):
        X, model = make_pairwise(300, 20, graph="nearest", random_state=seed)
        fit = PairwiseScoreMatching().fit(X)
        interval = fit.confint()
        inside = (interval[..., 0] <= model.interaction) & (model.interaction <= interval[..., 1])
        covered.append(inside[0, 1])
        far.append(inside[0, 9])
        pvalues.append(fit.edge_pvalues_[0, 9])
    assert 0.90 <= np.mean(covered) <= 0.985 and 0.90 <= np.mean(far) <= 0.985
    assert kstest(pvalues, "uniform").pvalue > 0.001


@pytest.mark.slow
def test_holm_bounds_the_probability_of_a_false_edge():
    n_replicates, n_wrong = 200, 0
    for seed in range(n_replicates):
        X, model = make_pairwise(300, 20, graph="nearest", random_state=seed)
        graph = PairwiseScoreMatching().fit(X).adjacency(correction="holm")
        n_wrong += (graph & (model.interaction == 0)).any()
    assert n_wrong / n_replicates <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / n_replicates)


def test_the_published_edges_of_the_sachs_data():
    """All of one sign, positive interactions, with all cells and the exponential family."""
    sachs = load_sachs(observational=False)
    fit = PairwiseScoreMatching("exponential").fit(sachs.data)
    edges = ["PKA-PKC", "PKA-P38", "PKA-Jnk", "PKA-Plcg", "PKA-PIP2", "PIP3-PKC"]
    found = 0
    for edge in edges:
        a, b = (sachs.feature_names.index(name) for name in edge.split("-"))
        found += fit.edge_pvalues_[a, b] < 0.01 and fit.interaction_[a, b] > 0
    assert found >= 5


@pytest.mark.slow
def test_a_weight_that_grows_slowly_is_more_accurate():
    errors = {"log1p": [], "square": []}
    covered = {"log1p": [], "square": []}
    for seed in range(40):
        X, model = drawn("truncated_gaussian", n=500, graph="nearest", seed=seed)
        for weight, found in errors.items():
            fit = PairwiseScoreMatching("truncated_gaussian", weight=weight, support="full").fit(X)
            found.append((fit.interaction_ - model.interaction)[UPPER])
            low, high = np.moveaxis(fit.confint(), -1, 0)
            inside = (low <= model.interaction) & (model.interaction <= high)
            covered[weight].append(inside[UPPER].mean())
    rmse = {weight: np.sqrt(np.mean(np.square(found))) for weight, found in errors.items()}
    assert rmse["log1p"] < rmse["square"]
    assert np.mean(covered["log1p"]) >= max(0.92, np.mean(covered["square"]) - 0.01)


def test_a_penalty_that_selects_as_many_parameters_as_samples():
    X = np.random.default_rng(0).normal(size=(10, 20))
    with pytest.raises(ValueError, match=r"lam=1e-08 selects are not determined by the 10 samples"):
        PairwiseScoreMatching(lam=1e-8).fit(X)


def test_selection_keeps_what_an_edge_needs():
    X, _ = make_pairwise(400, 30, graph="chain", random_state=0)
    fit = PairwiseScoreMatching().fit(X)
    upper = np.triu_indices(30, 1)
    assert fit.support_sizes_[upper].max() < 40
    # The four own terms of two nodes and the edge are always there.
    assert fit.support_sizes_[upper].min() >= 5


def test_more_features_than_samples():
    X, model = make_pairwise(54, 55, graph="chain", random_state=0)
    fit = PairwiseScoreMatching(lam=0.5).fit(X)
    z = np.abs(fit.interaction_ / fit.edge_stderr_)
    edges = model.interaction != 0
    assert np.median(z[edges]) > 2 > 1.5 > np.median(z[~edges & ~np.eye(55, dtype=bool)])


def test_parallel_jobs_change_nothing(monkeypatch):
    monkeypatch.setattr("sklearn_dsm.graphical._pairwise_steps.GROUP_NUMBERS", 60)
    X, _ = drawn("exponential", n=200)
    fits = [
        PairwiseScoreMatching("exponential", lam=0.1, n_jobs=n_jobs).fit(X) for n_jobs in (None, 1)
    ]
    np.testing.assert_array_equal(fits[0].interaction_, fits[1].interaction_)
    monkeypatch.setattr("sklearn_dsm.graphical._pairwise_steps.GROUP_NUMBERS", 10**6)
    together = PairwiseScoreMatching("exponential", lam=0.1).fit(X)
    np.testing.assert_allclose(together.interaction_, fits[0].interaction_, rtol=1e-3)


def test_chunks_of_samples_change_nothing(monkeypatch):
    X, _ = drawn("truncated_gaussian", n=300)
    fit = PairwiseScoreMatching("truncated_gaussian").fit(X)
    monkeypatch.setattr("sklearn_dsm.graphical._pairwise_steps.CHUNK_NUMBERS", 1000)
    np.testing.assert_allclose(clone(fit).fit(X).edge_covariance_, fit.edge_covariance_)


def test_the_lasso_meets_its_conditions():
    random = np.random.RandomState(0)
    root = random.standard_normal((5, 50, 8))
    gram, linear = root.transpose(0, 2, 1) @ root / 50, random.standard_normal((5, 8))
    coef, _, converged = lasso(gram, linear, 0.5, tol=1e-12)
    gradient = (gram @ coef[..., None])[..., 0] + linear
    assert converged and (coef == 0).any() and (coef != 0).any()
    np.testing.assert_allclose(gradient[coef != 0], -0.5 * np.sign(coef[coef != 0]), atol=1e-9)
    assert (np.abs(gradient) <= 0.5 + 1e-9).all()
    free = lasso(gram, linear, 0.0, tol=1e-12).coef
    np.testing.assert_allclose(free, -np.linalg.solve(gram, linear[..., None])[..., 0], atol=1e-8)


@pytest.mark.parametrize(
    ("params", "change", "message"),
    [
        ({}, lambda X: X[:, :1], r"1 feature\(s\)"),
        ({}, lambda X: np.column_stack([X, X[:, 0]]), "Column 6 is a linear function of column 0"),
        ({}, lambda X: X * [1, 1, 0, 1, 1, 1], r"Column\(s\) 2 hold one value only"),
        ({}, lambda X: np.where(X > 2, np.nan, X), "SimpleImputer"),
        ({"family": "exponential"}, lambda X: X, "needs values from 0 to inf; column"),
        ({"support": "full"}, lambda X: X[:7], "Use support='double_selection'"),
        ({"weight": "square"}, lambda X: X, "weight='square' is for families on non-negative"),
        ({"support": "full", "lam": 0.1}, lambda X: X, "lam=0.1 has no effect"),
        (
            {"family": "normal_conditionals", "centered": True},
            lambda X: X,
            "centered=True is for the Gaussian",
        ),
        ({"family": "ising"}, lambda X: X, "'family' parameter"),
    ],
)
def test_bad_input_names_the_fix(params, change, message):
    X, _ = drawn("gaussian", n=100)
    with pytest.raises(ValueError, match=message):
        PairwiseScoreMatching(**params).fit(change(X))


def test_few_samples_for_the_parameters_warn():
    X, _ = drawn("gaussian", n=12)
    with pytest.warns(UserWarning, match="standard errors are too small"):
        PairwiseScoreMatching(support="full").fit(X)


ESTIMATORS = [PairwiseScoreMatching(), PairwiseScoreMatching("exponential")]


def excused(estimator):
    """Checks that an estimator need not pass, and why."""
    return {"check_array_api_input": "some features of its table are combinations of others"}


@pytest.mark.filterwarnings(FEW)
@parametrize_with_checks(ESTIMATORS, expected_failed_checks=excused)
def test_sklearn_checks(estimator, check):
    check(estimator)


@pytest.mark.filterwarnings(FEW)
@pytest.mark.parametrize(
    "check", [check_param_validation, check_dataframe_column_names_consistency]
)
def test_sklearn_checks_left_out_of_its_list(check):
    check("PairwiseScoreMatching", PairwiseScoreMatching())


@pytest.mark.parametrize("family", FAMILIES)
def test_drawn_samples_have_the_model_s_score(family):
    """Stein's identity: the mean of score times feature is minus one, for a bounded weight."""
    X, model = drawn(family, n=20_000, p=3)
    centered = family in ("truncated_gaussian", "gaussian")
    for node in range(3):
        root, linear = node_equation(family_of(family, centered), "log1p", X, node)
        coef = np.concatenate([model.node_coef[node], np.delete(model.interaction[node], node)])
        gradients = root * (root @ coef)[:, None] + linear
        z = gradients.mean(0) / gradients.std(0) * np.sqrt(len(X))
        assert np.abs(z).max() < 4


def test_make_pairwise_refuses_what_it_does_not_know():
    with pytest.raises(ValueError, match="graph='ring' must be one of"):
        make_pairwise(graph="ring")
    with pytest.raises(ValueError, match="n_features=1 at least 2"):
        make_pairwise(n_features=1)
    with pytest.raises(ValueError, match="density=0 must be above 0"):
        make_pairwise(density=0)
    with pytest.raises(ValueError, match="has no effect with graph='chain'"):
        make_pairwise(density=0.5)
    X, model = make_pairwise(30, 12, family="truncated_gaussian", graph="blocks", random_state=0)
    assert (X >= 0).all() and np.linalg.eigvalsh(model.precision)[0] == pytest.approx(0.1)
    assert not model.interaction[:10, 10:].any()
    again = make_pairwise(30, 12, family="truncated_gaussian", graph="blocks", random_state=0)[0]
    np.testing.assert_array_equal(X, again)
