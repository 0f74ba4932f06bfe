"""Distances between samples, errors of scores, and differences between graphs."""

from ._floor import DistanceFloor, distance_floor
from ._graphs import edge_auc, edge_f1, order_divergence, structural_hamming_distance
from ._interventions import structural_intervention_distance
from ._pairs import energy_distance, maximum_mean_discrepancy
from ._scores import score_error
from ._transport import sliced_wasserstein_distance, wasserstein_distance

__all__ = [
    "DistanceFloor",
    "distance_floor",
    "edge_auc",
    "edge_f1",
    "energy_distance",
    "maximum_mean_discrepancy",
    "order_divergence",
    "score_error",
    "sliced_wasserstein_distance",
    "structural_hamming_distance",
    "structural_intervention_distance",
    "wasserstein_distance",
]
