"""skorch's net over batches of tensors, and the same with recorded steps."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterator
from functools import partial

import torch
from skorch import NeuralNet
from torch import Tensor

from .._core.cuda_graphs import Recorded
from .record import TrainingSettings

BatchLoss = Callable[..., Tensor]
Refresh = Callable[[], tuple[Tensor, ...]]


class RowBatches:
    """Equal batches of tensors that already lie on the device, in a fresh order each epoch.

    A small table is repeated until an epoch has ``min_batches``: the noise is fresh, so
    repeated rows are not repeated examples. ``refresh`` gives every epoch a dataset of its own.
    """

    def __init__(
        self,
        dataset,
        batch_size: int,
        generator: torch.Generator,
        min_batches: int,
        refresh: Refresh | None = None,
    ):
        self.dataset = dataset
        self.batch_size = batch_size
        self.generator = generator
        self.min_batches = min_batches
        self.refresh = refresh

    def __len__(self) -> int:
        return max(math.ceil(len(self.dataset[0]) / self.batch_size), self.min_batches)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        if self.refresh is not None:
            self.dataset = self.refresh()
        rows = self.dataset[0]
        n, needed = len(rows), len(self) * self.batch_size
        orders = [
            torch.randperm(n, generator=self.generator, device=rows.device)
            for _ in range(math.ceil(needed / n))
        ]
        order = torch.cat(orders)[:needed]
        for start in range(0, needed, self.batch_size):
            index = order[start : start + self.batch_size]
            yield tuple(part[index] for part in self.dataset)


class Net(NeuralNet):
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


class RecordedNet(Net):
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


def net_for(settings: TrainingSettings, generator: torch.Generator) -> Callable[..., Net]:
    """skorch's net, with a rate that the schedule can change."""
    if not settings.record_steps or torch.device(settings.device).type != "cuda":
        return partial(Net, lr=settings.learning_rate)
    rate = torch.tensor(settings.learning_rate, device=settings.device)
    return partial(RecordedNet, lr=rate, optimizer__capturable=True, generator=generator)
