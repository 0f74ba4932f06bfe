"""``DSMDensityEstimator`` with its defaults and a budget, and what it says of its own fit."""

from __future__ import annotations

import numpy as np

from sklearn_dsm import DSMDensityEstimator

# Rows on which the amortised log-density is compared with the ODE's.
COMPARED_ROWS = 2000
# Rows on which the ODE at its default tolerance is compared with a tight one's.
TIGHT_ROWS, TIGHT = 64, 1e-5


def score_matching(X: np.ndarray, budget: float, seed: int) -> DSMDensityEstimator:
    return DSMDensityEstimator(max_fit_time=budget, random_state=seed).fit(X)


def amortised(X: np.ndarray, budget: float, seed: int) -> DSMDensityEstimator:
    """The same with a head that is taught within the budget, which leaves less to the score."""
    return DSMDensityEstimator(likelihood="fast", max_fit_time=budget, random_state=seed).fit(X)


def facts(density: DSMDensityEstimator, X: np.ndarray) -> dict:
    """What the fit itself reports, and how far an amortised log-density of X is from the ODE's."""
    alone = "" if density.network_weights_ else "; the reference alone"
    found = {
        "note": f"{density.n_epochs_} epochs, ended by {density.stop_reason_}{alone}",
        "validation_bound": max(density.validation_scores_, default=None),
        "n_epochs": density.n_epochs_,
        "stop_reason": density.stop_reason_,
        "reference_alone": not density.network_weights_,
        "n_reference_components": len(density.reference_.weights_),
    }
    if density.likelihood != "fast":
        return found | errors_of_the_ode(density, X[:TIGHT_ROWS])
    X = X[:COMPARED_ROWS]
    error = density.score_samples(X)
    error = error - density.set_params(likelihood="ode").score_samples(X)
    return found | {
        "fast_error": density.fast_error_,
        "gap_to_ode": float(error.mean()),
        "gap_to_ode_error": float(error.std(ddof=1) / np.sqrt(len(error))),
    }


def errors_of_the_ode(density: DSMDensityEstimator, X: np.ndarray) -> dict:
    """How far log-densities at the default tolerance are from those at a tight one."""
    error = np.abs(density.score_samples(X) - density.set_params(tolerance=TIGHT).score_samples(X))
    return {"ode_error": float(error.mean()), "largest_ode_error": float(error.max())}
