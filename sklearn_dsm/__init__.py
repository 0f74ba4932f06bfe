"""Scikit-learn estimators for score matching."""

from ._training import InterruptedFitWarning, NonFiniteLossError
from .density import DSMDensityEstimator, KernelScoreEstimator
from .losses import DSM
from .mixture import GMMScoreEstimator, LocationMixtureScoreEstimator
from .processes import VE, VP

__version__ = "0.1.0"

__all__ = [
    "DSM",
    "VE",
    "VP",
    "DSMDensityEstimator",
    "GMMScoreEstimator",
    "InterruptedFitWarning",
    "KernelScoreEstimator",
    "LocationMixtureScoreEstimator",
    "NonFiniteLossError",
]
