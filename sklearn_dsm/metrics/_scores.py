"""How far an estimated score is from the exact one."""

from __future__ import annotations

import numpy as np
from sklearn.utils import check_array

from .._compat import check_sample_weight
from ._samples import check_options


def score_error(estimated, exact, *, sample_weight=None, squared=True):
    r"""Mean squared error of an estimated Stein score.

    .. math:: \frac{\sum_i w_i |\hat s(x_i) - s(x_i)|^2}{\sum_i w_i},

    where the squared norm sums over the features. If the samples come from the true distribution,
    the expectation of the error is the Fisher divergence.

    Parameters
    ----------
    estimated : array-like of shape (n_samples, n_features)
        The estimated score at some samples, for instance by ``stein_score`` of an estimator.
    exact : array-like of shape (n_samples, n_features)
        The true score at the same samples, for instance by ``score`` or ``noised_score`` of a
        distribution in :mod:`sklearn_dsm.datasets`.
    sample_weight : array-like of shape (n_samples,) or None, default=None
        Non-negative weights w. None gives equal weights.
    squared : bool, default=True
        Whether to return the mean square rather than its root.

    Returns
    -------
    float
        The mean square is in the inverse squared units of the samples, the root in the inverse
        units.

    Raises
    ------
    ValueError
        If the shapes differ, a score is NaN or infinite, or the weights are invalid.

    References
    ----------
    [Hyvarinen2005]_

    Examples
    --------
    >>> from sklearn_dsm.datasets import make_funnel
    >>> from sklearn_dsm.metrics import score_error
    >>> X, law = make_funnel(100, 3, random_state=0)
    >>> score_error(law.score(X) + 0.5, law.score(X))
    0.75
    """
    check_options("score_error", {"squared": ["boolean"]}, squared=squared)
    estimated = check_array(estimated, dtype=np.float64, input_name="estimated")
    exact = check_array(exact, dtype=np.float64, input_name="exact")
    if estimated.shape != exact.shape:
        raise ValueError(
            f"estimated has shape {estimated.shape} and exact has {exact.shape}; both must hold "
            "the scores of the same rows."
        )
    weight = check_sample_weight(sample_weight, exact, dtype=np.float64, ensure_non_negative=True)
    mean = float(np.average(((estimated - exact) ** 2).sum(1), weights=weight))
    return mean if squared else float(np.sqrt(mean))
