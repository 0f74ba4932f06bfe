"""Which rows the maps to the latent space are fitted to."""

import numpy as np
import pytest

from sklearn_dsm._mixtures.parameters import standard_gaussian
from sklearn_dsm._search.base_densities import spaces
from sklearn_dsm._search.split import Split, Table
from sklearn_dsm._transforms.fitting import fit_latent_map
from sklearn_dsm._transforms.marginal import MarginalTransform
from sklearn_dsm._transforms.whitening import Whitening


def chain(n, d, random):
    return random.standard_normal((n, d)) @ (np.eye(d) + 0.5 * np.eye(d, k=1))


@pytest.mark.parametrize("n_rows", [60, 120])
def test_held_out_rows_say_of_the_gaussian_what_fresh_rows_say(n_rows):
    """Also with hardly more rows than columns, or fewer."""
    d, gaps = 80, []
    for seed in range(6):
        random = np.random.RandomState(seed)
        X, fresh, held_out = chain(n_rows, d, random), chain(400, d, random), np.arange(n_rows) < 20
        latent = fit_latent_map(X, np.ones(n_rows), held_out, "standardize")
        gaussian = standard_gaussian(d).score_samples
        Z, log_slope = latent.forward(fresh)
        value = Split(latent, Table(X, np.ones(n_rows), held_out)).score(gaussian)
        gaps.append(value - (gaussian(Z) + log_slope).mean())
    assert abs(np.mean(gaps)) < 0.05 * d


@pytest.mark.parametrize(("n_rows", "few"), [(60, True), (400, False)])
def test_maps_of_few_rows_know_nothing_of_the_held_out_ones(n_rows, few):
    d, random = 20, np.random.RandomState(0)
    X, held_out = chain(n_rows, d, random), np.arange(n_rows) < 10
    moved = X + 3 * held_out[:, None]
    locations = [
        fit_latent_map(x, np.ones(n_rows), held_out, "standardize").part(MarginalTransform).location
        for x in (X, moved)
    ]
    assert np.array_equal(*locations) is few


def test_a_column_that_varies_in_held_out_rows_only_is_mapped_by_all():
    X, held_out = chain(30, 10, np.random.RandomState(0)), np.arange(30) < 3
    X[~held_out, 4] = 1.0
    latent = fit_latent_map(X, np.ones(30), held_out, "standardize")
    assert np.isfinite(latent.forward(X)[0]).all()


@pytest.mark.parametrize(("n_rows", "few"), [(60, True), (400, False)])
def test_the_map_of_all_rows_is_the_one_with_nothing_held_out(n_rows, few):
    """Where the map left out the held-out rows; else it has them already."""
    X, held_out = chain(n_rows, 20, np.random.RandomState(0)), np.arange(n_rows) < 10
    weight = np.ones(n_rows)
    split = Table(X, weight, held_out).split("standardize")
    found = split.map_of_all_rows()
    assert (found is split.latent) is not few
    if few:
        whole = fit_latent_map(X, weight, np.zeros(n_rows, dtype=bool), "standardize")
        for known, value in zip(whole.forward(X), found.forward(X), strict=True):
            np.testing.assert_allclose(np.abs(value), np.abs(known), rtol=1e-6)


def test_some_of_the_held_out_rows_are_a_sample_of_them_all():
    """Of a table in the order of a column and of the weights too; the rows stay together."""
    X = np.sort(np.random.RandomState(0).standard_normal((4000, 1)), axis=0)
    weight, held_out = 1 + np.exp(X[:, 0]), np.arange(4000) % 4 == 0
    split = Table(X, weight, held_out).split("standardize")
    Z, w = split.held_out_rows
    assert abs(Z[:200].mean() - Z.mean()) < 4 * Z.std() / np.sqrt(200)
    order = Z[:, 0].argsort()
    np.testing.assert_allclose(w[order], weight[held_out] / weight[held_out].mean())
    density = standard_gaussian(1).score_samples(split.latent.forward(X)[0])
    whole = np.average((density + split.latent.forward(X)[1])[held_out], weights=weight[held_out])
    assert split.score(standard_gaussian(1).score_samples) == pytest.approx(whole)


def test_a_far_row_that_weighs_next_to_nothing_leaves_correlations_alone():
    random = np.random.RandomState(0)
    X = random.standard_normal((500, 2)) @ [[1.0, 0.95], [0.0, 0.3]]
    far = np.concatenate([X, [[1e4, -1e4]]])
    nobody, whole = np.zeros(501, dtype=bool), np.ones(501)
    known = fit_latent_map(X, whole[1:], nobody[1:], "standardize")
    found = fit_latent_map(far, np.append(whole[1:], 1e-12), nobody, "standardize")
    np.testing.assert_allclose(found.forward(X)[0], known.forward(X)[0], atol=1e-3)


@pytest.mark.parametrize(("n", "n_found"), [(10, 20), (20, 20), (50, 50), (500, 200)])
def test_held_out_rows_come_first_among_others_from_all_over_the_table(n, n_found):
    X = np.sort(np.random.RandomState(0).standard_normal((200, 1)), axis=0)
    held_out = np.arange(200) % 10 == 0
    split = Table(X, np.ones(200), held_out).split("standardize")
    rows = split.at_least(n)
    assert len(rows) == n_found
    np.testing.assert_array_equal(rows[:20], split.held_out_rows[0])
    others = rows[20:]
    assert len(others) == 0 or (others.min() < -1 and others.max() > 1)


def deviations(latent):
    """Of the columns, in the units of the input."""
    coloring = latent.part(Whitening).coloring
    return np.sqrt((coloring**2).sum(0)) * latent.part(MarginalTransform).scale


@pytest.mark.parametrize("spread", [0.0, 0.1, 1.0, 5.0])
def test_deviations_of_few_rows_are_drawn_together_and_none_the_worse(spread):
    """The theorem of James and Stein; of columns in one unit hardly any error is left."""
    n, d, errors = 60, 40, []
    for seed in range(20):
        random = np.random.RandomState(seed)
        logs = spread * random.standard_normal(d)
        X = random.standard_normal((n, d)) * np.exp(logs)
        latent = fit_latent_map(X, np.ones(n), np.zeros(n, dtype=bool), "standardize")
        found = np.log(deviations(latent))
        errors.append([((log - logs) ** 2).mean() for log in (found, np.log(X.std(0)))])
    drawn, plain = np.mean(errors, axis=0)
    assert drawn < (0.2 if spread == 0 else 1.001) * plain


def test_deviations_of_many_rows_stay_as_they_are():
    X = np.random.RandomState(0).standard_normal((400, 20)) * np.arange(1, 21)
    latent = fit_latent_map(X, np.ones(400), np.zeros(400, dtype=bool), "standardize")
    np.testing.assert_allclose(deviations(latent), X.std(0), rtol=1e-9)


def is_bent(split):
    return len(split.latent.part(MarginalTransform).curved) > 0


@pytest.mark.parametrize(("shape", "bent"), [(1.0, True), (8.0, False)])
def test_columns_of_few_rows_are_bent_where_all_of_the_rows_prefer_it(shape, bent):
    """A gamma law is far from normal or near to it; the information criterion bends both."""
    n, d, kept = 80, 40, []
    for seed in range(5):
        random = np.random.RandomState(seed)
        X, held_out = random.gamma(shape, size=(n, d)), random.permutation(n) < 8

        table = Table(X, np.ones(n), held_out)
        assert is_bent(table.split("auto"))
        kept += [is_bent(split) for family in spaces(table, "auto") for split in family]
    assert set(kept) == {bent}
