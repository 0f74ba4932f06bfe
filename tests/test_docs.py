"""The examples of the pages and of README run, and give what they show."""

import doctest
import re
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def results_of_docs():
    """The module that reads the tables of the pages from benchmarks/results."""
    spec = spec_from_file_location("results_of_docs", ROOT / "docs/_ext/results.py")
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


RESULTS = results_of_docs()
PAGES = sorted(page for page in ROOT.glob("docs/*.rst") if ">>>" in page.read_text())


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_examples_of_a_page(page):
    found = doctest.testfile(str(page), module_relative=False, optionflags=doctest.ELLIPSIS)
    assert found.attempted > 0 and found.failed == 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*take few values")
def test_the_examples_of_the_readme(tmp_path, monkeypatch):
    """With fewer epochs, and without the drawing of windows."""
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert blocks
    names: dict = {}
    for block in blocks:
        short = block.replace("Estimator(random_state=0", "Estimator(random_state=0, max_epochs=3")
        exec(short, names)
    assert names["samples"].shape == (1000, 11)
    assert names["gradient"].shape == names["test"].shape and len(names["outliers"]) == 10
    assert (tmp_path / "report.html").stat().st_size > 10_000
    assert names["edges"].shape == (11, 11) and names["draws"].shape == (1000, 2)


@pytest.mark.parametrize("page", [ROOT / "README.md", *sorted(ROOT.glob("docs/*.rst"))], ids=str)
def test_files_that_a_page_names_are_there(page):
    named = re.findall(r"`+((?:docs|benchmarks|examples|tests)/[\w/.]+\.\w+)`+", page.read_text())
    assert all((ROOT / name).exists() for name in named), named


@pytest.mark.parametrize("name", RESULTS.TABLES)
def test_tables_of_results(name):
    """Every table has rows, whose cells are short, and the machine of its file."""
    table = RESULTS.TABLES[name]()
    assert len(table.rows) > 1 and "torch" in table.machine
    assert {len(row) for row in table.rows} == {len(table.header)}
    assert max(len(cell) for row in table.rows for cell in row) < 60
    assert table.as_rst().count("* -") == len(table.rows) + 1


def test_every_table_of_results_is_shown():
    pages = "".join(page.read_text() for page in ROOT.glob("docs/*.rst"))
    shown = set(re.findall(r"^\.\. results:: (\w+)$", pages, re.MULTILINE))
    assert shown == set(RESULTS.TABLES)


def test_losses_are_shown():
    """The table of densities has all tables of its file, and says which are losses."""
    table = RESULTS.density()
    text = (RESULTS.RESULTS / table.source).read_text()
    counted = re.search(r"wins (\d+), ties (\d+), loses (\d+) of (\d+)", text)
    wins, ties, losses, total = map(int, counted.groups())
    verdicts = [row[-1].strip("*") for row in table.rows]
    assert [verdicts.count(each) for each in ("win", "tie", "loss")] == [wins, ties, losses]
    assert len(table.rows) == total


def test_lines_of_pages_are_short():
    long = [
        (page.name, number)
        for page in ROOT.glob("docs/*.rst")
        for number, line in enumerate(page.read_text().splitlines(), 1)
        if len(line) > 110 and page.name != "sg_execution_times.rst"
    ]
    assert long == []


def test_pages_named_for_machines_exist():
    """Each page that docs/llms.txt links is there, or is listed in docs/api/."""
    links = re.findall(r"\]\(([\w/.]+)\.html\)", (ROOT / "docs/llms.txt").read_text())
    assert links
    made = {"gallery/index"}
    reference = "".join(page.read_text() for page in sorted(ROOT.glob("docs/api/*.rst")))
    for link in links:
        name = link.removeprefix("generated/sklearn_dsm.")
        listed = f"\n   {name}\n" in reference
        assert link in made or listed or (ROOT / f"docs/{link}.rst").exists(), link


def test_examples_are_in_themes():
    """Every folder of examples has a heading and is in the order of docs/conf.py."""
    folders = [path for path in (ROOT / "examples").iterdir() if list(path.glob("plot_*.py"))]
    order = re.search(r"^THEMES = \((.*)\)$", (ROOT / "docs/conf.py").read_text(), re.MULTILINE)
    assert sorted(re.findall(r"\w+", order[1])) == sorted(path.name for path in folders)
    assert all((path / "GALLERY_HEADER.rst").exists() for path in folders)
    assert not list((ROOT / "examples").glob("plot_*.py"))
    assert sum(len(list(path.glob("plot_*.py"))) for path in folders) >= 20
