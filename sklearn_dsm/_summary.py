"""What a fit found, in words: for people, and as HTML in notebooks."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from sklearn.exceptions import NotFittedError

from ._compat import HTMLReprMixin

CELL = "padding: 2px 12px 2px 0; text-align: left; vertical-align: top"


class SummaryMixin(HTMLReprMixin):
    """Shows :meth:`summary` below the parameters of an estimator in a notebook."""

    def summary(self) -> dict[str, str]:
        """What was chosen and what came of it."""
        raise NotImplementedError

    def _html_below(self) -> str:
        try:
            found = self.summary()
        except NotFittedError:
            return ""
        return (
            '<div class="sklearn-dsm-summary" style="font-family: sans-serif; font-size: 0.85em; '
            f'margin: 6px 0"><b>Summary of the fit</b>{html_of_summary(found)}</div>'
        )


def html_of_summary(summary: Mapping[str, str]) -> str:
    """A table of two columns, all of its text escaped."""
    lines = "".join(
        f'<tr><th scope="row" style="{CELL}; font-weight: normal; opacity: 0.7">{escape(name)}</th>'
        f'<td style="{CELL}">{escape(value)}</td></tr>'
        for name, value in summary.items()
    )
    return f'<table style="border-collapse: collapse">{lines}</table>'


def in_nats(value: float, sign: str = "") -> str:
    """A mean log-likelihood, or with the sign "+" a difference of two."""
    return f"{value:{sign}.3f} nats per sample"
