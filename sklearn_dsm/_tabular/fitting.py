"""Training of the networks of all fields, each of which keeps its own best weights."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .._budget import Budget
from .._core.random import torch_generator
from .heads import normals
from .layout import Layout, Samples
from .nets import FieldNetworks
from .schedule import Batches, average, rate_factor

# Rows up to which a fit has so many members, each judged by the rows that it has not seen.
MEMBERS = ((2000, 5), (8000, 2))
HELD_OUT_SHARE = 0.1
# Small tables get small batches, since steps are what their epochs are short of.
BATCH_SIZES = ((1000, 32), (2000, 128), (20000, 256), (np.inf, 512))
# Width and dropout: the fewer the rows, the more dropout, and the wider the networks it thins out.
SIZES = ((1000, (128, 0.5)), (5000, (64, 0.1)), (np.inf, (96, 0.0)))
LEARNING_RATE, WEIGHT_DECAY = 3e-3, 0.02
MAX_STEPS, N_EVALUATIONS, PATIENCE = 4000, 40, 5
# Nats by which validation samples must become more likely within so many evaluations.
LEAST_GAIN = 0.003
MAX_JUDGES = 5000
CHAIN_SHARE = 0.5
# Missing values are drawn first after such a share of the training, and again after each further
# such share, for at most so many samples at a time.
FIRST_REFILL, REFILL_EVERY, REFILL_ROWS = 0.5, 0.1, 10_000
MAX_GRADIENT = 5.0


class FitPlan(NamedTuple):
    """How networks are trained.

    Attributes
    ----------
    max_epochs : int
    seed : int
    budget : Budget
    device : torch.device
    say : callable
        Takes lines of progress.
    refill : callable or None
        Samples of given numbers with draws for what is missing; None where nothing is.
    """

    max_epochs: int
    seed: int
    budget: Budget
    device: torch.device
    say: Callable[[str], None]
    refill: Callable[[FieldNetworks, np.ndarray], Samples] | None = None


class FitRecord(NamedTuple):
    """What a training gave.

    Attributes
    ----------
    networks : FieldNetworks
        With the best weights of each network, on the CPU.
    held_out : float
        Mean log-probability of validation samples under members that did not see them.
    n_steps : int
    stop_reason : str
    """

    networks: FieldNetworks
    held_out: float
    n_steps: int
    stop_reason: str


class Batch(NamedTuple):
    """Samples as tensors on the device of the networks."""

    inputs: Tensor
    have: Tensor
    state: Tensor
    score: Tensor
    low: Tensor
    high: Tensor

    def take(self, rows: Tensor) -> Batch:
        return Batch(*(part[rows] for part in self))


def tensors(layout: Layout, samples: Samples, dtype=torch.float32) -> Batch:
    """Samples for networks."""
    parts = (samples.score, samples.low, samples.high)
    scores = (torch.from_numpy(part).to(dtype) for part in parts)
    inputs = torch.from_numpy(layout.inputs(samples)).to(dtype)
    return Batch(inputs, torch.from_numpy(samples.have), torch.from_numpy(samples.state), *scores)


class Losses:
    """Negative log-probabilities of fields under their networks."""

    def __init__(self, layout: Layout):
        self.layout = layout
        fields = layout.fields
        self.numbers = [f for f, field in enumerate(fields) if not field.n_states]
        self.states = [f for f, field in enumerate(fields) if field.n_states]
        steps = [layout.codes[fields[f].column].type.step for f in self.numbers]
        self.cells = [k for k, step in enumerate(steps) if step]
        self.smooth = [k for k, step in enumerate(steps) if not step]

    def __call__(self, outputs, batch: Batch) -> Tensor:
        """Of shape (n_members, n, n_fields), 0 where a field has no value."""
        numbers, states = outputs
        shape = (len(numbers), *batch.have.shape)
        found = torch.zeros(shape, dtype=numbers.dtype, device=numbers.device)
        law = normals(numbers.transpose(1, 2))
        if self.smooth:
            fields = [self.numbers[k] for k in self.smooth]
            part = type(law)(*(each[:, :, self.smooth] for each in law))
            found[..., fields] = -part.log_density(batch.score[:, fields])
        if self.cells:
            fields = [self.numbers[k] for k in self.cells]
            part = type(law)(*(each[:, :, self.cells] for each in law))
            found[..., fields] = -part.log_mass(batch.low[:, fields], batch.high[:, fields])
        for k, f in zip(self.states, states, strict=True):
            known = batch.state[:, k].clamp(max=f.shape[-1] - 1)
            chosen = known.expand(len(f), -1)[..., None]
            found[..., k] = -torch.log_softmax(f, -1).gather(-1, chosen)[..., 0]
        return torch.where(batch.have, found, 0.0)


def fit_networks(layout: Layout, samples: Samples, weight: np.ndarray, plan: FitPlan) -> FitRecord:
    """Train networks by maximum likelihood.

    Parameters
    ----------
    layout : Layout
    samples : Samples
    weight : ndarray of shape (n,), of mean one
    plan : FitPlan

    Notes
    -----
    An interrupt ends the training, and nothing but ``stop_reason`` tells of it.
    """
    n, budget = len(samples), plan.budget
    training = _Training(layout, samples, weight, plan)
    n_steps = int(min(MAX_STEPS, plan.max_epochs * -(-n // training.batches.size)))
    every = max(1, n_steps // N_EVALUATIONS)
    reason, last_better, lead, step = "all steps taken", 0, training.best.value, 0
    next_refill = FIRST_REFILL
    try:
        for step in range(1, n_steps + 1):
            share = max(step / n_steps, budget.share_taken)
            if plan.refill and share >= next_refill:
                training.refill(plan.refill)
                next_refill = share + REFILL_EVERY
                lead, last_better = training.best.value, step
            training.step(step, share)
            if step % every and step < n_steps and not budget.is_over:
                continue
            value = training.judge()
            plan.say(f"step {step}: log-probability of validation samples {value:.3f}")
            if value > lead + LEAST_GAIN:
                lead, last_better = value, step
            if budget.is_over:
                reason = "max_fit_time is over"
                break
            if step - last_better > PATIENCE * every:
                if plan.refill and not training.is_filled:
                    next_refill = 0.0
                    continue
                reason = "validation samples have not become more likely"
                break
    except KeyboardInterrupt:
        reason = "interrupted"
    return FitRecord(training.best.networks(), training.best.value, step, reason)


class _Training:
    """Networks, the averages of their weights, and the best of these."""

    def __init__(self, layout: Layout, samples: Samples, weight: np.ndarray, plan: FitPlan):
        n, device = len(samples), plan.device
        random = np.random.RandomState(plan.seed)
        self.generator = torch_generator(plan.seed)
        n_members = next((members for rows, members in MEMBERS if n <= rows), 1)
        n_members = min(n, n_members)
        n_folds = n_members if n_members > 1 else round(1 / HELD_OUT_SHARE)
        folds = random.permutation(n) % min(n, n_folds)
        self.seen = torch.from_numpy(np.stack([folds != m for m in range(n_members)])).to(device)
        self.judges = [
            torch.from_numpy(random.permutation(np.flatnonzero(folds == m))[:MAX_JUDGES])
            for m in range(n_members)
        ]
        width, dropout = next(sizes for rows, sizes in SIZES if n <= rows)
        networks = FieldNetworks(layout, n_members, width, dropout, self.generator)
        self.networks = networks.to(device)
        self.losses = Losses(layout)
        # Copies, since missing values of these are filled in.
        self.data = Batch(*(part.clone().to(device) for part in tensors(layout, samples)))
        self.judged = self.data
        self.weights = torch.from_numpy(weight).float().to(device)
        size = next(size for rows, size in BATCH_SIZES if n <= rows)
        self.batches = Batches(n, min(n, size), self.generator)
        self.n_columns = len(layout.codes)
        self.columns = torch.tensor([layout.fields[f].column for f in layout.input_fields])
        self.optimizer = torch.optim.AdamW(
            networks.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY
        )
        self.average = deepcopy(networks).eval()
        networks.generator = torch_generator(plan.seed, device)
        self.best = _Best(self.average)
        self.layout, self.is_filled = layout, False
        self.judge()

    def refill(self, refill: Callable[[FieldNetworks, np.ndarray], Samples]) -> None:
        """Train with draws for what is missing, which is what laws are evaluated with.

        Validation samples are drawn once, so that later weights are compared by the same ones.
        """
        n = len(self.weights)
        rows = torch.randperm(n, generator=self.generator)[:REFILL_ROWS]
        if not self.is_filled:
            rows = torch.cat([*self.judges, rows]).unique()
        samples = refill(deepcopy(self.average), rows.numpy())
        for target, drawn in zip(self.data, tensors(self.layout, samples), strict=True):
            target[rows.to(target.device)] = drawn.to(target.device)
        if not self.is_filled:
            self.judged = Batch(*(part.clone() for part in self.data))
            self.is_filled = True
            self.best.forget()
            self.judge()

    def step(self, step: int, share: float) -> None:
        """One step of the optimiser, after a share of the training."""
        for group in self.optimizer.param_groups:
            group["lr"] = LEARNING_RATE * rate_factor(step, share)
        rows = self.batches.next().to(self.weights.device)
        batch = self.data.take(rows)
        later = _random_columns(len(rows), self.n_columns, self.generator)[:, self.columns]
        each = self.losses(self.networks(batch.inputs, batch.inputs * later.to(rows.device)), batch)
        counted = (self.seen[:, rows] * self.weights[rows])[..., None]
        self.optimizer.zero_grad()
        ((each * counted).sum(1).sum() / len(rows)).backward()
        parameters = list(self.networks.parameters())
        torch.nn.utils.clip_grad_norm_(parameters, MAX_GRADIENT * self.networks.n_members)
        self.optimizer.step()
        average(self.average.parameters(), parameters, step)

    @torch.no_grad()
    def judge(self) -> float:
        """Keep the averages that are best by the validation samples of all members."""
        found = []
        for m, rows in enumerate(self.judges):
            batch, weights = self.judged.take(rows), self.weights[rows, None]
            outputs = self.average(batch.inputs, members=slice(m, m + 1))
            each = self.losses(outputs, batch)[0]
            found.append((each * weights).sum(0) / weights.sum())
        self.best.update(torch.stack(found).mean(0))
        return self.best.value


def _random_columns(n: int, n_columns: int, generator: torch.Generator) -> Tensor:
    """Flags (n, n_columns) of columns that are shown though they come later: none in some rows."""
    rate = torch.rand(n, 1, generator=generator)
    shown = torch.rand(n, n_columns, generator=generator) < rate
    return shown & (torch.rand(n, 1, generator=generator) > CHAIN_SHARE)


class _Best:
    """The best weights of each field's networks by their own mean loss."""

    def __init__(self, average: FieldNetworks):
        self._average = average
        n_fields = average.first_bias.shape[1]
        self._losses = torch.full((n_fields,), torch.inf, device=average.first.device)
        self._parts = [part.detach().clone() for part, _ in average.units()]

    @property
    def value(self) -> float:
        """Mean log-probability of validation samples."""
        return float(-self._losses.sum())

    def update(self, losses: Tensor) -> None:
        """Take the weights of fields whose losses (n_fields,) are smaller."""
        better = losses < self._losses
        self._losses = torch.where(better, losses, self._losses)
        self._copy(self._parts, [part for part, _ in self._average.units()], better)

    def forget(self) -> None:
        """Compare from now on by other samples."""
        self._losses = torch.full_like(self._losses, torch.inf)

    def networks(self) -> FieldNetworks:
        """The networks with their best weights."""
        everywhere = torch.ones_like(self._losses, dtype=torch.bool)
        self._copy([part for part, _ in self._average.units()], self._parts, everywhere)
        return self._average

    @torch.no_grad()
    def _copy(self, targets, sources, where: Tensor) -> None:
        fields_of = [fields for _, fields in self._average.units()]
        for target, source, fields in zip(targets, sources, fields_of, strict=True):
            chosen = where[fields]
            target[:, chosen] = source[:, chosen]
