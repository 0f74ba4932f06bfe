"""Gaussian mixtures by expectation-maximization, of weighted rows and every kind of covariance."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from sklearn.cluster import KMeans, kmeans_plusplus
from sklearn.mixture import GaussianMixture
from torch import Tensor

from .._budget import Budget
from .._core.arrays import tensor_of
from .._core.constants import LOG_2PI
from .._transforms.em import expectation_maximization
from .parameters import Parameters, full_covariances, mixture_from

# Numbers that a chunk of rows puts into one array: 4 MiB, which a processor's cache holds.
CHUNK_NUMBERS = 2**19
# Nats a row; the default of scikit-learn's mixtures, and the iterations that these take at most.
TOLERANCE, MAX_ITERATIONS = 1e-3, 100


class FittedMixture(NamedTuple):
    """Parameters, the mean log-density of the rows, the iterations, and whether they sufficed."""

    parameters: Parameters
    log_likelihood: float
    n_iterations: int
    converged: bool

    @property
    def mixture(self) -> GaussianMixture:
        """scikit-learn's, of full covariances."""
        return mixture_from(*(part.numpy() for part in self.parameters))


class Moments(NamedTuple):
    """Weighted sums over the rows: of responsibilities (k,), with rows (k, d), and with squares.

    The squares are products (k, d, d), or (k, d) where covariances are diagonal.
    """

    mass: Tensor
    first: Tensor
    second: Tensor


class WeightedEM:
    """Expectation and maximization for some rows.

    Parameters
    ----------
    rows : ndarray of shape (n, d)
        Centred, and of about unit variance: second moments are taken about the origin.
    weight : ndarray of shape (n,)
    kind : {"full", "tied", "diag", "spherical"}
    reg_covar : float
        Added to the diagonals of the covariances.
    shrinkage : float
        The share of the correlations of "full" and "tied" covariances that is taken away.
    budget : Budget, optional
        No iteration starts once it is over.
    """

    def __init__(
        self,
        rows: np.ndarray,
        weight: np.ndarray,
        kind: str,
        reg_covar: float,
        shrinkage: float = 0.0,
        budget: Budget | None = None,
    ):
        self.rows = tensor_of(np.ascontiguousarray(rows))
        self.weight = tensor_of(weight / weight.sum())
        self.kind, self.floor, self.shrinkage = kind, reg_covar, shrinkage
        self.products = kind in ("full", "tied")
        self.n_iterations, self.budget = 0, budget or Budget()

    def run(self, start: Parameters, n_iterations: int, tolerance: float) -> FittedMixture:
        """Iterate from a start until the mean log-density gains less than a tolerance."""
        self.n_iterations = 0
        found, value = expectation_maximization(
            start, self.expect, self.maximize, n_iterations, tolerance, self._is_out_of_time
        )
        in_time = self.n_iterations < n_iterations and not self._is_out_of_time()
        return FittedMixture(found, value, self.n_iterations, in_time)

    def _is_out_of_time(self) -> bool:
        return self.budget.is_over

    def expect(self, parameters: Parameters) -> tuple[Moments, float]:
        """The moments of the rows, each shared among the components, and the log-likelihood."""
        self.n_iterations += 1
        log_joint = log_joint_of(parameters, self.kind)
        value, sums = 0.0, self._nothing(len(parameters.means))
        size = max(1, CHUNK_NUMBERS // parameters.means.numel())
        for rows, weight in zip(self.rows.split(size), self.weight.split(size), strict=True):
            joint = log_joint(rows)
            total = joint.logsumexp(0)
            value += float(total @ weight)
            sums = self._added(sums, rows, (joint - total).exp() * weight)
        return sums, value

    def moments(self, posterior: Tensor) -> Moments:
        """The moments where each row's shares (k, n) are given."""
        size = max(1, CHUNK_NUMBERS // (len(posterior) * self.rows.shape[1]))
        sums = self._nothing(len(posterior))
        shares = (posterior * self.weight).split(size, 1)
        for rows, share in zip(self.rows.split(size), shares, strict=True):
            sums = self._added(sums, rows, share)
        return sums

    def maximize(self, moments: Moments) -> Parameters:
        """The parameters that the moments ask for."""
        mass = moments.mass + torch.finfo(moments.mass.dtype).eps
        means = moments.first / mass[:, None]
        if self.kind == "tied":
            total = moments.second.sum(0) - (moments.first.T @ means)
            covariances = total / mass.sum()
        elif self.kind == "full":
            outer = means[:, :, None] * means[:, None]
            covariances = moments.second / mass[:, None, None] - outer
        else:
            covariances = (moments.second / mass[:, None] - means.square()).clamp(min=0)
            if self.kind == "spherical":
                covariances = covariances.mean(1)
        if self.products:
            covariances = (covariances + covariances.mT) / 2
            apart = torch.diag_embed(covariances.diagonal(dim1=-2, dim2=-1))
            covariances = covariances.lerp(apart, self.shrinkage)
            covariances = covariances + self.floor * torch.eye(means.shape[1]).to(means)
        else:
            covariances = covariances + self.floor
        return Parameters(mass / mass.sum(), means, covariances)

    def _nothing(self, k: int) -> Moments:
        """The moments of no rows."""
        shape = (k, self.rows.shape[1])
        squares = (*shape, shape[1]) if self.products else shape
        return Moments(*(self.rows.new_zeros(each) for each in ((k,), shape, squares)))

    def _added(self, sums: Moments, rows: Tensor, shares: Tensor) -> Moments:
        """Sums with those of more rows, whose shares (k, n) are given."""
        second = (shares[:, None] * rows.T) @ rows if self.products else shares @ rows.square()
        new = Moments(shares.sum(1), shares @ rows, second)
        return Moments(*(a.add_(b) for a, b in zip(sums, new, strict=True)))


def log_joint_of(parameters: Parameters, kind: str) -> Callable[[Tensor], Tensor]:
    """A function from rows (n, d) to the log of weight times density (k, n)."""
    means, (k, d) = parameters.means, parameters.means.shape
    constant = parameters.weights.log() - 0.5 * d * LOG_2PI
    if kind in ("full", "tied"):
        # Rows times inverse factors are white for their component.
        factors = torch.linalg.cholesky(parameters.covariances).expand(k, d, d)
        eye = torch.eye(d).to(means).expand(k, d, d)
        inverses = torch.linalg.solve_triangular(factors, eye, upper=False)
        centers = inverses @ means[..., None]
        constant = constant - factors.diagonal(dim1=1, dim2=2).log().sum(1)
        return lambda rows: (
            constant[:, None] - 0.5 * ((inverses @ rows.T - centers).square_().sum(1))
        )
    variances = parameters.covariances.reshape(k, -1).expand(k, d)
    precisions, heights = variances.reciprocal(), means / variances
    constant = constant - 0.5 * (variances.log() + means * heights).sum(1)
    return lambda rows: constant[:, None] + heights @ rows.T - 0.5 * (precisions @ rows.square().T)


def start_posterior(
    rows: np.ndarray,
    weight: np.ndarray,
    n_components: int,
    random_state: np.random.RandomState,
    init_params: str = "kmeans",
    n_kmeans: int = 1,
) -> Tensor:
    """Shares (k, n) of the rows to start from, as scikit-learn's mixtures choose them.

    Parameters
    ----------
    rows : ndarray of shape (n, d)
        With as many different ones as components at least.
    weight : ndarray of shape (n,)
    n_components : int
    random_state : RandomState
    init_params : {"kmeans", "k-means++", "random", "random_from_data"}
    n_kmeans : int
        Of how many runs of k-means the best is taken.
    """
    n = len(rows)
    if init_params == "random":
        shares = random_state.uniform(size=(n_components, n))
        return tensor_of(shares / shares.sum(0))
    if init_params == "kmeans":
        clusters = KMeans(n_components, n_init=n_kmeans, random_state=random_state)
        labels = clusters.fit(rows, sample_weight=weight).labels_
        return tensor_of(labels == np.arange(n_components)[:, None]).double()
    if init_params == "k-means++":
        _, chosen = kmeans_plusplus(
            rows, n_components, sample_weight=weight, random_state=random_state
        )
    else:
        chosen = random_state.choice(n, n_components, replace=False, p=weight / weight.sum())
    posterior = torch.zeros(n_components, n, dtype=torch.float64)
    posterior[torch.arange(n_components), tensor_of(chosen)] = 1
    return posterior


def fit_mixture(
    rows: np.ndarray,
    weight: np.ndarray,
    n_components: int,
    reg_covar: float,
    random_state: np.random.RandomState,
) -> FittedMixture:
    """Fit a mixture of full covariances, starting from the clusters of k-means.

    scikit-learn's mixtures take no weights, and warn where their iterations run out, which cannot
    be silenced for one thread alone.
    """
    em = WeightedEM(rows, weight, "full", reg_covar)
    posterior = start_posterior(rows, weight, n_components, random_state)
    return em.run(em.maximize(em.moments(posterior)), MAX_ITERATIONS, TOLERANCE)


def continue_mixture(
    mixture: GaussianMixture,
    rows: np.ndarray,
    weight: np.ndarray,
    reg_covar: float,
    n_iterations: int,
) -> FittedMixture:
    """The mixture after more iterations with these rows."""
    parts = (mixture.weights_, mixture.means_, full_covariances(mixture))
    start = Parameters(*(tensor_of(np.ascontiguousarray(part)) for part in parts))
    return WeightedEM(rows, weight, "full", reg_covar).run(start, n_iterations, TOLERANCE)
