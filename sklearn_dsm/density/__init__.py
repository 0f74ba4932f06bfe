"""Density estimators."""

from ._dsm import DSMDensityEstimator
from ._kernel import KernelScoreEstimator

__all__ = ["DSMDensityEstimator", "KernelScoreEstimator"]
