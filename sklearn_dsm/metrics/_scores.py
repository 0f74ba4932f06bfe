"""How far an estimated score is from the exact one."""

from __future__ import annotations

import numpy as np
from sklearn.utils import check_array

from .._compat import check_sample_weight
from ._samples import check_options


def score_error(estimated, exact, *, sample_weight=None, squared=True):
    r"""Mean squared error of a Stein score.

    .. math:: \frac{\sum_i w_i |\hat s(x_i) - s(x_i)|^2}{\sum_i w_i},

    summed over columns. For rows of the law itself its expectation is the Fisher divergence.

    Parameters
    ----------
    estimated : array-like of shape (n_samples, n_features)
        What a model gives at some rows, for instance by its ``stein_score``.
    exact : array-like of shape (n_samples, n_features)
        The true score at the same rows, for instance by the ``score`` or ``noised_score`` of a
        law in :mod:`sklearn_dsm.datasets`.
    sample_weight : array-like of shape (n_samples,) or None, default=None
    squared : bool, default=True
        Return the mean square, else its root.

    Returns
    -------
    float
        In the inverse squared units of the rows; the root in the inverse units.

    Raises
    ------
    ValueError
        Where the shapes differ, a score is NaN or infinite, or the weights do not fit.

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
