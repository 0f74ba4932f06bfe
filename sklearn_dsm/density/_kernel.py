"""Kernel density estimates, with their Stein scores."""

from __future__ import annotations

from dataclasses import replace
from numbers import Real

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from .._budget import Budget
from .._compat import Interval, StrOptions
from .._core.arrays import tensor_of
from .._core.distributions.kernel import KernelScore
from .._core.distributions.two_regime import TwoRegimeKernelScore
from .._core.noise.processes import VP
from .._evaluation.base import BaseDensity
from .._evaluation.latent_density import LatentDensity
from .._fit import whole_fit
from .._random import seed_from
from .._transforms.chain import Chain
from .._transforms.marginal import MarginalTransform
from .._validation import distinct_rows, effective_number, evaluation_device, resolve_device
from .._warn import warn
from ._boundaries import Box
from ._fourth_order import fourth_order_points
from ._images import with_images
from ._kernel_density import kernel_density
from ._kernel_space import Space, Table, better_space, latent_space


class KernelScoreEstimator(BaseDensity):
    r"""Kernel density estimate, with its Stein score at every noise level.

    The features are whitened. With ``support`` or ``period``, they are only standardised. In this
    latent space,

    .. math:: \hat s = \nabla \log \hat p, \qquad
        \hat p = \text{density of } a X_0 + \sqrt v Z,
        \quad X_0 \sim \hat f_h, \qquad h = c\, n^{-1/(2\beta+d)},

    at every noise level, with signal factor a, noise variance v and standard normal noise Z. Here
    :math:`\hat f_h` is a kernel estimate with bandwidth h from n samples with d features. The order
    of the kernel is at least :math:`\beta`, the ``smoothness``. Unless ``two_regime`` is true, the
    log-density is :math:`\log \hat f_h`. The formula for h is that of ``bandwidth="minimax"``. With
    this h, the :math:`L_1` risk of the density falls as :math:`n^{-\beta/(2\beta+d)}`, the best
    rate for densities of Hoelder smoothness :math:`\beta`.

    Parameters
    ----------
    bandwidth : {"minimax", "cv"} or float, default="minimax"
        Bandwidth h of the kernel. That of the Gaussian kernel is its standard deviation.

        - "minimax": the formula above, where c is :math:`(4 / (d+2))^{1/(d+4)}` standard
          deviations of the latent features. With ``smoothness=2``, this is Silverman's rule.
        - "cv": the bandwidth with the largest leave-one-out log-likelihood. For densities that are
          far from normal. The search starts with 0.1 to 3 times "minimax". While the best
          bandwidth is at an end of this range, the range grows there. With more than two features
          and ``support`` or ``period``, the upper end stays.
        - A number: in standard deviations of the latent features. For a single feature with
          ``support`` or ``period``, in units of the feature itself.
    smoothness : float, default=2
        Assumed smoothness :math:`\beta` of the true density, positive and at most 4. Values up to 2
        use the Gaussian kernel, of order two. Values above 2 need a single feature and use a
        kernel of order four. Negative values of that estimate are set to zero, and the rest is
        normalised.
    support : tuple (low, high), sequence of such tuples, or None, default=None
        Bounds of a single feature. For several features, a pair or None for each. None in place of
        a bound means that this side is open. Outside of the bounds, the density is zero. Mirror
        images of the samples continue the density beyond a bound along its slope. If the density
        is positive and smooth at the bound, the bias there is of order :math:`h^2`, as inside.
    period : float, sequence of floats and None, or None, default=None
        Period of a single feature, such as an angle. For several features, a period or None for
        each. Values that differ by whole periods are equal. ``sample`` draws from one period,
        which starts at the lower bound in ``support``, or else at 0. An upper bound in ``support``
        must be the end of this period.
    marginals : {"auto", "standardize", "gaussianize"}, default="auto"
        What happens to the features before the whitening.

        - "standardize": each feature is shifted and scaled. With heavy tails, the bandwidth of
          "minimax" is then too wide, and narrow kernels leave gaps between samples in the tails.
        - "gaussianize": each feature is transformed to a normal one, by a one-dimensional Gaussian
          mixture that is fitted to it. In the units of X, the kernels are then wider where samples
          are sparse.
        - "auto": "gaussianize" if a feature has tails heavier than normal and the leave-one-out
          log-likelihood is clearly larger with "gaussianize". Otherwise "standardize". If
          ``support`` or ``period`` is given, ``bandwidth`` is a number, or ``smoothness`` is above
          2, always "standardize".
    two_regime : bool, default=False
        Whether to use the kernel only at noise levels whose noise is narrower than the kernel. At
        all other levels, noise is added to the training samples themselves, without a kernel. In
        theory, the best rate for the score needs this. It does not measurably improve the density.
    likelihood : {"identity", "ode"}, default="identity"
        How log-densities are computed from scores if ``two_regime`` is true.

        - "identity": by the likelihood identity, an integral over all noise levels of squared
          errors in predicting the added noise. Needs no derivative of the score. The density is
          not exactly normalised.
        - "ode": by the probability-flow ODE. The density is normalised. If ``two_regime`` is
          false, ``fit`` raises an error.
    max_fit_time : float or None, default=None
        Seconds after which "cv" tries no further bandwidth. None: no limit. "cv" takes seconds,
        longer with ``support`` or ``period`` in many features. The result of a search that reaches
        the limit depends on the speed of the machine.
    device : str, default="auto"
        "auto" is CUDA if available, else CPU. Otherwise the name of a torch device.
    random_state : int, RandomState or None, default=None
        Seed of the random subsets for the leave-one-out log-likelihoods of "cv" and "auto". Each
        is a mean over at most 2000 samples, with kernels from at most 50,000 samples. In more than
        two features, the second limit is 10,000; with ``support`` or ``period`` there, the limits
        are 500 and 1000.

    Attributes
    ----------
    bandwidth_ : float
        Bandwidth h, in the units of the parameter.
    centers_ : ndarray of shape (n_centers, n_features)
        Centres of the Gaussian kernels that represent the estimate, in the latent space, with
        their ``center_weights_`` (n_centers,) and their common width ``kernel_width_``. With a
        kernel of order two, the width is h in units of the latent space. With order four, the
        centres are points of a grid, and the width is its step. With ``support`` or ``period``,
        the centres include images of samples, and the kernels are cut at the bounds.
    tail_weight_ : float
        Weight of a standard normal distribution that is mixed with the kernels in the latent
        space. If marginals are Gaussianized, it is the weight of one sample, so that tails are not
        cut off. Otherwise zero.
    rows_ : ndarray of shape (n_rows, n_features)
        Training samples in the latent space, with their ``row_weights_`` (n_rows,). Equal samples
        are one row if ``sample_weight`` is None or holds whole numbers only.
    support_ : ndarray of shape (n_features, 2) or None
        Bounds of each feature, or the ends of its period; infinite on open sides. None if no
        feature has a bound or a period.
    periodic_ : ndarray of shape (n_features,), bool
        Which features have a period.
    kernel_order_ : int
        2 or 4.
    switch_time_ : float
        Time t of the Ornstein-Uhlenbeck process with :math:`a = e^{-t}`, :math:`v = 1 - e^{-2t}`,
        beyond which ``two_regime`` uses no kernel. A ``noise_level``, in contrast, is a process
        time of :class:`~sklearn_dsm.VP`.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features; only if X had names.

    Notes
    -----
    In up to three features, the log-densities and Stein scores of many samples come from a grid on
    which the kernels are spread. The relative error of the density is at most :math:`10^{-5}`. The
    time grows with the number of centres plus the number of samples. In all other cases, kernels
    are summed one by one, and the time is proportional to the number of centres times the number
    of samples. All sums are computed in chunks, so their memory does not grow with the number of
    samples.

    Bounds and periods hold at noise level 0 only. Noise is added to values within the bounds or the
    period, and the noised samples can lie anywhere.

    References
    ----------
    [DDPMLearning]_ for the rates, [JonesBoundary]_ for kernel estimates at bounds.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_dsm import KernelScoreEstimator
    >>> X = np.random.default_rng(0).exponential(size=(500, 1))
    >>> density = KernelScoreEstimator(support=(0, None)).fit(X)
    >>> density.score_samples([[0.5], [-0.1]]).round(1)
    array([-0.6, -inf])
    """

    _parameter_constraints = {
        "bandwidth": [StrOptions({"minimax", "cv"}), Interval(Real, 0, None, closed="neither")],
        "smoothness": [Interval(Real, 0, 4, closed="right")],
        "support": ["array-like", None],
        "period": [Interval(Real, 0, None, closed="neither"), "array-like", None],
        "marginals": [StrOptions({"auto", "standardize", "gaussianize"})],
        "two_regime": ["boolean"],
        "likelihood": [StrOptions({"identity", "ode"})],
        "max_fit_time": [Interval(Real, 0, None, closed="neither"), None],
        "device": [str],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        bandwidth="minimax",
        *,
        smoothness=2,
        support=None,
        period=None,
        marginals="auto",
        two_regime=False,
        likelihood="identity",
        max_fit_time=None,
        device="auto",
        random_state=None,
    ):
        self.bandwidth = bandwidth
        self.smoothness = smoothness
        self.support = support
        self.period = period
        self.marginals = marginals
        self.two_regime = two_regime
        self.likelihood = likelihood
        self.max_fit_time = max_fit_time
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
            Non-negative weights of the samples' kernels. If all weights are whole numbers, they
            are counts: the fit is that of X with each sample repeated that many times. Otherwise,
            the bandwidth is that of :math:`(\\sum_i w_i)^2 / \\sum_i w_i^2` samples.

        Returns
        -------
        self : KernelScoreEstimator

        Raises
        ------
        ValueError
            In any of these cases:

            - X holds NaN, infinity, text or a constant feature.
            - ``support`` or ``period`` does not have one valid entry for each feature of X.
            - A sample lies outside of ``support``.
            - ``smoothness`` is above 2, and X has several features.
            - ``marginals`` is "gaussianize", and ``support`` or ``period`` is given.
            - ``likelihood`` is "ode" and ``two_regime`` is false.
            - The images of the samples beyond bounds and periods would not fit in memory.

        Warns
        -----
        UserWarning
            If "cv" finds no bandwidth, since the likelihood grows without bound as the bandwidth
            falls. Values that repeat have this effect. The bandwidth is then that of "minimax".
        ConvergenceWarning
            If ``max_fit_time`` ends the search of "cv".
        """
        X, weight = self._rows_and_weight(X, sample_weight)
        d = X.shape[1]
        self._check_combination(d)
        resolve_device(self.device)
        table = self._table(X, weight)
        space, width = self._space_and_width(table)
        box = table.box
        self.support_ = None if box is None else np.stack([box.low, box.high], 1)
        self.periodic_ = np.zeros(d, dtype=bool) if box is None else box.periodic
        self.kernel_order_ = space.rule.order
        self.process_, self.latent_map_ = VP(), space.latent.to_arrays()
        self.rows_, self.row_weights_ = space.samples.rows, space.samples.share
        self.bandwidth_ = width * table.unit
        self._keep_kernels(space, width)
        self.switch_time_ = float(table.number ** (-2 * space.rule.rate))
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
        if self.marginals == "gaussianize" and not (self.support is None and self.period is None):
            raise ValueError(
                "marginals='gaussianize' bends the features, and support and period need them as "
                "they are. Use marginals='auto'."
            )

    def _table(self, X, weight) -> Table:
        """The samples in their box; where weights are counts, each row once."""
        box = Box.of(self.support, self.period, X)
        if box is not None:
            X = box.wrapped(X)
            box.check(X)
        counts, number = bool((weight == np.round(weight)).all()), effective_number(weight)
        if counts:
            X, weight = distinct_rows(X, weight)
            number = float(weight.sum())
        return Table(X, weight, counts, number, box)

    def _space_and_width(self, table) -> tuple[Space, float]:
        """The latent space, and the bandwidth in its units."""
        name, given = self.bandwidth, isinstance(self.bandwidth, Real)
        free = self.marginals == "auto" and table.box is None and self.smoothness <= 2
        undecided = free and not given and table.heavy_tailed
        seed = seed_from(self.random_state) if undecided or name == "cv" else 0
        first = "gaussianize" if self.marginals == "gaussianize" else "standardize"
        budget = Budget(self.max_fit_time)
        space = latent_space(table, first, self.smoothness, seed, budget)
        if given:
            return space, float(name) / table.unit
        if undecided:
            bent = latent_space(table, "gaussianize", self.smoothness, seed, budget)
            space = better_space(space, bent, name, table)
        width, found = space.bandwidth(name)
        if not found:
            warn(
                "bandwidth='cv' found no best bandwidth: values repeat, and the likelihood grows "
                "without bound as the bandwidth falls. The bandwidth is that of 'minimax'. For "
                "rounded values, add uniform noise as wide as the smallest step between the "
                "values; otherwise, give the bandwidth as a number.",
                UserWarning,
            )
        elif name == "cv" and budget.is_over:
            warn(
                "max_fit_time ended the search for a bandwidth, which is the best of those that "
                "were tried. Raise max_fit_time, or give the bandwidth as a number.",
                ConvergenceWarning,
            )
        return space, width

    def _keep_kernels(self, space, width):
        """The kernels of the estimate: samples with their images, or points of order four."""
        samples = space.samples
        kernels = with_images(samples.rows, samples.share, samples.number, width, samples.box)
        if space.rule.order > 2:
            kernels, width = fourth_order_points(kernels, width, samples.box)
        self.centers_, self.center_weights_, _ = kernels
        self.kernel_width_ = width
        # One sample more, of the distribution that the marginal transforms aim at.
        self.tail_weight_ = 1 / (1 + samples.number) if space.curved else 0.0

    def _box(self) -> Box | None:
        """The box in the units of the input."""
        return (
            None
            if self.support_ is None
            else Box(self.support_[:, 0], self.support_[:, 1], self.periodic_)
        )

    def _in_support(self, rows):
        box = self._box()
        return rows if box is None else box.drawn_into(rows)

    def _latent_density(self) -> LatentDensity:
        device, box = evaluation_device(self.device), self._box()
        if box is not None:
            marginal = Chain.from_arrays(self.latent_map_).part(MarginalTransform)
            box = box.mapped(marginal.location, marginal.scale)
        exact = kernel_density(
            self.centers_,
            self.center_weights_,
            self.kernel_width_,
            box,
            self.tail_weight_,
            device,
        )
        if not self.two_regime:
            return exact
        switch = -float(np.log(np.expm1(2 * self.switch_time_)))
        rows = KernelScore(tensor_of(self.rows_), 0.0, tensor_of(self.row_weights_))
        model = TwoRegimeKernelScore(exact.reference, rows, switch).to(device)
        return replace(exact, model=model, likelihood=self.likelihood)
