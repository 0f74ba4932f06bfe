"""Processes that accelerate has started, and that train one network together.

The first process fits, and decides all: rates, steps, which weights are kept, the end. Before every
step the others get its weights. Each process computes the gradient of its share of the batch, and
the first one makes the step with the mean of all gradients. In the end all have its fit.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain, repeat
from typing import Any, NamedTuple

import torch
from skorch.callbacks import Callback
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from .._core.random import torch_generator
from .._extras import extra
from .._validation import ACCELERATE, resolve_device
from .acceleration import compiled
from .lesson import Lesson
from .net import Refresh, RowBatches

Rows = tuple[Tensor, ...]

# What comes with the weights that the first process sends.
END, STEP, NEW_ROWS = 0, 1, 2


class Assignment(NamedTuple):
    """A training in which the other processes take part.

    Attributes
    ----------
    lesson : Lesson
    rows : tuple of Tensor
        All of them.
    batch_size : int
        Rows of one process in a batch.
    seed : int
        Every process adds its number to it.
    compile : bool
    """

    lesson: Lesson
    rows: Rows
    batch_size: int
    seed: int
    compile: bool


def _on_cpu(rows: Rows) -> Rows:
    return tuple(part.cpu() for part in rows)


class Processes:
    """The processes that accelerate has started, this one among them.

    Parameters
    ----------
    state : accelerate.PartialState or None
        None where this process fits alone.
    """

    def __init__(self, state: Any = None):
        self.state = state
        self.number = 0 if state is None else state.process_index
        self.n = 1 if state is None else state.num_processes
        self.together = self.n > 1

    @property
    def is_first(self) -> bool:
        return self.number == 0

    def share(self, rows: Rows) -> Rows:
        """Those of all rows that this process trains on, on its device."""
        device = None if self.state is None else self.state.device
        return tuple(part[self.number :: self.n].to(device) for part in rows)

    def share_of_batch(self, batch_size: int) -> int:
        """How many rows of a batch are those of one process."""
        return max(1, batch_size // self.n)

    # Messages

    def tell(self, message: Any) -> None:
        """Send anything that can be pickled to the other processes, whose turn it is to hear."""
        self._broadcast_object(message)

    def hear(self) -> Any:
        """What the first process tells next."""
        return self._broadcast_object(None)

    def _broadcast_object(self, message: Any) -> Any:
        from accelerate.utils import broadcast_object_list

        return broadcast_object_list([message])[0]

    def exchange(self, module: nn.Module, sign: int = END) -> int:
        """Give the first process's weights to all, and return its sign of what follows."""
        from accelerate.utils import broadcast

        with torch.no_grad():
            weights = parameters_to_vector(module.parameters())
            sent = broadcast(torch.cat([weights.new_tensor([sign]), weights]))
            if not self.is_first:
                vector_to_parameters(sent[1:], module.parameters())
        return int(sent[0])

    def average_gradients(self, module: nn.Module) -> None:
        """Put the mean over the processes in place of every gradient."""
        from accelerate.utils import reduce

        gradients = [part.grad for part in module.parameters() if part.grad is not None]
        mean = reduce(torch.cat([each.flatten() for each in gradients]), reduction="mean")
        for each, part in zip(gradients, mean.split([g.numel() for g in gradients]), strict=True):
            each.copy_(part.view_as(each))

    # The first process

    @contextmanager
    def training(
        self, assignment: Assignment, refresh: Refresh | None
    ) -> Iterator[tuple[Rows, Refresh | None]]:
        """Have the others take part in a training; the rows of this process, and its refresh."""
        if not self.together:
            yield assignment.rows, refresh
            return
        lesson = assignment.lesson
        sent = replace(lesson, model=copy.deepcopy(lesson.model).cpu())
        self.tell(assignment._replace(lesson=sent, rows=_on_cpu(assignment.rows)))
        try:
            yield (
                self.share(assignment.rows),
                refresh and (lambda: self._hand_out(refresh(), lesson.model)),
            )
        finally:
            if self.together:
                self.exchange(lesson.model, END)

    def _hand_out(self, rows: Rows, module: nn.Module) -> Rows:
        """Give all processes their share of other rows."""
        if self.together:
            self.exchange(module, NEW_ROWS)
            self.tell(_on_cpu(rows))
        return self.share(rows)

    def part(self) -> None:
        """Go on without the others, where an interrupt has ended them or their steps."""
        self.together = False

    @contextmanager
    def telling_result(self, fitted: Callable[[], dict[str, Any]]) -> Iterator[None]:
        """Tell the other processes what came of a fit: its attributes, or the error."""
        try:
            yield
        except Exception as error:
            if self.together:
                self.tell(error)
            raise
        if self.together:
            self.tell(fitted())

    # The others

    def help(self) -> dict[str, Any]:
        """Take part in all trainings of a fit; the attributes that the first process stored.

        Raises
        ------
        Exception
            That of the first process.
        """
        while isinstance(message := self.hear(), Assignment):
            self._take_part(message)
        if isinstance(message, Exception):
            raise message
        return message

    def _take_part(self, assignment: Assignment) -> None:
        lesson, device = assignment.lesson, self.state.device
        generator = torch_generator(assignment.seed + self.number, device)
        module = lesson.model.to(device)
        batch_loss, _ = lesson.begin(generator)
        batches = self._batches(assignment.rows, assignment, generator)
        with compiled(module.network, assignment.compile):
            while (sign := self.exchange(module)) != END:
                if sign == NEW_ROWS:
                    batches = self._batches(self.hear(), assignment, generator)
                    continue
                module.zero_grad()
                batch_loss(module, *next(batches)).backward()
                self.average_gradients(module)

    def _batches(self, rows: Rows, assignment: Assignment, generator) -> Iterator[Rows]:
        """Batches of this process's share without an end."""
        share = RowBatches(self.share(rows), assignment.batch_size, generator, min_batches=1)
        return chain.from_iterable(repeat(share))


class Together(Callback):
    """Makes every step of a training that of all processes.

    Parameters
    ----------
    processes : Processes
    """

    def __init__(self, processes: Processes):
        self.processes = processes

    def on_batch_begin(self, net, **kwargs):
        if self.processes.together:
            self.processes.exchange(net.module_, STEP)

    def on_grad_computed(self, net, named_parameters, **kwargs):
        if self.processes.together:
            self.processes.average_gradients(net.module_)


ALONE = Processes()


def processes_of(device: str) -> tuple[Processes, torch.device]:
    """Who fits, and on which device this process computes.

    Raises
    ------
    ImportError
        If the device is that of accelerate, which is not installed.
    ValueError
        If there is no such device.
    """
    if device != ACCELERATE:
        return ALONE, resolve_device(device)
    need = "device='accelerate' needs the package accelerate"
    with extra("accelerate", need, "Or use device='auto'."):
        from accelerate import PartialState
        from accelerate.utils import parse_flag_from_env
    # Without being told, accelerate takes one process only where there is no GPU.
    on_cpu = not torch.cuda.is_available() or parse_flag_from_env("ACCELERATE_USE_CPU")
    state = PartialState(cpu=on_cpu)
    return Processes(state), torch.device(state.device.type if on_cpu else state.device)
