"""Protein signalling measured cell by cell."""

from __future__ import annotations

import gzip
from importlib import resources

import numpy as np
from sklearn.utils import Bunch

# The cells without an intervention come first.
N_OBSERVATIONAL = 853


def load_sachs(*, observational=True) -> Bunch:
    """Load the Sachs data: eleven proteins and lipids measured in human T cells.

    These are the flow-cytometry data of [Sachs2005]_. The measurements are
    intensities of phosphorylated molecules: positive, strongly skewed, and given to three
    significant digits. The graph of the signalling network, with 17 edges, is the one that causal
    discovery is usually compared with. Sorting the molecules by variance agrees with it about as
    well as published methods do, so an agreement on raw intensities proves little.

    Parameters
    ----------
    observational : bool, default=True
        Whether to load the 853 cells of the observational conditions only, rather than all 7466
        cells, most of which were treated with inhibitors or activators.

    Returns
    -------
    Bunch
        - ``data``, ndarray of shape (853, 11) or (7466, 11): fluorescence intensities in
          arbitrary units.
        - ``feature_names``, list of 11 str.
        - ``adjacency``, ndarray of shape (11, 11): entry [i, j] is 1 if i acts on j, else 0. The
          graph has no cycle.
        - ``edges``, list of 17 pairs of str: cause and effect.
        - ``DESCR``, str.

    References
    ----------
    [Sachs2005]_

    Examples
    --------
    >>> from sklearn_dsm.datasets import load_sachs
    >>> load_sachs().data.shape
    (853, 11)
    >>> load_sachs().edges[0]
    ('Raf', 'Mek')
    """
    folder = resources.files(__package__) / "data"
    source = folder / "sachs.csv.gz"
    with source.open("rb") as packed, gzip.open(packed, "rt") as text:
        names = text.readline().strip().split(",")
        data = np.loadtxt(text, delimiter=",", max_rows=N_OBSERVATIONAL if observational else None)
    conditions = "observational conditions" if observational else "all conditions"
    description = (
        f"Phosphorylated proteins and lipids of {len(data)} human CD4+ T cells, {conditions}. "
        "Perez, Pe'er, Lauffenburger and Nolan, Science 308, 2005. Taken from the CC0 collection "
        "of example causal data sets of the CMU philosophy department."
    )
    lines = (folder / "sachs_edges.csv").read_text().split()[1:]
    edges = [(line.split(",")[0], line.split(",")[1]) for line in lines]
    adjacency = np.zeros((len(names), len(names)), dtype=int)
    for cause, effect in edges:
        adjacency[names.index(cause), names.index(effect)] = 1
    return Bunch(
        data=data, feature_names=names, adjacency=adjacency, edges=edges, DESCR=description
    )
