"""What every bijection of a table's samples can do."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from dataclasses import dataclass, fields
from typing import Self

import numpy as np


class Transform(metaclass=ABCMeta):
    r"""A differentiable bijection z = f(x) of the samples of a table, in float64.

    .. math:: \log p_X(x) = \log p_Z(f(x)) + \log \left| \det \frac{\partial f}{\partial x} \right|

    Each sample is transformed by itself. Its ``context``, an array (n, c) of encoded values of
    other columns, is what a conditional transform may depend on; others ignore it.
    """

    @abstractmethod
    def forward(
        self, X: np.ndarray, context: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Transformed samples (n, d) and the log-Jacobian of each (n,)."""

    @abstractmethod
    def inverse(self, Z: np.ndarray, context: np.ndarray | None = None) -> np.ndarray:
        """The samples (n, d) that :meth:`forward` takes to these (n, d)."""

    @abstractmethod
    def pull_back(
        self, X: np.ndarray, gradient: np.ndarray, context: np.ndarray | None = None
    ) -> np.ndarray:
        """Gradient in X of g(forward(X)) + the log-Jacobian, given the gradient of g; all (n, d).

        Where g is a log-density, this is the gradient of the one before the transform.
        """

    @property
    def description(self) -> str:
        """What the transform is, in a few words."""
        return type(self).__name__

    @abstractmethod
    def to_arrays(self) -> dict[str, np.ndarray]:
        """All that the transform is made of."""

    @classmethod
    @abstractmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> Self:
        """The transform that :meth:`to_arrays` wrote."""


@dataclass(frozen=True, eq=False)
class ArrayTransform(Transform):
    """A transform whose fields are arrays, which are written under their names."""

    def to_arrays(self) -> dict[str, np.ndarray]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> Self:
        return cls(**arrays)
