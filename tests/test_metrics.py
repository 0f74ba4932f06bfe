"""Distances between samples: identities, closed forms, other implementations, bad input."""

from __future__ import annotations

import sys
from functools import partial

import numpy as np
import pytest
from scipy import stats

from sklearn_dsm import metrics
from sklearn_dsm.datasets import Funnel, GaussianMixtureLaw
from sklearn_dsm.metrics import (
    distance_floor,
    energy_distance,
    maximum_mean_discrepancy,
    score_error,
    sliced_wasserstein_distance,
    wasserstein_distance,
)

DISTANCES = {
    "sliced": partial(sliced_wasserstein_distance, n_projections=50, random_state=0),
    "wasserstein": wasserstein_distance,
    "energy": energy_distance,
    "mmd": partial(maximum_mean_discrepancy, random_state=0),
}
WITHOUT_POT = [name for name in DISTANCES if name != "wasserstein"]
# Those that scale with the rows: the root of the energy distance by the root of the factor.
POWERS = {"sliced": 1.0, "wasserstein": 1.0, "energy": 0.5, "mmd": 0.0}
UNBIASED = {
    "energy": partial(energy_distance, squared=True, unbiased=True),
    "mmd": partial(maximum_mean_discrepancy, bandwidth=1.5, squared=True, unbiased=True),
}
every_distance = pytest.mark.parametrize("name", DISTANCES)


def pair(n=40, m=57, d=3, seed=0):
    random = np.random.RandomState(seed)
    return random.normal(size=(n, d)), 0.7 * random.normal(size=(m, d)) + 0.5


@every_distance
def test_zero_for_equal_samples_in_any_order(name):
    X, _ = pair()
    assert DISTANCES[name](X, X) == pytest.approx(0, abs=1e-7)
    assert DISTANCES[name](X, X[::-1]) == pytest.approx(0, abs=1e-7)
    assert DISTANCES[name](X, np.repeat(X, 3, axis=0)) == pytest.approx(0, abs=1e-7)


@every_distance
def test_symmetric_positive_and_blind_to_order_and_place(name):
    X, Y = pair()
    distance, random = DISTANCES[name], np.random.RandomState(1)
    value = distance(X, Y)
    assert isinstance(value, float) and value > 0
    assert distance(Y, X) == pytest.approx(value)
    assert distance(random.permutation(X), random.permutation(Y)) == pytest.approx(value)
    assert distance(X + 7.0, Y + 7.0) == pytest.approx(value)


@every_distance
def test_scales_with_the_rows(name):
    X, Y = pair()
    scaled = DISTANCES[name](100 * X, 100 * Y)
    assert scaled == pytest.approx(100 ** POWERS[name] * DISTANCES[name](X, Y))


@every_distance
def test_the_triangle_inequality(name):
    (X, Y), (Z, _) = pair(), pair(n=33, seed=5)
    fixed = {"bandwidth": 1.0} if name == "mmd" else {}
    distance = partial(DISTANCES[name], **fixed)
    assert distance(X, Y) <= distance(X, Z) + distance(Z, Y) + 1e-12


@every_distance
def test_weights_are_repetitions(name):
    X, Y = pair()
    random = np.random.RandomState(2)
    counts, others = random.randint(0, 4, len(X)), random.randint(0, 3, len(Y))
    fixed = {"bandwidth": 1.0} if name == "mmd" else {}
    distance = partial(DISTANCES[name], **fixed)
    weighted = distance(X, Y, X_weight=0.3 * counts, Y_weight=others)
    repeated = distance(np.repeat(X, counts, axis=0), np.repeat(Y, others, axis=0))
    assert weighted == pytest.approx(repeated)
    assert distance(X, Y, X_weight=np.full(len(X), 7.0)) == pytest.approx(distance(X, Y))


@every_distance
def test_chunks_change_nothing(name, monkeypatch):
    X, Y = pair()
    values = [DISTANCES[name](X, Y, X_weight=weight) for weight in (None, X[:, 0] ** 2)]
    monkeypatch.setattr("sklearn_dsm.metrics._samples.CHUNK_NUMBERS", 100)
    again = [DISTANCES[name](X, Y, X_weight=weight) for weight in (None, X[:, 0] ** 2)]
    assert again == pytest.approx(values, rel=1e-12)


@pytest.mark.parametrize("name", ("sliced", "mmd"))
def test_one_seed_gives_one_value_and_touches_no_global_one(name, monkeypatch):
    monkeypatch.setattr("sklearn_dsm.metrics._pairs.MEDIAN_ROWS", 30)
    X, Y = pair()
    distance, before = DISTANCES[name], np.random.get_state()[1].copy()
    assert distance(X, Y) == distance(X, Y) != distance(X, Y, random_state=1)
    generators = [np.random.default_rng(4) for _ in range(2)]
    assert distance(X, Y, random_state=generators[0]) == distance(X, Y, random_state=generators[1])
    np.testing.assert_array_equal(np.random.get_state()[1], before)
    assert distance(X, Y, random_state=None) != distance(X, Y, random_state=None)


@pytest.mark.parametrize("weighted", (False, True))
def test_one_column_agrees_with_scipy(weighted):
    X, Y = pair(d=1)
    random = np.random.RandomState(3)
    weights = (
        (random.uniform(size=len(X)), random.uniform(size=len(Y))) if weighted else (None,) * 2
    )
    options = dict(zip(("X_weight", "Y_weight"), weights, strict=True))
    columns = X[:, 0], Y[:, 0], *weights
    expected = stats.wasserstein_distance(*columns)
    assert sliced_wasserstein_distance(X, Y, p=1, **options) == pytest.approx(expected)
    assert energy_distance(X, Y, **options) == pytest.approx(stats.energy_distance(*columns))


@pytest.mark.parametrize("p", (1, 1.5, 2, 3))
@pytest.mark.parametrize("weighted", (False, True))
def test_one_column_of_wasserstein_and_sliced_agree(p, weighted):
    X, Y = pair(d=1)
    weight = np.random.RandomState(3).uniform(size=len(X)) if weighted else None
    sliced = sliced_wasserstein_distance(X, Y, p=p, X_weight=weight, n_projections=3)
    assert wasserstein_distance(X, Y, p, X_weight=weight) == pytest.approx(sliced)


def test_a_translation_is_its_length_in_wasserstein_distance():
    X, shift = pair(d=4)[0], np.array([1.0, 2.0, 2.0, 4.0])
    for p in (1, 2, 4):
        assert wasserstein_distance(X, X + shift, p) == pytest.approx(5)


def test_wasserstein_of_equal_sizes_is_the_best_assignment():
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial.distance import cdist

    X, Y = pair(n=50, m=50)
    cost = cdist(X, Y) ** 2
    expected = np.sqrt(cost[linear_sum_assignment(cost)].mean())
    assert wasserstein_distance(X, Y) == pytest.approx(expected)


def test_sliced_distance_of_a_translation():
    """E cos^2 of the angle to a random direction is 1 / d, with variance 2 (d-1) / (d^2 (d+2))."""
    d, n = 8, 20_000
    X, shift = pair(n=5, d=d)[0], np.arange(1.0, d + 1)
    length = np.linalg.norm(shift)
    value = sliced_wasserstein_distance(X, X + shift, n_projections=n, random_state=0)
    error = np.sqrt(2 * (d - 1) / (d**2 * (d + 2)) / n)
    assert abs(value**2 / length**2 - 1 / d) < 4 * error
    first = sliced_wasserstein_distance(X, X + shift, p=4, n_projections=n, random_state=0)
    # The fourth moment is 3 / (d (d + 2)).
    assert first**4 / length**4 == pytest.approx(3 / (d * (d + 2)), rel=0.1)


@pytest.mark.parametrize(("scale", "p"), [(1e-3, 120.0), (1e4, 100.0), (1e120, 3.0)])
def test_sliced_distance_of_high_order_neither_vanishes_nor_overflows(scale, p):
    X = np.random.RandomState(0).standard_normal((50, 1))
    options = {"p": p, "n_projections": 3}
    for weight in (None, np.ones(50)):
        value = sliced_wasserstein_distance(X, X + scale, **options, X_weight=weight)
        assert value == pytest.approx(scale)


@pytest.mark.parametrize("metric", [energy_distance, maximum_mean_discrepancy])
def test_squares_of_equal_samples_are_not_negative(metric):
    for seed in range(20):
        X = np.random.RandomState(seed).standard_normal((30, 2))
        assert metric(X, X[::-1], squared=True) >= 0


def test_sliced_is_at_most_exact_wasserstein_distance():
    for seed in range(5):
        X, Y = pair(seed=seed, d=2 + seed)
        sliced = sliced_wasserstein_distance(X, Y, random_state=seed)
        assert sliced <= wasserstein_distance(X, Y)


def test_energy_and_discrepancy_against_their_definitions():
    X, Y = pair(n=15, m=11)

    def mean(function, A, B, leave_out=False):
        values = [
            function(A[i], B[j])
            for i in range(len(A))
            for j in range(len(B))
            if not (leave_out and i == j)
        ]
        return np.mean(values)

    def length(x, y):
        return np.linalg.norm(x - y)

    def kernel(x, y):
        return np.exp(-((x - y) ** 2).sum() / (2 * 1.3**2))

    for unbiased in (False, True):
        options = {"squared": True, "unbiased": unbiased}
        energy = 2 * mean(length, X, Y)
        energy -= mean(length, X, X, unbiased) + mean(length, Y, Y, unbiased)
        assert energy_distance(X, Y, **options) == pytest.approx(energy)
        discrepancy = mean(kernel, X, X, unbiased) + mean(kernel, Y, Y, unbiased)
        discrepancy -= 2 * mean(kernel, X, Y)
        value = maximum_mean_discrepancy(X, Y, bandwidth=1.3, **options)
        assert value == pytest.approx(discrepancy)


def test_the_median_bandwidth_is_over_pairs_of_different_rows():
    X, Y = pair()
    pooled = np.concatenate([X, Y])
    lengths = np.linalg.norm(pooled[:, None] - pooled, axis=2)[np.triu_indices(len(pooled), 1)]
    expected = maximum_mean_discrepancy(X, Y, bandwidth=float(np.median(lengths)))
    assert maximum_mean_discrepancy(X, Y) == pytest.approx(expected)


@pytest.mark.parametrize("name", UNBIASED)
def test_unbiased_squares_have_mean_zero_under_equality(name):
    random = np.random.RandomState(0)
    values = [
        UNBIASED[name](random.normal(size=(12, 2)), random.normal(size=(17, 2)))
        for _ in range(1500)
    ]
    assert min(values) < 0
    assert abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(len(values))


def test_unbiased_squares_between_gaussians_have_their_closed_forms():
    """E |x - y| of N(0, s^2) in one column is s sqrt(2 / pi); the kernel's mean is a Gaussian."""
    random, h = np.random.RandomState(1), 1.5
    pairs = [(random.normal(size=(12, 1)), random.normal(1, 2, size=(9, 1))) for _ in range(1500)]
    between = stats.foldnorm(1 / 5**0.5, scale=5**0.5).mean()
    energy = 2 * between - (2 * 2 / np.pi) ** 0.5 - (2 * 8 / np.pi) ** 0.5

    def kernel(mean, variance):
        return np.sqrt(h**2 / (h**2 + variance)) * np.exp(-(mean**2) / (2 * (h**2 + variance)))

    discrepancy = kernel(0, 2) + kernel(0, 8) - 2 * kernel(1, 5)
    for name, expected in (("energy", energy), ("mmd", discrepancy)):
        values = [UNBIASED[name](X, Y) for X, Y in pairs]
        error = np.std(values) / np.sqrt(len(values))
        assert abs(np.mean(values) - expected) < 4 * error


def test_wasserstein_distance_of_gaussians_in_the_limit():
    """Between N(0, I) and N(t, s^2 I) the square is |t|^2 + d (1 - s)^2; samples add a floor."""
    random = np.random.RandomState(0)
    X, Y = random.normal(size=(900, 2)), 2.0 * random.normal(size=(900, 2)) + [3.0, 0.0]
    assert wasserstein_distance(X, Y) == pytest.approx(np.sqrt(11), rel=0.04)


def test_score_error_is_the_weighted_mean_of_squared_lengths():
    exact, random = np.zeros((4, 2)), np.random.RandomState(0)
    estimated = np.array([[3.0, 4.0], [0.0, 0.0], [1.0, 0.0], [9.0, 9.0]])
    assert score_error(estimated, exact) == pytest.approx((25 + 1 + 162) / 4)
    assert score_error(estimated, exact, sample_weight=[1, 1, 2, 0]) == pytest.approx(27 / 4)
    assert score_error(estimated, exact, squared=False) == pytest.approx(np.sqrt(47))
    noisy = exact + random.normal(size=exact.shape)
    assert score_error(noisy, noisy) == 0


def test_score_error_is_the_fisher_divergence():
    """Between N(0, I) and N(m, I) it is |m|^2, at every row."""
    law, other = (GaussianMixtureLaw([[shift, 2 * shift]]) for shift in (0.0, 1.0))
    X = law.sample(50, 0)
    assert score_error(other.score(X), law.score(X)) == pytest.approx(5)


def test_the_floor_is_that_of_independent_pairs():
    law, metric = Funnel(3, scale=1.0), partial(sliced_wasserstein_distance, random_state=0)
    floor = distance_floor(metric, law.sample, 100, n_repeats=40, random_state=0)
    assert floor.values.shape == (40,)
    assert len(set(floor.values)) == 40
    assert floor.mean == floor.values.mean()
    assert floor.std == floor.values.std(ddof=1)
    again = distance_floor(metric, law.sample, (100, 100), n_repeats=40, random_state=0)
    np.testing.assert_array_equal(again.values, floor.values)
    random = np.random.RandomState(9)
    fresh = [metric(law.sample(100, random), law.sample(100, random)) for _ in range(40)]
    error = np.hypot(np.std(fresh), floor.std) / np.sqrt(40)
    assert abs(np.mean(fresh) - floor.mean) < 4 * error


def test_the_floor_falls_as_samples_grow():
    metric = partial(energy_distance, squared=True)
    small, large = (
        distance_floor(metric, Funnel(2, scale=0.5).sample, n, random_state=0).mean
        for n in (50, 400)
    )
    # The V-statistic's expectation falls as one over the size.
    assert small / large == pytest.approx(8, rel=0.4)


def test_the_floor_of_rows_parts_them():
    rows = np.arange(20.0)[:, None]
    seen = []

    def metric(X, Y):
        seen.append((X, Y))
        return len(X) + len(Y)

    floor = distance_floor(metric, rows, (7, 5), n_repeats=6, random_state=0)
    assert (floor.mean, floor.std) == (12.0, 0.0)
    for X, Y in seen:
        assert (len(X), len(Y)) == (7, 5)
        assert len(np.unique(np.concatenate([X, Y]))) == 12
    assert not np.array_equal(seen[0][0], seen[1][0])


@every_distance
def test_bad_samples(name):
    X, Y = pair()
    distance = DISTANCES[name]
    with pytest.raises(ValueError, match="X has 3 columns and Y has 2"):
        distance(X, Y[:, :2])
    for value, word in ((np.nan, "NaN"), (np.inf, "infinity")):
        bad = Y.copy()
        bad[3, 1] = value
        with pytest.raises(ValueError, match=f"Input Y contains {word}"):
            distance(X, bad)
    with pytest.raises(ValueError, match="0 sample"):
        distance(X[:0], Y)
    with pytest.raises(ValueError, match="Expected 2D array"):
        distance(X[:, 0], Y[:, 0])
    with pytest.raises(ValueError, match=r"Y holds values beyond 1e\+150.*rescale"):
        distance(X, 1e200 * Y)


@every_distance
def test_bad_weights(name):
    X, Y = pair()
    for weight in (-np.ones(len(X)), np.zeros(len(X)), np.ones(3), np.full(len(X), np.nan)):
        with pytest.raises(ValueError, match="X_weight is no weight of the rows of X"):
            DISTANCES[name](X, Y, X_weight=weight)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (partial(sliced_wasserstein_distance, p=0.5), "'p' parameter"),
        (partial(sliced_wasserstein_distance, n_projections=0), "'n_projections' parameter"),
        (partial(sliced_wasserstein_distance, random_state="x"), "'random_state' parameter"),
        (partial(wasserstein_distance, p=0), "'p' parameter"),
        (partial(maximum_mean_discrepancy, bandwidth=0.0), "'bandwidth' parameter"),
        (partial(maximum_mean_discrepancy, bandwidth="mean"), "'bandwidth' parameter"),
        (partial(maximum_mean_discrepancy, unbiased=True), "needs squared=True"),
        (partial(energy_distance, unbiased=True), "needs squared=True"),
        (partial(energy_distance, squared="no"), "'squared' parameter"),
    ],
)
def test_bad_options(call, message):
    with pytest.raises(ValueError, match=message):
        call(*pair())


def test_too_few_or_too_equal_rows():
    X, Y = pair()
    for distance in UNBIASED.values():
        with pytest.raises(ValueError, match="at least 2 rows of positive weight, and X has 1"):
            distance(X, Y, X_weight=np.arange(len(X)) == 4)
    with pytest.raises(ValueError, match="median distance between rows is zero"):
        maximum_mean_discrepancy(np.zeros((9, 2)), np.zeros((7, 2)))


def test_bad_scores():
    exact = np.zeros((4, 2))
    with pytest.raises(ValueError, match=r"estimated has shape \(3, 2\) and exact has \(4, 2\)"):
        score_error(exact[:3], exact)
    with pytest.raises(ValueError, match="Input estimated contains NaN"):
        score_error(np.full((4, 2), np.nan), exact)
    with pytest.raises(ValueError, match=r"(?i)sample.weight"):
        score_error(exact, exact, sample_weight=np.zeros(4))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metric": "energy"}, "'metric' parameter"),
        ({"n_samples": 0}, "'n_samples' parameter"),
        ({"n_samples": (3, 4, 5)}, "one number of rows, or a pair"),
        ({"n_repeats": 1}, "'n_repeats' parameter"),
        ({"n_samples": 15}, r"sample has 20 rows, and disjoint samples of 15 and 15 need 30"),
        ({"sample": np.zeros(20)}, "Expected 2D array"),
    ],
)
def test_bad_floors(options, message):
    defaults = {"metric": energy_distance, "sample": np.zeros((20, 2)), "n_samples": 5}
    with pytest.raises(ValueError, match=message):
        distance_floor(**(defaults | options))


def test_absent_pot_is_named_with_the_fix(monkeypatch):
    monkeypatch.setitem(sys.modules, "ot", None)
    with pytest.raises(ImportError, match=r"pip install 'sklearn_dsm\[metrics\]'"):
        wasserstein_distance(*pair())


@pytest.mark.parametrize("name", WITHOUT_POT)
def test_absent_pot_keeps_the_others(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "ot", None)
    assert DISTANCES[name](*pair()) > 0


def test_an_unfinished_solver_raises(monkeypatch):
    stopped = {"warning": "numItermax reached"}
    monkeypatch.setattr("ot.emd2", lambda *args, **options: (1.0, stopped))
    with pytest.raises(RuntimeError, match="stopped before its optimum: numItermax reached"):
        wasserstein_distance(*pair())


def test_public_names_are_documented():
    functions = [name for name in metrics.__all__ if name.islower()]
    for name in functions:
        assert "Examples\n" in getattr(metrics, name).__doc__, name
