"""The posterior of a Bayesian logistic regression."""

from __future__ import annotations

import numpy as np
from sklearn.utils import check_X_y
from torch.nn.functional import logsigmoid

from .._core.arrays import tensor_of
from .._core.constants import LOG_2PI
from ._target import Target


class BayesianLogisticRegression(Target):
    r"""Posterior of the coefficients of a logistic regression.

    .. math:: \gamma(w) = N(w; 0, s^2 I) \prod_i \sigma\big( (2 y_i - 1)\, w^T z_i \big),

    where :math:`z_i` are the features of sample i, standardised to mean zero and variance one,
    followed by a one for the intercept. A constant feature is zero after standardisation. The
    integral of :math:`\gamma` is the evidence.

    :class:`IonospherePosterior` and :class:`SonarPosterior` are the two that articles on samplers
    use, with ``prior_scale=1.0``.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_inputs)
    y : array-like of shape (n_samples,)
        Labels of two classes. The greater label has probability :math:`\sigma(w^T z)`.
    prior_scale : float, default=1.0
        Standard deviation s of the prior.

    Attributes
    ----------
    n_features : int
        ``n_inputs + 1``.
    log_normalizer : None
        The log-evidence is not known.

    Raises
    ------
    ValueError
        If y does not have two classes, or ``prior_scale`` is not positive.

    References
    ----------
    [DDS]_

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_dsm.datasets import BayesianLogisticRegression
    >>> X = np.random.RandomState(0).normal(size=(50, 3))
    >>> posterior = BayesianLogisticRegression(X, X[:, 0] > 0)
    >>> posterior.n_features
    4
    >>> posterior.log_density(np.zeros((1, 4))).round(2)  # 50 log(1/2) - 2 log(2 pi)
    array([-38.33])
    """

    def __init__(self, X, y, prior_scale=1.0):
        X, y = check_X_y(X, y, dtype=np.float64)
        classes = np.unique(y)
        if len(classes) != 2:
            raise ValueError(f"y has {len(classes)} classes, and a logistic regression needs 2.")
        if not 0 < prior_scale < np.inf:
            raise ValueError(f"prior_scale={prior_scale!r} must be positive.")
        scale = X.std(0)
        inputs = (X - X.mean(0)) / np.where(scale > 0, scale, 1.0)
        inputs = np.column_stack([inputs, np.ones(len(X))])
        self.n_features, self.prior_scale = inputs.shape[1], prior_scale
        self._signed = tensor_of(np.where(y == classes[1], 1.0, -1.0)[:, None] * inputs)

    def _log_density(self, x):
        log_likelihood = logsigmoid(x @ self._signed.T.to(x.dtype)).sum(1)
        variance = self.prior_scale**2
        squared = (x**2).sum(1) / variance
        log_prior = -0.5 * (squared + self.n_features * (LOG_2PI + np.log(variance)))
        return log_likelihood + log_prior
