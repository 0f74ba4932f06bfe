"""Normalising flows of zuko with widths and weight decay by held-out rows, within a budget."""

from __future__ import annotations

import copy
import math
from typing import NamedTuple

import numpy as np
import torch
import zuko
from _budget import Clock
from _columns import Behind, Columns, Gaussianized, Standardized, TailsPulledIn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

HELD_OUT, MIN_HELD_OUT_ROWS, MAX_VALIDATION_ROWS = 0.1, 20, 2000
FEW_ROWS = 2000
BATCH_ROWS, CLIP, AVERAGING, WARM_UP_STEPS = 256, 5.0, 0.99, 50
# Validations are evenly spaced, and take no more than this share of the time.
N_VALIDATIONS, VALIDATION_SHARE, PATIENCE = 40, 0.1, 0.4
TRIAL_SHARE, LEAST_SHARE, MAX_RUNS = 0.1, 0.1, 8
DECAY_GROWTH, SCHEDULE_GROWTH = 3.0, 1.5
SCORE_ROWS = 4096


class Recipe(NamedTuple):
    n_transforms: int
    hidden: tuple[int, ...]
    learning_rate: float
    weight_decay: float


# Each that suits the table's size is tried; the best one gets the rest of the time.
FEW_ROWS_RECIPES = (
    Recipe(3, (64, 64), 2e-3, 1e-2),
    Recipe(3, (32, 32), 5e-3, 0.3),
    Recipe(2, (32,), 5e-3, 3.0),
)
RECIPES = (Recipe(3, (128, 128), 1e-2, 1e-3), Recipe(3, (256, 256), 5e-3, 1e-3))
KINDS = {
    "NSF": lambda d, **options: zuko.flows.NSF(d, bins=8, **options),
    "MAF": lambda d, **options: zuko.flows.MAF(d, **options),
}


class Run(NamedTuple):
    """The best averaged weights of one training, when they were met, and their score."""

    recipe: Recipe
    value: float
    seconds_at_best: float
    model: torch.nn.Module | None
    n_steps: int
    n_skipped: int


class Rows(NamedTuple):
    """Rows behind column maps, and what these add to a mean log-density of the held-out ones."""

    columns: Columns
    fit: torch.Tensor
    held_out: torch.Tensor
    mean_log_slope: float

    @classmethod
    def behind(cls, make_columns, X: np.ndarray, n_held_out: int) -> Rows:
        columns = make_columns(X[n_held_out:])
        Z, log_slope = columns.forward(X)
        Z = torch.from_numpy(Z).float()
        return cls(columns, Z[n_held_out:], Z[:n_held_out], float(log_slope[:n_held_out].mean()))


class FlowDensity:
    """A trained flow scored in single precision, in parts that bound memory."""

    def __init__(self, model: torch.nn.Module, note: str):
        self.model, self.note = model.eval(), note

    def score_samples(self, Z: np.ndarray) -> np.ndarray:
        parts = torch.from_numpy(Z).float().split(SCORE_ROWS)
        with torch.no_grad():
            values = torch.cat([self.model().log_prob(part) for part in parts])
        return values.double().numpy()


def spline_flow(X: np.ndarray, budget: float, seed: int) -> Behind:
    return fitted("NSF", (TailsPulledIn,), X, budget, seed)


def affine_flow(X: np.ndarray, budget: float, seed: int) -> Behind:
    """It has no bound that tails must be pulled into, but may learn bent columns sooner."""
    return fitted("MAF", (Standardized, TailsPulledIn), X, budget, seed)


def spline_flow_of_normal_columns(X: np.ndarray, budget: float, seed: int) -> Behind:
    return fitted("NSF", (Gaussianized,), X, budget, seed)


def fitted(kind: str, column_maps: tuple, X: np.ndarray, budget: float, seed: int) -> Behind:
    """The best of several trainings behind the column maps where a short one is best."""
    clock = Clock(budget)
    torch.manual_seed(seed)
    X = np.random.RandomState(seed).permutation(X)
    n_held_out = max(round(HELD_OUT * len(X)), min(MIN_HELD_OUT_ROWS, len(X) // 2))
    recipes = FEW_ROWS_RECIPES if len(X) - n_held_out < FEW_ROWS else RECIPES
    trials = []
    for make_columns in column_maps:
        rows = Rows.behind(make_columns, X, n_held_out)
        trials.append((rows, train(kind, recipes[0], rows, TRIAL_SHARE * budget)))
    rows, first = max(trials, key=lambda trial: trial[0].mean_log_slope + trial[1].value)
    runs = trainings(kind, recipes, rows, clock, first)
    best = max(runs, key=lambda run: run.value)
    if best.model is None:
        raise FloatingPointError("no training gave finite log-densities of the held-out rows")
    note = note_of(best, runs)
    if len(column_maps) > 1:
        note += f", columns {type(rows.columns).__name__}"
    return Behind(rows.columns, FlowDensity(best.model, note))


def note_of(best: Run, runs: list[Run]) -> str:
    recipe, n_skipped = best.recipe, sum(run.n_skipped for run in runs)
    skipped = f"; {n_skipped} steps without a finite gradient left out" if n_skipped else ""
    return (
        f"{recipe.n_transforms} transforms of {recipe.hidden}, rate {recipe.learning_rate:g}, "
        f"weight decay {recipe.weight_decay:g}, {best.n_steps} steps, best of {len(runs)} "
        f"trainings{skipped}"
    )


def trainings(kind: str, recipes: tuple, rows: Rows, clock: Clock, first: Run) -> list[Run]:
    """A trial of each recipe after the first, then the best as long as its best moment suggests.

    Where the held-out rows were best early, the table is soon memorised: the schedule is made
    to end about there, and what time remains goes to stronger weight decay.
    """
    seconds = TRIAL_SHARE * clock.budget
    runs = [first, *(train(kind, recipe, rows, seconds) for recipe in recipes[1:])]
    winner = max(runs, key=lambda run: run.value)
    recipe, seconds = winner.recipe, winner.seconds_at_best / TRIAL_SHARE
    while clock.left > LEAST_SHARE * clock.budget and len(runs) < MAX_RUNS:
        runs.append(train(kind, recipe, rows, min(clock.left, seconds)))
        recipe = recipe._replace(weight_decay=DECAY_GROWTH * recipe.weight_decay)
        seconds = SCHEDULE_GROWTH * runs[-1].seconds_at_best
    return runs


def train(kind: str, recipe: Recipe, rows: Rows, seconds: float) -> Run:
    """Adam with a cosine schedule over the seconds, and averaged weights.

    The weights kept are those that score best on the held-out rows; training ends early where
    these have long gained nothing.
    """
    clock, options = Clock(seconds), {"transforms": recipe.n_transforms}
    model = KINDS[kind](rows.fit.shape[1], hidden_features=recipe.hidden, **options)
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(AVERAGING))
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=recipe.weight_decay)
    best, n_steps, n_skipped, due = Run(recipe, -math.inf, 0.0, None, 0, 0), 0, 0, 0.0
    batches = endless_batches(rows.fit)
    while clock.left > 0 and clock.elapsed - best.seconds_at_best <= PATIENCE * seconds:
        set_rate(optimizer, recipe.learning_rate, n_steps, clock.elapsed / seconds)
        n_skipped += not step(model, optimizer, next(batches))
        averaged.update_parameters(model)
        n_steps += 1
        if clock.elapsed >= due:
            began = clock.elapsed
            best = better(best, averaged.module, rows.held_out, began, n_steps)
            pause = max(seconds / N_VALIDATIONS, (clock.elapsed - began) / VALIDATION_SHARE)
            due = clock.elapsed + pause
    best = better(best, averaged.module, rows.held_out, clock.elapsed, n_steps)
    return best._replace(n_skipped=n_skipped)


def endless_batches(Z: torch.Tensor):
    size = min(len(Z), BATCH_ROWS)
    while True:
        yield from (part for part in Z[torch.randperm(len(Z))].split(size) if len(part) == size)


def set_rate(
    optimizer: torch.optim.Optimizer, largest: float, n_steps: int, progress: float
) -> None:
    warm_up = min(1.0, (n_steps + 1) / WARM_UP_STEPS)
    for group in optimizer.param_groups:
        group["lr"] = largest * warm_up * (1 + math.cos(math.pi * min(progress, 1.0))) / 2


def step(model: torch.nn.Module, optimizer: torch.optim.Optimizer, batch: torch.Tensor) -> bool:
    """One step; False, and nothing moved, where the gradient is not finite."""
    optimizer.zero_grad()
    (-model().log_prob(batch).mean()).backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
    if finite := bool(torch.isfinite(norm)):
        optimizer.step()
    return finite


@torch.no_grad()
def better(
    best: Run, model: torch.nn.Module, held_out: torch.Tensor, elapsed: float, n_steps: int
) -> Run:
    """The run with these weights where they score higher."""
    value = float(model().log_prob(held_out[:MAX_VALIDATION_ROWS]).mean())
    if not value > best.value:
        return best
    kept = copy.deepcopy(model)
    return best._replace(value=value, seconds_at_best=elapsed, model=kept, n_steps=n_steps)
