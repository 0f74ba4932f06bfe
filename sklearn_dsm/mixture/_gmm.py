"""Gaussian mixtures fitted by score matching."""

from __future__ import annotations

from numbers import Integral, Real

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted

from .._budget import Budget
from .._compat import Interval, StrOptions
from .._core.arrays import tensor_of
from .._core.distributions.mixture import GaussianMixtureScore
from .._core.noise.processes import VP
from .._evaluation.base import check_number_of_draws
from .._evaluation.latent_density import LatentDensity, exact_density
from .._fit import whole_fit
from .._mixtures.em import FittedMixture, WeightedEM
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

    The Stein score of a density is the gradient of the log-density. For a mixture, it has a closed
    form, also if Gaussian noise is added to the data. Score matching therefore fits :math:`w`,
    :math:`\mu` and :math:`\Sigma` without a network.

    The default loss is denoising score matching over all noise levels, as an expectation over the
    noise. It equals the negative log-likelihood, up to a constant [DDPMLearning]_. ``fit``
    minimises this loss by expectation-maximisation (EM). For up to 150 free parameters, Newton's
    method follows, and the estimate is a local maximum of the likelihood. For more parameters, it
    is one only up to ``tol``. If the model is correctly specified, maximum likelihood is
    asymptotically efficient.

    With an integer ``n_noise``, ``fit`` minimises the loss by L-BFGS, from the result of EM. It
    does the same with the losses other than "dsm". These are less efficient than maximum likelihood
    if the components are far apart.

    Parameters
    ----------
    n_components : int, default=1
        Number of components.
    covariance_type : {"full", "tied", "diag", "spherical"}, default="full"
        As in :class:`sklearn.mixture.GaussianMixture`.
    loss : {"dsm", "ism", "ssm", "lcss"}, default="dsm"
        The objective.

        - "dsm": denoising score matching over all noise levels. Statistically the most efficient
          choice.
        - "ism": implicit score matching of the data without noise, with the exact trace of the
          Jacobian of the Stein score.
        - "ssm": sliced score matching. As "ism", but estimates the trace along one random
          direction.
        - "lcss": local curvature smoothing. As "ism", but estimates the trace by small random
          perturbations of the samples.

        Use the last three only for comparison with "dsm", or if the components overlap. In
        :class:`~sklearn_dsm.DSMDensityEstimator`, the losses of the same names learn scores of all
        noise levels.
    tol : float, default=1e-3
        EM stops if an iteration raises the mean log-density of the training samples by less than
        ``tol`` nats. For up to 150 free parameters, Newton's method then goes on to the local
        maximum, whatever ``tol`` is. L-BFGS stops if an iteration lowers the loss by less than
        ``1e-4 * tol * max(1, abs(loss))``.
    reg_covar : float, default=1e-12
        Positive number, added to the diagonal of every covariance of the scaled features, see
        Notes. A larger value keeps components from collapsing onto a few samples.
    max_iter : int, default=100
        Largest number of iterations of EM for each initialisation. L-BFGS has the same limit of
        its own.
    n_init : int, default=1
        Number of initialisations, of which ``fit`` keeps the one with the largest likelihood after
        EM. If all initial values are given, there is one initialisation.
    init_params : {"kmeans", "k-means++", "random", "random_from_data"}, default="kmeans"
        How the initialisations are drawn. The methods are those of
        :class:`sklearn.mixture.GaussianMixture`, applied to standardised features. "kmeans" is
        the best of three runs of k-means.
    weights_init : array-like of shape (n_components,), default=None
        Initial weights, positive and with sum one. By default, those of ``init_params``.
    means_init : array-like of shape (n_components, n_features), default=None
        Initial means, in the units of X. By default, those of ``init_params``.
    precisions_init : array-like, default=None
        Initial precisions (inverse covariances), in the units of X and in the shape of
        ``precisions_``. By default, those of ``init_params``.
    warm_start : bool, default=False
        Whether ``fit`` starts from the parameters of the previous fit. It then ignores ``n_init``
        and the initial values. If there is no previous fit with the same ``covariance_type`` and
        the same numbers of components and features, ``fit`` starts as without ``warm_start``.
    n_noise : int or None, default=None
        How the noise enters "dsm".

        - None: the loss is an expectation over the noise. It is the negative log-likelihood, up to
          a constant. The most accurate and the fastest choice.
        - An integer: the loss is averaged over this number of pairs of opposite noise vectors, for
          each sample and each of 16 or more noise levels. For comparison. With a single feature,
          quadrature replaces the noise vectors, whatever their number.

        With the other losses, ``n_noise`` must be None.
    max_fit_time : float or None, default=None
        Seconds after which no further iteration starts. None: no limit. The result
        of a fit that reaches the limit depends on the speed of the machine. For reproducible
        results, limit ``max_iter`` instead.
    standard_errors : {"auto"} or bool, default="auto"
        Whether to compute ``parameter_covariance_`` and ``standard_errors_``. "auto" computes them
        for up to 150 free parameters, unless the covariances are shrunk, see Notes.
    device : str, default="auto"
        Name of a torch device. "auto": CUDA if available, else CPU.
    random_state : int, RandomState or None, default=None
        Seed of the initialisations and of the random draws in the losses. :meth:`sample` has a
        seed of its own.
    verbose : int, default=0
        1 prints a line per initialisation.

    Attributes
    ----------
    weights_ : ndarray of shape (n_components,)
        Weights of the components; their sum is one.
    means_ : ndarray of shape (n_components, n_features)
        Means of the components.
    covariances_ : ndarray
        Covariances of the components, of shape (n_components, n_features, n_features) for "full",
        (n_features, n_features) for "tied", (n_components, n_features) for "diag",
        (n_components,) for "spherical".
    precisions_, precisions_cholesky_ : ndarray
        Inverses of the covariances, and Cholesky factors of these inverses, as in
        :class:`sklearn.mixture.GaussianMixture`. Both have the shape of ``covariances_``.
    converged_ : bool
        Whether EM converged within ``max_iter`` and ``max_fit_time``. If ``fit`` uses L-BFGS, the
        attribute refers to L-BFGS instead.
    n_iter_ : int
        Number of iterations of EM from the initialisation that ``fit`` kept, without the steps of
        Newton's method. If ``fit`` uses L-BFGS, the attribute refers to L-BFGS instead.
    lower_bound_ : float
        Mean log-density of the training samples, weighted by ``sample_weight``, in the units of X.
    loss_ : float
        The loss at the estimate, for the scaled features, see Notes. For "dsm", the loss of the
        standard normal distribution is subtracted.
    parameter_covariance_ : ndarray of shape (n_parameters, n_parameters) or None
        Sandwich estimate of the covariance matrix of the estimated weights, means and covariances,
        in this order, each flattened. Here, ``n_parameters`` counts all entries of the three
        arrays. The matrix is singular, because the weights sum to one. None if it was not
        computed, see ``standard_errors``.
    standard_errors_ : dict of str to ndarray, or None
        Square roots of the diagonal of ``parameter_covariance_``. The keys are "weights", "means"
        and "covariances", and the arrays have the shapes of these attributes.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features; only if X had names.

    Notes
    -----
    ``fit`` scales the features. The fitted parameters are in the units of X.

    - "full", "tied": the features are whitened, so that their covariance is the identity.
    - "diag": each feature is standardised.
    - "spherical": one factor scales all features. Standardise features of very different scales
      before the fit.

    Nearly collinear features do not make the fit less accurate. Neither do clusters that lie
    thousands of their standard deviations apart.

    If several components have covariances of their own, the likelihood is unbounded: it grows
    without limit as a component collapses onto a single sample. ``reg_covar`` bounds it. If a
    component has collapsed, raise ``reg_covar``.

    If X has no more distinct samples than features, every sample covariance is singular. "full"
    and "tied" covariances are then shrunk: each iteration of EM shrinks their correlations towards
    zero, by the shrinkage intensity of Ledoit and Wolf [LedoitWolf2004]_. The features are
    standardised instead of whitened. There are no standard errors, ``loss`` must be "dsm", and
    ``n_noise`` must be None.

    Identical samples are merged into one with their total weight. An integer ``sample_weight``
    therefore gives the same result as repeated samples, standard errors included.

    Standard errors use the observed information of the mixture [Louis1982]_. They are
    asymptotically valid even if the model is not correctly specified. They do
    not account for label switching. They are not valid if a parameter is at its boundary.

    References
    ----------
    [DDPMLearning]_, [Hyvarinen2005]_, [SSM]_, [LCSS]_, [Louis1982]_,
    [LedoitWolf2004]_

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
            At least as many distinct samples of positive weight as components. Every feature must
            vary.
        y : Ignored
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative frequency weights: a sample of weight w counts as w identical samples. By
            default, every weight is one.

        Returns
        -------
        self : GMMScoreEstimator

        Raises
        ------
        ValueError
            In any of these cases:

            - X holds NaN, infinity, text or a constant feature.
            - X has fewer distinct samples of positive weight than components.
            - The covariances are shrunk, see Notes of the class, and ``standard_errors`` is True.
            - The covariances are shrunk, and ``loss`` is not "dsm".
            - An initial value has the wrong shape, or is not finite.
            - ``weights_init`` is not positive, or its sum is not one.
            - ``precisions_init`` is not positive or, for "full" and "tied", not symmetric and
              positive definite.
            - ``n_noise`` is an integer, and ``loss`` is not "dsm".

        Warns
        -----
        ConvergenceWarning
            If ``converged_`` is False.
        """
        budget = Budget(self.max_fit_time)
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
        em = WeightedEM(Z, weight, kind, self.reg_covar, shrinkage, budget)
        units = Units.of(latent)
        starts = self._starts(em, given, units, standardized(X, weight), random)
        likeliest = self._likeliest(em, starts)
        best = self._minimised(em, likeliest, weight, random, device)
        self.process_, self.latent_map_ = VP(), latent.to_arrays()
        self.converged_, self.n_iter_, self.loss_ = best.converged, best.n_iter, best.loss
        self._kind = kind
        self._store(best.parameters, units)
        _, log_likelihood = em.expect(best.parameters)
        self.lower_bound_ = log_likelihood + float(np.average(log_slope, weights=weight))
        self._infer(best.parameters, units, Z, weight, random)
        if not best.converged:
            limit = "max_fit_time" if budget.is_over else "max_iter"
            hint = " Or standardise the features first." if kind == "spherical" else ""
            warn(
                f"The fit had not converged after {best.n_iter} iterations. Raise {limit} or "
                f"tol.{hint}",
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
                f"n_components={self.n_components} needs as many distinct samples of positive "
                f"weight; X has {n}. Lower n_components."
            )
        if self._shrinks(n, d) and (
            self.standard_errors is True or self.loss != "dsm" or self.n_noise is not None
        ):
            raise ValueError(
                f"X has {n} distinct samples of positive weight for {d} features, so every "
                f"covariance of covariance_type={self.covariance_type!r} is shrunk. This needs "
                "loss='dsm', n_noise=None, and standard_errors='auto' or False. Change them, or "
                "use covariance_type='diag' or 'spherical'."
            )

    def _shrinks(self, n, d) -> bool:
        return self.covariance_type in ("full", "tied") and are_few(n, d)

    def _starts(self, em, given, units, rows, random):
        """Where the likelihood is climbed from."""
        k, kind = self.n_components, self.covariance_type
        if (
            self.warm_start
            and hasattr(self, "means_")
            and self._kind == kind
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
            if em.budget.is_over:
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
            Seed of the samples; the ``random_state`` of the constructor has no effect on them. The
            same integer gives the same samples.
        return_labels : bool, default=False
            Whether to return the component of each sample as well.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            Independent samples, not sorted by component.
        labels : ndarray of shape (n_samples,), int
            Index of the component of each sample. Only if ``return_labels`` is true.
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
        if self._kind in ("full", "tied"):
            return factors.expand(k, d, d)
        return torch.diag_embed(factors.reshape(k, -1).expand(k, d))

    def _latent_density(self) -> LatentDensity:
        units = Units.of(Chain.from_arrays(self.latent_map_))
        k, d = self.means_.shape
        means = (tensor_of(self.means_) - units.shift) @ units.matrix
        covariances = units.covariances_inside(self._factors())
        score = GaussianMixtureScore(tensor_of(self.weights_), means, covariances)
        return exact_density(score, d, k * d, evaluation_device(self.device))
