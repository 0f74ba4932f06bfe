"""Laws of the sparse interaction matrices: minima, paths, domains and criteria."""

import warnings

import numpy as np
import pytest
from scipy.special import gammaln
from sklearn.base import clone
from sklearn.covariance import GraphicalLassoCV
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV
from sklearn.utils.estimator_checks import (
    check_dataframe_column_names_consistency,
    check_param_validation,
    parametrize_with_checks,
)

from sklearn_dsm import RegularizedScoreMatching, RegularizedScoreMatchingCV
from sklearn_dsm.datasets import make_pairwise
from sklearn_dsm.graphical._domains import WEIGHTS, box_of
from sklearn_dsm.graphical._quadratic import SymmetricDescent, round_robin
from sklearn_dsm.graphical._regularized_losses import (
    SimplexLoss,
    diagonal_multiplier,
    rank_correlation,
    sample_loss,
    simplex_sample_loss,
    weighted_loss,
)

EXACT = {"tol": 1e-11}


def gaussian(n=400, p=6, seed=0):
    return make_pairwise(n, p, graph="nearest", random_state=seed)[0]


def truncated(n=600, p=6, seed=0, graph="nearest"):
    return make_pairwise(
        n, p, family="truncated_gaussian", graph=graph, n_sweeps=40, random_state=seed
    )


def composition(n=500, m=5, seed=0):
    random = np.random.RandomState(seed)
    mixing = np.eye(m) + 0.4 * random.standard_normal((m, m))
    x = np.exp(random.standard_normal((n, m)) @ mixing)
    return x / x.sum(1, keepdims=True)


DOMAINS = {
    "real": gaussian(),
    "nonnegative": truncated()[0],
    "simplex": composition(),
    (-1.0, 4.0): np.random.RandomState(0).uniform(-1, 4, (400, 4)),
    (None, 3.0): 3 - truncated()[0],
}


@pytest.mark.parametrize("m", [2, 3, 7, 10])
def test_each_pair_meets_once(m):
    rounds = round_robin(m)
    met = [tuple(sorted(pair)) for i, j in rounds for pair in zip(i, j, strict=True)]
    assert len(met) == m * (m - 1) // 2 == len(set(met))
    assert all(len({*i, *j}) == 2 * len(i) for i, j in rounds)


@pytest.mark.parametrize("domain", DOMAINS)
def test_the_minimum_meets_its_conditions(domain):
    """The gradient of an entry is the penalty where it is not zero, and within it where it is."""
    X = DOMAINS[domain]
    model = RegularizedScoreMatching(domain=domain)
    model._set_units(X)
    loss = model._loss(X)
    alpha = 0.3 * loss.largest_alpha()
    fit = loss.minimum(alpha, tol=1e-11)
    K, m, step = fit.matrix, X.shape[1], 1e-4
    assert fit.converged
    n_edges = 0
    for j in range(m):
        for k in range(j):
            change = np.zeros((m, m))
            change[j, k] = change[k, j] = step
            if domain == "simplex":
                change[[j, k], [j, k]] = -step
            slope = (loss.loss(K + change) - loss.loss(K - change)) / (2 * step)
            if K[j, k] != 0:
                assert slope == pytest.approx(-2 * alpha * np.sign(K[j, k]), abs=1e-7)
                n_edges += 1
            assert abs(slope) <= 2 * alpha + 1e-7
    assert 0 < n_edges < m * (m - 1) / 2


@pytest.mark.parametrize("domain", DOMAINS)
def test_the_largest_penalty_is_exact(domain):
    X = DOMAINS[domain]
    largest = RegularizedScoreMatching(domain=domain).fit(X).alpha_max_
    upper = np.triu_indices(X.shape[1], 1)
    fits = [RegularizedScoreMatching(c * largest, domain=domain).fit(X) for c in (1 + 1e-9, 0.99)]
    assert not fits[0].precision_[upper].any()
    assert fits[1].precision_[upper].any()


def test_the_gaussian_without_penalty_is_the_inverse_covariance():
    X = gaussian() + 7
    fit = RegularizedScoreMatching(0.0, **EXACT).fit(X)
    np.testing.assert_allclose(fit.precision_, np.linalg.inv(np.cov(X.T, bias=True)), atol=1e-9)
    np.testing.assert_allclose(fit.location_, X.mean(0), rtol=1e-8)
    np.testing.assert_allclose(fit.covariance_, np.cov(X.T, bias=True), atol=1e-8)
    fit = RegularizedScoreMatching(0.0, centered=True, **EXACT).fit(X)
    np.testing.assert_allclose(fit.precision_, np.linalg.inv(X.T @ X / len(X)), atol=1e-8)
    # A box without bounds is the real domain.
    box = RegularizedScoreMatching(0.0, domain=(None, np.inf), **EXACT).fit(X)
    np.testing.assert_allclose(box.precision_, np.linalg.inv(np.cov(X.T, bias=True)), atol=1e-9)


def test_the_truncated_gaussian_without_penalty_solves_its_equations():
    """One linear system for the distinct entries of K and for eta, from the samples' gradients."""
    X, _ = truncated(300, 3)
    Z = X / X.std(0)
    h, slope = WEIGHTS["min3"](Z)
    entries = [(0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)]
    gram, linear = np.zeros((9, 9)), np.zeros(9)
    for j in range(3):
        features, second = np.zeros((300, 9)), np.zeros((300, 9))
        for c, (a, b) in enumerate(entries):
            if j in (a, b):
                features[:, c] = -Z[:, b if j == a else a]
            if a == b == j:
                second[:, c] = -1
        features[:, 6 + j] = 1
        gram += (h[:, [j]] * features).T @ features / 300
        linear += (h[:, [j]] * second + slope[:, [j]] * features).mean(0)
    theta = -np.linalg.solve(gram, linear)
    fit = RegularizedScoreMatching(0, domain="nonnegative", centered=False, **EXACT)
    # The unit of the weight is the standard deviation of a model with linear terms.
    fit.fit(X)
    K = fit.precision_ * np.outer(X.std(0), X.std(0))
    np.testing.assert_allclose([K[a, b] for a, b in entries], theta[:6], rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(fit.eta_ * X.std(0), theta[6:], rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("centered", [True, False])
def test_one_feature_at_a_time_has_closed_forms(centered):
    """Without interactions: Section 3 of the paper on non-negative data."""
    X, _ = truncated(graph="empty")
    fit = RegularizedScoreMatching(1e3, domain="nonnegative", centered=centered, **EXACT).fit(X)
    unit = np.sqrt((X**2).mean(0)) if centered else X.std(0)
    h, slope = WEIGHTS["min3"](X / unit)
    slope = slope / unit
    mean, variance = fit.location_, 1 / np.diagonal(fit.precision_)
    if not centered:
        expected = (h * X - variance * slope).sum(0) / h.sum(0)
        np.testing.assert_allclose(mean, expected, rtol=1e-6)
    centre = X - mean
    expected = (h * centre**2).sum(0) / (h + slope * centre).sum(0)
    np.testing.assert_allclose(variance, expected, rtol=1e-6)


@pytest.mark.parametrize("domain", ["real", "nonnegative", "simplex", (-8.0, 9.0)])
def test_the_fit_finds_the_model(domain):
    random = np.random.RandomState(0)
    if domain == "nonnegative":
        X, model = truncated(20_000, 3)
        K = model.precision
    elif domain == "simplex":
        K = np.array([[2.0, -1.0, -1.0], [-1.0, 1.5, -0.5], [-1.0, -0.5, 1.5]])
        x = np.exp(random.multivariate_normal(np.zeros(3), np.linalg.pinv(K), 20_000))
        X = x / x.sum(1, keepdims=True)
    else:
        K = np.array([[1.0, 0.5, 0.0], [0.5, 1.2, -0.4], [0.0, -0.4, 1.0]])
        X = random.multivariate_normal([1.0, 2.0, 0.0], np.linalg.inv(K), 20_000)
    fit = RegularizedScoreMatching(0.0, domain=domain).fit(X)
    np.testing.assert_allclose(fit.precision_, K, atol=0.17 if domain == "simplex" else 0.08)


def test_a_box_that_cuts_the_data_leaves_the_precision():
    random = np.random.RandomState(0)
    K = np.array([[1.0, 0.5, 0.0], [0.5, 1.2, -0.4], [0.0, -0.4, 1.0]])
    X = random.multivariate_normal([0.5, 0.0, 0.0], np.linalg.inv(K), 60_000)
    X = X[((X > -0.8) & (X < 1.5)).all(1)]
    fit = RegularizedScoreMatching(0.0, domain=(-0.8, 1.5)).fit(X)
    assert np.abs(fit.precision_ - K).max() < 0.25
    np.testing.assert_allclose(fit.location_, [0.5, 0, 0], atol=0.2)
    naive = RegularizedScoreMatching(0.0).fit(X)
    assert np.abs(naive.precision_ - K).max() > 1.5


def test_dirichlet_compositions_have_no_interactions():
    X = np.random.RandomState(0).dirichlet([2.0, 3.0, 4.0, 5.0], 4000)
    fit = RegularizedScoreMatching(1.0, domain="simplex").fit(X)
    np.testing.assert_array_equal(fit.precision_, np.zeros((4, 4)))
    np.testing.assert_allclose(fit.eta_, [2, 3, 4, 5], rtol=0.06)
    assert fit.alpha_max_ < 0.1


@pytest.mark.parametrize("domain", DOMAINS)
def test_the_score_is_minus_the_loss_of_the_fit(domain):
    """Up to the linear terms, which the loss of the fit has profiled out."""
    X = DOMAINS[domain]
    fits = [RegularizedScoreMatching(a, domain=domain, **EXACT).fit(X) for a in (0.0, 0.02)]
    loss = fits[0]._loss(X)
    matrices = [fit.precision_ * np.outer(fit.scale_, fit.scale_) for fit in fits]
    difference = loss.loss(matrices[1]) - loss.loss(matrices[0])
    assert fits[0].score(X) - fits[1].score(X) == pytest.approx(difference, abs=1e-8)
    assert difference > 0


def test_losses_of_samples_are_those_of_differences():
    """h s^2 / 2 + h s' + h' s, with the score s by differences of the log-density."""
    random = np.random.RandomState(0)
    K, eta, X = np.array([[1.0, 0.3], [0.3, 2.0]]), np.array([0.5, -0.2]), composition(20, 2)
    Z, step = random.exponential(size=(20, 2)), 1e-4
    h, slope = WEIGHTS["log1p"](Z)

    def score(Z):
        return -Z @ K + eta

    expected = 0.0
    for j in range(2):
        move = np.eye(2)[j] * step
        second = (score(Z + move) - score(Z - move))[:, j] / (2 * step)
        s = score(Z)[:, j]
        expected += (0.5 * h[:, j] * s**2 + h[:, j] * second + slope[:, j] * s).mean()
    assert sample_loss(Z, h, slope, K, eta) == pytest.approx(expected, rel=1e-6)

    # On the simplex of two parts, the plane of the log-ratios is a line.
    K = np.array([[0.7, -0.7], [-0.7, 0.7]])

    def along(t):
        logs = np.log(X) + t * np.array([1.0, -1.0]) / np.sqrt(2)
        logs -= np.log(np.exp(logs).sum(1, keepdims=True))
        return -0.5 * np.einsum("ni,ij,nj->n", logs, K, logs) + logs @ eta

    first = (along(step) - along(-step)) / (2 * step)
    second = (along(step) - 2 * along(0) + along(-step)) / step**2
    expected = (0.5 * first**2 + second).mean()
    assert simplex_sample_loss(X, K, eta) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("domain", DOMAINS)
def test_the_fit_follows_the_columns(domain):
    X = DOMAINS[domain]
    order = np.random.RandomState(1).permutation(X.shape[1])
    model = RegularizedScoreMatching(0.02, domain=domain, **EXACT)
    plain, permuted = clone(model).fit(X), clone(model).fit(X[:, order])
    np.testing.assert_allclose(
        permuted.precision_, plain.precision_[np.ix_(order, order)], atol=1e-7
    )
    np.testing.assert_array_equal(plain.precision_, plain.precision_.T)


@pytest.mark.parametrize("domain", ["real", "nonnegative"])
@pytest.mark.parametrize("centered", [True, False])
def test_the_fit_follows_the_units(domain, centered):
    X = DOMAINS[domain]
    units = 10.0 ** np.array([-3, 0, 2, 1, -1, 4])
    model = RegularizedScoreMatching(0.02, domain=domain, centered=centered, **EXACT)
    plain, scaled = clone(model).fit(X), clone(model).fit(X * units)
    expected = plain.precision_ / np.outer(units, units)
    np.testing.assert_allclose(scaled.precision_, expected, rtol=1e-5)
    np.testing.assert_allclose(scaled.location_, plain.location_ * units, rtol=1e-5)
    assert scaled.score(X * units) == pytest.approx(plain.score(X), rel=1e-8)


def test_ranks_resist_outliers_and_transforms():
    X = gaussian(800, 5)
    spoiled = np.exp(X)
    random = np.random.RandomState(0)
    wild = random.uniform(size=X.shape) < 0.005
    spoiled[wild] = 1e6 * random.standard_normal(wild.sum())
    plain = RegularizedScoreMatching(0.0).fit(X)
    upper = np.triu_indices(5, 1)

    def partial(fit):
        deviation = np.sqrt(np.diagonal(fit.precision_))
        return (fit.precision_ / np.outer(deviation, deviation))[upper]

    robust = RegularizedScoreMatching(0.0, robust="rank").fit(spoiled)
    naive = RegularizedScoreMatching(0.0).fit(spoiled)
    assert np.abs(partial(robust) - partial(plain)).max() < 0.12
    assert np.abs(partial(naive) - partial(plain)).max() > 0.3
    np.testing.assert_allclose(rank_correlation(X), rank_correlation(np.exp(X)))
    assert np.linalg.eigvalsh(rank_correlation(gaussian(8, 12)))[0] > -1e-8


def test_multipliers_of_the_diagonal():
    assert diagonal_multiplier(80, 100, unbounded=False) == pytest.approx(1.8647, abs=1e-4)
    assert diagonal_multiplier(1000, 1000, unbounded=False) < diagonal_multiplier(
        10, 1000, unbounded=False
    )
    assert diagonal_multiplier(1000, 100, unbounded=False) == pytest.approx(1.6438, abs=1e-4)
    assert 1 < diagonal_multiplier(100, 100, unbounded=True) < 2


@pytest.mark.parametrize("domain", ["real", "nonnegative"])
def test_fewer_samples_than_features(domain):
    X = gaussian(30, 40) if domain == "real" else truncated(30, 40)[0]
    fit = RegularizedScoreMatchingCV(8, domain=domain, alpha_min_ratio=0.1).fit(X)
    assert np.isfinite(fit.path_).all()
    np.testing.assert_array_equal(np.diff(fit.cv_results_["n_edges"]) >= 0, True)
    with pytest.raises(ValueError, match="diagonal_multiplier='auto'"):
        RegularizedScoreMatching(0, domain=domain, diagonal_multiplier=1).fit(X)


def test_features_that_others_determine():
    """A factor of the diagonal makes the minimum unique; without it there is none."""
    X = gaussian()
    X[:, 5] = X[:, 0] - X[:, 1] + 1
    with pytest.warns(UserWarning, match=r"Column\(s\) [0-5] are linear combinations"):
        fit = RegularizedScoreMatching(0.0).fit(X)
    assert np.isfinite(fit.precision_).all()
    with (
        pytest.warns(ConvergenceWarning, match="keep diagonal_multiplier='auto'"),
        pytest.warns(UserWarning, match="are linear combinations"),
    ):
        RegularizedScoreMatching(1e-6, diagonal_multiplier=1, max_iter=20).fit(X)


def test_the_path_is_that_of_single_fits():
    X, _ = truncated(200)
    search = RegularizedScoreMatchingCV(6, domain="nonnegative", **EXACT).fit(X)
    assert search.alphas_[0] == search.alpha_max_
    assert search.path_.shape == (6, 6, 6)
    for alpha, K in zip(search.alphas_, search.path_, strict=True):
        fit = RegularizedScoreMatching(alpha, domain="nonnegative", **EXACT).fit(X)
        np.testing.assert_allclose(fit.precision_, K, atol=1e-8)
        assert fit.alpha_max_ == search.alpha_max_
    best = search.cv_results_["ebic"].argmin()
    assert search.alpha_ == search.alphas_[best]
    np.testing.assert_array_equal(search.precision_, search.path_[best])
    given = RegularizedScoreMatchingCV(search.alphas_[[4, 1]], domain="nonnegative", **EXACT)
    np.testing.assert_allclose(given.fit(X).path_, search.path_[[1, 4]], atol=1e-8)


def test_ebic_is_what_it_says():
    """On Gaussian data the refit has a closed form if all pairs are edges, or none."""
    X = gaussian(200, 4)
    published = {"selection": "ebic", **EXACT}
    search = RegularizedScoreMatchingCV([1e-9, 10.0], gamma=0.5, **published).fit(X)
    Z = (X - X.mean(0)) / X.std(0)
    S = Z.T @ Z / 200
    full = -np.trace(np.linalg.inv(S)) / 2
    empty = -4 / 2
    expected = [2 * 200 * empty, 2 * 200 * full + 6 * np.log(200)]
    np.testing.assert_allclose(search.cv_results_["ebic"], expected, rtol=1e-6)
    middle = RegularizedScoreMatchingCV([0.3 * search.alpha_max_], gamma=1.0, **published).fit(X)
    plain = RegularizedScoreMatchingCV([0.3 * search.alpha_max_], gamma=0.0, **published).fit(X)
    edges = middle.cv_results_["n_edges"][0]
    graphs = gammaln(7) - gammaln(edges + 1) - gammaln(7 - edges)
    difference = middle.cv_results_["ebic"][0] - plain.cv_results_["ebic"][0]
    assert 0 < edges < 6 and difference == pytest.approx(2 * graphs)


@pytest.mark.parametrize("domain", ["real", "simplex"])
def test_cross_validation(domain):
    X = DOMAINS[domain]
    search = RegularizedScoreMatchingCV(8, selection="cv", cv=3, domain=domain).fit(X)
    results = search.cv_results_
    scores = np.stack([results[f"split{k}_test_score"] for k in range(3)])
    np.testing.assert_allclose(results["mean_test_score"], scores.mean(0))
    assert search.alpha_ == search.alphas_[results["mean_test_score"].argmax()]


def test_a_grid_search_takes_the_score():
    X = gaussian()
    search = GridSearchCV(RegularizedScoreMatching(), {"alpha": [0.01, 10.0]}).fit(X)
    assert search.best_params_ == {"alpha": 0.01}


def test_ebic_finds_a_chain():
    X, model = make_pairwise(1500, 8, random_state=0)
    fit = RegularizedScoreMatchingCV().fit(X)
    np.testing.assert_array_equal(fit.precision_ != 0, model.precision != 0)
    # With a boundary, fewer edges than without calibration, which keeps all of the chain.
    X, model = truncated(1500, 8, graph="chain")
    fits = [
        RegularizedScoreMatchingCV(selection=selection, domain="nonnegative").fit(X)
        for selection in ("cl_ebic", "ebic", "cv")
    ]
    graphs = [fit.precision_ != 0 for fit in fits]
    assert graphs[1][model.precision != 0].all()
    assert graphs[0].sum() <= graphs[1].sum() <= graphs[2].sum()


@pytest.mark.parametrize("domain", ["real", "nonnegative", "simplex"])
def test_an_edge_without_effect_gains_its_unit(domain):
    """What the calibrated criterion takes for the fall of 2 n L is its mean over data sets."""
    random, gains, units = np.random.RandomState(0), [], []
    for _ in range(200):
        X = random.dirichlet([2.0, 3.0], 300) if domain == "simplex" else None
        if X is None:
            X = random.standard_normal((300, 2)) + (0 if domain == "real" else 1)
            X = X if domain == "real" else X[(X > 0).all(1)]
        model = RegularizedScoreMatching(domain=domain)
        centred_null = domain != "nonnegative"
        model.set_params(centered="auto" if centred_null else False)
        model._set_units(X)
        loss = model._loss(X)
        null, full = loss.minimum(1e6), loss.minimum(0.0)
        gains.append(2 * len(X) * (loss.loss(null.matrix) - loss.loss(full.matrix)))
        units.append(model._edge_variances(X, loss, full)[0] / loss.curvatures(full.matrix)[0])
    assert np.mean(gains) == pytest.approx(np.mean(units), rel=0.35)


def edge_auc(path, truth):
    upper = np.triu_indices(len(truth), 1)
    present = np.array([K[upper] != 0 for K in path])
    first = np.where(present.any(0), present.argmax(0), len(path))
    return roc_auc_score(truth[upper] != 0, -first)


@pytest.mark.slow
def test_the_default_weight_finds_more_edges_than_its_rivals():
    areas = []
    for seed in range(5):
        X, model = make_pairwise(
            600, 20, family="truncated_gaussian", graph="blocks", random_state=seed
        )
        row = []
        for weight in ("min3", "square"):
            fit = RegularizedScoreMatchingCV(40, domain="nonnegative", weight=weight).fit(X)
            row.append(edge_auc(fit.path_, model.interaction))
        upper = np.triu_indices(20, 1)
        K = GraphicalLassoCV().fit(X / np.sqrt((X**2).mean(0))).precision_
        row.append(roc_auc_score(model.interaction[upper] != 0, np.abs(K[upper])))
        areas.append(row)
    ours, square, lasso = np.mean(areas, axis=0)
    assert ours > lasso > square
    assert ours >= 0.91


def test_conjugate_gradients_only_speed_sweeps_up(monkeypatch):
    X, _ = truncated(300)
    h, slope = WEIGHTS["min3"](X)
    descent = weighted_loss(X, h, slope, centered=True).descent
    penalty = 0.2 * descent.largest_penalty() * (1 - np.eye(6))
    fast = descent.minimum(penalty, tol=1e-12)
    monkeypatch.setattr(SymmetricDescent, "_newton_step", lambda self, K, penalty: K)
    slow = descent.minimum(penalty, tol=1e-12)
    assert fast.n_iter < slow.n_iter and slow.converged
    np.testing.assert_allclose(fast.coef, slow.coef, atol=1e-9)


def test_bounds_may_differ_by_feature():
    box = box_of(([0.0, -1.0], 2.0), 2)
    Z = np.array([[0.5, 1.9], [1.9, -0.9]])
    weight, slope = box.weights(Z, "identity")
    np.testing.assert_allclose(weight, [[0.5, 0.1], [0.1, 0.1]])
    np.testing.assert_array_equal(slope, [[1, -1], [-1, 1]])


def test_a_fit_that_does_not_converge_warns():
    with pytest.warns(ConvergenceWarning, match="Raise max_iter"):
        RegularizedScoreMatching(0.0, max_iter=1).fit(gaussian())


def test_a_failed_fit_leaves_the_earlier_one():
    fit = RegularizedScoreMatching().fit(gaussian())
    before = fit.precision_
    with pytest.raises(ValueError, match="hold one value only"):
        fit.fit(np.ones((10, 6)))
    assert fit.precision_ is before


@pytest.mark.parametrize(
    ("params", "change", "message"),
    [
        ({}, lambda X: X[:, :1], r"1 feature\(s\)"),
        ({}, lambda X: np.column_stack([X, -2 * X[:, 0]]), "is a linear function of column 0"),
        ({}, lambda X: np.where(X > 2, np.nan, X), "SimpleImputer"),
        ({"domain": "nonnegative"}, lambda X: X, "Negative values in data"),
        ({"domain": "simplex"}, lambda X: X, "needs positive parts"),
        ({"domain": "simplex"}, lambda X: np.abs(X), "Divide each sample by its sum"),
        ({"domain": (-1, 1)}, lambda X: X, "needs values from -1 to 1"),
        ({"domain": (1, -1)}, lambda X: X, "lower bounds below"),
        ({"domain": (1, 2, 3)}, lambda X: X, "a pair"),
        ({"domain": ([0, 1], 2)}, lambda X: X, r"shape \(2,\)"),
        ({"weight": "square"}, lambda X: X, "has no effect with domain='real'"),
        ({"robust": "rank", "domain": "nonnegative"}, np.abs, "robust='rank' is for"),
        ({"robust": "rank", "centered": True}, lambda X: X, "ranks know no origin"),
        ({"robust": "rank"}, lambda X: np.where(X > -1.5, 0, X), "median absolute deviation"),
        ({"domain": "simplex", "alpha": 0}, lambda X: composition(4, 6), "positive alpha"),
        ({"alpha": -1}, lambda X: X, "'alpha' parameter"),
    ],
)
def test_bad_input_names_the_fix(params, change, message):
    with pytest.raises(ValueError, match=message):
        RegularizedScoreMatching(**params).fit(change(gaussian(60)))


def test_bad_penalties_name_the_fix():
    with pytest.raises(ValueError, match="use RegularizedScoreMatching"):
        RegularizedScoreMatchingCV([0.0, 0.1]).fit(gaussian())
    with pytest.raises(ValueError, match="cv has no effect"):
        RegularizedScoreMatchingCV(cv=3).fit(gaussian())


def test_the_simplex_has_one_loss_for_every_reference_part():
    X = composition()
    loss = SimplexLoss(X)
    fit = loss.minimum(0.0, tol=1e-12)
    np.testing.assert_allclose(fit.matrix.sum(1), 0, atol=1e-12)
    refit = loss.refit(fit.matrix)
    np.testing.assert_allclose(refit.matrix, fit.matrix, atol=1e-8)


ESTIMATORS = [
    RegularizedScoreMatching(),
    RegularizedScoreMatching(domain="nonnegative"),
    RegularizedScoreMatchingCV(5),
]


# Scikit-learn's table of this kind has features that are combinations of others.
@pytest.mark.filterwarnings("ignore:.*are linear combinations of others")
@parametrize_with_checks(ESTIMATORS)
def test_sklearn_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("estimator", [ESTIMATORS[0], ESTIMATORS[2]], ids=repr)
@pytest.mark.parametrize(
    "check", [check_param_validation, check_dataframe_column_names_consistency]
)
def test_sklearn_checks_left_out_of_its_list(estimator, check):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(type(estimator).__name__, estimator)
