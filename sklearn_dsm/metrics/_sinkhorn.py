"""Entropic optimal transport, without its bias."""

from __future__ import annotations

from numbers import Integral, Real

import numpy as np
import torch
from scipy.spatial.distance import cdist
from sklearn.exceptions import ConvergenceWarning

from .._compat import Interval
from .._warn import warn
from ._samples import Sample, at_least, check_options, checked_pair
from ._transport import optimal_transport

# Regularizations fall by this factor, with so many iterations at each before the last.
STAGE_FACTOR, STAGE_ITERATIONS = 4.0, 20


def sinkhorn_divergence(
    X, Y, *, regularization=1e-3, max_iter=300, tol=1e-4, X_weight=None, Y_weight=None
):
    r"""Compute the Sinkhorn divergence of two samples X and Y, by entropic optimal transport.

    .. math:: S(X, Y) = T(X, Y) - \tfrac12 T(X, X) - \tfrac12 T(Y, Y), \qquad
        T(X, Y) = \min_\pi \sum_{ij} \pi_{ij} |x_i - y_j|^2 + \varepsilon\,
        \mathrm{KL}(\pi \,\|\, \pi^X \otimes \pi^Y),

    over all couplings :math:`\pi` of the rows, whose weights are :math:`\pi^X` and :math:`\pi^Y`.
    The two subtracted terms remove the bias of the regularization: the divergence of a sample from
    itself is zero. For small :math:`\varepsilon`, the divergence approaches the square of
    :func:`wasserstein_distance`. The package POT must be installed. Matrices of all distances
    are held in memory, so a few thousand rows are feasible.

    Parameters
    ----------
    X : array-like of shape (n_samples_X, n_features)
    Y : array-like of shape (n_samples_Y, n_features)
    regularization : float, default=1e-3
        Regularization :math:`\varepsilon`, in squared units of X. A smaller one, relative to the
        squared distances, needs more iterations.
    max_iter : int, default=300
        Largest number of iterations for each of the three terms. The first term has up to 20 more
        for each of several larger regularizations, whose solutions it starts from.
    tol : float, default=1e-4
        Iterations end when the Euclidean norm of the error of the coupling's marginals is smaller.
    X_weight, Y_weight : array-like of shape (n_samples_X,) and (n_samples_Y,), or None
        Non-negative weights of the rows, of any positive sum. None gives equal weights.

    Returns
    -------
    float
        In squared units of X. It can be negative if ``max_iter`` iterations do not reach ``tol``.

    Raises
    ------
    ImportError
        If POT is not installed.
    ValueError
        If the samples differ in their features, hold NaN or infinity, or have no row of positive
        weight. If an option is out of range.

    Warns
    -----
    ConvergenceWarning
        If ``max_iter`` iterations do not reach ``tol``.

    References
    ----------
    [Sinkhorn]_, [POT]_

    Examples
    --------
    >>> from sklearn_dsm.metrics import sinkhorn_divergence
    >>> X = [[0.0, 0.0], [1.0, 0.0]]
    >>> round(sinkhorn_divergence(X, [[0.0, 2.0], [1.0, 2.0]], regularization=0.1), 6)
    4.0
    >>> sinkhorn_divergence(X, X)
    0.0
    """
    constraints = {
        "regularization": [Interval(Real, 0, None, closed="neither")],
        "max_iter": at_least(1, Integral),
        "tol": [Interval(Real, 0, None, closed="neither")],
    }
    options = {"regularization": regularization, "max_iter": max_iter, "tol": tol}
    check_options("sinkhorn_divergence", constraints, **options)
    first, second = checked_pair(X, Y, X_weight, Y_weight)
    ot = optimal_transport("sinkhorn_divergence", "energy_distance")
    cross = _cross_cost(ot, first, second, regularization, max_iter, tol)
    own = (_own_cost(sample, regularization, max_iter, tol) for sample in (first, second))
    return float(cross - 0.5 * sum(own))


def _cross_cost(
    ot, first: Sample, second: Sample, regularization: float, max_iter: int, tol: float
) -> float:
    """The dual value at the potentials that POT finds, from large regularizations down."""
    # Torch takes exponentials faster than numpy does.
    weights = [torch.from_numpy(sample.weight.copy()) for sample in (first, second)]
    cost = torch.from_numpy(cdist(first.rows, second.rows, "sqeuclidean"))
    potentials = [torch.zeros_like(weight) for weight in weights]
    *larger, last = _regularizations(regularization, float(cost.max()))
    for stage in (*larger, last):
        _, log = ot.bregman.sinkhorn_log(
            *weights,
            cost,
            stage,
            numItermax=max_iter if stage == last else min(max_iter, STAGE_ITERATIONS),
            stopThr=tol,
            warmstart=[p / stage + w.log() for p, w in zip(potentials, weights, strict=True)],
            log=True,
            warn=False,
        )
        scaled = (log["log_u"], log["log_v"])
        potentials = [stage * (u - w.log()) for u, w in zip(scaled, weights, strict=True)]
    _warn_if_early(float(log["err"][-1]), max_iter, tol)
    return float(sum(w @ p for w, p in zip(weights, potentials, strict=True)))


def _own_cost(sample: Sample, regularization: float, max_iter: int, tol: float) -> float:
    """The dual value between a sample and itself, whose two potentials are the same."""
    cost = torch.from_numpy(cdist(sample.rows, sample.rows, "sqeuclidean"))
    weight = torch.from_numpy(sample.weight.copy())
    potential, error = torch.zeros_like(weight), np.inf
    for _ in range(max_iter):
        exponents = (potential - cost) / regularization + weight.log()
        change = -regularization * exponents.logsumexp(1) - potential
        potential = potential + 0.5 * change
        # By how much the marginals of the coupling before the change erred.
        error = float((weight * torch.expm1(-change / regularization)).norm())
        if error < tol:
            break
    _warn_if_early(error, max_iter, tol)
    return float(2 * weight @ potential)


def _regularizations(last: float, largest: float) -> list[float]:
    """From the size of the costs down to the one asked for."""
    n = max(0, int(np.ceil(np.log(max(largest / last, 1.0)) / np.log(STAGE_FACTOR))))
    return [last * STAGE_FACTOR**k for k in range(n, -1, -1)]


def _warn_if_early(error: float, max_iter: int, tol: float) -> None:
    if error > tol:
        warn(
            f"sinkhorn_divergence stopped after {max_iter} iterations with an error of "
            f"{error:.2g} in the marginals; raise max_iter or regularization.",
            ConvergenceWarning,
        )
