"""Laws of the bandwidth of kernel estimates, and of their marginal transforms."""

import numpy as np
import pytest
from scipy.stats import cauchy, norm, t
from sklearn.exceptions import ConvergenceWarning

from sklearn_dsm import KernelScoreEstimator
from sklearn_dsm.density import _bandwidth
from sklearn_dsm.density._images import with_images


def normal_rows(n, d=1, seed=0):
    return np.random.RandomState(seed).standard_normal((n, d))


@pytest.mark.parametrize("smoothness", [0.75, 1.5, 2.0])
def test_the_bandwidth_falls_at_the_minimax_rate(smoothness):
    few, many = (
        KernelScoreEstimator(smoothness=smoothness).fit(normal_rows(n)).bandwidth_
        for n in (200, 20000)
    )
    assert few / many == pytest.approx(100 ** (1 / (2 * smoothness + 1)), rel=0.1)


def clusters(n, apart, width, seed):
    random = np.random.RandomState(seed)
    return apart * random.randint(0, 3, (n, 1)) + width * random.normal(size=(n, 1))


@pytest.mark.parametrize("apart", [6, 1e3, 1e5, 1e7])
def test_the_bracket_grows_until_the_best_is_inside(apart):
    X, fresh = clusters(600, apart, 0.1, 0), clusters(600, apart, 0.1, 1)
    density = KernelScoreEstimator("cv", marginals="standardize").fit(X)
    alone = KernelScoreEstimator("cv").fit(0.1 * normal_rows(200))
    assert density.bandwidth_ * X.std() == pytest.approx(alone.bandwidth_ * 0.1, rel=0.6)
    assert density.score(fresh) == pytest.approx(-np.log(3) - np.log(0.1) - 1.42, abs=0.1)


def left_out(density, h):
    """Leave-one-out log-likelihood by the definition, for an estimate in one feature."""
    z, box = density.rows_[:, 0], None
    if density.support_ is not None:
        location, scale = (density.latent_map_[f"0.marginal.{k}"] for k in ("location", "scale"))
        box = density._box().mapped(location, scale)
    share = np.full(len(z), 1 / len(z))
    kernels = with_images(z[:, None], share, len(z), h, box)
    u = (z[:, None] - kernels.centers[:, 0]) / h
    terms = kernels.weights * norm.pdf(u) / h
    terms *= (3 - u**2) / 2 if density.kernel_order_ == 4 else 1
    terms[kernels.owners == np.arange(len(z))[:, None]] = 0
    ends = (-np.inf, np.inf) if box is None else (box.low[0], box.high[0])
    low, high = ((end - kernels.centers[:, 0]) / h for end in ends)
    mass = kernels.weights @ (norm.cdf(high) - norm.cdf(low))
    return np.log(terms.sum(1).clip(min=1e-300) / mass).sum()


@pytest.mark.parametrize(
    "options", [{}, {"support": (0, 9)}, {"support": (0, None)}, {"period": 9}, {"smoothness": 3}]
)
def test_cross_validation_is_that_of_the_estimate(options):
    """By leaving every sample out of a fit with the same map."""
    X = np.random.RandomState(1).exponential(size=(80, 1)).clip(max=8.9)
    density = KernelScoreEstimator("cv", marginals="standardize", **options).fit(X)
    unit = density.latent_map_["0.marginal.scale"][0] if density.support_ is not None else 1.0
    h = density.bandwidth_ / unit
    best = left_out(density, h)
    assert best >= max(left_out(density, h * factor) for factor in (0.7, 0.84, 1.2, 1.43)) - 1e-6


def test_cross_validation_prefers_what_other_samples_prefer():
    X, fresh = clusters(600, 6, 0.1, 0), clusters(600, 6, 0.1, 1)
    rule, chosen = (KernelScoreEstimator(name).fit(X) for name in ("minimax", "cv"))
    assert chosen.bandwidth_ < rule.bandwidth_
    assert chosen.score(fresh) > rule.score(fresh)


@pytest.mark.parametrize("weighted", [False, True])
def test_values_that_repeat_have_no_best_bandwidth(weighted):
    X = np.random.RandomState(0).randint(0, 4, (200, 1)).astype(float)
    weight = np.random.RandomState(0).uniform(0.5, 1, 200) if weighted else None
    plain = KernelScoreEstimator().fit(X, sample_weight=weight)
    with pytest.warns(UserWarning, match="values repeat"):
        density = KernelScoreEstimator("cv").fit(X, sample_weight=weight)
    assert density.bandwidth_ == pytest.approx(plain.bandwidth_)


@pytest.mark.parametrize("n_features", [1, 2, 3])
def test_part_of_many_samples_gives_about_the_same_bandwidth(n_features, monkeypatch):
    X = normal_rows(2000, n_features)
    whole = KernelScoreEstimator("cv", random_state=0).fit(X)
    for name in ("MAX_KERNELS", "MAX_KERNELS_IN_MANY"):
        monkeypatch.setattr(_bandwidth, name, 1000)
    part = KernelScoreEstimator("cv", random_state=0).fit(X)
    assert part.bandwidth_ == pytest.approx(whole.bandwidth_, rel=0.35)


OPTIONS = {
    "minimax": {},
    "cv": {"bandwidth": "cv", "random_state": 0},
    "bounds": {"bandwidth": "cv", "random_state": 0, "support": (-9, None)},
    "period": {"bandwidth": "cv", "random_state": 0, "period": 9},
    "Gaussianized": {"marginals": "gaussianize"},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_integer_weights_are_repeated_samples(name):
    """In every respect, also in what is left out to judge a bandwidth."""
    repeats = np.round(np.random.RandomState(0).gamma(3, 1, (3000, 1)), 2)
    X, count = np.unique(repeats, return_counts=True)
    X = X[:, None]
    weighted = KernelScoreEstimator(**OPTIONS[name]).fit(X, sample_weight=count)
    repeated = KernelScoreEstimator(**OPTIONS[name]).fit(repeats)
    assert repeated.bandwidth_ == pytest.approx(weighted.bandwidth_, rel=1e-9)
    np.testing.assert_allclose(repeated.score_samples(X), weighted.score_samples(X), rtol=1e-9)
    assert weighted.bandwidth_ < KernelScoreEstimator(**OPTIONS[name]).fit(X).bandwidth_


def test_other_weights_are_worth_fewer_samples():
    X, weight = normal_rows(500), np.random.RandomState(1).exponential(size=500)
    rule = KernelScoreEstimator().fit(X, sample_weight=weight)
    number = weight.sum() ** 2 / (weight**2).sum()
    assert rule.bandwidth_ == pytest.approx((4 / 3) ** 0.2 * number**-0.2, rel=1e-9)


@pytest.mark.parametrize("bandwidth", ["minimax", "cv"])
@pytest.mark.parametrize("law", [cauchy(), t(2)], ids=["Cauchy", "t(2)"])
def test_heavy_tails_do_not_widen_the_draws(law, bandwidth):
    X = law.rvs((2000, 1), random_state=np.random.RandomState(0))
    fresh = law.rvs((2000, 1), random_state=np.random.RandomState(1))
    density = KernelScoreEstimator(bandwidth, random_state=0).fit(X)
    draws = density.sample(20000, random_state=0)
    for level in (0.05, 0.25, 0.5, 0.75, 0.95):
        assert law.cdf(np.quantile(draws, level)) == pytest.approx(level, abs=0.03)
    middle = np.abs(fresh[:, 0]) < law.ppf(0.99)
    gap = law.logpdf(fresh)[:, 0] - density.score_samples(fresh)
    assert gap[middle].mean() < 0.05
    assert gap.mean() < 0.5
    plain = KernelScoreEstimator(bandwidth, marginals="standardize", random_state=0).fit(X)
    assert density.score(fresh) > plain.score(fresh) + 0.2


@pytest.mark.parametrize("n_features", [1, 3])
def test_normal_features_are_only_whitened(n_features):
    for seed in range(3):
        X = normal_rows(600, n_features, seed)
        auto = KernelScoreEstimator().fit(X)
        plain = KernelScoreEstimator(marginals="standardize").fit(X)
        np.testing.assert_array_equal(auto.score_samples(X), plain.score_samples(X))


def test_gaussianized_marginals_are_a_normalised_density():
    X = cauchy().rvs((500, 1), random_state=np.random.RandomState(0))
    density = KernelScoreEstimator(marginals="gaussianize").fit(X)
    assert density.tail_weight_ == pytest.approx(1 / 501)
    angle = np.linspace(-np.pi / 2, np.pi / 2, 200_003)[1:-1]
    x = np.tan(angle)[:, None]
    mass = np.exp(density.score_samples(x)) * (1 + x[:, 0] ** 2)
    assert np.trapezoid(mass, angle) == pytest.approx(1, abs=1e-3)
    inner, step = np.array([[-3.0], [0.2], [40.0], [1e5]]), 1e-5
    step = step * (1 + np.abs(inner))
    slopes = density.score_samples(inner + step) - density.score_samples(inner - step)
    scores = density.stein_score(inner)[:, 0]
    np.testing.assert_allclose(scores, slopes / (2 * step[:, 0]), rtol=1e-3, atol=1e-6)


def test_a_time_limit_ends_the_search_for_a_bandwidth():
    X = np.random.RandomState(0).standard_normal((500, 2))
    with pytest.warns(ConvergenceWarning, match="max_fit_time ended the search"):
        density = KernelScoreEstimator("cv", max_fit_time=1e-9).fit(X)
    assert np.isfinite(density.score(X))
