"""What every density estimator of the package shares."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod

import numpy as np
from sklearn.base import BaseEstimator, DensityMixin


class BaseDensity(DensityMixin, BaseEstimator, metaclass=ABCMeta):
    """Density estimator: ``fit``, ``score_samples``, ``sample`` and ``stein_score`` to be given."""

    @abstractmethod
    def score_samples(self, X):
        """Log-density of every row."""

    @abstractmethod
    def sample(self, n_samples=1, random_state=None):
        """Draw rows from the fitted density."""

    @abstractmethod
    def stein_score(self, X, noise_level=0.0):
        """Gradient of the log-density of the data noised to a level."""

    def score(self, X, y=None):
        """Mean log-density of the rows, the default objective of a grid search.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : Ignored

        Returns
        -------
        float
            Nats per row, in the units of the input.
        """
        return float(np.mean(self.score_samples(X)))
