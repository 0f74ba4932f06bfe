"""Frames and arrays of every kind come back as they were, and what cannot be is refused."""

import numpy as np
import pandas as pd
import pytest

from sklearn_dsm import TableDensityEstimator


def fitted(table, types="auto", **options):
    return TableDensityEstimator(types, max_epochs=1, random_state=0, **options).fit(table)


@pytest.fixture
def frame():
    random = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "c": random.choice(["a", "b", "c"], 60),
            "n": random.integers(0, 500, 60),
            "x": random.normal(size=60),
        }
    )


def test_frames_keep_their_types(frame):
    frame = frame.assign(
        f32=frame["x"].astype("float32"),
        nullable=frame["n"].astype("Int64"),
        flag=frame["n"] > 250,
        maybe=(frame["n"] > 250).astype("boolean"),
        kind=frame["c"].astype("category"),
        coded=pd.Categorical(frame["n"] % 3),
        text=frame["c"].astype("string"),
    )
    drawn = fitted(frame).sample(20, random_state=0)
    pd.testing.assert_series_equal(drawn.dtypes, frame.dtypes)
    assert drawn.notna().all(axis=None)


def test_polars_frames_keep_their_types(frame):
    polars = pytest.importorskip("polars")
    kinds = polars.Enum(["time of date", "b", "c"])
    table = polars.DataFrame(
        {
            "n": frame["n"].to_list(),
            "x": frame["x"].to_list(),
            "e": polars.Series(frame["c"].replace("a", "time of date").to_list(), dtype=kinds),
            "flag": (frame["n"] > 250).to_list(),
        }
    )
    model = fitted(table)
    drawn = model.sample(20, random_state=0)
    assert drawn.schema == table.schema
    holed = table.with_columns(x=polars.lit(None, dtype=polars.Float64))
    assert model.impute(holed, random_state=0)["x"].null_count() == 0


@pytest.mark.parametrize(
    "array",
    [
        np.random.default_rng(0).integers(0, 2, size=(60, 2)).astype(bool),
        np.random.default_rng(0).integers(0, 200, size=(60, 2)),
        np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32),
        np.random.default_rng(0).choice(["a", "b"], size=(60, 2)),
    ],
    ids=["bool", "int", "float32", "str"],
)
def test_arrays_keep_their_type(array):
    assert fitted(array).sample(5, random_state=0).dtype == array.dtype


def test_integers_that_are_told_to_be_continuous_become_real(frame):
    drawn = fitted(frame, {"n": "continuous"}).sample(50, random_state=0)["n"]
    assert drawn.dtype == float and (drawn != drawn.round()).any()
    array = fitted(frame[["n"]].to_numpy(), {0: "continuous"}).sample(5, random_state=0)
    assert array.dtype == float


def test_values_off_the_grid_stay_when_others_are_imputed(frame):
    table = frame.assign(x=np.nan, n=2.5)
    assert (fitted(frame).impute(table, random_state=0)["n"] == 2.5).all()


def test_types_of_categories_are_those_of_the_frame(frame):
    table = frame.assign(n=frame["n"].astype("category"))
    assert fitted(table).column_types_["n"]["kind"] == "discrete"


def test_what_is_found_can_be_told(frame):
    model = fitted(frame)
    again = fitted(frame, model.column_types_)
    assert again.column_types_ == model.column_types_
    np.testing.assert_array_equal(model.score_samples(frame), again.score_samples(frame))


@pytest.mark.parametrize(
    ("types", "message"),
    [
        ({"c": 3}, "is not understood"),
        ({"c": {"kind": "cell"}}, "is not understood"),
        ({"c": {"values": ["a", "b"]}}, "not among the values"),
        ({"c": {"bounds": (0, 1)}}, "has none"),
        ({"x": {"bounds": 3}}, "must be a pair"),
        ({"x": {"bounds": (0, None)}}, "outside of its bounds"),
        ({"x": {"kind": "continuous", "values": [1.0]}}, "Only a column that is 'discrete'"),
        ({"z": "cells"}, "which the table does not have"),
        ({"c": "continuous"}, "Use 'categorical'"),
    ],
)
def test_types_that_cannot_be(frame, types, message):
    with pytest.raises(ValueError, match=message):
        fitted(frame, types)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"c": ("a", "b")}, "a range such as"),
        ({"n": (3, 1)}, "low <= high"),
        ({"n": ("a", 1)}, "must be two numbers"),
        ({"n": (1, 2, 3)}, "must be two numbers"),
        ({"c": ["a", "z"]}, "'z' for column 'c'"),
        ({"c": "z"}, "not among the samples"),
        ({"n": "a"}, "which holds numbers"),
        ({"n": [1, 2]}, "Use a range"),
        ({"z": 1}, "which the table does not have"),
        (pd.DataFrame({"n": ["a", "b"]}), "Column 'n' holds categories"),
        (pd.DataFrame({"c": [1.0, 2.0]}), "Column 'c' holds numbers"),
        (3, "must be a dict"),
    ],
)
def test_conditions_that_cannot_be(frame, given, message):
    with pytest.raises(ValueError, match=message):
        fitted(frame).sample(2, given=given)


def test_tables_that_are_not_like_that_of_the_fit(frame):
    model = fitted(frame)
    whole = frame.rename(columns={"c": 0, "n": 1, "x": 2})
    with pytest.raises(ValueError, match="in this order"):
        fitted(whole).score_samples(whole[[1, 0, 2]])
    with pytest.raises(ValueError, match="holds categories, and held numbers"):
        model.score_samples(frame.assign(x="a"))
    with pytest.raises(ValueError, match="not among the samples of the fit"):
        model.score_samples(frame.assign(c="z"))
    with pytest.raises(ValueError, match="which the fit did not have"):
        model.predict_proba(frame.drop(columns="c").assign(z=1), "c")
    with pytest.raises(ValueError, match="'n' is given, so X must not have it"):
        model.conditional({"n": 3}).score_samples(frame)
    with pytest.raises(ValueError, match="Two columns have the name 'c'"):
        model.sample(2, given=pd.concat([frame, frame[["c"]]], axis=1))
    with pytest.raises(ValueError, match="holds dates or times"):
        fitted(frame.assign(d=pd.Timestamp("2020-01-01")))
    with pytest.raises(ValueError, match="All values of column 'x' are missing"):
        fitted(frame.assign(x=np.nan))
    with pytest.raises(ValueError, match="has missing values"):
        fitted(frame.assign(x=frame["x"].where(frame["x"] > 0)), missing="error")
