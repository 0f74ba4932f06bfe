"""Scikit-learn estimators for score matching."""

from ._citations import citation
from ._core.losses.bootstrapped import BSM
from ._core.losses.curvature import LCSS
from ._core.losses.denoising import DSM
from ._core.losses.finite_difference import FDSSM
from ._core.losses.implicit import ISM
from ._core.losses.sliced import SSM
from ._core.noise.processes import PBM, VE, VP, SubVP
from ._training import NonFiniteLossError
from ._version import __version__ as __version__
from .causal import (
    DensityScoreEstimator,
    KernelExponentialFamily,
    ScoreCausalDiscovery,
    SteinScoreEstimator,
)
from .density import DSMDensityEstimator, KernelScoreEstimator, TableDensityEstimator
from .graphical import (
    ExponentialFamilyEstimator,
    PairwiseScoreMatching,
    RegularizedScoreMatching,
    RegularizedScoreMatchingCV,
)
from .inspection import report
from .mixture import GMMScoreEstimator, LocationMixtureScoreEstimator
from .outliers import DSMOutlierDetector
from .regression import DSMRegressor
from .sampling import AnnealedSampler, DiffusionSampler, TiltedSampler

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
    "AnnealedSampler",
    "DSMDensityEstimator",
    "DSMOutlierDetector",
    "DSMRegressor",
    "DensityScoreEstimator",
    "DiffusionSampler",
    "ExponentialFamilyEstimator",
    "GMMScoreEstimator",
    "KernelExponentialFamily",
    "KernelScoreEstimator",
    "LocationMixtureScoreEstimator",
    "NonFiniteLossError",
    "PairwiseScoreMatching",
    "RegularizedScoreMatching",
    "RegularizedScoreMatchingCV",
    "ScoreCausalDiscovery",
    "SteinScoreEstimator",
    "SubVP",
    "TableDensityEstimator",
    "TiltedSampler",
    "citation",
    "report",
]
