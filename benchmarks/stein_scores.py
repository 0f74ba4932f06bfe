"""Gradients at level 0 against log-densities: samples a second, and both scores against a truth.

python benchmarks/stein_scores.py

The data are a mixture of Gaussians, whose gradient is known. "gradient" is
``stein_score(X)``, the gradient of ``score_samples``; "learned" is the network's score at the
cleanest level that it was trained at, which needs no solution of the ODE.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable

import numpy as np
import torch
from _budget import n_threads
from _laws import mixture
from _report import RESULTS, Report

from sklearn_dsm import DSMDensityEstimator

N_FEATURES, N_TEST, SEEDS = (2, 10, 40), 1000, (0, 1, 2)
# Samples to fit for each column, and at least: of fewer in many columns no network learns
# anything, and there is no ODE.
N_TRAIN, MIN_TRAIN = 500, 5000
CLEANEST = 1e-5


def rate(function: Callable[[np.ndarray], np.ndarray], X: np.ndarray) -> tuple[np.ndarray, float]:
    """What a function gives for samples, and how many it takes a second."""
    function(X[:64])
    started = time.perf_counter()
    values = function(X)
    return values, len(X) / (time.perf_counter() - started)


def mebibytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def relative(score: np.ndarray, truth: np.ndarray) -> float:
    """Root of the summed squared errors over that of the truth."""
    return float(np.sqrt(((score - truth) ** 2).sum() / (truth**2).sum()))


def compare(report: Report, d: int, seed: int) -> None:
    law, n = mixture(d, 5, seed), max(MIN_TRAIN, N_TRAIN * d)
    X, fresh = (law.sample(n, np.random.default_rng(k)) for k, n in ((seed, n), (9, N_TEST)))
    fit = DSMDensityEstimator(
        reference="gaussian",
        marginals="standardize",
        max_epochs=60 if d < 40 else 30,
        random_state=seed,
    ).fit(X)
    truth = law.score(fresh)
    _, scored = rate(fit.score_samples, fresh)
    before = mebibytes()
    gradient, graded = rate(fit.stein_score, fresh)
    memory = mebibytes() - before
    learned, learning = rate(lambda X: fit.stein_score(X, CLEANEST), fresh)
    report(
        f"{d:>8} {seed:>5} {scored:>14,.0f} {graded:>14,.0f} {graded / scored:>7.2f} "
        f"{learning:>14,.0f} {memory:>8.0f} {relative(gradient, truth):>10.3f} "
        f"{relative(learned, truth):>10.3f} {relative(learned, gradient):>10.3f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--features", type=int, nargs="+", default=N_FEATURES)
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    options = parser.parse_args()
    torch.set_num_threads(n_threads())
    title = (
        f"Stein scores of {N_TEST} samples of a mixture in d columns, {N_TRAIN} d to fit or "
        f"{MIN_TRAIN}"
    )
    report = Report("stein_scores", title, RESULTS)
    report(
        f"{'features':>8} {'seed':>5} {'score_samples':>14} {'gradient':>14} {'ratio':>7} "
        f"{'learned':>14} {'MiB':>8} {'gradient':>10} {'learned':>10} {'learned to'}"
    )
    report(
        f"{'':>8} {'':>5} {'samples/s':>14} {'samples/s':>14} {'':>7} "
        f"{'samples/s':>14} {'':>8} {'to truth':>10} {'to truth':>10} {'gradient':>10}"
    )
    for d in options.features:
        for seed in options.seeds:
            compare(report, d, seed)
    report.save()


if __name__ == "__main__":
    main()
