"""Laws of fast sums of Gaussian kernels."""

import numpy as np
import pytest
from scipy.special import logsumexp

from sklearn_dsm import KernelScoreEstimator
from sklearn_dsm.density import _kernel_grid, _kernel_sums
from sklearn_dsm.density._kernel_sums import KernelSums, LeftOut


def by_definition(centers, weights, h, points):
    """The logarithm of the sum and its gradient, all at once."""
    differences = points[:, None] - centers
    log_terms = np.log(weights) - 0.5 * (differences**2).sum(2) / h**2
    log_sum = logsumexp(log_terms, axis=1)
    share = np.exp(log_terms - log_sum[:, None])
    gradient = -np.einsum("mk,mkd->md", share, differences) / h**2
    return log_sum - centers.shape[1] * np.log(h * np.sqrt(2 * np.pi)), gradient


def clouds(kind, d, n=6000):
    random = np.random.RandomState(d)
    X = random.normal(size=(n, d))
    if kind == "far clusters":
        X = 0.01 * X + 1e4 * random.randint(0, 3, (n, d))
    if kind == "heavy tails":
        X = X / np.abs(random.normal(size=(n, 1)))
    return X, random.uniform(0.1, 1, n)


@pytest.mark.parametrize(
    ("kind", "d", "h"),
    [
        ("normal", 1, 0.1),
        ("normal", 2, 0.2),
        ("normal", 3, 0.5),
        ("normal", 5, 0.5),
        ("narrow", 2, 1e-3),
        ("far clusters", 1, 0.003),
        ("far clusters", 2, 0.003),
        ("heavy tails", 1, 0.1),
        ("heavy tails", 2, 0.3),
    ],
)
def test_sums_are_those_of_the_definition(kind, d, h):
    """Within 1e-5, at centres, between them, and however far away."""
    centers, weights = clouds(kind, d)
    random = np.random.RandomState(0)
    near = centers[:6000] + h * random.normal(size=centers.shape)
    far = centers.mean(0) + 30 * centers.std(0) * random.normal(size=(30, d))
    points = np.concatenate([near, far])
    sums = KernelSums(centers, weights, h)
    found, scores = sums.log_sums(points), sums.scores(points)
    some = np.append(random.permutation(6000)[:200], np.arange(6000, 6030))
    expected, gradients = by_definition(centers, weights, h, points[some])
    np.testing.assert_allclose(found[some], expected, rtol=1e-9, atol=1e-5)
    np.testing.assert_allclose(h * scores[some], h * gradients, rtol=1e-7, atol=1e-4)


def test_points_are_alike_alone_and_among_many():
    centers, weights = clouds("normal", 2)
    sums = KernelSums(centers, weights, 0.2)
    alone = np.array([sums.log_sums(point[None])[0] for point in centers[:20]])
    np.testing.assert_allclose(sums.log_sums(centers)[:20], alone, atol=1e-5)


def test_weights_may_be_left_out():
    """A point without its own centres is that of the centres that are left."""
    for kind, h in (("normal", 0.05), ("heavy tails", 1e-4)):
        centers, weights = clouds(kind, 2)
        owners = np.arange(len(centers)) // 2
        points, owner, kept = centers[:40:2], owners[:40:2], np.linspace(0, 0.9, 20)
        left_out = LeftOut(owner, owners, kept)
        found = KernelSums(centers, weights, h).exact(points, left_out=left_out)[0]
        for point, i, share, value in zip(points, owner, kept, found, strict=True):
            less = weights * np.where(owners == i, share, 1)
            expected, _ = by_definition(centers[less > 0], less[less > 0], h, point[None])
            assert value == pytest.approx(expected[0], rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("d", [1, 2, 3, 6])
def test_memory_is_that_of_blocks(d, monkeypatch):
    """Neither all samples with all centres, nor all samples with all their nodes."""
    sizes, plain = [], _kernel_sums._squared_distances
    nodes = _kernel_grid.KernelGrid._nodes

    def recorded(x, centers):
        squared = plain(x, centers)
        sizes.append(squared.numel())
        return squared

    def recorded_nodes(self, points):
        cells, kernels = nodes(self, points)
        sizes.append(cells.size)
        return cells, kernels

    monkeypatch.setattr(_kernel_sums, "_squared_distances", recorded)
    monkeypatch.setattr(_kernel_grid.KernelGrid, "_nodes", recorded_nodes)
    monkeypatch.setattr(_kernel_grid, "CHUNK_CELLS", 2**17)
    X = np.random.RandomState(0).normal(size=(20000 if d < 3 else 6000, d))
    density = KernelScoreEstimator().fit(X)
    assert np.isfinite(density.score_samples(X[:6000])).all()
    assert np.isfinite(density.stein_score(X[:500])).all()
    assert max(sizes) <= 2**17


def test_noised_scores_of_many_samples_are_those_of_the_model():
    X = np.random.RandomState(0).normal(size=(6000, 1))
    density = KernelScoreEstimator().fit(X)
    latent = density._latent_density()
    for noise_level in (1e-3, 0.2, 1.0):
        level = density.process_.scored_level(noise_level)
        expected = latent.model.score(latent._tensor(density.rows_[:200]), level).numpy()
        found = latent.score(density.rows_, level)[:200]
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_draws_of_many_centres_come_in_chunks():
    X = np.random.RandomState(0).normal(size=(50_000, 2))
    density = KernelScoreEstimator().fit(X)
    draws = density.sample(40_000, random_state=0)
    np.testing.assert_allclose(
        np.cov(draws.T), (1 + density.bandwidth_**2) * np.cov(X.T), atol=0.04
    )
