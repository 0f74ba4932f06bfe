"""Gaussian mixtures with known parameters."""

from __future__ import annotations

import numpy as np
from sklearn.utils import check_array

from .._core.arrays import tensor_of
from .._core.distributions.mixture import GaussianMixtureScore
from .._core.distributions.mixture_algebra import responsibilities
from .._random import numpy_random
from ._law import ExactLaw, level_of

WEIGHT_TOLERANCE = 1e-8


class GaussianMixtureLaw(ExactLaw):
    r"""Gaussian mixture with known parameters.

    .. math:: x \sim \sum_k w_k N(\mu_k, \Sigma_k), \qquad
        a x + \sqrt v z \sim \sum_k w_k N(a \mu_k, a^2 \Sigma_k + v I).

    Parameters
    ----------
    means : array-like of shape (n_components, n_features)
    covariances : array-like of shape (n_components, n_features, n_features) or None
        Symmetric and positive definite. None gives identity matrices.
    weights : array-like of shape (n_components,) or None, default=None
        Positive, with sum one. None gives equal weights.

    Attributes
    ----------
    n_features : int
    weights : ndarray of shape (n_components,)
    means : ndarray of shape (n_components, n_features)
    covariances : ndarray of shape (n_components, n_features, n_features)

    Raises
    ------
    ValueError
        If the shapes do not fit, a weight is not positive, the weights do not sum to one, or a
        covariance is not symmetric and positive definite.

    Examples
    --------
    >>> from sklearn_dsm.datasets import GaussianMixtureLaw
    >>> law = GaussianMixtureLaw([[-2.0], [2.0]], weights=[0.3, 0.7])
    >>> law.score([[0.0]])
    array([[0.8]])
    >>> law.noised_score([[0.0]], a=0.5, v=0.75)
    array([[0.4]])
    """

    _exact: GaussianMixtureScore

    def __init__(self, means, covariances=None, weights=None):
        self.means = check_array(means, dtype=np.float64, input_name="means", copy=True)
        n_components, self.n_features = self.means.shape
        self._numbers_per_row = n_components * self.n_features
        self.covariances = self._checked_covariances(covariances)
        # A choice without weights takes the numbers of a plain draw of integers.
        self._choice = None if weights is None else self._checked_weights(weights)
        equal = np.full(n_components, 1 / n_components)
        self.weights = equal if self._choice is None else self._choice
        parts = (self.weights, self.means, self.covariances)
        self._exact = GaussianMixtureScore(*(tensor_of(part) for part in parts))

    def _checked_covariances(self, covariances):
        k, d = self.means.shape
        if covariances is None:
            covariances = np.broadcast_to(np.eye(d), (k, d, d))
        covariances = check_array(
            covariances, dtype=np.float64, allow_nd=True, input_name="covariances", copy=True
        )
        if covariances.shape != (k, d, d):
            raise ValueError(
                f"covariances has shape {covariances.shape}, and means of shape {(k, d)} need "
                f"{(k, d, d)}: one full matrix for each component."
            )
        if not np.allclose(covariances, covariances.swapaxes(1, 2)):
            raise ValueError("A covariance is not symmetric; average it with its transpose.")
        try:
            self._roots = np.linalg.cholesky(covariances)
        except np.linalg.LinAlgError as error:
            raise ValueError(
                "A covariance is not positive definite, so its component has no density; add a "
                "small multiple of the identity."
            ) from error
        return covariances

    def _checked_weights(self, weights):
        weights = np.array(weights, dtype=np.float64)
        summed = np.isclose(weights.sum(), 1, rtol=0, atol=WEIGHT_TOLERANCE)
        if weights.shape != (len(self.means),) or not (weights > 0).all() or not summed:
            raise ValueError(
                f"weights={weights.tolist()} must be {len(self.means)} positive numbers that sum "
                "to 1; leave out components of weight zero."
            )
        return weights

    def sample_labelled(self, n_samples=1, random_state=None):
        """Draw independent samples, each with the component that it comes from.

        Parameters
        ----------
        n_samples : int, default=1
        random_state : int, RandomState, Generator or None, default=None

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
        component : ndarray of shape (n_samples,)
            Index of the component.
        """
        return self._sample_labelled(n_samples, numpy_random(random_state))

    def predict_proba(self, X):
        """Compute the posterior probability of each component, given the sample.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_components)
        """
        terms = self._exact.terms(tensor_of(self._checked(X)), level_of(1.0, 0.0))
        return responsibilities(terms.log_joint).numpy()

    def _sample_labelled(self, n_samples, random):
        component = random.choice(len(self.means), n_samples, p=self._choice)
        X = np.empty((n_samples, self.n_features))
        for k, (mean, root) in enumerate(zip(self.means, self._roots, strict=True)):
            own = component == k
            X[own] = mean + random.normal(size=(own.sum(), self.n_features)) @ root.T
        return X, component

    def _sample(self, n_samples, random):
        return self._sample_labelled(n_samples, random)[0]


def make_gaussian_mixture(
    n_samples=100, n_features=50, *, n_components=10, spread=4.0, random_state=None
):
    """Draw samples from a mixture of well separated Gaussians with random means.

    The components have equal weights and unit covariances. The means are uniform in the cube
    from ``-spread`` to ``spread``.

    Parameters
    ----------
    n_samples : int, default=100
    n_features : int, default=50
    n_components : int, default=10
    spread : float, default=4.0
        Half the side of the cube, in standard deviations of a component.
    random_state : int, RandomState, Generator or None, default=None
        Seed of the means and of the samples.

    Returns
    -------
    X : ndarray of shape (n_samples, n_features)
    law : GaussianMixtureLaw
        The distribution, with its exact ``log_density`` and ``score``, and ``sample`` for more
        samples.

    Raises
    ------
    ValueError
        If one of the numbers is not positive.

    Examples
    --------
    >>> from sklearn_dsm.datasets import make_gaussian_mixture
    >>> X, law = make_gaussian_mixture(20, random_state=0)
    >>> X.shape, law.means.shape
    ((20, 50), (10, 50))
    """
    if not (n_features >= 1 and n_components >= 1 and spread > 0):
        raise ValueError(
            f"n_features={n_features!r} and n_components={n_components!r} must be at least 1, "
            f"and spread={spread!r} positive."
        )
    random = numpy_random(random_state)
    law = GaussianMixtureLaw(random.uniform(-spread, spread, (n_components, n_features)))
    return law.sample(n_samples, random), law
