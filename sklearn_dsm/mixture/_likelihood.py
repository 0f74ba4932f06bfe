"""The likelihood of a mixture near its maximum: Newton's method, and the estimate's covariance."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from .._mixtures.em import CHUNK_NUMBERS, FittedMixture, WeightedEM, log_joint_of
from .._mixtures.parameters import Parameters
from ._canonical import CanonicalForm
from ._units import of_kind

# Steps end where all rows together would gain less than this, in nats: a hundredth of a standard
# error.
LEAST_GAIN = 1e-4
MAX_STEPS, MAX_HALVINGS = 20, 6
# A matrix is good for more steps as long as each leaves less than this share of the gain before.
GOOD_SHARE = 0.1
# Directions with less information than this, relative to the numbers' own, have none.
LEAST_INFORMATION = 1e-10


def climbed(em: WeightedEM, fit: FittedMixture, n_rows: float) -> FittedMixture:
    r"""Newton's method from where expectation-maximization ended.

    .. math:: \theta \leftarrow \theta + A^+ g, \qquad g = \nabla \textstyle\sum_i w_i \log p(x_i),
        \quad A = -\nabla^2 \textstyle\sum_i w_i \log p(x_i),

    in the free numbers of :class:`CanonicalForm`. A step that lowers the likelihood, or leaves the
    positive definite covariances, is halved. The matrix is computed again once a step has gained
    much less than it promised.

    Parameters
    ----------
    em : WeightedEM
    fit : FittedMixture
    n_rows : float
        For how many rows the weights stand.
    """
    form = CanonicalForm(em.kind, *fit.parameters.means.shape)
    parameters = fit.parameters
    moments, value = em.expect(parameters)
    inverse, promised = None, np.inf
    for _ in range(MAX_STEPS):
        slope = form.slope(parameters, moments)
        if inverse is not None:
            gain = float(slope @ inverse @ slope) / 2
        if inverse is None or gain > GOOD_SHARE * promised:
            inverse = _inverse(information(form, parameters, em.rows, em.weight)[0])
            gain = float(slope @ inverse @ slope) / 2
        if n_rows * gain < LEAST_GAIN or em.budget.is_over:
            break
        found = _step(em, form, parameters, inverse @ slope, value)
        if found is None:
            break
        promised = gain
        parameters, moments, value = found
    return FittedMixture(parameters, value, fit.n_iterations, fit.converged)


def _step(em: WeightedEM, form: CanonicalForm, parameters: Parameters, step: Tensor, value: float):
    """Parameters along a step that are likelier, with their moments and likelihood; or None."""
    free = form.free(parameters)
    for _ in range(MAX_HALVINGS):
        found = form.parameters(free + step)
        if _lie_above(found.covariances, em.floor):
            found = found._replace(covariances=of_kind(found.covariances, em.kind))
            moments, new_value = em.expect(found)
            if new_value >= value:
                return found, moments, new_value
        step = step / 2
    return None


def _lie_above(covariances: Tensor, floor: float) -> bool:
    if not torch.isfinite(covariances).all():
        return False
    return bool((torch.linalg.eigvalsh(covariances) > floor).all())


def _inverse(bread: Tensor) -> Tensor:
    """Inverse of the information, with positive eigenvalues; nothing along those that are zero."""
    # Precisions of narrow components are many orders larger than logits.
    unit = bread.diagonal().clamp(min=torch.finfo(bread.dtype).tiny).rsqrt()
    values, axes = torch.linalg.eigh(unit[:, None] * bread * unit)
    known = values.abs() > LEAST_INFORMATION * values.abs().max()
    inverses = torch.where(known, 1 / values.abs().clamp(min=1e-300), 0.0)
    half = unit[:, None] * axes
    return (half * inverses) @ half.T


def likelihood_covariance(
    parameters: Parameters,
    kind: str,
    rows: Tensor,
    weight: Tensor,
    natural: Callable[[Parameters], Tensor],
) -> np.ndarray:
    r"""Sandwich covariance (q, q) of functions of the parameters with the largest likelihood.

    .. math:: J A^+ B A^+ J^T, \qquad A = -\sum_i w_i \nabla^2 \log p(x_i), \qquad
        B = \sum_i w_i \nabla \log p(x_i)\, \nabla \log p(x_i)^T.

    A weight w stands for w equal rows.

    Parameters
    ----------
    parameters : Parameters
    kind : {"full", "tied", "diag", "spherical"}
    rows : Tensor of shape (n, d)
    weight : Tensor of shape (n,)
    natural : callable
        From parameters of full covariances to the vector whose covariance is wanted.
    """
    form = CanonicalForm(kind, *parameters.means.shape)
    bread, meat = information(form, parameters, rows, weight)
    free = form.free(parameters)
    jacobian = torch.func.jacrev(lambda each: natural(form.parameters(each)))(free)
    half = jacobian @ _inverse(bread)
    return (half @ meat @ half.T).numpy()


def information(
    form: CanonicalForm, parameters: Parameters, rows: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor]:
    """The observed information and the sum of squared slopes, in the free numbers.

    Louis' formula: all parts are moments of the rows and of the components.

    References
    ----------
    [Louis1982]_
    """
    k, s = form.k, form.n_statistics
    shares, center = parameters.weights, form.center(parameters)
    size, log_joint = max(1, CHUNK_NUMBERS // (k * s)), log_joint_of(parameters, form.kind)
    n_all = k + k * s
    meat = shares.new_zeros(n_all, n_all)
    mass, pulls = shares.new_zeros(k), shares.new_zeros(k, s)
    squares = shares.new_zeros(k, s, s)
    for part, w in zip(rows.split(size), weight.split(size), strict=True):
        posterior = log_joint(part).softmax(0).T
        offsets = form.statistics(part)[:, None] - center
        pulled = posterior[..., None] * offsets
        gradient = torch.cat([posterior - shares, pulled.flatten(1)], 1) * w.sqrt()[:, None]
        meat += gradient.T @ gradient
        mass += w @ posterior
        pulls += (w @ pulled.flatten(1)).reshape(k, s)
        for component in range(k):
            weighted = pulled[:, component] * w[:, None]
            squares[component] += weighted.T @ offsets[:, component]
    bread = meat.clone()
    total = mass.sum()
    away = torch.eye(k).to(shares) - shares
    bread[:k, :k] += total * (torch.diag(shares) - torch.outer(shares, shares))
    bread[:k, :k] -= away.T @ (mass[:, None] * away)
    within = mass[:, None, None] * form.spread(parameters)
    for component in range(k):
        own = slice(k + component * s, k + (component + 1) * s)
        bread[own, own] += within[component] - squares[component]
        crossed = torch.outer(away[component], pulls[component])
        bread[:k, own] -= crossed
        bread[own, :k] -= crossed.T
    reduction = form.reduction
    return reduction.T @ bread @ reduction, reduction.T @ meat @ reduction
