"""A method that a benchmark compares: where its function is, and what that needs."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, NamedTuple


class Method(NamedTuple):
    """The function that fits, as "module:function", and the package it needs beyond our own.

    A report says what it is about. One that is slow to predict is judged by the first test rows
    only.
    """

    function: str
    needs: str = "sklearn"
    about: str = ""
    most_test_rows: int | None = None

    @property
    def installed(self) -> bool:
        return find_spec(self.needs) is not None

    def load(self) -> Callable[..., Any]:
        module, name = self.function.split(":")
        return getattr(importlib.import_module(module), name)
