"""BibTeX of what estimators use."""

import re
from pathlib import Path

import pytest
from sklearn.base import BaseEstimator
from sklearn.mixture import GaussianMixture

import sklearn_dsm
from sklearn_dsm import DSMDensityEstimator, DSMOutlierDetector, GMMScoreEstimator, citation
from sklearn_dsm._citations import KEY, entries

PACKAGE = Path(sklearn_dsm.__file__).parent
PAGES = PACKAGE.parent / "docs"
CLASSES = [
    found
    for found in (getattr(sklearn_dsm, name) for name in sklearn_dsm.__all__)
    if isinstance(found, type) and issubclass(found, BaseEstimator)
]


def cited(text):
    return set(re.findall(r"^@\w+\{(\w+),", text, flags=re.MULTILINE))


def test_every_reference_of_a_docstring_has_an_entry():
    used = {key for path in PACKAGE.rglob("*.py") for key in KEY.findall(path.read_text())}
    assert used <= set(entries())


@pytest.mark.parametrize("page", sorted(PAGES.glob("*.rst")), ids=lambda page: page.stem)
def test_every_reference_of_a_page_has_an_entry(page):
    assert set(KEY.findall(page.read_text())) <= set(entries())


@pytest.mark.parametrize("key", sorted(entries()))
def test_entries_are_complete(key):
    entry = entries()[key]
    fields = dict(re.findall(r"^  (\w+) = \{(.*)\},?$", entry, flags=re.MULTILINE))
    assert {"author", "title", "year"} <= set(fields)
    assert 1900 < int(fields["year"]) < 2030
    assert entry.count("{") == entry.count("}")


@pytest.mark.parametrize("cls", CLASSES)
def test_every_class_has_citations_that_are_its_own(cls):
    required = {
        "base": GaussianMixture(),
        "density": GaussianMixture(),
        "log_weight": len,
        "log_density": len,
        "scale": 1.0,
    }
    names = [name for name in required if name in cls._get_param_names()]
    text = citation(cls(**{name: required[name] for name in names}))
    assert set(KEY.findall(cls.__doc__)) <= cited(text)


def test_parameters_add_their_papers():
    plain = cited(citation(DSMDensityEstimator()))
    sliced = cited(citation(DSMDensityEstimator(loss="ssm")))
    assert sliced - plain == {"SSM"} and "ACE" not in plain
    nested = cited(citation(DSMDensityEstimator(reference=GMMScoreEstimator())))
    assert cited(citation(GMMScoreEstimator())) <= nested
    assert "KCM" in cited(citation(DSMOutlierDetector()))


def test_others_are_refused():
    with pytest.raises(TypeError, match="GaussianMixture"):
        citation(GaussianMixture())
