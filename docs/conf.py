"""Configuration of the documentation."""

import sys
import warnings
from pathlib import Path

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS / "_ext"))

import class_pages  # noqa: E402
import inventories  # noqa: E402
from sphinx_gallery.sorting import ExplicitOrder  # noqa: E402

import sklearn_dsm  # noqa: E402

project = "sklearn_dsm"
author = "the sklearn_dsm developers"
copyright = "2026, the sklearn_dsm developers"
version = release = sklearn_dsm.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.viewcode",
    "sphinx_design",
    "numpydoc",
    "sphinxcontrib.bibtex",
    "sphinx_gallery.gen_gallery",
    "cited_keys",
    "mathml",
    "result_tables",
]
exclude_patterns = ["_build", "_ext", "**sg_execution_times.rst"]
templates_path = ["_templates"]
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_math_renderer = "mathml"
html_extra_path = ["llms.txt"]
# Sphinx cannot store functions in its cache, and warns of those in autosummary_context.
suppress_warnings = ["config.cache"]

autosummary_generate = True
autosummary_context = {
    "class_summary": class_pages.summary,
    "class_methods": class_pages.methods,
    "class_attributes": class_pages.attributes,
    "class_properties": class_pages.properties,
}
autodoc_typehints = "none"
numpydoc_show_class_members = False
bibtex_bibfiles = ["../sklearn_dsm/references.bib"]
bibtex_reference_style = "author_year"
bibtex_default_style = "plain"

# Without a network, links to other packages go by the names in _ext/inventories.py.
intersphinx_mapping = inventories.mapping(DOCS / "_build" / "inventories")
intersphinx_timeout = 5

THEMES = ("densities", "tables", "regression", "graphs", "sampling", "inspection")
sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": "plot_",
    "ignore_pattern": r"demo\.py|__init__\.py",
    "subsection_order": ExplicitOrder([f"../examples/{theme}" for theme in THEMES]),
    "within_subsection_order": "ExampleTitleSortKey",
    "backreferences_dir": "generated/backlinks",
    "doc_module": ("sklearn_dsm",),
    "download_all_examples": False,
    "min_reported_time": 60,
    "nested_sections": True,
    "show_memory": False,
    "show_signature": False,
    "thumbnail_size": (600, 250),
    "abort_on_example_error": False,
}
# Warnings of the examples are printed with the name of a file of this machine.
warnings.filterwarnings("ignore", message="FigureCanvasAgg is non-interactive")

html_theme = "pydata_sphinx_theme"
html_title = "sklearn_dsm"
html_show_sourcelink = False
html_theme_options = {
    "show_prev_next": False,
    "secondary_sidebar_items": ["page-toc"],
    "header_links_before_dropdown": 7,
    "navbar_align": "left",
    "show_toc_level": 2,
    "navigation_with_keys": False,
}
# These pages have no pages below them, so nothing to list at their left.
html_sidebars = {
    page: [] for page in ("index", "getting_started", "benchmarks", "coming_from", "search")
}
toc_object_entries_show_parents = "hide"
