"""What the page of a class lists: its methods and the attributes of a fitted object."""

from __future__ import annotations

import importlib
import inspect
import re

from numpydoc.docscrape import NumpyDocString

# Every estimator has these; scikit-learn documents them.
INHERITED = {"get_params", "set_params", "get_metadata_routing", "set_callbacks"}


def summary(module: str, name: str) -> str:
    """The first line of the docstring of a class."""
    cls = getattr(importlib.import_module(module), name)
    return (inspect.getdoc(cls) or "").partition("\n\n")[0]


def methods(module: str, name: str) -> list[str]:
    """The public methods of a class, ``fit`` first, then in alphabetical order."""
    cls = getattr(importlib.import_module(module), name)
    found = [
        each
        for each, value in inspect.getmembers(cls)
        if not each.startswith("_")
        and (inspect.isroutine(value))
        and each not in INHERITED
        and not (each.startswith("set_") and each.endswith("_request"))
        and inspect.getdoc(value)
    ]
    first = [each for each in ("fit", "from_estimator", "from_predictions") if each in found]
    return first + [each for each in found if each not in first]


def attributes(module: str, name: str) -> list[tuple[str, str]]:
    """Names of the attributes in the docstring of a class, with the first sentence of each.

    One without a description has its type instead.
    """
    cls = getattr(importlib.import_module(module), name)
    section = NumpyDocString(inspect.getdoc(cls) or "").get("Attributes", [])
    return [
        (entry.name.replace("`", ""), first_sentence(entry.desc) or entry.type) for entry in section
    ]


def first_sentence(lines: list[str]) -> str:
    """The first sentence of a description, or the first that leaves no markup open."""
    text = ""
    paragraph = "\n".join(lines).strip().partition("\n\n")[0]
    for part in re.split(r"(?<=\.)\s+", " ".join(paragraph.split())):
        text = f"{text} {part}".strip()
        if text.count("`") % 2 == 0 and text.count("(") == text.count(")"):
            break
    return text.removesuffix(":")


def properties(module: str, name: str) -> list[tuple[str, str]]:
    """The public properties that a class does not list, with the first sentence of each."""
    cls = getattr(importlib.import_module(module), name)
    listed = {each.strip() for names, _ in attributes(module, name) for each in names.split(",")}
    return [
        (each, first_sentence((inspect.getdoc(value) or "").splitlines()))
        for each, value in inspect.getmembers(cls)
        if isinstance(value, property) and not each.startswith("_") and each not in listed
    ]
