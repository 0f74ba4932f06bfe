"""Losses that regress the control on what is known at the end of a path."""

from __future__ import annotations

import torch
from torch import Tensor

from ._control import Control
from ._normal import log_normal
from ._path_losses import Loss
from ._processes.langevin import LangevinProcess
from ._processes.referenced import ReferencedProcess
from ._target import Target
from ._weights import tempered

# Ends that are kept, and training steps from one set of new paths to the next.
BUFFER_SIZE, STEPS_PER_SET = 4096, 10
# The share of effective ends that their weights are tempered to.
MIN_EFFECTIVE = 0.1
# Up to so many features the divergence is exact; else it is along one random direction.
EXACT_FEATURES = 10
# States of each path that a step takes.
N_STATES = 4


class EndRegression:
    r"""Regression of the control on gradients at ends of paths, which are noised anew.

    .. math:: E\, \beta_k^2 \left| u(X_k) - \rho_k \nabla \log
        \frac{\gamma}{N(0, S^2)}(X_K) \right|^2

    The ends are of the sampler's own paths. If their distribution is that of the target, then the
    minimum is the exact control.

    Parameters
    ----------
    weighted : bool
        Whether ends are drawn anew by their weights, tempered where few are effective.
    """

    def __init__(self, weighted: bool):
        self.weighted = weighted
        self.n_calls = 0
        self.ends = self.slopes = torch.empty(0)

    def __call__(
        self,
        process: ReferencedProcess,
        control: Control,
        target: Target,
        n: int,
        generator: torch.Generator,
    ) -> Loss:
        if self.n_calls % STEPS_PER_SET == 0:
            self._refresh(process, control, target, n, generator)
        self.n_calls += 1
        picks = torch.randint(len(self.ends), (n,), generator=generator)
        steps = torch.randint(process.n_steps, (n,), generator=generator)
        ends = self.ends[picks, None]
        noise = torch.randn(*ends.shape, generator=generator, dtype=ends.dtype)
        x = process.noised(ends, steps, noise)
        gradients = target.gradients(x[:, 0])[:, None]
        u = process.steer(control, control.schedule(), x, gradients, steps)
        wanted = process.guide_factors[steps, None, None] * self.slopes[picks, None]
        squares = (process.step_std(steps) * process.scale * (u - wanted)) ** 2
        loss = 0.5 * process.n_steps * squares.sum((1, 2)).mean()
        return Loss(loss, float(loss.detach()))

    @torch.no_grad()
    def _refresh(self, process, control, target, n, generator) -> None:
        path = process.simulate(control, target, n, generator)
        ends = path.states[-1]
        kept = torch.isfinite(path.log_density)
        if not kept.any():
            raise ValueError(
                "All weights are zero: log_density is -inf at every sample. Give bounds, or a "
                "prior_scale that reaches where it is finite."
            )
        if self.weighted:
            log_weights, _ = process.log_weights(path)
            weights = tempered(log_weights, MIN_EFFECTIVE)
            kept = torch.multinomial(weights, n, replacement=True, generator=generator)
        ends = ends[kept]
        slopes = process.clipped(target.gradients(ends) + ends / process.scale**2, -1)
        if len(self.ends):
            ends = torch.cat([self.ends, ends])[-BUFFER_SIZE:]
            slopes = torch.cat([self.slopes, slopes])[-BUFFER_SIZE:]
        self.ends, self.slopes = ends, slopes


def transport_residual(
    process: LangevinProcess, control: Control, target: Target, n: int, generator: torch.Generator
) -> Loss:
    r"""Variance, at each time, of what the velocity b leaves over of the continuity equation.

    .. math:: \partial_t \log \pi_t + \nabla \cdot b + b \cdot \nabla \log \pi_t

    is a constant of x if and only if b carries :math:`\pi_t` along. The states are of the
    sampler's own paths, through which nothing is differentiated.
    """
    with torch.no_grad():
        path = process.simulate(control, target, n, generator)
    steps = torch.randperm(process.n_steps + 1, generator=generator)[:N_STATES]
    x = path.states[steps].detach().requires_grad_()
    flat = x.detach().reshape(-1, process.n_features)
    log_density, gradients = target.values_and_gradients(flat)
    possible = torch.isfinite(log_density).reshape(x.shape[:2])
    log_density = torch.where(possible, log_density.reshape(x.shape[:2]), 0.0)
    pull = process.annealed(x.detach(), gradients.reshape(x.shape), steps)
    velocity = process.velocity(process.steer(control, control.schedule(), x, None, steps))
    residual = (
        log_density
        - log_normal(x.detach(), 0.0, process.scale)
        + _divergence(velocity, x, generator)
        + (velocity * pull).sum(-1)
    )
    n_possible = possible.sum(1, keepdim=True).clamp_min(1)
    mean = (residual * possible).sum(1, keepdim=True) / n_possible
    loss = (((residual - mean) * possible) ** 2).sum() / n_possible.sum()
    return Loss(loss, float(loss.detach()))


def _divergence(velocity: Tensor, x: Tensor, generator: torch.Generator) -> Tensor:
    """Divergences (k, n) of velocities at x (k, n, d), which torch differentiates."""
    d = x.shape[-1]
    if d <= EXACT_FEATURES:
        parts = [
            torch.autograd.grad(velocity[..., i].sum(), x, create_graph=True)[0][..., i]
            for i in range(d)
        ]
        return torch.stack(parts).sum(0)
    signs = torch.randint(2, x.shape, generator=generator) * 2.0 - 1.0
    (product,) = torch.autograd.grad((velocity * signs).sum(), x, create_graph=True)
    return (product * signs).sum(-1)
