"""Pictures of what estimators found."""

from ._graph import GraphDisplay
from ._intervals import EdgeIntervalDisplay
from ._order import OrderDisplay

__all__ = ["EdgeIntervalDisplay", "GraphDisplay", "OrderDisplay"]
