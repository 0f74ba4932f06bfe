"""Scores fitted level by level on one ladder of noise levels, denoised or bootstrapped."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from sklearn.neural_network import MLPRegressor
from torch import Tensor

from sklearn_dsm._core.losses.targets import bootstrapped_noise
from sklearn_dsm._core.noise.level import NoiseLevel
from sklearn_dsm.datasets import GaussianMixtureLaw

N_WAVES, WAVELENGTH = 200, 1.5
N_TEST = 2000

Prediction = Callable[[Tensor], Tensor]
Regression = Callable[[Tensor, Tensor], Prediction]


def at_time(time: float) -> NoiseLevel:
    """The level of an Ornstein-Uhlenbeck process at a time."""
    now = torch.tensor(time, dtype=torch.float64)
    return NoiseLevel(torch.exp(-now), -torch.expm1(-2 * now))


def normal(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def wave_regression(n_features: int, ridge: float, seed: int) -> Regression:
    """Ridge regression on random waves, the row itself and a constant."""
    generator = torch.Generator().manual_seed(10**4 + seed)
    frequencies = normal((n_features, N_WAVES), generator) / WAVELENGTH
    phases = 2 * math.pi * torch.rand(N_WAVES, generator=generator, dtype=torch.float64)

    def features(x: Tensor) -> Tensor:
        return torch.cat([(x @ frequencies + phases).cos(), x, torch.ones_like(x[:, :1])], 1)

    def fit(x: Tensor, target: Tensor) -> Prediction:
        known = features(x)
        gram = known.T @ known / len(x) + ridge * torch.eye(known.shape[1]).to(known)
        root = torch.linalg.cholesky(gram)
        weights = torch.cholesky_solve(known.T @ target / len(x), root)
        return lambda new: features(new) @ weights

    return fit


def network_regression(seed: int) -> Regression:
    """A perceptron of two layers, stopped early by a tenth of the rows."""

    def fit(x: Tensor, target: Tensor) -> Prediction:
        perceptron = MLPRegressor(
            hidden_layer_sizes=(64, 64),
            activation="tanh",
            early_stopping=True,
            max_iter=300,
            random_state=seed,
        ).fit(x.numpy(), target.numpy())
        return lambda new: torch.from_numpy(perceptron.predict(new.numpy()))

    return fit


def ladder_errors(
    law: GaussianMixtureLaw,
    n_rows: int,
    times: Sequence[float],
    scored: Sequence[float],
    regression: Regression,
    seed: int,
    n_paths: int = 1,
) -> np.ndarray:
    """Mean squared errors of the score, denoised and bootstrapped, at the scored times.

    Every row has ``n_paths`` paths of noise. The first level is denoised; each later one is
    bootstrapped from what was fitted at the one before it. Shape (len(scored), 2).
    """
    generator = torch.Generator().manual_seed(seed)
    clean = torch.from_numpy(law.sample(n_rows, seed)).repeat(n_paths, 1)
    fresh = torch.from_numpy(law.sample(N_TEST, 10**6 + seed))
    rows, before, errors = clean, at_time(0.0), {}
    bootstrapped: Prediction | None = None
    for time in times:
        level, step = at_time(time), normal(clean.shape, generator)
        kept = level.a / before.a
        noised = kept * rows + (level.v - kept**2 * before.v).sqrt() * step
        noise = (noised - level.a * clean) / level.v.sqrt()
        target = noise
        if bootstrapped is not None:
            target = bootstrapped_noise(bootstrapped(rows), step, before, level)
        denoised, bootstrapped = regression(noised, noise), regression(noised, target)
        if time in scored:
            x = level.a * fresh + level.v.sqrt() * normal(fresh.shape, generator)
            truth = law.noised_score(x.numpy(), float(level.a), float(level.v))
            found = [-fit(x) / level.v.sqrt() for fit in (denoised, bootstrapped)]
            errors[time] = [score_mse(score.numpy(), truth) for score in found]
        rows, before = noised, level
    return np.array([errors[time] for time in scored])


def score_mse(estimated: np.ndarray, truth: np.ndarray) -> float:
    return float(((estimated - truth) ** 2).sum(1).mean())
