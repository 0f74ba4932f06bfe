"""Processes that differ by their control from a reference with a known end."""

from __future__ import annotations

import torch
from torch import Tensor

from .._normal import log_normal
from .process import Path, Process, step_shares

# Logarithm of how much an Ornstein-Uhlenbeck process forgets from the samples to the start.
FORGOTTEN = 4.0


class ReferencedProcess(Process):
    r"""Steps of a Gaussian reference, with a control u added to their means.

    .. math:: X_{k+1} = \alpha_k X_k + \beta_k^2 S^2 u_k + \beta_k S \xi_k

    Without control, the last state is N(0, S^2), for any number of steps. The weight is

    .. math:: \log w = \log \gamma(X_K) - \log N(X_K; 0, S^2)
        + \sum_k \log \frac{P_{ref}(X_{k+1} | X_k)}{P_u(X_{k+1} | X_k)}.
    """

    factors: Tensor
    stds: Tensor
    guide_factors: Tensor
    # What is left of an end in the states before it, and what noise there is.
    lefts: Tensor
    noise_stds: Tensor

    def step_std(self, steps):
        # One number for a step, or (k, 1, 1) for several.
        stds = self.stds[steps]
        return stds if stds.dim() == 0 else stds[:, None, None]

    def guide(self, x, gradients, steps):
        factors = self.guide_factors[steps]
        factors = factors if factors.dim() == 0 else factors[:, None, None]
        # The gradient of the density's ratio to the reference, which steers samples exactly.
        return factors * self.clipped(gradients + x / self.scale**2, steps)

    def noised(self, ends: Tensor, steps: Tensor, noise: Tensor) -> Tensor:
        """States (n, 1, d) with these numbers, drawn by the reference given the ends."""
        left, std = self.lefts[steps, None, None], self.noise_stds[steps, None, None]
        return left * ends + std * self.scale * noise

    def forward_step(self, x, gradient, control, step):
        return self.factors[step] * x + (self.stds[step] * self.scale) ** 2 * control

    def log_weights(self, path: Path) -> tuple[Tensor, Tensor]:
        before, after, u = path.states[:-1], path.states[1:], path.controls
        stds = self.stds[:, None, None] * self.scale
        moves = after - self.factors[:, None, None] * before
        # log P_ref - log P_u, which is exactly zero without control.
        ratios = (u * (0.5 * stds**2 * u - moves)).sum((0, 2))
        log_weights = path.log_density - log_normal(path.states[-1], 0.0, self.scale) + ratios
        generation = log_normal(moves, stds**2 * u, stds).sum(0)
        return log_weights, generation + self._log_start(path.states[0])

    def _log_start(self, x: Tensor) -> Tensor:
        return log_normal(x, 0.0, self.scale)


class OrnsteinUhlenbeck(ReferencedProcess):
    """The reversed Ornstein-Uhlenbeck process of denoising diffusion samplers."""

    def __init__(self, n_features: int, n_steps: int, learned: bool):
        super().__init__(n_features, n_steps, learned)
        factors = (-FORGOTTEN * step_shares(n_steps)).exp()
        self.register_buffer("factors", factors, persistent=False)
        self.register_buffer("stds", (1 - factors**2).sqrt(), persistent=False)
        # How much of a sample is left in each state. The gradients there shrink with it, and a step
        # moves by what is left behind it.
        left = factors.flip(0).cumprod(0).flip(0)
        self.register_buffer("guide_factors", left / factors, persistent=False)
        self.register_buffer("lefts", left, persistent=False)
        self.register_buffer("noise_stds", (1 - left**2).sqrt(), persistent=False)

    def start(self, noise):
        return self.scale * noise

    def backward_step(self, x, gradient, control, step, noise):
        return self.factors[step] * x + self.stds[step] * self.scale * noise


class Brownian(ReferencedProcess):
    """Brownian motion from the origin, as of path integral samplers."""

    ends: Tensor

    def __init__(self, n_features: int, n_steps: int, learned: bool):
        super().__init__(n_features, n_steps, learned)
        variances = step_shares(n_steps)
        self.register_buffer("factors", torch.ones_like(variances), persistent=False)
        self.register_buffer("stds", variances.sqrt(), persistent=False)
        self.register_buffer("guide_factors", torch.ones_like(variances), persistent=False)
        ends = torch.cat([variances.new_zeros(1), variances.cumsum(0)])
        self.register_buffer("ends", ends, persistent=False)
        self.register_buffer("lefts", ends[:-1], persistent=False)
        self.register_buffer("noise_stds", (ends * (1 - ends)).sqrt()[:-1], persistent=False)

    def start(self, noise):
        return torch.zeros_like(noise)

    def backward_step(self, x, gradient, control, step, noise):
        left = self.ends[step] / self.ends[step + 1]
        return left * x + left.sqrt() * self.stds[step] * self.scale * noise

    def _log_start(self, x):
        return x.new_zeros(len(x))
