"""Kernel estimates of scores, and the densities they imply."""

from __future__ import annotations

from dataclasses import replace
from numbers import Real

import numpy as np

from .._compat import Interval, StrOptions
from .._core.arrays import tensor_of
from .._core.distributions.kernel import KernelScore
from .._core.distributions.two_regime import TwoRegimeKernelScore
from .._core.noise.processes import VP
from .._evaluation.base import BaseDensity
from .._evaluation.latent_density import LatentDensity, chunks, exact_density
from .._fit import whole_fit
from .._random import seed_from
from .._transforms.chain import Chain
from .._transforms.fitting import fit_latent_map, linear_map
from .._validation import effective_number, evaluation_device, resolve_device

# Bandwidths that cross-validation compares, in units of the rule of thumb, and on how many rows.
CANDIDATES = np.geomspace(0.1, 3.0, 20)
MAX_CV_ROWS, CV_CHUNK_NUMBERS = 2000, 2**22
# In one column an estimate that is no mixture of Gaussian kernels is carried by points so
# close that their own kernels, as wide as the step between them, do not show. They lie within
# so many bandwidths of the rows.
MIN_POINTS, MAX_POINTS, POINTS_PER_BANDWIDTH, REACH = 4000, 10**6, 20, 6
POINTS_AT_ONCE, KERNELS_AT_ONCE = 64, 2**20


class KernelScoreEstimator(BaseDensity):
    r"""Kernel density estimate, with its Stein score at every noise level.

    The features are whitened, or only standardised if ``support`` is given. In this latent space,

    .. math:: \hat s = \nabla \log \hat p, \qquad
        \hat p = \text{density of } a X_0 + \sqrt v Z,
        \quad X_0 \sim \hat f_h, \qquad h = c\, n^{-1/(2\beta+d)},

    at every noise level, with signal factor a, noise variance v and normal noise Z. Here
    :math:`\hat f_h` is a kernel estimate of width h from n samples with d features, and the order
    of the kernel is at least the smoothness :math:`\beta` of the true density. Unless
    ``two_regime`` is true, the log-density is :math:`\log \hat f_h`. The :math:`L_1` risk falls as
    :math:`n^{-\beta/(2\beta+d)}`, the best rate for densities of Hoelder smoothness :math:`\beta`.

    Parameters
    ----------
    bandwidth : {"minimax", "cv"} or float, default="minimax"
        Width h of the kernel.

        - "minimax": the formula above with c of the normal distribution,
          :math:`(4 / (d+2))^{1/(d+4)}` standard deviations. Needs no search.
        - "cv": the one of 20 candidates, from 0.1 to 3 times "minimax", with the largest
          leave-one-out log-likelihood. For densities that are far from normal.
        - A number: in units of the whitened features, or of the feature itself if ``support`` is
          given.
    smoothness : float, default=2
        Smoothness of the true density, at most 4. Values above 2 need a single feature and use a
        kernel of order four, whose negative densities are set to zero before normalisation.
        Values up to 2 use the Gaussian kernel, of order two.
    support : tuple of two floats, or None, default=None
        Interval that holds all values of a single feature. The estimate is reflected at both
        ends, which removes the bias there. Outside the interval, the log-density is finite and
        falls steeply.
    two_regime : bool, default=False
        Whether to use the kernel only at noise levels whose noise is narrower than the kernel. At
        all other levels, noise is added to the training samples themselves, without a kernel. In
        theory, the best rate for the score needs this. The density gains nothing measurable.
    likelihood : {"identity", "ode"}, default="identity"
        How log-densities are computed from scores if ``two_regime`` is true.

        - "identity": by the likelihood identity, an integral over all noise levels of squared
          errors in predicting the added noise. Needs no derivative of the score. The density is
          not exactly normalised.
        - "ode": by the probability-flow ODE. For a normalised density. If ``two_regime`` is
          false, "ode" raises an error.
    device : str, default="auto"
        "auto" is CUDA if available, else CPU. Otherwise the name of a torch device.
    random_state : int, RandomState or None, default=None
        Seed of the 2000 samples on which "cv" compares bandwidths if there are more.

    Attributes
    ----------
    bandwidth_ : float
        Width h in units of the whitened features, or of the feature itself if ``support`` is
        given.
    centers_ : ndarray of shape (n_centers, n_features)
        Centres of the Gaussian kernels that represent the estimate, in the latent space, with
        their ``center_weights_`` (n_centers,) and their common width ``kernel_width_``. This
        width is ``bandwidth_``, or the step of the grid if the centres are grid points.
    rows_ : ndarray of shape (n_rows, n_features)
        Training samples in the latent space, with their ``row_weights_`` (n_rows,).
    support_ : ndarray of shape (2,) or None
    kernel_order_ : int
    switch_time_ : float
        Time t of the Ornstein-Uhlenbeck process, :math:`a = e^{-t}` and :math:`v = 1 - e^{-2t}`,
        beyond which ``two_regime`` uses no kernel. A ``noise_level``, in contrast, is a process
        time of :class:`~sklearn_dsm.VP`.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features; only if X had names.

    Notes
    -----
    The time of an evaluation is proportional to the number of centres. Every training sample is a
    centre, unless ``support`` is given or the kernel is of order four. The centres are then the
    points of a fine grid. Samples are evaluated in chunks, so the memory does not grow with their
    number. The smallest chunk is one sample with all centres.

    References
    ----------
    [DDPMLearning]_

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_dsm import KernelScoreEstimator
    >>> X = np.random.default_rng(0).beta(2, 2, size=(500, 1))
    >>> density = KernelScoreEstimator(support=(0, 1)).fit(X)
    >>> bool(density.score_samples([[0.5]]) > density.score_samples([[0.05]]))
    True
    """

    _parameter_constraints = {
        "bandwidth": [StrOptions({"minimax", "cv"}), Interval(Real, 0, None, closed="neither")],
        "smoothness": [Interval(Real, 0, 4, closed="right")],
        "support": [tuple, list, None],
        "two_regime": ["boolean"],
        "likelihood": [StrOptions({"identity", "ode"})],
        "device": [str],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        bandwidth="minimax",
        *,
        smoothness=2,
        support=None,
        two_regime=False,
        likelihood="identity",
        device="auto",
        random_state=None,
    ):
        self.bandwidth = bandwidth
        self.smoothness = smoothness
        self.support = support
        self.two_regime = two_regime
        self.likelihood = likelihood
        self.device = device
        self.random_state = random_state

    @whole_fit
    def fit(self, X, y=None, sample_weight=None):
        """Choose the bandwidth and store the centres of the kernels.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            At least two samples; every feature must vary.
        y : Ignored
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights of the samples' kernels.

        Returns
        -------
        self : KernelScoreEstimator

        Raises
        ------
        ValueError
            In any of these cases:

            - X holds NaN, infinity, text or a constant feature.
            - ``support`` is not two increasing finite numbers, or does not hold all samples.
            - ``support`` is given, or ``smoothness`` is above 2, and X has several features.
            - ``likelihood`` is "ode" and ``two_regime`` is false.
        """
        X, weight = self._rows_and_weight(X, sample_weight)
        self._check_combination(X.shape[1])
        resolve_device(self.device)
        share = weight / weight.sum()
        d = X.shape[1]
        self.support_ = self._ends(X)
        latent, unit = self._map_and_unit(X, weight)
        Z, _ = latent.forward(X)
        ends = None if self.support_ is None else latent.forward(self.support_[:, None])[0][:, 0]
        self.kernel_order_ = 4 if d == 1 and self.smoothness > 2 else 2
        self.process_, self.latent_map_ = VP(), latent.to_arrays()
        self.rows_, self.row_weights_ = Z, share
        width = self._chosen_bandwidth(unit, ends)
        self.bandwidth_ = width * unit
        if ends is not None or self.kernel_order_ > 2:
            self._keep_points(width, ends)
        else:
            self.centers_, self.center_weights_, self.kernel_width_ = Z, share, width
        self.switch_time_ = float(effective_number(share) ** (-2 * self._rate(d)))
        return self

    def _check_combination(self, d):
        """Refuse options that would have no effect."""
        if self.likelihood == "ode" and not self.two_regime:
            raise ValueError(
                "likelihood='ode' has no effect with two_regime=False, whose density has a closed "
                "form. Use likelihood='identity', or two_regime=True."
            )
        if self.smoothness > 2 and d > 1:
            raise ValueError(
                f"smoothness={self.smoothness!r} needs a kernel of higher order, which there is "
                f"for one column; X has {d}. Use a smoothness of at most 2."
            )

    def _in_support(self, rows):
        """The rows, reflected where the kernels of the last points reach beyond the ends."""
        if self.support_ is None:
            return rows
        low, high = self.support_
        return (high - np.abs(high - (low + np.abs(rows - low)))).clip(low, high)

    def _ends(self, X):
        """The support as an array, or None."""
        if self.support is None:
            return None
        ends = np.asarray(self.support, dtype=np.float64)
        if ends.shape != (2,) or not np.isfinite(ends).all() or not ends[0] < ends[1]:
            raise ValueError(
                f"support={self.support!r} must be two finite numbers, the smaller first; for an "
                "open end take a number far beyond the rows."
            )
        if X.shape[1] != 1:
            raise ValueError(
                f"support={self.support!r} is for one column, X has {X.shape[1]}; use support=None."
            )
        if X.min() < ends[0] or X.max() > ends[1]:
            raise ValueError(
                f"Rows from {X.min():g} to {X.max():g} do not fit in support={self.support!r}."
            )
        return ends

    def _map_and_unit(self, X, weight) -> tuple[Chain, float]:
        """The map, and the unit of ``bandwidth`` in units of the latent space, inverted."""
        if self.support_ is not None:
            mean = np.average(X, axis=0, weights=weight)
            deviation = np.sqrt(np.average((X - mean) ** 2, axis=0, weights=weight))
            return linear_map(mean, deviation), float(deviation[0])
        nobody = np.zeros(len(X), dtype=bool)
        return fit_latent_map(X, weight, nobody, "standardize"), 1.0

    def _rate(self, d):
        """By which power of the number of rows the bandwidth falls."""
        return 1 / (2 * min(self.smoothness, self.kernel_order_) + d)

    def _chosen_bandwidth(self, unit, ends):
        """In units of the latent space."""
        if isinstance(self.bandwidth, Real):
            return float(self.bandwidth) / unit
        Z, share = self.rows_, self.row_weights_
        d = Z.shape[1]
        deviation = np.sqrt(share @ (Z - share @ Z) ** 2).mean()
        rule = (
            deviation * (4 / (d + 2)) ** (1 / (d + 4)) * effective_number(share) ** -self._rate(d)
        )
        if self.bandwidth == "minimax":
            return float(rule)
        random = np.random.RandomState(seed_from(self.random_state))
        judged = random.permutation(len(Z))[:MAX_CV_ROWS]
        plain = ends is None and self.kernel_order_ == 2
        if plain:
            values = self._left_out_of_kernels(judged, rule)
        else:
            values = self._left_out_of_points(judged, rule, ends)
        return float(rule * CANDIDATES[values.argmax()])

    def _left_out_of_points(self, judged, rule, ends):
        """Leave-one-out log-likelihoods of the candidates, for an estimate in one column."""
        z, share = self.rows_[:, 0], self.row_weights_
        judged = judged[z[judged].argsort()]
        rows, own = z[judged], share[judged]
        images = self._images(z, ends)
        values = np.empty(len(CANDIDATES))
        for k, h in enumerate(rule * CANDIDATES):
            density = sum(self._kernel_sum(rows, image, share, h) for image in images)
            for image in self._images(rows, ends):
                density = density - own * self._kernel((rows - image) / h) / h
            values[k] = own @ np.log(density.clip(min=np.finfo(float).tiny))
        return values

    def _left_out_of_kernels(self, judged, rule):
        """The same for a mixture of Gaussian kernels, in any number of columns."""
        Z, share = self.rows_, self.row_weights_
        squares = (Z**2).sum(1)
        totals = np.zeros(len(CANDIDATES))
        size = max(1, CV_CHUNK_NUMBERS // len(Z))
        for part in chunks(len(judged), size):
            rows = judged[part]
            distances = (squares[rows, None] - 2 * Z[rows] @ Z.T + squares).clip(min=0)
            distances[np.arange(len(rows)), rows] = np.inf
            nearest = distances.min(1, keepdims=True)
            for k, h in enumerate(rule * CANDIDATES):
                kernels = np.exp(-(distances - nearest) / (2 * h**2)) @ share
                value = np.log(kernels) - nearest[:, 0] / (2 * h**2) - Z.shape[1] * np.log(h)
                totals[k] += share[rows] @ value
        return totals

    @staticmethod
    def _images(z, ends):
        """Rows and their reflections at the ends of the support."""
        return [z] if ends is None else [z, *(2 * end - z for end in ends)]

    def _keep_points(self, h, ends):
        """An estimate in one column as weighted points: reflected, or of higher order."""
        z, share = self.rows_[:, 0], self.row_weights_
        low, high = z.min() - REACH * h, z.max() + REACH * h
        if ends is not None:
            low, high = max(low, ends[0]), min(high, ends[1])
        wanted = POINTS_PER_BANDWIDTH * (high - low) / h
        n_points = int(np.clip(wanted, MIN_POINTS, MAX_POINTS))
        step = (high - low) / n_points
        points = low + step * (np.arange(n_points) + 0.5)
        images = self._images(z, ends)
        density = sum(self._kernel_sum(points, image, share, h) for image in images).clip(min=0)
        kept = density > 0
        self.centers_ = points[kept, None]
        self.center_weights_ = density[kept] / density[kept].sum()
        self.kernel_width_ = float(step)

    def _kernel(self, u):
        kernel = np.exp(-0.5 * u**2) / np.sqrt(2 * np.pi)
        return kernel * (3 - u**2) / 2 if self.kernel_order_ == 4 else kernel

    def _kernel_sum(self, points, centers, share, h):
        """The kernel estimate at sorted points, from the centres near enough to count."""
        total = np.zeros(len(points))
        order = np.argsort(centers)
        centers, share = centers[order], share[order]
        for part in chunks(len(points), POINTS_AT_ONCE):
            first, last = np.searchsorted(centers, points[part][[0, -1]] + [-8 * h, 8 * h])
            for some in chunks(last - first, KERNELS_AT_ONCE // POINTS_AT_ONCE):
                near = slice(first + some.start, min(first + some.stop, last))
                u = (points[part, None] - centers[near]) / h
                total[part] += self._kernel(u) @ share[near] / h
        return total

    def _latent_density(self) -> LatentDensity:
        device = evaluation_device(self.device)
        centers, weights = tensor_of(self.centers_), tensor_of(self.center_weights_)
        kernel = KernelScore(centers, self.kernel_width_, weights)
        exact = exact_density(kernel, centers.shape[1], len(centers), device)
        if not self.two_regime:
            return exact
        switch = -float(np.log(np.expm1(2 * self.switch_time_)))
        rows = KernelScore(tensor_of(self.rows_), 0.0, tensor_of(self.row_weights_))
        model = TwoRegimeKernelScore(kernel, rows, switch).to(device)
        return replace(exact, model=model, likelihood=self.likelihood)
