"""What a fitted mixture says of the components of samples, and of its own size."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
from sklearn.mixture import GaussianMixture
from sklearn.utils.validation import check_is_fitted

from .._evaluation.base import BaseDensity

# Attributes that scikit-learn's mixtures have under the same names.
SHARED = ("weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_")


class MixtureDensity(BaseDensity):
    """Predictions and information criteria of an estimator with scikit-learn's attributes."""

    _kind: str
    weights_: np.ndarray

    @abstractmethod
    def fit(self, X, y=None, sample_weight=None):
        """Fit the mixture."""

    def predict(self, X):
        """Predict the most likely component of each sample.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,), int
        """
        return self._as_sklearn().predict(self._check_rows(X))

    def predict_proba(self, X):
        """Predict the posterior probability of each component, given the sample.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_components)
        """
        return self._as_sklearn().predict_proba(self._check_rows(X))

    def fit_predict(self, X, y=None, sample_weight=None):
        """Fit the mixture and predict the most likely component of each sample.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : Ignored
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        ndarray of shape (n_samples,), int
        """
        return self.fit(X, y, sample_weight).predict(X)

    def aic(self, X):
        """Akaike information criterion on X; lower is better.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        float
        """
        return float(self._as_sklearn().aic(self._check_rows(X)))

    def bic(self, X):
        """Bayesian information criterion on X; lower is better.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        float
        """
        return float(self._as_sklearn().bic(self._check_rows(X)))

    def _as_sklearn(self) -> GaussianMixture:
        """The same mixture as scikit-learn's, for what that computes from the parameters."""
        check_is_fitted(self)
        mixture = GaussianMixture(len(self.weights_), covariance_type=self._kind)
        for name in (*SHARED, "n_features_in_"):
            setattr(mixture, name, getattr(self, name))
        return mixture
