"""Annealed Langevin steps with a control that carries samples along."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .._normal import log_normal
from .process import Path, Process, Steps

# Sum of the lengths of all steps, in units of the start's variance.
TOTAL_TIME = 0.3


class LangevinProcess(Process):
    r"""Langevin steps towards :math:`\pi_k = \gamma^{b_k} q_0^{1 - b_k}`, forwards and backwards.

    .. math:: F_k = N(x + h S^2 (\nabla \log \pi_k + u_k)(x), 2 h S^2), \quad
        B_k = N(x' + h S^2 (\nabla \log \pi_{k+1} - u_{k+1})(x'), 2 h S^2)

    with the start :math:`q_0 = N(0, S^2)` and :math:`b_0 = 0, b_K = 1`. The weight is

    .. math:: \log w = \log \gamma(X_K) - \log q_0(X_0)
        + \sum_k \log \frac{B_k(X_k | X_{k+1})}{F_k(X_{k+1} | X_k)}.
    """

    needs_gradient = True
    guided = False
    controls_end = True

    def __init__(self, n_features: int, n_steps: int, learned: bool):
        super().__init__(n_features, n_steps, learned)
        zeros = torch.zeros(n_steps, dtype=torch.float64)
        self.increments = nn.Parameter(zeros, requires_grad=learned)
        length = torch.tensor(TOTAL_TIME / n_steps, dtype=torch.float64)
        self.log_length = nn.Parameter(length.log(), requires_grad=learned)

    @property
    def betas(self) -> Tensor:
        """Weights of the target, (n_steps + 1,), from 0 to 1."""
        shares = self.increments.softmax(0)
        return torch.cat([shares.new_zeros(1), shares.cumsum(0)])

    def step_std(self, steps):
        return (2 * self.log_length.exp()).sqrt()

    def start(self, noise):
        return self.scale * noise

    def guide(self, x, gradients, steps):
        return gradients

    def velocity(self, control: Tensor) -> Tensor:
        """What a control adds to the velocity, where all steps take one unit of time."""
        return self.n_steps * self.log_length.exp() * self.scale**2 * control

    def annealed(self, x: Tensor, gradients: Tensor, steps: Steps) -> Tensor:
        """Gradients of the annealed log-densities at states with these numbers."""
        beta = self.betas[steps]
        beta = beta if beta.dim() == 0 else beta[:, None, None]
        return beta * self.clipped(gradients, steps) - (1 - beta) * x / self.scale**2

    def forward_step(self, x, gradient, control, step):
        drift = self.annealed(x, gradient, step) + control
        return x + self.log_length.exp() * self.scale**2 * drift

    def backward_step(self, x, gradient, control, step, noise):
        drift = self.annealed(x, gradient, step + 1) - control
        mean = x + self.log_length.exp() * self.scale**2 * drift
        return mean + self.step_std(step) * self.scale * noise

    def log_weights(self, path: Path) -> tuple[Tensor, Tensor]:
        if path.gradients is None:
            raise ValueError("annealed paths need gradients of the log-density")
        x, length = path.states, self.log_length.exp() * self.scale**2
        pull = self.annealed(x, path.gradients, slice(None))
        std = self.step_std(0) * self.scale
        forward = x[:-1] + length * (pull + path.controls)[:-1]
        backward = x[1:] + length * (pull - path.controls)[1:]
        start = log_normal(x[0], 0.0, self.scale)
        generation = start + log_normal(x[1:], forward, std).sum(0)
        return path.log_density + log_normal(x[:-1], backward, std).sum(0) - generation, generation
