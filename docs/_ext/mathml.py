"""Formulas as MathML, which browsers show without JavaScript and without a network."""

from __future__ import annotations

import html
import re
import shutil
from importlib.resources import files
from pathlib import Path

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx

FONT = "STIXTwoMath-Regular.ttf"
# Functions whose names are written upright, and what TeX puts around them: a thin space, but none
# before brackets or after an operator.
NAMES = "log|exp|sin|cos|sinh|tanh|det|max|min|arg|diag|tr"
THIN = '<mspace width="0.1667em"/>'
OPENING = r"(?:stretchy=\"(?:true|false)\"[^>]*>|minsize=[^>]*>)(?:&#x00028;|&#x0005B;|\(|\[)"


def mathml(formula: str, display: str) -> str:
    """A formula of LaTeX as an element ``math``, with the source for those who copy it."""
    if display == "block" and r"\\" in formula and r"\begin" not in formula:
        formula = rf"\begin{{split}}{formula}\end{{split}}"
    element = spaced(convert(formula.replace(r"\arg", r"\operatorname{arg}"), display=display))
    return element.replace("<math ", f'<math alttext="{html.escape(formula)}" ', 1)


def spaced(element: str) -> str:
    """MathML with the spaces of TeX around names of functions and absolute values."""
    element = re.sub(
        r'<mo(?: stretchy="false")?>&#x0007C;</mo>',
        '<mo stretchy="false" lspace="0" rspace="0">&#x0007C;</mo>',
        element,
    )
    element = re.sub(rf"<mo[^>]*>({NAMES})</mo>", r'<mo lspace="0" rspace="0">\1</mo>', element)
    element = element.replace("<mi>&#x0007E;</mi>", "<mo>&#x0223C;</mo>")
    # Punctuation and relations, with the spaces of operators.
    element = re.sub(r"<mi>([;:])</mi>", r"<mo>\1</mo>", element)
    # The sign of a root ends with a space of its own.
    element = re.sub(r'</msqrt><mspace width="0.1\d+em" ?/>', "</msqrt>", element)
    # A minus after a bracket, a comma or another operator is a sign.
    element = re.sub(r"(?<=</mo>)<mo>&#x02212;</mo>", '<mo form="prefix">&#x02212;</mo>', element)
    element = re.sub(
        r"((?:&#x00029;|&#x0005D;|&#x0007C;|\)|\])</mo>)<mo form=\"prefix\">&#x02212;",
        r"\1<mo>&#x02212;",
        element,
    )
    name = rf"<m[io][^>]*>(?:{NAMES})</m[io]>"
    scripts = r"(?:(?!</?msu).)*?</msu(?:b|p|bsup)>"
    element = re.sub(
        rf"(<msu(?:b|p|bsup)>{name}{scripts}|{name}(?!\s*<m[inro][^>]*>[^<]*</m[inro]></msu))"
        rf"(?!<mo {OPENING})(?=<m)",
        rf"\1{THIN}",
        element,
    )
    return re.sub(rf"(</(?:mi|mn|msub|msup|mfrac|msqrt)>)({name})", rf"\1{THIN}\2", element)


def visit_inline(translator, node: nodes.math) -> None:
    """An inline formula."""
    translator.body.append(
        f'<span class="math">{mathml(node.astext().strip(), "inline")}</span>',
    )
    raise nodes.SkipNode


def visit_block(translator, node: nodes.math_block) -> None:
    """A displayed formula; blank lines separate several."""
    parts = [part.strip() for part in node.astext().split("\n\n") if part.strip()]
    shown = "\n".join(mathml(part, "block") for part in parts)
    translator.body.append(f'<div class="math">{shown}</div>\n')
    raise nodes.SkipNode


def copy_font(app: Sphinx, error: Exception | None) -> None:
    """Put the font of the formulas beside the pages."""
    if error is None and app.builder.format == "html":
        target = Path(app.outdir) / "_static" / FONT
        shutil.copyfile(str(files("ziamath") / "fonts" / FONT), target)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the renderer ``mathml``."""
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    app.connect("build-finished", copy_font)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
