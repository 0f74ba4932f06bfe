"""The density estimator fitted by denoising score matching."""

from __future__ import annotations

import os
from dataclasses import replace
from numbers import Integral, Real

import joblib
import numpy as np
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.frozen import FrozenEstimator
from sklearn.mixture import GaussianMixture
from sklearn.utils.validation import check_is_fitted

from .._budget import Budget
from .._checkpoint import Checkpoint
from .._columns import warn_of_degenerate_columns
from .._compat import CallbackSupportMixin, Interval, StrOptions
from .._core.likelihood.ode import SolverPlan
from .._core.losses.loss import ScoreLoss
from .._core.losses.registry import resolve_loss
from .._core.noise.level_sampling import LogisticLevels
from .._core.noise.processes import NoiseProcess, resolve_process
from .._evaluation.base import BaseDensity
from .._evaluation.builder import DensityBuilder
from .._evaluation.references import Reference
from .._fit import InterruptedFit, whole_fit
from .._random import seed_from
from .._search.base_densities import gaussian
from .._search.correction import Correction, kept_if_interrupted
from .._search.epoch_tasks import EpochTasks
from .._search.progress import Progress
from .._search.selection import Options, continued, select
from .._search.split import Table
from .._search.stream import stream_of
from .._search.tuning import TUNING
from .._summary import SummaryMixin, in_nats
from .._training import NonFiniteLossError, TrainingSettings
from .._training.processes import processes_of
from .._transforms.autoregressive import AutoregressiveTransform
from .._transforms.chain import Chain
from .._validation import checked_layer_sizes, evaluation_device
from .._version import __version__
from .._warn import warn
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


class DSMDensityEstimator(SummaryMixin, CallbackSupportMixin, BaseDensity):
    r"""Density estimation by denoising score matching over all noise levels.

    Monotone transforms of the features and a whitening map each sample to :math:`X_0` in a latent
    space, where Gaussian noise Z is added. A reference distribution with known scores predicts a
    part of the noise, and a network :math:`c_\theta` learns the rest:

    .. math:: \min_\theta \tfrac12 \int E \left| Z - \hat\epsilon_{ref}(X_\lambda)
        - c_\theta(X_\lambda, \lambda) \right|^2 d\lambda, \qquad X_\lambda = a X_0 + \sqrt v Z.

    At each noise level, a is the factor of the signal, v the variance of the noise,
    :math:`\lambda = \log(a^2 / v)` the log signal-to-noise ratio, and :math:`\hat\epsilon_{ref}`
    the prediction of the reference. The sum of both predictions, divided by :math:`-\sqrt v`, is
    the Stein score: the gradient of the log-density of the noised samples. The log-density of the
    data, in the units of the input, follows from the scores of all levels; see ``likelihood``.

    Parameters
    ----------
    process : {"vp", "ve", "subvp", "pbm"} or NoiseProcess, default="vp"
        The process that adds the noise. Up to a scaling and a change of time, all processes add
        the same noise. The process sets the finest noise level, the meaning of ``noise_level`` in
        :meth:`stein_score` and in the loss objects, and that of ``weighting="simple"`` in the
        loss objects. ``noise_level`` is a process time in [0, 1], from 0, the data, to 1, the end
        of the process.

        - "vp": the squared factors of signal and noise add up to one. The usual choice.
        - "ve": noise is added to samples that keep their scale. A :class:`VE` object sets the
          smallest and the largest noise scale, in units of the whitened features.
        - "subvp": shrinks the samples as "vp" does, adds less noise, and reaches finer levels.
          For finer details.
        - "pbm": a pinned Brownian motion, whose paths all meet in one point at time 1. For work
          with the Stein scores of this process.
        - A :class:`VP`, :class:`VE`, :class:`SubVP` or :class:`PBM` object sets the parameters.
    loss : {"dsm", "ism", "ssm", "ssm_vr", "fd_ssm", "lcss", "bsm"} or ScoreLoss, default="dsm"
        The training objective. Unless the loss is restricted to one noise level, the evidence
        lower bound (ELBO) of the validation set chooses the network weights that are kept.

        - "dsm": denoising score matching. The usual choice.
        - "ism": implicit score matching with the exact trace of the Jacobian. For few features,
          or two hidden layers.
        - "ssm": sliced score matching, with the trace along one random direction. For many
          features.
        - "ssm_vr": "ssm" with less variance.
        - "fd_ssm": "ssm" by finite differences. For training without derivatives of the network
          with respect to its input.
        - "lcss": local curvature smoothing, which estimates the trace by small random
          perturbations of the samples. Needs no derivatives with respect to the input either.
        - "bsm": denoising with targets from the network at a cleaner level. For less variance.
        - A :class:`DSM`, :class:`ISM`, :class:`SSM`, :class:`FDSSM`, :class:`LCSS` or
          :class:`BSM` object sets the parameters. If such an object has a ``noise_level``, the
          network learns the score of that level alone, for :meth:`stein_score` at that level.
    marginals : {"auto", "gaussianize", "standardize"} or None, default="auto"
        The marginal transform of each feature, whose Jacobian enters the log-density exactly. A
        whitening follows.

        - "gaussianize": the distribution function of a one-dimensional Gaussian mixture, then
          the normal quantile function. For skewed, heavy-tailed or multimodal features. With
          fewer than 40 samples the transform is linear.
        - "standardize": a linear transform. For data with clusters that curved transforms of
          single features would blur.
        - "auto": for each feature, the one of these two that the Bayesian information criterion
          (BIC) prefers. If linear transforms of all features give a higher log-likelihood on the
          validation set, these are used. With fewer than five samples per feature,
          cross-validation decides this instead of the validation set. Radial Gaussianization, a
          transform of the Euclidean norms of the whitened samples to those of normal samples,
          follows if it raises the log-likelihood of the validation set.
        - None: no marginal transform. The whitening still scales the features, so the result is
          close to that of "standardize".
    reference : {"auto", "gaussian", "gmm"}, fitted density or None, default="auto"
        The reference (base) distribution, which the network corrects.

        - "gaussian": a Gaussian. The fastest fit.
        - "gmm": a Gaussian mixture. For clustered data. With at least 200 validation samples, the
          reference is a weighted average of mixtures with different numbers of components, whose
          weights maximise the log-likelihood of the validation set. With fewer validation
          samples, the reference is the single mixture with the best BIC.
        - "auto": a first network corrects a Gaussian. Gaussian mixtures are fitted as well, and
          an autoregressive flow if ``marginals`` is "auto" and there are at least two features
          and 150 training samples for each. If the best mixture or flow has a higher
          log-likelihood on the validation set than the first result, a second network corrects
          this mixture or flow. The best result is selected.
        - A fitted ``GaussianMixture`` of scikit-learn, in input units. For a mixture of your own.
          ``marginals`` must be "standardize", None or "auto", which then means "standardize".
        - A fitted density estimator of this package, which keeps its own transforms. For a
          density learned on another dataset. ``marginals`` must be "auto".
        - None: no reference, the network learns the score itself. For comparison with the usual
          diffusion model. If there are fewer than 10 training samples or ``max_fit_time`` leaves
          no time for a network, the model is a Gaussian.

        If no network improves a mixture from "auto" or "gmm", the mixture alone is the model,
        refitted on training and validation samples. A search or a cross-validation clones the
        estimator, and a clone of a fitted density is not fitted: wrap a fitted density in a
        :class:`~sklearn.frozen.FrozenEstimator` there.
    hidden_layer_sizes : "auto" or tuple of int, default="auto"
        Width of each hidden layer. "auto": four layers of 128 units, or three if there are fewer
        than 150 samples per feature. With two layers the exact divergence costs one matrix
        product. Deeper networks fit better, but their divergence costs a product per feature.
    max_epochs : int or "auto", default="auto"
        Largest number of epochs. An epoch has at least 32 batches, so it passes over a small
        training set several times, with fresh noise. "auto": 150 without ``max_fit_time``, and
        no limit with it.
    max_fit_time : float or None, default=None
        Seconds after which ``fit`` ends with the best weights so far. The learning rate falls to
        zero by then. The result depends on the speed of the machine. For a reproducible fit,
        leave ``max_fit_time`` at None and set ``random_state`` to an integer.
    batch_size : int or "auto", default="auto"
        Samples per training step. Each sample is noised twice, with opposite signs. A batch
        larger than the training set holds samples several times. "auto": the power of two
        nearest to an eighth of the training set, and at least 512 and at most 2048.
    learning_rate : float, default=0.008
        Learning rate after the warm-up, which then falls to zero. The optimiser is AdamW, with a
        weight decay that follows from the number of samples. With 500 training samples or more,
        the matrices between hidden layers take steps of the optimiser Muon, along the orthogonal
        matrix nearest to the mean gradient, at five times the rate.
    validation_fraction : float, default=0.1
        Share of the samples in the validation set, which chooses reference and weights.
    n_iter_no_change : int, default=15
        Number of epochs without a higher ELBO of the validation set after which training goes
        back to the best weights. Training then ends after a few more epochs, with ever smaller
        steps. If ``max_fit_time`` will end the run, the number is at least a fifth of the epochs
        for which there is time.
    likelihood : {"ode", "identity", "fast"}, default="ode"
        How ``score_samples`` computes log-densities from scores.

        - "ode": by the probability-flow ODE with the exact divergence. The density is
          normalised. For the comparison of models, and wherever the value itself matters.
        - "identity": by the likelihood identity, an integral over all noise levels of squared
          errors in predicting the added noise. On average over samples of the true distribution,
          the values are lower bounds of the true log-density. The density is not exactly
          normalised. For a score that varies so strongly over short distances that the ODE
          misses its tolerance.
        - "fast": by an amortised log-density, an additional network that learns the result of
          the ODE during ``fit``. For scoring many samples. The density is not exactly normalised,
          and the typical error is ``fast_error_``. Set "fast" before ``fit``, which then takes
          longer. If ``max_fit_time`` is given, less of that time is left to learn the score.
    tolerance : float, default=1e-3
        Bound on the estimated error of the ODE, in nats per sample.
    sampler : {"ode", "sde"}, default="ode"
        How ``sample`` turns noise into samples.

        - "ode": the probability flow. For samples from the density that ``score_samples``
          computes with ``likelihood="ode"``.
        - "sde": the reverse diffusion. Fresh noise at every step corrects the effects of errors
          at previous steps. The sampler takes more steps, and the distribution of the samples
          differs slightly from the density.
    device : str, default="auto"
        "auto" is CUDA if available, else CPU. "accelerate" is the device that the package
        accelerate gives to a process; the processes that ``accelerate launch`` has started then
        train each network together (see the guide). Otherwise the name of a torch device, for
        instance "cpu" or "cuda:1".
    compile : bool, default=False
        Whether torch compiles the network for training. Steps then take less time, but the first
        one takes ten to eighty seconds, which count towards ``max_fit_time``. Compiling needs a C++
        compiler on a CPU and triton on CUDA. The result differs by rounding from that without
        compiling. With "ism", "ssm" and "ssm_vr", which take derivatives of the network,
        compiling raises an error.
    half_precision : bool, default=True
        Whether training and "fast" scoring multiply in bfloat16 if the processor or GPU does so
        faster. Machines with fast bfloat16 and machines without give results that differ by
        rounding.
    warm_start : bool, default=False
        Whether ``fit`` continues from the earlier fit of this estimator, if there is one. The
        transforms and the reference distribution of that fit are kept, so ``marginals`` and
        ``reference`` have no effect. The training begins with its network, and with the full
        learning rate. If no network was selected, a new one is trained. The best network is
        selected as always, and may be the one of the earlier fit. ``process``, the hidden layers,
        and the noise level of the loss must be the same as before. With the same samples, set
        ``random_state`` to the same integer: another one moves training samples to the validation
        set.
    samples_in_memory : int or None, default=None
        Number of samples that ``fit`` holds in memory at a time. None: all. For tables larger than
        memory, see :doc:`/scaling`. With fewer than there are samples:

        - ``fit`` draws so many random samples. The transforms and the base distributions are
          fitted to these, and ``validation_fraction`` of them are the validation set.
        - Every epoch trains the network on so many other samples, read from random places of the
          whole table, at most 256 consecutive samples from each.
        - An X that is mapped from a file is read where it is. The result is the same for the same
          samples in memory.
    checkpoint : str, path-like or None, default=None
        A file in which ``fit`` stores how far it is. If the fit is killed, the next ``fit`` with
        the same parameters and the same samples resumes it. A fit that ends deletes the file. Two
        fits at a time need two files. Needs the package safetensors. See
        :doc:`/persistence`.
    checkpoint_interval : float, default=60.0
        Seconds between two times of writing the checkpoint. It is written at ends of epochs.
    random_state : int, RandomState or None, default=None
        Seed of the split into training and validation set, the initial network weights, the noise
        and the order of the samples. None draws from NumPy's global generator. The same integer
        gives the same fit on one machine if ``max_fit_time`` is None.
    verbose : int, default=0
        1 prints a line at every stage of the fit and every ten epochs, 2 every second epoch, and
        3 or more every epoch.

    Attributes
    ----------
    network_weights_ : dict of str to ndarray
        Weights of the network; empty if the reference alone is the model.
    reference_ : GaussianMixture or density estimator
        The reference distribution. A mixture is in the latent space. An autoregressive flow is a
        transform in ``latent_map_``, and ``reference_`` is then a Gaussian.
    latent_map_ : dict of str to ndarray
        The transforms from the input to the latent space: the marginal transforms
        ("0.marginal.location" and so on), the whitening ("1.whitening.matrix") and, if there is
        one, a radial ("2.radial.scales") or autoregressive transform. "version" is the version
        of the layout of this dictionary.
    process_ : NoiseProcess
    network_ : dict
        Layer sizes and the other options of the network.
    solver_ : dict
        Settings of the ODE solver, which ``fit`` chooses on validation samples: "n_steps", the
        initial number of steps, and "error_growth", the factor that turns the error of the steps
        into the estimated error of a log-density. "tolerance" is ``tolerance`` during ``fit``.
    head_ : dict of str to ndarray, or None
        Weights of the additional network of "fast". Empty if ``fit`` was without "fast", or if the
        reference alone is the model. None if an interrupt left no time to train this network;
        "fast" then uses the ODE.
    fast_error_ : float or None
        Root mean square of the difference between "fast" and "ode" on the validation set, in
        nats.

        - None: ``fit`` was without "fast".
        - 0: the reference alone is the model, or "fast" uses the ODE after an interrupt.
        - NaN: the validation set is a single sample.
    selected_ : str
        The selected model, for instance "Gaussian mixture of 12 components" or "Gaussian
        corrected by a network".
    n_epochs_ : int
        Number of epochs of the selected network. If no network was selected, ``n_epochs_``,
        ``loss_curve_`` and ``validation_scores_`` are those of a network that was not kept. With
        ``warm_start``, all three begin with those of the fits that were continued.
    loss_curve_ : list of float
        Training loss of each epoch. With all noise levels and the default ``weighting``, the loss
        is minus the gain in ELBO over the reference, in nats per sample.
    validation_scores_ : list of float
        ELBO of the validation set after each epoch, nats per sample, input units. If only one
        level is learned: half the amount by which the network reduces the mean squared error of
        the reference's score.
    validation_log_likelihood_ : dict of str to float
        Mean log-likelihoods of the validation set, nats per sample, input units. Empty if only one
        level is learned.

        - "normal": a multivariate normal distribution of the features as they are.
        - "reference": the reference distribution that the network of ``validation_scores_``
          corrects.
        - "selected": the selected model. If it has no network, the value before the refit on
          training and validation samples.
    fit_time_ : float
        Seconds that the fit took.
    learned_level_ : float or None
        The process time whose score was learned; None if all levels were.
    stop_reason_ : str
        Why training ended: "max_epochs", "no_change", "max_fit_time", "interrupted", "callback"
        (a callback from ``set_callbacks`` ended training), "too_few_rows" (too few training
        samples) or "pruned" (the network was not expected to reach the log-likelihood of a
        density without a network).
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features; only if X had names.

    Notes
    -----
    The latent space is the space of the transformed and whitened samples. The noise is added in
    the latent space. Apart from products in bfloat16 (see ``half_precision``), training is in
    float32, and evaluation in float64, in chunks that bound memory. If ``tolerance`` is at least
    1e-4, as by default, a network that corrects a reference and the network of "fast" are
    evaluated in float32.

    If a sample occurs more than once, its copies may be in both the training set and the
    validation set. Such copies do no harm if new data may repeat old samples in the same way.
    Copies from a bootstrap, however, would reward a network that memorises samples: pass the
    number of copies as ``sample_weight`` instead.

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
        "half_precision": ["boolean"],
        "warm_start": ["boolean"],
        "samples_in_memory": [Interval(Integral, 10, None, closed="left"), None],
        "checkpoint": [str, os.PathLike, None],
        "checkpoint_interval": [Interval(Real, 0, None, closed="left")],
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
        half_precision=True,
        warm_start=False,
        samples_in_memory=None,
        checkpoint=None,
        checkpoint_interval=60.0,
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
        self.half_precision = half_precision
        self.warm_start = warm_start
        self.samples_in_memory = samples_in_memory
        self.checkpoint = checkpoint
        self.checkpoint_interval = checkpoint_interval
        self.random_state = random_state
        self.verbose = verbose

    @whole_fit
    def fit(self, X, y=None, sample_weight=None):
        """Fit the transforms, the reference distribution and the network.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            At least two samples; every feature must vary.
        y : Ignored
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights, of which only the ratios matter. They enter the fit of the
            transforms and of the mixtures, the loss, and the mean log-likelihood of the
            validation set. A sample of weight zero is ignored. The split into training and
            validation set does not depend on the weights.

        Returns
        -------
        self : DSMDensityEstimator

        Raises
        ------
        ValueError
            In any of these cases:

            - X holds NaN, infinity, text or a constant feature.
            - An option is unknown, or two options exclude each other.
            - ``warm_start`` is true, and the earlier fit had other features, another process,
              other hidden layers, or another noise level of the loss.
            - The file ``checkpoint`` is of a fit with other parameters or other samples, or cannot
              be read.
        NonFiniteLossError
            If training diverges.
        TypeError
            If ``samples_in_memory`` is given, and X is a dask collection.
        KeyboardInterrupt
            In every case if the fit is interrupted. If the training of a network has begun, the
            estimator keeps the best density so far and is fitted. Otherwise, as after an error,
            the estimator is as it was before the call.
        OSError
            If the file ``checkpoint`` cannot be written when the fit begins.
        ImportError
            If ``checkpoint`` is given, and safetensors is not installed; or if ``device`` is
            "accelerate", and accelerate is not installed.
        RuntimeError
            If ``compile`` is true and torch finds no compiler.
        """
        processes, device = processes_of(self.device)
        if not processes.is_first:
            for name, value in processes.help().items():
                setattr(self, name, value)
            return self
        with processes.telling_result(
            lambda: {k: v for k, v in vars(self).items() if k[-1] == "_"}
        ):
            return self._fit_here(X, sample_weight, device, processes)

    def _fit_here(self, X, sample_weight, device, processes):
        """Fit in the first process, where there are several."""
        whole_budget = Budget(self.max_fit_time)
        earlier = self._earlier_fit()
        budget = whole_budget.first(SCORE_SHARE[self.likelihood])
        stream = stream_of(self, X, sample_weight, self.samples_in_memory)
        if stream is None:
            X, weight = self._rows_and_weight(X, sample_weight)
            weight = weight / weight.mean()
        else:
            X, weight = stream.X, stream.weight
        loss = resolve_loss(self.loss)
        self.process_ = clone(resolve_process(self.process))
        self._check_combination(loss)
        self.learned_level_ = loss.noise_level
        progress = Progress(self.verbose)
        checkpoint = Checkpoint(self.checkpoint, self.checkpoint_interval, progress)
        identity = {} if self.checkpoint is None else self._identity(X, weight, device, earlier)
        seed = checkpoint.begin(identity, seed_from(self.random_state), whole_budget)
        random = np.random.RandomState(seed)
        n_samples, d = len(X) if stream is None else stream.n_used, self.n_features_in_
        if stream is not None:
            X, weight = stream.keep(random)
        warn_of_degenerate_columns(X, getattr(self, "feature_names_in_", None))
        table = Table(X, weight, self._held_out(len(X), random), seed_from(random))
        if stream is not None:
            stream.leave_out(table.held_out)
        options = Options(
            self._reference_option(),
            self._resolved_marginals(),
            self._resolved_epochs(),
            checkpoint,
        )
        self.network_ = (
            self._network_of(earlier) if earlier else self._network_options(loss, n_samples, d)
        )
        self.solver_ = self._solver_state(SolverPlan())
        builder, epochs = self._builder(), EpochTasks(self, X, weight)
        n_held_out, limit = int(table.held_out.sum()), self.max_fit_time
        progress(
            f"{n_samples - n_held_out} training and {n_held_out} validation samples of {d} "
            "features; " + ("no time limit" if limit is None else f"at most {limit:g} s")
        )
        correction = Correction(
            table=table,
            builder=builder,
            loss=loss,
            levels=loss.levels(self.process_, builder.levels),
            settings=replace(
                self._training_settings(n_samples - n_held_out, device), checkpoint=checkpoint
            ),
            likelihood=self._likelihood_of_fit(),
            budget=budget,
            random_state=random,
            epochs=epochs,
            progress=progress,
            start=earlier.get("network_weights_") or None,
            stream=stream,
            processes=processes,
        )
        # The mixtures are fitted on numpy arrays whatever X was.
        with config_context(array_api_dispatch=False):
            try:
                if earlier:
                    best = continued(table, earlier, correction)
                else:
                    best = select(table, options, correction, budget, random, progress)
            except NonFiniteLossError:
                # It would diverge again.
                checkpoint.remove()
                raise
            self._keep(best, whole_budget, random, checkpoint)
            self.validation_log_likelihood_ = self._log_likelihoods(best)
        self.fit_time_ = whole_budget.taken
        self._add_to_curves(earlier)
        epochs.finish()
        progress(f"selected: {self.selected_}")
        if self.stop_reason_ == "interrupted":
            raise InterruptedFit(
                f"The fit was interrupted after {self.n_epochs_} epochs. The estimator keeps the "
                "best density so far; fit again for a finished one."
            )
        checkpoint.remove()
        return self

    def summary(self):
        """Say what ``fit`` selected, and how well it fits the validation set.

        Returns
        -------
        dict of str to str
            Lines to print; a notebook shows them below the parameters.
        """
        check_is_fitted(self)
        epochs = f"{self.n_epochs_} epochs, ended by {self.stop_reason_}"
        kept = "kept" if self.network_weights_ else "not kept"
        lines = {
            "selected": self.selected_,
            "transforms": Chain.from_arrays(self.latent_map_).description,
            "network": f"{kept}, {epochs}" if self.n_epochs_ else f"none: {self.stop_reason_}",
            "time": f"{self.fit_time_:.1f} s",
        }
        found = self.validation_log_likelihood_
        if not found:
            return lines | {"learned level": f"{self.learned_level_:g}, without log-densities"}
        lines["validation log-likelihood"] = in_nats(found["selected"])
        names = {
            "reference": "gain over the base distribution",
            "normal": "gain over a multivariate normal",
        }
        for name, words in names.items():
            lines[words] = in_nats(found["selected"] - found[name], "+")
        return lines

    def _sampler(self):
        return self.sampler

    def _earlier_fit(self):
        """What a warm start continues, none where there is nothing."""
        continues = self.warm_start and hasattr(self, "network_weights_")
        return dict(vars(self)) if continues else {}

    def _network_of(self, earlier):
        """The options of the network that a warm start continues, if the fits are alike."""
        network = earlier["network_"] | {"half_precision": self.half_precision}
        sizes = self.hidden_layer_sizes
        if sizes == "auto":
            # The number of samples chooses layers only for a first fit.
            sizes = network["hidden_layer_sizes"]
        pairs = {
            "features": (earlier["n_features_in_"], self.n_features_in_),
            "process": (earlier["process_"], self.process_),
            "noise_level of the loss": (earlier["learned_level_"], self.learned_level_),
            "hidden_layer_sizes": (
                tuple(network["hidden_layer_sizes"]),
                tuple(checked_layer_sizes(sizes)),
            ),
        }
        for name, (before, wanted) in pairs.items():
            if repr(before) != repr(wanted):
                raise ValueError(
                    f"warm_start=True continues a fit whose {name} was {before!r}, and now it "
                    f"would be {wanted!r}. Set what it was, or warm_start=False to begin anew."
                )
        return network

    def _add_to_curves(self, earlier):
        """Count the epochs of the fits that were continued."""
        if not earlier:
            return
        self.n_epochs_ += earlier["n_epochs_"]
        for name in ("loss_curve_", "validation_scores_"):
            setattr(self, name, [*earlier[name], *getattr(self, name)])

    def _identity(self, X, weight, device, earlier):
        """What makes a fit another one than that of a checkpoint, in words."""
        params = self.get_params(deep=False)
        for name in ("checkpoint", "checkpoint_interval", "verbose"):
            del params[name]
        if isinstance(self.random_state, np.random.RandomState):
            # The seed that was drawn from it is in the file.
            params["random_state"] = "a RandomState"
        return {
            "the version of sklearn_dsm": __version__,
            "the device": str(device),
            **{name: repr(value) for name, value in params.items()},
            "the digest of X": joblib.hash(np.ascontiguousarray(X)),
            "the digest of the sample weights": joblib.hash(weight),
            "the digest of what was fitted before": joblib.hash(self._fitted_part(earlier)),
        }

    def _fitted_part(self, earlier):
        """What a fit starts from besides the samples."""
        if earlier:
            return {name: earlier[name] for name in ("network_weights_", "latent_map_")}
        reference = self._given_reference()
        return vars(reference) if isinstance(reference, Reference) else {}

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
        warn(
            f"{n_missed} of {n} log-densities missed the tolerance of "
            f"{self.tolerance:g} nats with the finest steps: the learned score is rough "
            "there. Raise tolerance, or use likelihood='identity'.",
            ConvergenceWarning,
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
                "after marginals='gaussianize'; use marginals='standardize' or 'auto', or "
                "reference='gmm', which is fitted after the transforms."
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
        whole = {"whole": self.reference is None, "half_precision": self.half_precision}
        sizes = self.hidden_layer_sizes
        if sizes == "auto":
            options = SMALL_NETWORK if n < FEW_ROWS_PER_COLUMN * d else LARGE_NETWORK
            return whole | options | ({} if loss.dropout else {"dropout": 0.0})
        return whole | {"hidden_layer_sizes": tuple(checked_layer_sizes(sizes, "'auto' or "))}

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

    def _keep(self, candidate, budget, random, checkpoint):
        """Store the best candidate, and say so where it has no network."""
        record, base, split = candidate.record, candidate.base, candidate.base.split
        self.network_weights_: dict[str, np.ndarray] = candidate.weights
        latent, self.reference_ = split.latent, base.reference
        if not self.network_weights_:
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
        if self.likelihood == "fast" and self.network_weights_:
            self._teach_head(record, split, budget, random, checkpoint)
        self.selected_ = self._name_of_model()
        if not record.n_epochs:
            self._warn_of_no_network(record.stop_reason)

    def _log_likelihoods(self, best):
        """Of the validation set; none where log-densities are not to be had."""
        if self.learned_level_ is not None:
            return {}
        normal = gaussian(best.base.split.table.split(None)).value
        selected = best.value if self.network_weights_ else best.base.value
        found = {"normal": normal, "reference": best.base_value, "selected": selected}
        return {name: float(value) for name, value in found.items()}

    def _warn_of_no_network(self, stop_reason):
        """Say which network was not even begun, and what to change."""
        reason = {
            "too_few_rows": f"{TUNING.min_train_rows} samples to train on, so give more of them",
            "max_fit_time": "time for a first epoch, so raise max_fit_time",
        }.get(stop_reason)
        if reason:
            warn(
                f"No network was trained, and the fitted density is a {self.selected_}. A network "
                f"needs {reason}.",
                ConvergenceWarning,
            )

    def _name_of_model(self):
        """What was selected, in words."""
        if self.network_["whole"] and self.network_weights_:
            return "network without a reference"
        name = type(self.reference_).__name__
        if isinstance(self.reference_, GaussianMixture):
            k = len(self.reference_.weights_)
            name = f"Gaussian mixture of {k} components" if k > 1 else "Gaussian"
        if Chain.from_arrays(self.latent_map_).has(AutoregressiveTransform):
            name = "autoregressive flow"
        return f"{name} corrected by a network" if self.network_weights_ else name

    def _teach_head(self, record, split, budget, random, checkpoint):
        """Have a head learn the density; after an interrupt the ODE stands in for one."""
        self.head_ = None
        if record.stop_reason == "interrupted":
            return
        density = self._latent_density(likelihood="ode")
        network, epochs = density.model.network, self._resolved_epochs()
        try:
            self.head_, self.fast_error_ = distil(
                density, network, split, budget, epochs, random, checkpoint
            )
        except KeyboardInterrupt:
            self.stop_reason_ = record.stop_reason = "interrupted"

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
            self.reference_, self.network_weights_, likelihood, self._solver_plan(), self.head_
        )

    def _solver_state(self, plan):
        return {
            "n_steps": plan.n_steps,
            "error_growth": plan.error_growth,
            "tolerance": self.tolerance,
        }

    def _solver_plan(self):
        """The fitted plan of the ODE, made finer where the tolerance was lowered since."""
        plan = SolverPlan(self.solver_["n_steps"], self.solver_["error_growth"])
        return plan.for_tolerance(self.tolerance, self.solver_["tolerance"])
