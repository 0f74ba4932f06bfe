"""Causal graphs of tables, from scores and their Jacobians."""

from ._density_scores import DensityScoreEstimator
from ._discovery import ScoreCausalDiscovery
from ._kernel_family import KernelExponentialFamily
from ._stein import SteinScoreEstimator
from ._variance_order import sort_by_variance, varsortability

__all__ = [
    "DensityScoreEstimator",
    "KernelExponentialFamily",
    "ScoreCausalDiscovery",
    "SteinScoreEstimator",
    "sort_by_variance",
    "varsortability",
]
