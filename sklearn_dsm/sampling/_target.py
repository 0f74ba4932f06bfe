"""An unnormalised log-density in the coordinates of a sampler: unbounded and standardised."""

from __future__ import annotations

import torch
from torch import Tensor

from ._bounds import Bounds
from ._callables import RowFunction

# Relative step of the differences of gradients.
STEP = 1e-4


def unbounded_values_and_gradients(
    function: RowFunction, bounds: Bounds, y: Tensor
) -> tuple[Tensor, Tensor]:
    """Log-densities (n,) of unbounded parameters y, Jacobian included, and gradients (n, d)."""
    if not bounds.any:
        return function.values_and_gradients(y)
    with torch.enable_grad():
        leaf = y.detach().clone().requires_grad_()
        x, log_jacobian = bounds.to_box(leaf)
        values, slopes = function.values_and_gradients(x.detach())
        total = (x * slopes).sum() + log_jacobian.sum()
        (gradients,) = torch.autograd.grad(total, leaf)
    return values + log_jacobian.detach(), gradients


class Target:
    """The log-density of z, where ``location + scale * z`` are the unbounded parameters.

    The Jacobian is included, so that the normalising constant is that of the function.

    Parameters
    ----------
    function : RowFunction
    bounds : Bounds
    location, scale : Tensor of shape (d,)
    """

    def __init__(self, function: RowFunction, bounds: Bounds, location: Tensor, scale: Tensor):
        self.function, self.bounds = function, bounds
        self.location, self.scale = location, scale

    @property
    def has_gradient(self) -> bool:
        return self.function.has_gradient

    def to_input(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Samples in the units of the input, and log-determinants (n,)."""
        x, log_determinant = self.bounds.to_box(self.location + self.scale * z)
        return x, log_determinant + self.scale.log().sum()

    def from_input(self, x: Tensor) -> Tensor:
        return (self.bounds.from_box(x) - self.location) / self.scale

    def values(self, z: Tensor) -> Tensor:
        """Log-densities (n,); no graph."""
        with torch.no_grad():
            x, log_determinant = self.to_input(z)
            return self.function.values(x) + log_determinant

    def values_and_gradients(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Log-densities (n,) and their gradients (n, d); no graph."""
        y = self.location + self.scale * z.detach()
        values, slopes = unbounded_values_and_gradients(self.function, self.bounds, y)
        return values + self.scale.log().sum(), slopes * self.scale

    def gradients(self, z: Tensor) -> Tensor:
        return self.values_and_gradients(z)[1]


class DifferentiableTarget(Target):
    """A target through whose values and gradients torch differentiates.

    Products with second derivatives are differences of gradients, so that a function needs no
    second derivatives of its own.
    """

    def __init__(self, target: Target):
        super().__init__(target.function, target.bounds, target.location, target.scale)
        self.plain = target

    def values(self, z: Tensor) -> Tensor:
        return _Values.apply(z, self.plain.values_and_gradients)  # type: ignore[no-any-return]

    def gradients(self, z: Tensor) -> Tensor:
        return _Gradients.apply(z, self.plain.gradients)  # type: ignore[no-any-return]

    def values_and_gradients(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return self.values(z), self.gradients(z)


class _Values(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z, values_and_gradients):
        values, gradients = values_and_gradients(z)
        ctx.save_for_backward(gradients)
        return values

    @staticmethod
    def backward(ctx, slope):
        (gradients,) = ctx.saved_tensors
        return slope[:, None] * gradients, None


class _Gradients(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z, gradients):
        ctx.save_for_backward(z)
        ctx.gradients = gradients
        return gradients(z)

    @staticmethod
    def backward(ctx, direction):
        (z,) = ctx.saved_tensors
        length = direction.norm(dim=1, keepdim=True)
        step = STEP * (1 + z.abs().amax(1, keepdim=True))
        shift = step * direction / length.clamp_min(1e-300)
        ahead, behind = ctx.gradients(z + shift), ctx.gradients(z - shift)
        return (ahead - behind) * (length / (2 * step)), None
