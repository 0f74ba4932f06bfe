"""Laws of polynomial exponential families fitted by score matching."""

from inspect import signature

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.utils.estimator_checks import (
    check_dataframe_column_names_consistency,
    check_param_validation,
    parametrize_with_checks,
)

from sklearn_dsm import ExponentialFamilyEstimator
from sklearn_dsm._polynomials import polynomial
from sklearn_dsm.datasets import make_polynomial_family
from sklearn_dsm.graphical import _polynomial_moments

CHAIN = [(0, 1), (1, 2), (2, 3)]
# Earlier versions of scikit-learn have strict xfails alone.
STRICT = (
    {"xfail_strict": True}
    if "xfail_strict" in signature(parametrize_with_checks).parameters
    else {}
)
CHECKED = [ExponentialFamilyEstimator(2), ExponentialFamilyEstimator(l1_bound=1.0)]


def excused(estimator):
    """Checks that an estimator need not pass, and why."""
    if estimator.l1_bound:
        return {}
    return {
        "check_sample_weight_equivalence_on_dense_data": "15 samples of 30 features have no "
        "unique coefficients without a bound",
        "check_array_api_input": "two of the features are linear combinations of others",
    }


@pytest.mark.filterwarnings("ignore:The mean of column")
@parametrize_with_checks(CHECKED, expected_failed_checks=excused, **STRICT)
def test_sklearn_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize(
    "check", [check_param_validation, check_dataframe_column_names_consistency]
)
@pytest.mark.parametrize("estimator", CHECKED)
def test_sklearn_checks_left_out_of_its_list(estimator, check):
    check(type(estimator).__name__, estimator)


@pytest.fixture(scope="module")
def chain():
    return make_polynomial_family(8000, "quartic", random_state=0)


def normal_samples(n=400, d=4, seed=0):
    random = np.random.default_rng(seed)
    return random.normal(size=(n, d)) @ random.normal(size=(d, d)) + random.normal(size=d)


def coef_of_normal(exponents, mean, precision):
    """The coefficients of the logarithm of a normal density."""
    coef = []
    for powers in exponents:
        i, j = np.repeat(np.arange(len(mean)), powers)[[0, -1]]
        if powers.sum() == 1:
            coef.append((precision @ mean)[i])
        else:
            coef.append(-precision[i, j] / (2 if i == j else 1))
    return np.array(coef)


def equations(X, exponents, i, base_degree=None):
    """H and b at a feature, by the formulas, and which terms hold the feature."""
    own = np.flatnonzero(exponents[:, i])
    power = exponents[own, i]
    f = np.prod(X[:, None, :] ** exponents[own], axis=2)
    F, second = power * f / X[:, [i]], power * (power - 1) * f / X[:, [i]] ** 2
    b = second.mean(0)
    if base_degree:
        b = b - (F * base_degree * X[:, [i]] ** (base_degree - 1)).mean(0)
    return F.T @ F / len(X), b, own


def true_coef(exponents, family):
    known = {tuple(e): c for e, c in zip(family.exponents, family.coef, strict=True)}
    return np.array([known.get(tuple(e), 0.0) for e in exponents])


# --- the estimate


def test_degree_two_is_the_normal_distribution():
    X = normal_samples()
    estimator = ExponentialFamilyEstimator(2).fit(X)
    precision = np.linalg.inv(np.cov(X.T, bias=True))
    expected = coef_of_normal(estimator.exponents_, X.mean(0), precision)
    np.testing.assert_allclose(estimator.coef_, expected, atol=1e-8)
    np.testing.assert_allclose(estimator.stein_score(X), -(X - X.mean(0)) @ precision, atol=1e-8)


@pytest.mark.parametrize(
    "params",
    [
        {"degree": 3},
        {"degree": 3, "base_degree": 4},
        {"degree": 3, "interaction_order": 3, "multilinear": True, "base_degree": 6},
    ],
)
def test_local_coefficients_solve_the_equations_of_their_feature(params):
    """Signs and factors of H and b, in the units of the input."""
    X = normal_samples(d=3) / 2 + 0.3
    estimator = ExponentialFamilyEstimator(**params).fit(X)
    exponents = estimator.exponents_
    for i in range(3):
        H, b, own = equations(X, exponents, i, params.get("base_degree"))
        local = estimator.local_coef_[i]
        np.testing.assert_allclose(local[own], -np.linalg.solve(H, b), rtol=1e-6, atol=1e-8)
        assert not np.delete(local, own).any()
    n_nodes = (exponents > 0).sum(1)
    np.testing.assert_allclose(estimator.coef_, estimator.local_coef_.sum(0) / n_nodes)


def test_terms_of_the_family():
    X = normal_samples(d=3)
    exponents = ExponentialFamilyEstimator(2).fit(X).exponents_
    assert ["".join(map(str, e)) for e in exponents] == (
        ["100", "010", "001", "200", "110", "101", "020", "011", "002"]
    )
    assert len(ExponentialFamilyEstimator(4).fit(normal_samples()).exponents_) == 52
    family = ExponentialFamilyEstimator(3, interaction_order=3, multilinear=True, base_degree=4)
    assert len(family.fit(normal_samples(d=6)).exponents_) == 41


def test_coefficients_do_not_depend_on_the_size_of_chunks(monkeypatch):
    X = normal_samples()
    whole = ExponentialFamilyEstimator(3).fit(X)
    monkeypatch.setattr(_polynomial_moments, "CHUNK_NUMBERS", 500)
    monkeypatch.setattr(polynomial, "CHUNK_NUMBERS", 500)
    parts = ExponentialFamilyEstimator(3).fit(X)
    np.testing.assert_allclose(parts.coef_, whole.coef_, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(parts.edge_pvalues_, whole.edge_pvalues_, rtol=1e-6)
    np.testing.assert_allclose(parts.score_jacobian(X), whole.score_jacobian(X))


@pytest.mark.parametrize(
    "params", [{"degree": 4}, {"degree": 4, "alpha": 0.1}, {"degree": 3, "l1_bound": 2.0}]
)
def test_permuted_columns_permute_the_graph(params, chain):
    X, _ = chain
    order = [2, 0, 3, 1]
    plain = ExponentialFamilyEstimator(**params).fit(X[:2000])
    permuted = ExponentialFamilyEstimator(**params).fit(X[:2000, order])
    where = {tuple(e): k for k, e in enumerate(plain.exponents_[:, order])}
    index = [where[tuple(e)] for e in permuted.exponents_]
    np.testing.assert_allclose(permuted.coef_, plain.coef_[index], rtol=1e-6, atol=1e-7)
    assert (permuted.adjacency_ == plain.adjacency_[np.ix_(order, order)]).all()


def test_coefficients_have_the_inverse_units_of_their_terms(chain):
    X, _ = chain
    scale = np.array([1e-3, 1.0, 10.0, 500.0])
    plain = ExponentialFamilyEstimator().fit(X)
    scaled = ExponentialFamilyEstimator().fit(X * scale)
    unit = np.prod(scale**plain.exponents_, axis=1)
    np.testing.assert_allclose(scaled.coef_ * unit, plain.coef_, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(scaled.coef_stderr_ * unit, plain.coef_stderr_, rtol=1e-7)
    np.testing.assert_allclose(scaled.edge_pvalues_, plain.edge_pvalues_, rtol=1e-5)


def test_an_offset_leaves_the_highest_terms_as_they_are(chain):
    X, _ = chain
    plain = ExponentialFamilyEstimator().fit(X)
    moved = ExponentialFamilyEstimator().fit(X + np.array([3.0, -2.0, 10.0, 0.0]))
    highest = plain.exponents_.sum(1) == 4
    np.testing.assert_allclose(moved.coef_[highest], plain.coef_[highest], rtol=1e-6, atol=1e-8)


def test_a_weight_is_so_many_equal_samples():
    X = normal_samples(60, 3)
    weight = np.random.default_rng(1).integers(0, 4, 60)
    for params in ({"degree": 3}, {"degree": 2, "alpha": 0.05}):
        weighted = ExponentialFamilyEstimator(**params).fit(X, sample_weight=weight)
        repeated = ExponentialFamilyEstimator(**params).fit(np.repeat(X, weight, axis=0))
        np.testing.assert_allclose(weighted.coef_, repeated.coef_, rtol=1e-6, atol=1e-9)
        if weighted.coef_stderr_ is not None:
            np.testing.assert_allclose(weighted.coef_stderr_, repeated.coef_stderr_, rtol=1e-6)


# --- penalty and bound


def test_a_penalised_fit_meets_the_conditions_of_its_minimum(chain):
    X, _ = chain
    estimator = ExponentialFamilyEstimator(alpha=0.1).fit(X)
    assert 0 < (estimator.coef_ != 0).sum() < len(estimator.coef_)
    for i in range(4):
        H, b, own = equations(X, estimator.exponents_, i)
        local = estimator.local_coef_[i, own]
        gradient = H @ local + b
        on = local != 0
        np.testing.assert_allclose(gradient[on], -0.1 * np.sign(local[on]), atol=1e-8)
        assert np.abs(gradient[~on]).max() <= 0.1 + 1e-5
    assert estimator.coef_pvalues_ is None
    with pytest.raises(ValueError, match="has no p-values"):
        estimator.adjacency()


def test_local_coefficients_stay_in_the_ball(chain):
    X, _ = chain
    free = ExponentialFamilyEstimator().fit(X)
    norms = np.abs(free.local_coef_).sum(1)
    for share in (0.1, 0.5, 0.9):
        bound = share * norms.min()
        bounded = ExponentialFamilyEstimator(l1_bound=bound).fit(X)
        np.testing.assert_allclose(np.abs(bounded.local_coef_).sum(1), bound, atol=1e-8)
        assert bounded.coef_stderr_ is None
        # The penalty whose solution has this norm has the same solution.
        H, b, own = equations(X, free.exponents_, 0)
        gradient = np.abs(H @ bounded.local_coef_[0, own] + b)
        alone = ExponentialFamilyEstimator(alpha=gradient.max()).fit(X)
        np.testing.assert_allclose(alone.local_coef_[0], bounded.local_coef_[0], atol=1e-5)
    wide = ExponentialFamilyEstimator(l1_bound=2 * norms.max()).fit(X)
    np.testing.assert_array_equal(wide.coef_, free.coef_)
    np.testing.assert_array_equal(wide.coef_stderr_, free.coef_stderr_)


def test_a_bound_between_the_norms_binds_some_features_only(chain):
    X, _ = chain
    free = ExponentialFamilyEstimator().fit(X)
    norms = np.abs(free.local_coef_).sum(1)
    bound = np.median(norms)
    bounded = ExponentialFamilyEstimator(l1_bound=bound).fit(X)
    inside = norms <= bound
    np.testing.assert_array_equal(bounded.local_coef_[inside], free.local_coef_[inside])
    np.testing.assert_allclose(np.abs(bounded.local_coef_[~inside]).sum(1), bound)


def test_more_terms_than_samples_need_a_bound():
    X = normal_samples(12, 6)
    with pytest.raises(ValueError, match="12 samples of positive weight, and 34 terms"):
        ExponentialFamilyEstimator().fit(X)
    estimator = ExponentialFamilyEstimator(l1_bound=1.0).fit(X)
    np.testing.assert_allclose(np.abs(estimator.local_coef_).sum(1), 1)
    with pytest.raises(ValueError, match="penalised loss has no minimum"):
        ExponentialFamilyEstimator(alpha=0.01).fit(X)
    assert not ExponentialFamilyEstimator(alpha=1e6).fit(X).coef_.any()


def test_duplicated_columns_share_a_bounded_coefficient(chain):
    X = np.column_stack([chain[0][:1000], chain[0][:1000, 0]])
    estimator = ExponentialFamilyEstimator(2, l1_bound=1.5).fit(X)
    assert (np.abs(estimator.local_coef_).sum(1) <= 1.5 + 1e-8).all()


def test_a_fit_cut_short_warns(chain):
    with pytest.warns(ConvergenceWarning, match="raise max_iter"):
        ExponentialFamilyEstimator(alpha=0.01, max_iter=2).fit(chain[0])


def test_a_grid_search_chooses_the_penalty_by_the_score():
    X = normal_samples(30, 5)
    search = GridSearchCV(ExponentialFamilyEstimator(2), {"alpha": [0.01, 0.1, 10.0]})
    search.fit((X - X.mean(0)) / X.std(0))
    assert search.best_params_["alpha"] < 10


# --- the graph


def test_the_structure_of_a_chain_is_recovered(chain):
    X, family = chain
    assert family.maximal_cliques == CHAIN
    estimator = ExponentialFamilyEstimator(threshold=0.3).fit(X)
    assert estimator.maximal_cliques_ == CHAIN
    expected = np.diag(np.ones(3, dtype=int), 1)
    np.testing.assert_array_equal(estimator.adjacency_, expected + expected.T)
    deleted = (estimator.exponents_[:, [0, 3]] > 0).all(1)
    assert not estimator.coef_[deleted].any() and np.isnan(estimator.coef_pvalues_[deleted]).all()
    assert estimator.edge_pvalues_[0, 3] == 1


@pytest.mark.slow
def test_the_structure_of_a_chain_is_recovered_from_nine_of_ten_samples():
    n_recovered = 0
    for seed in range(10):
        X, _ = make_polynomial_family(8000, "quartic", random_state=seed)
        estimator = ExponentialFamilyEstimator(threshold=0.3).fit(X)
        n_recovered += estimator.maximal_cliques_ == CHAIN
    assert n_recovered >= 9


def test_a_clique_of_three_features_is_recovered():
    X, family = make_polynomial_family(6000, "multilinear", n_sweeps=50, random_state=0)
    estimator = ExponentialFamilyEstimator(
        3, interaction_order=3, multilinear=True, base_degree=4, threshold=0.4
    )
    assert estimator.fit(X).maximal_cliques_ == family.maximal_cliques


def test_thresholds_beyond_all_coefficients_delete_all_terms(chain):
    X, _ = chain
    nothing = ExponentialFamilyEstimator(threshold=1e9, base_degree=6).fit(X)
    assert nothing.maximal_cliques_ == [] and not nothing.coef_.any()
    everything = ExponentialFamilyEstimator(threshold=0).fit(X)
    np.testing.assert_array_equal(everything.coef_, ExponentialFamilyEstimator().fit(X).coef_)


@pytest.mark.slow
def test_the_error_falls_with_the_root_of_the_number_of_samples():
    sizes = [1000, 2000, 4000, 8000, 16000]
    estimator = ExponentialFamilyEstimator(3, interaction_order=3, multilinear=True, base_degree=4)
    errors = np.zeros(len(sizes))
    for seed in range(8):
        X, family = make_polynomial_family(sum(sizes), "multilinear", random_state=seed)
        for k, rows in enumerate(np.split(X, np.cumsum(sizes)[:-1])):
            estimator.fit(rows)
            truth = true_coef(estimator.exponents_, family)
            errors[k] += np.abs(estimator.coef_ - truth).max() / 8
    slope = np.polyfit(np.log(sizes), np.log(errors), 1)[0]
    assert -0.6 <= slope <= -0.4


# --- uncertainty


def test_estimates_from_different_features_agree(chain):
    X, _ = chain
    estimator = ExponentialFamilyEstimator().fit(X)
    for term in np.flatnonzero((estimator.exponents_ > 0).sum(1) == 2):
        i, j = np.flatnonzero(estimator.exponents_[term])
        difference = estimator.local_coef_[i, term] - estimator.local_coef_[j, term]
        errors = estimator.local_coef_stderr_[[i, j], term]
        assert abs(difference) <= 3 * np.linalg.norm(errors)


def test_standard_errors_and_tests_are_calibrated():
    """z-values of a known density have standard deviation one; p-values are uniform."""
    precision = np.array([[1.0, 0.4, 0.0], [0.4, 1.5, 0.0], [0.0, 0.0, 2.0]])
    root = np.linalg.cholesky(np.linalg.inv(precision))
    random = np.random.default_rng(0)
    z_values, rejected = [], []
    for _ in range(300):
        X = random.normal(size=(500, 3)) @ root.T
        estimator = ExponentialFamilyEstimator(2).fit(X)
        truth = coef_of_normal(estimator.exponents_, np.zeros(3), precision)
        z_values.append((estimator.coef_ - truth) / estimator.coef_stderr_)
        rejected.append(estimator.adjacency(0.05)[[0, 0, 1], [1, 2, 2]])
    np.testing.assert_allclose(np.std(z_values, axis=0), 1, atol=0.15)
    power, *errors = np.mean(rejected, axis=0)
    assert power > 0.99
    np.testing.assert_allclose(errors, 0.05, atol=0.03)


def test_corrected_tests_find_no_more_edges(chain):
    X, _ = chain
    estimator = ExponentialFamilyEstimator().fit(X)
    plain = estimator.adjacency(0.3)
    for correction in ("bonferroni", "holm", "fdr_bh"):
        corrected = estimator.adjacency(0.3, correction)
        assert (corrected <= plain).all() and (corrected == corrected.T).all()
    assert (estimator.adjacency(1e-3, "bonferroni") == np.eye(4, k=1) + np.eye(4, k=-1)).all()


def test_edge_tests_are_those_of_the_only_term():
    estimator = ExponentialFamilyEstimator(2).fit(normal_samples(100, 3))
    for term in np.flatnonzero((estimator.exponents_ > 0).sum(1) == 2):
        i, j = np.flatnonzero(estimator.exponents_[term])
        expected = estimator.coef_pvalues_[term]
        np.testing.assert_allclose(estimator.edge_pvalues_[i, j], expected, rtol=1e-8)


# --- the density


def test_scores_are_gradients_and_their_jacobian_is_the_hessian():
    X = normal_samples(50, 3)
    estimator = ExponentialFamilyEstimator(4, base_degree=6).fit(X)
    step = 1e-5 * np.eye(3)
    scores, jacobian = estimator.stein_score(X[:5]), estimator.score_jacobian(X[:5])
    assert jacobian.shape == (5, 3, 3)
    for j in range(3):
        up, down = X[:5] + step[j], X[:5] - step[j]
        difference = estimator.unnormalized_log_density(up)
        difference = (difference - estimator.unnormalized_log_density(down)) / 2e-5
        np.testing.assert_allclose(scores[:, j], difference, rtol=1e-5, atol=1e-4)
        difference = (estimator.stein_score(up) - estimator.stein_score(down)) / 2e-5
        np.testing.assert_allclose(jacobian[:, :, j], difference, rtol=1e-5, atol=1e-4)
    loss = np.trace(jacobian, axis1=1, axis2=2) + 0.5 * (scores**2).sum(1)
    np.testing.assert_allclose(estimator.score(X[:5]), -loss.mean())


def test_samples_of_a_normal_density_have_its_moments():
    X = normal_samples(500, 3)
    estimator = ExponentialFamilyEstimator(2).fit(X)
    samples = estimator.sample(4000, random_state=0)
    root = np.linalg.cholesky(np.linalg.inv(np.cov(X.T)))
    Z = (samples - X.mean(0)) @ root
    np.testing.assert_allclose(Z.mean(0), 0, atol=0.06)
    np.testing.assert_allclose(np.cov(Z.T), np.eye(3), atol=0.09)
    np.testing.assert_array_equal(samples[:10], estimator.sample(4000, random_state=0)[:10])
    assert estimator.sample().shape == (1, 3)


def test_samples_reach_a_density_far_from_the_start(chain):
    """Chains start at the mean and covariance of the training samples, which these replace."""
    X, _ = chain
    estimator = ExponentialFamilyEstimator(threshold=0.3).fit(X)
    estimator.location_ = estimator.location_ + 3
    estimator.covariance_ = 9 * estimator.covariance_
    samples = estimator.sample(3000, random_state=0, n_sweeps=60)
    np.testing.assert_allclose(samples.mean(0), X.mean(0), atol=0.06)
    np.testing.assert_allclose(samples.std(0), X.std(0), rtol=0.06)


def test_a_density_without_integral_has_no_samples():
    X = normal_samples(200, 2)
    with pytest.raises(ValueError, match="does not fall along the direction"):
        ExponentialFamilyEstimator(3).fit(X).sample()
    assert ExponentialFamilyEstimator(3, base_degree=4).fit(X).sample(3).shape == (3, 2)


# --- what is refused


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"base_degree": 3}, "base_degree=3 must be even"),
        ({"alpha": 1.0, "l1_bound": 1.0}, "two forms of one penalty"),
        ({"multilinear": True}, "no integral without a base measure"),
        ({"degree": 1}, "no integral without a base measure"),
    ],
)
def test_impossible_families_are_refused(params, message):
    with pytest.raises(ValueError, match=message):
        ExponentialFamilyEstimator(**params).fit(normal_samples())


def test_tables_without_a_graph_are_refused():
    X = pd.DataFrame(normal_samples(50, 3), columns=["a", "b", "c"])
    estimator = ExponentialFamilyEstimator(2)
    with pytest.raises(ValueError, match="minimum of 2 is required"):
        estimator.fit(X[["a"]])
    with pytest.raises(ValueError, match="'b' hold one value only"):
        estimator.fit(X.assign(b=1.0))
    with pytest.raises(ValueError, match=r"column 'c' has 1 missing values.*SimpleImputer"):
        estimator.fit(X.assign(c=X["c"].where(X.index > 0)))
    with pytest.raises(ValueError, match=r"column\(s\) '[ad]' are linear combinations.*l1_bound=1"):
        estimator.fit(X.assign(d=1 - 2 * X["a"]))
    assert not hasattr(estimator, "coef_")


def test_features_far_from_zero_warn():
    X = normal_samples(100, 2) + np.array([0, 1e5])
    with pytest.warns(UserWarning, match="The mean of column 1"):
        ExponentialFamilyEstimator(4).fit(X)
