"""Samples of pairwise graphical models with known interactions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.special import ndtr, ndtri
from sklearn.utils import Bunch

from .._random import numpy_random

FAMILIES = ("gaussian", "truncated_gaussian", "exponential", "normal_conditionals")
GAUSSIAN = ("gaussian", "truncated_gaussian")
GRAPHS = ("chain", "nearest", "blocks", "empty")
# Interactions of neighbours and of second neighbours, and the nodes' own terms.
STRENGTHS = {
    "gaussian": (0.5, 0.3, (1.0,)),
    "truncated_gaussian": (0.3, 0.1, (1.0,)),
    "exponential": (0.3, 0.2, (2.0,)),
    "normal_conditionals": (-0.2, -0.2, (-2.0, 0.4)),
}
BLOCK_SIZE, LEAST_EIGENVALUE = 10, 0.1
N_SWEEPS = 100


def make_pairwise(
    n_samples=100,
    n_features=20,
    *,
    family="gaussian",
    graph="chain",
    density=0.2,
    n_sweeps=N_SWEEPS,
    random_state=None,
):
    r"""Draw samples from a pairwise graphical model with known interactions.

    The families are those of :class:`~sklearn_dsm.PairwiseScoreMatching`, with its signs. Gaussian
    samples are exact. For the other families, every sample is the end of a Gibbs sampler of its
    own, so samples are independent.

    Parameters
    ----------
    n_samples : int, default=100
    n_features : int, default=20
        At least 2.
    family : str, default="gaussian"
        "gaussian", "truncated_gaussian", "exponential" or "normal_conditionals".
    graph : {"chain", "nearest", "blocks", "empty"}, default="chain"
        - "chain": each feature interacts with the next.
        - "nearest": each feature interacts with the next two.
        - "blocks": in blocks of 10 features, each pair interacts with probability ``density``.
          For the Gaussian families, interactions are uniform in [0.5, 1], and the smallest
          eigenvalue of the precision is 0.1. For the others, they are uniform between half and
          all of those of a chain.
        - "empty": no interactions.
    density : float, default=0.2
        Probability of an edge inside a block. Only for "blocks".
    n_sweeps : int, default=100
        Sweeps of the Gibbs sampler.
    random_state : int, RandomState, Generator or None, default=None
        Seed of the graph and of the samples.

    Returns
    -------
    X : ndarray of shape (n_samples, n_features)
    model : Bunch
        - ``interaction``, ndarray of shape (n_features, n_features): the coefficients
          :math:`\theta_{ab}`, symmetric, with zeros on the diagonal.
        - ``node_coef``, ndarray of shape (n_features, n_node_terms): coefficients of the features'
          own terms.
        - ``precision``, ndarray of shape (n_features, n_features): Gaussian families only.

    Raises
    ------
    ValueError
        If a name is unknown or a number is too small.

    References
    ----------
    [Inference]_, [GeneralizedSM]_

    Examples
    --------
    >>> from sklearn_dsm.datasets import make_pairwise
    >>> X, model = make_pairwise(50, 3, family="exponential", random_state=0)
    >>> X.shape, model.interaction[0].tolist()
    ((50, 3), [0.0, 0.3, 0.0])
    """
    for name, value, allowed in (("family", family, FAMILIES), ("graph", graph, GRAPHS)):
        if value not in allowed:
            raise ValueError(f"{name}={value!r} must be one of {', '.join(map(repr, allowed))}.")
    if n_samples < 1 or n_features < 2 or n_sweeps < 1:
        raise ValueError(
            f"n_samples={n_samples!r} and n_sweeps={n_sweeps!r} must be at least 1, and "
            f"n_features={n_features!r} at least 2."
        )
    if not 0 < density <= 1:
        raise ValueError(f"density={density!r} must be above 0 and at most 1.")
    if graph != "blocks" and density != 0.2:
        raise ValueError(f"density={density!r} has no effect with graph={graph!r}. Leave it out.")
    random = numpy_random(random_state)
    edges = _edges(n_features, family, graph, density, random)
    interaction, node_coef = _parameters(edges, family, graph)
    model = Bunch(interaction=interaction, node_coef=node_coef)
    if family in GAUSSIAN:
        model.precision = interaction + np.diag(node_coef[:, 0])
    if family == "gaussian":
        root = np.linalg.cholesky(model.precision)
        normal = random.standard_normal((n_features, n_samples))
        return np.linalg.solve(root.T, normal).T, model
    X = np.full((n_samples, n_features), 0.5)
    draw = CONDITIONALS[family]
    for _ in range(n_sweeps):
        for a in range(n_features):
            X[:, a] = draw(X, interaction[a], node_coef[a], random)
    return X, model


def _edges(p, family, graph, density, random):
    """Interactions (p, p) above the diagonal."""
    first, second, _ = STRENGTHS[family]
    if graph == "blocks":
        uniform = random.uniform(0.5, 1, (p, p)) * (1 if family in GAUSSIAN else first)
        block = np.arange(p) // BLOCK_SIZE
        kept = (random.uniform(size=(p, p)) < density) & (block == block[:, None])
        return np.triu(uniform * kept, 1)
    edges = np.zeros((p, p))
    if graph in ("chain", "nearest"):
        edges += np.diag(np.full(p - 1, first), 1)
    if graph == "nearest" and p > 2:
        edges += np.diag(np.full(p - 2, second), 2)
    return edges


def _parameters(edges, family, graph):
    """Interactions (p, p) and the nodes' own coefficients (p, K)."""
    interaction, node_coef = edges + edges.T, np.tile(STRENGTHS[family][2], (len(edges), 1))
    if graph == "blocks" and family in GAUSSIAN:
        node_coef[:] = LEAST_EIGENVALUE - np.linalg.eigvalsh(interaction)[0]
    return interaction, node_coef


def _truncated_normal(X, edges, own, random):
    mean, deviation = -X @ edges / own[0], own[0] ** -0.5
    # The normal distribution mirrored, so that its lower tail is the one that is kept.
    kept = ndtr(mean / deviation)
    return np.maximum(mean - deviation * ndtri(random.uniform(size=len(X)) * kept), 0.0)


def _exponential(X, edges, own, random):
    return random.exponential(size=len(X)) / (own[0] + X @ edges)


def _normal(X, edges, own, random):
    precision = -2 * (own[0] + X**2 @ edges)
    return own[1] / precision + random.standard_normal(len(X)) / np.sqrt(precision)


CONDITIONALS: dict[str, Callable] = {
    "truncated_gaussian": _truncated_normal,
    "exponential": _exponential,
    "normal_conditionals": _normal,
}
