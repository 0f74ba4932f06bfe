"""The density estimator fitted by denoising score matching."""

from __future__ import annotations

import warnings
from numbers import Integral, Real

import numpy as np
from sklearn import config_context
from sklearn.base import _fit_context, clone
from sklearn.callback import CallbackSupportMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.frozen import FrozenEstimator
from sklearn.mixture import GaussianMixture
from sklearn.utils._param_validation import Interval, StrOptions

from .._core.likelihood.ode import SolverPlan
from .._core.losses.loss import ScoreLoss
from .._core.losses.registry import resolve_loss
from .._core.noise.level_sampling import LogisticLevels
from .._core.noise.processes import NoiseProcess, resolve_process
from .._evaluation.base import BaseDensity
from .._evaluation.builder import DensityBuilder
from .._evaluation.references import Reference
from .._random import seed_from
from .._search.budget import Budget
from .._search.correction import Correction, kept_if_interrupted
from .._search.epoch_tasks import EpochTasks
from .._search.selection import Options, select
from .._search.split import Table
from .._search.tuning import TUNING
from .._training import TrainingSettings, warn_if_interrupted
from .._transforms.autoregressive import AutoregressiveTransform
from .._validation import evaluation_device, resolve_device
from ._distillation import distil

MAX_EPOCHS, ENDLESS_EPOCHS = 150, 10**9
BATCH_SIZES, BATCHES_PER_PASS = (512, 2048), 8
# Share of max_fit_time for all that comes before a head, which is taught in the rest.
SCORE_SHARE = {"ode": 1.0, "identity": 1.0, "fast": 0.65}
# White rows noised to this level are Gaussian to about 1e-6 nats, where a solution may end.
GAUSSIAN_LOG_SNR = -12.0
# The fewer rows, the stronger the decay of the weights.
MAX_WEIGHT_DECAY, DECAYED_ROWS = 0.3, 1500
# Width and options of the network. A table with few rows a column is soon memorised: fewer
# units, none of them fast, and a fifth of them dropped at each step.
FEW_ROWS_PER_COLUMN = 150
SMALL_NETWORK = {"hidden_layer_sizes": (128, 128, 128), "sine_share": 0.0, "dropout": 0.2}
LARGE_NETWORK = {"hidden_layer_sizes": (128, 128, 128, 128), "sine_share": 0.5, "dropout": 0.0}


class DSMDensityEstimator(CallbackSupportMixin, BaseDensity):
    r"""Density estimation by denoising score matching over all noise levels.

    Each column passes a monotone map, the rows are whitened, and a network learns how the
    score of the noised rows differs from that of an exact reference,

    .. math:: \min_\theta \tfrac12 \int E \left| Z - \hat\epsilon_{ref}(X_\lambda)
        - c_\theta(X_\lambda, \lambda) \right|^2 d\lambda, \qquad X_\lambda = a X + \sqrt v Z,

    over log signal-to-noise ratios :math:`\lambda`. The log-density then follows from the
    probability-flow ODE with the exact divergence, or from the likelihood identity, and is
    given in the units of the input.

    Parameters
    ----------
    process : {"vp", "ve", "subvp", "pbm"} or NoiseProcess, default="vp"
        How rows turn into noise; a :class:`VP`, :class:`VE`, :class:`SubVP` or :class:`PBM`
        object to set its parameters. It sets the finest noise level, the scale of
        ``noise_level`` and what "simple" weights are; up to its scale and its clock a noised
        row is the same in all of them.
    loss : {"dsm", "ism", "ssm", "ssm_vr", "fd_ssm", "lcss", "bsm"} or ScoreLoss, default="dsm"
        The objective; a :class:`DSM`, :class:`ISM`, :class:`SSM`, :class:`FDSSM`,
        :class:`LCSS` or :class:`BSM` object to set its parameters. Whatever it is, held-out
        rows judge by the likelihood bound. With ``noise_level`` in it the score of that level
        alone is learned, and :meth:`stein_score` there is what the fit is good for.
    marginals : {"auto", "gaussianize", "standardize"} or None, default="auto"
        The transform of every column before the diffusion; its Jacobian enters the log-density
        exactly.

        - "gaussianize": the distribution function of a one-dimensional mixture, then the normal
          quantile function; a line where there are fewer than 40 rows.
        - "standardize": a line.
        - "auto": for each column the one that the Bayesian information criterion prefers, or lines
          for all where the held-out rows prefer these (with fewer than five rows a column,
          cross-validation does). A whitening follows, and where the held-out rows gain by it, a
          transform of the lengths of rows. Where ``reference`` is "auto" too, and there are two
          columns or more and 150 rows for each, an autoregressive flow is tried instead.
        - None: no transform.
    reference : {"auto", "gaussian", "gmm"}, fitted density or None, default="auto"
        What the network corrects.

        - "gaussian": a Gaussian.
        - "gmm": mixtures of several sizes, joined with the weights that the held-out rows prefer,
          or the one that BIC prefers where these are few.
        - "auto": the Gaussian, and the best mixture or flow where the network does not beat it.
          A mixture that no network corrects in the end is fitted with the held-out rows as well.
        - A fitted ``GaussianMixture``, in input units. ``marginals`` must be "standardize", None or
          "auto", which then means "standardize".
        - A fitted density estimator of this package, corrected behind its own transforms.
          ``marginals`` must be "auto".
        - None: the network gives the whole score. A Gaussian takes its place only where it could
          not be trained at all.

        Within a search or a cross-validation, whose clones forget their fit, put a
        :class:`~sklearn.frozen.FrozenEstimator` around a fitted density.
    hidden_layer_sizes : "auto" or tuple of int, default="auto"
        Width of each hidden layer. "auto": four layers of 128 units, or three for a table
        with few rows a column. Two layers have an exact divergence at the cost of one matrix
        product; deeper ones fit better, and their divergence costs a product a column.
    max_epochs : int or "auto", default="auto"
        Most passes over the rows; a pass has at least 32 batches, so small tables are
        passed over several times, with fresh noise, in one epoch. "auto": 150, or as many
        as ``max_fit_time`` allows where it is given.
    max_fit_time : float or None, default=None
        Seconds after which ``fit`` ends with the best weights so far. The steps of the
        optimiser fall to zero by then.
    batch_size : int or "auto", default="auto"
        Rows of a training step; each is noised twice, with opposite signs. "auto": about an
        eighth of the rows, from 512 to 2048.
    learning_rate : float, default=0.008
        Largest step of the optimiser, after a warm-up: AdamW, whose weight decay follows from
        the number of rows, and, with 500 rows to train on or more, Muon with steps five times as
        large for matrices between hidden layers.
    validation_fraction : float, default=0.1
        Share of the rows held out to choose the reference and the best weights.
    n_iter_no_change : int, default=15
        Epochs without a better held-out likelihood bound before training goes back to the
        best weights and ends, in a few epochs more, with ever smaller steps. Of a run that
        ``max_fit_time`` will end, at least a fifth of its epochs.
    likelihood : {"ode", "identity", "fast"}, default="ode"
        How ``score_samples`` turns scores into log-densities: the probability-flow ODE,
        normalised; the likelihood identity, which needs no derivative of the score,
        is a lower bound on average, and is not normalised exactly; or "fast", one pass
        of a network that ``fit`` teaches what the ODE gives, for scoring many rows. It has
        to be asked for at ``fit``, which then takes longer or, within ``max_fit_time``,
        leaves less of it to the score; its typical error is ``fast_error_``, and it is not
        normalised exactly.
    tolerance : float, default=1e-3
        Bound on the estimated error of the ODE, in nats per row.
    sampler : {"ode", "sde"}, default="ode"
        How ``sample`` turns noise into rows: the probability flow, whose law is the
        density of ``score_samples``, or the reverse diffusion.
    device : str, default="auto"
        "auto" is CUDA where there is one, else CPU; or a torch device. On CUDA the steps of
        training and of the ODE are recorded as graphs of kernels that are launched as one.
    compile : bool, default=False
        Whether torch compiles the network for training. Steps then take less time, and the first
        costs up to a minute, which is part of ``max_fit_time``; on a CPU it needs a C++ compiler,
        on CUDA triton. What is fitted differs by rounding. Not for "ism" and "ssm", which take
        derivatives of the network.
    random_state : int, RandomState or None, default=None
        Seed of the split, the weights, the noise and the order of the rows.
    verbose : int, default=0
        1 prints a line every ten epochs, 2 every second or third, 4 each.

    Attributes
    ----------
    weights_ : dict of str to ndarray
        The network; empty where the reference alone is the model.
    reference_ : GaussianMixture or density estimator
        What the network corrects; a mixture is in the latent space.
    latent_map_ : dict of str to ndarray
        The transforms to the latent space: those of the columns ("0.marginal.location" and so
        on), the whitening ("1.whitening.matrix") and, where there is one, a third, radial
        ("2.radial.scales") or autoregressive; and the "version" of this format.
    process_ : NoiseProcess
    network_ : dict
        Layer sizes and the other options of the network.
    solver_ : dict
        How finely the ODE is solved: "n_steps" to begin with and the "error_growth" by which
        local errors are read, both chosen on held-out rows for "tolerance".
    head_ : dict of str to ndarray, or None
        What "fast" evaluates; empty where it was not asked for, or the reference alone is
        the model. None where ``fit`` was interrupted before: then "fast" is "ode".
    fast_error_ : float or None
        Root mean square of the difference between "fast" and "ode" on held-out rows, in nats;
        None where "fast" was not asked for, NaN where a single row was held out.
    n_epochs_ : int
    loss_curve_ : list of float
        Training loss of each epoch: minus the gain in the likelihood bound, nats per row.
    validation_scores_ : list of float
        Likelihood bound of the held-out rows after each epoch, nats per row, input units; of
        a fit of one level, how much nearer to the noise the network is than the reference.
    learned_level_ : float or None
        The process time whose score was learned; None where all were.
    stop_reason_ : str
        "max_epochs", "no_change", "max_fit_time", "interrupted", "callback", "too_few_rows" or
        "pruned": less was to be expected of the network than of the best density without one.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features,)
        Where the columns of X had names.

    Notes
    -----
    Rows are trained on in float32 and evaluated in float64, in chunks that bound memory.
    The process's own scaled space, to which ``noise_level`` refers, is the latent space:
    columns mapped, rows centred and whitened, perhaps mapped once more.

    Rows that occur more than once may be both trained on and held out, as new rows of such a
    table may repeat old ones. Of copies that are none of the data's doing, as those of a
    bootstrap, give one with a ``sample_weight``: held-out copies reward memorising.

    References
    ----------
    [Vincent2011]_, [ScoreSDE]_, [ScoreFlow]_, [DDPMLearning]_, [Muon]_, [MAF]_,
    [StackedDensity]_

    Examples
    --------
    >>> from sklearn_dsm import DSMDensityEstimator
    >>> from sklearn_dsm.datasets import load_sachs
    >>> X = load_sachs().data
    >>> density = DSMDensityEstimator(max_epochs=5, random_state=0).fit(X)
    >>> density.score_samples(X[:100]).shape
    (100,)
    >>> density.sample(3, random_state=0).shape
    (3, 11)
    """

    _parameter_constraints = {
        "process": [str, NoiseProcess],
        "loss": [str, ScoreLoss],
        "marginals": [StrOptions({"auto", "gaussianize", "standardize"}), None],
        "reference": [
            StrOptions({"auto", "gaussian", "gmm"}),
            GaussianMixture,
            BaseDensity,
            FrozenEstimator,
            None,
        ],
        "hidden_layer_sizes": [StrOptions({"auto"}), tuple, list],
        "max_epochs": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "max_fit_time": [Interval(Real, 0, None, closed="neither"), None],
        "batch_size": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "likelihood": [StrOptions({"ode", "identity", "fast"})],
        "tolerance": [Interval(Real, 0, None, closed="neither")],
        "sampler": [StrOptions({"ode", "sde"})],
        "device": [str],
        "compile": ["boolean"],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        process="vp",
        *,
        loss="dsm",
        marginals="auto",
        reference="auto",
        hidden_layer_sizes="auto",
        max_epochs="auto",
        max_fit_time=None,
        batch_size="auto",
        learning_rate=8e-3,
        validation_fraction=0.1,
        n_iter_no_change=15,
        likelihood="ode",
        tolerance=1e-3,
        sampler="ode",
        device="auto",
        compile=False,
        random_state=None,
        verbose=0,
    ):
        self.process = process
        self.loss = loss
        self.marginals = marginals
        self.reference = reference
        self.hidden_layer_sizes = hidden_layer_sizes
        self.max_epochs = max_epochs
        self.max_fit_time = max_fit_time
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.likelihood = likelihood
        self.tolerance = tolerance
        self.sampler = sampler
        self.device = device
        self.compile = compile
        self.random_state = random_state
        self.verbose = verbose

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, sample_weight=None):
        """Fit the maps, the reference and the correction.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            At least two rows; every column must vary.
        y : Ignored
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights. A row of weight zero is as good as absent; otherwise
            weights enter every mean, but the held-out rows are drawn regardless of them.

        Returns
        -------
        self : DSMDensityEstimator

        Raises
        ------
        ValueError
            Where X holds NaN, infinity, text or a constant column, or an option is unknown.
        NonFiniteLossError
            Where training diverges.
        RuntimeError
            Where ``compile`` is true and torch finds no compiler.
        """
        whole_budget = Budget(self.max_fit_time)
        budget = whole_budget.first(SCORE_SHARE[self.likelihood])
        X, weight = self._rows_and_weight(X, sample_weight)
        weight = weight / weight.mean()
        loss, device = resolve_loss(self.loss), resolve_device(self.device)
        self.process_ = clone(resolve_process(self.process))
        self._check_combination(loss)
        self.learned_level_ = loss.noise_level
        random = np.random.RandomState(seed_from(self.random_state))
        table = Table(X, weight, self._held_out(len(X), random))
        options = Options(
            self._reference_option(), self._resolved_marginals(), self._resolved_epochs()
        )
        self.network_ = self._network_options(loss, *X.shape)
        self.solver_ = self._solver_state(SolverPlan())
        builder, epochs = self._builder(), EpochTasks(self, X, weight)
        correction = Correction(
            builder=builder,
            loss=loss,
            levels=loss.levels(self.process_, builder.levels),
            settings=self._training_settings(int((~table.held_out).sum()), device),
            likelihood=self._likelihood_of_fit(),
            budget=budget,
            random_state=random,
            epochs=epochs,
        )
        # The mixtures are fitted on numpy arrays whatever X was.
        with config_context(array_api_dispatch=False):
            best = select(table, options, correction, budget, random)
            self._keep(best, whole_budget, random)
        epochs.finish()
        return self

    def _sampler(self):
        return self.sampler

    def _check_combination(self, loss):
        """Refuse options that mean nothing together."""
        if self.compile and loss.differentiates:
            raise ValueError(
                f"compile=True compiles calls of the network, and {loss!r} takes its derivatives: "
                "use compile=False, or another loss."
            )
        level = loss.noise_level
        if level is None:
            return
        fault = None
        if self.likelihood == "fast":
            fault = "likelihood='fast' learns log-densities, which need the scores of all levels"
        elif self.reference == "gmm":
            fault = "reference='gmm' is chosen by log-densities, which need all levels"
        if fault:
            raise ValueError(
                f"{loss!r} learns the score of one level, and {fault}. Use noise_level=None, or "
                "likelihood='ode' with reference 'auto', 'gaussian', None or a fitted mixture."
            )

    def _require_level(self, what, noise_level=None):
        level = self.learned_level_
        if level is None or level == noise_level:
            return
        raise ValueError(
            f"This fit learned the score at noise_level={level:g} only, and {what} "
            f"{'is another' if noise_level is not None else 'need all levels'}: fit with "
            f"noise_level=None in loss, or ask stein_score(X, noise_level={level:g})."
        )

    def _noise_at(self, noise_level):
        if self.learned_level_ is None:
            return super()._noise_at(noise_level)
        return self.process_.trained_level(noise_level)

    def _reference_option(self):
        """What to correct; a mixture is sought by log-densities, which one level has not."""
        alone = self.reference == "auto" and self.learned_level_ is not None
        return "gaussian" if alone else self._given_reference()

    def _given_reference(self):
        """The parameter, a fitted density out of its frozen wrapper."""
        if not isinstance(self.reference, FrozenEstimator):
            return self.reference
        density = self.reference.estimator
        if not isinstance(density, Reference):
            raise ValueError(
                "A frozen reference must be a GaussianMixture or a density estimator of "
                f"sklearn_dsm, got {density!r}: its score at every noise level has to be known."
            )
        return density

    def _warn_of_missed(self, n_missed, n):
        warnings.warn(
            f"{n_missed} of {n} log-densities missed the tolerance of "
            f"{self.tolerance:g} nats with the finest steps: the learned score is rough "
            "there. Raise tolerance, or use likelihood='identity'.",
            ConvergenceWarning,
            stacklevel=3,
        )

    def _held_out(self, n, random):
        """Mask of the rows that choose the reference and the weights."""
        n_held_out = min(max(1, round(self.validation_fraction * n)), n - 1)
        held_out = np.zeros(n, dtype=bool)
        held_out[random.permutation(n)[:n_held_out]] = True
        return held_out

    def _resolved_marginals(self):
        reference = self._given_reference()
        if isinstance(reference, BaseDensity) and self.marginals != "auto":
            raise ValueError(
                f"marginals={self.marginals!r} has no effect with a fitted "
                f"{type(reference).__name__} as reference, which brings its own transforms; use "
                "marginals='auto'."
            )
        if not isinstance(reference, GaussianMixture):
            return self.marginals
        if self.marginals == "gaussianize":
            raise ValueError(
                "A fitted GaussianMixture as reference is in input units and has no closed form "
                "behind marginals='gaussianize'; use marginals='standardize' or 'auto', or "
                "reference='gmm', which is fitted behind the maps."
            )
        return "standardize" if self.marginals == "auto" else self.marginals

    def _resolved_epochs(self):
        if self.max_epochs != "auto":
            return self.max_epochs
        return MAX_EPOCHS if self.max_fit_time is None else ENDLESS_EPOCHS

    def _resolved_batch_size(self, n):
        if self.batch_size != "auto":
            return self.batch_size
        smallest, largest = BATCH_SIZES
        return int(np.clip(2 ** round(np.log2(n / BATCHES_PER_PASS)), smallest, largest))

    def _network_options(self, loss, n, d):
        """Layers, sine units and dropout by the table's shape; given layers are taken as given."""
        whole = {"whole": self.reference is None}
        sizes = self.hidden_layer_sizes
        if sizes == "auto":
            options = SMALL_NETWORK if n < FEW_ROWS_PER_COLUMN * d else LARGE_NETWORK
            return whole | options | ({} if loss.dropout else {"dropout": 0.0})
        if not sizes or not all(isinstance(size, Integral) and int(size) > 0 for size in sizes):
            raise ValueError(
                f"hidden_layer_sizes={sizes!r} must be 'auto' or a tuple of positive integers."
            )
        return whole | {"hidden_layer_sizes": tuple(int(size) for size in sizes)}

    def _training_settings(self, n_train, device):
        """How networks are trained; the time and what it has to reach come with each."""
        return TrainingSettings(
            max_epochs=self._resolved_epochs(),
            batch_size=self._resolved_batch_size(n_train),
            learning_rate=self.learning_rate,
            n_iter_no_change=self.n_iter_no_change,
            weight_decay=min(MAX_WEIGHT_DECAY, DECAYED_ROWS / n_train),
            device=str(device),
            compile=self.compile,
            verbose=self.verbose,
        )

    def _likelihood_of_fit(self):
        """What candidates are compared by; a head learns only the best one."""
        return "ode" if self.likelihood == "fast" else self.likelihood

    def _keep(self, candidate, budget, random):
        """Store the best candidate, and say so where it has no network."""
        record, base, split = candidate.record, candidate.base, candidate.base.split
        self.weights_: dict[str, np.ndarray] = candidate.weights
        latent, self.reference_ = split.latent, base.reference
        if not self.weights_:
            # Without the held-out rows they stay as they are.
            with kept_if_interrupted([candidate]):
                latent, self.reference_ = base.without_network(budget)
        self.latent_map_ = latent.to_arrays()
        self.solver_ = self._solver_state(candidate.plan)
        self.n_epochs_, self.stop_reason_ = record.n_epochs, record.stop_reason
        self.loss_curve_ = record.loss_curve
        self.validation_scores_ = [candidate.base_value + gain for gain in record.gains]
        self.head_: dict[str, np.ndarray] | None = {}
        self.fast_error_ = 0.0 if self.likelihood == "fast" else None
        if self.likelihood == "fast" and self.weights_:
            self._teach_head(record, split, budget, seed_from(random))
        if not self.weights_ and not split.latent.has(AutoregressiveTransform):
            reason = {
                "too_few_rows": f"there are fewer than {TUNING.min_train_rows} rows to train on",
                "max_fit_time": "max_fit_time was too short for a gain",
                "interrupted": "the fit was interrupted before a gain",
                "callback": "a callback ended the fit before a gain",
            }.get(record.stop_reason, "no network was better on the held-out rows")
            warnings.warn(
                f"The fitted density is its reference alone, a {self._name_of_reference()}: "
                f"{reason}.",
                ConvergenceWarning,
                stacklevel=3,
            )

    def _name_of_reference(self):
        if not isinstance(self.reference_, GaussianMixture):
            return type(self.reference_).__name__
        return f"Gaussian mixture of {len(self.reference_.weights_)} behind the column maps"

    def _teach_head(self, record, split, budget, seed):
        """Have a head learn the density; after an interrupt the ODE stands in for one."""
        self.head_ = None
        if record.stop_reason == "interrupted":
            return
        density = self._latent_density(likelihood="ode")
        network, epochs = density.model.network, self._resolved_epochs()
        try:
            self.head_, self.fast_error_ = distil(density, network, split, budget, epochs, seed)
        except KeyboardInterrupt:
            self.stop_reason_ = record.stop_reason = "interrupted"
            warn_if_interrupted(record)

    def _builder(self):
        """Builds densities of mixtures and weights, on the device there is."""
        return DensityBuilder(
            n_features=self.n_features_in_,
            network=self.network_,
            levels=LogisticLevels(GAUSSIAN_LOG_SNR, self.process_.log_snr_range[1]),
            tolerance=self.tolerance,
            device=evaluation_device(self.device),
        )

    def _latent_density(self, likelihood=None):
        """The fitted density behind the maps."""
        likelihood = likelihood or self.likelihood
        if likelihood == "fast" and self.head_ is None:
            likelihood = "ode"
        return self._builder().density(
            self.reference_, self.weights_, likelihood, self._solver_plan(), self.head_
        )

    def _solver_state(self, plan):
        return plan._asdict() | {"tolerance": self.tolerance}

    def _solver_plan(self):
        """The fitted plan of the ODE, made finer where the tolerance was lowered since."""
        plan = SolverPlan(self.solver_["n_steps"], self.solver_["error_growth"])
        return plan.for_tolerance(self.tolerance, self.solver_["tolerance"])
