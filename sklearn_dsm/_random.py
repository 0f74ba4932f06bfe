"""Seeds and numpy generators from scikit-learn's random_state."""

from __future__ import annotations

from numbers import Integral

import numpy as np
from sklearn.utils import check_random_state


def seed_from(random_state: int | np.integer | np.random.RandomState | None) -> int:
    """A seed: an integer itself, or drawn from a RandomState, for None from numpy's global one."""
    if isinstance(random_state, Integral):
        return int(random_state)
    return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))


def numpy_random(
    random_state: int | np.integer | np.random.RandomState | np.random.Generator | None,
) -> np.random.RandomState | np.random.Generator:
    """A source of numpy's numbers: a given one itself, numpy's global one for None."""
    if isinstance(random_state, np.random.Generator):
        return random_state
    return check_random_state(random_state)
