"""A user's function of samples, of numpy arrays or torch tensors, with its gradient."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from .._warn import warn

# Samples of one call, which bounds the memory that a function takes.
CHUNK_ROWS = 2**14
# The check of the gradient: samples, relative step, and relative error that is too large.
N_CHECKED, STEP, TOLERANCE = 5, 1e-5, 1e-2
# A call that takes so much longer for many samples than for one, and so long for each.
N_TIMED, N_TRIALS, SLOW_RATIO, SLOW_SECONDS = 64, 3, 32.0, 2e-4


class RowFunction:
    """Values (n,) and gradients (n, d) of a function of samples (n, d), checked and counted.

    Parameters
    ----------
    function : callable
        Takes an array of shape (n, d) and returns n values: a torch tensor if it is given one, or
        numpy numbers.
    gradient : callable or None
        Takes the same array and returns gradients (n, d). Needed for a numpy function where
        gradients are wanted; torch differentiates its own.
    name : str
        Of the parameter, for messages.

    Attributes
    ----------
    n_evaluations : int
        Samples at which the function was called so far.
    """

    def __init__(self, function: Callable, gradient: Callable | None, name: str):
        self.function, self.gradient, self.name = function, gradient, name
        self.n_evaluations = 0
        self._in_torch: bool | None = None
        self._torch_error: Exception | None = None

    @property
    def has_gradient(self) -> bool:
        """Whether there are gradients; known after the first call."""
        return self.gradient is not None or bool(self._in_torch)

    def values(self, x: Tensor) -> Tensor:
        """Values (n,), in float64; -inf is allowed.

        Raises
        ------
        ValueError
            If a value is NaN or +inf, or the shape is wrong.
        """
        with torch.no_grad():
            parts = x.split(CHUNK_ROWS) if len(x) else (x,)
            return torch.cat([self._checked(self._call(part), part) for part in parts])

    def values_and_gradients(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Values (n,) and gradients (n, d), without a graph of their own.

        Gradients are zero where the value is -inf.
        """
        found = [self._values_and_gradients(part) for part in x.split(CHUNK_ROWS)]
        values, gradients = zip(*found, strict=True)
        return torch.cat(values), torch.cat(gradients)

    def _values_and_gradients(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if self._in_torch is None:
            self._find_kind(x)
        if self.gradient is not None:
            values = self.values(x)
            gradients = self._given_gradients(x)
        elif self._in_torch:
            with torch.enable_grad():
                leaf = x.detach().clone().requires_grad_()
                values = self._call(leaf * 1)
                # A constant has no graph.
                slope = values.requires_grad and torch.autograd.grad(values.sum(), leaf)[0]
                gradients = slope if isinstance(slope, Tensor) else torch.zeros_like(x)
            values = self._checked(values.detach(), x)
        else:
            raise ValueError(
                f"Gradients of {self.name} are needed, and it is not a function of torch tensors. "
                f"Write it with torch, or give grad_{self.name}, a function that returns the "
                "gradients as an array of the shape of its argument."
            )
        gradients = torch.where(torch.isfinite(values)[:, None], gradients, 0.0)
        if not torch.isfinite(gradients).all():
            row = x[~torch.isfinite(gradients).all(1)][0].tolist()
            raise ValueError(
                f"The gradient of {self.name} is NaN or infinite at {_shown(row)}, where "
                f"{self.name} is finite. Check it there."
            )
        return values, gradients

    def check(self, x: Tensor) -> None:
        """Compare gradients with finite differences, and hint at slow functions, once.

        Raises
        ------
        ValueError
            If they disagree at most of the samples.
        """
        self.values(x[:N_CHECKED])
        self._hint_if_slow(x)
        if not self.has_gradient:
            return
        rows = x[:N_CHECKED]
        values, gradients = self.values_and_gradients(rows)
        rows, gradients = rows[torch.isfinite(values)], gradients[torch.isfinite(values)]
        if not len(rows):
            return
        direction = torch.linspace(1.0, 2.0, x.shape[1], dtype=x.dtype)
        direction = direction / direction.norm()
        step = STEP * (1 + rows.abs().amax(1))
        ahead, behind = (
            self.values(rows + sign * step[:, None] * direction) for sign in (1.0, -1.0)
        )
        expected, given = (ahead - behind) / (2 * step), gradients @ direction
        size = expected.abs() + given.abs() + 1e-3
        wrong = ((expected - given).abs() > TOLERANCE * size) & torch.isfinite(expected)
        if 2 * int(wrong.sum()) > len(rows):
            i = int(wrong.int().argmax())
            raise ValueError(
                f"The gradient of {self.name} disagrees with finite differences: along one "
                f"direction at {_shown(rows[i].tolist())} it is {float(given[i]):.4g}, and "
                f"differences of {self.name} give {float(expected[i]):.4g}. Correct the gradient, "
                "or leave it out and write the function with torch."
            )

    def _hint_if_slow(self, x: Tensor) -> None:
        many = x[:1].expand(N_TIMED, -1).contiguous()
        # A busy machine delays some calls, and a loop over samples all of them.
        for _ in range(N_TRIALS):
            seconds = []
            for rows in (many[:1], many):
                started = time.perf_counter()
                self.values(rows)
                seconds.append(time.perf_counter() - started)
            if seconds[1] <= max(SLOW_RATIO * seconds[0], SLOW_SECONDS * N_TIMED):
                return
        warn(
            f"{self.name} takes {seconds[1] / N_TIMED * 1e3:.2g} ms for each sample, however "
            "many are passed at once, as a loop over samples does. Sampling calls it for many "
            "samples at a time: compute them all in one array operation.",
            UserWarning,
        )

    def _find_kind(self, x: Tensor) -> None:
        self.values(x[:1])

    def _call(self, x: Tensor) -> Tensor:
        self.n_evaluations += len(x)
        if self._in_torch is None:
            self._in_torch = self._takes_tensors(x)
        if self._in_torch:
            # A copy, since functions may work in place; one with a graph is a copy already.
            return torch.as_tensor(self.function(x if x.requires_grad else x.clone()))
        try:
            found = self.function(x.detach().numpy().copy())
        except Exception as error:
            # A function that was meant for tensors failed there first.
            raise error from self._torch_error
        return torch.from_numpy(np.array(found, dtype=np.float64))

    def _takes_tensors(self, x: Tensor) -> bool:
        """Whether the function is one of tensors, which torch differentiates."""
        with torch.enable_grad():
            # Not a leaf, so that functions that work in place can.
            rows = x[:1].detach().clone().requires_grad_() * 1
            try:
                found = self.function(rows)
                return isinstance(found, Tensor)
            except Exception as error:
                self._torch_error = error
                return False

    def _checked(self, values: Tensor, x: Tensor) -> Tensor:
        if values.shape != (len(x),):
            raise ValueError(
                f"{self.name} returned an array of shape {tuple(values.shape)} for {len(x)} "
                f"samples of {x.shape[1]} features, and must return {len(x)} values. Sum over the "
                "features, for instance by .sum(axis=1)."
            )
        values = values.to(torch.float64)
        if bool(torch.isnan(values).any() | (values == torch.inf).any()):
            i = int((torch.isnan(values) | (values == torch.inf)).int().argmax())
            raise ValueError(
                f"{self.name} is {float(values[i])} at {_shown(x[i].tolist())}. It must be finite, "
                "or -inf where the density is zero."
            )
        return values

    def _given_gradients(self, x: Tensor) -> Tensor:
        if self.gradient is None:
            raise TypeError("no gradient was given")
        copy = x.detach().clone()
        found = self.gradient(copy if self._in_torch else copy.numpy())
        gradients = torch.as_tensor(np.asarray(found, dtype=np.float64))
        if gradients.shape != x.shape:
            raise ValueError(
                f"grad_{self.name} returned an array of shape {tuple(gradients.shape)} for samples "
                f"of shape {tuple(x.shape)}, and must return the same shape."
            )
        return gradients


def _shown(row: list[float]) -> str:
    return "[" + ", ".join(f"{value:.4g}" for value in row[:6]) + (", ...]" if row[6:] else "]")
