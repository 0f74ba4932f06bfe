"""Samples from structural equations with additive noise, and their causal graph."""

from __future__ import annotations

from numbers import Integral, Real

import numpy as np
from scipy.spatial.distance import cdist
from sklearn.utils import Bunch

from .._compat import Interval, StrOptions, validate_parameter_constraints
from .._random import numpy_random

# Added to the diagonal of a Gaussian process's covariance, which is singular to rounding.
JITTER = 1e-6
WEIGHTS = (0.5, 1.5)
# Draws with mean zero and variance one.
NOISES = {
    "normal": lambda random, n: random.standard_normal(n),
    "exponential": lambda random, n: random.exponential(size=n) - 1,
    "laplace": lambda random, n: random.laplace(scale=0.5**0.5, size=n),
    "gumbel": lambda random, n: (random.gumbel(size=n) - np.euler_gamma) * 6**0.5 / np.pi,
    "gamma": lambda random, n: (random.gamma(2.0, size=n) - 2) / 2**0.5,
    "beta": lambda random, n: (random.beta(2.0, 5.0, size=n) - 2 / 7) / (10 / 392) ** 0.5,
    "uniform": lambda random, n: random.uniform(-(3**0.5), 3**0.5, size=n),
}


def make_anm(
    n_samples=1000,
    n_features=10,
    *,
    graph="ER",
    edges_per_node=1,
    mechanism="gp",
    noise="normal",
    noise_variance=(0.4, 0.8),
    random_state=None,
):
    r"""Draw samples from an additive noise model with a random causal graph.

    .. math:: x_j = f_j(x_{pa(j)}) + e_j, \qquad E[e_j] = 0, \quad Var(e_j) = \sigma_j^2,

    where the noises are independent. The columns are in random order, so the graph cannot be read
    off their numbers.

    Parameters
    ----------
    n_samples : int, default=1000
    n_features : int, default=10
        At least two.
    graph : {"ER", "SF"}, default="ER"
        How edges are drawn.

        - "ER": Erdos-Renyi: every set of ``edges_per_node * n_features`` edges along a random
          order is equally likely. If there are fewer pairs of nodes, the graph is complete.
        - "SF": scale-free, by Barabasi and Albert: each new node has ``edges_per_node`` parents
          among the earlier ones, and prefers those with many edges.
    edges_per_node : int, default=1
        Half the expected degree of a node. "ER1" and "SF4" in the literature are 1 and 4.
    mechanism : {"gp", "linear", "quadratic"}, default="gp"
        The functions f.

        - "gp": a draw of a Gaussian process of all parents together, with a squared exponential
          kernel of length scale one and variance one. Takes time cubic in ``n_samples``.
        - "linear": a weighted sum of the parents, with absolute weights between 0.5 and 1.5.
        - "quadratic": a weighted sum of the parents' squares, standardised to variance one.
    noise : str, default="normal"
        The distribution of the noise, shifted and scaled: "normal", "exponential", "laplace",
        "gumbel", "gamma", "beta" or "uniform".
    noise_variance : float or pair of float, default=(0.4, 0.8)
        Variance of every noise, or the interval from which a variance is drawn for each feature.
    random_state : int, RandomState, Generator or None, default=None
        Seed of graph, functions and noise.

    Returns
    -------
    Bunch
        - ``data``, ndarray of shape (n_samples, n_features).
        - ``adjacency``, ndarray of shape (n_features, n_features): entry [i, j] is 1 for an edge
          from i to j, else 0.
        - ``order``, ndarray of shape (n_features,): a causal order, sources first.
        - ``noise_variances``, ndarray of shape (n_features,).

    Raises
    ------
    ValueError
        If an option is out of range.

    References
    ----------
    [SCORE]_, [NoGAM]_

    Examples
    --------
    >>> from sklearn_dsm.datasets import make_anm
    >>> anm = make_anm(200, 5, random_state=0)
    >>> anm.data.shape, int(anm.adjacency.sum())
    ((200, 5), 5)
    """
    constraints = {
        "n_samples": [Interval(Integral, 1, None, closed="left")],
        "n_features": [Interval(Integral, 2, None, closed="left")],
        "graph": [StrOptions({"ER", "SF"})],
        "edges_per_node": [Interval(Integral, 0, None, closed="left")],
        "mechanism": [StrOptions({"gp", "linear", "quadratic"})],
        "noise": [StrOptions(set(NOISES))],
        "noise_variance": [Interval(Real, 0, None, closed="neither"), tuple, list],
        "random_state": ["random_state", np.random.Generator],
    }
    options = {name: value for name, value in locals().items() if name in constraints}
    validate_parameter_constraints(constraints, options, caller_name="make_anm")
    random = numpy_random(random_state)
    lowest, highest = _interval(noise_variance)
    draw_graph = _random_edges if graph == "ER" else _preferred_edges
    upper = draw_graph(n_features, edges_per_node, random)
    variances = random.uniform(lowest, highest, size=n_features)
    data = np.empty((n_samples, n_features))
    for j in range(n_features):
        parents = data[:, upper[:, j] > 0]
        data[:, j] = np.sqrt(variances[j]) * NOISES[noise](random, n_samples)
        if parents.shape[1]:
            data[:, j] += MECHANISMS[mechanism](parents, random)
    # Column k of the result is node shuffle[k].
    shuffle = random.permutation(n_features)
    return Bunch(
        data=data[:, shuffle],
        adjacency=upper[np.ix_(shuffle, shuffle)],
        order=np.argsort(shuffle),
        noise_variances=variances[shuffle],
    )


def _interval(noise_variance):
    pair = noise_variance if isinstance(noise_variance, tuple | list) else [noise_variance] * 2
    if len(pair) != 2 or not 0 < pair[0] <= pair[1]:
        raise ValueError(
            f"noise_variance={noise_variance!r} must be a positive number, or a pair of positive "
            "numbers, the smaller one first."
        )
    return pair


def _random_edges(d, per_node, random):
    """The upper triangle with so many ones, at random places."""
    rows, columns = np.triu_indices(d, 1)
    chosen = random.permutation(len(rows))[: per_node * d]
    upper = np.zeros((d, d), dtype=int)
    upper[rows[chosen], columns[chosen]] = 1
    return upper


def _preferred_edges(d, per_node, random):
    """Parents of each node among the earlier ones, in proportion to their edges and one more."""
    upper = np.zeros((d, d), dtype=int)
    for j in range(1, d):
        degree = upper[:j].sum(1) + upper[:, :j].sum(0) + 1.0
        n_parents = min(per_node, j)
        upper[random.choice(j, n_parents, replace=False, p=degree / degree.sum()), j] = 1
    return upper


def _gaussian_process(parents, random):
    covariance = np.exp(-0.5 * cdist(parents, parents, "sqeuclidean"))
    covariance[np.diag_indices_from(covariance)] += JITTER
    return np.linalg.cholesky(covariance) @ random.standard_normal(len(parents))


def _weighted(parents, random):
    weights = random.uniform(*WEIGHTS, size=parents.shape[1])
    return parents @ (weights * random.choice([-1.0, 1.0], size=len(weights)))


def _quadratic(parents, random):
    effect = _weighted(parents**2, random)
    deviation = effect.std()
    return (effect - effect.mean()) / (deviation if deviation > 0 else 1.0)


MECHANISMS = {"gp": _gaussian_process, "linear": _weighted, "quadratic": _quadratic}
