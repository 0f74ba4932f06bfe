"""Noise processes: how a row turns into noise as the process time runs from 0 to 1."""

from __future__ import annotations

import math
from abc import ABCMeta, abstractmethod
from numbers import Real
from typing import Self

import torch
from sklearn.utils._param_validation import Interval
from torch import Tensor

from ._validation import ParamsObject, resolve
from .levels import NoiseLevel


class NoiseProcess(ParamsObject, metaclass=ABCMeta):
    r"""A linear noise process :math:`X_s = a(s) X_0 + \sqrt{v(s)} Z`, s in [0, 1].

    A subclass gives :meth:`level`, the inverse :meth:`time`, and the log-SNRs between
    which the process is simulated; everything else follows from these. Process time 0
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
        """The log-SNR at the noise end and at the last level before the data."""

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

    def validate(self) -> Self:
        super().validate()
        self._check_schedule()
        return self

    def _check_schedule(self) -> None:
        """Conditions between parameters; raises ValueError."""


def _check_increasing(process: NoiseProcess, low: str, high: str) -> None:
    if getattr(process, low) >= getattr(process, high):
        raise ValueError(
            f"{process!r}: the noise must grow with time, so {low} must be below {high}; "
            f"got {low}={getattr(process, low)} and {high}={getattr(process, high)}."
        )


class VP(NoiseProcess):
    r"""Variance-preserving process with a linear rate.

    .. math:: dX = -\tfrac12 \beta(s) X\, ds + \sqrt{\beta(s)}\, dW, \qquad
        \beta(s) = \beta_{min} + s (\beta_{max} - \beta_{min}),

    so :math:`a = e^{-B/2}` and :math:`v = 1 - e^{-B}` with :math:`B = \int_0^s \beta`.

    Parameters
    ----------
    beta_min : float, default=0.1
        Rate at the data, per unit of process time; positive.
    beta_max : float, default=20.0
        Rate at the noise; above ``beta_min``.

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

    _parameter_constraints = {
        "beta_min": [Interval(Real, 0, None, closed="neither")],
        "beta_max": [Interval(Real, 0, None, closed="neither")],
    }
    _first_time = 1e-5

    def __init__(self, beta_min: float = 0.1, beta_max: float = 20.0):
        self.beta_min = beta_min
        self.beta_max = beta_max

    def _integrated_rate(self, time: Tensor) -> Tensor:
        return self.beta_min * time + (self.beta_max - self.beta_min) * time**2 / 2

    def level(self, time: Tensor) -> NoiseLevel:
        rate = self._integrated_rate(time)
        return NoiseLevel(torch.exp(-rate / 2), -torch.expm1(-rate))

    def time(self, log_snr: Tensor) -> Tensor:
        rate = torch.nn.functional.softplus(-log_snr)
        slope = self.beta_max - self.beta_min
        return 2 * rate / (self.beta_min + (self.beta_min**2 + 2 * slope * rate).sqrt())

    @property
    def log_snr_range(self) -> tuple[float, float]:
        ends = torch.tensor([1.0, self._first_time], dtype=torch.float64)
        rate = self._integrated_rate(ends)
        # log(a^2 / v) = -log(e^B - 1), which for large B is -B.
        low, high = (-rate - (-torch.expm1(-rate)).log()).tolist()
        return low, high

    def _check_schedule(self) -> None:
        _check_increasing(self, "beta_min", "beta_max")


class VE(NoiseProcess):
    r"""Variance-exploding process with a geometric noise scale.

    .. math:: a = 1, \qquad v = \sigma(s)^2, \qquad
        \sigma(s) = \sigma_{min} (\sigma_{max} / \sigma_{min})^s.

    Parameters
    ----------
    sigma_min : float, default=0.01
        Noise scale at time 0, in units of the process's own scaled space, where the data
        have unit variance; positive. It bounds how sharp a density can be learned.
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

    def _check_schedule(self) -> None:
        _check_increasing(self, "sigma_min", "sigma_max")


PROCESSES: dict[str, type[NoiseProcess]] = {"vp": VP, "ve": VE}


def resolve_process(process: str | NoiseProcess) -> NoiseProcess:
    """The process a shortcut names, or the process itself, with its parameters checked."""
    return resolve("process", process, PROCESSES)
