"""Configuration of the documentation."""

import sklearn_dsm

project = "sklearn_dsm"
author = "the sklearn_dsm developers"
copyright = "2026, the sklearn_dsm developers"
version = release = sklearn_dsm.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "numpydoc",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build"]
templates_path = ["_templates"]

autosummary_generate = True
autodoc_typehints = "none"
numpydoc_show_class_members = False

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": "plot_",
    "ignore_pattern": r"demo\.py|__init__\.py",
    "download_all_examples": False,
    "show_memory": False,
    "show_signature": False,
}

html_theme = "pydata_sphinx_theme"
html_title = "sklearn_dsm"
html_show_sourcelink = False
html_theme_options = {"show_prev_next": False, "secondary_sidebar_items": ["page-toc"]}
# These pages have no pages below them, so nothing to list at their left.
html_sidebars = {
    page: []
    for page in ("getting_started", "how_it_works", "choosing", "benchmarks", "bibliography")
}
toc_object_entries_show_parents = "hide"
