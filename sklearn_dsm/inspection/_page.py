"""Pieces of a page of HTML that needs no other file."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from html import escape
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import uuid4

DPI = 110
STYLE = """
body { font-family: system-ui, sans-serif; color: #222; background: #fff; line-height: 1.45;
  max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: 0.2rem; }
h2 { font-size: 1.1rem; border-bottom: 1px solid #ccc; padding-bottom: 0.2rem; margin-top: 2rem; }
table { border-collapse: collapse; margin: 0.6rem 0; }
th, td { padding: 0.2rem 1rem 0.2rem 0; text-align: left; vertical-align: top; }
thead th { border-bottom: 1px solid #ccc; font-weight: 600; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
img { max-width: 100%; height: auto; }
.scroll { overflow-x: auto; }
p.note { color: #555; font-size: 0.9rem; max-width: 46rem; }
"""


def page(title: str, sections: Sequence[str]) -> str:
    """A whole document."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{escape(title)}</h1>\n" + "\n".join(sections) + "\n</body>\n</html>\n"
    )


def section(title: str, *parts: str) -> str:
    return f"<section>\n<h2>{escape(title)}</h2>\n" + "\n".join(parts) + "\n</section>"


def note(text: str) -> str:
    return f'<p class="note">{escape(text)}</p>'


def paragraph(text: str) -> str:
    return f"<p>{escape(text)}</p>"


def table(heads: Sequence[str], lines: Sequence[Sequence[Any]]) -> str:
    """Numbers are set to the right."""
    numeric = [any(isinstance(line[j], float) for line in lines) for j in range(len(heads))]
    opened = ['<th scope="col" class="number">' if each else '<th scope="col">' for each in numeric]
    head = "".join(f"{start}{escape(text)}</th>" for start, text in zip(opened, heads, strict=True))
    body = "".join(f"<tr>{''.join(map(_cell, line))}</tr>" for line in lines)
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f'<td class="number">{value:.3f}</td>'
    return f"<td>{escape(str(value))}</td>"


def picture(figure, description: str) -> str:
    """A figure of matplotlib as an image within the page."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    data = b64encode(buffer.getvalue()).decode("ascii")
    return f'<img alt="{escape(description)}" src="data:image/png;base64,{data}">'


def write_whole(path: Path, text: str) -> None:
    """Write a file, or leave the old one as it was."""
    part = path.with_name(f".{path.name}.{uuid4().hex}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
