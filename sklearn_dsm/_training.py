"""Training through skorch: the only module that knows it."""

from __future__ import annotations

import math
import time
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache, partial

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from skorch import NeuralNet
from skorch.callbacks import Callback, GradientNormClipping
from torch import Tensor, nn

from ._cuda_graphs import Recorded
from ._judges import GainJudge, Judge
from ._optimizer import MuonAdamW
from ._weights import state_of
from .averaging import WeightAverage
from .bounds import HeldOutBound
from .levels import LevelLaw
from .losses import ScoreLoss
from .scores import CorrectedScore

WARM_UP_STEPS = 50
# Epochs in which a fit ends where the held-out rows gain no more: at least, and as a share.
MIN_LAST_EPOCHS, LAST_EPOCHS_SHARE = 8, 0.3
HURDLE_SHARE = 0.2
# Of a run that its time ends, the share of its epochs that have to bring nothing before it ends.
PATIENCE_SHARE = 0.2
MAX_COMPILED = 128
# Nats per row; less is no reason to go on.
MIN_IMPROVEMENT = 1e-5


class NonFiniteLossError(FloatingPointError):
    """The training loss became NaN or infinite.

    Examples
    --------
    >>> from sklearn_dsm import DSMDensityEstimator, NonFiniteLossError
    >>> try:
    ...     DSMDensityEstimator(learning_rate=1e30).fit([[float(i)] for i in range(50)])
    ... except NonFiniteLossError as error:
    ...     print("Lower learning_rate" in str(error))
    True
    """


class InterruptedFitWarning(ConvergenceWarning):
    """A fit was interrupted; the best weights so far are kept.

    Examples
    --------
    A script that would rather end than go on with an unfinished model:

    >>> import warnings
    >>> from sklearn_dsm import InterruptedFitWarning
    >>> warnings.filterwarnings("error", category=InterruptedFitWarning)
    """


@dataclass(frozen=True)
class TrainingSettings:
    """How long, how fast and where to train; the estimator's parameters of the same names.

    Training that has not gained ``hurdle`` after ``HURDLE_SHARE`` of its epochs or time ends, and
    so does one that would not come to ``final_hurdle`` if it went on to gain as much whenever
    the epochs double.
    ``n_iter_no_change`` epochs without a gain are waited for, or more where time ends the run.
    ``compile`` has torch compile the network. On a GPU the steps are recorded as one graph,
    unless ``record_steps`` is false. Longer gradients are shortened to ``max_gradient``.
    """

    max_epochs: int
    batch_size: int
    learning_rate: float
    n_iter_no_change: int
    max_fit_time: float | None = None
    weight_decay: float = 0.0
    max_gradient: float | None = None
    min_batches: int = 32
    held_out_draws: int = 16384
    hurdle: float = -math.inf
    final_hurdle: float = -math.inf
    device: str = "cpu"
    compile: bool = False
    record_steps: bool = True
    verbose: int = 0


@dataclass
class TrainingRecord:
    """What a training run left behind.

    Attributes
    ----------
    weights : dict of str to ndarray, or None
        The averaged weights with the best held-out bound; None where no epoch gained.
    n_epochs : int
    loss_curve : list of float
        Mean training loss of each epoch, in nats per row.
    gains : list of float
        Mean held-out gain over the reference after each epoch, in nats per row.
    best_gain : float
        Gain of ``weights``.
    stop_reason : str
        "max_epochs", "no_change", "max_fit_time", "behind" (of the hurdle), "interrupted" or
        "callback".
    """

    weights: dict[str, np.ndarray] | None = None
    n_epochs: int = 0
    loss_curve: list[float] = field(default_factory=list)
    gains: list[float] = field(default_factory=list)
    best_gain: float = 0.0
    stop_reason: str = "max_epochs"


@cache
def product_type(device_type: str) -> torch.dtype:
    """bfloat16 where such a device multiplies it faster than float32."""
    if device_type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        capabilities = torch.cpu.get_capabilities()
        fast = any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16"))
    return torch.bfloat16 if fast else torch.float32


def half_precision(device: torch.device, wanted: bool = True) -> torch.autocast:
    """Matrix products in bfloat16 where the device multiplies it faster than float32."""
    fast = wanted and product_type(device.type) == torch.bfloat16
    return torch.autocast(device.type, torch.bfloat16, enabled=fast)


@contextmanager
def compiled(network: nn.Module, wanted: bool) -> Iterator[None]:
    """Have calls of a network compiled, where wanted.

    The weights keep their names and places, and copies of the network are not compiled.
    """
    if not wanted:
        yield
        return
    # Imports the compiler, which takes seconds.
    import torch._dynamo.config
    from torch._dynamo.exc import TorchDynamoException

    network.compile()
    try:
        # A network of another shape is compiled again, and too many are silently not compiled.
        with torch._dynamo.config.patch(recompile_limit=MAX_COMPILED):
            yield
    except TorchDynamoException as error:
        reason = " ".join(str(error).split("\n")[:2])
        raise RuntimeError(
            f"torch could not compile the network: {reason} On a CPU it needs a C++ compiler "
            "(the variable CXX names one), on a GPU triton. Or fit with compile=False."
        ) from error


BatchLoss = Callable[..., Tensor]


class _Stop(Exception):
    """Ends the training loop from inside a callback."""

    def __init__(self, reason: str):
        super().__init__(reason)
        self.reason = reason


class _RowBatches:
    """Equal batches of tensors that already lie on the device, in a fresh order each epoch.

    A small table is repeated until an epoch has ``min_batches``: the noise is fresh, so
    repeated rows are not repeated examples.
    """

    def __init__(self, dataset, batch_size: int, generator: torch.Generator, min_batches: int):
        self.dataset = dataset
        self.batch_size = batch_size
        self.generator = generator
        self.n_batches = max(math.ceil(len(dataset[0]) / batch_size), min_batches)

    def __len__(self) -> int:
        return self.n_batches

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        rows = self.dataset[0]
        n, needed = len(rows), self.n_batches * self.batch_size
        orders = [
            torch.randperm(n, generator=self.generator, device=rows.device)
            for _ in range(math.ceil(needed / n))
        ]
        order = torch.cat(orders)[:needed]
        for start in range(0, needed, self.batch_size):
            index = order[start : start + self.batch_size]
            yield tuple(part[index] for part in self.dataset)


class _Net(NeuralNet):
    """skorch's loop with a loss of module and batch in place of predictions and targets."""

    def __init__(self, *args, batch_loss: BatchLoss, **kwargs):
        super().__init__(*args, **kwargs)
        self.batch_loss = batch_loss

    @property
    def _default_callbacks(self):
        return []

    def get_split_datasets(self, X, y=None, **fit_params):
        return X, None

    def train_step_single(self, batch, **fit_params):
        loss = self.batch_loss(self.module_, *batch)
        loss.backward()
        return {"loss": loss, "y_pred": None}

    def run_single_epoch(self, iterator, training, prefix, step_fn, **fit_params):
        # No record per batch: reading a loss there would wait for the device every step.
        if iterator is None:
            return
        total = torch.zeros((), device=self.device)
        for batch in iterator:
            self.notify("on_batch_begin", batch=batch, training=training)
            step = step_fn(batch)
            total += step["loss"].detach()
            self.notify("on_batch_end", batch=batch, training=training, **step)
        self.history.record(prefix + "_loss", total.item() / len(iterator))


class _RecordedNet(_Net):
    """The same on a GPU, where all steps but the first few are replays of one graph."""

    def __init__(self, *args, generator: torch.Generator, **kwargs):
        super().__init__(*args, **kwargs)
        # A graph holds memory of the GPU that must go with the net, not with the next collection.
        net = weakref.proxy(self)
        self.step = Recorded(lambda *batch: net._plain_step(*batch), generator)

    def _plain_step(self, *batch: Tensor) -> Tensor:
        return super().train_step(batch)["loss"].detach()

    def train_step(self, batch, **fit_params):
        return {"loss": self.step(*batch), "y_pred": None}


class _Averaging(Callback):
    """Averages the weights after every step."""

    def initialize(self):
        self.average = None
        return self

    def on_batch_end(self, net, **kwargs):
        if self.average is None:
            self.average = WeightAverage(net.module_)
        self.average.update(net.module_)


class _Schedule(Callback):
    """A linear warm-up, then a cosine to zero over the epochs or the time, whichever ends first.

    Where the held-out rows stop gaining before that, :meth:`end_early` brings the rate down in
    a few epochs: weights that a large rate still shakes gain from a small one.
    """

    def __init__(self, settings: TrainingSettings):
        self.settings = settings

    def on_train_begin(self, net, **kwargs):
        self.n_steps, self.started = 0, time.perf_counter()
        self.first_last_epochs: tuple[int, int] | None = None

    def end_early(self, epoch: int) -> None:
        """Take the rate to zero in the epochs after this one."""
        length = max(MIN_LAST_EPOCHS, round(LAST_EPOCHS_SHARE * epoch))
        self.first_last_epochs = epoch, epoch + length

    def _elapsed(self) -> float:
        """The share of the time that is over."""
        seconds = self.settings.max_fit_time
        return 0.0 if seconds is None else (time.perf_counter() - self.started) / seconds

    def progress(self, epoch: int) -> float:
        """The share of the epochs, of which so many are done, or of the time that is over."""
        return min(1.0, max(epoch / self.settings.max_epochs, self._elapsed()))

    def patience(self, epoch: int) -> float:
        """Epochs without a gain after which to end early.

        While the rate is high, noise hides slow gains, the longer the more epochs there are.
        """
        wanted, elapsed = self.settings.n_iter_no_change, self._elapsed()
        if elapsed <= epoch / self.settings.max_epochs:
            return wanted
        return max(wanted, PATIENCE_SHARE * epoch / elapsed)

    def on_batch_begin(self, net, training=False, **kwargs):
        settings = self.settings
        # The history already counts the epoch that runs.
        epoch, elapsed = len(net.history) - 1, self._elapsed()
        if elapsed >= 1:
            raise _Stop("max_fit_time")
        self.n_steps += 1
        rate = settings.learning_rate * min(1.0, self.n_steps / WARM_UP_STEPS)
        rate *= 0.5 * (1 + math.cos(math.pi * self.progress(epoch)))
        if self.first_last_epochs is not None:
            first, last = self.first_last_epochs
            rate *= 1 - (epoch - first) / (last - first)
        for group in net.optimizer_.param_groups:
            if isinstance(group["lr"], Tensor):
                # Where a recorded step reads it.
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate


class _Selection(Callback):
    """Has the averaged weights judged on held-out rows and keeps the best."""

    def __init__(self, schedule, averaging, judge, record, settings):
        self.schedule, self.averaging, self.judge = schedule, averaging, judge
        self.record, self.settings = record, settings
        self.stop_reason: str | None = None
        self.past_hurdle = False

    def measure(self) -> float:
        value, state = self.judge.measure(self.averaging.average.module.eval())
        if value > self.record.best_gain + MIN_IMPROVEMENT:
            self.record.best_gain, self.best_epoch = value, self.record.n_epochs
            self.record.weights = {k: v.cpu().numpy().copy() for k, v in state.items()}
        return value

    def on_train_begin(self, net, **kwargs):
        self.best_epoch = 0

    def on_epoch_end(self, net, **kwargs):
        loss = net.history[-1, "train_loss"]
        if not math.isfinite(loss):
            raise NonFiniteLossError(
                f"The training loss became {loss} in epoch {len(net.history)}: the steps are too "
                f"large for these data. Lower learning_rate (now {self.settings.learning_rate:g})."
            )
        self.record.loss_curve.append(loss)
        self.record.n_epochs = len(self.record.loss_curve)
        self.record.gains.append(self.measure())
        epoch, last_epochs = self.record.n_epochs, self.schedule.first_last_epochs
        was_past, self.past_hurdle = self.past_hurdle, self.schedule.progress(epoch) >= HURDLE_SHARE
        if self.past_hurdle and not was_past and self._behind(epoch):
            self.stop_reason = "behind"
        elif last_epochs is None:
            if epoch - self.best_epoch >= self.schedule.patience(epoch):
                self.schedule.end_early(epoch)
                self._return_to_best(net)
        elif epoch >= last_epochs[1]:
            self.stop_reason = "no_change"

    def _behind(self, epoch: int) -> bool:
        best, settings = self.record.best_gain, self.settings
        earlier = max([self.judge.baseline, *self.record.gains[: epoch // 2]])
        doublings = -math.log2(self.schedule.progress(epoch))
        outlook = best + doublings * (best - earlier)
        return best < settings.hurdle or outlook < settings.final_hurdle

    def _return_to_best(self, net) -> None:
        """Go on from the best averaged weights: later ones may have memorised their rows."""
        weights = self.record.weights
        if weights is not None:
            self.judge.restore(net.module_, state_of(weights))


class _Progress(Callback):
    """A line an epoch and the estimator's own hook; then the training ends where it is to."""

    def __init__(self, selection, on_epoch):
        self.selection, self.on_epoch = selection, on_epoch
        self.record, self.settings = selection.record, selection.settings

    def on_epoch_end(self, net, **kwargs):
        record = self.record
        if self.settings.verbose and record.n_epochs % max(1, 10 // self.settings.verbose**2) == 0:
            print(
                f"epoch {record.n_epochs:4d}  loss {record.loss_curve[-1]:10.4f}  "
                f"held-out gain {record.gains[-1]:9.4f}  best {record.best_gain:9.4f}"
            )
        if self.on_epoch(record):
            raise _Stop("callback")
        if self.selection.stop_reason is not None:
            raise _Stop(self.selection.stop_reason)


def train(
    model: CorrectedScore,
    loss: ScoreLoss,
    levels: LevelLaw,
    train_rows: tuple[Tensor, Tensor],
    held_out_rows: tuple[Tensor, Tensor],
    settings: TrainingSettings,
    generator: torch.Generator,
    on_epoch: Callable[[TrainingRecord], bool] = lambda record: False,
) -> TrainingRecord:
    """Fit a model's network and keep the averaged weights with the best held-out bound.

    Parameters
    ----------
    model : CorrectedScore
        Its network is trained in place, on ``settings.device``.
    loss : ScoreLoss
    levels : LevelLaw
    train_rows, held_out_rows : tuple of Tensor
        Rows (n, d) and weights (n,) of mean one, on the device.
    settings : TrainingSettings
    generator : torch.Generator
        On the device; shuffles, and draws levels and noise.
    on_epoch : callable
        Called with the record after every epoch; True stops the training.

    Raises
    ------
    NonFiniteLossError
        When the loss is no longer a number.
    RuntimeError
        When the network is to be compiled and torch cannot.
    """
    held_out, held_out_weight = held_out_rows
    n_draws = max(1, settings.held_out_draws // (2 * len(held_out)))
    bound = HeldOutBound.draw(held_out, levels, n_draws, generator)
    judge = GainJudge(bound, held_out_weight, model.residual)
    model.network.generator = generator
    objective = loss.started(model)
    in_half = model.network.half_precision and loss.half_precision

    def batch_loss(model: CorrectedScore, rows: Tensor, weight: Tensor) -> Tensor:
        with half_precision(rows.device, in_half):
            return objective(model, rows, weight, levels, generator)

    settings = replace(settings, record_steps=settings.record_steps and loss.repeats)
    with compiled(model.network, settings.compile):
        record = train_module(
            model,
            batch_loss,
            train_rows,
            judge,
            settings,
            generator,
            on_epoch,
            model.network.hidden_matrices,
        )
    warn_if_interrupted(record)
    return record


def warn_if_interrupted(record: TrainingRecord) -> None:
    """Say that a model is not finished."""
    if record.stop_reason == "interrupted":
        warnings.warn(
            f"The fit was interrupted after {record.n_epochs} epochs; the best weights so far "
            "are kept. Fit again for a finished model.",
            InterruptedFitWarning,
            stacklevel=3,
        )


def _net_for(settings: TrainingSettings, generator: torch.Generator) -> Callable[..., _Net]:
    """skorch's net, with a rate that the schedule can change."""
    if not settings.record_steps or torch.device(settings.device).type != "cuda":
        return partial(_Net, lr=settings.learning_rate)
    rate = torch.tensor(settings.learning_rate, device=settings.device)
    return partial(_RecordedNet, lr=rate, optimizer__capturable=True, generator=generator)


def train_module(
    module: nn.Module,
    batch_loss: BatchLoss,
    data: tuple[Tensor, ...],
    judge: Judge,
    settings: TrainingSettings,
    generator: torch.Generator,
    on_epoch: Callable[[TrainingRecord], bool] = lambda record: False,
    matrices: Sequence[nn.Parameter] = (),
) -> TrainingRecord:
    """Minimise a loss of module and batch, and keep the averaged weights a judge prefers.

    Parameters
    ----------
    module : nn.Module
        Trained in place, on ``settings.device``.
    batch_loss : callable (module, *batch) -> Tensor
    data : tuple of Tensor
        Equally long; a batch holds the same rows of each.
    judge : Judge
    settings, generator, on_epoch
        As in :func:`train`.
    matrices : sequence of Parameter
        Those between hidden layers, whose steps are Muon's.

    Notes
    -----
    An interrupt ends the training, and nothing but the record's ``stop_reason`` tells of it.
    """
    record = TrainingRecord(best_gain=judge.baseline)
    averaging = _Averaging()
    schedule = _Schedule(settings)
    selection = _Selection(schedule, averaging, judge, record, settings)
    net = _net_for(settings, generator)(
        module=module,
        criterion=nn.Identity,
        batch_loss=batch_loss,
        optimizer=MuonAdamW,
        optimizer__matrices=matrices,
        optimizer__dtype=product_type(torch.device(settings.device).type),
        optimizer__weight_decay=settings.weight_decay,
        optimizer__fused=True,
        max_epochs=settings.max_epochs,
        batch_size=settings.batch_size,
        iterator_train=_RowBatches,
        iterator_train__generator=generator,
        iterator_train__min_batches=settings.min_batches,
        train_split=None,
        callbacks=[
            ("schedule", schedule),
            ("clipping", GradientNormClipping(settings.max_gradient)),
            ("averaging", averaging),
            ("selection", selection),
            ("progress", _Progress(selection, on_epoch)),
        ],
        verbose=0,
        device=settings.device,
    )
    net.initialize()
    net.notify("on_train_begin", X=data, y=None)
    try:
        net.fit_loop(data)
    except _Stop as stop:
        record.stop_reason = stop.reason
    except KeyboardInterrupt:
        record.stop_reason = "interrupted"
    if record.stop_reason in ("max_fit_time", "interrupted") and averaging.average is not None:
        selection.measure()
    net.notify("on_train_end", X=data, y=None)
    return record
