"""The benchmark of mixed tables: its measure, the methods' total probability, and its law."""

from __future__ import annotations

import importlib
import itertools
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from scipy.special import logsumexp

import sklearn_dsm

pd = pytest.importorskip("pandas")

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
METHODS = [
    "_tables_marginals:Independent",
    "_tables_mixture:ProductMixture",
    "_tables_chain:linear_chain",
    "_tables_chain:boosted_chain",
    pytest.param(
        "_tables_vine:Vine",
        marks=pytest.mark.skipif(not find_spec("pyvinecopulib"), reason="needs pyvinecopulib"),
    ),
]


@pytest.fixture(scope="module")
def room():
    """name -> module of the benchmarks' folder, which is no package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module


@pytest.fixture(scope="module")
def small():
    """A category, a rounded column and one that is often zero, all dependent."""
    generator = np.random.default_rng(0)
    group = generator.integers(0, 3, 150)
    spread = 1.0 + group
    value = np.where(generator.random(150) < 0.2 + 0.2 * group, 0.0, generator.normal(0, spread))
    rounded = np.round(value / 2 + generator.normal(0, 1, 150), 1)
    return pd.DataFrame({"group": np.array(list("abc"))[group], "rounded": rounded, "value": value})


@pytest.fixture(scope="module")
def everything(room, small):
    """Rows that cover what the small table's columns can be, and the weight of each."""
    measure = room("_tables_measure")
    columns = measure.measures(small)
    step = columns[1].step
    rounded = np.round(np.arange(-150, 151) * step, 6)
    t = np.linspace(-4, 4, 160)
    value, width = np.sinh(t), np.cosh(t) * (t[1] - t[0])
    group, i, j = (
        np.array(part)
        for part in zip(
            *itertools.product("abc", range(len(rounded)), range(-1, len(value))), strict=True
        )
    )
    rows = pd.DataFrame(
        {"group": group, "rounded": rounded[i], "value": np.where(j < 0, 0.0, value[j])}
    )
    return measure.coded(rows, columns), np.where(j < 0, 1.0, width[j])


def test_each_column_has_the_measure_that_its_values_call_for(room):
    measure = room("_tables_measure")
    generator = np.random.default_rng(0)
    x = generator.normal(size=1000)
    frame = pd.DataFrame(
        {
            "word": np.where(x > 0, "yes", "no"),
            "flag": x > 1,
            "few": np.arange(1000) % 30,
            "whole": 5 * np.round(40 * x),
            "cents": np.round(x, 2),
            "often": np.where(x < -1, 0.25, x),
            "plain": x,
        }
    )
    columns = {column.name: column for column in measure.measures(frame)}
    kinds = [columns[name].kind for name in frame]
    assert kinds == ["discrete"] * 3 + ["cells"] * 2 + ["continuous"] * 2
    assert (columns["whole"].step, columns["cents"].step) == (5.0, 0.01)
    assert columns["often"].point_masses == (0.25,)
    assert columns["plain"].point_masses == ()


def test_codes_and_numbers_say_what_the_rows_are(room, small):
    measure = room("_tables_measure")
    coded = measure.coded(small, measure.measures(small))
    pd.testing.assert_frame_equal(measure.decoded(coded), small, check_dtype=False)
    np.testing.assert_array_equal(coded.values(2), small["value"])


def test_unseen_categories_are_left_out_of_the_test(room):
    measure = room("_tables_measure")
    frame = pd.DataFrame({"word": ["a"] * 99 + ["b"], "x": np.arange(100.0) % 40})
    parts = [measure.split(frame, 70, seed) for seed in range(20)]
    for part in parts:
        assert len(part.test) + part.n_unknown == 20
        assert set(part.test["word"]) <= set(part.train["word"])
    assert any(part.n_unknown for part in parts)


@pytest.mark.parametrize("method", METHODS)
def test_probabilities_of_everything_add_up_to_one(room, small, everything, method):
    module, name = method.split(":")
    measure = room("_tables_measure")
    train = measure.coded(small, measure.measures(small))
    rows, weight = everything
    model = getattr(room(module), name)(train, 0)
    # The Cauchy law of the weight of a row reaches beyond the points that are summed.
    assert np.exp(model.score(rows)) @ weight == pytest.approx(1.0, abs=3e-3)


def test_a_missing_value_is_summed_over_by_the_mixture(room, small):
    measure = room("_tables_measure")
    train = measure.coded(small, measure.measures(small))
    mixture = room("_tables_mixture").ProductMixture(train, 0)
    rows = train.take(np.arange(20))
    parts = []
    for code in range(3):
        filled = train.take(np.arange(20))
        filled.codes[:, 0] = code
        parts.append(mixture.score(filled))
    rows.codes[:, 0] = -1
    np.testing.assert_allclose(mixture.score(rows), logsumexp(parts, 0), rtol=1e-10)


def test_drawn_rows_follow_the_shares_of_the_mixture(room, small):
    measure = room("_tables_measure")
    train = measure.coded(small, measure.measures(small))
    mixture = room("_tables_mixture").ProductMixture(train, 0)
    drawn = mixture.sample(20_000, 0)
    one = train.take(np.zeros(3, int))
    one.codes[:] = -1
    one.numbers[:] = np.nan
    one.codes[:, 0] = range(3)
    shares = np.bincount(drawn.codes[:, 0]) / 20_000
    np.testing.assert_allclose(shares, np.exp(mixture.score(one)), atol=0.015)


def test_the_law_of_factors_adds_up_to_one(room):
    law = room("_tables_law").FactorLaw(3)
    x = np.linspace(-12, 12, 81)
    counts = np.arange(160)
    i, word, count = (
        np.array(part)
        for part in zip(*itertools.product(range(len(x)), "abcd", counts), strict=True)
    )
    total = 0.0
    for block in np.array_split(np.arange(len(i)), 20):
        rows = pd.DataFrame({"x0": x[i[block]], "x1": word[block], "x2": count[block]})
        total += np.exp(law.log_prob(rows)).sum() * (x[1] - x[0])
    assert total == pytest.approx(1.0, abs=1e-3)


def test_no_method_beats_the_law_on_its_own_rows(room):
    law, measure = room("_tables_law").FactorLaw(8), room("_tables_measure")
    train, test = law.sample(1000, 1), law.sample(1000, 2)
    model = room("_tables_marginals").Independent(measure.coded(train, law.columns), 0)
    gap = law.log_prob(test) - model.score(measure.coded(test, law.columns))
    assert gap.mean() > 3 * gap.std() / np.sqrt(len(gap))


def test_crps_of_normal_draws_is_the_closed_form(room):
    missing = room("_tables_missing")
    draws = np.random.default_rng(0).normal(size=(20, 20_000))
    value = missing.crps(np.zeros(20_000), draws).mean()
    assert value == pytest.approx((np.sqrt(2) - 1) / np.sqrt(np.pi), abs=0.005)
    np.testing.assert_array_equal(missing.crps(np.array([1.0]), np.array([[3.0]])), [2.0])


def test_holes_leave_a_value_in_every_row(room):
    X = room("_tables_missing").holed(np.ones((2000, 3)), 0.5, np.random.default_rng(0))
    gone = np.isnan(X)
    assert not gone.all(1).any()
    # A row loses all three with probability 1/8, and then gets one back.
    assert gone.mean() == pytest.approx(0.5 - 1 / 24, abs=0.03)


@pytest.fixture
def estimator(room, monkeypatch):
    """A class of the estimator's name and methods, in truth a mixture of products."""
    measure, mixtures = room("_tables_measure"), room("_tables_mixture")

    class Stub:
        told = []

        def __init__(self, **options):
            self.types = options["column_types"]
            self.told.append(self.types)

        def fit(self, frame):
            self.columns = tuple(
                found._replace(kind="continuous")
                if self.types[found.name] == "continuous"
                else found
                for found in measure.measures(frame)
            )
            self.model = mixtures.ProductMixture(measure.coded(frame, self.columns), 0)
            self.log_measure_ = {
                column.name: room("_tables_ours").expected(column) for column in self.columns
            }
            return self

        def score_samples(self, frame):
            return self.model.score(measure.coded(frame, self.columns))

        def sample(self, n, random_state=None):
            return measure.decoded(self.model.sample(n, random_state))

        def impute(self, frame, n_imputations=1):
            rows = measure.coded(frame, self.columns)
            draws = [measure.decoded(self.model.impute(rows, k)) for k in range(n_imputations)]
            return draws[0] if n_imputations == 1 else draws

    monkeypatch.setattr(sklearn_dsm, "TableDensityEstimator", Stub, raising=False)
    return Stub


def test_the_estimator_is_told_the_measure_and_measured_in_every_part(room, estimator, tmp_path):
    parts = ["likelihood", "samples", "missing", "scale"]
    methods = ["TableDensityEstimator", "independent columns", "Gaussian, complete rows"]
    options = ["--smoke", "--results", str(tmp_path), "--parts", *parts, "--methods", *methods]
    room("tables").main(options)
    assert estimator.told[0] == {
        "group": "discrete",
        "length": {"kind": "cells", "step": 0.1},
        "duration": {"kind": "continuous", "point_masses": [0.0]},
        "flag": "discrete",
    }
    for part in parts:
        text = (tmp_path / f"tables_{part}.txt").read_text()
        assert "TableDensityEstimator" in text
        assert "failed" not in text
        assert "OTHER MEASURE" not in text
    assert "less than ours" in (tmp_path / "tables_likelihood.txt").read_text()


def test_another_measure_of_a_column_is_told(room, small):
    class Density:
        log_measure_ = {"group": "mass", "rounded": "density", "value": "density and mass"}

    columns = room("_tables_measure").measures(small)
    told = room("_tables_ours").other_measures(Density, columns)
    assert told == "OTHER MEASURE: rounded is a density"
