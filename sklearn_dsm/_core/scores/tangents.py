"""The diagonal of a perceptron's Jacobian, its trace, and the trace's gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

# Numbers in the tangents that are carried forward together: half a MiB of float32, which a
# processor's cache holds, and enough to keep a GPU busy.
TANGENT_NUMBERS = {"cpu": 2**17, "cuda": 2**24}
# A batch is split at multiples of this, so that every part's matrix products round alike.
ROW_BLOCK = 32


def diagonal(weights: Sequence[Tensor], output: Tensor, slopes: Sequence[Tensor]) -> Tensor:
    """The diagonal (..., n, d) of output . D_L W_L ... D_1 W_1.

    Parameters
    ----------
    weights : sequence of Tensor
        The hidden layers' matrices W_1 (k_1, d), W_2 (k_2, k_1), ...
    output : Tensor of shape (d, k_L)
    slopes : sequence of Tensor
        Diagonals of D_1 (..., n, k_1), D_2 (..., n, k_2), ...
    """
    if len(slopes) == 1:
        return slopes[0] @ (weights[0] * output.T)
    return _in_blocks(lambda part: _carried(weights, output, part), weights, slopes)


def trace(weights: Sequence[Tensor], output: Tensor, slopes: Sequence[Tensor]) -> Tensor:
    """The sum (..., n) of the diagonal.

    Where the weights are constant and the slopes are not, the gradients are computed with the
    trace, a block of rows after the other. They then have no gradients of their own.
    """
    if len(slopes) == 2:
        coupling = weights[1] * (weights[0] @ output).T
        return ((slopes[0] @ coupling.T) * slopes[1]).sum(-1)
    constant = not any(each.requires_grad for each in (*weights, output))
    if len(slopes) > 2 and constant and any(slope.requires_grad for slope in slopes):
        found: Tensor = _Trace.apply(tuple(weights), output, *slopes)
        return found
    return diagonal(weights, output, slopes).sum(-1)


class _Trace(torch.autograd.Function):
    """The trace, which is linear in every slope, so that its gradients determine it."""

    @staticmethod
    def forward(ctx: Any, weights: tuple[Tensor, ...], output: Tensor, *slopes: Tensor) -> Tensor:
        joined = _in_blocks(lambda part: _gradients(weights, output, part), weights, slopes)
        gradients = joined.split([slope.shape[-1] for slope in slopes], -1)
        ctx.save_for_backward(*gradients)
        trace: Tensor = (gradients[-1] * slopes[-1]).sum(-1)
        return trace

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, adjoint: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *(adjoint[..., None] * each for each in ctx.saved_tensors)


def _in_blocks(
    function: Callable[[tuple[Tensor, ...]], Tensor],
    weights: Sequence[Tensor],
    slopes: Sequence[Tensor],
) -> Tensor:
    """What a function gives for the slopes of all rows, of as many at a time as fit in a cache."""
    first = weights[0]
    n_blocks = TANGENT_NUMBERS[first.device.type] // first.numel() // ROW_BLOCK
    rows = max(1, n_blocks) * ROW_BLOCK
    parts = zip(*(slope.split(rows, -2) for slope in slopes), strict=True)
    return torch.cat([function(part) for part in parts], -2)


def _carried(weights: Sequence[Tensor], output: Tensor, slopes: tuple[Tensor, ...]) -> Tensor:
    """The diagonal, by all d tangents carried forward."""
    tangents = slopes[0][..., None, :] * weights[0].T
    for weight, slope in zip(weights[1:-1], slopes[1:-1], strict=True):
        tangents = (tangents @ weight.T) * slope[..., None, :]
    ends = (tangents @ weights[-1].T) * output
    return (ends @ slopes[-1][..., None]).squeeze(-1)


def _gradients(weights: Sequence[Tensor], output: Tensor, slopes: tuple[Tensor, ...]) -> Tensor:
    """The trace's gradients (..., n, k_1 + ... + k_L) by the slopes of all layers.

    At every layer the tangents from before it meet those from behind it.
    """
    tangents = [weights[0].T]
    for weight, slope in zip(weights[1:], slopes[:-1], strict=True):
        tangents.append((tangents[-1] * slope[..., None, :]) @ weight.T)
    back = output
    gradients = [(tangents[-1] * back).sum(-2)]
    for layer in reversed(range(len(slopes) - 1)):
        back = (back * slopes[layer + 1][..., None, :]) @ weights[layer + 1]
        gradients.append((tangents[layer] * back).sum(-2))
    return torch.cat(gradients[::-1], -1)
