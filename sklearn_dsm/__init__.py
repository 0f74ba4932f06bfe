"""Scikit-learn estimators for score matching."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._version import __version__ as __version__

if TYPE_CHECKING:
    from ._citations import citation
    from ._core.losses.bootstrapped import BSM
    from ._core.losses.curvature import LCSS
    from ._core.losses.denoising import DSM
    from ._core.losses.finite_difference import FDSSM
    from ._core.losses.implicit import ISM
    from ._core.losses.sliced import SSM
    from ._core.noise.processes import PBM, VE, VP, SubVP
    from ._training import NonFiniteLossError
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

# Names are imported when they are used: torch alone takes more than a second.
_SUBPACKAGES = (
    "causal",
    "datasets",
    "density",
    "graphical",
    "inspection",
    "io",
    "metrics",
    "mixture",
    "out_of_core",
    "outliers",
    "regression",
    "sampling",
    "utils",
)
_HOMES = {
    "citation": "_citations",
    "BSM": "_core.losses.bootstrapped",
    "LCSS": "_core.losses.curvature",
    "DSM": "_core.losses.denoising",
    "FDSSM": "_core.losses.finite_difference",
    "ISM": "_core.losses.implicit",
    "SSM": "_core.losses.sliced",
    "PBM": "_core.noise.processes",
    "VE": "_core.noise.processes",
    "VP": "_core.noise.processes",
    "SubVP": "_core.noise.processes",
    "NonFiniteLossError": "_training",
    "DensityScoreEstimator": "causal",
    "KernelExponentialFamily": "causal",
    "ScoreCausalDiscovery": "causal",
    "SteinScoreEstimator": "causal",
    "DSMDensityEstimator": "density",
    "KernelScoreEstimator": "density",
    "TableDensityEstimator": "density",
    "ExponentialFamilyEstimator": "graphical",
    "PairwiseScoreMatching": "graphical",
    "RegularizedScoreMatching": "graphical",
    "RegularizedScoreMatchingCV": "graphical",
    "report": "inspection",
    "GMMScoreEstimator": "mixture",
    "LocationMixtureScoreEstimator": "mixture",
    "DSMOutlierDetector": "outliers",
    "DSMRegressor": "regression",
    "AnnealedSampler": "sampling",
    "DiffusionSampler": "sampling",
    "TiltedSampler": "sampling",
}


def __getattr__(name: str) -> Any:
    if name in _SUBPACKAGES:
        return import_module(f"{__name__}.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_SUBPACKAGES})
