"""What every unnormalised density offers."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import torch
from sklearn.utils import check_array
from torch import Tensor

from .._core.arrays import tensor_of


class Target(ABC):
    """Density that is known up to a constant.

    Attributes
    ----------
    n_features : int
    log_normalizer : float or None
        Logarithm of the integral of the density; None if it is not known.
    """

    n_features: int
    log_normalizer: float | None = None

    def log_density(self, X):
        """Compute the log-density, without its normalising constant.

        Parameters
        ----------
        X : array-like or torch.Tensor of shape (n_samples, n_features)

        Returns
        -------
        ndarray or torch.Tensor of shape (n_samples,)
            A tensor, which torch can differentiate, if X is one.
        """
        if isinstance(X, Tensor):
            self._check_columns(X)
            return self._log_density(X)
        return self._log_density(self._tensor(X)).numpy()

    def score(self, X):
        """Compute the Stein score, which is the gradient of the log-density.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            In the inverse units of X.
        """
        x = self._tensor(X).clone()
        with torch.enable_grad():
            total = self._log_density(x.requires_grad_()).sum()
            return torch.autograd.grad(total, x)[0].numpy()

    def _tensor(self, X) -> Tensor:
        X = check_array(X, dtype=np.float64, input_name="X")
        self._check_columns(X)
        return tensor_of(np.ascontiguousarray(X))

    def _check_columns(self, X) -> None:
        if X.ndim != 2 or X.shape[1] != self.n_features:
            raise ValueError(
                f"X has shape {tuple(X.shape)}, and {type(self).__name__} has {self.n_features} "
                "features."
            )

    @abstractmethod
    def _log_density(self, x: Tensor) -> Tensor:
        """Log-densities (n,) of rows, which torch differentiates."""
