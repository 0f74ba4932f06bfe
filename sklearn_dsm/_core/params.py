"""Options with parameters of their own, which check themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Self, TypeVar

from sklearn.base import BaseEstimator

from .._compat import validate_parameter_constraints

Params = TypeVar("Params", bound="ParamsObject")


class ParamsObject(BaseEstimator):
    """An option with parameters of its own, which a grid search reaches as ``option__name``."""

    _parameter_constraints: dict[str, Any] = {}

    def validate(self) -> Self:
        """Check the parameters, as an estimator does when it is fitted."""
        validate_parameter_constraints(
            self._parameter_constraints, self.get_params(deep=False), type(self).__name__
        )
        return self


def resolve(
    option: str, value: str | Params, registry: Mapping[str, Callable[[], Params]]
) -> Params:
    """The object a shortcut names, or the object itself, with its parameters checked."""
    if isinstance(value, str):
        if value not in registry:
            raise ValueError(f"{option}={value!r} is unknown; choose one of {sorted(registry)}.")
        value = registry[value]()
    return value.validate()
