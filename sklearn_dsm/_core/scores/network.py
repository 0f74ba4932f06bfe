"""The score network: a perceptron modulated by the noise level, with an exact divergence."""

from __future__ import annotations

import math
from abc import ABCMeta, abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .tangents import ROW_BLOCK, diagonal, trace

# Knots of the output's gain over noise levels, which held-out rows set for weights to keep.
BAND_RANGE, N_BANDS = (-8.0, 13.0), 8


def padded(x: Tensor) -> Tensor:
    """Rows with copies of the first behind them, up to whole blocks of ``ROW_BLOCK``.

    Matrix products of a few rows take other paths, whose rounding differs, and a row's value
    must not depend on its neighbours.
    """
    return torch.cat([x, x[:1].detach().expand(-len(x) % ROW_BLOCK, -1)])


def _parameter(*shape: int, std: float, generator: torch.Generator) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape, generator=generator) * std)


class SeededLinear(nn.Module):
    """A linear map whose weights come from a generator, never from the global seed."""

    def __init__(self, n_in: int, n_out: int, generator: torch.Generator, gain: float = 1.0):
        super().__init__()
        self.weight = _parameter(n_out, n_in, std=gain / math.sqrt(n_in), generator=generator)
        self.bias = nn.Parameter(torch.zeros(n_out))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight, self.bias)


def _silu(u: Tensor) -> tuple[Tensor, Tensor]:
    gate = torch.sigmoid(u)
    value = u * gate
    return value, gate + value * (1 - gate)


class _SineSilu:
    """Sine for the first units (trainable Fourier features), silu for the rest."""

    def __init__(self, n_sine: int):
        self.n_sine = n_sine

    def __call__(self, u: Tensor) -> Tensor:
        return torch.cat(
            [u[..., : self.n_sine].sin(), nn.functional.silu(u[..., self.n_sine :])], -1
        )

    def with_slope(self, u: Tensor) -> tuple[Tensor, Tensor]:
        wave, rest = u[..., : self.n_sine], u[..., self.n_sine :]
        value, slope = _silu(rest)
        return torch.cat([wave.sin(), value], -1), torch.cat([wave.cos(), slope], -1)


class _Tanh:
    """Bounded, so that a correction cannot run away where there were no data."""

    def __call__(self, u: Tensor) -> Tensor:
        # Several times faster than torch.tanh.
        return 2 * torch.sigmoid(2 * u) - 1

    def with_slope(self, u: Tensor) -> tuple[Tensor, Tensor]:
        value = self(u)
        return value, 1 - value**2


def band_weights(log_snr: Tensor) -> Tensor:
    """Weights of the ``N_BANDS`` bands of noise levels, shape (..., N_BANDS), summing to one.

    They are smooth: a kink would cost the solver its order.
    """
    low, high = BAND_RANGE
    centers = torch.linspace(low, high, N_BANDS, dtype=log_snr.dtype, device=log_snr.device)
    width = (high - low) / (N_BANDS - 1) / 2
    # Infinite log-SNRs belong to the end bands.
    distance = (log_snr.clamp(2 * low, 2 * high)[..., None] - centers) / width
    return (-0.5 * distance**2).softmax(-1)


def _modulated(h: Tensor, weight: Tensor, gain: Tensor, shift: Tensor) -> Tensor:
    """gain * (h @ weight.T) + shift; rows of one level share one scaled matrix."""
    if gain.dim() == 1:
        return nn.functional.linear(h, gain[:, None] * weight, shift)
    return gain * (h @ weight.T) + shift


class _Modulation(NamedTuple):
    """What a noise level sets: gains and shifts by layer, the output's gain, a linear part."""

    gains: list[Tensor]
    shifts: list[Tensor]
    output_gain: Tensor
    linear: Tensor | None


class NoiseNetwork(nn.Module, metaclass=ABCMeta):
    """What predicts the noise in noised rows, or how it differs from what a reference predicts.

    Attributes
    ----------
    whole : bool
        Whether the output is all the noise in the rows rather than a correction.
    half_precision : bool
        Whether bfloat16 is precise enough to train in.
    generator : torch.Generator or None
        What is random in a training step comes from it.
    """

    whole: bool
    half_precision = True
    generator: torch.Generator | None = None

    @property
    def hidden_matrices(self) -> Sequence[nn.Parameter]:
        """Those between hidden layers."""
        return ()

    @abstractmethod
    def forward(self, y: Tensor, log_snr: Tensor, context: Tensor | None = None) -> Tensor:
        """The output (..., n, d) for rows (..., n, d) and a log-SNR of shape () or (n, 1).

        A network of a conditional density needs a context (..., n, m).
        """

    @abstractmethod
    def forward_and_jacobian_diagonal(
        self, y: Tensor, log_snr: Tensor, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The output and the diagonal of its Jacobian in y, both (..., n, d)."""

    def forward_and_divergence(
        self, y: Tensor, log_snr: Tensor, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The output (..., n, d) and the trace of its Jacobian in y (..., n)."""
        output, diagonal = self.forward_and_jacobian_diagonal(y, log_snr, context)
        return output, diagonal.sum(-1)


class ScoreNetwork(NoiseNetwork):
    r"""A perceptron whose units have gains and shifts that depend on the noise level only.

    .. math:: h_0 = y, \qquad h_l = f_l(g_l(\lambda) \odot (W_l h_{l-1}) + b_l(\lambda)),
        \qquad c(y, \lambda) = g(\lambda) W_{L+1} h_L.

    The last matrix starts at zero, so a fresh network returns zero. With two hidden layers
    the trace of the Jacobian is one matrix product, whatever the number of columns:

    .. math:: \mathrm{tr} = g(\lambda)\, (g_2 \odot f_2'(u_2))^T
        \left[ W_2 \odot (W_1 W_3)^T \right] (g_1 \odot f_1'(u_1)).

    Deeper networks carry all d tangents forward, some rows at a time, which gives the diagonal.
    A context is appended to y, and what follows of it is one matrix more in the first layer.

    Parameters
    ----------
    n_features : int
    hidden_layer_sizes : sequence of int
    generator : torch.Generator
        Source of the initial weights.
    frequency : float, default=1.0
        Standard deviation of the sine units' initial frequencies.
    sine_share : float, default=0.5
        Share of sine units in the first hidden layer.
    dropout : float, default=0.0
        Share of hidden units that a training step leaves out, drawn from ``generator``.
    whole : bool, default=False
        Whether the output is all the noise in the rows rather than a correction. It then
        has a linear part, :math:`\sigma(\lambda) (1 + k(\lambda))\, y`, and a fresh network
        is the score of white Gaussian rows; a correction fades towards both ends instead.
    n_context : int, default=0
        Numbers in a row's context, none where the density is not conditional.
    half_precision : bool, default=True
        Whether its products in training, and those of a head, may be in bfloat16.
    """

    level_centers: Tensor
    band_gains: Tensor

    def __init__(
        self,
        n_features: int,
        hidden_layer_sizes: Sequence[int],
        generator: torch.Generator,
        frequency: float = 1.0,
        sine_share: float = 0.5,
        dropout: float = 0.0,
        whole: bool = False,
        n_context: int = 0,
        half_precision: bool = True,
        n_level_features: int = 32,
        level_width: int = 64,
    ):
        super().__init__()
        sizes = [n_features, *hidden_layer_sizes]
        n_sine = int(sine_share * sizes[1]) if len(sizes) > 2 else 0
        self.weights = nn.ParameterList(
            _parameter(n_out, n_in, std=1 / math.sqrt(n_in), generator=generator)
            for n_in, n_out in pairwise(sizes)
        )
        with torch.no_grad():
            self.weights[0][:n_sine] *= frequency
        self.output = nn.Parameter(torch.zeros(n_features, sizes[-1]))
        self.activations = [_SineSilu(n_sine)] + [_SineSilu(0)] * (len(sizes) - 3) + [_Tanh()]
        self.activations = self.activations[-len(hidden_layer_sizes) :]

        self.dropout, self.generator, self.whole = dropout, generator, whole
        self.half_precision = half_precision
        self.register_buffer("level_centers", torch.linspace(-10, 14, n_level_features))
        self.register_buffer("band_gains", torch.ones(N_BANDS))
        self.level_hidden = SeededLinear(n_level_features, level_width, generator)
        n_modulations = 2 * sum(hidden_layer_sizes) + 1 + whole
        self.level_output = SeededLinear(level_width, n_modulations, generator, gain=0.5)
        self.level_output.weight.data[n_modulations - whole :] = 0
        phases = torch.rand(n_sine, generator=generator) * 2 * math.pi
        with torch.no_grad():
            self.level_output.bias[sizes[1] : sizes[1] + n_sine] = phases
        self.hidden_layer_sizes = tuple(hidden_layer_sizes)
        self.context_weight: nn.Parameter | None = None
        if n_context:
            std = 1 / math.sqrt(n_features + n_context)
            self.context_weight = _parameter(sizes[1], n_context, std=std, generator=generator)

    @property
    def hidden_matrices(self) -> Sequence[nn.Parameter]:
        return tuple(self.weights)[1:]

    def _modulate(self, log_snr: Tensor) -> _Modulation:
        width = (self.level_centers[1] - self.level_centers[0]) * 1.5
        features = (-0.5 * ((log_snr[..., None] - self.level_centers) / width) ** 2).exp()
        features = features.reshape(*log_snr.shape[:-1], -1)
        out = self.level_output(nn.functional.silu(self.level_hidden(features)))
        sizes = [size for width in self.hidden_layer_sizes for size in (width, width)]
        *parts, last = out.split([*sizes, 1 + self.whole], -1)
        gains, shifts = [1 + gain for gain in parts[::2]], parts[1::2]
        sigma = torch.sigmoid(-log_snr).sqrt()
        if self.whole:
            return _Modulation(gains, shifts, 1 + last[..., :1], sigma * (1 + last[..., 1:]))
        # A smooth density's noise correction fades as sigma at the data and as a at the noise.
        fade = torch.sigmoid(log_snr).sqrt() * torch.sigmoid(6 - log_snr).sqrt()
        band_gain = (band_weights(log_snr.detach()) @ self.band_gains).reshape(log_snr.shape)
        return _Modulation(gains, shifts, fade * band_gain * (1 + last), None)

    def layers_at(self, log_snr: Tensor) -> tuple[list[Tensor], list[Tensor], Tensor]:
        """Matrices and shifts of the hidden layers at one level (), and the output's matrix."""
        gains, shifts, output_gain, _ = self._modulate(log_snr)
        matrices = [gain[:, None] * w for gain, w in zip(gains, self.weights, strict=True)]
        return matrices, shifts, output_gain * self.output

    def forward(self, y: Tensor, log_snr: Tensor, context: Tensor | None = None) -> Tensor:
        kept = self._kept(y)
        gains, shifts, output_gain, linear = self._modulate(log_snr)
        h, weights = self._with_context(y, context)
        for weight, gain, shift, f, factors in zip(
            weights, gains, shifts, self.activations, kept, strict=True
        ):
            h = f(_modulated(h, weight, gain, shift))
            h = h if factors is None else h * factors
        out = output_gain * (h @ self.output.T)
        return out if linear is None else out + linear * y

    def forward_and_jacobian_diagonal(
        self, y: Tensor, log_snr: Tensor, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The output and the diagonal of its Jacobian in y, both (..., n, d)."""
        out, slopes, output_gain, linear = self._forward_and_slopes(y, log_snr, context)
        own = output_gain * diagonal(tuple(self.weights), self.output, slopes)
        return out, own if linear is None else own + linear

    def forward_and_divergence(
        self, y: Tensor, log_snr: Tensor, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The output (..., n, d) and the trace of its Jacobian in y (..., n)."""
        out, slopes, output_gain, linear = self._forward_and_slopes(y, log_snr, context)
        own = output_gain.squeeze(-1) * trace(tuple(self.weights), self.output, slopes)
        return out, own if linear is None else own + linear.squeeze(-1) * y.shape[-1]

    def _forward_and_slopes(
        self, y: Tensor, log_snr: Tensor, context: Tensor | None
    ) -> tuple[Tensor, list[Tensor], Tensor, Tensor | None]:
        """The output, the slopes of every layer's units, and what modulates the output."""
        kept = self._kept(y)
        gains, shifts, output_gain, linear = self._modulate(log_snr)
        (h, weights), slopes = self._with_context(y, context), []
        for weight, gain, shift, f, factors in zip(
            weights, gains, shifts, self.activations, kept, strict=True
        ):
            h, slope = f.with_slope(_modulated(h, weight, gain, shift))
            if factors is not None:
                h, slope = h * factors, slope * factors
            slopes.append(slope * gain)
        out = output_gain * (h @ self.output.T)
        return out if linear is None else out + linear * y, slopes, output_gain, linear

    def _with_context(self, y: Tensor, context: Tensor | None) -> tuple[Tensor, Sequence[Tensor]]:
        """The inputs, and the hidden layers' matrices for them."""
        if self.context_weight is None:
            return y, tuple(self.weights)
        if context is None:
            raise ValueError(
                f"This network is that of a conditional density: give a context of shape "
                f"(..., n, {self.context_weight.shape[1]})."
            )
        first, *others = self.weights
        inputs = torch.cat([y, context.to(y.dtype).expand(*y.shape[:-1], -1)], -1)
        return inputs, [torch.cat([first, self.context_weight], 1), *others]

    def _kept(self, y: Tensor) -> Sequence[Tensor | None]:
        """By layer, factors of its units for rows y in a training step: 0 for those left out."""
        if not self.training or self.dropout == 0:
            return [None] * len(self.weights)
        # A compiler has no generators: drawn before all else, they leave it one graph.
        factors = []
        for n_units in self.hidden_layer_sizes:
            draws = y.new_empty(*y.shape[:-1], n_units).uniform_(generator=self.generator)
            factors.append((draws >= self.dropout) / (1 - self.dropout))
        return factors
