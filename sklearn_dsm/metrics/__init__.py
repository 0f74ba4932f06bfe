"""Distances between samples, scorers, errors of scores, weights, and differences of graphs."""

from ._conditional import coverage, crps, neg_log_density
from ._floor import DistanceFloor, distance_floor
from ._graphs import edge_auc, edge_f1, order_divergence, structural_hamming_distance
from ._interventions import structural_intervention_distance
from ._pairs import energy_distance, maximum_mean_discrepancy
from ._scores import score_error
from ._sinkhorn import sinkhorn_divergence
from ._transport import sliced_wasserstein_distance, wasserstein_distance
from ._weighted import effective_sample_size, mode_coverage

__all__ = [
    "DistanceFloor",
    "coverage",
    "crps",
    "distance_floor",
    "edge_auc",
    "edge_f1",
    "effective_sample_size",
    "energy_distance",
    "maximum_mean_discrepancy",
    "mode_coverage",
    "neg_log_density",
    "order_divergence",
    "score_error",
    "sinkhorn_divergence",
    "sliced_wasserstein_distance",
    "structural_hamming_distance",
    "structural_intervention_distance",
    "wasserstein_distance",
]
