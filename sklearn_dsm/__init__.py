"""Scikit-learn estimators for score matching."""

from ._training import InterruptedFitWarning, NonFiniteLossError
from .density import DSMDensityEstimator, KernelScoreEstimator
from .losses import BSM, DSM, FDSSM, ISM, LCSS, SSM
from .mixture import GMMScoreEstimator, LocationMixtureScoreEstimator
from .processes import PBM, VE, VP, SubVP

__version__ = "0.1.0"

__all__ = [
    "BSM",
    "DSM",
    "FDSSM",
    "ISM",
    "LCSS",
    "PBM",
    "SSM",
    "VE",
    "VP",
    "DSMDensityEstimator",
    "GMMScoreEstimator",
    "InterruptedFitWarning",
    "KernelScoreEstimator",
    "LocationMixtureScoreEstimator",
    "NonFiniteLossError",
    "SubVP",
]
