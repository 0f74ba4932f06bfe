"""Training of mixture networks, each judged by the samples of a fold that it does not see."""

from __future__ import annotations

from copy import deepcopy
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .._budget import Budget
from .._core.random import torch_generator
from .._tabular.schedule import Batches, average, rate_factor
from ._networks import MixtureNetworks

BATCH_SIZES = ((2000, 128), (20_000, 256), (np.inf, 512))
LEARNING_RATE, MAX_GRADIENT = 6e-3, 5.0
N_EVALUATIONS, PATIENCE = 60, 10
# Nats by which members must gain, in the mean, within so many evaluations.
LEAST_GAIN = 1e-3
WEIGHT_DECAY, MAX_STEPS, MAX_JUDGES = 0.1, 4000, 2000


class Members(NamedTuple):
    """What distinguishes the members of a training, each an array with one entry for each.

    Attributes
    ----------
    target : ndarray of shape (n_members, n)
        What the mixtures are of.
    fold : ndarray of shape (n_members, n)
        Whether a sample judges the member, which does not see it then.
    dropout : ndarray of shape (n_members,)
    """

    target: np.ndarray
    fold: np.ndarray
    dropout: np.ndarray


class Record(NamedTuple):
    """How a training ended."""

    n_steps: int
    stop_reason: str


def train_members(
    networks: MixtureNetworks,
    inputs: np.ndarray,
    members: Members,
    weight: np.ndarray,
    max_epochs: int,
    budget: Budget,
    seed: int,
) -> Record:
    """Maximise the likelihood; each member ends with its best averaged weights."""
    training = _Training(networks, inputs, members, weight, seed)
    n_steps = int(min(MAX_STEPS, max_epochs * -(-len(inputs) // training.batches.size)))
    every = max(1, n_steps // N_EVALUATIONS)
    reason, last_better, step = "max_epochs", 0, 0
    lead = training.judge()
    try:
        for step in range(1, n_steps + 1):
            training.step(step, max(step / n_steps, budget.share_taken))
            if step % every and step < n_steps and not budget.is_over:
                continue
            value = training.judge()
            if value > lead + LEAST_GAIN:
                lead, last_better = value, step
            if budget.is_over:
                reason = "max_fit_time"
                break
            if step - last_better > PATIENCE * every:
                reason = "converged"
                break
    except KeyboardInterrupt:
        reason = "interrupted"
    training.finish()
    return Record(step, reason)


class _Training:
    """Networks, the averages of their weights, and the best of these."""

    def __init__(self, networks: MixtureNetworks, inputs, members: Members, weight, seed: int):
        self.networks, self.generator = networks, torch_generator(seed)
        self.kept_share = _float(1 - members.dropout)[:, None, None]
        self.has_dropout = bool(members.dropout.any())
        self.inputs, self.target, self.weight = map(_float, (inputs, members.target, weight))
        fold = torch.from_numpy(members.fold)
        self.seen = (~fold).float()
        # Folds need not be of one size; a sample in excess has no weight.
        most = min(MAX_JUDGES, int(fold.sum(1).max()))
        order = torch.rand(fold.shape, generator=self.generator) + fold
        self.judges = order.argsort(1, descending=True)[:, :most]
        self.judged = fold.gather(1, self.judges) * self.weight[self.judges]
        size = next(size for rows, size in BATCH_SIZES if len(inputs) <= rows)
        self.batches = Batches(len(inputs), min(len(inputs), size), self.generator)
        self.optimizer = torch.optim.Adam(networks.parameters(), lr=LEARNING_RATE)
        self.average = deepcopy(networks)
        self.best = deepcopy(networks)
        self.least = torch.full((len(fold),), torch.inf)

    def step(self, step: int, share: float) -> None:
        """One step of the optimiser, after a share of the training."""
        rate = LEARNING_RATE * rate_factor(step, share)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        rows = self.batches.next()
        kept = (self._kept(len(rows)), self._kept(len(rows))) if self.has_dropout else None
        inputs, target = self.inputs[rows], self.target[:, rows]
        law = self.networks(inputs, kept)
        losses = -law.log_density(target) * self.seen[:, rows] * self.weight[rows]
        self.optimizer.zero_grad()
        (losses.sum() / self.seen[:, rows].sum(1).mean()).backward()
        self._clip()
        self.optimizer.step()
        with torch.no_grad():
            for part in (self.networks.first, self.networks.second, self.networks.last):
                part.mul_(1 - rate * WEIGHT_DECAY)
        average(self.average.parameters(), self.networks.parameters(), step)

    def _kept(self, n: int) -> Tensor:
        """Factors of hidden units, 0 for those that are dropped out."""
        size = (len(self.seen), n, self.networks.second.shape[-1])
        return (torch.rand(size, generator=self.generator) < self.kept_share) / self.kept_share

    def _clip(self) -> None:
        """Gradients of a member are no longer than a limit."""
        grads = [part.grad for part in self.networks.parameters() if part.grad is not None]
        norm = torch.stack([g.flatten(1).square().sum(1) for g in grads]).sum(0).sqrt()
        factor = (MAX_GRADIENT / norm.clamp_min(1e-12)).clamp(max=1.0)
        for g in grads:
            g.mul_(factor[:, None, None])

    @torch.no_grad()
    def judge(self) -> float:
        """Keep the averages of members that are better by their folds; the mean log-density."""
        losses = self._losses()
        better = losses < self.least
        self.least = torch.where(better, losses, self.least)
        for target, source in zip(self.best.parameters(), self.average.parameters(), strict=True):
            target[better] = source[better]
        return -float(self.least.mean())

    def _losses(self) -> Tensor:
        law = self.average(self.inputs[self.judges])
        log_density = law.log_density(self.target.gather(1, self.judges))
        return -(log_density * self.judged).sum(1) / self.judged.sum(1)

    @torch.no_grad()
    def finish(self) -> None:
        for target, source in zip(self.networks.parameters(), self.best.parameters(), strict=True):
            target.copy_(source)


def _float(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.asarray(values, dtype=np.float32))
