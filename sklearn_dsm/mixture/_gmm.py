"""Gaussian mixtures fitted by score matching."""

from __future__ import annotations

import warnings
from numbers import Integral, Real
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import minimize
from sklearn.base import _fit_context
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from .._core.distributions.mixture import GaussianMixtureScore
from .._core.distributions.mixture_network import MixtureNetwork
from .._core.losses.curvature import LCSS
from .._core.losses.implicit import ISM
from .._core.losses.sliced import SSM
from .._core.noise.level_sampling import LogisticLevels
from .._core.noise.processes import VP
from .._core.random import torch_generator
from .._evaluation.base import BaseDensity
from .._evaluation.latent_density import LatentDensity, chunks, exact_density
from .._evaluation.mixtures import full_covariances
from .._random import seed_from
from .._transforms.chain import Chain
from .._transforms.fitting import linear_map
from .._transforms.marginal import MarginalTransform
from .._validation import distinct_rows, evaluation_device, resolve_device
from ._descent import Descent, Mixture
from ._inference import sandwich
from ._row_losses import DenoisingRowLosses, RowLosses

# Log-SNRs between which the denoising loss is integrated: at the lower end rows of unit
# variance are noise to a thousandth of a nat, at the upper one the noise is a hundredth of a
# column's deviation.
LEVELS = LogisticLevels(-7.0, 9.0)
N_LEVELS, HERMITE_LEVELS, HERMITE_PAIRS = 16, 20, 6
# The law of the levels that descent with fresh noise draws: by what the gradient's noise has,
# summed over the parameters, on full mixtures of tables.
FRESH_LEVELS = LEVELS._replace(location=1.5, scale=1.7)
# Passes over the rows, and the least number of steps: from every start, and then from the best.
# Fewer passes from the starts choose worse, the more from the best do not make up for it.
START_PASSES, START_STEPS = 9, 60
BEST_PASSES, BEST_STEPS = 8, 100
MAX_COMPARED_BATCHES = 8
# Those at the data's own level.
CLEAN_LOSSES = {"ism": ISM(), "ssm": SSM(variance_reduced=True), "lcss": LCSS()}
# Beyond so many numbers in a pass over all rows, batches with fresh noise are faster.
MAX_PASS_NUMBERS = 5e6
CHUNK_NUMBERS, INFERENCE_CHUNK_NUMBERS = 2**18, 2**22
PARAMETERS = ("weights", "means", "covariances")
# Attributes that scikit-learn's mixtures have under the same names.
SHARED = ("weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_")
# Added to the covariances of the first clusters, in units of the columns' variances.
START_VARIANCE = 1e-3
# No component vanishes or collapses onto a point while it is optimised.
PARAMETER_BOUNDS = {"logits": (-15.0, 15.0), "log_eigenvalues": (-14.0, 6.0)}
# Standard errors take derivatives in every parameter of every row's loss.
MAX_INFERENCE_PARAMETERS, MAX_INFERENCE_ROWS = 150, 5000


class _Fit(NamedTuple):
    """A trained mixture in standardised units, its loss, and how the optimiser ended."""

    network: MixtureNetwork
    loss: float
    n_iter: int
    converged: bool


class GMMScoreEstimator(BaseDensity):
    r"""Gaussian mixture fitted by score matching.

    .. math:: p(x) = \sum_k w_k N(x; \mu_k, \Sigma_k)

    A mixture's score is known at every noise level, so the mixture is a score network whose
    weights are :math:`w, \mu, \Sigma`. Denoising score matching over all levels is as
    efficient as maximum likelihood, asymptotically [DDPMLearning]_; implicit score matching
    at the data's own level is not where the components are far apart.

    Parameters
    ----------
    n_components : int, default=1
    covariance_type : {"full", "tied", "diag", "spherical"}, default="full"
        As in :class:`sklearn.mixture.GaussianMixture`.
    loss : {"dsm", "ism", "ssm", "lcss"}, default="dsm"
        Denoising over all noise levels; or at the data's own level: implicit with the exact
        trace, sliced, or with local curvature smoothing.
    tol : float, default=1e-7
        The optimiser over all rows stops where a step changes the loss, in nats per row, by
        less than this share of it. Descent in batches makes passes by plan.
    reg_covar : float, default=1e-6
        Added to every eigenvalue of a covariance, in units of the columns' variances.
    max_iter : int, default=200
        Most iterations of the optimiser over all rows, or passes in batches, of which there
        are no more than a few dozen.
    n_init : int, default=1
        Starts from k-means++ centres; the one with the smallest loss is kept, with batches
        after the first passes.
    noise : {"auto", "fixed", "fresh"}, default="auto"
        Whether every row keeps its noise vectors, and all rows are optimised over at once by
        L-BFGS; or noise and levels are drawn anew in every batch of a natural-gradient
        descent, whose late iterates are averaged: as if every row had many noise vectors.
        "auto" is "fresh" for large tables. Only "dsm" can do with "fresh".
    n_noise : int, default=1
        Antithetic pairs of noise vectors of a row at each level with "fixed" noise. More
        bring the estimate closer to that of the exact expectation. One column needs none:
        its expectation is by quadrature.
    standard_errors : {"auto"} or bool, default="auto"
        Whether to compute ``parameter_covariance_``; "auto" does for up to 150 parameters.
    device : str, default="auto"
        "auto" is CUDA where there is one, else CPU; or a torch device.
    random_state : int, RandomState or None, default=None
        Seed of the starts and the noise.
    verbose : int, default=0
        1 prints a line a start.

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
        Whether the optimiser stopped by ``tol``; in batches, whether ``max_iter`` allowed all
        passes that are planned.
    n_iter_ : int
    lower_bound_ : float
        Mean log-density of the training rows.
    loss_ : float
        The loss that was minimised, in standardised units.
    parameter_covariance_ : ndarray of shape (n_parameters, n_parameters) or None
        Sandwich estimate for weights, means and covariances in this order, each flattened.
    standard_errors_ : dict of str to ndarray, or None
        Its diagonal's square roots as "weights", "means" and "covariances".
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features,)
        Where the columns of X had names.

    Notes
    -----
    Equal rows are one row with their summed weight, so an integer ``sample_weight`` gives
    what repeated rows give. Standard errors are those of a correctly or wrongly specified
    model; they know nothing of label switching or of a parameter at its boundary.

    In several columns, variances far below a thousandth of the columns' own in some direction
    (columns correlated by more than .9999, clusters hundreds of their widths apart) drown in
    the noise: whiten such rows before.

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

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, sample_weight=None):
        """Fit the mixture.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            At least as many different rows as components; every column must vary.
        y : Ignored
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights; a weight of w is as good as w equal rows.

        Returns
        -------
        self : GMMScoreEstimator

        Raises
        ------
        ValueError
            Where X holds NaN, infinity, text or a constant column, or fewer different rows
            than components.
        """
        X, weight = self._rows_and_weight(X, sample_weight)
        X, weight = distinct_rows(X, weight)
        if len(X) < self.n_components:
            raise ValueError(
                f"n_components={self.n_components} needs as many different rows; X has "
                f"{len(X)} that count. Lower n_components."
            )
        random = check_random_state(seed_from(self.random_state))
        device = resolve_device(self.device)
        latent = self._standardizing(X, weight)
        Z, log_slope = latent.forward(X)
        self.process_, self.latent_map_ = VP(), latent.to_arrays()

        starts = [self._start(Z, weight, random) for _ in range(self.n_init)]
        search = self._descend if self._draws_fresh_noise(*Z.shape) else self._search
        best = search([start.to(device) for start in starts], Z, weight, random, device)
        self._store(best, latent)
        values, _ = self._latent_density().log_density(Z)
        self.lower_bound_ = float(np.average(values + log_slope, weights=weight))
        self._infer(best.network, Z, weight, random, device)
        if not best.converged:
            warnings.warn(
                f"The optimiser had not converged after {best.n_iter} iterations; raise max_iter "
                "or tol, or standardise wildly scaled rows.",
                ConvergenceWarning,
                stacklevel=2,
            )
        return self

    def predict(self, X):
        """The likeliest component of every row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,), int
        """
        return self._as_sklearn().predict(self._check_rows(X))

    def predict_proba(self, X):
        """Probability of every component, given the row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_components)
        """
        return self._as_sklearn().predict_proba(self._check_rows(X))

    def fit_predict(self, X, y=None, sample_weight=None):
        """Fit, and give the likeliest component of every row.

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
        """Akaike information criterion of the rows, the lower the better.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        float
        """
        return float(self._as_sklearn().aic(self._check_rows(X)))

    def bic(self, X):
        """Bayesian information criterion of the rows, the lower the better.

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

    def _search(self, starts, Z, weight, random, device) -> _Fit:
        """Every start to its minimum under the same noise; the lowest."""
        fits, seed = [], seed_from(random)
        for start in starts:
            fits.append(self._minimize(start, Z, weight, torch_generator(seed, device)))
            self._tell(fits[-1])
        return min(fits, key=lambda fit: fit.loss)

    def _tell(self, fit: _Fit):
        if self.verbose:
            print(f"loss {fit.loss:.6f} after {fit.n_iter} iterations")

    def _draws_fresh_noise(self, n, d):
        if self.loss != "dsm":
            if self.noise == "fresh":
                raise ValueError(
                    f"noise='fresh' needs loss='dsm'; loss={self.loss!r} has no levels."
                )
            return False
        if self.noise != "auto":
            return self.noise == "fresh"
        per_row = 2 * HERMITE_LEVELS * HERMITE_PAIRS if d == 1 else 2 * N_LEVELS * self.n_noise
        return n * per_row * self.n_components * d > MAX_PASS_NUMBERS

    def _start(self, Z, weight, random) -> MixtureNetwork:
        """Weights, means and covariances of the clusters of k-means."""
        k, d = self.n_components, Z.shape[1]
        labels = KMeans(k, n_init=1, random_state=random).fit(Z, sample_weight=weight).labels_
        mass = np.bincount(labels, weight, minlength=k)
        means, covariances = np.empty((k, d)), np.empty((k, d, d))
        for j in range(k):
            own, share = Z[labels == j], weight[labels == j] / mass[j]
            means[j] = share @ own
            covariances[j] = (own - means[j]).T @ (share[:, None] * (own - means[j]))
        if self.covariance_type == "tied":
            covariances = np.average(covariances, axis=0, weights=mass)[None]
        # A cluster of few rows may have no extent in some direction.
        covariances = covariances + START_VARIANCE * np.eye(d)
        return MixtureNetwork(
            torch.from_numpy(mass / mass.sum()),
            torch.from_numpy(means),
            torch.from_numpy(covariances),
            self.covariance_type,
            self.reg_covar,
        )

    def _row_losses(self, Z: torch.Tensor, generator) -> RowLosses:
        if self.loss == "dsm":
            one_column = Z.shape[1] == 1
            n_levels = HERMITE_LEVELS if one_column else N_LEVELS
            n_noise = HERMITE_PAIRS if one_column else self.n_noise
            return DenoisingRowLosses(Z, LEVELS.low, LEVELS.high, n_levels, n_noise, generator)
        return RowLosses(CLEAN_LOSSES[self.loss], Z, generator)

    def _chunk(self, losses: RowLosses, numbers: int) -> int:
        """Rows whose losses put no more numbers than that into one array."""
        per_row = losses.evaluations_per_row * self.n_components * losses.rows.shape[1]
        return max(1, numbers // per_row)

    def _minimize(self, network, Z, weight, generator) -> _Fit:
        """L-BFGS over all rows, whose noise stays."""
        rows = torch.from_numpy(Z).to(generator.device)
        share = torch.from_numpy(weight / weight.sum()).to(generator.device)
        losses = self._row_losses(rows, generator)
        chunk, parameters = self._chunk(losses, CHUNK_NUMBERS), list(network.parameters())

        def value_and_gradient(theta):
            vector_to_parameters(torch.from_numpy(theta).to(rows), parameters)
            total, gradient = 0.0, np.zeros_like(theta)
            for part in chunks(len(rows), chunk):
                value = share[part] @ losses.part(network, part)
                slopes = torch.autograd.grad(value, parameters, allow_unused=True)
                flat = [
                    torch.zeros_like(p) if s is None else s
                    for p, s in zip(parameters, slopes, strict=True)
                ]
                total += float(value.detach())
                gradient += torch.cat([s.flatten() for s in flat]).cpu().numpy()
            return total, gradient

        theta = parameters_to_vector(parameters).detach().cpu().numpy()
        result = minimize(
            value_and_gradient,
            theta,
            jac=True,
            method="L-BFGS-B",
            bounds=self._bounds(network),
            options={"maxiter": self.max_iter, "maxfun": 2 * self.max_iter, "ftol": self.tol},
        )
        vector_to_parameters(torch.from_numpy(result.x).to(rows), parameters)
        # A line search that finds nothing below the present value has arrived, too.
        return _Fit(network, float(result.fun), int(result.nit), result.status != 1)

    def _bounds(self, network):
        """Bounds that keep a component from vanishing or collapsing onto a point."""
        return [
            bound
            for name, parameter in network.named_parameters()
            for bound in [PARAMETER_BOUNDS.get(name, (None, None))] * parameter.numel()
        ]

    def _descend(self, starts, Z, weight, random, device) -> _Fit:
        """Some passes from every start, and the rest from where the loss is then lowest."""
        generator, seed = torch_generator(seed_from(random), device), seed_from(random)
        rows = torch.from_numpy(Z).float().to(device)
        scaled = torch.from_numpy(weight).float().to(device)
        descent = Descent(rows, scaled, FRESH_LEVELS, generator)
        kind, floor = self.covariance_type, self.reg_covar
        mixtures = [Mixture.of(start) for start in starts]
        a_pass = descent.steps_per_pass(mixtures[0])
        begun = max(START_PASSES, -(-START_STEPS // a_pass))
        wanted = begun + max(BEST_PASSES, -(-BEST_STEPS // a_pass))
        n_passes = min(wanted, self.max_iter)
        begun = min(begun, n_passes)
        turn = begun / n_passes
        mixtures = [descent.run(m, kind, floor, begun, (0, turn)) for m in mixtures]
        if len(mixtures) > 1:
            mixtures.sort(key=lambda m: descent.loss(m, seed, MAX_COMPARED_BATCHES))
        mixture = mixtures[0]
        if begun < n_passes:
            mixture = descent.run(mixture, kind, floor, n_passes - begun, (turn, 1))
        found = _Fit(
            mixture.network(kind, floor),
            descent.loss(mixture, seed),
            n_passes,
            n_passes == wanted,
        )
        self._tell(found)
        return found

    def _store(self, fit: _Fit, latent: Chain):
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
        """Standard errors from at most ``MAX_INFERENCE_ROWS`` rows, as if these were all."""
        wanted = self.standard_errors
        n_free = sum(parameter.numel() for parameter in network.parameters())
        if wanted == "auto":
            # The logits have one number more than the weights have parameters.
            wanted = n_free - 1 <= MAX_INFERENCE_PARAMETERS
        self.parameter_covariance_, self.standard_errors_ = None, None
        if not wanted:
            return
        n_used = min(len(Z), MAX_INFERENCE_ROWS)
        chosen = random.choice(len(Z), n_used, replace=False) if n_used < len(Z) else slice(None)
        generator = torch_generator(seed_from(random), device)
        losses = self._row_losses(torch.from_numpy(Z[chosen]).to(device), generator)
        rows_weight = torch.from_numpy(weight[chosen]).to(device)
        # Derivatives in all parameters at once take as many times the memory.
        chunk = self._chunk(losses, INFERENCE_CHUNK_NUMBERS // n_free)
        latent_covariance = sandwich(network.to(device), losses, rows_weight, chunk).cpu().numpy()
        unit = self._parameter_units()
        share = weight[chosen].sum() / weight.sum()
        self.parameter_covariance_ = share * latent_covariance * np.outer(unit, unit)
        errors = np.sqrt(np.diag(self.parameter_covariance_).clip(min=0))
        sizes = np.cumsum([self.weights_.size, self.means_.size])
        like = (self.weights_, self.means_, self.covariances_)
        self.standard_errors_ = {
            name: part.reshape(value.shape)
            for name, part, value in zip(PARAMETERS, np.split(errors, sizes), like, strict=True)
        }

    def _parameter_units(self):
        """What a parameter of standardised rows is multiplied by in the units of the input."""
        scale = Chain.from_arrays(self.latent_map_).part(MarginalTransform).scale
        k = len(self.weights_)
        square = {"diag": scale**2, "spherical": scale[:1] ** 2}
        covariance = square.get(self.covariance_type, np.outer(scale, scale).ravel())
        n_covariances = 1 if self.covariance_type == "tied" else k
        return np.concatenate([np.ones(k), np.tile(scale, k), np.tile(covariance, n_covariances)])

    def _latent_density(self) -> LatentDensity:
        marginal = Chain.from_arrays(self.latent_map_).part(MarginalTransform)
        k, d = self.means_.shape
        parts = (
            self.weights_,
            (self.means_ - marginal.location) / marginal.scale,
            full_covariances(self) / np.outer(marginal.scale, marginal.scale),
        )
        device = evaluation_device(self.device)
        score = GaussianMixtureScore(*(torch.from_numpy(part) for part in parts))
        return exact_density(score, d, k * d, device)
