"""What is said of columns that hold no numbers, miss some, or have no density."""

import numpy as np
import pandas as pd
import polars as pl
import pytest

from sklearn_dsm import (
    DSMDensityEstimator,
    GMMScoreEstimator,
    KernelScoreEstimator,
    ScoreCausalDiscovery,
    TableDensityEstimator,
)
from sklearn_dsm._columns import warn_of_degenerate_columns

QUICK = DSMDensityEstimator(
    reference="gaussian", hidden_layer_sizes=(16, 16), max_epochs=1, random_state=0
)
every_estimator = pytest.mark.parametrize(
    "estimator",
    [QUICK, KernelScoreEstimator(), GMMScoreEstimator(1)],
    ids=lambda e: type(e).__name__,
)
N = 60


def frame(**columns):
    random = np.random.default_rng(0)
    return pd.DataFrame({"length": random.normal(size=N), **columns})


UNUSABLE = {
    "a date": (pd.date_range("2024-01-01", periods=N), "when"),
    "text": (["a", "b"] * (N // 2), "when"),
    "a category": (pd.Categorical(["a", "b"] * (N // 2)), "when"),
}


@every_estimator
@pytest.mark.parametrize("kind", UNUSABLE)
def test_a_column_that_holds_no_numbers_is_named_with_its_type(estimator, kind):
    X = frame(when=UNUSABLE[kind][0])
    with pytest.raises((ValueError, TypeError), match="Column 'when' of type") as told:
        estimator.fit(X)
    assert str(X["when"].dtype) in str(told.value) and "Encode dates" in str(told.value)
    takes_it = "TableDensityEstimator takes them" in str(told.value)
    assert takes_it == (kind != "a date")


def test_columns_of_polars_and_of_arrays_are_named_too():
    X = pl.DataFrame({"length": np.arange(3.0), "kind": ["a", "b", "c"]})
    with pytest.raises((ValueError, TypeError), match="Column 'kind' of type String"):
        QUICK.fit(X)
    with pytest.raises((ValueError, TypeError), match="Column 1 of type object"):
        QUICK.fit(np.array([[1.0, "a"], [2.0, "b"], [3.0, "c"]], dtype=object))


@every_estimator
def test_missing_values_are_counted_and_a_fix_for_densities_is_told(estimator):
    X = frame(age=np.r_[np.nan, np.nan, np.arange(N - 2.0)])
    with pytest.raises(ValueError, match="column 'age' has 2 missing values in 60 samples") as told:
        estimator.fit(X)
    assert "Drop" in str(told.value) and "HistGradientBoosting" not in str(told.value)
    assert "TableDensityEstimator, which takes missing values" in str(told.value)


@pytest.mark.parametrize(
    "column", [["a", "b"] * (N // 2), np.r_[np.nan, np.arange(N - 1.0)], np.arange(N) % 2]
)
def test_the_estimator_that_is_named_takes_such_a_table(column):
    TableDensityEstimator(max_epochs=0, random_state=0).fit(frame(other=column))


@pytest.mark.parametrize("column", [["a", "b"] * (N // 2), np.r_[np.nan, np.arange(N - 1.0)]])
def test_estimators_of_something_else_than_a_density_name_no_other_estimator(column):
    with pytest.raises((ValueError, TypeError), match="olumn 'other'") as told:
        ScoreCausalDiscovery().fit(frame(other=column))
    assert "TableDensityEstimator" not in str(told.value)


def test_rows_to_score_are_told_of_in_the_same_way():
    fitted = KernelScoreEstimator().fit(frame(age=np.arange(float(N)))[["length", "age"]])
    with pytest.raises(ValueError, match="column 'age' has 1 missing values"):
        fitted.score_samples(pd.DataFrame({"length": [0.0], "age": [np.nan]}))


def test_whole_numbers_that_float64_merges_are_not_called_one_value():
    X = frame(time=2**60 + np.arange(N))
    with pytest.raises(ValueError, match=r"'time' hold values of about 1.15e.18.*Subtract"):
        QUICK.fit(X)
    with pytest.raises(ValueError, match="'time' hold one value only"):
        QUICK.fit(frame(time=np.full(N, 7)))


RANDOM = np.random.default_rng(0)
NORMAL = RANDOM.normal(size=(300, 2))
ZEROS = np.maximum(NORMAL.sum(1), 0)
DEGENERATE = {
    "copies": (np.tile(NORMAL, (1, 3)), "combinations"),
    "a sum": (np.column_stack([NORMAL, NORMAL.sum(1)]), "combinations"),
    "two values": (np.column_stack([NORMAL, NORMAL[:, 0] > 0]), "few values"),
    "many zeros": (np.column_stack([NORMAL, ZEROS]), "few values"),
}


@pytest.mark.parametrize("kind", DEGENERATE)
def test_columns_without_a_density_are_named_in_a_warning(kind):
    X, reason = DEGENERATE[kind]
    with pytest.warns(UserWarning, match=rf"Column\(s\) .* {reason}"):
        warn_of_degenerate_columns(X)


def test_as_many_copies_are_named_as_there_are():
    with pytest.warns(UserWarning, match="combinations") as told:
        warn_of_degenerate_columns(DEGENERATE["copies"][0])
    numbers = str(told[0].message).split(" are")[0].removeprefix("Column(s) ").split(", ")
    assert len(numbers) == 4 and len({int(j) % 2 for j in range(6) if str(j) not in numbers}) == 2


DENSE = {
    "normal": NORMAL,
    "rounded": np.round(NORMAL, 1),
    "correlated": NORMAL @ [[1, 1], [0, 1e-2]],
    "counted": np.arange(300.0)[:, None],
    "few rows": NORMAL[:8].round(),
}


@pytest.mark.parametrize("kind", DENSE)
def test_columns_with_a_density_are_not_warned_of(kind):
    warn_of_degenerate_columns(DENSE[kind])


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_warning_names_the_line_of_the_user():
    with pytest.warns(UserWarning, match="'second' take few values") as told:
        QUICK.fit(frame(second=np.arange(N) % 2))
    assert told[0].filename == __file__
    assert "Use TableDensityEstimator" in str(told[0].message)


def test_options_of_kernels_that_would_be_ignored_are_refused():
    with pytest.raises(ValueError, match="likelihood='ode' has no effect with two_regime=False"):
        KernelScoreEstimator(likelihood="ode").fit(NORMAL)
    with pytest.raises(ValueError, match="smoothness=4 needs a kernel of higher order"):
        KernelScoreEstimator(smoothness=4).fit(NORMAL)
