"""Laws of the densities that kernel estimates of scores imply."""

import numpy as np
import pytest
import torch
from scipy.stats import norm
from sklearn.neighbors import KernelDensity

from sklearn_dsm import KernelScoreEstimator
from sklearn_dsm._core.distributions.gaussian import GaussianScore
from sklearn_dsm._core.distributions.kernel import KernelScore
from sklearn_dsm._core.likelihood.identity import hermite_nodes, identity_log_density, sobol_nodes


def normal_rows(n, d=1, seed=0):
    return np.random.RandomState(seed).standard_normal((n, d))


def test_one_regime_is_the_kernel_estimate():
    X = normal_rows(300, 2)
    density = KernelScoreEstimator(0.4).fit(X)
    mean = X.mean(0)
    values, axes = np.linalg.eigh(np.cov(X.T, bias=True))
    whitening = axes / np.sqrt(values)
    white = (X - mean) @ whitening
    kde = KernelDensity(bandwidth=0.4).fit(white).score_samples(white)
    expected = kde + np.linalg.slogdet(whitening)[1]
    np.testing.assert_allclose(density.score_samples(X), expected, atol=0.05)


def test_the_identity_gives_the_kernel_estimate_from_its_scores():
    """Section 6.2: within a hundredth of a nat everywhere, without any derivative."""
    centers = torch.from_numpy(normal_rows(200))
    kernel = KernelScore(centers, 0.35)
    variance = centers.var() + 0.35**2
    reference = GaussianScore(centers.mean(0), variance.reshape(1, 1))
    x = torch.linspace(-2.5, 2.5, 41, dtype=torch.float64)[:, None]
    nodes = hermite_nodes(40, 40, -8.0, 12.0)
    found = identity_log_density(kernel, reference, x, nodes)
    expected = KernelDensity(bandwidth=0.35).fit(centers.numpy()).score_samples(x.numpy())
    assert np.abs(found.numpy() - expected).max() < 1e-2


@pytest.mark.parametrize("smoothness", [0.75, 1.5, 2.0])
def test_the_bandwidth_falls_at_the_minimax_rate(smoothness):
    few, many = (
        KernelScoreEstimator(smoothness=smoothness).fit(normal_rows(n)).bandwidth_
        for n in (200, 20000)
    )
    assert few / many == pytest.approx(100 ** (1 / (2 * smoothness + 1)), rel=0.1)


def test_a_kernel_of_order_four_has_less_bias():
    """Far from the ends, bias falls from h^2 to h^4."""
    X = normal_rows(40000)
    grid = np.linspace(-2, 2, 41)[:, None]
    errors = {}
    for smoothness in (2, 4):
        density = KernelScoreEstimator(0.5, smoothness=smoothness).fit(X)
        assert density.kernel_order_ == (2 if smoothness == 2 else 4)
        gap = np.exp(density.score_samples(grid)) - norm.pdf(grid[:, 0])
        errors[smoothness] = np.abs(gap).max()
    assert errors[4] < 0.4 * errors[2]


def test_a_known_support_holds_the_mass_and_has_no_dip_at_its_ends():
    X = np.random.RandomState(0).uniform(-1, 1, (4000, 1))
    density = KernelScoreEstimator(support=(-1, 1)).fit(X)
    inside = np.linspace(-0.999, 0.999, 401)[:, None]
    values = np.exp(density.score_samples(inside))
    assert np.abs(values - 0.5).max() < 0.12
    assert np.trapezoid(values, inside[:, 0]) == pytest.approx(0.999, abs=3e-3)
    assert density.score_samples([[1.2]])[0] < -100


@pytest.mark.parametrize("options", [{}, {"bandwidth": 0.002}], ids=["rule", "narrow"])
def test_a_support_far_beyond_the_rows_is_as_good_as_a_near_one(options):
    """And either is the kernel estimate itself, with rows mirrored at the near end."""
    X = np.random.RandomState(0).exponential(size=(300, 1))
    near, far = (KernelScoreEstimator(support=(0, end), **options).fit(X) for end in (20, 1e6))
    mirrored, x = np.concatenate([X, -X])[:, 0], np.linspace(0.01, 3, 60)
    kernels = norm.pdf(x[:, None], mirrored, near.bandwidth_).sum(1) / len(X)
    for density in (near, far):
        np.testing.assert_allclose(
            np.exp(density.score_samples(x[:, None])), kernels, rtol=0.01, atol=1e-3
        )


def test_cross_validation_prefers_what_held_out_rows_prefer():
    random = np.random.RandomState(0)
    X = np.concatenate([random.normal(-3, 0.1, 300), random.normal(3, 0.1, 300)])[:, None]
    rule, chosen = (KernelScoreEstimator(name).fit(X) for name in ("minimax", "cv"))
    fresh = np.concatenate([random.normal(-3, 0.1, 300), random.normal(3, 0.1, 300)])[:, None]
    assert chosen.bandwidth_ < rule.bandwidth_
    assert chosen.score(fresh) > rule.score(fresh)


def test_integer_weights_are_repeated_rows():
    X, count = normal_rows(60, 2), np.random.RandomState(1).randint(1, 4, 60)
    weighted = KernelScoreEstimator(0.5).fit(X, sample_weight=count)
    repeated = KernelScoreEstimator(0.5).fit(np.repeat(X, count, axis=0))
    np.testing.assert_allclose(weighted.score_samples(X), repeated.score_samples(X), atol=2e-2)


@pytest.mark.parametrize(
    "options", [{}, {"support": (-6, 6)}, {"smoothness": 4}], ids=["plain", "support", "order 4"]
)
def test_two_regimes_are_close_to_one(options):
    X, x = normal_rows(500), np.linspace(-2, 2, 21)[:, None]
    one = KernelScoreEstimator(**options).fit(X)
    two = KernelScoreEstimator(two_regime=True, likelihood="ode", **options).fit(X)
    gap = np.abs(one.score_samples(x) - two.score_samples(x))
    assert 1e-3 < gap.max() < 0.15


def test_samples_of_a_support_stay_in_it():
    X = np.random.RandomState(0).beta(1, 3, (500, 1))
    density = KernelScoreEstimator(support=(0, 1)).fit(X)
    drawn = density.sample(30000, random_state=0)
    assert drawn.min() >= 0 and drawn.max() <= 1
    share = np.trapezoid(
        np.exp(density.score_samples(np.linspace(0, 0.1, 201)[:, None])), dx=0.1 / 200
    )
    assert (drawn < 0.1).mean() == pytest.approx(share, abs=4 * np.sqrt(share / 30000))


@pytest.mark.parametrize("two_regime", [False, True])
def test_a_support_moves_with_the_unit_of_the_column(two_regime):
    """Log-densities by the log of the unit, scores by the unit, the bandwidth with it."""
    X, x = np.random.RandomState(0).beta(2, 3, (300, 1)), np.linspace(0.1, 0.9, 9)[:, None]
    options = {"bandwidth": "cv", "two_regime": two_regime, "random_state": 0}
    plain = KernelScoreEstimator(support=(0, 1), **options).fit(X)
    unit, shift = 1e-3, 5.0
    other = KernelScoreEstimator(support=(shift, shift + unit), **options).fit(shift + unit * X)
    assert other.bandwidth_ == pytest.approx(unit * plain.bandwidth_, rel=1e-6)
    y = shift + unit * x
    np.testing.assert_allclose(
        other.score_samples(y), plain.score_samples(x) - np.log(unit), atol=1e-3
    )
    for level in (0.1, 0.5):
        np.testing.assert_allclose(
            unit * other.stein_score(y, level), plain.stein_score(x, level), atol=1e-3
        )


@pytest.mark.parametrize("options", [{}, {"support": (0, 9)}, {"smoothness": 3}])
def test_cross_validation_is_that_of_the_estimate(options):
    """By leaving every row out of a fit of the same map."""
    X = np.random.RandomState(1).exponential(size=(40, 1)).clip(max=8.9)
    density = KernelScoreEstimator("cv", **options).fit(X)
    z, h = density.rows_[:, 0], density.bandwidth_
    if options.get("support"):
        h = h / X.std()
        ends = (np.array(options["support"]) - X.mean()) / X.std()
        images = np.concatenate([z, *(2 * end - z for end in ends)])
    else:
        images = z

    def left_out(h):
        u = (z[:, None] - images) / h
        kernel = norm.pdf(u) * ((3 - u**2) / 2 if density.kernel_order_ == 4 else 1)
        kernel[np.arange(len(images)) % len(z) == np.arange(len(z))[:, None]] = 0
        return np.log((kernel.sum(1) / h).clip(min=1e-300)).sum()

    assert left_out(h) >= max(left_out(h * f) for f in (0.7, 0.84, 1.2, 1.43)) - 1e-6


@pytest.mark.parametrize("two_regime", [False, True])
def test_memory_is_that_of_chunks(two_regime, monkeypatch):
    """Rows by centres are never held at once, nor all noise of a row's identity for many rows."""
    sizes, plain = [], KernelScore._log_joint

    def recorded(self, x, level):
        joint = plain(self, x, level)
        sizes.append(joint.numel())
        return joint

    monkeypatch.setattr(KernelScore, "_log_joint", recorded)
    X, n_rows = normal_rows(20000), 40 if two_regime else 2000
    density = KernelScoreEstimator(two_regime=two_regime).fit(X)
    assert np.isfinite(density.score_samples(X[:n_rows])).all()
    assert max(sizes) <= 32 * len(X)


@pytest.mark.parametrize(
    ("options", "X", "message"),
    [
        ({"support": (1, 0)}, normal_rows(20), "the smaller first"),
        ({"support": (0, np.inf)}, normal_rows(20) ** 2, "finite numbers"),
        ({"support": (-9, 9)}, normal_rows(20, 2), "is for one column"),
        ({"support": (0, 1)}, normal_rows(20), "do not fit in support"),
        ({"bandwidth": -1.0}, normal_rows(20), "'bandwidth' parameter"),
        ({"smoothness": 5}, normal_rows(20), "'smoothness' parameter"),
    ],
)
def test_what_is_refused(options, X, message):
    with pytest.raises(ValueError, match=message):
        KernelScoreEstimator(**options).fit(X)


def test_sobol_noise_in_two_columns_is_near_the_kernel_estimate():
    centers = torch.from_numpy(normal_rows(150, 2))
    kernel = KernelScore(centers, 0.5)
    reference = GaussianScore(centers.mean(0), torch.cov(centers.T) + 0.25 * torch.eye(2).double())
    x = centers[:20]
    found = identity_log_density(kernel, reference, x, sobol_nodes(24, 128, 2, -8.0, 10.0))
    expected = KernelDensity(bandwidth=0.5).fit(centers.numpy()).score_samples(x.numpy())
    assert np.abs(found.numpy() - expected).mean() < 0.02
