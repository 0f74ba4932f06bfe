"""Boosted rivals that predict a location and a scale."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from _budget import n_threads
from _conditional_densities import LocationScale
from _conditional_search import Found, Rows, Trial, searched
from scipy import stats
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.model_selection import KFold
from sklearn.tree import DecisionTreeRegressor

PATIENCE, LEAST_SCALE = 50, 1e-9
# Of one trial's fits together, of the whole budget; iterations are never cut below the default.
TRIAL_SHARE, PROBE = 0.25, 20
NORMAL = "normal"
FAMILIES = {NORMAL: stats.norm, "laplace": stats.laplace}


def loss_of(family: Any, y: np.ndarray, location: np.ndarray, scale: np.ndarray) -> float:
    return -float(family.logpdf(y, location, np.maximum(scale, LEAST_SCALE)).mean())


def limit(budget: float, n_folds: int, seconds: float, default: int, most: int) -> int:
    """Iterations that a trial has seconds for, between the default and the most."""
    return int(np.clip(TRIAL_SHARE * budget / n_folds / max(seconds, 1e-9), default, most))


# NGBoost

NGBOOST_DEFAULT, NGBOOST_MOST = 500, 2000
NGBOOST_RECIPES = (
    {"learning_rate": 0.01, "max_depth": 3},
    {"learning_rate": 0.04, "max_depth": 3},
    {"learning_rate": 0.04, "max_depth": 5},
    {"learning_rate": 0.04, "max_depth": 3, "minibatch_frac": 0.5},
    {"learning_rate": 0.02, "max_depth": 6, "min_samples_leaf": 5},
)


def ngboost_model(recipe: dict, n_iterations: int, seed: int) -> Any:
    from ngboost import NGBRegressor

    options = dict(recipe)
    tree = {name: options.pop(name) for name in ("max_depth", "min_samples_leaf") if name in recipe}
    base = DecisionTreeRegressor(random_state=seed, **tree)
    common = {"n_estimators": n_iterations, "verbose": False, "random_state": seed}
    return NGBRegressor(Base=base, **common, **options)


def natural_gradients(X: np.ndarray, y: np.ndarray, budget: float, seed: int) -> LocationScale:
    from _conditional_search import parts

    folds = parts(X, y, seed)
    fit = folds[0][0]
    started = time.perf_counter()
    ngboost_model(NGBOOST_RECIPES[0], PROBE, seed).fit(fit.X, fit.y)
    seconds = (time.perf_counter() - started) / PROBE
    most = limit(budget, len(folds), seconds, NGBOOST_DEFAULT, NGBOOST_MOST)

    def trial(recipe: dict, fit: Rows, out: Rows) -> Trial:
        model = ngboost_model(recipe, most, seed)
        model.fit(fit.X, fit.y, out.X, out.y, early_stopping_rounds=PATIENCE)
        best = model.best_val_loss_itr
        best = most - 1 if best is None else best
        found = model.pred_dist(out.X, max_iter=best).params
        return Trial(loss_of(stats.norm, out.y, found["loc"], found["scale"]), best + 1)

    found = searched(NGBOOST_RECIPES, trial, X, y, budget, seed)
    model = ngboost_model(found.recipe, found.n_iterations, seed).fit(X, y)

    def parameters(X: np.ndarray) -> tuple:
        law = model.pred_dist(X).params
        return law["loc"], np.maximum(law["scale"], LEAST_SCALE)

    return LocationScale(parameters, stats.norm, f"{found.note}, at most {most}")


# CatBoost

CATBOOST_MOST = 3000
CATBOOST_RECIPES = (
    {},
    {"learning_rate": 0.1},
    {"depth": 4},
    {"depth": 8},
    {"depth": 4, "l2_leaf_reg": 10, "learning_rate": 0.1},
    {"depth": 3, "learning_rate": 0.1},
    {"depth": 6, "rsm": 0.7},
    {"depth": 2, "learning_rate": 0.1},
)


def catboost_model(recipe: dict, n_iterations: int, seed: int) -> Any:
    from catboost import CatBoostRegressor

    return CatBoostRegressor(
        loss_function="RMSEWithUncertainty",
        iterations=n_iterations,
        thread_count=n_threads(),
        random_seed=seed,
        verbose=False,
        allow_writing_files=False,
        **recipe,
    )


def catboost_parameters(model: Any, X: np.ndarray) -> tuple:
    location, variance = model.predict(X, prediction_type="RMSEWithUncertainty").T
    return location, np.sqrt(np.maximum(variance, LEAST_SCALE**2))


def cat_boost(X: np.ndarray, y: np.ndarray, budget: float, seed: int) -> LocationScale:
    """Targets are standardised, since its starting point is not invariant to their scale."""
    centre, spread = y.mean(), y.std()

    def trial(recipe: dict, fit: Rows, out: Rows) -> Trial:
        model = catboost_model(recipe, CATBOOST_MOST, seed)
        model.fit(fit.X, fit.y, eval_set=(out.X, out.y), early_stopping_rounds=PATIENCE)
        loss = loss_of(stats.norm, out.y, *catboost_parameters(model, out.X))
        return Trial(loss, model.get_best_iteration() + 1)

    found = searched(CATBOOST_RECIPES, trial, X, (y - centre) / spread, budget, seed)
    model = catboost_model(found.recipe, found.n_iterations, seed).fit(X, (y - centre) / spread)

    def parameters(X: np.ndarray) -> tuple:
        location, scale = catboost_parameters(model, X)
        return centre + spread * location, spread * scale

    return LocationScale(parameters, stats.norm, found.note)


# xgboost-distribution

XGB_MOST = 2000
XGB_RECIPES = (
    {},
    {"learning_rate": 0.05, "max_depth": 3},
    {"learning_rate": 0.05, "max_depth": 6, "min_child_weight": 5},
    {"learning_rate": 0.05, "max_depth": 3, "distribution": "laplace"},
    {"learning_rate": 0.02, "max_depth": 4, "subsample": 0.7},
    {"learning_rate": 0.02, "max_depth": 6, "subsample": 0.7, "min_child_weight": 5},
    {"learning_rate": 0.02, "max_depth": 2},
)


def xgb_model(recipe: dict, n_iterations: int, seed: int, **options: Any) -> Any:
    from xgboost_distribution import XGBDistribution

    return XGBDistribution(
        **({"distribution": NORMAL} | recipe),
        n_estimators=n_iterations,
        n_jobs=n_threads(),
        random_state=seed,
        **options,
    )


def xgb_distribution(X: np.ndarray, y: np.ndarray, budget: float, seed: int) -> LocationScale:
    centre, spread = y.mean(), y.std()

    def trial(recipe: dict, fit: Rows, out: Rows) -> Trial:
        model = xgb_model(recipe, XGB_MOST, seed, early_stopping_rounds=PATIENCE)
        model.fit(fit.X, fit.y, eval_set=[(out.X, out.y)], verbose=False)
        family = FAMILIES[recipe.get("distribution", NORMAL)]
        return Trial(loss_of(family, out.y, *model.predict(out.X)), model.best_iteration + 1)

    found = searched(XGB_RECIPES, trial, X, (y - centre) / spread, budget, seed)
    model = xgb_model(found.recipe, found.n_iterations, seed)
    model.fit(X, (y - centre) / spread, verbose=False)

    def parameters(X: np.ndarray) -> tuple:
        location, scale = (np.asarray(part, dtype=np.float64) for part in model.predict(X))
        return centre + spread * location, np.maximum(spread * scale, LEAST_SCALE)

    family = FAMILIES[found.recipe.get("distribution", NORMAL)]
    return LocationScale(parameters, family, found.note)


# scikit-learn's boosting of the mean

HGB_MOST = 1000
HGB_RECIPES = (
    {},
    {"max_leaf_nodes": 6, "min_samples_leaf": 4},
    {"learning_rate": 0.05, "max_leaf_nodes": 15, "min_samples_leaf": 8},
    {"learning_rate": 0.05, "max_leaf_nodes": 31, "l2_regularization": 1.0},
)


def hgb_model(recipe: dict, n_iterations: int, seed: int) -> HistGradientBoostingRegressor:
    common = {"early_stopping": False, "random_state": seed}
    return HistGradientBoostingRegressor(max_iter=n_iterations, **common, **recipe)


def hgb_found(X: np.ndarray, y: np.ndarray, budget: float, seed: int) -> Found:
    def trial(recipe: dict, fit: Rows, out: Rows) -> Trial:
        model = hgb_model(recipe, HGB_MOST, seed).fit(fit.X, fit.y)
        losses = [np.mean((out.y - each) ** 2) for each in model.staged_predict(out.X)]
        best = int(np.argmin(losses))
        return Trial(float(losses[best]), best + 1)

    return searched(HGB_RECIPES, trial, X, y, budget, seed)


def of_one_scale(model: Any, scale: float, note: str) -> LocationScale:
    def parameters(X: np.ndarray) -> tuple:
        return model.predict(X), np.full(len(X), max(scale, LEAST_SCALE))

    return LocationScale(parameters, stats.norm, note)


def in_sample_residuals(X: np.ndarray, y: np.ndarray, budget: float, seed: int) -> LocationScale:
    found = hgb_found(X, y, budget, seed)
    model = hgb_model(found.recipe, found.n_iterations, seed).fit(X, y)
    return of_one_scale(model, np.std(y - model.predict(X)), found.note)


def crossed_residuals(X: np.ndarray, y: np.ndarray, budget: float, seed: int) -> LocationScale:
    found = hgb_found(X, y, budget, seed)
    residuals = np.empty_like(y)
    for fit, out in KFold(5, shuffle=True, random_state=seed + 1).split(X):
        model = hgb_model(found.recipe, found.n_iterations, seed).fit(X[fit], y[fit])
        residuals[out] = y[out] - model.predict(X[out])
    model = hgb_model(found.recipe, found.n_iterations, seed).fit(X, y)
    return of_one_scale(model, np.sqrt(np.mean(residuals**2)), found.note)
