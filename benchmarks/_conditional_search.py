"""Settings of rivals by held-out rows: recipes in turn, as long as the seconds last."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from _budget import Clock
from sklearn.model_selection import KFold, train_test_split

# With fewer rows a recipe is judged by cross-validation, since few held-out rows say little.
FEW_ROWS, N_FOLDS, HELD_OUT = 2000, 5, 0.2


class Rows(NamedTuple):
    X: np.ndarray
    y: np.ndarray


class Trial(NamedTuple):
    """The loss of held-out rows, and the iterations at which it was least."""

    loss: float
    n_iterations: int
    extra: Any = None


class Found(NamedTuple):
    """The best recipe with its loss, its iterations, and how many recipes were tried."""

    recipe: Any
    loss: float
    n_iterations: int
    extra: Any
    n_tried: int

    @property
    def note(self) -> str:
        return f"{self.recipe}, {self.n_iterations} iterations, best of {self.n_tried} recipes"


def parts(
    X: np.ndarray, y: np.ndarray, seed: int, few_rows: int = FEW_ROWS
) -> list[tuple[Rows, Rows]]:
    """Rows to fit and rows held out: five folds of a table of few rows, else one split."""
    if len(X) < few_rows:
        pairs = list(KFold(N_FOLDS, shuffle=True, random_state=seed).split(X))
    else:
        pairs = [train_test_split(np.arange(len(X)), test_size=HELD_OUT, random_state=seed)]
    return [(Rows(X[fit], y[fit]), Rows(X[out], y[out])) for fit, out in pairs]


def searched(
    recipes: Sequence,
    trial: Callable[[Any, Rows, Rows], Trial],
    X: np.ndarray,
    y: np.ndarray,
    budget: float,
    seed: int,
    few_rows: int = FEW_ROWS,
) -> Found:
    """The recipe of the least held-out loss. The first, the default, is always tried.

    Later recipes are begun only where the seconds allow them and the fit to all rows.
    """
    clock, folds, seconds, best = Clock(budget), parts(X, y, seed, few_rows), 0.0, None
    for n_tried, recipe in enumerate(recipes, 1):
        if best is not None and clock.left < seconds * (1 + 1.25 / len(folds)):
            break
        started = clock.elapsed
        trials = [trial(recipe, *fold) for fold in folds]
        seconds = max(seconds, clock.elapsed - started)
        loss = float(np.mean([each.loss for each in trials]))
        if best is None or loss < best.loss:
            n_iterations = round(np.median([each.n_iterations for each in trials]))
            best = Found(recipe, loss, n_iterations, [each.extra for each in trials], n_tried)
        best = best._replace(n_tried=n_tried)
    return best
