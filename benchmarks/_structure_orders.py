"""Causal orders and graphs: random additive noise models, the Sachs data, time, memory, rates.

Every function returns plain numbers, and is a part of a report. Targets are the published means of
SCORE: each is a dictionary of the figures that must not be exceeded.
"""

from __future__ import annotations

import resource
import warnings
from collections.abc import Iterable

import numpy as np
from _budget import processor_timed, timed

from sklearn_dsm import ScoreCausalDiscovery, SteinScoreEstimator
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


def divergences_by(
    name: str, values: Iterable[float], n_repeats: int = 10, **model
) -> dict[float, float]:
    """Mean divergence of the order against one property of the model.

    "n_samples" and "n_features" are those of ``make_anm``; "curvature" is the inverse of the
    noises' variance, which the least variance of a non-leaf's curvature grows with.
    """
    means = {}
    for value in values:
        options = dict(model)
        if name == "curvature":
            options["noise_variance"] = 1 / value
        else:
            options[name] = int(value)
        found = []
        for seed in range(n_repeats):
            anm = make_anm(random_state=seed, **options)
            order = discovered(anm.data, pruning=None).order_
            found.append(order_divergence(order, anm.adjacency))
        means[float(value)] = float(np.mean(found))
    return means
