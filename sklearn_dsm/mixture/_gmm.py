"""Gaussian mixtures fitted by score matching."""

from __future__ import annotations

from numbers import Integral, Real

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted

from .._compat import Interval, StrOptions
from .._core.arrays import tensor_of
from .._core.distributions.mixture import GaussianMixtureScore
from .._core.noise.processes import VP
from .._evaluation.base import check_number_of_draws
from .._evaluation.latent_density import LatentDensity, exact_density
from .._fit import whole_fit
from .._mixtures.em import Clock, FittedMixture, WeightedEM
from .._mixtures.parameters import Parameters, all_covariances
from .._random import seed_from
from .._threads import take_one_thread_where_forked
from .._transforms.chain import Chain
from .._transforms.whitening import ledoit_wolf
from .._validation import distinct_rows, evaluation_device, resolve_device
from .._warn import warn
from ._components import MixtureDensity
from ._inference import natural_covariance
from ._likelihood import climbed
from ._optimization import MixtureFit, MixtureOptimizer
from ._starts import Given, checked, of_fit, start
from ._units import Units, are_few, fit_units, standardized

PARAMETERS = ("weights", "means", "covariances")
# Newton's method and standard errors take derivatives in all pairs of parameters.
MAX_SECOND_ORDER_PARAMETERS = 150


class GMMScoreEstimator(MixtureDensity):
    r"""Gaussian mixture fitted by score matching.

    .. math:: p(x) = \sum_k w_k N(x; \mu_k, \Sigma_k)

    The Stein score of a mixture has a closed form at every noise level, so score matching fits
    :math:`w`, :math:`\mu` and :math:`\Sigma` without a network. Denoising score matching over all
    noise levels with each sample's expected noise is exact: its loss is the negative
    log-likelihood, up to a constant [DDPMLearning]_. By default, ``fit`` therefore minimises it by
    expectation-maximisation (EM) and then by Newton's method. The estimate is the maximum of the
    likelihood, which is asymptotically efficient. With sampled noise, and with the other losses,
    ``fit`` minimises the loss by L-BFGS from the result of EM. Implicit score matching without
    noise is less efficient if the components are far apart.

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
    tol : float, default=1e-3
        EM stops if an iteration raises the mean log-density by less than ``tol``, in nats. L-BFGS
        stops if an iteration lowers the loss by less than ``1e-4 * tol``, relative to the larger
        of 1 and the absolute loss. Newton's method, for up to 150 parameters, goes on to the
        maximum.
    reg_covar : float, default=1e-12
        Added to every eigenvalue of the covariances. The unit is a feature's variance. If
        ``covariance_type`` is "full" or "tied", the unit is the variance of the whitened features.
    max_iter : int, default=100
        Largest number of iterations of EM, and of L-BFGS.
    n_init : int, default=1
        Number of initialisations, of which ``fit`` keeps the one with the largest likelihood.
    init_params : {"kmeans", "k-means++", "random", "random_from_data"}, default="kmeans"
        How the initialisations are drawn, as in :class:`sklearn.mixture.GaussianMixture`, but from
        standardised features. "kmeans" is the best of three runs of k-means.
    weights_init : array-like of shape (n_components,), default=None
        Initial weights. By default, those of ``init_params``.
    means_init : array-like of shape (n_components, n_features), default=None
        Initial means. By default, those of ``init_params``.
    precisions_init : array-like, default=None
        Initial precisions, in the shape of ``precisions_``. By default, those of ``init_params``.
    warm_start : bool, default=False
        Whether ``fit`` starts from the parameters of the previous fit, if there is one with as
        many components and features.
    n_noise : int or None, default=None
        How noise enters "dsm".

        - None: by its expectation, in closed form. The most accurate and the fastest choice.
        - An integer: by so many pairs of opposite noise vectors for each sample and level. For
          comparison. With a single feature, quadrature replaces the noise vectors.

        The other losses need no such noise. With them, an integer raises an error.
    max_fit_time : float or None, default=None
        Seconds after which no further iteration of EM or L-BFGS starts. None: no limit. With a
        limit, the result depends on the speed of the machine if ``fit`` reaches the limit. For
        reproducible results, use ``max_iter``.
    standard_errors : {"auto"} or bool, default="auto"
        Whether to compute ``parameter_covariance_``. "auto" does so for up to 150 parameters,
        unless covariances are shrunk, see Notes.
    device : str, default="auto"
        "auto" is CUDA if available, else CPU. Otherwise the name of a torch device.
    random_state : int, RandomState or None, default=None
        Seed of the initialisations and the noise.
    verbose : int, default=0
        1 prints a line per initialisation.

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
        Whether EM, or L-BFGS if it was used, converged within ``max_iter`` and ``max_fit_time``.
    n_iter_ : int
        Iterations of EM, or of L-BFGS if it was used.
    lower_bound_ : float
        Mean log-density of the training samples.
    loss_ : float
        The minimum of the loss, for whitened or standardised features. For "dsm", the loss of the
        standard normal distribution is subtracted.
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

    ``fit`` whitens the features if ``covariance_type`` is "full" or "tied", and standardises them
    otherwise. Nearly collinear features, and clusters that lie thousands of their widths apart, are
    thus fitted as well as others.

    If ``covariance_type`` is "full" or "tied" and X has no more different samples than features,
    every sample covariance is singular. The correlations are then shrunk towards zero in each
    iteration of EM, by the share of Ledoit and Wolf [LedoitWolf2004]_, and there are no standard
    errors.

    References
    ----------
    [DDPMLearning]_, [Hyvarinen2005]_, [SSM]_, [LCSS]_, [LedoitWolf2004]_

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
        "init_params": [StrOptions({"kmeans", "k-means++", "random", "random_from_data"})],
        "weights_init": ["array-like", None],
        "means_init": ["array-like", None],
        "precisions_init": ["array-like", None],
        "warm_start": ["boolean"],
        "n_noise": [Interval(Integral, 1, None, closed="left"), None],
        "max_fit_time": [Interval(Real, 0, None, closed="neither"), None],
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
        tol=1e-3,
        reg_covar=1e-12,
        max_iter=100,
        n_init=1,
        init_params="kmeans",
        weights_init=None,
        means_init=None,
        precisions_init=None,
        warm_start=False,
        n_noise=None,
        max_fit_time=None,
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
        self.init_params = init_params
        self.weights_init = weights_init
        self.means_init = means_init
        self.precisions_init = precisions_init
        self.warm_start = warm_start
        self.n_noise = n_noise
        self.max_fit_time = max_fit_time
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
            In any of these cases:

            - X holds NaN, infinity, text or a constant feature.
            - X has fewer different samples than components.
            - Covariances are shrunk, see Notes, and ``standard_errors`` is true or ``loss`` is not
              "dsm".
            - An initial value has the wrong shape, or is impossible.
            - ``n_noise`` is a number, and ``loss`` is not "dsm".

        Warns
        -----
        ConvergenceWarning
            If ``converged_`` is false.
        """
        clock = Clock(self.max_fit_time)
        X, weight = self._rows_and_weight(X, sample_weight)
        X, weight = distinct_rows(X, weight)
        kind = self.covariance_type
        self._check_combination(*X.shape)
        given = Given(self.weights_init, self.means_init, self.precisions_init)
        given = checked(given, kind, self.n_components, X.shape[1])
        random = np.random.RandomState(seed_from(self.random_state))
        device = resolve_device(self.device)
        latent = fit_units(X, weight, kind)
        Z, log_slope = latent.forward(X)
        shrinkage = ledoit_wolf(Z, weight) if self._shrinks(*X.shape) else 0.0
        em = WeightedEM(Z, weight, kind, self.reg_covar, shrinkage, clock)
        units = Units.of(latent)
        starts = self._starts(em, given, units, standardized(X, weight), random)
        likeliest = self._likeliest(em, starts)
        best = self._minimised(em, likeliest, weight, random, device)
        self.process_, self.latent_map_ = VP(), latent.to_arrays()
        self.converged_, self.n_iter_, self.loss_ = best.converged, best.n_iter, best.loss
        self._store(best.parameters, units)
        _, log_likelihood = em.expect(best.parameters)
        self.lower_bound_ = log_likelihood + float(np.average(log_slope, weights=weight))
        self._infer(best.parameters, units, Z, weight, random)
        if not best.converged:
            warn(
                f"The fit had not converged after {best.n_iter} iterations; raise "
                f"{'max_fit_time' if clock.is_over else 'max_iter'} or tol. "
                "With covariance_type='spherical', bring the features to one scale.",
                ConvergenceWarning,
            )
        return self

    def _check_combination(self, n, d):
        """Refuse options without effect, and what no covariance could be had for."""
        if self.loss != "dsm" and self.n_noise is not None:
            raise ValueError(
                f"n_noise={self.n_noise!r} is for loss='dsm', and has no effect with "
                f"loss={self.loss!r}. Use n_noise=None."
            )
        if n < self.n_components:
            raise ValueError(
                f"n_components={self.n_components} needs as many different rows; X has {n} of "
                "positive weight. Lower n_components."
            )
        if self._shrinks(n, d) and (self.standard_errors is True or self.loss != "dsm"):
            raise ValueError(
                f"X has {n} different samples of positive weight for {d} features, so every "
                f"covariance of covariance_type={self.covariance_type!r} is shrunk, which needs "
                "standard_errors=False and loss='dsm'. Use these, or covariance_type='diag'."
            )

    def _shrinks(self, n, d) -> bool:
        return self.covariance_type in ("full", "tied") and are_few(n, d)

    def _starts(self, em, given, units, rows, random):
        """Where the likelihood is climbed from."""
        k, kind = self.n_components, self.covariance_type
        if (
            self.warm_start
            and hasattr(self, "means_")
            and self.means_.shape == (k, em.rows.shape[1])
        ):
            inside = units.covariances_inside(self._factors())
            return [of_fit(self.weights_, self.means_, inside, units, kind)]
        n_init = 1 if given.everything else self.n_init
        return [start(em, given, units, k, rows, self.init_params, random) for _ in range(n_init)]

    def _likeliest(self, em, starts) -> FittedMixture:
        """The best of what EM reaches from the starts."""
        fits = []
        for k, each in enumerate(starts):
            fit = em.run(each, self.max_iter, self.tol)
            fits.append(fit)
            if self.verbose:
                print(
                    f"initialisation {k}: log-likelihood {fit.log_likelihood:.6f} after "
                    f"{fit.n_iterations} iterations of EM"
                )
            if em.clock.is_over:
                break
        return max(fits, key=lambda fit: fit.log_likelihood)

    def _minimised(self, em, likeliest, weight, random, device) -> MixtureFit:
        """The minimum of the loss next to the parameters of the largest likelihood."""
        if self.loss == "dsm" and self.n_noise is None:
            if self._is_second_order(*em.rows.shape):
                likeliest = climbed(em, likeliest, weight.sum())
            return MixtureFit.of_likelihood(likeliest, em)
        optimizer = MixtureOptimizer(
            covariance_type=self.covariance_type,
            reg_covar=self.reg_covar,
            loss=self.loss,
            n_noise=self.n_noise or 1,
            tol=self.tol,
            max_iter=self.max_iter,
        )
        return optimizer.run(em, likeliest, random, device)

    def sample(self, n_samples=1, random_state=None, *, return_labels=False):
        """Draw samples from the fitted mixture.

        Parameters
        ----------
        n_samples : int, default=1
        random_state : int, RandomState or None, default=None
            The same integer gives the same samples.
        return_labels : bool, default=False
            Whether to return the component of each sample as well.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
        labels : ndarray of shape (n_samples,), int
            Only if ``return_labels`` is true.
        """
        check_is_fitted(self)
        take_one_thread_where_forked()
        n = check_number_of_draws(n_samples, random_state)
        random = np.random.RandomState(seed_from(random_state))
        labels = random.choice(len(self.weights_), n, p=self.weights_ / self.weights_.sum())
        X = random.standard_normal((n, self.n_features_in_))
        # The inverse of a factor of the precision is one of the covariance.
        roots = torch.linalg.inv(self._factors()).numpy()
        for component, (mean, root) in enumerate(zip(self.means_, roots, strict=True)):
            own = labels == component
            X[own] = mean + X[own] @ root
        return (X, labels) if return_labels else X

    def _store(self, parameters: Parameters, units: Units):
        """The parameters in the units of the input, and what scikit-learn's mixtures keep."""
        kind = self.covariance_type
        outside = units.outside(parameters, kind)
        self.weights_, self.means_, self.covariances_ = (part.numpy() for part in outside)
        factors = units.factors_outside(all_covariances(parameters, kind))
        if kind in ("full", "tied"):
            factors = factors if kind == "full" else factors[0]
            self.precisions_cholesky_ = factors
            self.precisions_ = factors @ factors.swapaxes(-1, -2)
        else:
            self.precisions_ = 1 / self.covariances_
            self.precisions_cholesky_ = np.sqrt(self.precisions_)

    def _infer(self, parameters, units, Z, weight, random):
        """Standard errors in the units of the input, where they are wanted."""
        wanted = self.standard_errors
        if wanted == "auto":
            wanted = self._is_second_order(*Z.shape)
        self.parameter_covariance_, self.standard_errors_ = None, None
        if not wanted:
            return
        self.parameter_covariance_ = natural_covariance(
            parameters, units, self.covariance_type, Z, weight, (self.loss, self.n_noise), random
        )
        errors = np.sqrt(np.diag(self.parameter_covariance_).clip(min=0))
        sizes = np.cumsum([self.weights_.size, self.means_.size])
        like = (self.weights_, self.means_, self.covariances_)
        self.standard_errors_ = {
            name: part.reshape(value.shape)
            for name, part, value in zip(PARAMETERS, np.split(errors, sizes), like, strict=True)
        }

    def _is_second_order(self, n, d) -> bool:
        """Whether the likelihood has a maximum in few enough parameters."""
        return self._n_parameters(d) <= MAX_SECOND_ORDER_PARAMETERS and not self._shrinks(n, d)

    def _n_parameters(self, d):
        k = self.n_components
        entries = d * (d + 1) // 2
        free = {"full": k * entries, "tied": entries, "diag": k * d, "spherical": k}
        return k - 1 + k * d + free[self.covariance_type]

    def _factors(self):
        """Factors (k, d, d) of the precisions in the units of the input."""
        (k, d), factors = self.means_.shape, tensor_of(self.precisions_cholesky_)
        if self.covariance_type in ("full", "tied"):
            return factors.expand(k, d, d)
        return torch.diag_embed(factors.reshape(k, -1).expand(k, d))

    def _latent_density(self) -> LatentDensity:
        units = Units.of(Chain.from_arrays(self.latent_map_))
        k, d = self.means_.shape
        means = (tensor_of(self.means_) - units.shift) @ units.matrix
        covariances = units.covariances_inside(self._factors())
        score = GaussianMixtureScore(tensor_of(self.weights_), means, covariances)
        return exact_density(score, d, k * d, evaluation_device(self.device))
