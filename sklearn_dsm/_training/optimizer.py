"""The optimiser of all training: AdamW, with Muon for matrices between hidden layers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn

# Muon's step in units of AdamW's, its momentum, and its weight decay, which suits small tables
# and large ones.
RATE, MOMENTUM, WEIGHT_DECAY = 5.0, 0.9, 0.1
# An orthogonal matrix times this and the root of its longer side has entries about as large as
# those of AdamW's steps.
STEP_SIZE = 0.2
# The polynomial x -> a x + b x^3 + c x^5, repeated, takes singular values near to one.
N_ITERATIONS, POLYNOMIAL = 3, (3.4445, -4.7750, 2.0315)
SMALL_NORM = 1e-7


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


class MuonAdamW(torch.optim.AdamW):
    r"""AdamW, and for some matrices steps along the orthogonal matrix nearest to the gradient.

    .. math:: W \leftarrow (1 - \gamma \delta)\, W - 0.2 \sqrt{\max(n, m)}\; \gamma\, U V^T,
        \qquad U \Sigma V^T = \text{mean gradient},

    so that all directions are learned alike, where AdamW's steps follow the few with the
    largest gradients. ``torch.optim.Muon`` reads the rate on the host, which a step recorded on
    a GPU must not, and takes one matrix after the other.

    Parameters
    ----------
    params : iterable of Parameter, or of the groups of them that torch's optimisers take
    matrices : iterable of Parameter
        Those of ``params`` that take Muon's steps, :math:`\gamma` being ``RATE`` times the
        learning rate.
    dtype : torch.dtype
        What products of matrices are computed in.
    **options
        AdamW's.

    References
    ----------
    [Muon]_
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
        matrices: Iterable[nn.Parameter] = (),
        dtype: torch.dtype = torch.float32,
        **options: Any,
    ):
        by_shape: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
        for matrix in matrices:
            by_shape[matrix.shape].append(matrix)
        stacked = {id(matrix) for alike in by_shape.values() for matrix in alike}
        groups: list[Any] = list(params)
        if not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        rest = [
            group | {"params": [each for each in group["params"] if id(each) not in stacked]}
            for group in groups
        ]
        super().__init__(rest, **options)
        self.stacks = [_Stack(alike, dtype) for alike in by_shape.values()]

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Move all parameters; the closure takes the gradients."""
        loss = super().step(closure)
        for stack in self.stacks:
            stack.move(RATE * self.param_groups[0]["lr"])
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters."""
        super().zero_grad(set_to_none)
        for stack in self.stacks:
            for matrix in stack.matrices:
                matrix.grad = None
