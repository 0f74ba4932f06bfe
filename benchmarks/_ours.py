"""``DSMDensityEstimator`` with its defaults and a budget, and what it says of its own fit."""

from __future__ import annotations

import numpy as np

from sklearn_dsm import DSMDensityEstimator


def score_matching(X: np.ndarray, budget: float, seed: int) -> DSMDensityEstimator:
    return DSMDensityEstimator(max_fit_time=budget, random_state=seed).fit(X)


def facts(density: DSMDensityEstimator) -> dict:
    """What the fit itself reports: the held-out bound in nats a row, epochs, and why it ended."""
    alone = "" if density.weights_ else "; the reference alone"
    found = {
        "note": f"{density.n_epochs_} epochs, ended by {density.stop_reason_}{alone}",
        "validation_bound": max(density.validation_scores_, default=None),
        "n_epochs": density.n_epochs_,
        "stop_reason": density.stop_reason_,
        "reference_alone": not density.weights_,
    }
    return found
