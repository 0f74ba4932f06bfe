"""How seldom a training sample is as odd as a given one."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

# The share of the training samples in the tail, beyond which a formula goes on.
TAIL_SHARE = 0.1


class Tail(NamedTuple):
    r"""The probability that oddness exceeds a value, by values of training samples.

    It is the share of training samples that exceed it, and in the upper tenth
    :math:`0.1 / (1 + e / m)`, with the excess e over the tail's start and its median m.

    Attributes
    ----------
    values : ndarray of shape (k,)
        Sorted oddness of training samples, without the upper tenth.
    start, excess : float
    """

    values: np.ndarray
    start: float
    excess: float

    @classmethod
    def of(cls, oddness: np.ndarray) -> Tail:
        ordered = np.sort(oddness)
        n_below = max(1, round(len(ordered) * (1 - TAIL_SHARE)))
        start = ordered[n_below - 1]
        beyond = ordered[n_below:] - start
        positive = beyond[beyond > 0]
        excess = float(np.median(positive)) if len(positive) else abs(start) or 1.0
        return cls(ordered[:n_below], float(start), excess)

    def log_probability(self, oddness: np.ndarray) -> np.ndarray:
        """Logarithms (n,), strictly decreasing in the tail."""
        nodes = np.r_[
            1.0, 1 - (1 - TAIL_SHARE) * (np.arange(len(self.values)) + 1) / len(self.values)
        ]
        below = np.interp(oddness, np.r_[self.values[0] - self.excess, self.values], nodes)
        with np.errstate(over="ignore"):
            beyond = np.maximum(oddness - self.start, 0) / self.excess
        return np.log(below) - np.log1p(beyond)
