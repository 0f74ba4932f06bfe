"""Estimates of scores and their Jacobians: Stein's, kernel exponential families, densities."""

from __future__ import annotations

import numpy as np
import pytest

from sklearn_dsm import (
    DensityScoreEstimator,
    DSMDensityEstimator,
    GMMScoreEstimator,
    KernelExponentialFamily,
    KernelScoreEstimator,
    ScoreCausalDiscovery,
    SteinScoreEstimator,
)
from sklearn_dsm.causal._kernel_basis import BASES
from sklearn_dsm.causal._residuals import residual_errors
from sklearn_dsm.datasets import make_anm


def table(n=200, d=4, seed=0):
    return make_anm(n, d, noise_variance=1.0, random_state=seed).data


def test_stein_matches_the_formula_with_all_tensors():
    X = table(60, 3)
    stein = SteinScoreEstimator(1e-2).fit(X)
    u = X[:, None] - X
    distances = np.sqrt((u**2).sum(2))
    h = np.median(distances)
    K = np.exp(-(distances**2) / (2 * h**2))
    solve = np.linalg.inv(K + 1e-2 * np.eye(60))
    score = solve @ (-(u / h**2) * K[..., None]).sum(1)
    outer = (u[..., None] * u[..., None, :] / h**4 - np.eye(3) / h**2) * K[..., None, None]
    jacobian = np.einsum("kl,lij->kij", solve, outer.sum(1)) - score[:, :, None] * score[:, None]
    assert stein.bandwidth_ == pytest.approx(h, rel=1e-12)
    np.testing.assert_allclose(stein.stein_score(), score, atol=1e-8)
    np.testing.assert_allclose(stein.score_jacobian(), jacobian, atol=1e-8)
    # The normalised kernel has the same estimate with a ridge divided by the bandwidth.
    other = SteinScoreEstimator(1e-2 / h, kernel="normalised").fit(X)
    np.testing.assert_allclose(other.stein_score(), score, atol=1e-8)


def test_stein_jacobians_are_symmetric_and_scale_with_the_units():
    X = table()
    stein, scaled = SteinScoreEstimator().fit(X), SteinScoreEstimator().fit(1000 * X + 5)
    jacobian = stein.score_jacobian()
    assert np.abs(jacobian - np.swapaxes(jacobian, 1, 2)).max() < 1e-8
    np.testing.assert_allclose(np.einsum("njj->nj", jacobian), stein.score_jacobian(diagonal=True))
    np.testing.assert_allclose(scaled.stein_score() * 1000, stein.stein_score(), rtol=1e-6)
    np.testing.assert_allclose(scaled.score_jacobian() * 1e6, jacobian, rtol=1e-5, atol=1e-6)
    paper = [SteinScoreEstimator(kernel="normalised").fit(c * X) for c in (1, 10)]
    changed = paper[1].score_jacobian() * 100 / paper[0].score_jacobian()
    assert np.abs(changed - 1).max() > 0.1


@pytest.mark.parametrize("n", [2, 3, 10, 11])
def test_the_median_distance_counts_each_sample_with_itself(n):
    X = np.random.default_rng(n).normal(size=(n, 2))
    distances = np.linalg.norm(X[:, None] - X, axis=2)
    assert SteinScoreEstimator().fit(X).bandwidth_ == pytest.approx(np.median(distances))
    repeated = np.vstack([np.zeros((3 * n, 2)), X])
    with pytest.raises(ValueError, match="median distance"):
        SteinScoreEstimator().fit(repeated)


def test_stein_takes_some_of_many_samples(monkeypatch):
    X = table(300)
    some = SteinScoreEstimator(max_samples=100, random_state=0).fit(X)
    assert some.stein_score().shape == (100, 4)
    np.testing.assert_array_equal(some.samples_, X[some.sample_indices_])
    whole = SteinScoreEstimator().fit(some.samples_)
    np.testing.assert_array_equal(some.stein_score(some.samples_), whole.stein_score())
    with pytest.raises(ValueError, match="training samples only"):
        some.stein_score(X[:100] + 1)
    monkeypatch.setattr("sklearn_dsm.causal._kernel_matrix.MAX_BYTES", 16 * 200**2)
    with pytest.raises(ValueError, match=r"needs 0\.0 GiB of memory.*Set max_samples to 200"):
        SteinScoreEstimator().fit(X)
    found = ScoreCausalDiscovery(SteinScoreEstimator(max_samples=200, random_state=0)).fit(X)
    assert sorted(found.order_) == [0, 1, 2, 3]


def test_memory_that_a_table_of_many_samples_would_need():
    with pytest.raises(ValueError, match=r"30000 samples needs 13.4 GiB.*max_samples=16384"):
        SteinScoreEstimator().fit(np.random.default_rng(0).normal(size=(30000, 2)))
    X = np.random.default_rng(0).normal(size=(30000, 2))
    with pytest.raises(ValueError, match="at most 16384 samples"):
        residual_errors(X, X)


# Kernel exponential families.


@pytest.mark.parametrize("name", BASES)
def test_derivatives_of_kernel_functions(name):
    random = np.random.default_rng(0)
    functions = BASES[name](random.normal(size=(7, 3)), 1.7)
    coef, X = random.normal(size=len(functions.gram())), random.normal(size=(5, 3))
    first, second = functions.derivatives(X)
    gradient, hessian = functions.gradient_and_hessian(X, coef)
    steps = 1e-5 * np.eye(3)
    slopes = [(functions.value(X + e, coef) - functions.value(X - e, coef)) / 2e-5 for e in steps]
    ends = [[functions.gradient_and_hessian(X + s * e, coef)[0] for s in (1, -1)] for e in steps]
    bends = [(ahead - behind) / 2e-5 for ahead, behind in ends]
    np.testing.assert_allclose(gradient, np.stack(slopes, 1), atol=1e-8)
    np.testing.assert_allclose(hessian, np.stack(bends, 2), atol=1e-8)
    np.testing.assert_allclose(first @ coef, gradient, atol=1e-12)
    np.testing.assert_allclose(second @ coef, np.einsum("njj->nj", hessian), atol=1e-12)
    assert np.linalg.eigvalsh(functions.gram()).min() > 0


def test_gram_of_derivatives_is_that_of_differences_of_kernels():
    points, step = np.random.default_rng(0).normal(size=(3, 2)), 1e-4
    shifted = np.stack([points + s * step * e for e in np.eye(2) for s in (1, -1)], 1)
    kernels = BASES["kernels"](shifted.reshape(-1, 2), 1.3).gram().reshape(3, 2, 2, 3, 2, 2)
    signs = np.array([1, -1]) / (2 * step)
    differences = np.einsum("aisbjt,s,t->aibj", kernels, signs, signs).reshape(6, 6)
    gram = BASES["derivatives"](points, 1.3).gram()
    np.testing.assert_allclose(differences, gram, atol=1e-6)


@pytest.mark.parametrize("basis", BASES)
def test_kernel_family_beats_stein_on_a_normal_sample(basis):
    X = np.random.default_rng(0).normal(size=(500, 2))
    family = KernelExponentialFamily(100, basis=basis).fit(X)
    error = ((family.stein_score(X) + X) ** 2).sum() / (X**2).sum()
    stein = ((SteinScoreEstimator().fit(X).stein_score() + X) ** 2).sum() / (X**2).sum()
    assert error < 0.24 and error < stein
    fresh = np.random.default_rng(1).normal(size=(500, 2))
    assert ((family.stein_score(fresh) + fresh) ** 2).sum() / (fresh**2).sum() < 0.24


def test_kernel_family_is_consistent_with_its_density_and_units():
    X = table(150, 3) * [1.0, 10.0, 100.0] + 7
    family, step = KernelExponentialFamily(40).fit(X), 1e-4 * X.std(0)
    score, jacobian = family.stein_score(X[:5]), family.score_jacobian(X[:5])
    for j, e in enumerate(np.diag(step)):
        ends = X[:5] + e, X[:5] - e
        ahead, behind = (family.unnormalized_log_density(end) for end in ends)
        np.testing.assert_allclose((ahead - behind) / (2 * step[j]), score[:, j], rtol=1e-5)
        ahead, behind = (family.stein_score(end) for end in ends)
        slopes = (ahead - behind) / (2 * step[j])
        np.testing.assert_allclose(slopes, jacobian[:, :, j], rtol=1e-4, atol=1e-7)
    assert np.abs(jacobian - np.swapaxes(jacobian, 1, 2)).max() < 1e-12
    unit = KernelExponentialFamily(40).fit(X / X.std(0))
    np.testing.assert_allclose(family.score(X), unit.score(X / X.std(0)), rtol=1e-6)


# Density estimators.

DENSITIES = {
    "mixture": GMMScoreEstimator(2, random_state=0, standard_errors=False),
    "kernel": KernelScoreEstimator(),
    "network": DSMDensityEstimator(
        hidden_layer_sizes=(16, 16), max_epochs=2, reference="gaussian", random_state=0
    ),
}


@pytest.mark.filterwarnings("ignore:No network was trained")
@pytest.mark.parametrize("name", DENSITIES)
def test_jacobians_of_densities_are_differences_of_their_scores(name):
    random = np.random.default_rng(0)
    X = np.exp(random.normal(size=(200, 2))) @ [[1.0, 2.0], [0.0, 3.0]]
    scores = DensityScoreEstimator(DENSITIES[name], noise_level=0.1).fit(X)
    jacobian, step = scores.score_jacobian(X[:20]), 1e-3 * X.std(0)
    ends = [[scores.stein_score(X[:20] + s * e) for s in (1, -1)] for e in np.diag(step)]
    bends = [(ahead - behind) / (2 * h) for (ahead, behind), h in zip(ends, step, strict=True)]
    np.testing.assert_allclose(jacobian, np.stack(bends, 2), rtol=0.02, atol=0.002)
    diagonal = scores.score_jacobian(X[:20], diagonal=True)
    np.testing.assert_allclose(diagonal, np.einsum("njj->nj", jacobian))
