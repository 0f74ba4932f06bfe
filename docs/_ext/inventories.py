"""Names in the documentation of other packages, for builds without a network."""

from __future__ import annotations

import zlib
from pathlib import Path

SKLEARN = "modules/generated/$.html#$"
PYPLOT = "api/_as_gen/$.html#$"
# The address of each package's documentation, and the names that these pages refer to, with
# their roles and places. "$" stands for the name.
PACKAGES: dict[str, tuple[str, dict[str, tuple[str, str]]]] = {
    "python": ("https://docs.python.org/3/", {"pickle": ("py:module", "library/pickle.html")}),
    "numpy": (
        "https://numpy.org/doc/stable/",
        {"numpy.ndarray": ("py:class", "reference/generated/$.html#$")},
    ),
    "scipy": (
        "https://docs.scipy.org/doc/scipy/",
        {"scipy.stats.gaussian_kde": ("py:class", "reference/generated/$.html#$")},
    ),
    "sklearn": (
        "https://scikit-learn.org/stable/",
        {
            name: ("py:class", SKLEARN)
            for name in (
                "sklearn.calibration.CalibratedClassifierCV",
                "sklearn.covariance.GraphicalLassoCV",
                "sklearn.decomposition.PCA",
                "sklearn.frozen.FrozenEstimator",
                "sklearn.mixture.BayesianGaussianMixture",
                "sklearn.mixture.GaussianMixture",
                "sklearn.model_selection.GridSearchCV",
                "sklearn.neighbors.KernelDensity",
                "sklearn.pipeline.Pipeline",
                "sklearn.preprocessing.PolynomialFeatures",
                "sklearn.preprocessing.StandardScaler",
            )
        },
    ),
    "torch": (
        "https://docs.pytorch.org/docs/stable/",
        {"torch.Tensor": ("py:class", "tensors.html#$")},
    ),
    "matplotlib": (
        "https://matplotlib.org/stable/",
        {
            "matplotlib.pyplot.subplots": ("py:function", PYPLOT),
            "matplotlib.axes.Axes": ("py:class", "api/_as_gen/$.html#$"),
        },
    ),
    "pandas": (
        "https://pandas.pydata.org/docs/",
        {"pandas.DataFrame": ("py:class", "reference/api/$.html#$")},
    ),
    "networkx": (
        "https://networkx.org/documentation/stable/",
        {"networkx.DiGraph": ("py:class", "reference/classes/digraph.html#$")},
    ),
}


def write(project: str, names: dict[str, tuple[str, str]], path: Path) -> None:
    """Write an inventory of Sphinx, version 2."""
    head = (
        f"# Sphinx inventory version 2\n# Project: {project}\n# Version: \n"
        "# The remainder of this file is compressed using zlib.\n"
    )
    lines = [
        f"{name} {role} 1 {place.replace('$', name)} -\n" for name, (role, place) in names.items()
    ]
    path.write_bytes(head.encode() + zlib.compress("".join(lines).encode()))


def mapping(folder: Path) -> dict[str, tuple[str, tuple[None, str]]]:
    """Sphinx's ``intersphinx_mapping``: the package's own inventory, else a small one here."""
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, tuple[str, tuple[None, str]]] = {}
    for package, (address, names) in PACKAGES.items():
        path = folder / f"{package}.inv"
        write(package, names, path)
        found[package] = (address, (None, str(path)))
    return found
