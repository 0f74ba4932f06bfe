"""Imports inside the package go down only, room by room."""

import ast
from pathlib import Path

import pytest

import sklearn_dsm

PACKAGE = Path(sklearn_dsm.__file__).parent
# From the top; rooms of one line do not import each other.
LAYERS = (
    ("",),
    ("io", "out_of_core", "_citations"),
    ("outliers",),
    ("causal", "density", "graphical", "inspection", "mixture", "regression", "sampling"),
    ("utils", "metrics", "datasets"),
    ("_search",),
    ("_evaluation", "_tabular"),
    ("_mixtures", "_polynomials"),
    ("_transforms",),
    ("_training",),
    ("_core.likelihood",),
    ("_core.losses",),
    ("_core.distributions",),
    ("_core.scores",),
    ("_core.noise",),
    ("_core",),
    ("_columns",),
    ("_checkpoint",),
    ("_validation", "_random", "_fit", "_warn", "_budget"),
    ("_summary", "_files"),
    ("_compat", "_extras", "_threads", "_version"),
)
HEIGHTS = {room: -k for k, rooms in enumerate(LAYERS) for room in rooms}
FILES = sorted(PACKAGE.rglob("*.py"))


def dotted(path):
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def room_of(module):
    """The longest room that a module of the package lies in."""
    held = [room for room in HEIGHTS if module == room or module.startswith(f"{room}.")]
    return max(held, key=len, default="")


def imported(path):
    """The package's own modules that a file imports, wherever in it."""
    package = list(path.relative_to(PACKAGE).parent.parts)
    for node in ast.walk(ast.parse(path.read_text())):
        # One way of importing, so that this test sees them all.
        absolute = isinstance(node, ast.Import) and [alias.name for alias in node.names]
        if isinstance(node, ast.ImportFrom) and not node.level:
            absolute = [node.module]
        assert not any(name.split(".")[0] == "sklearn_dsm" for name in absolute or [])
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        base = package[: len(package) - node.level + 1]
        module = [*base, *(node.module or "").split(".")] if node.module else base
        names = [] if node.module else [alias.name for alias in node.names]
        yield from (".".join([*module, name]) for name in names or [""])


@pytest.mark.parametrize("path", FILES, ids=dotted)
def test_imports_go_down(path):
    own = room_of(dotted(path))
    for module in imported(path):
        other = room_of(module.rstrip("."))
        assert other == own or HEIGHTS[other] < HEIGHTS[own], f"{own or 'the package'} -> {other}"


def test_every_file_is_in_a_room():
    top = {dotted(path).split(".")[0] for path in FILES} - {""}
    assert top == {room.split(".")[0] for room in HEIGHTS} - {""}


def test_examples_use_public_names_only():
    """What users read is what users may import."""
    root = PACKAGE.parent
    shown = [*root.glob("examples/**/*.py"), *root.glob("docs/*.rst"), root / "README.md"]
    assert shown
    private = [path.name for path in shown if "sklearn_dsm._" in path.read_text()]
    assert private == []
