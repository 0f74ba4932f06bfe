"""Citations: ``[Vincent2011]_``, in pages and docstrings, names an entry of ``references.bib``."""

from __future__ import annotations

import re

from sphinx.application import Sphinx

from sklearn_dsm._citations import KEY

# Several keys beside each other are one citation.
KEYS = re.compile(rf"{KEY.pattern}(?: {KEY.pattern})*")


def cited(text: str) -> str:
    """Text with the roles of sphinxcontrib-bibtex in place of the keys."""
    return KEYS.sub(lambda found: f":cite:p:`{','.join(KEY.findall(found[0]))}`", text)


def in_page(app: Sphinx, name: str, source: list[str]) -> None:
    """Replace the keys in a page."""
    source[0] = cited(source[0])


def in_docstring(app, what, name, obj, options, lines: list[str]) -> None:
    """Replace the keys in a docstring."""
    lines[:] = cited("\n".join(lines)).splitlines()


def setup(app: Sphinx) -> dict[str, bool]:
    """Register both replacements, the second one behind numpydoc's."""
    app.connect("source-read", in_page)
    app.connect("autodoc-process-docstring", in_docstring, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
