"""The papers that an estimator rests on."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

from sklearn.base import BaseEstimator

from ._core.losses.registry import resolve_loss
from ._core.noise.processes import resolve_process

KEY = re.compile(r"\[(\w+)\]_")
# Parameters whose strings stand for objects.
RESOLVERS = {"loss": resolve_loss, "process": resolve_process}


def citation(estimator) -> str:
    """BibTeX entries of the papers that an estimator uses.

    These are the references of its class, and of the losses, processes and estimators among its
    parameters.

    Parameters
    ----------
    estimator : estimator of this package
        Fitted or not.

    Returns
    -------
    str
        Entries in the order of their keys.

    Raises
    ------
    TypeError
        If the object is not an estimator of this package.

    Examples
    --------
    >>> from sklearn_dsm import KernelScoreEstimator, citation
    >>> print(citation(KernelScoreEstimator()).splitlines()[0])
    @misc{DDPMLearning,
    """
    if not isinstance(estimator, BaseEstimator) or not _is_ours(estimator):
        raise TypeError(
            f"citation() is for estimators of sklearn_dsm, and this is a {type(estimator).__name__}"
            ". Pass the estimator itself, such as the last step of a pipeline."
        )
    found = {key for each in _used(estimator) for key in keys_of(type(each))}
    known = entries()
    return "\n".join(known[key] for key in sorted(found, key=str.lower))


def entries() -> dict[str, str]:
    """BibTeX entries by key."""
    text = (files("sklearn_dsm") / "references.bib").read_text(encoding="utf-8")
    each = re.split(r"^(?=@)", text, flags=re.MULTILINE)[1:]
    return {entry[entry.index("{") + 1 : entry.index(",")]: entry.strip() + "\n" for entry in each}


def keys_of(cls: type) -> set[str]:
    """Keys among the references of a class and of those that it inherits from."""
    return {
        key
        for each in cls.__mro__
        if each.__module__.startswith("sklearn_dsm.")
        for key in KEY.findall(inspect.getdoc(each) or "")
    }


def _used(estimator: BaseEstimator) -> Iterator[Any]:
    """The estimator, and those of its parameters that are objects of this package."""
    yield estimator
    for name, value in estimator.get_params(deep=False).items():
        if isinstance(value, str) and name in RESOLVERS:
            value = _resolved(RESOLVERS[name], value)
        if _is_ours(value) and hasattr(value, "get_params"):
            yield from _used(value)


def _resolved(resolve, value: str) -> Any:
    """What a string stands for; other estimators have strings of their own."""
    try:
        return resolve(value)
    except ValueError:
        return None


def _is_ours(value: Any) -> bool:
    return type(value).__module__.split(".")[0] == "sklearn_dsm"
