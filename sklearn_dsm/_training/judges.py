"""What held-out rows say of a module's averaged weights while it is trained."""

from __future__ import annotations

import math
from typing import Protocol

import torch
from scipy.optimize import lsq_linear
from torch import Tensor, nn

from .._core.arrays import tensor_of
from .._core.likelihood.bound import HeldOutBound
from .._core.scores.corrected import CorrectedScore
from .._core.scores.network import band_weights

MAX_GAIN = 1.5

State = dict[str, Tensor]


class Judge(Protocol):
    """Values weights by held-out rows; ``baseline`` is the value of no training at all."""

    baseline: float

    def measure(self, module) -> tuple[float, State]:
        """The value of a module, more being better, and the weights to keep for it."""

    def restore(self, module, state: State) -> None:
        """Put kept weights into a module that goes on training."""
        module.load_state_dict(state)


class GainJudge(Judge):
    """A score network's gain in the held-out likelihood bound, in nats a row.

    A correction competes with its reference, whose gain is 0; its output gets the gain in
    each band of noise levels that suits the held-out rows best, so that no band can lower
    the bound. A network that is the whole score competes with nothing.
    """

    def __init__(self, bound: HeldOutBound, weight: Tensor, residual: bool):
        self.bound, self.weight, self.residual = bound, weight, residual
        self.baseline = 0.0 if residual else -math.inf
        self.bands = band_weights(bound.log_snr)

    def measure(self, model: CorrectedScore) -> tuple[float, State]:
        products, squares = (term * self.weight for term in self.bound.terms(model))
        state = model.network.state_dict()
        if not math.isfinite(float(squares.sum())):
            return -math.inf, state
        if self.residual:
            gains = self._best_gains(products, squares)
            scale = self.bands @ gains
            products, squares = products * scale, squares * scale**2
            state = state | {"band_gains": gains}
        return float((products - squares / 2).mean()), state

    def restore(self, model: CorrectedScore, state: State) -> None:
        if self.residual:
            state = state | {"band_gains": torch.ones_like(state["band_gains"])}
        model.network.load_state_dict(state)

    def _best_gains(self, products: Tensor, squares: Tensor) -> Tensor:
        """The gains (n_bands,) that maximise the bound, which is quadratic in them."""
        bands = self.bands.flatten(0, 1).double()
        normal = bands.T @ (bands * squares.flatten()[:, None].double())
        ridge = normal.diagonal().mean() * 1e-3 + 1e-12
        factor = torch.linalg.cholesky(normal + ridge * torch.eye(len(normal)).to(normal))
        right = torch.linalg.solve_triangular(
            factor, (bands.T @ products.flatten().double())[:, None], upper=False
        )
        fit = lsq_linear(factor.T.cpu().numpy(), right[:, 0].cpu().numpy(), (0.0, MAX_GAIN), "bvls")
        return tensor_of(fit.x).to(products)


class ErrorJudge(Judge):
    """Minus the mean squared error of a regression on held-out rows."""

    baseline = -math.inf

    def __init__(self, rows: Tensor, target: Tensor):
        self.rows, self.target = rows, target

    @torch.no_grad()
    def measure(self, module: nn.Module) -> tuple[float, State]:
        error = module(self.rows) - self.target
        return -float(error.square().mean()), module.state_dict()
