"""Estimators of undirected graphs by score matching: which features depend on which."""

from ._exponential_family import ExponentialFamilyEstimator

__all__ = ["ExponentialFamilyEstimator"]
