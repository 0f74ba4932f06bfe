"""Packages that are imported when they are used, and may be missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def extra(name: str, need: str, otherwise: str = "") -> Iterator[None]:
    """Imports of an extra: where it is missing, the error says how to install it.

    Parameters
    ----------
    name : str
        The extra's, as in ``pip install 'sklearn_dsm[name]'``.
    need : str
        What needs which package, as the beginning of a sentence.
    otherwise : str
        What to do without it: whole sentences.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        fix = f"{need}, which is not installed: pip install 'sklearn_dsm[{name}]'."
        raise ImportError(f"{fix} {otherwise}".strip()) from error
