"""The methods of the benchmark of conditional densities: this package's and its rivals'.

A method takes features, targets, a budget in seconds and a seed, and gives an object that has
``log_density``, ``quantiles`` and a ``note``. Rivals choose their recipe and their iterations by
held-out rows as long as the seconds last, and are then fitted to all rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from _methods import Method

OURS = "DSMRegressor"
METHODS = {
    OURS: Method("_conditional_rivals:score_matching", about="defaults, max_fit_time"),
    "NGBoost": Method("_conditional_boosting:natural_gradients", "ngboost", "normal"),
    "CatBoost": Method("_conditional_boosting:cat_boost", "catboost", "RMSEWithUncertainty"),
    "XGBDistribution": Method(
        "_conditional_boosting:xgb_distribution", "xgboost_distribution", "normal or Laplace"
    ),
    "Treeffuser": Method(
        "_conditional_draws:tree_diffusion",
        "treeffuser",
        "NLL by a kernel estimate of 100 draws; slow, so by at most 500 test rows",
        500,
    ),
    "quantile forest": Method(
        "_conditional_draws:quantile_forest",
        "quantile_forest",
        "NLL by a kernel estimate of 200 quantiles",
    ),
    "MDN ensemble": Method(
        "_conditional_networks:mixture_networks", about="mixture density networks"
    ),
    "HGB, in-sample": Method(
        "_conditional_boosting:in_sample_residuals", about="one normal law of in-sample residuals"
    ),
    "HGB, cross-val.": Method(
        "_conditional_boosting:crossed_residuals",
        about="one normal law of cross-validated residuals",
    ),
}


class ScoreMatching:
    """``DSMRegressor`` under the names that the measures call."""

    def __init__(self, model: Any):
        self.model = model
        network = "with" if model.uses_network_ else "without"
        self.note = (
            f"{len(model.mixture_['weights'])} components, {network} network "
            f"({model.stop_reason_}), {model.n_iter_} iterations"
        )

    def log_density(self, X: np.ndarray, y: np.ndarray) -> np.ndarray:
        return self.model.score_samples(X, y)

    def quantiles(self, X: np.ndarray, levels: np.ndarray) -> np.ndarray:
        return self.model.predict_quantiles(X, levels)


def score_matching(X: np.ndarray, y: np.ndarray, budget: float, seed: int) -> ScoreMatching:
    from sklearn_dsm import DSMRegressor

    model = DSMRegressor(max_fit_time=budget, device="cpu", random_state=seed)
    return ScoreMatching(model.fit(X, y))
