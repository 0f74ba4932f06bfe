"""Bounded parameters as unbounded ones, with the Jacobian of the transform."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


class Bounds:
    """Maps R^d onto a box, feature by feature.

    Features with two bounds are scaled logistic functions of the unbounded ones, features with one
    bound are the bound plus or minus softplus, and others stay as they are.

    Parameters
    ----------
    bounds : array-like of shape (n_features, 2), or None
        Lower and upper ends, -inf and inf where there is none; None is no bounds at all.
    """

    def __init__(self, bounds, n_features: int):
        ends = np.full((n_features, 2), [-np.inf, np.inf])
        if bounds is not None:
            free = (-np.inf, np.inf)
            ends = np.array(
                [
                    [
                        default if end is None else end
                        for end, default in zip(pair, free, strict=True)
                    ]
                    for pair in bounds
                ],
                dtype=float,
            )
            if ends.shape != (n_features, 2):
                raise ValueError(
                    f"bounds has shape {ends.shape}, and needs one pair (low, high) for each of "
                    f"the {n_features} features."
                )
        if np.isnan(ends).any() or not (ends[:, 0] < ends[:, 1]).all():
            wrong = int(np.argmin(ends[:, 0] < ends[:, 1]))
            low, high = ends[wrong].tolist()
            raise ValueError(
                f"bounds of feature {wrong} are ({low:g}, {high:g}), which exclude everything: the "
                "lower end must be below the upper one."
            )
        self.low, self.high = (torch.from_numpy(end.copy()) for end in ends.T)
        finite = torch.isfinite(torch.stack([self.low, self.high]))
        self.both = finite.all(0)
        self.below, self.above = finite[0] & ~self.both, finite[1] & ~self.both
        self.any = bool(finite.any())
        # The outermost numbers inside of finite ends, at which 1 / (x - end) does not overflow.
        eps, tiny = torch.finfo(torch.float64).eps, torch.finfo(torch.float64).tiny
        gaps = (torch.where(end.isfinite(), end, 0.0).abs() * eps for end in (self.low, self.high))
        low_gap, high_gap = (gap.clamp(min=tiny) for gap in gaps)
        self._least, self._most = self.low + low_gap, self.high - high_gap

    def to_box(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Rows strictly inside the box, and the log-determinants (n,) of the Jacobian."""
        if not self.any:
            return z, z.new_zeros(len(z))
        width = torch.where(self.both, self.high - self.low, 1.0)
        low, high = (torch.where(torch.isfinite(end), end, 0.0) for end in (self.low, self.high))
        gate, soft = torch.sigmoid(z), torch.nn.functional.softplus
        x = torch.where(self.both, low + width * gate, z)
        x = torch.where(self.below, low + soft(z), x)
        x = torch.where(self.above, high - soft(-z), x)
        x = torch.maximum(torch.minimum(x, self._most), self._least)
        slope = width.log() - soft(z) - soft(-z)
        slope = torch.where(self.both, slope, 0.0)
        slope = torch.where(self.below, -soft(-z), slope)
        slope = torch.where(self.above, -soft(z), slope)
        return x, slope.sum(1)

    def from_box(self, x: Tensor) -> Tensor:
        """Unbounded rows of rows inside the box."""
        if not self.any:
            return x
        width = torch.where(self.both, self.high - self.low, 1.0)
        low, high = (torch.where(torch.isfinite(end), end, 0.0) for end in (self.low, self.high))

        def inverse_softplus(y: Tensor) -> Tensor:
            return y + torch.log(-torch.expm1(-y))

        z = torch.where(self.both, torch.logit(((x - low) / width).clamp(0, 1)), x)
        z = torch.where(self.below, inverse_softplus(torch.where(self.below, x - low, 1.0)), z)
        return torch.where(self.above, -inverse_softplus(torch.where(self.above, high - x, 1.0)), z)


def number_of_features(n_features: int | None, bounds, points) -> int:
    """What the number of features, the bounds or the points (n, d) say; they must agree."""
    found = {
        "n_features": n_features,
        "bounds": None if bounds is None else len(bounds),
        "X": None if points is None else points.shape[1],
    }
    numbers = {name: int(number) for name, number in found.items() if number is not None}
    if not numbers:
        raise ValueError(
            "The number of features is not known. Give n_features, or bounds with a pair for each "
            "feature, or X to fit."
        )
    if len(set(numbers.values())) > 1:
        given = ", ".join(f"{number} by {name}" for name, number in numbers.items())
        raise ValueError(f"The numbers of features disagree: {given}. Make them equal.")
    return next(iter(numbers.values()))
