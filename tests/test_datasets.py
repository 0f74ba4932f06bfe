"""Laws with exact densities: total mass, scores, draws, and all of it with noise added."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multivariate_normal, norm
from sklearn.mixture import GaussianMixture

from sklearn_dsm import datasets
from sklearn_dsm.datasets import (
    Checkerboard,
    Funnel,
    GaussianMixtureLaw,
    GaussianPancakes,
    TwoMoons,
    make_funnel,
    make_gaussian_mixture,
)

CLEAN = (1.0, 0.0)
# Factor and variance: little noise, a lot, and a growing variance.
LEVELS = ((0.99, 0.02), (0.4, 0.84), (1.0, 4.0))


def random_mixture(n_features, n_components=4, seed=0):
    random = np.random.RandomState(seed)
    factors = 0.6 * random.normal(size=(n_components, n_features, n_features))
    covariances = factors @ factors.swapaxes(1, 2) + 0.2 * np.eye(n_features)
    means = 1.5 * random.normal(size=(n_components, n_features))
    return GaussianMixtureLaw(means, covariances, random.dirichlet(np.full(n_components, 5.0)))


LAWS = {
    "funnel": Funnel(2, scale=0.5),
    "funnel of five": Funnel(5),
    "mixture": random_mixture(2),
    "mixture of seven": random_mixture(7),
    "pancakes": GaussianPancakes(2, gamma=1.0, beta=0.3, random_state=0),
    "pancakes of four": GaussianPancakes(4, gamma=1.0, beta=0.3, random_state=0),
    "moons": TwoMoons(0.2),
    "checkerboard": Checkerboard(),
}
PLANAR = [name for name, law in LAWS.items() if law.n_features == 2]
every_law = pytest.mark.parametrize("name", LAWS)


def midpoints(low, high, n):
    step = (high - low) / n
    return low + step * (np.arange(n) + 0.5), step


def grid(nodes):
    return np.stack(np.meshgrid(nodes, nodes, indexing="ij"), -1).reshape(-1, 2)


def noised_rows(law, a, v, n, seed=0):
    random = np.random.RandomState(seed)
    return a * law.sample(n, random) + np.sqrt(v) * random.normal(size=(n, law.n_features))


def slopes(function, X, step=1e-4):
    """The gradient of a function of rows by central differences of fourth order."""
    columns = []
    for shift in step * np.eye(X.shape[1]):
        near = function(X + shift) - function(X - shift)
        columns.append((8 * near - function(X + 2 * shift) + function(X - 2 * shift)) / (12 * step))
    return np.stack(columns, 1)


def in_errors(values, expected):
    """Distance of a mean from what is expected, in standard errors."""
    return abs(values.mean() - expected) / (values.std(ddof=1) / np.sqrt(len(values)))


@every_law
@pytest.mark.parametrize("level", (CLEAN, *LEVELS))
def test_the_score_is_the_gradient_of_the_log_density(name, level):
    law = LAWS[name]
    X = noised_rows(law, *level, 60)
    expected = slopes(lambda x: law.noised_log_density(x, *level), X)
    np.testing.assert_allclose(law.noised_score(X, *level), expected, rtol=1e-6, atol=1e-6)


@every_law
def test_no_noise_is_the_law_itself(name):
    law = LAWS[name]
    X = law.sample(50, 1)
    np.testing.assert_array_equal(law.noised_log_density(X, *CLEAN), law.log_density(X))
    np.testing.assert_array_equal(law.noised_score(X, *CLEAN), law.score(X))


@every_law
@pytest.mark.parametrize("a", (0.5, 2.0))
def test_a_factor_alone_rescales(name, a):
    law = LAWS[name]
    X = law.sample(50, 2)
    scaled = law.noised_log_density(a * X, a, 0.0)
    np.testing.assert_allclose(scaled, law.log_density(X) - law.n_features * np.log(a))
    np.testing.assert_allclose(law.noised_score(a * X, a, 0.0), law.score(X) / a)


@pytest.mark.parametrize("name", [name for name in LAWS if name != "checkerboard"])
def test_little_noise_changes_little(name):
    law = LAWS[name]
    X = law.sample(50, 3)
    scale = 1 + np.abs(law.score(X)).max()
    np.testing.assert_allclose(law.noised_score(X, 1.0, 1e-9), law.score(X), atol=1e-4 * scale)


@pytest.mark.parametrize("name", PLANAR)
@pytest.mark.parametrize("level", ((0.9, 0.2), (0.4, 0.84)))
def test_noised_laws_have_mass_one(name, level):
    nodes, step = midpoints(-10, 10, 140)
    density = np.exp(LAWS[name].noised_log_density(grid(nodes), *level))
    assert density.sum() * step**2 == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("name", PLANAR)
def test_clean_laws_have_mass_one(name):
    nodes, step = midpoints(-6, 6, 240)
    law = LAWS[name]
    # Beyond the window lies a share of the funnel that draws tell.
    outside = (np.abs(law.sample(100_000, 0)) > 6).any(1)
    mass = np.exp(law.log_density(grid(nodes))).sum() * step**2
    assert abs(mass + outside.mean() - 1) < 5 * outside.std() / len(outside) ** 0.5 + 1e-4


@pytest.mark.parametrize("name", ("funnel of five", "mixture of seven", "pancakes of four"))
def test_mass_by_importance_sampling(name):
    """The mean of p / q under q, with q the law of other parameters that is wider."""
    law, a, v = LAWS[name], 0.8, 0.3
    wide = noised_rows(law, 1.0, 0.8, 10_000)
    ratio = law.noised_log_density(wide, a, v) - law.noised_log_density(wide, 1.0, 0.8)
    assert in_errors(np.exp(ratio), 1) < 4


@every_law
@pytest.mark.parametrize("level", LEVELS)
def test_draws_obey_steins_identity(name, level):
    """E[f'(x) + f(x) score(x)] = 0 for bounded f, here sines of every column."""
    law = LAWS[name]
    X = noised_rows(law, *level, 10_000)
    terms = np.cos(X) + np.sin(X) * law.noised_score(X, *level)
    assert max(in_errors(column, 0) for column in terms.T) < 4


@every_law
def test_the_noised_score_is_a_posterior_mean(name):
    """Denoising: the score is E[(a X_0 - x) / v | x], here with weighted draws of X_0."""
    law, (a, v) = LAWS[name], (0.7, 0.6)
    x, clean = noised_rows(law, a, v, 1, seed=5), law.sample(200_000, 6)
    offsets = (a * clean - x) / v
    weight = np.exp(-0.5 * v * (offsets**2).sum(1))
    weight /= weight.sum()
    estimate = weight @ offsets
    error = np.sqrt(weight**2 @ (offsets - estimate) ** 2)
    assert (np.abs(law.noised_score(x, a, v)[0] - estimate) < 4.5 * error).all()


def test_two_moons_entropy_is_that_of_its_draws():
    law = TwoMoons()
    nodes, step = midpoints(-1.8, 2.8, 180)
    log_density = law.log_density(grid(nodes))
    density = np.exp(log_density) * step**2
    assert density.sum() == pytest.approx(1, abs=1e-8)
    assert in_errors(law.log_density(law.sample(4000, 0)), density @ log_density) < 4


def test_two_moons_sum_their_nodes_exactly():
    """At a tip, where the integrand ends abruptly, as with very many nodes."""
    law = TwoMoons(0.05)
    angles = (np.arange(1_000_000) + 0.5) * np.pi / 1_000_000
    tip, total = np.array([1.02, 0.01]), 0.0
    for moon in (0, 1):
        squared = ((law._points(angles, moon) - tip) ** 2).sum(1)
        total += norm(0, 0.05).pdf(np.sqrt(squared)).mean() * norm(0, 0.05).pdf(0) / 2
    assert law.log_density([tip])[0] == pytest.approx(np.log(total), abs=1e-9)


def test_checkerboard_has_one_density_on_eight_squares():
    law = Checkerboard()
    X = law.sample(2000, 0)
    np.testing.assert_allclose(law.log_density(X), -np.log(32))
    assert (law.score(X) == 0).all()
    squares = np.unique(np.floor(X / 2), axis=0, return_counts=True)[1]
    assert len(squares) == 8
    assert squares.min() > 180
    assert law.log_density([[-1.0, -3.0], [5.0, 1.0]]).tolist() == [-np.inf, -np.inf]
    assert np.isnan(law.score([[-1.0, -3.0]])).all()


def test_checkerboard_score_far_away_points_home():
    """Far from all squares the posterior is at their nearest corner."""
    score = Checkerboard().noised_score([[60.0, 60.0]], 1.0, 1.0)
    np.testing.assert_allclose(score, [[-56.0, -56.0]], rtol=1e-3)


def test_funnel_is_a_product_of_normals_and_its_draws_have_its_entropy():
    X, law = make_funnel(20_000, random_state=0)
    expected = norm(0, 3).logpdf(X[:, 0])
    expected += norm(0, np.exp(X[:, :1] / 2)).logpdf(X[:, 1:]).sum(1)
    np.testing.assert_allclose(law.log_density(X), expected)
    assert in_errors(law.log_density(X), -law.entropy()) < 4
    assert in_errors(X[:, 0] ** 2, 9) < 4
    assert in_errors(X[:, 3] ** 2 * np.exp(-X[:, 0]), 1) < 4


@pytest.mark.parametrize("n_features", (2, 10, 50))
@pytest.mark.parametrize("level", ((1.0, 1e-6), (0.999, 0.002), (0.3, 0.91), (1.0, 400.0)))
def test_funnel_quadrature_against_a_very_fine_one(n_features, level):
    """Draws of the noised law, and rows far from it."""
    (a, v), law = level, Funnel(n_features)
    random = np.random.RandomState(0)
    X = np.vstack([noised_rows(law, a, v, 3), 3 * random.normal(size=(2, n_features))])
    for x, log_density, score in zip(
        X, law.noised_log_density(X, a, v), law.noised_score(X, a, v), strict=True
    ):
        expected, slope = fine_funnel(law, x, a, v)
        assert log_density == pytest.approx(expected, rel=1e-8, abs=1e-8)
        np.testing.assert_allclose(score, slope, rtol=1e-7, atol=1e-7 * np.abs(slope).max())


def fine_funnel(law, x, a, v, n_nodes=100_001):
    """Noised log-density and score by a rule over all that the posterior of u can reach."""
    variance, squared, n_others = a**2 * law.scale**2 + v, (x[1:] ** 2).sum(), len(x) - 1
    mean, deviation = a * law.scale**2 * x[0] / variance, law.scale * np.sqrt(v / variance)
    best = np.log(max(squared / n_others - v, 1e-300) / a**2)
    low = min(mean, max(best, mean - n_others * deviation**2)) - 12 * deviation
    u, step = np.linspace(low, max(mean, best) + 12 * deviation, n_nodes, retstep=True)
    conditional = a**2 * np.exp(u) + v
    terms = norm(mean, deviation).logpdf(u)
    terms += -0.5 * (n_others * np.log(2 * np.pi * conditional) + squared / conditional)
    total = np.logaddexp.reduce(terms)
    posterior = np.exp(terms - total)
    first = -x[0] / variance + a * (posterior @ (u - mean)) / v
    others = -x[1:] * (posterior @ (1 / conditional))
    return total + np.log(step) + norm(0, variance**0.5).logpdf(x[0]), np.r_[first, others]


def test_mixture_agrees_with_scipy_and_scikit_learn():
    law = random_mixture(6)
    X = law.sample(500, 0)
    parts = [
        weight * multivariate_normal(mean, covariance).pdf(X)
        for weight, mean, covariance in zip(law.weights, law.means, law.covariances, strict=True)
    ]
    np.testing.assert_allclose(law.log_density(X), np.log(np.sum(parts, axis=0)))
    fitted = GaussianMixture(2, random_state=0).fit(X)
    law = GaussianMixtureLaw(fitted.means_, fitted.covariances_, fitted.weights_)
    np.testing.assert_allclose(law.log_density(X), fitted.score_samples(X))
    np.testing.assert_allclose(law.predict_proba(X), fitted.predict_proba(X), atol=1e-10)


def closed_form(law, X, a, v):
    """Log-density and score of a noised mixture, from the formula alone."""
    covariances = a**2 * law.covariances + v * np.eye(law.n_features)
    offsets = a * law.means - X[:, None]
    pulls = np.stack([np.linalg.solve(c, offsets[:, k].T).T for k, c in enumerate(covariances)], 1)
    log_volumes = 0.5 * np.linalg.slogdet(2 * np.pi * covariances)[1]
    log_joint = np.log(law.weights) - log_volumes - 0.5 * (offsets * pulls).sum(2)
    log_density = np.logaddexp.reduce(log_joint, axis=1)
    posterior = np.exp(log_joint - log_density[:, None])
    return log_density, np.einsum("nk,nkd->nd", posterior, pulls)


@pytest.mark.parametrize("level", (CLEAN, *LEVELS))
def test_mixture_is_the_closed_form_at_every_level(level):
    law = random_mixture(5)
    X = noised_rows(law, *level, 40)
    log_density, score = closed_form(law, X, *level)
    np.testing.assert_allclose(law.noised_log_density(X, *level), log_density, rtol=1e-12)
    np.testing.assert_allclose(law.noised_score(X, *level), score, rtol=1e-9, atol=1e-9)


def test_mixture_posteriors_are_calibrated():
    law = random_mixture(3)
    X, component = law.sample_labelled(5000, 0)
    posterior = law.predict_proba(X)
    own = posterior[np.arange(len(X)), component]
    assert in_errors(own - (posterior**2).sum(1), 0) < 4


def test_mixture_draws_have_its_moments():
    law = random_mixture(3)
    X = law.sample(40_000, 0)
    mean = law.weights @ law.means
    assert max(in_errors(X[:, j], mean[j]) for j in range(3)) < 4
    second = np.einsum("k,kij->ij", law.weights, law.covariances)
    second += np.einsum("k,ki,kj->ij", law.weights, law.means, law.means)
    assert max(in_errors(X[:, i] * X[:, j], second[i, j]) for i in range(3) for j in range(3)) < 4


def test_made_mixture_has_unit_covariances_and_means_in_its_cube():
    X, law = make_gaussian_mixture(30, 5, n_components=40, spread=2.0, random_state=0)
    assert X.shape == (30, 5)
    np.testing.assert_array_equal(law.covariances, np.tile(np.eye(5), (40, 1, 1)))
    assert np.abs(law.means).max() <= 2 < np.abs(law.means).max() * 1.1
    np.testing.assert_allclose(law.weights, 1 / 40)


@every_law
def test_rows_are_scored_one_by_one(name, monkeypatch):
    """Chunks change nothing, and neither do the rows beside a row."""
    law = LAWS[name]
    X = noised_rows(law, 0.8, 0.36, 37)
    whole = law.noised_log_density(X, 0.8, 0.36), law.noised_score(X, 0.8, 0.36)
    monkeypatch.setattr("sklearn_dsm.datasets._law.CHUNK_NUMBERS", 1)
    np.testing.assert_allclose(law.noised_log_density(X, 0.8, 0.36), whole[0], rtol=1e-12)
    np.testing.assert_allclose(law.noised_score(X, 0.8, 0.36), whole[1], rtol=1e-9, atol=1e-12)


@every_law
def test_one_seed_gives_one_sample_and_moves_no_global_one(name):
    law = LAWS[name]
    for seed in (3, np.random.RandomState, np.random.default_rng):
        first, second = (law.sample(9, seed if seed == 3 else seed(3)) for _ in range(2))
        np.testing.assert_array_equal(first, second)
    before = np.random.get_state()[1].copy()
    np.testing.assert_array_equal(np.random.get_state()[1], before)


@every_law
def test_without_a_seed_it_is_numpys_global_one(name, monkeypatch):
    monkeypatch.setattr(np.random.mtrand, "_rand", np.random.RandomState(5))
    first = LAWS[name].sample(9)
    assert not np.array_equal(first, LAWS[name].sample(9))
    monkeypatch.setattr(np.random.mtrand, "_rand", np.random.RandomState(5))
    np.testing.assert_array_equal(LAWS[name].sample(9), first)


@every_law
def test_bad_rows_and_levels(name):
    law = LAWS[name]
    X = law.sample(4, 0)
    with pytest.raises(ValueError, match=f"X has {law.n_features + 1} columns"):
        law.log_density(np.column_stack([X, X[:, 0]]))
    with pytest.raises(ValueError, match="Input X contains NaN"):
        law.score(np.full_like(X, np.nan))
    for a, v in ((0.0, 1.0), (-1.0, 1.0), (1.0, -0.1), (np.nan, 1.0), (1.0, np.inf)):
        with pytest.raises(ValueError, match="must be positive and v"):
            law.noised_score(X, a, v)
    with pytest.raises(ValueError, match="n_samples=0 must be at least 1"):
        law.sample(0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Funnel(1), "n_features=1 must be at least 2"),
        (lambda: Funnel(3, scale=0.0), r"scale=0\.0 positive"),
        (lambda: TwoMoons(0.0), r"noise=0\.0 must be a number of at least"),
        (lambda: GaussianPancakes(2, beta=-1.0), "positive"),
        (lambda: GaussianMixtureLaw([[0.0], [1.0]], np.eye(2)), r"need \(2, 1, 1\)"),
        (lambda: GaussianMixtureLaw([[0.0]], [[[0.0]]]), "not positive definite"),
        (lambda: GaussianMixtureLaw([[0.0, 1.0]], [[[1.0, 0.5], [0.0, 1.0]]]), "not symmetric"),
        (lambda: GaussianMixtureLaw([[0.0], [1.0]], weights=[1.0]), "2 positive numbers"),
        (lambda: GaussianMixtureLaw([[0.0], [1.0]], weights=[1.0, 0.0]), "weight zero"),
        (lambda: GaussianMixtureLaw([[np.nan]]), "Input means contains NaN"),
        (lambda: make_gaussian_mixture(5, 2, spread=0.0), r"spread=0\.0 positive"),
    ],
)
def test_parameters_without_a_law(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_public_names_are_documented():
    for name in datasets.__all__:
        assert "Examples\n" in getattr(datasets, name).__doc__, name
