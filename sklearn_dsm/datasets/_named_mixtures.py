"""Gaussian mixtures by which samplers are compared."""

from __future__ import annotations

import numpy as np
import torch

from ._mixture import GaussianMixtureLaw


def make_benchmark_mixture(name="grid25"):
    r"""Make one of the Gaussian mixtures by which samplers are compared.

    Parameters
    ----------
    name : {"line4", "grid9", "grid25", "random40", "difficult2d"}, default="grid25"
        - "line4": four components in one dimension, with means -3, 0.5, 1.5 and 2.5 and standard
          deviations 0.5, 0.6, 0.3 and 0.4.
        - "grid9": nine, with means in :math:`\{-5, 0, 5\}^2` and variance 0.3.
        - "grid25": 25, with means in :math:`\{-10, -5, 0, 5, 10\}^2` and variance 0.3.
        - "random40": forty, with standard deviation :math:`\log(1 + e) = 1.3133`. Their means are
          drawn uniformly from :math:`(-40, 40)^2`, by torch with seed 0. Articles call this mixture
          MoG40 or GMM40. Some articles give these names to a mixture with other means and standard
          deviation one, like that of ``make_gaussian_mixture(n_components=40, spread=40)``.
        - "difficult2d": six in two dimensions: three components, and their mirror images across
          the diagonal. Those with means (3, 0) and (-2.5, 0) have covariance diag(0.7, 0.05). That
          with mean (2, 3) has variances 1 and correlation 0.95.

    Returns
    -------
    GaussianMixtureLaw
        With equal weights; ``log_normalizer`` is zero.

    Raises
    ------
    ValueError
        If the name is unknown.

    Examples
    --------
    >>> from sklearn_dsm.datasets import make_benchmark_mixture
    >>> law = make_benchmark_mixture("grid25")
    >>> law.means.shape, law.covariances[0].tolist()
    ((25, 2), [[0.3, 0.0], [0.0, 0.3]])
    """
    if name not in MAKERS:
        raise ValueError(f"name={name!r} must be one of {', '.join(map(repr, MAKERS))}.")
    means, covariances = MAKERS[name]()
    return GaussianMixtureLaw(means, covariances)


def _line():
    return [[-3.0], [0.5], [1.5], [2.5]], np.square([0.5, 0.6, 0.3, 0.4])[:, None, None]


def _grid(*ends):
    means = np.stack(np.meshgrid(ends, ends, indexing="ij"), -1).reshape(-1, 2)
    return means, np.broadcast_to(0.3 * np.eye(2), (len(means), 2, 2))


def _random():
    uniform = torch.rand(40, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float32)
    means = (uniform.double().numpy() - 0.5) * 80
    return means, np.broadcast_to(np.logaddexp(0, 1) ** 2 * np.eye(2), (40, 2, 2))


def _difficult():
    means = np.array([[3.0, 0.0], [-2.5, 0.0], [2.0, 3.0]])
    flat, tilted = np.diag([0.7, 0.05]), np.array([[1.0, 0.95], [0.95, 1.0]])
    covariances = np.stack([flat, flat, tilted])
    swapped = covariances[:, ::-1, ::-1]
    return np.concatenate([means, means[:, ::-1]]), np.concatenate([covariances, swapped])


MAKERS = {
    "line4": _line,
    "grid9": lambda: _grid(-5.0, 0.0, 5.0),
    "grid25": lambda: _grid(-10.0, -5.0, 0.0, 5.0, 10.0),
    "random40": _random,
    "difficult2d": _difficult,
}
