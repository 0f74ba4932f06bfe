"""Minimising the score-matching loss of a mixture, from the starts to the best minimum."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import minimize
from sklearn.cluster import KMeans
from torch import Tensor
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from .._core.arrays import tensor_of
from .._core.distributions.mixture_network import MixtureNetwork
from .._core.random import torch_generator
from .._evaluation.latent_density import chunks
from .._random import seed_from
from ._descent import Descent, Mixture
from ._row_losses import LEVELS, RowLosses, denoising_nodes, row_losses

# The law of the levels that descent with fresh noise draws: by what the gradient's noise has,
# summed over the parameters, on full mixtures of tables.
FRESH_LEVELS = LEVELS._replace(location=1.5, scale=1.7)
# Passes over the rows, and the least number of steps: from every start, and then from the best.
# Fewer passes from the starts choose worse, the more from the best do not make up for it.
START_PASSES, START_STEPS = 9, 60
BEST_PASSES, BEST_STEPS = 8, 100
MAX_COMPARED_BATCHES = 8
# Beyond so many numbers in a pass over all rows, batches with fresh noise are faster.
MAX_PASS_NUMBERS = 5e6
CHUNK_NUMBERS = 2**18
# Added to the covariances of the first clusters, in units of the columns' variances.
START_VARIANCE = 1e-3
# No component vanishes or collapses onto a point while it is optimised.
PARAMETER_BOUNDS = {"logits": (-15.0, 15.0), "log_eigenvalues": (-14.0, 6.0)}


class MixtureFit(NamedTuple):
    """A trained mixture in standardised units, its loss, and how the optimiser ended."""

    network: MixtureNetwork
    loss: float
    n_iter: int
    converged: bool


@dataclass(frozen=True, kw_only=True)
class MixtureOptimizer:
    """How mixtures are fitted to standardised rows, by the estimator's parameters."""

    n_components: int
    covariance_type: str
    reg_covar: float
    loss: str
    noise: str
    n_noise: int
    tol: float
    max_iter: int
    n_init: int
    verbose: int

    def run(
        self, Z: np.ndarray, weight: np.ndarray, random: np.random.RandomState, device
    ) -> MixtureFit:
        """The best fit from ``n_init`` starts."""
        starts = [self._start(Z, weight, random).to(device) for _ in range(self.n_init)]
        search = self._descend if self._draws_fresh_noise(*Z.shape) else self._search
        return search(starts, Z, weight, random, device)

    def _draws_fresh_noise(self, n: int, d: int) -> bool:
        if self.loss != "dsm":
            if self.noise == "fresh":
                raise ValueError(
                    f"noise='fresh' needs loss='dsm'; loss={self.loss!r} has no levels."
                )
            return False
        if self.noise != "auto":
            return self.noise == "fresh"
        n_levels, n_pairs = denoising_nodes(d, self.n_noise)
        return n * 2 * n_levels * n_pairs * self.n_components * d > MAX_PASS_NUMBERS

    def _start(self, Z, weight, random) -> MixtureNetwork:
        """Weights, means and covariances of the clusters of k-means."""
        k, d = self.n_components, Z.shape[1]
        labels = KMeans(k, n_init=1, random_state=random).fit(Z, sample_weight=weight).labels_
        mass = np.bincount(labels, weight, minlength=k)
        means, covariances = np.empty((k, d)), np.empty((k, d, d))
        for j in range(k):
            own, share = Z[labels == j], weight[labels == j] / mass[j]
            means[j] = share @ own
            covariances[j] = (own - means[j]).T @ (share[:, None] * (own - means[j]))
        if self.covariance_type == "tied":
            covariances = np.average(covariances, axis=0, weights=mass)[None]
        # A cluster of few rows may have no extent in some direction.
        covariances = covariances + START_VARIANCE * np.eye(d)
        return MixtureNetwork(
            tensor_of(mass / mass.sum()),
            tensor_of(means),
            tensor_of(covariances),
            self.covariance_type,
            self.reg_covar,
        )

    def _search(self, starts, Z, weight, random, device) -> MixtureFit:
        """Every start to its minimum under the same noise; the lowest."""
        rows = tensor_of(Z).to(device)
        share = tensor_of(weight / weight.sum()).to(device)
        fits, seed = [], seed_from(random)
        for start in starts:
            losses = row_losses(self.loss, self.n_noise, rows, torch_generator(seed, device))
            fits.append(self._minimize(start, losses, share))
            self._tell(fits[-1])
        return min(fits, key=lambda fit: fit.loss)

    def _minimize(self, network: MixtureNetwork, losses: RowLosses, share: Tensor) -> MixtureFit:
        """L-BFGS over all rows, whose noise stays."""
        chunk = losses.rows_within(CHUNK_NUMBERS, self.n_components)
        parameters = list(network.parameters())

        def value_and_slope(theta: np.ndarray) -> tuple[float, np.ndarray]:
            vector_to_parameters(tensor_of(theta).to(losses.rows), parameters)
            return mean_and_slope(network, losses, share, chunk)

        result = minimize(
            value_and_slope,
            parameters_to_vector(parameters).detach().cpu().numpy(),
            jac=True,
            method="L-BFGS-B",
            bounds=parameter_bounds(network),
            options={"maxiter": self.max_iter, "maxfun": 2 * self.max_iter, "ftol": self.tol},
        )
        vector_to_parameters(tensor_of(result.x).to(losses.rows), parameters)
        # A line search that finds nothing below the present value has arrived, too.
        return MixtureFit(network, float(result.fun), int(result.nit), result.status != 1)

    def _descend(self, starts, Z, weight, random, device) -> MixtureFit:
        """Some passes from every start, and the rest from where the loss is then lowest."""
        generator, seed = torch_generator(seed_from(random), device), seed_from(random)
        rows = tensor_of(Z).float().to(device)
        scaled = tensor_of(weight).float().to(device)
        descent = Descent(rows, scaled, FRESH_LEVELS, generator)
        kind, floor = self.covariance_type, self.reg_covar
        mixtures = [Mixture.of(start) for start in starts]
        begun, wanted = planned_passes(descent.steps_per_pass(mixtures[0]))
        n_passes = min(wanted, self.max_iter)
        begun = min(begun, n_passes)
        turn = begun / n_passes
        mixtures = [descent.run(m, kind, floor, begun, (0, turn)) for m in mixtures]
        if len(mixtures) > 1:
            mixtures.sort(key=lambda m: descent.loss(m, seed, MAX_COMPARED_BATCHES))
        mixture = mixtures[0]
        if begun < n_passes:
            mixture = descent.run(mixture, kind, floor, n_passes - begun, (turn, 1))
        network, loss = mixture.network(kind, floor), descent.loss(mixture, seed)
        found = MixtureFit(network, loss, n_passes, n_passes == wanted)
        self._tell(found)
        return found

    def _tell(self, fit: MixtureFit) -> None:
        if self.verbose:
            print(f"loss {fit.loss:.6f} after {fit.n_iter} iterations")


def mean_and_slope(
    network: MixtureNetwork, losses: RowLosses, share: Tensor, chunk: int
) -> tuple[float, np.ndarray]:
    """The weighted mean of all rows' losses, and its gradient in the network's parameters."""
    parameters = list(network.parameters())
    total, gradient = 0.0, np.zeros(sum(p.numel() for p in parameters))
    for part in chunks(len(share), chunk):
        value = share[part] @ losses.part(network, part)
        slopes = torch.autograd.grad(value, parameters, allow_unused=True)
        total += float(value.detach())
        gradient += flattened(slopes, parameters).cpu().numpy()
    return total, gradient


def flattened(slopes: Iterable[Tensor | None], parameters: Iterable[Tensor]) -> Tensor:
    """One vector of slopes, zero where a parameter does not count."""
    known = [
        torch.zeros_like(p) if slope is None else slope
        for p, slope in zip(parameters, slopes, strict=True)
    ]
    return torch.cat([slope.flatten() for slope in known])


def parameter_bounds(network: MixtureNetwork) -> list[tuple[float | None, float | None]]:
    """Bounds that keep a component from vanishing or collapsing onto a point."""
    return [
        bound
        for name, parameter in network.named_parameters()
        for bound in [PARAMETER_BOUNDS.get(name, (None, None))] * parameter.numel()
    ]


def planned_passes(steps_per_pass: int) -> tuple[int, int]:
    """Passes from every start, and those with the passes from the best start."""
    begun = max(START_PASSES, -(-START_STEPS // steps_per_pass))
    return begun, begun + max(BEST_PASSES, -(-BEST_STEPS // steps_per_pass))
