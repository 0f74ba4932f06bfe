"""Densities of this package times a weight."""

from __future__ import annotations

from numbers import Integral, Real

import numpy as np
import torch
from sklearn.frozen import FrozenEstimator
from sklearn.mixture import GaussianMixture
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from .._budget import Budget
from .._columns import rows_to_fit
from .._compat import Interval, StrOptions
from .._core.arrays import arrays_of, state_of, tensor_of
from .._core.likelihood.controlled import StepKernel, kernels_of
from .._core.noise.processes import VP
from .._core.random import torch_generator
from .._core.scores.corrected import CorrectedScore
from .._core.scores.network import ScoreNetwork
from .._evaluation.base import BaseDensity, check_number_of_draws
from .._evaluation.latent_density import LatentDensity
from .._evaluation.references import latent_density_of
from .._fit import InterruptedFit, whole_fit
from .._mixtures.parameters import full_covariances, transformed
from .._random import seed_from
from .._threads import take_one_thread_where_forked
from .._training import TrainingSettings
from .._transforms.chain import Chain
from .._transforms.whitening import Whitening
from .._validation import checked_layer_sizes
from .._warn import warn
from ._callables import RowFunction
from ._tilted_density import LatentWeight, TiltedDensity
from ._tilted_fit import LOSSES, TiltedFit
from ._tilted_lessons import PATH_METHODS

CPU = torch.device("cpu")
BATCH_SIZE, WEIGHT_DECAY = 512, 0.01
# Of methods that train on paths: sets of paths for each epoch, and the steps of the paths.
SETS_PER_EPOCH, TRAINED_STEPS = 2, 32
# Methods whose paths follow the gradient of the weight.
GUIDED = ("cmcd", "nets")
N_CHECKED_WEIGHTS, N_KERNEL_ROWS = 512, 2048


class TiltedSampler(BaseDensity):
    r"""Sample from a fitted density times a weight, with the normalising constant.

    The tilted density is

    .. math:: p^*(x) = \frac{p(x)\, e^{r(x)}}{Z}, \qquad Z = E_p[e^{r(X)}],

    for the density p of ``base`` and the log-weight r: a reward, the log-likelihood of
    observations, or the log-probability of a class. A network learns the difference between the
    Stein scores of noised samples of :math:`p^*` and of p. Samples are drawn by the reverse
    diffusion of the base, with this difference added to its score.

    ============  ====================================================  ==========================
    ``method``    what the network learns from                          when to use it
    ============  ====================================================  ==========================
    "csm"         samples of the base with weights :math:`e^r`;         the default; needs no
                  denoising score matching                              gradients
    "nsm"         the same samples; a mixture of both other targets,    smooth base and weight
                  whose variance is bounded at every noise level
    "tsm"         the same samples; target score matching, by the       for comparison: accurate
                  gradient of the log-density of :math:`p^*`            at low noise only
    "adjoint"     paths of the network so far; lean adjoint matching    weights that are large
                  [AdjointMatching]_                                    where p is small
    "cmcd"        guided paths of the network so far; the variance of   for comparison
                  log w [CMCD]_
    "nets"        the same paths; the residual of the equation of       for comparison
                  continuity [NETS]_
    ============  ====================================================  ==========================

    The first three methods train in stages, with the weight :math:`e^{t r}` for a number t
    that rises to 1. If at least 30 percent of the weighted samples are effective, the first stage
    has t = 1. Each later stage trains on samples that the network of the stage before draws, and
    the last two stages have t = 1. Training ends earlier after ``max_fit_time``, or after 20
    stages. The methods "adjoint", "cmcd" and "nets" may miss modes of :math:`p^*`, and no attribute
    shows this.

    Estimates rest on ``n_paths`` paths of K = ``n_steps`` steps. Step k adds standard normal noise
    :math:`\xi_k`. The network shifts the mean of this step by :math:`u_k`, and both are in units of
    the standard deviation of the step. The weight w of a path is

    .. math:: \log w = r(X_K) - \sum_k \left( u_k \cdot \xi_k + \tfrac12 |u_k|^2 \right).

    For any network, the expectation of w is that of :math:`e^r` over paths without the network. It
    differs from Z by an error of order 1 / ``n_steps``.

    The guided paths of "cmcd" and "nets" pass densities other than those of noised samples of
    :math:`p^*`: where noised samples are :math:`a X + \sqrt v \epsilon`, the noised base times
    :math:`e^{r(a x)}`. Each step adds half of the gradient of :math:`r(a x)` to the score, damped
    where it is very large, and the network learns the velocity that carries these densities along.
    The weight of a guided path has factors for the steps back as well:

    .. math:: \log w = r(X_K)
        + \sum_k \left( \log \frac{B_k}{B^0_k} - \log \frac{F_k}{F^0_k} \right)

    with the densities :math:`F_k` of a step and :math:`B_k` of its reversal, and those of the base
    with the superscript 0. The reversal of the last step is that of the base.

    Parameters
    ----------
    base : density estimator or GaussianMixture
        A fitted density estimator of this package, or a fitted
        :class:`~sklearn.mixture.GaussianMixture`. Searches and cross-validations clone the base,
        and a clone is not fitted. For these, wrap the base in a
        :class:`~sklearn.frozen.FrozenEstimator`.
    log_weight : callable
        The function r. It takes samples of shape (n_samples, n_features) and returns n_samples
        values; -inf where the weight is zero. A function of torch tensors is differentiated. If the
        function raises an error on a tensor, or returns no tensor, it is called with numpy arrays.
    grad_log_weight : callable or None, default=None
        The gradient of r, for a numpy function: it returns an array of the shape of its argument.
        A numpy function without it works with "csm" only, and then ``stein_score`` raises an error
        at noise level 0.
    method : {"csm", "nsm", "tsm", "adjoint", "cmcd", "nets"}, default="csm"
        As in the table.
    n_train : int, default=20000
        Number of samples of the base that ``fit`` draws to train on. No effect if ``fit`` is given
        samples. For methods that learn from paths, the samples only set the standard deviations of
        the steps.
    n_paths : int, default=4000
        Number of paths from which ``fit`` computes the estimates.
    n_steps : int, default=100
        Number of steps of a path. Paths for training have 32 steps.
    hidden_layer_sizes : tuple of int, default=(64, 64)
        Width of each hidden layer of the network.
    max_epochs : int, default=60
        Largest number of passes over the samples in each stage. Methods that learn from paths have
        no stages: they draw at most twice this number of sets of paths, and take eight gradient
        steps on each.
    max_fit_time : float or None, default=None
        Seconds after which training ends. The estimates are computed after that.
    learning_rate : float, default=1e-2
        Largest learning rate of the optimiser.
    random_state : int, RandomState or None, default=None
        Seed of the samples, the network and the paths of ``fit``.
    verbose : int, default=0
        1 prints a line for each stage, or for 50 sets of paths.

    Attributes
    ----------
    log_normalizer_ : float
        Estimate of :math:`\log Z`.
    log_normalizer_stderr_ : float
        Its standard error, which does not include the error of order 1 / ``n_steps``.
    elbo_ : float
        Evidence lower bound: the mean of log w. Its expectation is at most :math:`\log Z`, up to
        the error of order 1 / ``n_steps``.
    ess_ : float
        Share of effective paths, in (0, 1]: the square of the mean of w, divided by the mean of the
        squares of w.
    stages_ : list of float
        The number t by which r was multiplied in each stage.
    loss_curve_ : list of float
        The loss at the end of each set of paths; empty for methods that learn from samples.
    n_evaluations_ : int
        Number of samples at which ``fit`` evaluated ``log_weight``.
    guided_ : bool
        Whether paths are guided, as those of "cmcd" and "nets". Then ``stein_score`` is defined at
        noise level 0 only, and the estimator cannot be the base of another.
    network_weights_ : dict of str to ndarray
        Weights of the network.
    kernels_ : dict of str to ndarray
        Noise levels, factors of the means and standard deviations of the steps.
    n_features_in_ : int

    Notes
    -----
    ``score_samples`` is the log-density of the base plus r minus ``log_normalizer_``, which alone
    depends on the network. ``sample`` returns the ends of paths. Their distribution is close to
    :math:`p^*` if the network is accurate and ``n_steps`` is large. ``sample_weighted`` corrects
    the errors of the network, and not those of the steps.

    Among the networks of the stages with t = 1, ``fit`` keeps the one with the largest ``ess_``. If
    no stage has t = 1, the network of the last stage is the only one. If the base's own paths have
    a larger ``ess_``, the output of the network is set to zero.

    A fitted ``TiltedSampler`` is a density estimator, and can be the base of another unless its
    paths are guided. At the noise
    level where paths start, nothing of the data is left, so the start is the same for p and
    :math:`p^*`.

    References
    ----------
    [Unified]_, [TSM]_, [AdjointMatching]_, [CMCD]_, [NETS]_, [AnalyticDPM]_ (the variance of the
    steps)

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.mixture import GaussianMixture
    >>> from sklearn_dsm import TiltedSampler
    >>> X = np.random.default_rng(0).normal(size=(500, 1))
    >>> base = GaussianMixture(random_state=0).fit(X)
    >>> tilted = TiltedSampler(base, lambda X: 2 * X[:, 0], max_epochs=5, n_train=2000)
    >>> tilted = tilted.set_params(random_state=0).fit()
    >>> exact = 2 * base.means_[0, 0] + 2 * base.covariances_[0, 0, 0]
    >>> bool(abs(tilted.log_normalizer_ - exact) < 0.1)
    True
    >>> tilted.sample(3, random_state=0).shape
    (3, 1)
    """

    _parameter_constraints = {
        "base": [BaseDensity, GaussianMixture, FrozenEstimator],
        "log_weight": [callable],
        "grad_log_weight": [callable, None],
        "method": [StrOptions({*LOSSES, *PATH_METHODS})],
        "n_train": [Interval(Integral, 10, None, closed="left")],
        "n_paths": [Interval(Integral, 2, None, closed="left")],
        "n_steps": [Interval(Integral, 1, None, closed="left")],
        "hidden_layer_sizes": [tuple, list],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "max_fit_time": [Interval(Real, 0, None, closed="neither"), None],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        base,
        log_weight,
        *,
        grad_log_weight=None,
        method="csm",
        n_train=20_000,
        n_paths=4000,
        n_steps=100,
        hidden_layer_sizes=(64, 64),
        max_epochs=60,
        max_fit_time=None,
        learning_rate=1e-2,
        random_state=None,
        verbose=0,
    ):
        self.base = base
        self.log_weight = log_weight
        self.grad_log_weight = grad_log_weight
        self.method = method
        self.n_train = n_train
        self.n_paths = n_paths
        self.n_steps = n_steps
        self.hidden_layer_sizes = hidden_layer_sizes
        self.max_epochs = max_epochs
        self.max_fit_time = max_fit_time
        self.learning_rate = learning_rate
        self.random_state = random_state
        self.verbose = verbose

    @whole_fit
    def fit(self, X=None, y=None):
        """Learn the correction, and estimate the normalising constant.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or None, default=None
            Samples of the base, not of the tilted density: for instance those to which the base was
            fitted. None draws ``n_train`` samples from the base.
        y : Ignored

        Returns
        -------
        self : TiltedSampler

        Raises
        ------
        NotFittedError
            If the base is not fitted.
        ValueError
            In any of these cases:

            - ``log_weight`` returns NaN, +inf or an array of the wrong shape.
            - ``log_weight`` is -inf at all samples.
            - ``method`` needs the gradient of ``log_weight``, and there is none.
            - The gradient disagrees with finite differences.
            - X and the base differ in the number of features.
        KeyboardInterrupt
            If the fit is interrupted. After an interrupt of the training, the estimator keeps what
            it has learned, and the normalising constant is still estimated.

        Warns
        -----
        UserWarning
            If training ended before the whole weight was reached, if fewer than five percent of
            the paths are effective, or if ``log_weight`` is slow because it loops over samples.
        """
        budget, random = Budget(self.max_fit_time), check_random_state(self.random_state)
        latent, base = self._latent_base()
        self.process_ = getattr(self._base(), "process_", None) or VP()
        rows = self._training_rows(X, base, latent, random)
        self.n_features_in_ = rows.shape[1]
        self.latent_map_ = latent.to_arrays()
        function = RowFunction(self.log_weight, self.grad_log_weight, "log_weight")
        function.check(tensor_of(latent.inverse(rows[:N_CHECKED_WEIGHTS])))
        on_paths = self.method in PATH_METHODS
        kernels = self._measured_kernels(base, rows, random)
        fit = TiltedFit(
            new_base=lambda: self._latent_base()[1],
            weight=LatentWeight(function, latent),
            network=self._network(random.randint(np.iinfo(np.int32).max)),
            settings=self._settings(),
            kernels=self._kernels(base, rows, TRAINED_STEPS, random) if on_paths else kernels,
            random=random,
            budget=budget,
            say=self._say,
            guided=self.method in GUIDED,
        )
        self.stages_, self.loss_curve_ = [1.0], []
        self.guided_ = fit.guided
        if on_paths:
            n_sets = SETS_PER_EPOCH * self.max_epochs
            self.loss_curve_ = fit.on_paths(self.method, n_sets, self.learning_rate)
            fit.kernels = kernels
        else:
            self.stages_ = fit.regress(self.method, rows)
        summary = fit.judged(self.n_paths)
        self.network_weights_: dict[str, np.ndarray] = arrays_of(fit.network.double())
        summary.store(self)
        if on_paths and not self.loss_curve_:
            warn(
                "max_fit_time was over before training began, so samples are those of the base. "
                "Raise max_fit_time.",
                UserWarning,
            )
        if self.stages_[-1] < 1 and not fit.interrupted:
            warn(
                f"Training ended with the weight raised to the power {self.stages_[-1]:.2g} only, "
                "so samples are not yet those of the tilted density. Raise max_fit_time or "
                "n_train.",
                UserWarning,
            )
        self.n_evaluations_ = function.n_evaluations
        if fit.interrupted:
            raise InterruptedFit("The fit was interrupted. The estimator keeps what it learned.")
        return self

    def sample_weighted(self, n_samples=1, random_state=None):
        """Draw samples with weights that correct the errors of the network.

        Parameters
        ----------
        n_samples : int, default=1
        random_state : int, RandomState or None, default=None
            The same integer gives the same samples.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            The samples that ``sample`` returns for the same integer ``random_state``.
        log_weights : ndarray of shape (n_samples,)
            Logarithms of the weights w, not normalised: the mean of w estimates Z. Means over the
            tilted density are means with the weights ``softmax(log_weights)``.
        """
        check_is_fitted(self)
        take_one_thread_where_forked()
        n = check_number_of_draws(n_samples, random_state)
        rows, log_weights = self._latent_density().weighted_sample(n, seed_from(random_state))
        return Chain.from_arrays(self.latent_map_).inverse(rows), log_weights

    def _branched_weights(self, n_samples, random_state, n_moments):
        """Log-weights of ``sample_weighted``, steps, and those of paths that branch off there."""
        check_is_fitted(self)
        take_one_thread_where_forked()
        n = check_number_of_draws(n_samples, random_state)
        return self._latent_density().branched_weights(n, seed_from(random_state), n_moments)

    def _require_level(self, what, noise_level=None):
        if noise_level and self.guided_:
            raise ValueError(
                f"The paths of method={self.method!r} do not pass noised samples of the tilted "
                f"density, so {what} was not learned. Use method='csm' or 'nsm'."
            )

    def _say(self, line):
        if self.verbose:
            print(f"TiltedSampler: {line}", flush=True)

    def _base(self):
        return self.base.estimator if isinstance(self.base, FrozenEstimator) else self.base

    def _latent_base(self) -> tuple[Chain, LatentDensity]:
        """The base's transform, and its density behind it; a mixture's own is a whitening."""
        base = self._base()
        check_is_fitted(base)
        if isinstance(base, TiltedSampler) and base.guided_:
            raise ValueError(
                f"The base was fitted with method={base.method!r}, whose paths do not pass noised "
                "samples of its density, so the base has no scores of these. Fit the base with "
                "method='csm' or 'nsm', or add its log_weight to this one."
            )
        if not isinstance(base, GaussianMixture):
            return Chain.from_arrays(base.latent_map_), latent_density_of(base, CPU)
        whitening = whitening_of(base)
        within = transformed(base, whitening.mean, whitening.matrix)
        return Chain([whitening]), latent_density_of(within, CPU)

    def _training_rows(self, X, base, latent, random) -> np.ndarray:
        """Latent rows of the base."""
        if X is None:
            # Names that an earlier fit was given.
            if hasattr(self, "feature_names_in_"):
                del self.feature_names_in_
            few = self.method in PATH_METHODS
            n = min(self.n_train, N_KERNEL_ROWS) if few else self.n_train
            return base.sample(n, "ode", random.randint(np.iinfo(np.int32).max))
        X = rows_to_fit(self, X, copy=True)
        if X.shape[1] != base.n_features:
            raise ValueError(
                f"X has {X.shape[1]} features, and the base has {base.n_features}. Give samples of "
                "the base, or leave X out."
            )
        return latent.forward(X)[0]

    @torch.no_grad()
    def _kernels(self, base, rows, n_steps, random) -> list[StepKernel]:
        generator = torch_generator(random.randint(np.iinfo(np.int32).max))
        clean = tensor_of(rows[:N_KERNEL_ROWS])
        return kernels_of(base.model, clean, base.levels, n_steps, generator)

    def _measured_kernels(self, base, rows, random) -> list[StepKernel]:
        """The kernels of the base's chain, of which arrays are kept."""
        kernels = self._kernels(base, rows, self.n_steps, random)
        self.kernels_: dict[str, np.ndarray] = {
            name: torch.stack([getattr(kernel, name) for kernel in kernels]).numpy()
            for name in StepKernel._fields
        }
        return kernels

    def _kernel_tensors(self):
        parts = (tensor_of(self.kernels_[name]).unbind() for name in StepKernel._fields)
        return zip(*parts, strict=True)

    def _network(self, seed: int) -> ScoreNetwork:
        sizes = checked_layer_sizes(self.hidden_layer_sizes)
        return ScoreNetwork(self.n_features_in_, sizes, torch_generator(seed))

    def _settings(self) -> TrainingSettings:
        return TrainingSettings(
            max_epochs=self.max_epochs,
            batch_size=BATCH_SIZE,
            learning_rate=self.learning_rate,
            n_iter_no_change=self.max_epochs,
            weight_decay=WEIGHT_DECAY,
        )

    def _latent_density(self) -> TiltedDensity:
        latent, base = self._latent_base()
        network = self._network(0)
        network.load_state_dict(state_of(self.network_weights_))
        network = network.double().eval().requires_grad_(False)
        function = RowFunction(self.log_weight, self.grad_log_weight, "log_weight")
        return TiltedDensity.of(
            base,
            CorrectedScore(base.model, network),
            LatentWeight(function, latent),
            self.log_normalizer_,
            [StepKernel(*each) for each in self._kernel_tensors()],
            self.guided_,
        )


def whitening_of(mixture: GaussianMixture) -> Whitening:
    """What gives a mixture zero mean and unit covariance."""
    mean = mixture.weights_ @ mixture.means_
    away = mixture.means_ - mean
    covariance = np.einsum("k,kij->ij", mixture.weights_, full_covariances(mixture))
    covariance += (away * mixture.weights_[:, None]).T @ away
    values, axes = np.linalg.eigh(covariance)
    deviations = np.sqrt(values)
    log_determinant = np.asarray(-float(np.log(deviations).sum()))
    return Whitening(mean, axes / deviations, (axes * deviations).T, log_determinant)
