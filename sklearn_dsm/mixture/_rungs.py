"""The levels at which scores are regressed, and their regressions as arrays."""

from __future__ import annotations

import numpy as np

from .._core.arrays import tensor_of
from .._core.scores.polynomial import Rung
from .._core.scores.polynomial_fit import ladder_times

# Ornstein-Uhlenbeck time of the noisiest level, where rows of unit variance are noise.
LONGEST_TIME = 3.0
# The least noise, where it is chosen: at most this wide, and so many times narrower than the
# components. And the distance of levels in log-SNR.
MAX_WIDTH, WIDTHS_PER_SCALE, LEVEL_SPACING = 0.0632, 4.0, 0.5
# What of a rung is kept as arrays.
ARRAYS = ("centers", "location", "width", "coefficients")


def level_times(scale: float, shortest: float | str, n_levels: int | str) -> list[float]:
    """The times of the levels, down to noise that does not hide components of a scale."""
    if isinstance(shortest, str):
        width = min(MAX_WIDTH, scale / WIDTHS_PER_SCALE)
        shortest = -float(np.log1p(-(width**2))) / 2
    if isinstance(n_levels, str):
        low, high = np.log(np.expm1(2 * np.array([shortest, LONGEST_TIME])))
        n_levels = 1 + max(1, int(np.ceil((high - low) / LEVEL_SPACING)))
    return ladder_times(shortest, LONGEST_TIME, n_levels)


def rung_to_arrays(rung: Rung) -> dict[str, np.ndarray]:
    parts = {name: getattr(rung, name).numpy() for name in ARRAYS}
    return parts | {"time": np.asarray(rung.time), "apart": np.asarray(rung.apart)}


def rung_from_arrays(arrays: dict[str, np.ndarray]) -> Rung:
    parts = {name: tensor_of(arrays[name]) for name in ARRAYS}
    return Rung(time=float(arrays["time"]), apart=bool(arrays["apart"]), **parts)
