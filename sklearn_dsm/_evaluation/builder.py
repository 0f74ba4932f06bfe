"""From a reference and a network's weights to a score model and a density."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import torch

from .._core.arrays import state_of
from .._core.likelihood.ode import SolverPlan
from .._core.noise.level_sampling import LogisticLevels
from .._core.random import torch_generator
from .._core.scores.amortised import LogDensityHead
from .._core.scores.corrected import CorrectedScore
from .._core.scores.network import ScoreNetwork
from .latent_density import LatentDensity
from .references import Reference, latent_density_of

# Below this tolerance the network is evaluated in float64, as one is that gives the whole
# score: rounding grows with the distance of a row, a correction's is bounded.
FLOAT32_TOLERANCE = 1e-4

Weights = dict[str, np.ndarray]
CPU = torch.device("cpu")


@dataclass(frozen=True)
class DensityBuilder:
    """What a fit settles before there are weights, and what is made of them.

    Attributes
    ----------
    n_features : int
    network : dict
        Layer sizes and the other options of :class:`ScoreNetwork`.
    levels : LogisticLevels
        Those of the ODE and of the likelihood bound.
    tolerance : float
        Of the ODE, in nats.
    device : torch.device
        Where densities are evaluated.
    """

    n_features: int
    network: dict
    levels: LogisticLevels
    tolerance: float
    device: torch.device

    def score_model(self, reference: Reference, weights: Weights, seed: int = 0) -> CorrectedScore:
        """The reference with a network of these weights, or fresh ones where there are none."""
        return self._corrected(latent_density_of(reference, CPU), weights, seed)

    def _corrected(self, base: LatentDensity, weights: Weights, seed: int = 0) -> CorrectedScore:
        network = ScoreNetwork(self.n_features, generator=torch_generator(seed), **self.network)
        if weights:
            network.load_state_dict(state_of(weights))
        return CorrectedScore(base.model, network)

    def density(
        self,
        reference: Reference,
        weights: Weights,
        likelihood: str,
        plan: SolverPlan,
        head: Weights | None = None,
    ) -> LatentDensity:
        """The density of the reference, corrected where there are weights.

        ``head`` holds the weights of what "fast" evaluates.
        """
        base = latent_density_of(reference, self.device)
        if not weights:
            return base
        model = self._corrected(base, weights).double().to(self.device).eval()
        # What corrects it later is trained, and not the density itself.
        model.requires_grad_(False)
        if model.residual and self._single_precision:
            model.network.float()
        network = cast(ScoreNetwork, model.network)
        return LatentDensity(
            model=model,
            reference=base.reference,
            levels=self.levels,
            n_features=self.n_features,
            numbers_per_row=max(*self.network["hidden_layer_sizes"], base.numbers_per_row),
            likelihood=likelihood,
            tolerance=self.tolerance,
            device=self.device,
            plan=plan,
            head=self._head(network, head) if likelihood == "fast" else None,
        )

    def _head(self, network: ScoreNetwork, weights: Weights | None) -> LogDensityHead:
        if not weights:
            raise ValueError(
                "likelihood='fast' needs what fit learns for it, and this fit was made with "
                "another likelihood: fit again with likelihood='fast', or use 'ode'."
            )
        head = LogDensityHead(network, torch_generator(0))
        head.load_state_dict(state_of(weights))
        head = head.float() if self._single_precision else head.double()
        return head.to(self.device).eval()

    @property
    def _single_precision(self) -> bool:
        return self.tolerance >= FLOAT32_TOLERANCE
