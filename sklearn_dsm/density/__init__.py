"""Density estimators."""

from ._dsm import DSMDensityEstimator

__all__ = ["DSMDensityEstimator"]
