"""Other libraries' causal discovery, each a function from samples to an adjacency matrix.

Entry [i, j] of a result is 1 for an edge from i to j; where a library leaves an edge without a
direction, both entries are. A library that is not installed is left out.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable
from importlib.util import find_spec

import numpy as np

from sklearn_dsm.causal import sort_by_variance


def by_variance(X: np.ndarray) -> np.ndarray:
    return sort_by_variance(X)[1]


def direct_lingam(X: np.ndarray) -> np.ndarray:
    import lingam

    model = lingam.DirectLiNGAM()
    model.fit(X)
    # Its entry [i, j] is the effect of j on i.
    return (model.adjacency_matrix_.T != 0).astype(int)


def causal_learn_ges(X: np.ndarray) -> np.ndarray:
    from causallearn.search.ScoreBased.GES import ges

    return from_causal_learn(ges(X, "local_score_BIC")["G"].graph)


def causal_learn_pc(X: np.ndarray) -> np.ndarray:
    from causallearn.search.ConstraintBased.PC import pc

    return from_causal_learn(pc(X, 0.01, show_progress=False).G.graph)


def from_causal_learn(graph: np.ndarray) -> np.ndarray:
    """-1 at [i, j] and 1 at [j, i] is an edge from i to j; -1 at both has no direction."""
    return ((graph == -1) & (graph.T != 0)).astype(int)


def gcastle_notears(X: np.ndarray) -> np.ndarray:
    from castle.algorithms import Notears

    model = Notears()
    model.learn(X)
    return np.asarray(model.causal_matrix)


def pgmpy_hill_climbing(X: np.ndarray) -> np.ndarray:
    import pandas as pd
    from pgmpy.estimators import HillClimbSearch

    names = [f"x{j}" for j in range(X.shape[1])]
    search = HillClimbSearch(pd.DataFrame(X, columns=names))
    found = search.estimate(scoring_method="bic-g", show_progress=False)
    adjacency = np.zeros((len(names), len(names)), dtype=int)
    for source, target in found.edges():
        adjacency[names.index(source), names.index(target)] = 1
    return adjacency


RIVALS: dict[str, tuple[str, Callable[[np.ndarray], np.ndarray]]] = {
    "sort by variance": ("sklearn_dsm", by_variance),
    "lingam DirectLiNGAM": ("lingam", direct_lingam),
    "causal-learn GES": ("causallearn", causal_learn_ges),
    "causal-learn PC": ("causallearn", causal_learn_pc),
    "gcastle NOTEARS": ("castle", gcastle_notears),
    "pgmpy hill climbing": ("pgmpy", pgmpy_hill_climbing),
}


def installed() -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    return {name: run for name, (module, run) in RIVALS.items() if find_spec(module)}


def quietly(run: Callable[[np.ndarray], np.ndarray], X: np.ndarray) -> np.ndarray:
    """A run without the progress and the warnings of a library."""
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            return run(X)
    finally:
        logging.disable(logging.NOTSET)
