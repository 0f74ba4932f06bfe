"""How far weighted samples can be trusted, and which modes samples cover."""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import cdist
from scipy.special import entr, logsumexp
from sklearn.utils import check_array, gen_batches

from ..metrics import _samples

WEIGHT_TOLERANCE = 1e-8


def effective_sample_size(log_weights):
    r"""Compute the effective sample size of weighted samples, as a share of all samples.

    .. math:: \frac{\left( \sum_i w_i \right)^2}{n \sum_i w_i^2} \in \left[ \tfrac1n, 1 \right].

    It is one if all weights are equal. A large share does not show that samples cover the whole
    distribution, because a mode that no sample reaches has no effect on the weights.

    Parameters
    ----------
    log_weights : array-like of shape (n_samples,)
        Logarithms of the weights, up to a constant; -inf for a weight of zero.

    Returns
    -------
    float
        The share. Multiply it by n_samples for a number of samples.

    Raises
    ------
    ValueError
        If there are no weights, one is NaN or +inf, or all are zero.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_dsm.metrics import effective_sample_size
    >>> effective_sample_size([-3.0, -3.0, -np.inf, -np.inf])
    0.5
    """
    log_weights = np.asarray(log_weights, dtype=np.float64)
    if log_weights.ndim != 1 or not len(log_weights):
        raise ValueError(
            f"log_weights has shape {log_weights.shape}, and must have one entry for each sample."
        )
    if not (log_weights < np.inf).all():
        raise ValueError("log_weights holds NaN or +inf; they are finite, or -inf for zero.")
    total = logsumexp(log_weights)
    if total == -np.inf:
        raise ValueError("All weights are zero, so no sample is effective.")
    share = np.exp(2 * total - logsumexp(2 * log_weights)) / len(log_weights)
    return float(min(share, 1.0))


def mode_coverage(X, centers, weights=None, *, X_weight=None):
    r"""Measure how evenly samples cover the modes of a distribution.

    Each sample is counted for its nearest centre, and :math:`\hat p_k` is the share of centre k.
    Without ``weights``, the coverage is the entropy of the shares,

    .. math:: -\frac{1}{\log K} \sum_k \hat p_k \log \hat p_k.

    It is one if all modes have equal shares, and zero if all samples are at one mode. With
    ``weights`` p, the coverage is one minus the Jensen-Shannon divergence of p and the shares, in
    bits,

    .. math:: 1 - \frac{1}{2 \log 2} \sum_k \left( \hat p_k \log\frac{\hat p_k}{m_k}
        + p_k \log\frac{p_k}{m_k} \right), \qquad m = \tfrac12 (\hat p + p).

    This is one if the shares equal the weights. The two kinds of coverage are not comparable. If
    all samples are at one of two equal modes, the first is 0 and the second is 0.69.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
    centers : array-like of shape (n_modes, n_features)
        At least two, all different.
    weights : array-like of shape (n_modes,) or None, default=None
        True probabilities of the modes, with sum one. None gives the entropy of the shares.
    X_weight : array-like of shape (n_samples,) or None, default=None
        Non-negative weights of the samples, of any positive sum. None gives equal weights.

    Returns
    -------
    float
        In [0, 1].

    Raises
    ------
    ValueError
        If X and ``centers`` differ in the number of features, if there are fewer than two centres,
        or if ``weights`` are not one probability for each centre.

    References
    ----------
    [BeyondELBOs]_

    Examples
    --------
    >>> from sklearn_dsm.metrics import mode_coverage
    >>> centers = [[-1.0], [1.0]]
    >>> mode_coverage([[-1.1], [0.9], [-0.8], [1.3]], centers)
    1.0
    >>> mode_coverage([[-1.1], [-0.9]], centers)
    0.0
    >>> mode_coverage([[-1.1], [0.9], [-0.8], [-1.3]], centers, weights=[0.75, 0.25])
    1.0
    """
    sample, modes = _samples.checked_pair(X, centers, X_weight, None)
    n_modes = len(modes.rows)
    if n_modes < 2:
        raise ValueError("centers has one row; coverage needs two modes at least.")
    shares = _nearest_shares(sample, modes.rows)
    if weights is None:
        return float(np.clip(entr(shares).sum() / np.log(n_modes), 0.0, 1.0))
    truth = _checked_probabilities(weights, n_modes)
    mixed = 0.5 * (shares + truth)
    divergence = entr(mixed).sum() - 0.5 * (entr(shares).sum() + entr(truth).sum())
    return float(np.clip(1 - divergence / np.log(2), 0.0, 1.0))


def _nearest_shares(sample, centers: np.ndarray) -> np.ndarray:
    shares = np.zeros(len(centers))
    for rows in gen_batches(len(sample.rows), max(1, _samples.CHUNK_NUMBERS // len(centers))):
        nearest = cdist(sample.rows[rows], centers).argmin(1)
        shares += np.bincount(nearest, sample.weight[rows], len(centers))
    return shares / shares.sum()


def _checked_probabilities(weights, n_modes: int) -> np.ndarray:
    weights = check_array(weights, ensure_2d=False, dtype=np.float64, input_name="weights")
    summed = np.isclose(weights.sum(), 1, rtol=0, atol=WEIGHT_TOLERANCE)
    if weights.shape != (n_modes,) or (weights < 0).any() or not summed:
        raise ValueError(
            f"weights of shape {weights.shape} must be {n_modes} probabilities that sum to 1, one "
            "for each centre."
        )
    return weights
