"""Gaussian mixtures fitted by score matching."""

from __future__ import annotations

from numbers import Integral, Real

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from .._compat import Interval, StrOptions
from .._core.arrays import tensor_of
from .._core.distributions.mixture import GaussianMixtureScore
from .._core.noise.processes import VP
from .._evaluation.base import BaseDensity
from .._evaluation.latent_density import LatentDensity, exact_density
from .._evaluation.mixtures import full_covariances
from .._fit import whole_fit
from .._random import seed_from
from .._transforms.chain import Chain
from .._transforms.fitting import linear_map
from .._transforms.marginal import MarginalTransform
from .._validation import distinct_rows, evaluation_device, resolve_device
from .._warn import warn
from ._inference import covariance_of_some_rows, parameter_units
from ._optimization import MixtureFit, MixtureOptimizer

PARAMETERS = ("weights", "means", "covariances")
# Attributes that scikit-learn's mixtures have under the same names.
SHARED = ("weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_")
# Standard errors take derivatives in every parameter of every row's loss.
MAX_INFERENCE_PARAMETERS = 150


class GMMScoreEstimator(BaseDensity):
    r"""Gaussian mixture fitted by score matching.

    .. math:: p(x) = \sum_k w_k N(x; \mu_k, \Sigma_k)

    The Stein score of a mixture has a closed form at every noise level, so score matching fits
    :math:`w`, :math:`\mu` and :math:`\Sigma` without a network. Denoising score matching over all
    levels is asymptotically as efficient as maximum likelihood [DDPMLearning]_. Implicit score
    matching without noise is less efficient if the components are far apart.

    Parameters
    ----------
    n_components : int, default=1
    covariance_type : {"full", "tied", "diag", "spherical"}, default="full"
        As in :class:`sklearn.mixture.GaussianMixture`.
    loss : {"dsm", "ism", "ssm", "lcss"}, default="dsm"
        The objective.

        - "dsm": denoising score matching over all noise levels. The most efficient choice.
        - "ism": implicit score matching of the data without noise, with the exact trace.
        - "ssm": as "ism", but with the trace along one random direction.
        - "lcss": as "ism", but with the trace by small random perturbations of the samples.

        The last three are for comparison, and for components that overlap. The losses of the
        same names in :class:`~sklearn_dsm.DSMDensityEstimator` learn scores of all noise levels.
    tol : float, default=1e-7
        L-BFGS stops if an iteration lowers the loss by less than ``tol`` times the larger of 1 and
        the absolute loss. With "fresh" ``noise``, ``tol`` is not used.
    reg_covar : float, default=1e-6
        Added to every eigenvalue of the covariances of the standardised features.
    max_iter : int, default=200
        Largest number of iterations of L-BFGS or, with "fresh" ``noise``, of passes over the data.
        The number of passes is planned from the size of the data, and may be smaller.
    n_init : int, default=1
        Number of initialisations by k-means, of which the one with the smallest loss is kept.
        With "fresh" noise the choice is made after the first passes.
    noise : {"auto", "fixed", "fresh"}, default="auto"
        How noise is drawn for "dsm".

        - "fixed": once for every sample. L-BFGS minimises the loss over all samples. For small
          datasets. L-BFGS also minimises the other losses, without this noise.
        - "fresh": anew for every batch, together with the levels. A natural-gradient descent
          minimises the loss, and its late iterates are averaged. For large datasets, and only
          for "dsm": any other ``loss`` raises an error.
        - "auto": "fresh" if ``n_samples * n_features * n_components * n_noise`` is above 156,250
          (one feature: ``n_samples * n_components`` above 20,833), "fixed" otherwise.
    n_noise : int, default=1
        Number of pairs of opposite noise vectors for each sample at each of 16 levels, with
        "fixed" noise. More pairs bring the estimate closer to the minimum of the expected loss.
        With a single feature, quadrature replaces the noise, and ``n_noise`` has no effect.
    standard_errors : {"auto"} or bool, default="auto"
        Whether to compute ``parameter_covariance_``. "auto" does so for up to 150 parameters.
    device : str, default="auto"
        "auto" is CUDA if available, else CPU. Otherwise the name of a torch device.
    random_state : int, RandomState or None, default=None
        Seed of the initialisations and the noise.
    verbose : int, default=0
        1 prints a line per initialisation, or a single line with "fresh" noise.

    Attributes
    ----------
    weights_ : ndarray of shape (n_components,)
    means_ : ndarray of shape (n_components, n_features)
    covariances_ : ndarray
        (n_components, n_features, n_features) for "full", (n_features, n_features) for
        "tied", (n_components, n_features) for "diag", (n_components,) for "spherical".
    precisions_, precisions_cholesky_ : ndarray
        Inverses of the covariances and their Cholesky factors, in the same shapes.
    converged_ : bool
        Whether L-BFGS converged within ``max_iter``. With "fresh" ``noise``, whether ``max_iter``
        allowed all planned passes.
    n_iter_ : int
    lower_bound_ : float
        Mean log-density of the training samples.
    loss_ : float
        The minimum of the loss, in standardised units.
    parameter_covariance_ : ndarray of shape (n_parameters, n_parameters) or None
        Sandwich estimate for weights, means and covariances in this order, each flattened.
    standard_errors_ : dict of str to ndarray, or None
        Square roots of the diagonal of ``parameter_covariance_``, as "weights", "means" and
        "covariances".
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features; only if X had names.

    Notes
    -----
    Equal samples are merged into one with their summed weight, so an integer ``sample_weight``
    gives the same result as repeated samples. Standard errors are valid even if the model is not
    correctly specified, but do not account for label switching or a parameter at its boundary.

    With several features, the noise hides structure whose variance in some direction is far below
    a thousandth of the variance of the features. Whiten features that are correlated by more than
    .9999 first. Whitening does not help if clusters lie hundreds of their widths apart.

    References
    ----------
    [DDPMLearning]_, [Hyvarinen2005]_, [SSM]_, [LCSS]_

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_dsm import GMMScoreEstimator
    >>> X = np.random.default_rng(0).normal(size=(400, 1)) + np.repeat([[-2.0], [2.0]], 200, 0)
    >>> mixture = GMMScoreEstimator(2, random_state=0).fit(X)
    >>> np.sort(mixture.means_.ravel()).round(0)
    array([-2.,  2.])
    >>> mixture.predict_proba([[-1.5], [3.0]]).shape
    (2, 2)
    """

    _parameter_constraints = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "covariance_type": [StrOptions({"full", "tied", "diag", "spherical"})],
        "loss": [StrOptions({"dsm", "ism", "ssm", "lcss"})],
        "tol": [Interval(Real, 0, None, closed="left")],
        "reg_covar": [Interval(Real, 0, None, closed="neither")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "n_init": [Interval(Integral, 1, None, closed="left")],
        "noise": [StrOptions({"auto", "fixed", "fresh"})],
        "n_noise": [Interval(Integral, 1, None, closed="left")],
        "standard_errors": [StrOptions({"auto"}), "boolean"],
        "device": [str],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        n_components=1,
        *,
        covariance_type="full",
        loss="dsm",
        tol=1e-7,
        reg_covar=1e-6,
        max_iter=200,
        n_init=1,
        noise="auto",
        n_noise=1,
        standard_errors="auto",
        device="auto",
        random_state=None,
        verbose=0,
    ):
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.loss = loss
        self.tol = tol
        self.reg_covar = reg_covar
        self.max_iter = max_iter
        self.n_init = n_init
        self.noise = noise
        self.n_noise = n_noise
        self.standard_errors = standard_errors
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    @whole_fit
    def fit(self, X, y=None, sample_weight=None):
        """Fit the mixture.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            At least as many different samples as components; every feature must vary.
        y : Ignored
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights; a sample of weight w counts as w equal samples.

        Returns
        -------
        self : GMMScoreEstimator

        Raises
        ------
        ValueError
            If X holds NaN, infinity, text or a constant feature, or fewer different samples than
            components. If ``noise`` is "fresh" and ``loss`` is not "dsm".
        """
        X, weight = self._rows_and_weight(X, sample_weight)
        X, weight = distinct_rows(X, weight)
        if len(X) < self.n_components:
            raise ValueError(
                f"n_components={self.n_components} needs as many different rows; X has "
                f"{len(X)} of positive weight. Lower n_components."
            )
        random = check_random_state(seed_from(self.random_state))
        device = resolve_device(self.device)
        latent = self._standardizing(X, weight)
        Z, log_slope = latent.forward(X)
        self.process_, self.latent_map_ = VP(), latent.to_arrays()

        best = self._optimizer().run(Z, weight, random, device)
        self._store(best, latent)
        values, _ = self._latent_density().log_density(Z)
        self.lower_bound_ = float(np.average(values + log_slope, weights=weight))
        self._infer(best.network, Z, weight, random, device)
        if not best.converged:
            warn(
                f"The optimiser had not converged after {best.n_iter} iterations; raise max_iter "
                "or tol. With covariance_type='spherical', bring the features to one scale.",
                ConvergenceWarning,
            )
        return self

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
        mixture = GaussianMixture(len(self.weights_), covariance_type=self.covariance_type)
        for name in (*SHARED, "n_features_in_"):
            setattr(mixture, name, getattr(self, name))
        return mixture

    def _standardizing(self, X, weight) -> Chain:
        """Columns of zero mean and unit variance; one scale for all of "spherical"."""
        mean = np.average(X, axis=0, weights=weight)
        variance = np.average((X - mean) ** 2, axis=0, weights=weight)
        if self.covariance_type == "spherical":
            variance = np.full_like(variance, variance.mean())
        return linear_map(mean, np.sqrt(variance))

    def _optimizer(self) -> MixtureOptimizer:
        return MixtureOptimizer(
            n_components=self.n_components,
            covariance_type=self.covariance_type,
            reg_covar=self.reg_covar,
            loss=self.loss,
            noise=self.noise,
            n_noise=self.n_noise,
            tol=self.tol,
            max_iter=self.max_iter,
            n_init=self.n_init,
            verbose=self.verbose,
        )

    def _store(self, fit: MixtureFit, latent: Chain):
        """The parameters in the units of the input, and what scikit-learn's mixtures keep."""
        network = fit.network.cpu().double()
        marginal = latent.part(MarginalTransform)
        scale, location = marginal.scale, marginal.location
        with torch.no_grad():
            self.weights_ = network.logits.softmax(0).numpy()
            self.means_ = location + scale * network.means.numpy()
            full = network.covariances().numpy() * np.outer(scale, scale)
        # Precisions by scikit-learn's own shapes: upper factors of inverses.
        factors = np.linalg.inv(np.linalg.cholesky(full)).swapaxes(1, 2)
        precisions = factors @ factors.swapaxes(1, 2)
        diagonal = np.einsum("kii->ki", full)
        if self.covariance_type == "full":
            parts = full, precisions, factors
        elif self.covariance_type == "tied":
            parts = full[0], precisions[0], factors[0]
        elif self.covariance_type == "diag":
            parts = diagonal, 1 / diagonal, 1 / np.sqrt(diagonal)
        else:
            parts = diagonal[:, 0], 1 / diagonal[:, 0], 1 / np.sqrt(diagonal[:, 0])
        self.covariances_, self.precisions_, self.precisions_cholesky_ = parts
        self.converged_, self.n_iter_, self.loss_ = fit.converged, fit.n_iter, fit.loss

    def _infer(self, network, Z, weight, random, device):
        """Standard errors in the units of the input, where they are wanted."""
        wanted = self.standard_errors
        if wanted == "auto":
            n_free = sum(parameter.numel() for parameter in network.parameters())
            # The logits have one number more than the weights have parameters.
            wanted = n_free - 1 <= MAX_INFERENCE_PARAMETERS
        self.parameter_covariance_, self.standard_errors_ = None, None
        if not wanted:
            return
        latent_covariance = covariance_of_some_rows(
            network.to(device), Z, weight, self.loss, self.n_noise, random
        )
        scale = Chain.from_arrays(self.latent_map_).part(MarginalTransform).scale
        unit = parameter_units(self.covariance_type, len(self.weights_), scale)
        self.parameter_covariance_ = latent_covariance * np.outer(unit, unit)
        errors = np.sqrt(np.diag(self.parameter_covariance_).clip(min=0))
        sizes = np.cumsum([self.weights_.size, self.means_.size])
        like = (self.weights_, self.means_, self.covariances_)
        self.standard_errors_ = {
            name: part.reshape(value.shape)
            for name, part, value in zip(PARAMETERS, np.split(errors, sizes), like, strict=True)
        }

    def _latent_density(self) -> LatentDensity:
        marginal = Chain.from_arrays(self.latent_map_).part(MarginalTransform)
        k, d = self.means_.shape
        parts = (
            self.weights_,
            (self.means_ - marginal.location) / marginal.scale,
            full_covariances(self) / np.outer(marginal.scale, marginal.scale),
        )
        device = evaluation_device(self.device)
        score = GaussianMixtureScore(*(tensor_of(part) for part in parts))
        return exact_density(score, d, k * d, device)
