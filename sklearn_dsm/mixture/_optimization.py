"""The score-matching loss of a mixture, minimised from where the likelihood is largest."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from .._core.arrays import tensor_of
from .._core.distributions.mixture_network import MixtureNetwork
from .._core.noise.level_sampling import LogisticLevels
from .._core.random import torch_generator
from .._evaluation.latent_density import chunks
from .._mixtures.em import FittedMixture
from .._mixtures.parameters import Parameters, all_covariances
from .._random import seed_from
from ._descent import Descent, Mixture
from ._row_losses import LEVELS, RowLosses, row_losses
from ._units import of_kind

# The law of the levels that descent with fresh noise draws: by what the gradient's noise has,
# summed over the parameters, on full mixtures of tables.
FRESH_LEVELS = LEVELS._replace(location=1.5, scale=1.7)
# Beyond a component's own variance there is so much log-SNR to see.
CLEARER = 5.0
# Passes over the rows from where the likelihood is largest, and the least number of steps.
PASSES, MIN_STEPS = 3, 8
MAX_COMPARED_BATCHES = 8
# Rows in float32 tell no deviations apart that are smaller.
LEAST_SINGLE_VARIANCE = 1e-7
CHUNK_NUMBERS = 2**18
# Of L-BFGS, in units of the tolerance of a mean log-density.
RELATIVE_TOLERANCE = 1e-4
# No component vanishes or collapses onto a point while it is optimised.
PARAMETER_BOUNDS = {"logits": (-15.0, 15.0), "log_eigenvalues": (-25.0, 6.0)}


class MixtureFit(NamedTuple):
    """A mixture in the units of the fit, its loss, and how the optimiser ended."""

    parameters: Parameters
    loss: float
    n_iter: int
    converged: bool


@dataclass(frozen=True, kw_only=True)
class MixtureOptimizer:
    """How mixtures are fitted to standardised rows, by the estimator's parameters."""

    covariance_type: str
    reg_covar: float
    loss: str
    noise: str
    n_noise: int
    tol: float
    max_iter: int

    def run(
        self,
        likeliest: FittedMixture,
        Z: np.ndarray,
        weight: np.ndarray,
        random: np.random.RandomState,
        device: torch.device,
    ) -> MixtureFit:
        """The minimum next to the parameters of the largest likelihood."""
        minimised = self._descend if self._draws_fresh_noise else self._search
        return minimised(likeliest, Z, weight, random, device)

    @property
    def _draws_fresh_noise(self) -> bool:
        if self.loss != "dsm" and self.noise == "fresh":
            raise ValueError(f"noise='fresh' needs loss='dsm'; loss={self.loss!r} has no levels.")
        return self.loss == "dsm" and self.noise != "fixed"

    def _search(self, likeliest, Z, weight, random, device) -> MixtureFit:
        """L-BFGS over all rows, whose noise stays."""
        network = self._network(likeliest.parameters).to(device)
        rows = tensor_of(Z).to(device)
        share = tensor_of(weight / weight.sum()).to(device)
        generator = torch_generator(seed_from(random), device)
        high = highest_level(likeliest.parameters, self.covariance_type)
        losses = row_losses(self.loss, self.n_noise, rows, generator, high)
        chunk = losses.rows_within(CHUNK_NUMBERS, len(network.means))
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
            options={
                "maxiter": self.max_iter,
                "maxfun": 2 * self.max_iter,
                "ftol": RELATIVE_TOLERANCE * self.tol,
            },
        )
        vector_to_parameters(tensor_of(result.x).to(losses.rows), parameters)
        # A line search that finds nothing below the present value has arrived, too.
        found = self._parameters(network.cpu())
        return MixtureFit(found, float(result.fun), int(result.nit), result.status != 1)

    def _descend(self, likeliest, Z, weight, random, device) -> MixtureFit:
        """Some passes with fresh noise."""
        generator, seed = torch_generator(seed_from(random), device), seed_from(random)
        kind, floor = self.covariance_type, self.reg_covar
        mixture = Mixture.of(self._network(likeliest.parameters).to(device))
        is_fine = float(mixture.eigenvalues.min()) < LEAST_SINGLE_VARIANCE
        dtype = torch.float64 if is_fine else torch.float32
        rows, scaled = (tensor_of(part).to(device, dtype) for part in (Z, weight))
        levels = wider(FRESH_LEVELS, highest_level(likeliest.parameters, kind))
        descent = Descent(rows, scaled, levels, generator)
        n_steps = max(MIN_STEPS, PASSES * descent.steps_per_pass(mixture))
        mixture = descent.run(mixture, kind, floor, n_steps)
        loss = descent.loss(mixture, seed, MAX_COMPARED_BATCHES)
        found = self._parameters(mixture.network(kind, floor).cpu())
        return MixtureFit(found, loss, likeliest.n_iterations, likeliest.converged)

    def _network(self, parameters: Parameters) -> MixtureNetwork:
        kind = self.covariance_type
        covariances = (
            parameters.covariances[None] if kind == "tied" else (all_covariances(parameters, kind))
        )
        return MixtureNetwork(
            parameters.weights, parameters.means, covariances, kind, self.reg_covar
        )

    def _parameters(self, network: MixtureNetwork) -> Parameters:
        with torch.no_grad():
            covariances = of_kind(network.covariances().double(), self.covariance_type)
            return Parameters(
                network.logits.softmax(0).double(), network.means.detach().double(), covariances
            )


def highest_level(parameters: Parameters, kind: str) -> float:
    """The log-SNR at which the narrowest component is seen without noise."""
    smallest = float(torch.linalg.eigvalsh(all_covariances(parameters, kind)).min())
    return max(LEVELS.high, CLEARER - math.log(max(smallest, 1e-300)))


def wider(levels: LogisticLevels, high: float) -> LogisticLevels:
    """A law stretched to another upper end."""
    stretch = (high - levels.low) / (levels.high - levels.low)
    location = levels.low + stretch * (levels.location - levels.low)
    return levels._replace(high=high, location=location, scale=stretch * levels.scale)


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
