"""Posteriors of logistic regressions on published tables, by which samplers are compared."""

from __future__ import annotations

import gzip
from importlib import resources

import numpy as np

from ._logistic_posterior import BayesianLogisticRegression


class IonospherePosterior(BayesianLogisticRegression):
    r"""Posterior of a logistic regression of radar returns from the ionosphere.

    .. math:: \gamma(w) = N(w; 0, I) \prod_i \sigma\big( (2 y_i - 1)\, w^T z_i \big),

    with 351 returns, of which 225 are good (:math:`y_i = 1`). The features :math:`z_i` are 34
    measurements, standardised to mean zero and variance one, and a one for the intercept. The
    second measurement is the same in all returns. It is zero after standardisation, so the
    posterior of the second coefficient is its prior.

    Attributes
    ----------
    n_features : int
        35.
    log_normalizer : float
        Log-evidence, -111.610 with a standard error of 0.001, by importance sampling from a
        multivariate t distribution. Articles on samplers compare with -111.56 [DDS]_.

    Notes
    -----
    The data are those of the UCI Machine Learning Repository, with the license CC BY 4.0.

    References
    ----------
    [Sigillito1989]_ for the data, [DDS]_

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_dsm.datasets import IonospherePosterior
    >>> posterior = IonospherePosterior()
    >>> posterior.log_density(np.zeros((1, 35))).round(2)  # 351 log(1/2) - 17.5 log(2 pi)
    array([-275.46])
    """

    log_normalizer = -111.610

    def __init__(self):
        super().__init__(*_table("ionosphere"))


class SonarPosterior(BayesianLogisticRegression):
    r"""Posterior of a logistic regression of sonar returns from metal and from rocks.

    .. math:: \gamma(w) = N(w; 0, I) \prod_i \sigma\big( (2 y_i - 1)\, w^T z_i \big),

    with 208 returns, of which 111 are from a metal cylinder (:math:`y_i = 1`). The features
    :math:`z_i` are 60 energies by frequency, standardised to mean zero and variance one, and a one
    for the intercept.

    Attributes
    ----------
    n_features : int
        61.
    log_normalizer : float
        Log-evidence, -108.384 with a standard error of 0.001, by importance sampling from a
        multivariate t distribution. Articles on samplers compare with -108.58, from long runs of
        sequential Monte Carlo [DDS]_.

    Notes
    -----
    The data are those of the UCI Machine Learning Repository, with the license CC BY 4.0.

    References
    ----------
    [Gorman1988]_ for the data, [DDS]_

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_dsm.datasets import SonarPosterior
    >>> posterior = SonarPosterior()
    >>> posterior.log_density(np.zeros((1, 61))).round(2)  # 208 log(1/2) - 30.5 log(2 pi)
    array([-200.23])
    """

    log_normalizer = -108.384

    def __init__(self):
        super().__init__(*_table("sonar"))


def _table(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and labels of a table whose last column is the label, zero or one."""
    source = resources.files(__package__) / "data" / f"{name}.csv.gz"
    with source.open("rb") as packed, gzip.open(packed, "rt") as text:
        values = np.loadtxt(text, delimiter=",", skiprows=1)
    return values[:, :-1], values[:, -1]
