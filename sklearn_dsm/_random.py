"""Seeds and numpy generators from scikit-learn's random_state, never the global ones."""

from __future__ import annotations

import numpy as np
from sklearn.utils import check_random_state


def seed_from(random_state: int | np.integer | np.random.RandomState | None) -> int:
    """A seed: drawn from a RandomState, fresh for None, and the integer's own for an integer."""
    if random_state is None:
        return int(np.random.SeedSequence().generate_state(1)[0])
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(np.iinfo(np.int32).max))
    return int(random_state)


def numpy_random(
    random_state: int | np.integer | np.random.RandomState | np.random.Generator | None,
) -> np.random.RandomState | np.random.Generator:
    """A source of numpy's numbers: a given one itself, a fresh one for None."""
    if isinstance(random_state, np.random.Generator):
        return random_state
    return np.random.RandomState() if random_state is None else check_random_state(random_state)
