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
from .._core.constants import LOG_2PI
from .._core.distributions.mixture_network import MixtureNetwork
from .._core.random import torch_generator
from .._evaluation.latent_density import chunks
from .._mixtures.em import FittedMixture, WeightedEM
from .._mixtures.parameters import Parameters, all_covariances
from .._random import seed_from
from ._row_losses import LEVELS, RowLosses, row_losses
from ._units import of_kind

# Beyond a component's own variance there is so much log-SNR to see.
CLEARER = 5.0
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

    @classmethod
    def of_likelihood(cls, fit: FittedMixture, em: WeightedEM) -> MixtureFit:
        """Its loss is the negative log-likelihood, less that of N(0, I)."""
        d = em.rows.shape[1]
        of_normal = -0.5 * (float(em.weight @ em.rows.square().sum(1)) + d * LOG_2PI)
        loss = of_normal - fit.log_likelihood
        return cls(fit.parameters, loss, fit.n_iterations, fit.converged)


@dataclass(frozen=True, kw_only=True)
class MixtureOptimizer:
    """How mixtures are fitted to standardised rows, by the estimator's parameters."""

    covariance_type: str
    reg_covar: float
    loss: str
    n_noise: int
    tol: float
    max_iter: int

    def run(
        self,
        em: WeightedEM,
        likeliest: FittedMixture,
        random: np.random.RandomState,
        device: torch.device,
    ) -> MixtureFit:
        """The minimum next to the parameters of the largest likelihood."""
        network = self._network(likeliest.parameters).to(device)
        rows, share = em.rows.to(device), em.weight.to(device)
        generator = torch_generator(seed_from(random), device)
        high = highest_level(likeliest.parameters, self.covariance_type)
        losses = row_losses(self.loss, self.n_noise, rows, generator, high)
        chunk = losses.rows_within(CHUNK_NUMBERS, len(network.means))
        parameters = list(network.parameters())

        def value_and_slope(theta: np.ndarray) -> tuple[float, np.ndarray]:
            vector_to_parameters(tensor_of(theta).to(losses.rows), parameters)
            return mean_and_slope(network, losses, share, chunk)

        def stop_in_time(intermediate_result) -> None:
            if em.budget.is_over:
                raise StopIteration

        result = minimize(
            value_and_slope,
            parameters_to_vector(parameters).detach().cpu().numpy(),
            jac=True,
            method="L-BFGS-B",
            callback=stop_in_time,
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
        return MixtureFit(found, float(result.fun), int(result.nit), result.status not in (1, 99))

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
