"""Training of a network or of any module, through skorch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace

import numpy as np
import torch
from skorch.callbacks import GradientNormClipping
from torch import Tensor, nn

from .._core.arrays import state_of
from .._core.averaging import WeightAverage
from .._core.likelihood.bound import HeldOutBound
from .._core.losses.loss import ScoreLoss, TrainingRows
from .._core.noise.level_sampling import LevelLaw
from .._core.precision import product_type
from .._core.scores.corrected import CorrectedScore
from .acceleration import compiled
from .callbacks import Averaging, Progress, Schedule, Selection, Stop
from .judges import GainJudge, Judge
from .lesson import Lesson
from .net import BatchLoss, Refresh, RowBatches, net_for
from .optimizer import MuonAdamW
from .processes import ALONE, Assignment, Processes, Together
from .record import TrainingRecord, TrainingSettings
from .resuming import Resuming
from .threads import ThreadChoice

# With fewer Muon's steps gain nothing, and may memorise them.
MIN_MUON_ROWS = 500


def train(
    model: CorrectedScore,
    loss: ScoreLoss,
    levels: LevelLaw,
    train_rows: TrainingRows,
    held_out_rows: TrainingRows,
    settings: TrainingSettings,
    generator: torch.Generator,
    on_epoch: Callable[[TrainingRecord], bool] = lambda record: False,
    start: dict[str, np.ndarray] | None = None,
    draw: Callable[[torch.Generator], TrainingRows] | None = None,
    processes: Processes = ALONE,
) -> TrainingRecord:
    """Fit a model's network and keep the averaged weights with the best held-out bound.

    Parameters
    ----------
    model : CorrectedScore
        Its network is trained in place, on ``settings.device``.
    loss : ScoreLoss
    levels : LevelLaw
    train_rows, held_out_rows : TrainingRows
        On the device, with weights of mean one.
    settings : TrainingSettings
    generator : torch.Generator
        On the device; shuffles, and draws levels and noise.
    on_epoch : callable
        Called with the record after every epoch; True stops the training.
    start : dict of str to ndarray, optional
        Weights of the network with which the training begins; they may be the best in the end.
    draw : callable, optional
        Gives every epoch rows of its own, with the same fields as ``train_rows``, which then only
        stand for them.
    processes : Processes
        Those that train the network together.

    Raises
    ------
    NonFiniteLossError
        When the loss is no longer a number.
    RuntimeError
        When the network is to be compiled and torch cannot.
    """
    held_out = held_out_rows.rows
    n_draws = max(1, settings.held_out_draws // (2 * len(held_out)))
    bound = HeldOutBound.draw(held_out, levels, n_draws, generator, held_out_rows.context)
    judge = GainJudge(bound, held_out_rows.weight, model.residual)
    settings = replace(
        settings,
        record_steps=settings.record_steps and loss.repeats and not processes.together,
        half_precision=model.network.half_precision,
        batch_size=processes.share_of_batch(settings.batch_size),
    )
    fields, rows = zip(*train_rows.present.items(), strict=True)
    lesson = Lesson(model, loss, levels, fields)
    matrices = model.network.hidden_matrices if len(train_rows.rows) >= MIN_MUON_ROWS else ()
    redraw = None if draw is None else lambda: tuple(draw(generator).present.values())
    assignment = Assignment(
        lesson, rows, settings.batch_size, generator.initial_seed(), settings.compile
    )
    with (
        processes.training(assignment, redraw) as (data, refresh),
        compiled(model.network, settings.compile),
    ):
        batch_loss, objective = lesson.begin(generator)
        return train_module(
            model,
            batch_loss,
            data,
            judge,
            settings,
            generator,
            on_epoch,
            matrices,
            start,
            objective,
            refresh,
            processes,
        )


def train_module(
    module: nn.Module,
    batch_loss: BatchLoss,
    data: tuple[Tensor, ...],
    judge: Judge,
    settings: TrainingSettings,
    generator: torch.Generator,
    on_epoch: Callable[[TrainingRecord], bool] = lambda record: False,
    matrices: Sequence[nn.Parameter] = (),
    start: dict[str, np.ndarray] | None = None,
    objective: ScoreLoss | None = None,
    refresh: Refresh | None = None,
    processes: Processes = ALONE,
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
    start : dict of str to ndarray, optional
        Weights as the judge keeps them.
    objective : ScoreLoss, optional
        What the loss of a batch remembers from one to the next.
    refresh : callable, optional
        Gives every epoch data of its own, in place of ``data``.
    processes : Processes
        Which make every step together.

    Notes
    -----
    With a checkpoint, a training that was done is not done again, and leaves the module as it is.
    An interrupt ends the training, and nothing but the record's ``stop_reason`` tells of it.
    """
    n_numbers = sum(part.numel() for part in module.parameters() if part.requires_grad)
    step = settings.checkpoint.step(
        f"training of {n_numbers} numbers of {type(module).__name__} on {len(data[0])} samples"
    )
    if step.result is not None:
        return TrainingRecord(**step.result)
    record = TrainingRecord(baseline=judge.baseline, best_gain=judge.baseline)
    averaging = Averaging()
    schedule = Schedule(settings)
    selection = Selection(schedule, averaging, judge, record, settings)
    threads = ThreadChoice(settings)
    resuming = Resuming(step, schedule, averaging, selection, generator, objective)
    net = net_for(settings, generator)(
        module=module,
        criterion=nn.Identity,
        batch_loss=batch_loss,
        optimizer=MuonAdamW,
        optimizer__matrices=matrices,
        optimizer__dtype=product_type(settings.device, settings.half_precision),
        optimizer__weight_decay=settings.weight_decay,
        max_epochs=settings.max_epochs,
        batch_size=settings.batch_size,
        iterator_train=RowBatches,
        iterator_train__generator=generator,
        iterator_train__min_batches=settings.min_batches,
        iterator_train__refresh=refresh,
        train_split=None,
        callbacks=[
            ("schedule", schedule),
            ("together", Together(processes)),
            ("clipping", GradientNormClipping(settings.max_gradient)),
            ("averaging", averaging),
            ("selection", selection),
            ("progress", Progress(selection, on_epoch)),
            ("threads", threads),
            ("resuming", resuming),
        ],
        verbose=0,
        device=settings.device,
    )
    net.initialize()
    net.notify("on_train_begin", X=data, y=None)
    if start is not None:
        judge.restore(module, state_of(start))
        averaging.average = WeightAverage(module)
        selection.measure()
    resuming.restore(net)
    with threads:
        try:
            net.fit_loop(data, epochs=settings.max_epochs - record.n_epochs)
        except Stop as stop:
            record.stop_reason = stop.reason
        except KeyboardInterrupt:
            record.stop_reason = "interrupted"
            processes.part()
    if record.stop_reason in ("max_fit_time", "interrupted") and averaging.average is not None:
        selection.measure()
    net.notify("on_train_end", X=data, y=None)
    if record.stop_reason != "interrupted":
        step.finish(asdict(record))
    return record
