"""The examples of the pages and of README run, and give what they show."""

import doctest
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
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
