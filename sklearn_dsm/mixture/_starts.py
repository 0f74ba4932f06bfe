"""Where the fit of a mixture starts."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .._core.arrays import tensor_of
from .._mixtures.em import WeightedEM, start_posterior
from .._mixtures.parameters import Parameters
from ._units import Units, of_kind

# With one run of k-means as many as half of the fits end in a worse local maximum; see
# benchmarks/NOTES.md.
N_KMEANS = 3


class Given(NamedTuple):
    """What of a start is given, in the units of the input; None where it is not."""

    weights: np.ndarray | None
    means: np.ndarray | None
    precisions: np.ndarray | None

    @property
    def everything(self) -> bool:
        return all(part is not None for part in self)


def checked(given: Given, kind: str, n_components: int, n_features: int) -> Given:
    """The same as arrays in float64.

    Raises
    ------
    ValueError
        Where one has another shape than the parameters, or weights or precisions are impossible.
    """
    k, d = n_components, n_features
    shapes = {"full": (k, d, d), "tied": (d, d), "diag": (k, d), "spherical": (k,)}
    wanted = {"weights": (k,), "means": (k, d), "precisions": shapes[kind]}
    arrays: dict[str, np.ndarray | None] = dict.fromkeys(wanted)
    for name, shape in wanted.items():
        value = getattr(given, name)
        if value is None:
            continue
        array = arrays[name] = np.array(value, dtype=np.float64)
        if array.shape != shape or not np.isfinite(array).all():
            raise ValueError(
                f"{name}_init must hold finite numbers in shape {shape} for {k} component(s) of "
                f"{d} feature(s) with covariance_type={kind!r}; it has shape {array.shape}."
            )
    found = Given(**arrays)
    if found.weights is not None and (
        found.weights.min() <= 0 or not np.isclose(found.weights.sum(), 1)
    ):
        raise ValueError(f"weights_init={found.weights.tolist()} must be positive and sum to one.")
    if found.precisions is not None and not _are_positive(found.precisions, kind):
        raise ValueError(
            "precisions_init must be positive"
            + (" definite and symmetric." if kind in ("full", "tied") else ".")
        )
    return found


def _are_positive(precisions: np.ndarray, kind: str) -> bool:
    if kind not in ("full", "tied"):
        return bool((precisions > 0).all())
    symmetric = np.allclose(precisions, precisions.swapaxes(-1, -2))
    return symmetric and bool((np.linalg.eigvalsh(precisions) > 0).all())


def start(
    em: WeightedEM,
    given: Given,
    units: Units,
    n_components: int,
    rows: np.ndarray,
    init_params: str,
    random: np.random.RandomState,
) -> Parameters:
    """Parameters in the units of the fit: what is given, the rest by clusters of ``rows``."""
    k, d, kind = n_components, em.rows.shape[1], em.kind
    if given.everything:
        found = Parameters(*(torch.empty(0),) * 3)
    else:
        posterior = start_posterior(rows, em.weight.numpy(), k, random, init_params, N_KMEANS)
        found = em.maximize(em.moments(posterior))
    weights = found.weights if given.weights is None else tensor_of(given.weights)
    zeros = torch.zeros(k, d, dtype=torch.float64)
    means, covariances = found.means, found.covariances
    if given.means is not None:
        outside = Parameters(weights, tensor_of(given.means), of_kind(_eyes(k, d), kind))
        means = units.inside(outside, kind).means
    if given.precisions is not None:
        outside = Parameters(weights, zeros, _inverted(tensor_of(given.precisions), kind))
        covariances = units.inside(outside, kind).covariances
    return Parameters(weights, means, covariances)


def _eyes(k: int, d: int) -> Tensor:
    return torch.eye(d, dtype=torch.float64).expand(k, d, d)


def _inverted(precisions: Tensor, kind: str) -> Tensor:
    return torch.linalg.inv(precisions) if kind in ("full", "tied") else 1 / precisions


def of_fit(weights: np.ndarray, means: np.ndarray, inside: Tensor, units: Units, kind: str):
    """The start of a fit that goes on from an earlier one, whose covariances are inside already."""
    outside = Parameters(tensor_of(weights), tensor_of(means), of_kind(inside, kind))
    moved = units.inside(outside, kind)
    return Parameters(moved.weights, moved.means, of_kind(inside, kind))
