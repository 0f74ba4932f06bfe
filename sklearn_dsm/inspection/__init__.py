"""Pictures of what estimators found."""

from ._calibration import CalibrationDisplay
from ._density import DensityDisplay
from ._fit import FitDisplay
from ._graph import GraphDisplay
from ._intervals import EdgeIntervalDisplay
from ._order import OrderDisplay
from ._report import Report, report
from ._score_field import ScoreFieldDisplay
from ._trajectories import TrajectoryDisplay
from ._weights import WeightsDisplay

__all__ = [
    "CalibrationDisplay",
    "DensityDisplay",
    "EdgeIntervalDisplay",
    "FitDisplay",
    "GraphDisplay",
    "OrderDisplay",
    "Report",
    "ScoreFieldDisplay",
    "TrajectoryDisplay",
    "WeightsDisplay",
    "report",
]
