"""What every distribution that can be sampled exactly offers."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from .._random import numpy_random


class Sampled(ABC):
    """Distribution from which independent samples can be drawn."""

    def sample(self, n_samples=1, random_state=None):
        """Draw independent samples.

        Parameters
        ----------
        n_samples : int, default=1
        random_state : int, RandomState, Generator or None, default=None

        Returns
        -------
        ndarray of shape (n_samples, n_features)

        Raises
        ------
        ValueError
            If ``n_samples`` is less than one.
        """
        if n_samples < 1:
            raise ValueError(f"n_samples={n_samples!r} must be at least 1.")
        return self._sample(n_samples, numpy_random(random_state))

    @abstractmethod
    def _sample(self, n_samples: int, random) -> np.ndarray:
        """Rows from a RandomState or a Generator."""
