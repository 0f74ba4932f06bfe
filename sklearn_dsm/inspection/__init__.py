"""Pictures of what estimators found."""

from ._graph import GraphDisplay
from ._intervals import EdgeIntervalDisplay
from ._order import OrderDisplay
from ._trajectories import TrajectoryDisplay
from ._weights import WeightsDisplay

__all__ = [
    "EdgeIntervalDisplay",
    "GraphDisplay",
    "OrderDisplay",
    "TrajectoryDisplay",
    "WeightsDisplay",
]
