"""What happens besides the steps: rates, averages, choice of weights, the end."""

from __future__ import annotations

import math
import time

from skorch.callbacks import Callback
from torch import Tensor

from .._core.arrays import state_of
from .._core.averaging import WeightAverage
from .record import NonFiniteLossError, TrainingSettings

WARM_UP_STEPS = 50
# Epochs in which a fit ends where the held-out rows gain no more: at least, and as a share.
MIN_LAST_EPOCHS, LAST_EPOCHS_SHARE = 8, 0.3
# Of a run that its time ends, the share of its epochs that have to bring nothing before it ends.
PATIENCE_SHARE = 0.2
# Nats per row; less is no reason to go on.
MIN_IMPROVEMENT = 1e-5


class Stop(Exception):
    """Ends the training loop from inside a callback."""

    def __init__(self, reason: str):
        super().__init__(reason)
        self.reason = reason


class Averaging(Callback):
    """Averages the weights after every step."""

    def initialize(self):
        self.average = None
        return self

    def on_batch_end(self, net, **kwargs):
        if self.average is None:
            self.average = WeightAverage(net.module_)
        self.average.update(net.module_)


class Schedule(Callback):
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

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.perf_counter() - self.started

    @seconds.setter
    def seconds(self, seconds: float) -> None:
        self.started = time.perf_counter() - seconds

    def _elapsed(self) -> float:
        """The share of the time that is over."""
        limit = self.settings.max_fit_time
        return 0.0 if limit is None else self.seconds / limit

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
            raise Stop("max_fit_time")
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


class Selection(Callback):
    """Has the averaged weights judged on held-out rows and keeps the best."""

    def __init__(self, schedule, averaging, judge, record, settings):
        self.schedule, self.averaging, self.judge = schedule, averaging, judge
        self.record, self.settings = record, settings
        self.stop_reason: str | None = None

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
        if self._pruned(epoch):
            self.stop_reason = "pruned"
        elif last_epochs is None:
            if epoch - self.best_epoch >= self.schedule.patience(epoch):
                self.schedule.end_early(epoch)
                self._return_to_best(net)
        elif epoch >= last_epochs[1]:
            self.stop_reason = "no_change"

    def _pruned(self, epoch: int) -> bool:
        """Whether less is to be expected than what is wanted, at a time when that is judged."""
        progress, (first, last) = self.schedule.progress(epoch), self.settings.pruned_between
        if epoch < self.settings.pruned_from or not first <= progress <= last:
            return False
        doublings = -math.log2(progress)
        expected = self.record.best_gain + doublings * self.record.later_gain
        return expected < self.settings.prune_below

    def _return_to_best(self, net) -> None:
        """Go on from the best averaged weights: later ones may have memorised their rows."""
        weights = self.record.weights
        if weights is not None:
            self.judge.restore(net.module_, state_of(weights))


class Progress(Callback):
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
            raise Stop("callback")
        if self.selection.stop_reason is not None:
            raise Stop(self.selection.stop_reason)
