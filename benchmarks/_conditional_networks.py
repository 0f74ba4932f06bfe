"""An ensemble of mixture density networks, within a budget of seconds.

A network maps standardised features to the weights, means and scales of normal components. Every
member leaves out other rows, and the averaged weights that are best on these are kept. After a
trial of each recipe the best one gets the members that the seconds allow.
"""

from __future__ import annotations

import copy
import math
from typing import NamedTuple

import numpy as np
import torch
from _budget import Clock, n_threads
from _conditional_densities import NormalMixture
from sklearn.model_selection import ShuffleSplit
from torch import nn

HELD_OUT, BATCH_ROWS, CLIP, AVERAGING = 0.15, 128, 5.0, 0.99
MOST_STEPS, STEPS_PER_CHECK, PATIENCE = 6000, 40, 20
MOST_MEMBERS, TRIAL_SHARE, LEAST_LOG_SCALE = 8, 0.08, -6.0


class Recipe(NamedTuple):
    hidden: int
    n_layers: int
    n_components: int
    dropout: float
    weight_decay: float
    learning_rate: float = 3e-3


RECIPES = (
    Recipe(64, 2, 3, 0.1, 1e-2),
    Recipe(128, 2, 5, 0.1, 1e-3),
    Recipe(32, 2, 1, 0.0, 1e-1),
    Recipe(128, 3, 5, 0.05, 1e-2, 1e-3),
)


class Network(nn.Module):
    """Features (n, d) to log-weights, means and log-scales (n, k)."""

    def __init__(self, n_features: int, recipe: Recipe):
        super().__init__()
        width, layers = n_features, []
        for _ in range(recipe.n_layers):
            layers += [nn.Linear(width, recipe.hidden), nn.SiLU(), nn.Dropout(recipe.dropout)]
            width = recipe.hidden
        self.trunk, self.head = nn.Sequential(*layers), nn.Linear(width, 3 * recipe.n_components)
        nn.init.normal_(self.head.weight, std=0.05)
        with torch.no_grad():
            self.head.bias.zero_()
            start = torch.linspace(-1, 1, recipe.n_components) if recipe.n_components > 1 else 0
            self.head.bias[recipe.n_components : 2 * recipe.n_components] = start

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        logits, means, log_scales = self.head(self.trunk(x)).chunk(3, dim=-1)
        return logits.log_softmax(-1), means, log_scales.clamp(min=LEAST_LOG_SCALE)

    def loss(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        log_weights, means, log_scales = self(x)
        z = (y[:, None] - means) * (-log_scales).exp()
        each = log_weights - 0.5 * z**2 - log_scales - 0.5 * math.log(2 * math.pi)
        return -each.logsumexp(-1).mean()


class Member(NamedTuple):
    loss: float
    model: Network
    n_steps: int
    is_cut: bool = False


def trained(recipe: Recipe, x: torch.Tensor, y: torch.Tensor, seconds: float, seed: int) -> Member:
    """Adam with averaged weights; those are kept that are best on the rows that are left out."""
    clock = Clock(seconds)
    fit, out = next(ShuffleSplit(1, test_size=HELD_OUT, random_state=seed).split(x))
    x, y, x_out, y_out = x[fit], y[fit], x[out], y[out]
    model = Network(x.shape[1], recipe)
    averaged = copy.deepcopy(model).eval()
    weights, means = list(model.parameters()), list(averaged.parameters())
    rate, decay = recipe.learning_rate, recipe.weight_decay
    optimizer = torch.optim.AdamW(weights, lr=rate, weight_decay=decay, fused=True)
    best, n_checks_since = Member(math.inf, averaged, 0), 0
    for n_steps in range(1, MOST_STEPS + 1):
        batch = torch.randint(len(x), (min(BATCH_ROWS, len(x)),))
        optimizer.zero_grad()
        model.loss(x[batch], y[batch]).backward()
        nn.utils.clip_grad_norm_(weights, CLIP)
        optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(means, weights, 1 - AVERAGING)
        if n_steps % STEPS_PER_CHECK and n_steps < MOST_STEPS:
            continue
        with torch.no_grad():
            loss = float(averaged.loss(x_out, y_out))
        n_checks_since += 1
        if loss < best.loss:
            best, n_checks_since = Member(loss, copy.deepcopy(averaged), n_steps), 0
        if n_checks_since >= PATIENCE or clock.left < 0:
            break
    is_cut = clock.left < 0 and n_checks_since < PATIENCE
    return best._replace(is_cut=is_cut)


def mixture_networks(X: np.ndarray, y: np.ndarray, budget: float, seed: int) -> NormalMixture:
    clock = Clock(budget)
    torch.manual_seed(seed)
    torch.set_num_threads(n_threads())
    centres, spreads = X.mean(0), X.std(0)
    centre, spread = y.mean(), y.std()

    def standardised(X: np.ndarray) -> torch.Tensor:
        return torch.from_numpy((X - centres) / spreads).float().clamp(-8, 8)

    x, target = standardised(X), torch.from_numpy((y - centre) / spread).float()
    recipe, members = chosen(x, target, clock, seed)
    while len(members) < MOST_MEMBERS and clock.left > 0:
        members.append(trained(recipe, x, target, clock.left, seed + len(members)))
    members = [member for member in members if math.isfinite(member.loss)]
    # Those that the clock ended are left out where others had all their steps.
    members = [member for member in members if not member.is_cut] or members
    if not members:
        raise FloatingPointError("no network has a finite loss")

    @torch.no_grad()
    def parameters(X: np.ndarray) -> tuple:
        parts = [member.model(standardised(X)) for member in members]
        log_weights, means, log_scales = (
            torch.cat(part, dim=1).double().numpy() for part in zip(*parts, strict=True)
        )
        scales = spread * np.exp(log_scales)
        return log_weights - math.log(len(members)), centre + spread * means, scales

    steps = round(np.mean([member.n_steps for member in members]))
    note = f"{len(members)} members, {steps} steps, {recipe}"
    return NormalMixture(parameters, note)


def chosen(
    x: torch.Tensor, y: torch.Tensor, clock: Clock, seed: int
) -> tuple[Recipe, list[Member]]:
    """The best recipe of short trials on the same rows, with the member of its trial."""
    seconds = TRIAL_SHARE * clock.budget
    trials = [(recipe, trained(recipe, x, y, seconds, seed)) for recipe in RECIPES]
    recipe, member = min(trials, key=lambda trial: trial[1].loss)
    return recipe, [member]
