"""Rivals that draw or give quantiles, and have no density of their own."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from _budget import n_threads
from _conditional_densities import CHOICES, KernelOfDraws, kernel_losses
from _conditional_search import Rows, Trial, searched

N_DRAWS, N_STEPS, N_QUANTILES = 100, 50, 200
# Held-out rows by which a recipe and the kernel are chosen where draws are slow.
MOST_HELD_OUT = 200
# Kernels are no narrower than this share of the targets' deviation.
LEAST_WIDTH = 1e-4


def best_kernel(losses: list[np.ndarray]) -> tuple[str, float]:
    """The kernel and the factor of the least loss over all folds."""
    return CHOICES[int(np.argmin(np.mean(losses, axis=0)))]


def kernel_note(kernel: str, factor: float) -> str:
    return f"kernel {kernel}, {factor:g} times Silverman's width"


TREEFFUSER_RECIPES = (
    {},
    {"num_leaves": 8, "min_child_samples": 10},
    {"num_leaves": 15, "learning_rate": 0.05},
    {"num_leaves": 63},
)


def treeffuser_model(recipe: dict, seed: int) -> Any:
    from treeffuser import Treeffuser

    return Treeffuser(seed=seed, n_jobs=n_threads(), **recipe)


def drawn(model: Any, X: np.ndarray, seed: int) -> np.ndarray:
    """Draws (n, N_DRAWS) of each row."""
    draws = model.sample(X, n_samples=N_DRAWS, n_steps=N_STEPS, n_parallel=N_DRAWS, seed=seed)
    return np.asarray(draws, dtype=np.float64).reshape(N_DRAWS, len(X)).T


def tree_diffusion(X: np.ndarray, y: np.ndarray, budget: float, seed: int) -> KernelOfDraws:
    """It holds rows out by itself for its iterations; others, of one split, choose the rest."""
    warnings.filterwarnings("ignore", message=".*valid feature names.*")
    least = LEAST_WIDTH * y.std()

    def trial(recipe: dict, fit: Rows, out: Rows) -> Trial:
        model = treeffuser_model(recipe, seed).fit(fit.X, fit.y)
        held_out = Rows(out.X[:MOST_HELD_OUT], out.y[:MOST_HELD_OUT])
        losses = kernel_losses(drawn(model, held_out.X, seed), held_out.y, least)
        return Trial(float(losses.min()), int(np.mean(model.n_estimators_true)), losses)

    found = searched(TREEFFUSER_RECIPES, trial, X, y, budget, seed, few_rows=0)
    kernel, factor = best_kernel(found.extra)
    model = treeffuser_model(found.recipe, seed).fit(X, y)
    known: dict[int, np.ndarray] = {}

    def draws(X: np.ndarray) -> np.ndarray:
        """One set of draws serves the log-density and the quantiles of the same rows."""
        key = hash(X.tobytes())
        if key not in known:
            known.clear()
            known[key] = drawn(model, X, seed)
        return known[key]

    def quantiles(X: np.ndarray, levels: np.ndarray) -> np.ndarray:
        return np.quantile(draws(X), levels, axis=1, method="hazen").T

    note = f"{found.note}, {kernel_note(kernel, factor)}"
    return KernelOfDraws(draws, quantiles, least, kernel, factor, note)


FOREST_TREES = 100
FOREST_RECIPES = (
    {},
    {"min_samples_leaf": 3},
    {"min_samples_leaf": 5},
    {"min_samples_leaf": 3, "max_features": 0.5},
    {"min_samples_leaf": 10},
    {"min_samples_leaf": 1, "max_features": 0.5},
)


def forest_model(recipe: dict, seed: int) -> Any:
    from quantile_forest import RandomForestQuantileRegressor

    return RandomForestQuantileRegressor(
        FOREST_TREES, random_state=seed, n_jobs=n_threads(), **recipe
    )


def forest_quantiles(model: Any, X: np.ndarray, levels: np.ndarray) -> np.ndarray:
    return np.asarray(model.predict(X, quantiles=list(levels)), dtype=np.float64)


def quantile_forest(X: np.ndarray, y: np.ndarray, budget: float, seed: int) -> KernelOfDraws:
    """Its density is a kernel estimate of quantiles at equidistant probabilities."""
    least, levels = LEAST_WIDTH * y.std(), (np.arange(N_QUANTILES) + 0.5) / N_QUANTILES

    def trial(recipe: dict, fit: Rows, out: Rows) -> Trial:
        model = forest_model(recipe, seed).fit(fit.X, fit.y)
        losses = kernel_losses(forest_quantiles(model, out.X, levels), out.y, least)
        return Trial(float(losses.min()), FOREST_TREES, losses)

    found = searched(FOREST_RECIPES, trial, X, y, budget, seed)
    kernel, factor = best_kernel(found.extra)
    model = forest_model(found.recipe, seed).fit(X, y)
    return KernelOfDraws(
        lambda X: forest_quantiles(model, X, levels),
        lambda X, wanted: forest_quantiles(model, X, wanted),
        least,
        kernel,
        factor,
        f"{found.note}, {kernel_note(kernel, factor)}",
    )
