"""Score-matching losses of a learned correction, over all noise levels or at one of them."""

from __future__ import annotations

import math
from abc import ABCMeta, abstractmethod
from collections.abc import Callable
from functools import partial
from numbers import Integral, Real
from typing import NamedTuple, Self, cast

import torch
from sklearn.utils._param_validation import Interval, StrOptions
from torch import Tensor, nn

from ._forward_mode import load_forward_mode
from ._random import standard_normal
from ._validation import ParamsObject, resolve
from .averaging import WeightAverage
from .levels import LevelLaw, LogisticLevels, NoiseLevel, SingleLevel, WeightedLevels
from .processes import NoiseProcess
from .scores import CorrectedScore
from .targets import bootstrapped_noise, earlier_level

ROWS_PER_LEVEL = 8
# The law of log sigma that EDM draws training levels from, for data of unit variance: its own
# is for a deviation of one half.
EDM_MEAN, EDM_DEVIATION = -1.2 + math.log(2), 1.2


def _likelihood_measure(process: NoiseProcess, log_snr: Tensor) -> Tensor:
    return torch.ones_like(log_snr)


def _time_measure(process: NoiseProcess, log_snr: Tensor) -> Tensor:
    low, high = process.log_snr_range
    with torch.enable_grad():
        levels = log_snr.detach().requires_grad_()
        slope = torch.autograd.grad(process.time(levels).sum(), levels)[0]
    inside = (log_snr >= low) & (log_snr <= high)
    return torch.where(inside, -slope, 0.0) * (high - low)


def _edm_measure(process: NoiseProcess, log_snr: Tensor) -> Tensor:
    z = (-log_snr / 2 - EDM_MEAN) / EDM_DEVIATION
    return torch.exp(-(z**2) / 2) * (1 + torch.exp(-log_snr))


# What an integral over noise levels is weighted by, as a density in the log-SNR; the error of
# the predicted noise is what is weighted.
MEASURES = {"likelihood": _likelihood_measure, "simple": _time_measure, "edm": _edm_measure}


class NoisedRows(NamedTuple):
    """A batch at its noise levels.

    Attributes
    ----------
    clean, noise : Tensor of shape (m, k, d)
    log_snr : Tensor of shape (m, 1)
        That of variance-preserving levels.
    """

    clean: Tensor
    noise: Tensor
    log_snr: Tensor

    @property
    def level(self) -> NoiseLevel:
        """Its fields have shape (m, 1, 1)."""
        return NoiseLevel.from_log_snr(self.log_snr[..., None])

    @property
    def rows(self) -> Tensor:
        """The noised rows."""
        return self.level.a * self.clean + self.level.v.sqrt() * self.noise


def gain_terms(
    model: CorrectedScore, rows: Tensor, noise: Tensor, log_snr: Tensor
) -> tuple[Tensor, Tensor]:
    """``r . c`` and ``|c|^2`` of rows (..., n, d) noised by Z: shapes (..., n) as the noise.

    c is what the model adds to the noise the reference sees, r the noise it misses. The
    squared error of the noise changes by ``|c|^2 - 2 r . c``.
    """
    batch = NoisedRows(rows, noise, log_snr)
    seen, correction = model.noise_and_correction(batch.rows, batch.level)
    return (correction * (noise - seen)).sum(-1), correction.square().sum(-1)


class ScoreLoss(ParamsObject, metaclass=ABCMeta):
    r"""A training objective: rows in, one differentiable number out.

    Every loss is, up to a constant and in expectation,

    .. math:: L = \int E\left[ \tfrac12 |c|^2 - (Z - \hat\epsilon_{ref}) \cdot c \right]
        \mu(d\lambda)

    for the correction c of the noise that the reference sees; they differ in how they estimate
    the product with the unseen noise Z, :math:`E[Z \cdot c] = \sqrt v\, E[\nabla \cdot c]`.
    """

    _parameter_constraints = {
        "weighting": [StrOptions(set(MEASURES))],
        "noise_level": [Interval(Real, 0, 1, closed="both"), None],
    }
    # Whether products in bfloat16 are precise enough.
    half_precision = True
    # Whether calls of the network may leave out other units each.
    dropout = True
    # Whether it takes derivatives of the network, which a compiled one has not.
    differentiates = False
    # Whether every step does the same on the device and never waits for it, so that a GPU can
    # replay it.
    repeats = False
    antithetic = True
    weighting = "likelihood"
    noise_level: float | None = None

    @abstractmethod
    def terms(
        self, model: CorrectedScore, batch: NoisedRows, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Product and square of every noised row (m, k): the loss is square / 2 - product."""

    def __call__(
        self,
        model: CorrectedScore,
        rows: Tensor,
        weight: Tensor,
        levels: LevelLaw,
        generator: torch.Generator,
    ) -> Tensor:
        """The loss of a batch of rows (n, d) with weights (n,) of mean one over the table."""
        n, d = rows.shape
        shared = ROWS_PER_LEVEL if n % ROWS_PER_LEVEL == 0 else 1
        rows, weight = rows.reshape(-1, shared, d), weight.reshape(-1, shared)
        log_snr = levels.stratified(len(rows), generator, rows)[:, None]
        noise = self._noise_like(rows, generator)
        if self.antithetic:
            rows, weight = rows.repeat(1, 2, 1), weight.repeat(1, 2)
        product, square = self.terms(model, NoisedRows(rows, noise, log_snr), generator)
        return (weight * levels.importance(log_snr) * (square / 2 - product)).mean()

    def levels(self, process: NoiseProcess, law: LogisticLevels) -> LevelLaw:
        """What levels to train at, where ``law`` is for all of them.

        Raises
        ------
        ValueError
            Where the one level asked for has no score to learn.
        """
        if self.noise_level is not None:
            return SingleLevel(float(process.trained_level(self.noise_level).log_snr))
        if self.weighting == "likelihood":
            return law
        return WeightedLevels(law, partial(MEASURES[self.weighting], process))

    def started(self, model: CorrectedScore) -> ScoreLoss:
        """The loss of one training run, with what it has to remember."""
        return self

    def _noise_like(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Normal noise, with both signs where the loss is antithetic."""
        noise = standard_normal(rows.shape, rows, generator)
        return torch.cat([noise, -noise], 1) if self.antithetic else noise


class DSM(ScoreLoss):
    r"""Denoising score matching, over all noise levels weighted as the likelihood is.

    .. math:: L = \tfrac12 \int E\left[ |Z - \hat\epsilon(X_\lambda)|^2
        - |Z - \hat\epsilon_{ref}(X_\lambda)|^2 \right] d\lambda,

    the negative log-likelihood bound of the model minus the reference's: zero for an
    untrained correction. Levels are drawn from a truncated logistic law, one in each of
    equally likely cells, and divided by its density; a few rows share each, which saves
    time.

    Parameters
    ----------
    weighting : {"likelihood", "simple", "edm"}, default="likelihood"
        What stands for :math:`d\lambda`. "simple": uniform in process time. "edm": a normal
        law of :math:`\log \sigma` times :math:`1 + \sigma^2`, sigma being the noise's scale
        over the signal's.
    noise_level : float or None, default=None
        Process time in (0, 1] of the one level whose score is learned; None is all of them,
        which log-densities and samples need.
    antithetic : bool, default=True
        Use every noise vector with both signs; the variance of the gradient then stays
        bounded towards the data.

    References
    ----------
    [Vincent2011]_, [ScoreFlow]_, [EDM]_

    Examples
    --------
    >>> from sklearn_dsm import DSM
    >>> DSM(antithetic=False)
    DSM(antithetic=False)
    """

    _parameter_constraints = ScoreLoss._parameter_constraints | {"antithetic": ["boolean"]}
    repeats = True

    def __init__(self, *, weighting="likelihood", noise_level=None, antithetic=True):
        self.weighting = weighting
        self.noise_level = noise_level
        self.antithetic = antithetic

    def validate(self) -> Self:
        super().validate()
        if self.noise_level == 0:
            raise ValueError(
                "DSM(noise_level=0): denoising needs noise. Choose a noise_level above 0, or "
                "ISM(noise_level=0), which matches the score of the data themselves."
            )
        return self

    def terms(self, model, batch, generator):
        return gain_terms(model, batch.clean, batch.noise, batch.log_snr)


class ISM(ScoreLoss):
    r"""Implicit score matching with the exact trace of the Jacobian.

    .. math:: L = \int v\, E\left[ \tfrac12 |s|^2 + \nabla \cdot s \right] d\lambda

    at the noised rows. The trace costs one matrix product for a network of two hidden layers,
    and about a pass a column for a deeper one.

    Parameters
    ----------
    weighting : {"likelihood", "simple", "edm"}, default="likelihood"
        As in :class:`DSM`.
    noise_level : float or None, default=None
        Process time in [0, 1] of the one level whose score is learned; None is all of them.

    References
    ----------
    [Hyvarinen2005]_

    Examples
    --------
    >>> from sklearn_dsm import ISM, DSMDensityEstimator
    >>> DSMDensityEstimator(loss=ISM(noise_level=0.1), hidden_layer_sizes=(64, 64))
    DSMDensityEstimator(hidden_layer_sizes=(64, 64), loss=ISM(noise_level=0.1))
    """

    differentiates = True
    repeats = True

    def __init__(self, *, weighting="likelihood", noise_level=None):
        self.weighting = weighting
        self.noise_level = noise_level

    def terms(self, model, batch, generator):
        level = batch.level
        seen, correction, divergence = model.noise_correction_and_divergence(batch.rows, level)
        trace = level.v.sqrt().squeeze(-1) * divergence
        return trace - (seen * correction).sum(-1), correction.square().sum(-1)


class SSM(ScoreLoss):
    r"""Sliced score matching: the trace along one random direction w a row.

    .. math:: L = \int v\, E\left[ \tfrac12 (w \cdot s)^2 + w^T (\nabla s)\, w \right] d\lambda,
        \qquad E[w w^T] = I.

    Parameters
    ----------
    variance_reduced : bool, default=False
        Take :math:`\tfrac12 |s|^2`, its expectation, in place of the first term ("ssm_vr").
    direction : {"rademacher", "gaussian"}, default="rademacher"
        The law of w. Signs have no error where the Jacobian is diagonal.
    weighting : {"likelihood", "simple", "edm"}, default="likelihood"
        As in :class:`DSM`.
    noise_level : float or None, default=None
        Process time in [0, 1] of the one level whose score is learned; None is all of them.

    References
    ----------
    [SSM]_

    Examples
    --------
    >>> from sklearn_dsm import SSM
    >>> SSM(variance_reduced=True)
    SSM(variance_reduced=True)
    """

    _parameter_constraints = ScoreLoss._parameter_constraints | {
        "variance_reduced": ["boolean"],
        "direction": [StrOptions({"rademacher", "gaussian"})],
    }
    differentiates = True
    repeats = True

    def __init__(
        self,
        *,
        variance_reduced=False,
        direction="rademacher",
        weighting="likelihood",
        noise_level=None,
    ):
        self.variance_reduced = variance_reduced
        self.direction = direction
        self.weighting = weighting
        self.noise_level = noise_level

    def terms(self, model, batch, generator):
        load_forward_mode()
        level, rows = batch.level, batch.rows
        w = standard_normal(rows.shape, rows, generator)
        w = w.sign() if self.direction == "rademacher" else w

        def correction_and_seen(x: Tensor) -> tuple[Tensor, Tensor]:
            seen, correction = model.noise_and_correction(x, level)
            return correction, seen

        moved = torch.func.jvp(correction_and_seen, (rows,), (w,), has_aux=True)
        correction, slope, seen = cast(tuple[Tensor, Tensor, Tensor], moved)
        trace = level.v.sqrt().squeeze(-1) * (w * slope).sum(-1)
        if self.variance_reduced:
            return trace - (seen * correction).sum(-1), correction.square().sum(-1)
        along, seen_along = ((w * part).sum(-1) for part in (correction, seen))
        return trace - seen_along * along, along.square()


class FDSSM(ScoreLoss):
    r"""Sliced score matching by finite differences: two scores a row, and no Jacobian.

    .. math:: L = \int v\, E\left[ \tfrac18 |s(x + w) + s(x - w)|^2
        + \frac{d}{2 |w|^2} (s(x + w) - s(x - w)) \cdot w \right] d\lambda

    with a direction w that is uniform on a sphere. It is exact where the score is linear.

    Parameters
    ----------
    step : float, default=0.1
        Length of w in units of the level's noise; positive.
    weighting : {"likelihood", "simple", "edm"}, default="likelihood"
        As in :class:`DSM`.
    noise_level : float or None, default=None
        Process time in [0, 1] of the one level whose score is learned; None is all of them.

    References
    ----------
    [FDSSM]_

    Examples
    --------
    >>> from sklearn_dsm import FDSSM
    >>> FDSSM(step=0.05)
    FDSSM(step=0.05)
    """

    _parameter_constraints = ScoreLoss._parameter_constraints | {
        "step": [Interval(Real, 0, None, closed="neither")]
    }
    half_precision = False
    dropout = False
    repeats = True

    def __init__(self, *, step=0.1, weighting="likelihood", noise_level=None):
        self.step = step
        self.weighting = weighting
        self.noise_level = noise_level

    def terms(self, model, batch, generator):
        level, rows = batch.level, batch.rows
        w = standard_normal(rows.shape, rows, generator)
        # In one column a draw can be zero, which has no direction and is left at zero.
        w = nn.functional.normalize(w, dim=-1)
        move = self.step * level.v.sqrt() * w
        (seen, ahead), (seen_behind, behind) = (
            model.noise_and_correction(rows + sign * move, level) for sign in (1, -1)
        )
        trace = rows.shape[-1] / (2 * self.step) * ((ahead - behind) * w).sum(-1)
        correction, seen = (ahead + behind) / 2, (seen + seen_behind) / 2
        return trace - (seen * correction).sum(-1), correction.square().sum(-1)


class LCSS(ScoreLoss):
    r"""Local curvature smoothing: the trace by Stein's identity over a small noise.

    .. math:: L = \int v\, E\left[ \tfrac12 |s(x)|^2
        + \frac{(s(x + \delta z) - s(x - \delta z)) \cdot z}{2 \delta} \right] d\lambda,
        \qquad \delta = \sigma \sqrt v.

    It needs no Jacobian, and no law of the noised rows given the clean ones. Its bias, of order
    delta squared, is that of smoothing the trace but not the norm, and grows in tails.

    Parameters
    ----------
    sigma : float, default=0.1
        The smoothing in units of the level's noise; positive.
    norm_at : {"clean", "noisy"}, default="clean"
        Where the norm is taken: at x, or at the moved rows, which makes the loss that of
        denoising the smoothing.
    two_sided : bool, default=True
        Move rows both ways. One way costs a score less, and has a variance of
        :math:`|s|^2 / \delta^2`.
    weighting : {"likelihood", "simple", "edm"}, default="likelihood"
        As in :class:`DSM`.
    noise_level : float or None, default=None
        Process time in [0, 1] of the one level whose score is learned; None is all of them.

    References
    ----------
    [LCSS]_

    Examples
    --------
    >>> from sklearn_dsm import LCSS
    >>> LCSS(sigma=0.05, norm_at="noisy")
    LCSS(norm_at='noisy', sigma=0.05)
    """

    _parameter_constraints = ScoreLoss._parameter_constraints | {
        "sigma": [Interval(Real, 0, None, closed="neither")],
        "norm_at": [StrOptions({"clean", "noisy"})],
        "two_sided": ["boolean"],
    }
    half_precision = False
    dropout = False
    repeats = True

    def __init__(
        self,
        *,
        sigma=0.1,
        norm_at="clean",
        two_sided=True,
        weighting="likelihood",
        noise_level=None,
    ):
        self.sigma = sigma
        self.norm_at = norm_at
        self.two_sided = two_sided
        self.weighting = weighting
        self.noise_level = noise_level

    def terms(self, model, batch, generator):
        level, rows = batch.level, batch.rows
        z = standard_normal(rows.shape, rows, generator)
        signs = (1, -1) if self.two_sided else (1,)
        sides = [
            model.noise_and_correction(rows + sign * self.sigma * level.v.sqrt() * z, level)
            for sign in signs
        ]
        steps = (sign * (z * moved).sum(-1) for sign, (_, moved) in zip(signs, sides, strict=True))
        trace = sum(steps) / (len(signs) * self.sigma)
        if self.norm_at == "clean":
            sides = [model.noise_and_correction(rows, level)]
        seen, correction = (torch.stack(parts) for parts in zip(*sides, strict=True))
        cross = (seen * correction).sum(-1).mean(0)
        return trace - cross, correction.square().sum(-1).mean(0)


class BSM(ScoreLoss):
    r"""Bootstrapped score matching: the target comes from the model itself at an earlier level.

    With :math:`X_{t'}` and :math:`X_t = \alpha X_{t'} + \sigma_\Delta Z_\Delta` on one path, the
    noise of denoising is replaced by its expectation given both, for which a frozen average
    of the network's weights stands in,

    .. math:: Z \to \frac{\alpha \sigma_{t'} \hat\epsilon_{t'}(X_{t'})
        + \sigma_\Delta Z_\Delta}{\sigma_t}, \qquad t' = t / r,

    in Ornstein-Uhlenbeck time. Its variance is never larger, but errors of the frozen network
    are passed on from level to level.

    Parameters
    ----------
    ratio : float, default=2.0
        r above, larger than 1. The nearer to 1, the less variance and the more that errors add
        up.
    n_plain_steps : int, default=500
        Steps of denoising score matching that come first.
    weighting : {"likelihood", "simple", "edm"}, default="likelihood"
        As in :class:`DSM`.

    References
    ----------
    [BSM]_

    Examples
    --------
    >>> from sklearn_dsm import BSM
    >>> BSM(ratio=1.5)
    BSM(ratio=1.5)
    """

    _parameter_constraints = {
        "ratio": [Interval(Real, 1, None, closed="neither")],
        "n_plain_steps": [Interval(Integral, 0, None, closed="left")],
        "weighting": ScoreLoss._parameter_constraints["weighting"],
    }

    def __init__(self, *, ratio=2.0, n_plain_steps=500, weighting="likelihood"):
        self.ratio = ratio
        self.n_plain_steps = n_plain_steps
        self.weighting = weighting

    def started(self, model):
        return _Bootstrapping(self, model)

    def terms(self, model, batch, generator):
        """Those of denoising, which bootstrapping starts as."""
        return gain_terms(model, batch.clean, batch.noise, batch.log_snr)


class _Bootstrapping(ScoreLoss):
    """A run of :class:`BSM`: its frozen average, and how many steps it has made."""

    def __init__(self, loss: BSM, model: CorrectedScore):
        self.loss = loss
        self.average = WeightAverage(model.network)
        self.n_steps = 0

    def terms(self, model, batch, generator):
        if self.n_steps > 0:
            self.average.update(model.network)
        self.n_steps += 1
        if self.n_steps <= self.loss.n_plain_steps:
            return self.loss.terms(model, batch, generator)
        step = self._noise_like(batch.noise[:, : batch.noise.shape[1] // 2], generator)
        late, early = batch, batch._replace(log_snr=earlier_level(batch.log_snr, self.loss.ratio))
        with torch.no_grad():
            frozen = CorrectedScore(model.reference, self.average.module).eval()
            expected = torch.add(*frozen.noise_and_correction(early.rows, early.level))
            target, noise = (
                bootstrapped_noise(start, step, early.level, late.level)
                for start in (expected, early.noise)
            )
        late = late._replace(noise=noise)
        seen, correction = model.noise_and_correction(late.rows, late.level)
        return (correction * (target - seen)).sum(-1), correction.square().sum(-1)


LOSSES: dict[str, Callable[[], ScoreLoss]] = {
    "dsm": DSM,
    "ism": ISM,
    "ssm": SSM,
    "ssm_vr": partial(SSM, variance_reduced=True),
    "fd_ssm": FDSSM,
    "lcss": LCSS,
    "bsm": BSM,
}
TARGET_LOSSES = ("csm", "tsm", "nsm")


def resolve_loss(loss: str | ScoreLoss) -> ScoreLoss:
    """The loss a shortcut names, or the loss itself, with its parameters checked."""
    if loss in TARGET_LOSSES:
        raise ValueError(
            f"loss={loss!r} regresses on the gradient of a known log-density, which a table of "
            f"rows does not have; choose one of {sorted(LOSSES)}."
        )
    return resolve("loss", loss, LOSSES)
