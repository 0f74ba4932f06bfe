"""Autoregressive flows: each column's mean and scale depend on the columns before it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from .._checkpoint import NO_CHECKPOINT, Checkpoint
from .._core.arrays import arrays_of, state_of, tensor_of
from .._core.constants import LOG_2PI
from .._core.random import torch_generator
from .._training import Judge, NonFiniteLossError, State, TrainingSettings, train_module
from .transform import Transform

# Units of a hidden layer: so many a column, within limits.
UNITS_PER_COLUMN, MIN_WIDTH, MAX_WIDTH = 6, 64, 512
# Scales stay between e^-12 and e^12.
MAX_LOG_SCALE = 12.0
BATCH_SIZE, MAX_WEIGHT_DECAY = 512, 1.0
CHUNK_ROWS = 2**13
# What a mean and a scale see of a row stays within this many deviations, so that a
# layer is linear far out.
FARTHEST = 32.0


class _Learning(NamedTuple):
    """How a kind of layer is learned.

    A row far out may have a gradient of any size, so longer ones are shortened. The fewer rows a
    column, the stronger the decay of the weights.
    """

    rate: float
    max_gradient: float
    decayed_rows_per_column: float
    max_epochs: int
    patience: int


# By whether the shift comes after the scale.
LEARNING = {False: _Learning(0.008, 5.0, 100, 100, 10), True: _Learning(0.06, 0.2, 10, 200, 20)}


class _AutoregressiveLayer(nn.Module):
    r"""y_j = (z_j - m_j) e^{-s_j}, where m_j and s_j depend on the columns before j.

    With ``shift_last`` it is z_j e^{-s_j} - m_j: what is learned is then a shift in the units of
    y, which stays as it is where a scale varies over powers of ten.
    Masks on the weights of a perceptron see to that: a unit of degree k sees the first k
    columns, and column j listens to the units of degrees below j.
    """

    def __init__(
        self,
        n_features: int,
        width: int,
        backwards: bool,
        shift_last: bool,
        generator: torch.Generator,
    ):
        super().__init__()
        self.shift_last = shift_last
        place = torch.arange(n_features)
        self.order = (n_features - 1 - place if backwards else place).tolist()
        column = torch.tensor(self.order) + 1
        unit = 1 + torch.arange(width) % max(1, n_features - 1)
        self.masks: list[Tensor] = [
            mask.float()
            for mask in (
                unit[:, None] >= column,
                unit[:, None] >= unit,
                column.repeat(2)[:, None] > unit,
            )
        ]
        self.weights = nn.ParameterList(
            torch.randn(mask.shape, generator=generator) / mask.sum(1, keepdim=True).sqrt()
            for mask in self.masks[:2]
        )
        self.weights.append(nn.Parameter(torch.zeros(2 * n_features, width)))
        self.biases = nn.ParameterList(torch.zeros(len(weight)) for weight in self.weights)

    def shifts_and_log_scales(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """m and s, each (n, d)."""
        parts = zip(self.weights, self.masks, self.biases, strict=True)
        *hidden, last = ((weight * mask.to(weight), bias) for weight, mask, bias in parts)
        z = FARTHEST * torch.tanh(z / FARTHEST)
        for weight, bias in hidden:
            z = nn.functional.silu(nn.functional.linear(z, weight, bias))
        shifts, raw = nn.functional.linear(z, *last).chunk(2, -1)
        return shifts, MAX_LOG_SCALE * torch.tanh(raw / MAX_LOG_SCALE)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Mapped rows (n, d) and the log-Jacobians (n,)."""
        shifts, log_scales = self.shifts_and_log_scales(z)
        factors = torch.exp(-log_scales)
        y = z * factors - shifts if self.shift_last else (z - shifts) * factors
        return y, -log_scales.sum(-1)

    def inverse(self, y: Tensor) -> Tensor:
        z = torch.zeros_like(y)
        for j in np.argsort(self.order):
            shifts, log_scales = (each[:, j] for each in self.shifts_and_log_scales(z))
            factor = torch.exp(log_scales)
            z[:, j] = (y[:, j] + shifts) * factor if self.shift_last else y[:, j] * factor + shifts
        return z


class AutoregressiveNetwork(nn.Module):
    """Autoregressive layers in turn, through the columns and back; a fresh one is the identity."""

    def __init__(
        self,
        n_features: int,
        width: int,
        n_layers: int,
        shift_last: bool,
        generator: torch.Generator,
    ):
        super().__init__()
        self.layers = nn.ModuleList(
            _AutoregressiveLayer(n_features, width, bool(k % 2), shift_last, generator)
            for k in range(n_layers)
        )
        # For the arrays that a transform is made from again.
        self.register_buffer("shift_last", torch.tensor(shift_last))

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        total = z.new_zeros(len(z))
        for layer in self.layers:
            z, log_slope = layer(z)
            total = total + log_slope
        return z, total

    def inverse(self, y: Tensor) -> Tensor:
        for layer in reversed(cast("list[_AutoregressiveLayer]", list(self.layers))):
            y = layer.inverse(y)
        return y

    def log_density(self, z: Tensor) -> Tensor:
        """Log-density of rows that the network makes multivariate normal, shape (n,)."""
        y, log_slope = self(z)
        return log_slope - 0.5 * (y**2 + LOG_2PI).sum(-1)


class AutoregressiveTransform(Transform):
    r"""Masked autoregressive layers in float64, evaluated some rows at a time.

    .. math:: y_j = (z_j - m_j(z_{<j}))\, e^{-s_j(z_{<j})} \quad \text{or} \quad
        y_j = z_j\, e^{-s_j(z_{<j})} - m_j(z_{<j}),

    first in the order of the columns, then, where there is a second layer, in the reverse. It
    makes rows normal whose columns set each other's mean and scale, as in a funnel.

    Source: [MAF]_
    """

    def __init__(self, network: AutoregressiveNetwork):
        self.network = network.double().eval()

    @property
    def description(self) -> str:
        return "autoregressive flow"

    @torch.no_grad()
    def forward(self, X, context=None):
        parts = [self.network(part) for part in self._parts(X)]
        Z, log_jacobian = (torch.cat(each).numpy() for each in zip(*parts, strict=True))
        return Z, log_jacobian

    @torch.no_grad()
    def inverse(self, Z, context=None):
        return torch.cat([self.network.inverse(part) for part in self._parts(Z)]).numpy()

    def pull_back(self, X, gradient, context=None):
        pulled = []
        with torch.enable_grad():
            for x, g in zip(self._parts(X), self._parts(gradient), strict=True):
                x = x.clone().requires_grad_()
                z, log_jacobian = self.network(x)
                pulled.append(torch.autograd.grad((z * g).sum() + log_jacobian.sum(), x)[0])
        return torch.cat(pulled).numpy()

    def to_arrays(self) -> dict[str, np.ndarray]:
        return arrays_of(self.network)

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> AutoregressiveTransform:
        width, n_features = arrays["layers.0.weights.0"].shape
        n_layers = len({name.split(".")[1] for name in arrays if name.startswith("layers.")})
        shift_last = bool(arrays["shift_last"])
        network = AutoregressiveNetwork(n_features, width, n_layers, shift_last, torch_generator(0))
        network.load_state_dict(state_of(arrays))
        return cls(network)

    @staticmethod
    def _parts(rows: np.ndarray) -> Iterator[Tensor]:
        yield from tensor_of(np.ascontiguousarray(rows, dtype=np.float64)).split(CHUNK_ROWS)


class _LikelihoodJudge(Judge):
    """The held-out log-density; a fresh network has that of a normal distribution."""

    def __init__(self, rows: Tensor, weight: Tensor, fresh: AutoregressiveNetwork):
        self.rows, self.weight = rows, weight
        self.baseline, _ = self.measure(fresh)

    @torch.no_grad()
    def measure(self, module: AutoregressiveNetwork) -> tuple[float, State]:
        parts = [module.log_density(rows) for rows in self.rows.split(CHUNK_ROWS)]
        value = float((torch.cat(parts) * self.weight).mean())
        return (value if math.isfinite(value) else -math.inf), module.state_dict()


class FittedFlow(NamedTuple):
    """A transform, its held-out log-density, and what that gained in the later half of training."""

    transform: AutoregressiveTransform
    value: float
    later_gain: float


def fit_autoregressive(
    train_rows: tuple[np.ndarray, np.ndarray],
    held_out_rows: tuple[np.ndarray, np.ndarray],
    n_layers: int,
    shift_last: bool,
    wanted: float,
    pruned_between: tuple[float, float],
    epochs_to_tell: int,
    seconds: float,
    max_epochs: int,
    seed: int,
    checkpoint: Checkpoint = NO_CHECKPOINT,
) -> FittedFlow | None:
    """Train on some rows; the transform with the best held-out log-density.

    None where training brought no gain or diverged.

    Parameters
    ----------
    train_rows, held_out_rows : tuple of ndarray
        White rows (n, d) and weights (n,) of mean one.
    n_layers : int
    shift_last : bool
        Whether a layer shifts after it has scaled, which suits columns whose scale varies much.
    wanted : float
        Training that is not likely to come half of the way to this held-out log-density ends early.
    pruned_between : tuple of float
        The shares of the training between which that is judged, after every epoch.
    epochs_to_tell : int
        Of fewer epochs nothing is expected.
    seconds : float
        Most seconds it may take; infinite for no limit.
    max_epochs, seed : int
    checkpoint : Checkpoint

    Raises
    ------
    KeyboardInterrupt
        Where training is interrupted: a transform half learned is not worth keeping.
    """
    (Z, weight), held_out = (
        [tensor_of(part).float() for part in rows] for rows in (train_rows, held_out_rows)
    )
    (n, d), generator = Z.shape, torch_generator(seed)
    width = min(max(UNITS_PER_COLUMN * d, MIN_WIDTH), MAX_WIDTH)
    network = AutoregressiveNetwork(d, width, n_layers, shift_last, generator)
    judge = _LikelihoodJudge(held_out[0], held_out[1], network)
    learning = LEARNING[shift_last]
    settings = TrainingSettings(
        max_epochs=min(max_epochs, learning.max_epochs),
        batch_size=BATCH_SIZE,
        learning_rate=learning.rate,
        n_iter_no_change=learning.patience,
        weight_decay=min(MAX_WEIGHT_DECAY, learning.decayed_rows_per_column * d / n),
        max_gradient=learning.max_gradient,
        max_fit_time=seconds if math.isfinite(seconds) else None,
        prune_below=(wanted + judge.baseline) / 2,
        pruned_between=pruned_between,
        pruned_from=epochs_to_tell,
        checkpoint=checkpoint,
    )

    def batch_loss(network: AutoregressiveNetwork, rows: Tensor, weight: Tensor) -> Tensor:
        return -(network.log_density(rows) * weight).mean()

    try:
        record = train_module(network, batch_loss, (Z, weight), judge, settings, generator)
    except NonFiniteLossError:
        return None
    if record.stop_reason == "interrupted":
        raise KeyboardInterrupt
    if record.weights is None:
        return None
    network.load_state_dict(state_of(record.weights))
    later_gain = record.later_gain if record.n_epochs >= epochs_to_tell else 0.0
    return FittedFlow(AutoregressiveTransform(network), record.best_gain, later_gain)
