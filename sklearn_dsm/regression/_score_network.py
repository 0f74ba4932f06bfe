"""The density of several targets' residuals: a mixture whose score a network corrects."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.mixture import GaussianMixture

from .._core.arrays import tensor_of
from .._core.likelihood.ode import SolverPlan
from .._core.losses.denoising import DSM
from .._core.losses.loss import TrainingRows
from .._core.noise.level_sampling import LogisticLevels
from .._core.random import torch_generator
from .._evaluation.builder import DensityBuilder
from .._training import TrainingSettings, train

# Samples from which a network is tried, and the share of them that judges it.
NETWORK_ROWS, HELD_OUT_SHARE = 400, 0.15
LEVELS = LogisticLevels(-12.0, 12.0)


def network_options(n_context: int) -> dict:
    """Layers of a network that corrects residuals given a context."""
    return {
        "hidden_layer_sizes": (64, 64),
        "sine_share": 0.0,
        "dropout": 0.1,
        "n_context": n_context,
    }


def builder_for(n_targets: int, n_context: int, device: torch.device) -> DensityBuilder:
    return DensityBuilder(n_targets, network_options(n_context), LEVELS, 1e-3, device)


def corrected(
    builder: DensityBuilder,
    mixture: GaussianMixture,
    z: np.ndarray,
    context: np.ndarray,
    weight: np.ndarray,
    settings: TrainingSettings,
    seed: int,
):
    """The weights of a network that corrects the mixture, empty where it gains nothing.

    Also the record of the training.
    """
    random = np.random.RandomState(seed)
    held_out = np.zeros(len(z), dtype=bool)
    held_out[random.permutation(len(z))[: max(1, round(HELD_OUT_SHARE * len(z)))]] = True
    model = builder.score_model(mixture, {}, seed).float()
    train_rows, judges = (
        TrainingRows(
            tensor_of(z[rows]).float(),
            tensor_of(weight[rows] / weight[rows].mean()).float(),
            tensor_of(context[rows]).float(),
        )
        for rows in (~held_out, held_out)
    )
    record = train(model, DSM(), LEVELS, train_rows, judges, settings, torch_generator(seed))
    weights = record.weights or {}
    if weights:
        plain = builder.density(mixture, {}, "ode", SolverPlan())
        learned = builder.density(mixture, weights, "ode", SolverPlan())
        gains = (
            learned.log_density(z[held_out], context[held_out])[0]
            - plain.log_density(z[held_out])[0]
        )
        share = weight[held_out] / weight[held_out].sum()
        mean = float(share @ gains)
        stderr = float(np.sqrt((share**2) @ (gains - mean) ** 2))
        weights = weights if mean > stderr else {}
    return weights, record
