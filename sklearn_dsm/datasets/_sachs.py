"""Protein signalling measured cell by cell."""

from __future__ import annotations

import gzip
from importlib import resources

import numpy as np
from sklearn.utils import Bunch


def load_sachs() -> Bunch:
    """Load the Sachs data: eleven proteins and lipids measured in 853 human T cells.

    This is the observational part of the flow-cytometry data of [Sachs2005]_. The measurements are
    intensities of phosphorylated molecules: positive, strongly skewed, and given to three
    significant digits.

    Returns
    -------
    Bunch
        - ``data``, ndarray of shape (853, 11): fluorescence intensities in arbitrary units.
        - ``feature_names``, list of 11 str.
        - ``DESCR``, str.

    References
    ----------
    [Sachs2005]_

    Examples
    --------
    >>> from sklearn_dsm.datasets import load_sachs
    >>> load_sachs().data.shape
    (853, 11)
    """
    source = resources.files(__package__) / "data" / "sachs.csv.gz"
    with source.open("rb") as packed, gzip.open(packed, "rt") as text:
        names = text.readline().strip().split(",")
        data = np.loadtxt(text, delimiter=",")
    description = (
        "Phosphorylated proteins and lipids of 853 human CD4+ T cells, observational "
        "conditions. Sachs, Perez, Pe'er, Lauffenburger and Nolan, Science 308, 2005. "
        "Taken from the CC0 collection of example causal data sets of the CMU philosophy "
        "department."
    )
    return Bunch(data=data, feature_names=names, DESCR=description)
