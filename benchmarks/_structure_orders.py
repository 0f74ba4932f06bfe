"""Causal orders and graphs: random additive noise models, the Sachs data, time, memory, rates.

Every function returns plain numbers, and is a part of a report. Targets are the published means of
SCORE: each is a dictionary of the figures that must not be exceeded.
"""

from __future__ import annotations

import resource
import warnings
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from _budget import processor_timed, timed

from sklearn_dsm import (
    DensityScoreEstimator,
    DSMDensityEstimator,
    ScoreCausalDiscovery,
    SteinScoreEstimator,
)
from sklearn_dsm.causal import sort_by_variance
from sklearn_dsm.datasets import load_sachs, make_anm
from sklearn_dsm.metrics import (
    order_divergence,
    structural_hamming_distance,
    structural_intervention_distance,
)

# Variances of the noise: that of the public demonstration, and those of the paper.
NOISE_VARIANCES = {"one": 1.0, "paper": (0.4, 0.8)}
TARGETS = {
    "ER1 d=10": {"n_features": 10, "edges_per_node": 1, "shd": 0.7, "sid": 4.5},
    "ER1 d=20": {"n_features": 20, "edges_per_node": 1, "shd": 2.0, "sid": 8.3},
    "ER4 d=10": {"n_features": 10, "edges_per_node": 4, "shd": 26.5},
}
SACHS_TARGET = {"divergence": 8, "shd": 12, "sid": 45}


def discovered(X: np.ndarray, **options) -> ScoreCausalDiscovery:
    """The fit without its warning of units, which the report shows by its baseline."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The variance rises along", UserWarning)
        return ScoreCausalDiscovery(**options).fit(X)


def figures(order: np.ndarray, adjacency: np.ndarray, true: np.ndarray) -> dict[str, float]:
    """Distances of an order and a graph from the true graph."""
    return {
        "divergence": order_divergence(order, true),
        "shd": structural_hamming_distance(true, adjacency),
        "sid": structural_intervention_distance(true, adjacency),
    }


def averaged(rows: list[dict[str, float]]) -> dict[str, float]:
    """Means, and the standard deviation of the Hamming distance."""
    means = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    return means | {"shd_std": float(np.std([row["shd"] for row in rows]))}


def random_graphs(
    n_repeats: int = 10, n_samples: int = 1000, model: dict | None = None, **options
) -> dict[str, dict[str, float]]:
    """Mean figures of SCORE and of sorting by variance on draws of a model."""
    score, baseline = [], []
    for seed in range(n_repeats):
        anm = make_anm(n_samples, random_state=seed, **(model or {}))
        found, seconds = timed(lambda X=anm.data: discovered(X, **options))
        row = figures(found.order_, found.adjacency_, anm.adjacency)
        score.append(row | {"seconds": seconds})
        baseline.append(figures(*sort_by_variance(anm.data), anm.adjacency))
    return {"score": averaged(score), "by_variance": averaged(baseline)}


def published(name: str, noise: str = "one", n_repeats: int = 10) -> dict[str, dict[str, float]]:
    """The figures of a row of the published table, with its targets."""
    target = TARGETS[name]
    model = {key: target[key] for key in ("n_features", "edges_per_node")}
    model["noise_variance"] = NOISE_VARIANCES[noise]
    limits = {key: target[key] for key in ("shd", "sid") if key in target}
    return random_graphs(n_repeats, model=model) | {"target": limits}


def sachs() -> dict[str, dict[str, float]]:
    """The Sachs data in raw units, beside what the units alone give, and standardised."""
    data = load_sachs()
    runs = {
        "raw": discovered(data.data),
        "standardised": discovered(data.data, standardize=True),
        "standardised, relative": discovered(
            data.data, standardize=True, criterion="relative_variance"
        ),
    }
    found = {
        name: figures(run.order_, run.adjacency_, data.adjacency) for name, run in runs.items()
    }
    found["by variance"] = figures(*sort_by_variance(data.data), data.adjacency)
    empty = np.zeros_like(data.adjacency)
    found["empty graph"] = figures(np.arange(11), empty, data.adjacency)
    # An empty graph has no order.
    del found["empty graph"]["divergence"]
    return found


def seconds(n_samples: int = 1000, n_features: int = 10, n_repeats: int = 3) -> float:
    """The least processor time of several fits; with one thread, that of an idle core."""
    anm = make_anm(n_samples, n_features, mechanism="quadratic", random_state=0)
    times = []
    for _ in range(n_repeats):
        times.append(processor_timed(lambda: discovered(anm.data))[1])
    return min(times)


def peak_gibibytes(n_samples: int = 5000, n_features: int = 10, max_samples=None) -> float:
    """The largest memory of the process so far, after a fit; for a process of its own."""
    anm = make_anm(n_samples, n_features, mechanism="quadratic", random_state=0)
    discovered(anm.data, score_estimator=SteinScoreEstimator(max_samples=max_samples))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def many_samples(n_samples: int = 20_000, n_repeats: int = 3) -> dict[str, list[dict]]:
    """More samples than the kernel holds: a network's score, and Stein's of a part of them."""
    runs = {
        "Stein's estimator, 2000 of the samples": {
            "score_estimator": SteinScoreEstimator(max_samples=2000, random_state=0)
        },
        "network, residues": {"score_estimator": network(20), "removal": "residue"},
    }
    found: dict[str, list[dict]] = {name: [] for name in runs}
    for seed in range(n_repeats):
        anm = make_anm(n_samples, 10, mechanism="quadratic", random_state=seed)
        for name, options in runs.items():
            run, taken = processor_timed(
                lambda X=anm.data, options=options: discovered(X, **options)
            )
            row = figures(run.order_, run.adjacency_, anm.adjacency)
            found[name].append(row | {"seconds": taken})
    return found


class Rate(NamedTuple):
    """The order divergence at one point of a curve, over draws of a model."""

    score: str
    property: str
    value: float
    mean: float
    standard_error: float


def network(max_epochs: int = 100) -> DensityScoreEstimator:
    """A small network trained by denoising, which corrects the normal density."""
    density = DSMDensityEstimator(
        reference="gaussian",
        marginals="standardize",
        hidden_layer_sizes=(64, 64),
        max_epochs=max_epochs,
        random_state=0,
    )
    return DensityScoreEstimator(density, noise_level=0.1)


# The score, its options of the search, the number of models, and the points of the curves:
# "curvature" is the inverse of the noises' variance, with which the least variance of a
# non-leaf's curvature grows.
STEIN, NETWORK = "Stein's estimator", "network"
RATES: dict[str, tuple[dict, int, dict, dict]] = {
    STEIN: (
        {},
        30,
        {"n_samples": 300, "n_features": 10},
        {
            "n_samples": (50, 100, 200, 400, 800),
            "curvature": (0.1, 0.3, 1.0, 3.0),
            "n_features": (5, 10, 20),
        },
    ),
    NETWORK: (
        {"removal": "residue"},
        10,
        {"n_samples": 500, "n_features": 5},
        {
            "n_samples": (50, 150, 500, 1500),
            "curvature": (0.1, 0.3, 1.0, 3.0),
            "n_features": (3, 5, 10),
        },
    ),
}


def rates(score: str, smoke: bool = False) -> Iterator[Rate]:
    """The curves of one score, point by point."""
    options, n_models, base, curves = RATES[score]
    if score == NETWORK:
        options = options | {"score_estimator": network(1 if smoke else 100)}
    for name, values in curves.items():
        for value in values[:1] if smoke else values:
            model = base | ({"noise_variance": 1 / value} if name == "curvature" else {name: value})
            found = []
            for seed in range(1 if smoke else n_models):
                anm = make_anm(random_state=seed, **model)
                order = discovered(anm.data, pruning=None, **options).order_
                found.append(order_divergence(order, anm.adjacency))
            error = np.std(found) / np.sqrt(len(found))
            yield Rate(score, name, value, float(np.mean(found)), float(error))
