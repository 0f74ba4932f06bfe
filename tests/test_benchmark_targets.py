"""Unnormalised targets: normalising constants, gradients, samples, and torch."""

import itertools

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.integrate import quad
from scipy.special import expit, gammaln, log_expit, logsumexp

from sklearn_dsm.datasets import (
    BayesianLogisticRegression,
    BrownianPosterior,
    Funnel,
    GaussianMixtureLaw,
    GaussianPancakes,
    IonospherePosterior,
    LogGaussianCoxProcess,
    ManyWell,
    SeedsPosterior,
    SonarPosterior,
    StudentMixture,
    make_benchmark_mixture,
    make_cox_counts,
)
from sklearn_dsm.datasets import _brownian as brownian


def regression():
    random = np.random.RandomState(0)
    X = random.normal(size=(30, 2)) * [1, 5] + [0, 3]
    return BayesianLogisticRegression(X, X[:, 0] + random.normal(size=30) > 0, prior_scale=2.0)


TARGETS = {
    "many_well": lambda: ManyWell(6),
    "student": lambda: StudentMixture(3),
    "logistic": regression,
    "ionosphere": IonospherePosterior,
    "sonar": SonarPosterior,
    "seeds": SeedsPosterior,
    "brownian": BrownianPosterior,
    "cox": lambda: LogGaussianCoxProcess(make_cox_counts(4, random_state=0)[0]),
    "funnel": lambda: Funnel(4),
    "pancakes": lambda: GaussianPancakes(3, random_state=0),
    "mixture": lambda: make_benchmark_mixture("difficult2d"),
}


@pytest.fixture(scope="module", params=TARGETS)
def target(request):
    return TARGETS[request.param]()


def points(target, n=6):
    return 0.7 * np.random.RandomState(1).normal(size=(n, target.n_features))


def test_score_is_the_gradient(target):
    X, h = points(target), 1e-5
    moved = [X + sign * h * np.eye(target.n_features)[:, None] for sign in (1, -1)]
    up, down = ([target.log_density(rows) for rows in part] for part in moved)
    differences = ((np.array(up) - down) / (2 * h)).T
    np.testing.assert_allclose(target.score(X), differences, rtol=1e-5, atol=1e-5)


def test_torch_is_numpy_and_its_gradient_the_score(target):
    X = points(target)
    x = torch.from_numpy(X.copy()).requires_grad_()
    value = target.log_density(x)
    np.testing.assert_allclose(value.detach().numpy(), target.log_density(X), rtol=1e-12)
    (gradient,) = torch.autograd.grad((2 * value).sum(), x)
    np.testing.assert_allclose(gradient.numpy(), 2 * target.score(X), rtol=1e-12)
    assert np.array_equal(X, x.detach().numpy())


def test_wrong_columns(target):
    X = np.zeros((2, target.n_features + 1))
    for rows in (X, torch.from_numpy(X)):
        with pytest.raises(ValueError, match=r"features|columns"):
            target.log_density(rows)


@pytest.mark.parametrize(
    "target", [ManyWell(4), StudentMixture(2, df=5.0), make_benchmark_mixture("grid9")]
)
def test_samples_have_the_mean_score_zero(target):
    """An identity of Stein: the expected gradient of the log-density vanishes."""
    X = target.sample(20000, random_state=0)
    score = target.score(X)
    assert (np.abs(score.mean(0)) < 4 * score.std(0) / np.sqrt(len(X))).all()
    # And E x s(x) = -1.
    products = X * score
    assert (np.abs(products.mean(0) + 1) < 4 * products.std(0) / np.sqrt(len(X))).all()
    with pytest.raises(ValueError, match="n_samples=0"):
        target.sample(0)


def test_many_well_constants():
    """Against an adaptive rule, and moments of the double well against samples."""

    def well(x):
        return np.exp(-(x**4) + 6 * x**2 + x / 2)

    mass = quad(well, -6, 6, epsabs=0, epsrel=1e-12, limit=400)[0]
    assert mass == pytest.approx(11784.509265, rel=1e-9)
    for d in (2, 32, 50):
        expected = d / 2 * (np.log(mass) + 0.5 * np.log(2 * np.pi))
        assert ManyWell(d).log_normalizer == pytest.approx(expected, abs=1e-8)
    assert ManyWell(32).log_normalizer == pytest.approx(164.695675, abs=1e-5)
    assert ManyWell(2).right_probability == pytest.approx(0.844307, abs=1e-6)
    X = ManyWell(2).sample(200000, random_state=0)
    np.testing.assert_allclose(X.mean(0), [1.187961, 0], atol=0.015)
    np.testing.assert_allclose((X**2).mean(0), [2.959806, 1], atol=0.015)
    uniform = [quad(well, -6, x)[0] / mass for x in X[:300, 0]]
    assert stats.kstest(uniform, "uniform").pvalue > 0.01


def test_many_well_modes():
    target = ManyWell(6)
    centers, weights = target.mode_centers(), target.mode_weights()
    assert centers.shape == (8, 6) and weights.sum() == pytest.approx(1)
    X = target.sample(50000, random_state=0)
    shares = [((np.sign(X[:, ::2]) == np.sign(c[::2])).all(1)).mean() for c in centers]
    np.testing.assert_allclose(shares, weights, atol=0.01)
    with pytest.raises(ValueError, match="too many to list"):
        ManyWell(50).mode_centers()


def test_brownian_evidence():
    """Given the scales all is normal: pointwise, and in the integral over both."""
    target = BrownianPosterior()
    seen = np.r_[1:11, 21:31]
    y = np.array(brownian.FIRST + brownian.LAST)
    prior = np.minimum.outer(np.arange(1, 31), np.arange(1, 31))
    raw = np.array([-1.8, -2.2])
    scales = np.log1p(np.exp(raw))
    log_prior = stats.norm.logpdf(np.log(scales), 0, 2) - np.log(scales) + np.log(expit(raw))
    among = scales[0] ** 2 * prior
    observed = among[np.ix_(seen - 1, seen - 1)] + scales[1] ** 2 * np.eye(20)
    log_evidence = stats.multivariate_normal(np.zeros(20), observed).logpdf(y)
    gain = among[:, seen - 1] @ np.linalg.inv(observed)
    given = stats.multivariate_normal(gain @ y, among - gain @ among[seen - 1], allow_singular=True)
    z = np.random.RandomState(0).normal(gain @ y, 0.1)
    expected = log_prior.sum() + log_evidence + given.logpdf(z)
    assert target.log_density(np.r_[raw, z][None])[0] == pytest.approx(expected, abs=1e-6)

    grid = np.linspace(-14, 14, 401)
    inner, outer = np.meshgrid(grid, grid, indexing="ij")
    eigenvalues, vectors = np.linalg.eigh(prior[np.ix_(seen - 1, seen - 1)].astype(float))
    log_values = stats.norm.logpdf(inner, 0, 2) + stats.norm.logpdf(outer, 0, 2)
    for eigenvalue, projection in zip(eigenvalues, vectors.T @ y, strict=True):
        deviation = np.sqrt(np.exp(2 * inner) * eigenvalue + np.exp(2 * outer))
        log_values += stats.norm.logpdf(projection, 0, deviation)
    log_evidence = logsumexp(log_values) + 2 * np.log(grid[1] - grid[0])
    assert target.log_normalizer == pytest.approx(log_evidence, abs=1e-6)


def test_seeds_density_by_hand():
    target = SeedsPosterior()
    x = 0.5 * np.random.RandomState(0).normal(size=26)
    precision, (a0, a1, a2, a12), effects = np.exp(x[0]), x[1:5], x[5:]
    r = np.array([10, 23, 23, 26, 17, 5, 53, 55, 32, 46, 10, 8, 10, 8, 23, 0, 3, 22, 15, 32, 3])
    n = np.array([39, 62, 81, 51, 39, 6, 74, 72, 51, 79, 13, 16, 30, 28, 45, 4, 12, 41, 30, 51, 7])
    kind, extract = np.arange(21) >= 11, np.isin(np.arange(21), [*range(5, 11), *range(16, 21)])
    logits = a0 + a1 * kind + a2 * extract + a12 * (kind & extract) + effects
    expected = (
        stats.binom.logpmf(r, n, expit(logits)).sum()
        + stats.norm.logpdf(x[1:5], 0, 10).sum()
        + stats.norm.logpdf(effects, 0, precision**-0.5).sum()
        + stats.gamma.logpdf(precision, 0.01, scale=100)
        + x[0]
    )
    assert target.log_density(x[None])[0] == pytest.approx(expected, rel=1e-12)


@pytest.mark.slow
def test_seeds_evidence():
    """Sums over a lattice of each effect, and importance sampling of the other five features."""
    target, random = SeedsPosterior(), np.random.RandomState(0)
    z = np.linspace(-8.5, 8.5, 161)
    r, failures, design = (
        part.numpy() for part in (target._successes, target._failures, target._design)
    )
    n = r + failures
    constant = (gammaln(n + 1) - gammaln(r + 1) - gammaln(failures + 1)).sum()
    # A t distribution with about the posterior's moments.
    center, scale = [2.5, -0.55, 0.07, 1.36, -0.85], np.diag([0.85, 0.2, 0.33, 0.29, 0.46])
    correlation = np.eye(5)
    correlation[np.triu_indices(5, 1)] = 0, 0.1, -0.1, 0, -0.6, -0.7, 0.45, 0.4, -0.7, -0.6
    correlation = np.maximum(correlation, correlation.T) + np.minimum(correlation, correlation.T)
    correlation -= np.eye(5)
    proposal = stats.multivariate_t(center, 1.2 * scale @ correlation @ scale, df=5)
    x = proposal.rvs(6000, random_state=random)
    log_weights = []
    for rows in np.array_split(x, 40):
        fixed = (rows[:, 1:] @ design.T)[:, :, None]
        logits = fixed + np.exp(-0.5 * rows[:, 0])[:, None, None] * z
        terms = r[:, None] * log_expit(logits) + failures[:, None] * log_expit(-logits)
        terms = terms + stats.norm.logpdf(z) + np.log(z[1] - z[0])
        log_prior = stats.gamma.logpdf(np.exp(rows[:, 0]), 0.01, scale=100) + rows[:, 0]
        log_prior += stats.norm.logpdf(rows[:, 1:], 0, 10).sum(1)
        log_weights.append(logsumexp(terms, axis=2).sum(1) + log_prior + constant)
    log_weights = np.concatenate(log_weights) - proposal.logpdf(x)
    weights = np.exp(log_weights - log_weights.max())
    error = weights.std() / weights.mean() / np.sqrt(len(x))
    assert error < 0.02
    evidence = logsumexp(log_weights) - np.log(len(x))
    assert abs(target.log_normalizer - evidence) < 3 * (error + 0.004)


def test_logistic_regression_by_hand():
    X = np.array([[0.0, 7.0], [2.0, 7.0], [1.0, 7.0], [5.0, 7.0]])
    target = BayesianLogisticRegression(X, ["a", "b", "a", "b"], prior_scale=2.0)
    w = np.array([0.3, 9.0, -0.2])
    z = np.column_stack([(X[:, 0] - 2) / np.sqrt(3.5), np.zeros(4), np.ones(4)]) @ w
    expected = stats.norm.logpdf(w, 0, 2).sum() + np.log(expit(z * [-1, 1, -1, 1])).sum()
    assert target.log_density(w[None])[0] == pytest.approx(expected)
    assert target.log_normalizer is None


def weights_from_t(target, center, covariance, n, df=12):
    """Points of a t distribution with these moments, and their log-weights."""
    proposal = stats.multivariate_t(center, (df - 2) / df * covariance, df=df)
    x = proposal.rvs(n, random_state=np.random.RandomState(0))
    return x, target.log_density(x) - proposal.logpdf(x)


@pytest.mark.parametrize("target", [IonospherePosterior(), SonarPosterior()], ids=["ion", "sonar"])
def test_evidence_of_tables(target):
    """Importance sampling around the mode, then twice around the moments that it finds."""
    x = torch.zeros(1, target.n_features, dtype=torch.float64)
    for _ in range(20):
        hessian = torch.autograd.functional.hessian(lambda w: target.log_density(w[None])[0], x[0])
        x = x - torch.linalg.solve(hessian, torch.from_numpy(target.score(x)[0]))
    center, covariance = x[0].numpy(), 1.1 * np.linalg.inv(-hessian.numpy())
    for n in (30000, 30000, 60000):
        x, log_weights = weights_from_t(target, center, covariance, n)
        weights = np.exp(log_weights - log_weights.max())
        # The largest weights would make the moments those of a few points.
        kept = np.minimum(weights, np.sort(weights)[-n // 300])
        center = np.average(x, axis=0, weights=kept)
        covariance = np.cov(x.T, aweights=kept)
    error = weights.std() / weights.mean() / np.sqrt(n)
    assert error < 0.02
    evidence = logsumexp(log_weights) - np.log(n)
    assert abs(target.log_normalizer - evidence) < 3 * (error + 0.001)


def test_tables_are_the_published_ones():
    """Numbers of samples of each label, and coefficients that the data do not concern."""
    for target, n, positive in ((IonospherePosterior(), 351, 225), (SonarPosterior(), 208, 111)):
        signed = target._signed.numpy()
        assert signed.shape == (n, target.n_features) and (signed[:, -1] > 0).sum() == positive
        standard = signed * signed[:, -1:]
        np.testing.assert_allclose(standard[:, :-1].mean(0), 0, atol=1e-12)
        constant = (standard == 0).all(0)
        np.testing.assert_allclose(standard.std(0)[~constant][:-1], 1)
        assert list(np.flatnonzero(constant)) == ([1] if n == 351 else [])


def test_cox_process_by_hand():
    counts = np.array([[3, 0], [1, 2]])
    target = LogGaussianCoxProcess(counts)
    x = np.array([4.0, 3.0, 5.0, 4.5])
    mean = np.log(126) - 0.955
    cells = list(itertools.product(range(2), repeat=2))
    covariance = [
        [1.91 * np.exp(-16.5 * np.hypot(*np.subtract(i, j))) for j in cells] for i in cells
    ]
    expected = stats.multivariate_normal(np.full(4, mean), covariance).logpdf(x)
    expected += (x * counts.ravel() - np.exp(x) / 4).sum()
    assert target.log_density(x[None])[0] == pytest.approx(expected)


def test_cox_counts():
    totals = [make_cox_counts(10, random_state=seed)[0].sum() for seed in range(200)]
    assert abs(np.mean(totals) - 126) < 4 * np.std(totals) / np.sqrt(200)
    counts, log_intensity = make_cox_counts(10, random_state=0)
    assert counts.shape == (10, 10) and log_intensity.shape == (100,)


@pytest.mark.parametrize(
    "name, n, d",
    [
        ("line4", 4, 1),
        ("grid9", 9, 2),
        ("grid25", 25, 2),
        ("random40", 40, 2),
        ("difficult2d", 6, 2),
    ],
)
def test_benchmark_mixtures(name, n, d):
    law = make_benchmark_mixture(name)
    assert isinstance(law, GaussianMixtureLaw) and law.means.shape == (n, d)
    assert law.log_normalizer == 0 and len(np.unique(law.means, axis=0)) == n


def test_difficult_mixture_is_symmetric():
    law = make_benchmark_mixture("difficult2d")
    X = law.sample(50, random_state=0)
    np.testing.assert_allclose(law.log_density(X), law.log_density(X[:, ::-1]))


def test_random_mixture_has_the_published_means():
    law = make_benchmark_mixture("random40")
    np.testing.assert_allclose(law.means[0], [-0.2995, 21.4577], atol=1e-3)
    assert np.abs(law.means).max() < 40
    assert law.covariances[0, 0, 0] == pytest.approx(np.log(1 + np.e) ** 2)


def test_student_density_by_hand():
    target = StudentMixture(2, 3, df=2.0)
    X = points(target)
    each = stats.t.logpdf(X[:, None] - target.means, 2).sum(2)
    np.testing.assert_allclose(target.log_density(X), logsumexp(each, axis=1) - np.log(3))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: ManyWell(3), "n_features=3 must be an even"),
        (lambda: ManyWell(0), "n_features=0 must be an even"),
        (lambda: StudentMixture(2, df=0), "df=0"),
        (lambda: BayesianLogisticRegression([[1.0], [2.0], [3.0]], [0, 1, 2]), "3 classes"),
        (lambda: BayesianLogisticRegression([[1.0], [2.0]], [0, 1], -1), "prior_scale=-1"),
        (lambda: LogGaussianCoxProcess([[1, 2]]), "must be a square"),
        (lambda: LogGaussianCoxProcess([[0.5]]), "whole numbers"),
        (lambda: make_cox_counts(0), "n_cells=0"),
        (lambda: make_benchmark_mixture("grid4"), "name='grid4' must be one of 'line4'"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()
