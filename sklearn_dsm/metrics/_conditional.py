"""Scorers of conditional densities, for ``scoring=`` of searches and cross-validations."""

from __future__ import annotations

import numpy as np

# Quantiles whose pinball losses make a continuous ranked probability score.
N_QUANTILES = 99


def neg_log_density(estimator, X, y, sample_weight=None):
    r"""Score an estimator by the mean conditional log-density of targets.

    It is the negative of the logarithmic loss :math:`-\log p(y_i \mid x_i)`, so greater is better.

    Parameters
    ----------
    estimator : object
        Fitted, with ``score_samples(X, y)``, such as :class:`~sklearn_dsm.DSMRegressor`.
    X : array-like of shape (n_samples, n_features)
    y : array-like of shape (n_samples,) or (n_samples, n_targets)
    sample_weight : array-like of shape (n_samples,) or None, default=None

    Returns
    -------
    float
        In nats.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.model_selection import cross_val_score
    >>> from sklearn_dsm import DSMRegressor
    >>> from sklearn_dsm.metrics import neg_log_density
    >>> X = np.random.default_rng(0).normal(size=(60, 1))
    >>> model = DSMRegressor(max_iter=5, random_state=0)
    >>> cross_val_score(model, X, X[:, 0], scoring=neg_log_density, cv=2).shape
    (2,)
    """
    return float(np.average(estimator.score_samples(X, y), weights=sample_weight))


def crps(estimator, X, y, sample_weight=None):
    r"""Score an estimator by the negative continuous ranked probability score.

    .. math:: \mathrm{CRPS}(F, y) = \int (F(t) - 1\{t \ge y\})^2 dt
        = 2 \int_0^1 (1\{y < q_\tau\} - \tau) (q_\tau - y)\, d\tau,

    computed from the quantiles at 99 probabilities. The negative is returned, so greater is better.

    Parameters
    ----------
    estimator : object
        Fitted, with ``predict_quantiles(X, quantiles)``.
    X : array-like of shape (n_samples, n_features)
    y : array-like of shape (n_samples,)
    sample_weight : array-like of shape (n_samples,) or None, default=None

    Returns
    -------
    float
        In units of y; at most zero.

    References
    ----------
    [Gneiting2007]_

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_dsm import DSMRegressor
    >>> from sklearn_dsm.metrics import crps
    >>> X = np.random.default_rng(0).normal(size=(60, 1))
    >>> model = DSMRegressor(max_iter=5, random_state=0).fit(X, X[:, 0])
    >>> bool(crps(model, X, X[:, 0]) < 0)
    True
    """
    probabilities = (np.arange(N_QUANTILES) + 0.5) / N_QUANTILES
    y = np.asarray(y, dtype=np.float64).reshape(-1, 1)
    quantiles = np.asarray(estimator.predict_quantiles(X, probabilities))
    losses = 2 * ((y < quantiles) - probabilities) * (quantiles - y)
    return -float(np.average(losses.mean(1), weights=sample_weight))


def coverage(estimator, X, y, sample_weight=None, *, nominal=0.9):
    """Compute the share of targets within central intervals.

    Parameters
    ----------
    estimator : object
        Fitted, with ``predict_interval(X, coverage)``.
    X : array-like of shape (n_samples, n_features)
    y : array-like of shape (n_samples,)
    sample_weight : array-like of shape (n_samples,) or None, default=None
    nominal : float, default=0.9
        The share that the intervals should hold.

    Returns
    -------
    float
        The share that they hold. It says how honest intervals are and not how good: do not maximise
        it.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_dsm import DSMRegressor
    >>> from sklearn_dsm.metrics import coverage
    >>> X = np.random.default_rng(0).normal(size=(60, 1))
    >>> model = DSMRegressor(max_iter=5, random_state=0).fit(X, X[:, 0])
    >>> 0 <= coverage(model, X, X[:, 0]) <= 1
    True
    """
    low, high = np.asarray(estimator.predict_interval(X, nominal)).T
    y = np.asarray(y, dtype=np.float64).ravel()
    return float(np.average((low <= y) & (y <= high), weights=sample_weight))
