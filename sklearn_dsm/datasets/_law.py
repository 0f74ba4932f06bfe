"""What every law with an exact density offers."""

from __future__ import annotations

from abc import ABC

import numpy as np
import torch
from sklearn.utils import check_array, gen_batches
from torch import Tensor

from .._core.arrays import tensor_of
from .._core.noise.level import NoiseLevel
from .._core.scores.model import ExactScore
from ._sampled import Sampled

# Numbers held at once while rows are scored.
CHUNK_NUMBERS = 2**21


def level_of(a: float, v: float) -> NoiseLevel:
    """A noise level in double precision."""
    return NoiseLevel(*(torch.tensor(part, dtype=torch.float64) for part in (a, v)))


class _LogDensity(torch.autograd.Function):
    """A law's log-density of tensors, with its exact score as the gradient."""

    @staticmethod
    def forward(ctx, X: Tensor, law: ExactLaw) -> Tensor:
        parts = list(law._parts(X.detach().cpu().numpy(), 1.0, 0.0))
        log_density, score = (np.concatenate(part) for part in zip(*parts, strict=True))
        ctx.save_for_backward(tensor_of(score).to(X))
        return tensor_of(log_density).to(X)

    @staticmethod
    def backward(ctx, slope: Tensor):  # type: ignore[override]
        (score,) = ctx.saved_tensors
        return slope[:, None] * score, None


class ExactLaw(Sampled, ABC):
    """Distribution with known log-density and Stein score, without and with added Gaussian noise.

    Attributes
    ----------
    n_features : int
    log_normalizer : float
        Zero: the density is normalised.
    """

    n_features: int
    log_normalizer = 0.0
    # The law as a score model, where it is one.
    _exact: ExactScore
    # How many numbers one row takes while it is scored.
    _numbers_per_row: int

    def log_density(self, X):
        """Compute the exact log-density, a natural logarithm.

        Parameters
        ----------
        X : array-like or torch.Tensor of shape (n_samples, n_features)

        Returns
        -------
        ndarray or torch.Tensor of shape (n_samples,)
            A tensor, whose gradient is the score, if X is one.
        """
        if isinstance(X, Tensor):
            return _LogDensity.apply(X, self)
        return self.noised_log_density(X, 1.0, 0.0)

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
        return self.noised_score(X, 1.0, 0.0)

    def noised_log_density(self, X, a, v):
        r"""Compute the exact log-density of :math:`a X_0 + \sqrt v Z`, with Z standard normal.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Noised samples, in the units of :math:`a X_0`.
        a : float
            Factor of the sample :math:`X_0`; positive.
        v : float
            Variance of the noise; not negative.

        Returns
        -------
        ndarray of shape (n_samples,)

        Raises
        ------
        ValueError
            If a is not positive, v is negative, or X has the wrong number of features.
        """
        return np.concatenate([log_density for log_density, _ in self._parts(X, a, v)])

    def noised_score(self, X, a, v):
        r"""Compute the Stein score of :math:`a X_0 + \sqrt v Z`, with Z standard normal.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Noised samples, in the units of :math:`a X_0`.
        a : float
            Factor of the sample :math:`X_0`; positive.
        v : float
            Variance of the noise; not negative.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            In the inverse units of X.

        Raises
        ------
        ValueError
            If a is not positive, v is negative, or X has the wrong number of features.
        """
        return np.concatenate([score for _, score in self._parts(X, a, v)])

    def _parts(self, X, a, v):
        if not (0 < a < np.inf and 0 <= v < np.inf):
            raise ValueError(
                f"a={a!r} must be positive and v={v!r} not negative, both finite; without noise, "
                "a=1 and v=0."
            )
        X = self._checked(X)
        batches = gen_batches(len(X), max(1, CHUNK_NUMBERS // self._numbers_per_row))
        return (self._evaluate(X[rows], float(a), float(v)) for rows in batches)

    def _checked(self, X):
        X = check_array(X, dtype=np.float64, input_name="X")
        if X.shape[1] != self.n_features:
            raise ValueError(
                f"X has {X.shape[1]} columns, and {type(self).__name__} has {self.n_features}."
            )
        # Reversed rows or columns have no tensors that share their memory.
        return np.ascontiguousarray(X)

    def _evaluate(self, X: np.ndarray, a: float, v: float) -> tuple[np.ndarray, np.ndarray]:
        """Log-density (n,) and score (n, d) of the noised law; those of the exact score model."""
        x, level = tensor_of(X), level_of(a, v)
        return self._exact.log_density(x, level).numpy(), self._exact.score(x, level).numpy()
