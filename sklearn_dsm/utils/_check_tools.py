"""What the checks of density estimators measure with: quadrature, tests and walks over state."""

from __future__ import annotations

import pickle
import random
import warnings
from collections.abc import Iterator
from numbers import Number

import numpy as np
import torch
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import pairwise_distances

# Of the mass of a density, by quadrature.
MASS_TOLERANCE = 3e-3
# Standard errors that a Monte-Carlo mean may lie from its exact value.
MAX_STANDARD_ERRORS = 4.0


def require(condition: bool, message: str) -> None:
    if not condition:
        raise AssertionError(message)


def require_array(what: str, values, shape: tuple[int, ...]) -> None:
    require(isinstance(values, np.ndarray), f"{what} gives a {type(values).__name__}.")
    require(values.dtype == np.float64, f"{what} gives {values.dtype}, not float64.")
    require(values.shape == shape, f"{what} has shape {values.shape}, not {shape}.")
    finite = np.isfinite(values).all()
    require(finite, f"{what} gives values that are not finite: {values[~np.isfinite(values)]}.")


def seeded(estimator: BaseEstimator) -> BaseEstimator:
    estimator = clone(estimator)
    if "random_state" in estimator.get_params(deep=False):
        estimator.set_params(random_state=0)
    return estimator


def fit_clone(estimator: BaseEstimator, X: np.ndarray) -> BaseEstimator:
    """A clone with seed 0, fitted. That it fits badly is no matter of most checks."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return seeded(estimator).fit(X)


def line_density(fitted: BaseEstimator, X: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Grid, log-densities and trapezoidal weights out to hundreds of the column's scales."""
    low, middle, high = np.quantile(X, [0.25, 0.5, 0.75])
    position = np.linspace(-7, 7, 2001)
    grid = middle + (high - low) * np.sinh(position)
    weight = (high - low) * np.cosh(position) * (position[1] - position[0])
    return grid, fitted.score_samples(grid[:, None]), weight


def plane_density(fitted: BaseEstimator, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log-densities and weights of a grid that reaches three deviations beyond the rows."""
    ends = zip(X.min(0) - 3 * X.std(0), X.max(0) + 3 * X.std(0), strict=True)
    axes = [np.linspace(low, high, 110) for low, high in ends]
    grid = np.stack(np.meshgrid(*axes), -1).reshape(-1, 2)
    area = np.prod([axis[1] - axis[0] for axis in axes])
    return fitted.score_samples(grid), np.full(len(grid), area)


def require_mass(name: str, log_density: np.ndarray, weight: np.ndarray) -> None:
    mass = float((np.exp(log_density) * weight).sum())
    require(
        abs(mass - 1) <= MASS_TOLERANCE,
        f"{name}: the density integrates to {mass:.5f}, not to 1 within {MASS_TOLERANCE}.",
    )


def require_entropy(
    name: str, draws: np.ndarray, log_density: np.ndarray, weight: np.ndarray
) -> None:
    """The mean of the draws' log-densities is that of the quadrature."""
    mass = np.exp(log_density) * weight
    expected = np.average(log_density, weights=mass)
    error = np.sqrt(np.average((log_density - expected) ** 2, weights=mass) / len(draws))
    gap = (draws.mean() - expected) / error
    require(
        abs(gap) < MAX_STANDARD_ERRORS,
        f"{name}: draws have mean log-density {draws.mean():.4f}, by quadrature {expected:.4f}, "
        f"{gap:.1f} standard errors apart; sample and score_samples are different laws.",
    )


def energy_p_value(X: np.ndarray, Y: np.ndarray, n_permutations: int = 999) -> float:
    """Share of permutations at least as far apart in energy distance as the two samples."""
    n, rows = len(X), np.concatenate([X, Y])
    distances = pairwise_distances(rows)
    random = np.random.RandomState(0)
    labels = np.repeat([1.0 / n, -1.0 / len(Y)], [n, len(Y)])
    signs = np.stack([labels, *(random.permutation(labels) for _ in range(n_permutations))])
    energy = -((signs @ distances) * signs).sum(1)
    return float(np.mean(energy >= energy[0]))


def global_state() -> dict[str, object]:
    numpy_state = np.random.get_state(legacy=False)
    return {
        "random": random.getstate(),
        "numpy": pickle.dumps(numpy_state),
        "torch": bytes(torch.get_rng_state().numpy()),
    }


def odd_parts(value, path: str) -> Iterator[str]:
    """What inside a fitted value is neither numpy, nor plain Python, nor scikit-learn's."""
    plain = (Number, str, bytes, type(None), np.generic, np.dtype, np.random.RandomState)
    if isinstance(value, np.ndarray):
        if value.dtype == object:
            for i, part in enumerate(value.ravel()):
                yield from odd_parts(part, f"{path}[{i}]")
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from odd_parts(part, f"{path}[{key!r}]")
    elif isinstance(value, list | tuple | set | frozenset):
        for i, part in enumerate(value):
            yield from odd_parts(part, f"{path}[{i}]")
    elif isinstance(value, BaseEstimator):
        for key, part in vars(value).items():
            yield from odd_parts(part, f"{path}.{key}")
    elif not isinstance(value, plain):
        yield f"{path} is a {type(value).__module__}.{type(value).__qualname__}"
