"""The law of a table: it sums to one, and its marginals, conditionals and samples agree with it."""

import pickle

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import logsumexp

from sklearn_dsm import TableDensityEstimator


def table(n=400, seed=0):
    """Two categories that shift a rounded number and one with many zeros, and a flag."""
    random = np.random.default_rng(seed)
    sex = random.choice(["f", "m"], n, p=[0.4, 0.6])
    height = (165 + 12 * (sex == "m") + 7 * random.normal(size=n)).round()
    income = np.exp(1 + 0.02 * (height - 170) + 0.5 * random.normal(size=n))
    income[random.uniform(size=n) < 0.3] = 0
    tall = random.uniform(size=n) < stats.norm.cdf((height - 170) / 5)
    return pd.DataFrame({"sex": sex.astype(object), "height": height, "income": income, "b": tall})


def holed(frame, share, seed=1):
    holes = np.random.default_rng(seed).uniform(size=frame.shape) < share
    return frame.astype(object).mask(holes, None).astype({"height": float, "income": float})


def fitted(frame, **options):
    options = {"max_epochs": 20, "random_state": 0} | options
    return TableDensityEstimator(**options).fit(frame)


@pytest.fixture(scope="module")
def model():
    return fitted(holed(table(), 0.1))


@pytest.fixture(scope="module")
def patterned():
    frame = table()
    frame["height"] = frame["height"].where(frame["sex"] == "m")
    return fitted(frame, missing="modelled", max_epochs=60)


@pytest.fixture(scope="module")
def smooth():
    random = np.random.default_rng(2)
    x = random.normal(size=(500, 1))
    X = np.hstack([x, x**2 + 0.5 * random.normal(size=x.shape), random.normal(size=x.shape) - x])
    X[random.uniform(size=X.shape) < 0.05] = np.nan
    return fitted(X, max_epochs=15)


@pytest.fixture(scope="module")
def grid():
    """Every value of the other columns that has some probability, and incomes at which to add."""
    heights, incomes = np.arange(142.0, 206.0), np.r_[0.0, np.geomspace(1e-2, 200, 120)]
    return heights, incomes


def log_integral(log_density, x):
    """Of a function of positive numbers, by the trapezoidal rule in log x."""
    return np.log(np.trapezoid(np.exp(log_density) * x, np.log(x)))


def crossed(**values):
    places = np.meshgrid(*(np.arange(len(v)) for v in values.values()), indexing="ij")
    return pd.DataFrame(
        {
            name: np.array(held)[place.ravel()]
            for (name, held), place in zip(values.items(), places, strict=True)
        }
    )


def test_probabilities_of_whole_samples_sum_to_one(model, grid):
    heights, incomes = grid[0], grid[1][1:]
    for height in (150.0, 165.0, 171.0, 190.0):
        every = crossed(sex=["f", "m"], height=[height], b=[False, True], income=incomes)
        found = model.score_samples(every[["sex", "height", "income", "b"]]).reshape(4, -1)
        zeros = crossed(sex=["f", "m"], height=[height], income=[0.0], b=[False, True])
        parts = [log_integral(row, incomes) for row in found]
        joint = logsumexp([*parts, *model.score_samples(zeros)])
        seen = pd.DataFrame({"sex": [None], "height": [height], "income": [np.nan], "b": [None]})
        np.testing.assert_allclose(joint, model.score_samples(seen)[0], atol=0.02)
    every = pd.DataFrame({"sex": None, "height": heights, "income": np.nan, "b": None})
    total = np.exp(model.score_samples(every)).sum()
    assert abs(total - 1) < 0.005


def test_marginals_are_integrals_of_the_joint(smooth):
    x = np.linspace(-9, 9, 161)
    for point in ([0.3, np.nan, np.nan], [np.nan, 1.0, np.nan], [np.nan, np.nan, -0.4]):
        place = np.flatnonzero(~np.isnan(point))[0]
        every = np.stack(np.meshgrid(x, x, indexing="ij"), -1).reshape(-1, 2)
        every = np.insert(every, place, point[place], axis=1)
        density = np.exp(smooth.score_samples(every)).reshape(len(x), -1)
        total = np.log(np.trapezoid(np.trapezoid(density, x), x))
        assert abs(total - smooth.score_samples([point])[0]) < 0.02


@pytest.mark.parametrize("place", [0, 1, 2])
def test_the_integral_over_one_column_is_the_marginal(smooth, place):
    x = np.linspace(-12, 12, 2001)
    for point in ([0.5, 0.4, -0.6], [-1.0, 1.2, 0.3]):
        every = np.repeat([point], len(x), axis=0)
        every[:, place] = x
        total = np.log(np.trapezoid(np.exp(smooth.score_samples(every)), x))
        point[place] = np.nan
        assert abs(total - smooth.score_samples([point])[0]) < 0.01


def test_which_values_are_missing_is_part_of_the_law(patterned, grid):
    held = crossed(sex=["f", "m"], height=np.r_[grid[0], np.nan], income=[0.0], b=[True, False])
    income = patterned.conditional({"income": 0.0})
    assert abs(np.exp(income.score_samples(held.drop(columns="income"))).sum() - 1) < 0.01
    drawn = patterned.sample(500, random_state=0)
    assert (drawn["height"].isna() == (drawn["sex"] == "f")).mean() > 0.95
    assert patterned.impute(drawn.iloc[:20], random_state=0)["height"].notna().all()


@pytest.mark.parametrize("given", [{"sex": "m"}, {"height": (170, 175)}, {"b": [True]}])
def test_a_conditional_law_is_the_joint_less_the_marginal(model, given):
    frame = table(40, seed=5)
    law = model.conditional(given)
    name, value = next(iter(given.items()))
    if isinstance(value, str):
        frame[name] = value
        allowed, rest = np.ones(len(frame), dtype=bool), frame.drop(columns=name)
        one = pd.DataFrame({"sex": ["m"], "height": [np.nan], "income": [np.nan], "b": [None]})
        log_marginal = model.score_samples(one)[0]
    else:
        rest = frame
        allowed = frame[name].isin(value if isinstance(value, list) else range(170, 176))
        each = value if isinstance(value, list) else np.arange(170.0, 176.0)
        one = pd.DataFrame({n: each if n == name else [None] * len(each) for n in frame})
        log_marginal = logsumexp(
            model.score_samples(one.astype({"height": float, "income": float}))
        )
    found = law.score_samples(rest)
    np.testing.assert_array_equal(np.isfinite(found), allowed)
    expected = (model.score_samples(frame) - log_marginal)[allowed]
    np.testing.assert_allclose(found[allowed], expected, atol=0.03)
    drawn = law.sample(30, random_state=0)[name]
    assert drawn.isin(range(170, 176) if name == "height" else [value, True]).all()


def test_samples_look_like_the_table(model):
    frame, drawn = table(), model.sample(1000, random_state=0)
    assert drawn.columns.tolist() == frame.columns.tolist()
    assert set(drawn["sex"]) == {"f", "m"} and set(drawn["b"]) == {True, False}
    assert (drawn["height"] == drawn["height"].round()).all() and (drawn["income"] >= 0).all()
    assert abs((drawn["income"] == 0).mean() - 0.3) < 0.06
    for name in ("height", "income"):
        assert stats.ks_2samp(drawn[name], frame[name]).statistic < 0.12


def test_log_probabilities_of_samples_are_those_of_the_law(model):
    """The mean over samples of p(a) / p(sample) is the mass of a where samples are from p."""
    drawn = model.sample(4000, random_state=1)
    share = (drawn.groupby(["sex", "b"]).size() / len(drawn)).sort_index()
    pairs = pd.DataFrame(share.index.tolist(), columns=["sex", "b"])
    pairs = pairs.assign(height=np.nan, income=np.nan)[["sex", "height", "income", "b"]]
    expected = np.exp(model.score_samples(pairs))
    error = np.sqrt(expected * (1 - expected) / len(drawn))
    assert (np.abs(share.to_numpy() - expected) < 4 * error + 0.005).all()


def test_imputations_follow_the_conditional_law(model):
    row = pd.DataFrame({"sex": [None], "height": [172.0], "income": [np.nan], "b": [True]})
    drawn = pd.concat(model.impute(row, n_imputations=500, random_state=0))
    assert (drawn["height"] == 172).all() and drawn["b"].all()
    share, expected = (drawn["sex"] == "m").mean(), model.predict_proba(row, "sex")[0, 1]
    assert abs(share - expected) < 4 * np.sqrt(0.25 / 500)
    whole = table(10, seed=7)
    pd.testing.assert_frame_equal(model.impute(whole, random_state=0), whole, check_dtype=False)


def test_class_probabilities_are_by_bayes_rule(model):
    frame = holed(table(30, seed=3), 0.2)
    joint = np.stack([model.score_samples(frame.assign(sex=value)) for value in ("f", "m")], 1)
    expected = np.exp(joint - logsumexp(joint, axis=1, keepdims=True))
    found = model.predict_proba(frame, "sex")
    np.testing.assert_allclose(found, expected, atol=1e-9)
    np.testing.assert_allclose(model.predict_proba(frame.drop(columns="sex"), "sex"), found)


def test_contributions_add_up(model, patterned):
    frame = holed(table(40, seed=3), 0.2)
    for each in (model, patterned):
        np.testing.assert_allclose(each.explain(frame).sum(1), each.score_samples(frame))


def test_the_law_of_a_sample_does_not_depend_on_the_others(model):
    frame = holed(table(30, seed=3), 0.3)
    found = model.score_samples(frame)
    np.testing.assert_allclose(model.score_samples(frame.iloc[::-1])[::-1], found)
    np.testing.assert_allclose(model.score_samples(frame.iloc[[4]])[0], found[4])
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.score_samples(frame), found)


def test_a_floor_takes_its_mass_from_known_categories_alone(grid):
    model = fitted(table(200), handle_unknown="floor", max_epochs=3)
    seen = pd.DataFrame({"sex": ["f", "m", "x"], "height": np.nan, "income": np.nan, "b": None})
    found = np.exp(model.score_samples(seen))
    np.testing.assert_allclose(found.sum(), 1, atol=1e-9)
    np.testing.assert_allclose(found[2], 1 / 201)
    zero = seen.assign(sex=None, income=0.0).iloc[[0]]
    law = model.conditional({})
    rest = law.score_samples(crossed(income=grid[1][1:]))
    total = np.exp(model.score_samples(zero)[0]) + np.exp(log_integral(rest, grid[1][1:]))
    assert abs(total - 1) < 0.01
    kept = model.impute(seen.assign(height=[160.0, 170, 180], income=1.0), random_state=0)
    assert kept["sex"].tolist() == ["f", "m", "x"]


def test_units_change_the_log_probability_by_a_constant():
    frame = table(200)
    found = []
    for scale in (1.0, 100.0):
        scaled = frame.assign(income=frame["income"] * scale)
        each = fitted(scaled, max_epochs=3)
        found.append(each.score_samples(scaled))
    shift = np.where(frame["income"] > 0, np.log(100.0), 0.0)
    np.testing.assert_allclose(found[0], found[1] + shift, atol=1e-3)


def test_what_is_missing_at_random_costs_little():
    """A normal law of which 40 % of the values are removed; the whole test rows have it."""
    random = np.random.default_rng(0)
    law = stats.multivariate_normal([0, 0], [[1, 0.9], [0.9, 1]])
    X, test = law.rvs(500, random_state=random), law.rvs(2000, random_state=random)
    X[random.uniform(size=X.shape) < 0.4] = np.nan
    model = fitted(X[~np.isnan(X).all(1)], max_epochs=60)
    assert model.score(test) > law.logpdf(test).mean() - 0.12
