"""Teaching a head the log-densities that the ODE gives, in the time there is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from .._budget import Budget
from .._checkpoint import NO_CHECKPOINT, Checkpoint
from .._core.arrays import arrays_of, tensor_of
from .._core.random import torch_generator
from .._core.scores.amortised import LogDensityHead
from .._core.scores.network import ScoreNetwork
from .._evaluation.latent_density import LatentDensity, chunks
from .._random import seed_from
from .._search.split import Split
from .._training import TrainingSettings
from .._training.amortised import fit_head

MAX_ROWS, MAX_HELD_OUT_ROWS = 12000, 2000
# Of the rows to learn from, those of the table come first; then come draws of the model and
# rows of the table moved by noise of these sizes, in latent units.
TABLE_SHARE, MOVED_SHARE, MOVES = 0.5, 0.15, (0.1, 0.3, 1.0)
# Rows solved between two looks at the budget, and the shares of the time that are over when
# each part has to end.
ROWS_AT_ONCE, TOLERANCE = {"cpu": 256, "cuda": 2**13}, 1e-2
CALIBRATED_SHARE, HELD_OUT_SHARE, SOLVED_SHARE, TAUGHT_SHARE = 0.65, 0.69, 0.82, 0.97
MAX_EPOCHS, BATCH_SIZE, LEARNING_RATE, WEIGHT_DECAY = 60, 512, 1e-3, 1e-4


def distil(
    density: LatentDensity,
    network: ScoreNetwork,
    split: Split,
    budget: Budget,
    max_epochs: int,
    random: np.random.RandomState,
    checkpoint: Checkpoint = NO_CHECKPOINT,
) -> tuple[dict[str, np.ndarray], float]:
    """A head's weights for the density of a network, and its error on held-out rows in nats."""
    weight_seed, noise_seed = seed_from(random), seed_from(random)
    held_out = split.held_out_rows[0][:MAX_HELD_OUT_ROWS]
    solver, _ = replace(density, tolerance=TOLERANCE).calibrated(
        held_out, budget.left(CALIBRATED_SHARE)
    )
    judged = _solved(solver, held_out, budget, HELD_OUT_SHARE)
    learned = _solved(
        solver, rows_to_learn(solver, split.train_rows[0], random), budget, SOLVED_SHARE
    )
    time_left = budget.left(TAUGHT_SHARE)
    n_epochs = min(max_epochs, MAX_EPOCHS)
    settings = TrainingSettings(
        max_epochs=n_epochs,
        batch_size=BATCH_SIZE,
        learning_rate=LEARNING_RATE,
        n_iter_no_change=n_epochs,
        weight_decay=WEIGHT_DECAY,
        device=str(density.device),
        max_fit_time=max(time_left, 0.1) if np.isfinite(time_left) else None,
        checkpoint=checkpoint,
    )
    generator = torch_generator(noise_seed, density.device)
    head = LogDensityHead(network, torch_generator(weight_seed)).float().to(density.device)
    error = fit_head(head, learned, judged, settings, generator)
    return arrays_of(head), error


def rows_to_learn(
    density: LatentDensity, Z: np.ndarray, random: np.random.RandomState
) -> np.ndarray:
    """Rows of the table, draws of the model and moved rows, in an order that mixes them."""
    own = Z[random.permutation(len(Z))[: int(TABLE_SHARE * MAX_ROWS)]]
    start = Z[random.randint(len(Z), size=int(MOVED_SHARE * MAX_ROWS))]
    moved = start + random.choice(MOVES, (len(start), 1)) * random.normal(size=start.shape)
    drawn = density.sample(MAX_ROWS - len(own) - len(moved), "ode", seed_from(random))
    rows = np.concatenate([own, moved, drawn])
    return rows[random.permutation(len(rows))]


def _solved(
    density: LatentDensity, Z: np.ndarray, budget: Budget, share: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """As many of the rows as there is time for, and how their log-densities differ from the
    reference's, on the density's device in float32."""
    known, differences = [], []
    for part in chunks(len(Z), ROWS_AT_ONCE[density.device.type]):
        value, _ = density.log_density(Z[part])
        known.append(Z[part])
        differences.append(value - density.reference_log_density(Z[part]))
        if budget.left(share) <= 0:
            break
    rows, target = (
        tensor_of(np.concatenate(parts)).float().to(density.device)
        for parts in (known, differences)
    )
    return rows, target
