"""Scores and Jacobians of the package's density estimators, at a small noise level."""

from __future__ import annotations

from numbers import Real

import numpy as np
from sklearn.base import BaseEstimator, clone

from .._columns import rows_to_evaluate, rows_to_fit
from .._compat import Interval
from .._core.noise.level import NoiseLevel
from .._evaluation.base import BaseDensity
from .._evaluation.latent_density import LatentDensity, chunks
from .._fit import whole_fit
from .._transforms.chain import Chain
from ._protocol import diagonals

# Samples whose Jacobians are computed at once.
CHUNK_ROWS = 2**10
# Of differences of the transforms, in standard deviations of a feature.
STEP = 1e-5


class DensityScoreEstimator(BaseEstimator):
    r"""Take score and Jacobian from a density estimator, for causal discovery.

    The Stein score is that of the data plus a little noise, as computed by ``stein_score`` of the
    density estimator. Automatic differentiation of its model gives the Jacobian. Derivatives of the
    transforms between the input and the model are finite differences.

    With about a thousand samples of an additive noise model, the scores of networks give less
    accurate orders than :class:`SteinScoreEstimator`. Networks are for few features and many
    samples.

    Parameters
    ----------
    density : density estimator
        A :class:`DSMDensityEstimator`, or another density estimator of this package. ``fit`` fits
        a clone.
    noise_level : float, default=0.01
        Process time in (0, 1] at which the score is computed. The standard deviation of the added
        noise must be small compared with that of every :math:`e_j` of the additive noise model.
        With the process "vp", the default adds 0.045 standard deviations of the whitened features.

    Attributes
    ----------
    density_ : density estimator
        The fitted clone.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features; only if X had names.

    References
    ----------
    [DiffAN]_, [DDPMLearning]_

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_dsm import DensityScoreEstimator, GMMScoreEstimator
    >>> X = np.random.default_rng(0).normal(size=(500, 2)) * [1.0, 2.0]
    >>> scores = DensityScoreEstimator(GMMScoreEstimator()).fit(X)
    >>> (-1 / scores.score_jacobian(X, diagonal=True)[0]).round()
    array([1., 4.])
    """

    _parameter_constraints = {
        "density": [BaseDensity],
        "noise_level": [Interval(Real, 0, 1, closed="right")],
    }

    def __init__(self, density, *, noise_level=0.01):
        self.density = density
        self.noise_level = noise_level

    @whole_fit
    def fit(self, X, y=None):
        """Fit a clone of the density estimator.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : Ignored

        Returns
        -------
        self : DensityScoreEstimator

        Raises
        ------
        ValueError
            If the density estimator cannot be fitted to X.
        """
        X = rows_to_fit(self, X, copy=True)
        self.density_ = clone(self.density).fit(X)
        self._deviations = X.std(0)
        return self

    def stein_score(self, X):
        """Score of the samples.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_features), float64
            In inverse units of X.
        """
        return self.density_.stein_score(rows_to_evaluate(self, X), noise_level=self.noise_level)

    def score_jacobian(self, X, *, diagonal=False):
        """Jacobian of the score at the samples.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        diagonal : bool, default=False
            Whether to return the diagonals only.

        Returns
        -------
        ndarray of shape (n_samples, n_features, n_features) or (n_samples, n_features), float64
            Entry [i, j, k] is the derivative of the score's component j along feature k at sample
            i, in inverse squared units of X.
        """
        X = rows_to_evaluate(self, X)
        latent = Chain.from_arrays(self.density_.latent_map_)
        density = self.density_._latent_density()
        level = self.density_.process_.scored_level(float(self.noise_level))
        found = []
        for part in chunks(len(X), CHUNK_ROWS):
            jacobian = _jacobian(X[part], latent, density, level, STEP * self._deviations)
            found.append(diagonals(jacobian).copy() if diagonal else jacobian)
        return np.concatenate(found)


def _jacobian(X, latent: Chain, density: LatentDensity, level: NoiseLevel, steps):
    """The Jacobian in X of the score that is pulled back from the latent space.

    With the transform's Jacobian A, the pulled-back score is A' g + c. Its Jacobian is A' G A, and
    the derivative of A and c while g stays as it is.
    """
    Z, _ = latent.forward(X)
    gradient = density.score(Z, level)
    inner = density.score_jacobian(Z, level)
    offset = latent.pull_back(X, np.zeros_like(Z))
    units = np.eye(X.shape[1])
    # Row k of A is what the transform makes of the unit vector k.
    rows = [latent.pull_back(X, np.broadcast_to(unit, X.shape).copy()) - offset for unit in units]
    slopes = np.stack(rows, axis=1)
    jacobian = np.swapaxes(slopes, 1, 2) @ inner.astype(np.float64) @ slopes
    for j, step in enumerate(steps):
        ahead, behind = (latent.pull_back(X + s * step * units[j], gradient) for s in (1, -1))
        jacobian[:, :, j] += (ahead - behind) / (2 * step)
    return jacobian
