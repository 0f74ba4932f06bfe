"""The optimiser of all training: AdamW, with Muon for matrices between hidden layers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

# Muon's step in units of AdamW's, its momentum, and its weight decay, which suits small tables
# and large ones.
RATE, MOMENTUM, WEIGHT_DECAY = 5.0, 0.9, 0.1
# An orthogonal matrix times this and the root of its longer side has entries about as large as
# those of AdamW's steps.
STEP_SIZE = 0.2
# The polynomial x -> a x + b x^3 + c x^5, repeated, takes singular values near to one.
N_ITERATIONS, POLYNOMIAL = 3, (3.4445, -4.7750, 2.0315)
SMALL_NORM = 1e-7
# AdamW's: of its means of gradients and of squares, and what is added to their roots.
BETAS, SMALL_SCALE = (0.9, 0.999), 1e-8


def orthogonalized(matrices: Tensor, dtype: torch.dtype) -> Tensor:
    """Matrices (k, n, m) of the same singular vectors, whose singular values are near to one.

    The products are computed in ``dtype``.
    """
    a, b, c = POLYNOMIAL
    is_tall = matrices.shape[-2] > matrices.shape[-1]
    X = (matrices.mT if is_tall else matrices).to(dtype)
    X = X / (torch.linalg.matrix_norm(X, keepdim=True) + SMALL_NORM)
    for _ in range(N_ITERATIONS):
        squares = X @ X.mT
        factor = torch.baddbmm(squares, squares, squares, beta=b, alpha=c)
        X = torch.baddbmm(X, factor, X, beta=a)
    return (X.mT if is_tall else X).to(matrices.dtype)


class _Stack:
    """Matrices of one shape, which are moved together."""

    def __init__(self, matrices: list[nn.Parameter], dtype: torch.dtype):
        self.matrices, self.dtype = matrices, dtype
        self.momentum = torch.zeros_like(torch.stack([matrix.detach() for matrix in matrices]))
        self.step_size = STEP_SIZE * max(matrices[0].shape) ** 0.5

    def move(self, rate: float | Tensor) -> None:
        gradients = torch.stack([cast(Tensor, matrix.grad) for matrix in self.matrices])
        self.momentum.lerp_(gradients, 1 - MOMENTUM)
        # Nesterov's: one step ahead.
        steps = orthogonalized(gradients.lerp_(self.momentum, MOMENTUM), self.dtype)
        for matrix, step in zip(self.matrices, steps, strict=True):
            matrix.mul_(1 - WEIGHT_DECAY * rate).sub_(step * (self.step_size * rate))


class MuonAdamW(torch.optim.Optimizer):
    r"""AdamW, and for some matrices steps along the orthogonal matrix nearest to the gradient.

    .. math:: W \leftarrow (1 - \gamma \delta)\, W - 0.2 \sqrt{\max(n, m)}\; \gamma\, U V^T,
        \qquad U \Sigma V^T = \text{mean gradient},

    so that all directions are learned alike, where AdamW's steps follow the few with the
    largest gradients. ``torch.optim.Muon`` reads the rate on the host, which a step recorded on
    a GPU must not, and takes one matrix after the other. The methods of ``torch.optim.AdamW``
    load torch's compiler, which takes a second of the first fit of a process; its function does
    not.

    Parameters
    ----------
    params : iterable of Parameter, or of groups of them, dicts with the key "params"
    matrices : iterable of Parameter
        Those of ``params`` that take Muon's steps, :math:`\gamma` being ``RATE`` times the
        learning rate.
    dtype : torch.dtype
        What products of matrices are computed in.
    lr : float or Tensor
        The learning rate, which ``param_groups[0]["lr"]`` changes.
    weight_decay : float
        AdamW's.
    capturable : bool
        Whether the steps may be recorded on a GPU; ``lr`` is then a tensor there.

    References
    ----------
    [Muon]_
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
        matrices: Iterable[nn.Parameter] = (),
        dtype: torch.dtype = torch.float32,
        *,
        lr: float | Tensor,
        weight_decay: float = 0.0,
        capturable: bool = False,
    ):
        by_shape: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
        for matrix in matrices:
            by_shape[matrix.shape].append(matrix)
        self.stacks = [_Stack(alike, dtype) for alike in by_shape.values()]
        stacked = {id(matrix) for alike in by_shape.values() for matrix in alike}
        given = [part["params"] if isinstance(part, dict) else [part] for part in params]
        self.params = [each for part in given for each in part]
        self.rest = [each for each in self.params if id(each) not in stacked]
        self.means, self.squares = (
            [torch.zeros_like(each, requires_grad=False) for each in self.rest] for _ in range(2)
        )
        self.n_steps = [torch.zeros((), device=each.device) for each in self.rest]
        self.weight_decay, self.capturable = weight_decay, capturable
        super().__init__([{"params": self.rest}], {"lr": lr})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, without the checks of torch's method."""
        self.param_groups.append(self.defaults | param_group)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Move all parameters; the closure takes the gradients."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        rate = self.param_groups[0]["lr"]
        self._adamw_step(rate)
        for stack in self.stacks:
            stack.move(RATE * rate)
        return loss

    def _adamw_step(self, rate: float | Tensor) -> None:
        states = zip(self.rest, self.means, self.squares, self.n_steps, strict=True)
        moved = [state for state in states if state[0].grad is not None]
        if not moved:
            return
        params, means, squares, n_steps = (list(part) for part in zip(*moved, strict=True))
        adamw(
            params,
            [cast(Tensor, each.grad) for each in params],
            means,
            squares,
            [],
            n_steps,
            fused=True,
            capturable=self.capturable,
            amsgrad=False,
            beta1=BETAS[0],
            beta2=BETAS[1],
            lr=rate,
            weight_decay=self.weight_decay,
            eps=SMALL_SCALE,
            maximize=False,
        )

    @property
    def memory(self) -> list[Tensor]:
        """What the next steps depend on besides the parameters and their gradients."""
        momenta = [stack.momentum for stack in self.stacks]
        return [*self.means, *self.squares, *self.n_steps, *momenta]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters."""
        for each in self.params:
            each.grad = None
