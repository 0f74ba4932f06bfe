"""Transforms one after another."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import numpy as np

from .autoregressive import AutoregressiveTransform
from .marginal import MarginalTransform
from .radial import RadialTransform
from .transform import Transform
from .whitening import Whitening

FORMAT_VERSION = 1
KINDS: dict[str, type[Transform]] = {
    "marginal": MarginalTransform,
    "whitening": Whitening,
    "radial": RadialTransform,
    "autoregressive": AutoregressiveTransform,
}
# Numbers in the Jacobians of samples that are solved with together.
JACOBIAN_NUMBERS = 2**22
NAMES = {kind: name for name, kind in KINDS.items()}
Part = TypeVar("Part", bound=Transform)


class Chain(Transform):
    r"""The composition :math:`f_k \circ \dots \circ f_1`, whose log-Jacobians add up.

    Parameters
    ----------
    parts : iterable of Transform
        In the order in which they are applied. A chain among them counts as its parts.
    """

    def __init__(self, parts: Iterable[Transform]):
        nested = (part.parts if isinstance(part, Chain) else (part,) for part in parts)
        self.parts: tuple[Transform, ...] = tuple(part for each in nested for part in each)

    def forward(self, X, context=None):
        total = np.zeros(len(X))
        for part in self.parts:
            X, log_jacobian = part.forward(X, context)
            total = total + log_jacobian
        return X, total

    def inverse(self, Z, context=None):
        for part in reversed(self.parts):
            Z = part.inverse(Z, context)
        return Z

    def pull_back(self, X, gradient, context=None):
        taken = [X]
        for part in self.parts[:-1]:
            taken.append(part.forward(taken[-1], context)[0])
        # A chain of no parts still has the rows it was given.
        for part, rows in zip(reversed(self.parts), reversed(taken), strict=False):
            gradient = part.pull_back(rows, gradient, context)
        return gradient

    def push_forward(self, X: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        """Gradient (n, d) in forward(X) of a function whose gradient in X is this one."""
        whitenings = [part for part in self.parts if isinstance(part, Whitening)]
        if len(whitenings) == len(self.parts):
            for whitening in whitenings:
                gradient = gradient @ whitening.coloring.T
            return gradient
        moved = np.empty_like(gradient)
        offset = self.pull_back(X, np.zeros_like(gradient))
        size = max(1, JACOBIAN_NUMBERS // X.shape[1] ** 2)
        for begin in range(0, len(X), size):
            some = slice(begin, begin + size)
            # What the transform makes of each unit vector, in the rows of its Jacobian.
            units = np.broadcast_to(np.eye(X.shape[1])[:, None], (X.shape[1], *X[some].shape))
            rows = [self.pull_back(X[some], unit.copy()) - offset[some] for unit in units]
            jacobian = np.stack(rows, axis=2)
            moved[some] = np.linalg.solve(jacobian, gradient[some][..., None])[..., 0]
        return moved

    @property
    def description(self) -> str:
        return ", ".join(part.description for part in self.parts) or "none"

    def then(self, transform: Transform) -> Chain:
        """The chain with one more transform, or chain, behind it."""
        return Chain((*self.parts, transform))

    def has(self, kind: type[Transform]) -> bool:
        """Whether a transform of this kind is among the parts."""
        return any(isinstance(part, kind) for part in self.parts)

    def part(self, kind: type[Part]) -> Part:
        """The first part of this kind; a KeyError where there is none."""
        for part in self.parts:
            if isinstance(part, kind):
                return part
        raise KeyError(f"The chain has no {kind.__name__} among its {len(self.parts)} parts.")

    def to_arrays(self) -> dict[str, np.ndarray]:
        """The parts' arrays under "place.kind.name", and the "version" of this format."""
        arrays = {"version": np.asarray(FORMAT_VERSION)}
        for place, part in enumerate(self.parts):
            prefix = f"{place}.{NAMES[type(part)]}."
            arrays |= {prefix + name: value for name, value in part.to_arrays().items()}
        return arrays

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> Chain:
        """The chain that :meth:`to_arrays` wrote.

        Raises
        ------
        ValueError
            Where they were written in another version of the format.
        """
        _check_version(arrays.get("version"))
        parts: dict[tuple[int, str], dict[str, np.ndarray]] = {}
        for key, value in arrays.items():
            if key != "version":
                place, kind, name = key.split(".", 2)
                parts.setdefault((int(place), kind), {})[name] = value
        return cls(KINDS[kind].from_arrays(parts[place, kind]) for place, kind in sorted(parts))


def _check_version(version: np.ndarray | None) -> None:
    if version is None or int(version) != FORMAT_VERSION:
        found = "no format version" if version is None else f"format version {int(version)}"
        raise ValueError(
            f"The arrays of this transform have {found}, and this release of sklearn_dsm reads "
            f"version {FORMAT_VERSION} only. Load the estimator with the release that saved it, or "
            "fit it again."
        )
