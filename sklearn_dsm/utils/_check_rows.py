"""Rows that the checks of density estimators fit."""

from __future__ import annotations

import numpy as np


def correlated_rows(n_samples: int = 300, seed: int = 0) -> np.ndarray:
    """Rows of a correlated normal law in two columns of different scale.

    Parameters
    ----------
    n_samples : int, default=300
    seed : int, default=0

    Returns
    -------
    ndarray of shape (n_samples, 2)

    Examples
    --------
    >>> from sklearn_dsm.utils.estimator_checks import correlated_rows
    >>> correlated_rows(5).shape
    (5, 2)
    """
    mixing = np.array([[1.0, 0.8], [0.0, 0.6]]) * [1.0, 3.0]
    return np.random.RandomState(seed).standard_normal((n_samples, 2)) @ mixing + [1.0, -2.0]


def bimodal_rows(n_samples: int = 400, seed: int = 0) -> np.ndarray:
    """Rows of two equal correlated normal laws, three deviations apart.

    Parameters
    ----------
    n_samples : int, default=400
    seed : int, default=0

    Returns
    -------
    ndarray of shape (n_samples, 2)

    Examples
    --------
    >>> from sklearn_dsm.utils.estimator_checks import bimodal_rows
    >>> bimodal_rows(5).shape
    (5, 2)
    """
    random = np.random.RandomState(seed)
    side = np.where(random.rand(n_samples, 1) < 0.5, -1.0, 1.0)
    mixing = np.array([[0.6, 0.4], [0.0, 0.45]])
    return random.standard_normal((n_samples, 2)) @ mixing + side * [1.0, -1.0]
