"""The law of some columns of a table given others."""

from __future__ import annotations

import numpy as np

from .._evaluation.base import check_number_of_draws
from .._tabular.given import Given


class ConditionalTable:
    r"""A fitted :class:`TableDensityEstimator` given values or ranges of some columns.

    .. math:: \log p(x \mid g) = \log p(x, g) - \log p(g)

    Parameters
    ----------
    estimator : TableDensityEstimator
        Fitted.
    given : dict or Series
        As in :meth:`TableDensityEstimator.sample`.
    """

    def __init__(self, estimator, given):
        self.estimator, self.given = estimator, given
        self._known = Given(estimator._layout, estimator._schema.empty, given)
        if len(self._known.samples()) != 1:
            raise ValueError(
                "conditional() takes one condition: a dict, a Series or a frame of one row. Use "
                "sample(given=frame) to fill in many rows."
            )

    def score_samples(self, X):
        """Log-probabilities of samples given the conditions.

        Parameters
        ----------
        X : DataFrame
            Any of the columns that the condition does not give a value for. Those that it gives a
            range or list for may be among them.

        Returns
        -------
        ndarray of shape (n_samples,)
            -inf for values that the condition excludes.
        """
        estimator, known = self.estimator, self._known
        samples, allowed = known.joined(X)
        law, samples = estimator._law(), estimator._schema.checked(samples)
        joint = law.log_probability(samples, known.conditions)[0]
        found = joint - law.log_probability(known.samples(), known.conditions)[0][0]
        return np.where(allowed, found, -np.inf)

    def sample(self, n_samples=1, random_state=None):
        """Draw samples given the conditions.

        Parameters
        ----------
        n_samples : int, default=1
        random_state : int, RandomState or None, default=None

        Returns
        -------
        DataFrame or ndarray
        """
        n_samples = check_number_of_draws(n_samples, random_state)
        rows = np.zeros(n_samples, dtype=int)
        samples = self._known.samples().take(rows)
        drawn = self.estimator._drawn(samples, self._known.conditions, random_state)
        return self.estimator._schema.kind.build(drawn)
