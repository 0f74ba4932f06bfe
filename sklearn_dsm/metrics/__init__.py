"""Distances between two samples, and their values for two samples of the same distribution."""

from ._floor import DistanceFloor, distance_floor
from ._pairs import energy_distance, maximum_mean_discrepancy
from ._scores import score_error
from ._transport import sliced_wasserstein_distance, wasserstein_distance

__all__ = [
    "DistanceFloor",
    "distance_floor",
    "energy_distance",
    "maximum_mean_discrepancy",
    "score_error",
    "sliced_wasserstein_distance",
    "wasserstein_distance",
]
