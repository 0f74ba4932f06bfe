"""``TableDensityEstimator`` told the measure of every column, where this package has it."""

from __future__ import annotations

import pandas as pd
from _tables_measure import Column

import sklearn_dsm

OURS = "TableDensityEstimator"


def there() -> bool:
    return hasattr(sklearn_dsm, OURS)


def fitted(frame: pd.DataFrame, columns: tuple[Column, ...], seconds: float, seed: int):
    types = {column.name: column.override for column in columns}
    estimator = getattr(sklearn_dsm, OURS)
    return estimator(
        column_types=types, handle_unknown="floor", max_fit_time=seconds, random_state=seed
    ).fit(frame)


def other_measures(density, columns: tuple[Column, ...]) -> str:
    """The columns whose measure is not the benchmark's; figures do not compare if there are any."""
    wrong = [
        f"{column.name} is a {density.log_measure_[column.name]}"
        for column in columns
        if density.log_measure_[column.name] != expected(column)
    ]
    return "OTHER MEASURE: " + ", ".join(wrong) if wrong else ""


def expected(column: Column) -> str:
    if column.kind != "continuous":
        return "mass"
    return "density and mass" if column.point_masses else "density"
