"""Warnings that name the line of the user."""

from __future__ import annotations

import sys
import warnings

# Through which calls of users reach this package.
INSIDE = {"sklearn_dsm", "sklearn", "skorch", "torch", "joblib", "contextlib", "functools"}


def warn(message: str | Warning, category: type[Warning]) -> None:
    """Warn at the innermost line outside of this package and the libraries that call it."""
    frame, level = sys._getframe(), 1
    while frame.f_back and frame.f_globals.get("__name__", "").split(".")[0] in INSIDE:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)
