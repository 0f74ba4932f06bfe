"""Density estimators."""

from ._conditional_table import ConditionalTable
from ._dsm import DSMDensityEstimator
from ._kernel import KernelScoreEstimator
from ._table import TableDensityEstimator

__all__ = [
    "ConditionalTable",
    "DSMDensityEstimator",
    "KernelScoreEstimator",
    "TableDensityEstimator",
]
