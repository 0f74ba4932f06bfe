"""Bounded targets as unbounded ones, with the slope of the transform."""

from __future__ import annotations

import numpy as np
from scipy.special import expit


class TargetSpace:
    r"""Monotone maps of targets y (n, d) onto the real line.

    With two bounds u is the logit of the position between them, with one the logarithm of the
    distance to it, and without bounds y itself.

    Parameters
    ----------
    bounds : None, pair, or array-like of shape (n_targets, 2)
        None in a pair, or an infinite number, is no bound.
    n_targets : int
    """

    def __init__(self, bounds, n_targets: int):
        pairs = [(None, None)] if bounds is None else bounds
        if bounds is not None and np.ndim(bounds[0]) == 0:
            pairs = [bounds]
        if len(pairs) not in (1, n_targets) or any(len(pair) != 2 for pair in pairs):
            raise ValueError(
                f"y_bounds={bounds!r} must be a pair (low, high), or one for each of the "
                f"{n_targets} targets. None is no bound."
            )
        low, high = (
            np.array([default if pair[i] is None else pair[i] for pair in pairs], dtype=float)
            for i, default in ((0, -np.inf), (1, np.inf))
        )
        self.low, self.high = (np.broadcast_to(end, n_targets) for end in (low, high))
        if not (self.low < self.high).all():
            raise ValueError(f"y_bounds={bounds!r} must have low < high in every pair.")

    @property
    def is_bounded(self) -> bool:
        return bool((np.isfinite(self.low) | np.isfinite(self.high)).any())

    def forward(self, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Unbounded targets (n, d) and the logarithms (n,) of the product of slopes.

        Targets at or beyond a bound have infinite values, and -inf for the logarithm.
        """
        u, log_slope = y.copy(), np.zeros(len(y))
        with np.errstate(divide="ignore", invalid="ignore"):
            for j, (low, high) in enumerate(zip(self.low, self.high, strict=True)):
                above, below = y[:, j] - low, high - y[:, j]
                if np.isfinite(low) and np.isfinite(high):
                    u[:, j] = np.log(above) - np.log(below)
                    log_slope += np.log(high - low) - np.log(above) - np.log(below)
                elif np.isfinite(low):
                    u[:, j] = np.log(above)
                    log_slope -= u[:, j]
                elif np.isfinite(high):
                    u[:, j] = -np.log(below)
                    log_slope += u[:, j]
        inside = ((y > self.low) & (y < self.high)).all(1)
        return u, np.where(inside, log_slope, -np.inf)

    def inverse(self, u: np.ndarray, j: int = 0) -> np.ndarray:
        """Values of target j from unbounded ones, of any shape."""
        low, high = self.low[j], self.high[j]
        if np.isfinite(low) and np.isfinite(high):
            return low + (high - low) * expit(u)
        if np.isfinite(low):
            return low + np.exp(u)
        return high - np.exp(-u) if np.isfinite(high) else u
