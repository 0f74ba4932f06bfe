"""Noise processes: how a row turns into noise as the process time runs from 0 to 1."""

from __future__ import annotations

import math
from abc import ABCMeta, abstractmethod
from numbers import Real
from typing import Self

import torch
from torch import Tensor

from ..._compat import Interval
from ..params import ParamsObject, resolve
from .level import NoiseLevel

# The process time of the last level before the data, and how far from the end a process that
# is pinned there is left alone.
FIRST_TIME, SUBVP_FIRST_TIME = 1e-5, 1e-3
N_CHECKED_TIMES = 65


class NoiseProcess(ParamsObject, metaclass=ABCMeta):
    r"""A linear noise process :math:`X_s = a(s) X_0 + \sqrt{v(s)} Z`, s in [0, 1].

    A subclass gives :meth:`level`, the inverse :meth:`time`, and the log-SNRs of its
    noisiest and of its cleanest level; everything else follows from these. Process time 0
    is the data, 1 is noise. Parameters are searchable as ``process__name``.
    """

    @abstractmethod
    def level(self, time: Tensor) -> NoiseLevel:
        """The noise level (a, v) at a process time in [0, 1]."""

    @abstractmethod
    def time(self, log_snr: Tensor) -> Tensor:
        """The process time at which the log signal-to-noise ratio has this value."""

    @property
    @abstractmethod
    def log_snr_range(self) -> tuple[float, float]:
        """The log-SNR of the noisiest and of the cleanest level, at or near the process's ends."""

    def drift_and_diffusion(self, time: Tensor) -> tuple[Tensor, Tensor]:
        """f and g^2 of dX = f X ds + g dW: f = a'/a and g^2 = v' - 2 f v."""
        with torch.enable_grad():
            time = time.detach().requires_grad_()
            a, v = self.level(time)
            a_slope, v_slope = (
                torch.autograd.grad(part.sum(), time, retain_graph=True)[0]
                if part.requires_grad
                else torch.zeros_like(time)
                for part in (a, v)
            )
        drift = a_slope / a.detach()
        return drift, v_slope - 2 * drift * v.detach()

    def scored_level(self, time: float) -> NoiseLevel:
        """The level at a process time.

        Raises
        ------
        ValueError
            Where all paths are at one point, and have no score.
        """
        level = self.level(torch.tensor(float(time), dtype=torch.float64))
        if level.a == 0:
            raise ValueError(
                f"At noise_level={time:g} all paths of {self!r} are at one point, where there is "
                "no score. Choose a level below it."
            )
        return level

    def trained_level(self, time: float) -> NoiseLevel:
        """As :meth:`scored_level`, but no cleaner than ``log_snr_range`` allows."""
        level = self.scored_level(time)
        high = torch.tensor(self.log_snr_range[1], dtype=torch.float64)
        return level if level.log_snr <= high else self.level(self.time(high))

    def validate(self) -> Self:
        super().validate()
        self._check_parameters()
        times = torch.linspace(0, 1, N_CHECKED_TIMES, dtype=torch.float64)[1:-1]
        level = self.level(times)
        growing = (level.log_snr.diff() < 0).all() and (level.v > 0).all() and (level.a > 0).all()
        if not growing:
            raise ValueError(
                f"{self!r}: the signal must be drowned ever more as time runs from 0 to 1, with "
                "a and v positive in between, but log(a^2 / v) does not fall everywhere; choose "
                "a schedule that is monotone."
            )
        if not torch.allclose(self.time(level.log_snr), times, rtol=1e-4, atol=1e-6):
            raise ValueError(
                f"{self!r}: time(log_snr) must be the inverse of level(time).log_snr; correct one "
                "of them."
            )
        return self

    def _check_parameters(self) -> None:
        """Conditions between parameters; raises ValueError."""


def _check_increasing(process: NoiseProcess, low: str, high: str) -> None:
    if getattr(process, low) >= getattr(process, high):
        raise ValueError(
            f"{process!r}: the noise must grow with time, so {low} must be below {high}; "
            f"got {low}={getattr(process, low)} and {high}={getattr(process, high)}."
        )


class _LinearRate(NoiseProcess):
    """A process whose schedule is the integral of a rate that grows linearly with time."""

    _parameter_constraints = {
        "beta_min": [Interval(Real, 0, None, closed="neither")],
        "beta_max": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(self, beta_min: float = 0.1, beta_max: float = 20.0):
        self.beta_min = beta_min
        self.beta_max = beta_max

    def _integrated_rate(self, time: Tensor) -> Tensor:
        return self.beta_min * time + (self.beta_max - self.beta_min) * time**2 / 2

    def _time_of(self, rate: Tensor) -> Tensor:
        """The time at which the integrated rate has this value."""
        slope = self.beta_max - self.beta_min
        return 2 * rate / (self.beta_min + (self.beta_min**2 + 2 * slope * rate).sqrt())

    def _check_parameters(self) -> None:
        _check_increasing(self, "beta_min", "beta_max")


class VP(_LinearRate):
    r"""Variance-preserving process, whose noise rate is linear in time.

    .. math:: dX = -\tfrac12 \beta(s) X\, ds + \sqrt{\beta(s)}\, dW, \qquad
        \beta(s) = \beta_{min} + s (\beta_{max} - \beta_{min}),

    so :math:`a = e^{-B/2}` and :math:`v = 1 - e^{-B}` with :math:`B = \int_0^s \beta`.

    Parameters
    ----------
    beta_min : float, default=0.1
        Rate at time 0, the data, per unit of process time; positive.
    beta_max : float, default=20.0
        Rate at time 1, the noise; above ``beta_min``.

    References
    ----------
    [ScoreSDE]_

    Examples
    --------
    >>> import torch
    >>> from sklearn_dsm import VP
    >>> level = VP().level(torch.tensor(0.5))
    >>> round(float(level.a**2 + level.v), 6)
    1.0
    """

    def level(self, time: Tensor) -> NoiseLevel:
        rate = self._integrated_rate(time)
        return NoiseLevel(torch.exp(-rate / 2), -torch.expm1(-rate))

    def time(self, log_snr: Tensor) -> Tensor:
        return self._time_of(torch.nn.functional.softplus(-log_snr))

    @property
    def log_snr_range(self) -> tuple[float, float]:
        rate = self._integrated_rate(torch.tensor([1.0, FIRST_TIME], dtype=torch.float64))
        # log(a^2 / v) = -log(e^B - 1), which for large B is -B.
        low, high = (-rate - (-torch.expm1(-rate)).log()).tolist()
        return low, high


class SubVP(_LinearRate):
    r"""Sub-variance-preserving process: the signal of :class:`VP`, with less noise.

    .. math:: a = e^{-B/2}, \qquad v = (1 - e^{-B})^2, \qquad
        B = \int_0^s \beta, \quad \beta(s) = \beta_{min} + s (\beta_{max} - \beta_{min}),

    the solution of :math:`dX = -\tfrac12\beta X\,ds + \sqrt{\beta (1 - e^{-2B})}\,dW`.

    Parameters
    ----------
    beta_min : float, default=0.1
        Rate at time 0, the data, per unit of process time; positive.
    beta_max : float, default=20.0
        Rate at time 1, the noise; above ``beta_min``.

    References
    ----------
    [ScoreSDE]_

    Examples
    --------
    >>> import torch
    >>> from sklearn_dsm import VP, SubVP
    >>> time = torch.tensor(0.2)
    >>> bool(SubVP().level(time).v < VP().level(time).v)
    True
    """

    def level(self, time: Tensor) -> NoiseLevel:
        rate = self._integrated_rate(time)
        return NoiseLevel(torch.exp(-rate / 2), torch.expm1(-rate) ** 2)

    def time(self, log_snr: Tensor) -> Tensor:
        # sqrt(SNR) = a / (1 - a^2) is a quadratic equation for a.
        inverse = torch.exp(-log_snr / 2)
        return self._time_of(2 * torch.asinh(inverse / 2))

    @property
    def log_snr_range(self) -> tuple[float, float]:
        rate = self._integrated_rate(torch.tensor([1.0, SUBVP_FIRST_TIME], dtype=torch.float64))
        low, high = (-rate - 2 * (-torch.expm1(-rate)).log()).tolist()
        return low, high


class PBM(NoiseProcess):
    r"""Pinned Brownian motion: read from noise to data, every path starts at 0.

    .. math:: a = 1 - s, \qquad v = \sigma^2 s (1 - s).

    In time t = 1 - s, :math:`Y_t = X_s`, of density :math:`p_t`, is a Brownian motion of variance
    :math:`\sigma^2 t` that the Foellmer drift steers to the data,

    .. math:: b(y, t) = \frac{E[X_0 \mid Y_t = y] - y}{1 - t}
        = \frac yt + \sigma^2 \nabla \log p_t(y).

    At s = 1 all paths are at one point, so there is no score, and the second form of the drift is
    a difference of infinities; the first form stays finite. Divided by :math:`\sqrt{a^2 + v}`,
    the process is an Ornstein-Uhlenbeck process in another time, as :class:`VP` is. Log-densities
    and samples are therefore computed as for :class:`VP`. At the noisiest level in use,
    :math:`a = e^{-6} \sqrt v`.

    Parameters
    ----------
    sigma : float, default=1.0
        Scale of the Brownian motion, in units of the whitened samples, which have unit variance;
        positive.

    References
    ----------
    [PinDown]_

    Examples
    --------
    >>> import torch
    >>> from sklearn_dsm import PBM
    >>> level = PBM(sigma=2.0).level(torch.tensor(0.5))
    >>> float(level.a), float(level.v)
    (0.5, 1.0)
    """

    _parameter_constraints = {"sigma": [Interval(Real, 0, None, closed="neither")]}

    def __init__(self, sigma: float = 1.0):
        self.sigma = sigma

    def level(self, time: Tensor) -> NoiseLevel:
        return NoiseLevel(1 - time, self.sigma**2 * time * (1 - time))

    def time(self, log_snr: Tensor) -> Tensor:
        return torch.sigmoid(-log_snr - 2 * math.log(self.sigma))

    @property
    def log_snr_range(self) -> tuple[float, float]:
        log_odds, shift = math.log1p(-FIRST_TIME) - math.log(FIRST_TIME), 2 * math.log(self.sigma)
        return -log_odds - shift, log_odds - shift

    def drift_and_diffusion(self, time: Tensor) -> tuple[Tensor, Tensor]:
        return -1 / (1 - time), torch.full_like(time, self.sigma**2)


class VE(NoiseProcess):
    r"""Variance-exploding process, whose noise scale grows geometrically in time.

    .. math:: a = 1, \qquad v = \sigma(s)^2, \qquad
        \sigma(s) = \sigma_{min} (\sigma_{max} / \sigma_{min})^s.

    Parameters
    ----------
    sigma_min : float, default=0.01
        Noise scale at time 0, in units of the whitened samples, which have unit variance;
        positive. Details of the density that are finer than ``sigma_min`` are not learned.
    sigma_max : float, default=50.0
        Noise scale at time 1; above ``sigma_min``.

    References
    ----------
    [ScoreSDE]_

    Examples
    --------
    >>> import torch
    >>> from sklearn_dsm import VE
    >>> round(float(VE(sigma_min=0.1, sigma_max=10.0).level(torch.tensor(0.5)).v), 6)
    1.0
    """

    _parameter_constraints = {
        "sigma_min": [Interval(Real, 0, None, closed="neither")],
        "sigma_max": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(self, sigma_min: float = 0.01, sigma_max: float = 50.0):
        self.sigma_min = sigma_min
        self.sigma_max = sigma_max

    def level(self, time: Tensor) -> NoiseLevel:
        growth = math.log(self.sigma_max / self.sigma_min)
        return NoiseLevel(
            torch.ones_like(time), (2 * (math.log(self.sigma_min) + growth * time)).exp()
        )

    def time(self, log_snr: Tensor) -> Tensor:
        growth = math.log(self.sigma_max / self.sigma_min)
        return (-log_snr / 2 - math.log(self.sigma_min)) / growth

    @property
    def log_snr_range(self) -> tuple[float, float]:
        return -2 * math.log(self.sigma_max), -2 * math.log(self.sigma_min)

    def _check_parameters(self) -> None:
        _check_increasing(self, "sigma_min", "sigma_max")


PROCESSES: dict[str, type[NoiseProcess]] = {"vp": VP, "ve": VE, "subvp": SubVP, "pbm": PBM}


def resolve_process(process: str | NoiseProcess) -> NoiseProcess:
    """The process a shortcut names, or the process itself, with its parameters checked."""
    return resolve("process", process, PROCESSES)
