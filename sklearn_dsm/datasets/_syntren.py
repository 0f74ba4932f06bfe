"""Simulated gene expression with known regulatory networks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from sklearn.utils import Bunch


def load_syntren(path) -> Bunch:
    """Load simulated gene expression with known networks from a file of SynTReN datasets.

    SynTReN simulates gene expression from regulatory networks of real organisms. The usual
    benchmark of causal discovery has ten datasets of 500 samples and 20 genes.

    Parameters
    ----------
    path : str or path-like
        A NumPy archive (.npz) with the samples "X1", "X2" and so on, of shape (n_samples,
        n_genes), and the graphs "A1", "A2" and so on, of shape (n_genes, n_genes).

    Returns
    -------
    Bunch
        - ``data``, list of ndarray of shape (n_samples, n_genes).
        - ``adjacency``, list of ndarray of shape (n_genes, n_genes): entry [i, j] is 1 if gene i
          regulates gene j, else 0.
        - ``DESCR``, str.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file holds no datasets, or one without its graph.

    References
    ----------
    [SynTReN]_

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> from pathlib import Path
    >>> from sklearn_dsm.datasets import load_syntren
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "syntren.npz"
    ...     np.savez(path, X1=np.ones((5, 2)), A1=np.array([[0, 1], [0, 0]]))
    ...     load_syntren(path).data[0].shape
    (5, 2)
    """
    with np.load(Path(path)) as archive:
        numbers = sorted(
            int(name[1:]) for name in archive.files if name[0] == "X" and name[1:].isdigit()
        )
        missing = [k for k in numbers if f"A{k}" not in archive.files]
        if not numbers or missing:
            lacks = f"the graphs of datasets {missing}" if missing else "samples named X1, X2, ..."
            raise ValueError(f"{path} lacks {lacks}; it holds {archive.files}.")
        data = [np.asarray(archive[f"X{k}"], dtype=float) for k in numbers]
        adjacency = [(archive[f"A{k}"] != 0).astype(int) for k in numbers]
    description = (
        "Gene expression simulated by SynTReN. Van den Bulcke et al., BMC Bioinformatics 7, 2006."
    )
    return Bunch(data=data, adjacency=adjacency, DESCR=description)
