"""Laws of kernel estimates with known bounds and periods."""

import numpy as np
import pytest
import torch
from scipy.stats import norm, qmc

from sklearn_dsm import KernelScoreEstimator
from sklearn_dsm._core.distributions.boxed_kernel import BoxedKernelScore
from sklearn_dsm._core.noise.level import NoiseLevel

CIRCLE = 2 * np.pi


def table(name, n=400, seed=0):
    random = np.random.RandomState(seed)
    x = {
        "beta": random.beta(1, 3, n),
        "exponential": random.exponential(size=n),
        "angle": np.mod(random.normal(0.3, 0.8, n), CIRCLE),
    }
    if name in x:
        return x[name][:, None]
    return np.stack([x["beta"], x[name.split(" and ")[1]]], 1)


SINGLE = {
    "both bounds": ({"support": (0, 1)}, "beta"),
    "open above": ({"support": (0, None)}, "exponential"),
    "open below": ({"support": (-np.inf, 1)}, "beta"),
    "period": ({"period": CIRCLE}, "angle"),
    "period from -pi": ({"period": CIRCLE, "support": (-np.pi, None)}, "angle"),
    "order four, bounds": ({"support": (0, 1), "smoothness": 4}, "beta"),
    "order four, open": ({"support": [(0, None)], "smoothness": 4}, "exponential"),
    "order four, period": ({"period": [CIRCLE], "smoothness": 3}, "angle"),
    "cross-validated": ({"support": (0, 1), "bandwidth": "cv", "random_state": 0}, "beta"),
    "very wide": ({"support": (0, 1), "bandwidth": 1.5}, "beta"),
    "very wide period": ({"period": CIRCLE, "bandwidth": 9.0}, "angle"),
}
PAIRS = {
    "one bounded": ({"support": [(0, 1), None]}, "beta and exponential"),
    "both bounded": ({"support": [(0, 1), (0, None)]}, "beta and exponential"),
    "bound and period": ({"support": [(0, 1), None], "period": [None, CIRCLE]}, "beta and angle"),
}
every_case = pytest.mark.parametrize("case", [*SINGLE, *PAIRS])
every_single = pytest.mark.parametrize("case", SINGLE)


@pytest.fixture(scope="module")
def fitted():
    """name of a case -> the fitted estimator, once."""
    known = {}

    def fit(case):
        if case not in known:
            options, name = (SINGLE | PAIRS)[case]
            known[case] = KernelScoreEstimator(**options).fit(table(name))
        return known[case]

    return fit


def grid(density, n_points):
    """The middles of equal cells of the box, far enough at open ends, and the cells' size."""
    X = density.sample(2000, random_state=0)
    axes, size = [], 1.0
    for (low, high), x in zip(density.support_, X.T, strict=True):
        reach = 8 * x.std()
        low, high = max(low, x.min() - reach), min(high, x.max() + reach)
        axes.append(low + (high - low) * (np.arange(n_points) + 0.5) / n_points)
        size *= (high - low) / n_points
    return np.stack([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")], 1), size


@every_case
def test_the_mass_is_one_and_the_draws_are_of_the_density(fitted, case):
    density = fitted(case)
    points, size = grid(density, 4000 if case in SINGLE else 300)
    mass = np.exp(density.score_samples(points)) * size
    assert mass.sum() == pytest.approx(1, abs=2e-3)
    draws = density.sample(20000, random_state=1)
    assert np.isfinite(density.score_samples(draws)).all()
    for j in range(points.shape[1]):
        for law in (np.sin, np.cos, np.tanh):
            values = law(points[:, j])
            mean = mass @ values / mass.sum()
            error = np.sqrt(mass @ (values - mean) ** 2 / len(draws))
            assert law(draws[:, j]).mean() == pytest.approx(mean, abs=4 * error + 1e-3)


@every_case
def test_the_stein_score_is_the_gradient_of_the_log_density(fitted, case):
    density = fitted(case)
    X = density.sample(50, random_state=2)
    step = 1e-6 * np.ptp(X, axis=0)
    X = X[np.isfinite(density.score_samples(X - step) + density.score_samples(X + step))]
    scores = density.stein_score(X)
    for j in range(X.shape[1]):
        move = step * (np.arange(X.shape[1]) == j)
        slopes = density.score_samples(X + move) - density.score_samples(X - move)
        np.testing.assert_allclose(scores[:, j], slopes / (2 * step[j]), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("case", ["both bounds", "open above", "period", "order four, bounds"])
@pytest.mark.parametrize("noise_level", [0.05, 0.3])
def test_noised_scores_are_those_of_the_noised_density(fitted, case, noise_level):
    """By quadrature over the box."""
    density = fitted(case)
    points, size = grid(density, 4000)
    mass = np.exp(density.score_samples(points)) * size
    location, scale = (density.latent_map_[f"0.marginal.{name}"] for name in ("location", "scale"))
    a, v = (float(part) for part in density.process_.level(torch.tensor(noise_level).double()))
    y = np.linspace(-2, 2, 9)[:, None]
    means = a * (points[:, 0] - location) / scale
    joint = mass * norm.pdf(y, means, np.sqrt(v))
    expected = -(joint * (y - means)).sum(1) / v / joint.sum(1)
    found = density.stein_score(location + scale * y, noise_level)[:, 0] * scale
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("v", [1e-4, 0.1, 5.0])
def test_a_cut_mixture_has_the_derivatives_of_its_log_density(v):
    """Also far outside of the box, and with centres there."""
    random = np.random.RandomState(0)
    centers, weights = torch.from_numpy(random.normal(size=(40, 3))), torch.ones(40).double() / 40
    low, high = torch.tensor([[-1.0, -np.inf, 0.0], [0.5, np.inf, np.inf]]).double()
    model = BoxedKernelScore(centers, 0.3, weights, low, high)
    level = NoiseLevel(torch.tensor(0.9).double(), torch.tensor(v).double())
    x = torch.from_numpy(3 * random.normal(size=(30, 3))).requires_grad_()
    gradient = torch.autograd.grad(model.log_density(x, level).sum(), x)[0]
    score, diagonal = model.score_and_jacobian_diagonal(x, level)
    torch.testing.assert_close(score, gradient, rtol=1e-7, atol=1e-7)
    second = [
        torch.autograd.grad(score[:, j].sum(), x, retain_graph=True)[0][:, j] for j in (0, 1, 2)
    ]
    torch.testing.assert_close(diagonal, torch.stack(second, 1), rtol=1e-4, atol=1e-4)


@every_case
def test_beyond_the_bounds_there_is_nothing(fitted, case):
    density = fitted(case)
    X = density.sample(20, random_state=3)
    for j, (low, high) in enumerate(density.support_):
        if density.periodic_[j]:
            continue
        for end, outwards in ((low, -1.0), (high, 1.0)):
            if np.isfinite(end):
                X[:, j] = end
                assert np.isfinite(density.score_samples(X)).all()
                X[:, j] = end + 1e-9 * outwards
                assert (density.score_samples(X) == -np.inf).all()
                assert np.isnan(density.stein_score(X)).all()
                X[:, j] = (np.clip(low, -9, 9) + np.clip(high, -9, 9)) / 2


LAWS = {
    "linear": (lambda u: -0.5 + np.sqrt(0.25 + 2 * u), lambda x: 0.5 + x),
    "falling": (lambda u: 1.5 - np.sqrt(2.25 - 2 * u), lambda x: 1.5 - x),
}


@pytest.mark.parametrize("law", LAWS)
def test_the_bias_at_a_bound_falls_with_the_square_of_the_bandwidth(law):
    """On a sample that is the law's quantiles, so that it is bias alone."""
    quantile, density = LAWS[law]
    n, widths = 200_000, np.array([0.04, 0.02, 0.01])
    X, ends = quantile((np.arange(n) + 0.5) / n)[:, None], np.array([[0.0], [1.0]])
    errors = []
    for h in widths:
        found = np.exp(KernelScoreEstimator(float(h), support=(0, 1)).fit(X).score_samples(ends))
        errors.append(np.abs(found / density(ends[:, 0]) - 1).max())
    assert errors[-1] < 1e-3
    assert errors[0] / errors[-1] > 4**1.75
    plain = KernelScoreEstimator(0.04).fit(X).score_samples(ends)
    assert np.abs(np.exp(plain) / density(ends[:, 0]) - 1).max() > 10 * errors[0]


def test_a_density_that_is_log_linear_at_a_bound_has_nearly_no_bias_there():
    u = (np.arange(100_000) + 0.5) / 100_000
    for rate in (-2.0, 2.0):
        X, ends = np.log1p(u * np.expm1(rate))[:, None] / rate, np.array([[0.0], [1.0]])
        truth = rate / np.expm1(rate) * np.exp(rate * ends[:, 0])
        density = KernelScoreEstimator(0.05, support=(0, 1)).fit(X)
        np.testing.assert_allclose(np.exp(density.score_samples(ends)), truth, rtol=1e-3)


def test_the_bias_falls_so_in_two_features_whose_slopes_differ():
    """f(x | y) is proportional to exp(2 y x) on [0, 1], with y normal."""
    u = qmc.Sobol(2, rng=0).random(2**16)
    y = norm.ppf(u[:, 1])
    x = np.log1p(u[:, 0] * np.expm1(2 * y)) / (2 * y)
    points = np.array([[end, place] for end in (0.0, 1.0) for place in (-1.0, 0.5, 1.0)])
    rate = 2 * points[:, 1]
    truth = norm.pdf(points[:, 1]) * rate / np.expm1(rate) * np.exp(rate * points[:, 0])
    biases = {}
    for h in (0.4, 0.1):
        density = KernelScoreEstimator(h, support=[(0, 1), None]).fit(np.stack([x, y], 1))
        biases[h] = np.abs(np.exp(density.score_samples(points)) / truth - 1).max()
    assert biases[0.1] < 0.03
    assert biases[0.4] / biases[0.1] > 4**1.5


def test_a_uniform_density_is_one_up_to_its_ends():
    for n_features in (1, 2):
        X = qmc.Sobol(n_features, rng=0).random(2**13)
        density = KernelScoreEstimator(support=[(0, 1)] * n_features).fit(X)
        ends = np.array(np.meshgrid(*[[0, 1e-4, 0.01, 0.5, 1]] * n_features)).reshape(
            n_features, -1
        )
        np.testing.assert_allclose(np.exp(density.score_samples(ends.T)), 1, atol=0.04)


@pytest.mark.parametrize("smoothness", [2, 4])
def test_turning_all_angles_turns_the_density(smoothness):
    X, x = table("angle"), np.linspace(0, 6, 30)[:, None]
    options = {"period": CIRCLE, "smoothness": smoothness}
    plain, turned = (KernelScoreEstimator(**options).fit(X + turn) for turn in (0, 2.5))
    assert turned.bandwidth_ == pytest.approx(plain.bandwidth_, rel=1e-9)
    x = x[plain.score_samples(x) > -20]
    values = plain.score_samples(x)
    for where in (2.5, 2.5 - CIRCLE, 2.5 + 5 * CIRCLE):
        np.testing.assert_allclose(turned.score_samples(x + where), values, rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(
            turned.stein_score(x + where), plain.stein_score(x), rtol=5e-3, atol=5e-3
        )


def test_draws_lie_in_one_period_and_the_ends_join():
    for start in (0.0, -np.pi):
        density = KernelScoreEstimator(period=CIRCLE, support=(start, start + CIRCLE))
        density.fit(table("angle"))
        draws = density.sample(20000, random_state=0)
        assert draws.min() >= start and draws.max() < start + CIRCLE
        ends = np.array([[start], [start + CIRCLE]])
        near = ends + np.array([[1e-7], [-1e-7]])
        assert np.ptp(density.score_samples(ends)) < 1e-9
        assert np.ptp(density.score_samples(near)) < 1e-5


def test_a_period_is_a_wrapped_kernel_estimate():
    X, x = table("angle", 60), np.linspace(0, 6, 20)[:, None]
    density = KernelScoreEstimator(0.5, period=CIRCLE).fit(X)
    turns = CIRCLE * np.arange(-4, 5)
    kernels = norm.pdf(x[..., None], X[:, 0, None] + turns, 0.5).sum(2).mean(1)
    np.testing.assert_allclose(np.exp(density.score_samples(x)), kernels, rtol=1e-6)


@pytest.mark.parametrize("case", ["both bounds", "period", "bound and period"])
def test_two_regimes_keep_to_the_box(case):
    options, name = (SINGLE | PAIRS)[case]
    X = table(name, 30)
    density = KernelScoreEstimator(two_regime=True, **options).fit(X)
    draws = density.sample(300, random_state=0)
    assert ((density.support_[:, 0] <= draws) & (draws <= density.support_[:, 1])).all()
    values = density.score_samples(X[:5])
    assert np.isfinite(values).all()
    moved = X[:5] + np.where(density.periodic_, CIRCLE, -9)
    expected = values if density.periodic_.all() else -np.inf
    np.testing.assert_allclose(density.score_samples(moved), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "n_features", "message"),
    [
        ({"support": (1, 0)}, 1, "the smaller number first"),
        ({"support": (0, 1)}, 2, "must be a pair"),
        ({"support": [(0, 1)]}, 2, "for each of the 2 features"),
        ({"support": (0, 1)}, 1, "do not fit in its support"),
        ({"support": [(-9, "a"), None]}, 2, "must be a pair"),
        ({"period": (1.0, 2.0)}, 1, "for each of the 1 features"),
        ({"period": [None, -1.0]}, 2, "positive number or None"),
        ({"period": -1.0}, 1, "'period' parameter"),
        ({"period": 2.0, "support": (0, 1)}, 1, "one period from its start"),
        ({"period": 2.0, "marginals": "gaussianize"}, 1, "bends the features"),
        ({"support": [(-5, 5)] * 12, "bandwidth": 2.0}, 12, "coordinates of centres"),
    ],
)
def test_what_is_refused(options, n_features, message):
    X = np.random.RandomState(0).normal(size=(4000, n_features))
    with pytest.raises(ValueError, match=message):
        KernelScoreEstimator(**options).fit(X)
