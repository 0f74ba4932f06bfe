"""Learning the correction of a base's score, on weighted samples or on paths."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from .._budget import Budget
from .._core.arrays import arrays_of, state_of, tensor_of
from .._core.likelihood.controlled import StepKernel
from .._core.losses.denoising import DSM
from .._core.losses.loss import TrainingRows
from .._core.losses.target_score import NSM, TSM
from .._core.noise.level import NoiseLevel
from .._core.noise.level_sampling import WeightedLevels
from .._core.random import torch_generator
from .._core.scores.corrected import CorrectedScore
from .._core.scores.network import ScoreNetwork
from .._evaluation.latent_density import LatentDensity
from .._training import State, TrainingSettings, train
from ._tilted_density import LatentWeight, TiltedDensity
from ._tilted_lessons import PATH_METHODS
from ._weights import WeightSummary, effective_shares, farthest_power

# The least share of effective samples of a stage of tempering, and the most stages.
STAGE_ESS, MAX_STAGES = 0.3, 20
HELD_OUT_SHARE = 0.2
# Gradients for each set of paths.
PASSES = 8
LOSSES = {"csm": DSM, "tsm": TSM, "nsm": NSM}


@dataclass
class TiltedFit:
    """What a fit needs, and the network it trains.

    Attributes
    ----------
    new_base : callable
        Makes the base's latent density anew, with modules of its own.
    weight : LatentWeight
    network : ScoreNetwork
    settings : TrainingSettings
    kernels : sequence of StepKernel
    random : RandomState
    budget : Budget
    say : callable
        Prints a line of progress.
    guided : bool
        Whether paths follow the gradient of the weight.
    """

    new_base: Callable[[], LatentDensity]
    weight: LatentWeight
    network: ScoreNetwork
    settings: TrainingSettings
    kernels: Sequence[StepKernel]
    random: np.random.RandomState
    budget: Budget
    say: Callable[[str], None]
    guided: bool = False
    interrupted: bool = False
    learned: list[State] = field(default_factory=list)

    def density(self, log_normalizer: float = 0.0) -> TiltedDensity:
        """The tilted density with the network as it is."""
        base = self.new_base()
        network = _copied(self.network).double().eval().requires_grad_(False)
        model = CorrectedScore(base.model, network)
        return TiltedDensity.of(base, model, self.weight, log_normalizer, self.kernels, self.guided)

    def seed(self) -> int:
        return int(self.random.randint(np.iinfo(np.int32).max))

    def judged(self, n_paths: int) -> WeightSummary:
        """Keep the network whose path weights are the most even, or none, and summarise them."""
        none = torch.zeros_like(self.network.output)
        found, seed = [], self.seed()
        for state in [self.network.state_dict() | {"output": none}, *self.learned]:
            self.network.load_state_dict(state)
            log_weights = torch.from_numpy(self.density().weighted_sample(n_paths, seed)[1])
            # Zero where no path has a weight.
            found.append(float(effective_shares(log_weights)))
        state = [{}, *self.learned][int(np.argmax(found))]
        self.network.load_state_dict(state or self.network.state_dict() | {"output": none})
        # Other paths than those of the choice, which favours few large weights.
        return self._summary(n_paths, self.seed())

    def _summary(self, n_paths: int, seed: int) -> WeightSummary:
        return WeightSummary.of(self.density().weighted_sample(n_paths, seed)[1])

    def _learned(self) -> None:
        """Remember the network as a candidate."""
        state = self.network.state_dict()
        self.learned.append({name: value.clone() for name, value in state.items()})

    def regress(self, method: str, Z: np.ndarray) -> list[float]:
        """Train on weighted base rows, in stages where few of them carry the weights.

        Returns the temperatures of the stages.
        """
        stages: list[float] = []
        try:
            self._raise_stages(method, Z, stages)
        except KeyboardInterrupt:
            if not stages:
                raise
            self.interrupted = True
        if not self.learned:
            self._learned()
        return stages

    def _raise_stages(self, method: str, Z: np.ndarray, stages: list[float]) -> None:
        log_ratio, temperature = np.zeros(len(Z)), 0.0
        while True:
            log_weight = self.weight.values(Z)
            temperature = next_temperature(log_weight, log_ratio, temperature)
            log_weights = powered(log_weight, temperature) + log_ratio
            summary = WeightSummary.of(log_weights)
            self._train(method, Z, log_weights, temperature)
            stages.append(temperature)
            if temperature == 1:
                self._learned()
            self.say(
                f"stage {len(stages)}: exp({temperature:.3g} log_weight), "
                f"{summary.ess:.1%} of {len(Z)} samples effective"
            )
            over = self.budget.is_over or self.interrupted or len(stages) == MAX_STAGES
            # One stage more, on the process's own samples, once the whole weight was reached.
            if over or stages[-2:] == [1.0, 1.0]:
                return
            tempered = replace(self.density(), weight=_Tempered(self.weight, 0.0))
            Z, log_ratio = tempered.weighted_sample(len(Z), self.seed())

    def _train(self, method: str, Z: np.ndarray, log_weights: np.ndarray, temperature: float):
        base, n = self.new_base(), len(Z)
        weight = np.exp(log_weights - log_weights.max())
        parts = {"rows": Z, "weight": weight}
        if method != "csm":
            cleanest = NoiseLevel.from_log_snr(torch.tensor(base.levels.high, dtype=torch.float64))
            slope = self.weight.gradients(Z) if temperature else np.zeros_like(Z)
            parts["clean_score"] = base.score(Z, cleanest) + temperature * slope
        held_out = max(1, round(HELD_OUT_SHARE * n))
        order = self.random.permutation(n)
        sets = []
        for rows in (order[held_out:], order[:held_out]):
            chosen = {name: part[rows] for name, part in parts.items()}
            # A set without weight would say nothing.
            total = chosen["weight"].mean()
            chosen["weight"] = chosen["weight"] / total if total > 0 else np.ones(len(rows))
            sets.append(TrainingRows(**{k: tensor_of(v).float() for k, v in chosen.items()}))
        levels = base.levels
        model = CorrectedScore(base.model.float(), self.network.float())
        record = train(
            model,
            LOSSES[method](),
            WeightedLevels(levels, torch.sigmoid) if method == "tsm" else levels,
            sets[0],
            sets[1],
            replace(self.settings, max_fit_time=self._seconds()),
            torch_generator(self.seed()),
        )
        if record.weights:
            self.network.load_state_dict(state_of(record.weights))
        self.interrupted = record.stop_reason == "interrupted"

    def _seconds(self) -> float | None:
        left = self.budget.left()
        return None if math.isinf(left) else max(left, 1e-3)

    def on_paths(self, method: str, n_iterations: int, learning_rate: float) -> list[float]:
        """Train on paths of the network so far, by a method of PATH_METHODS; returns the losses."""
        lesson = PATH_METHODS[method](self.new_base(), self.network.double())
        density, generator = self.density(), torch_generator(self.seed())
        density = replace(density, model=lesson.model)
        optimizer = torch.optim.Adam(self.network.parameters(), lr=learning_rate)
        losses: list[float] = []
        try:
            for i in range(n_iterations):
                share = max(i / n_iterations, self.budget.share_taken)
                if share >= 1:
                    break
                optimizer.param_groups[0]["lr"] = (
                    learning_rate * 0.5 * (1 + math.cos(math.pi * share))
                )
                lesson.prepare(density, generator)
                for _ in range(PASSES):
                    loss = lesson.loss(generator)
                    # As where fewer than two paths have a weight.
                    if not torch.isfinite(loss):
                        continue
                    optimizer.zero_grad()
                    loss.backward()
                    torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
                    optimizer.step()
                losses.append(float(loss.detach()))
                if len(losses) % 50 == 0:
                    self.say(f"{method}: iteration {len(losses)}, loss {losses[-1]:.4g}")
        except KeyboardInterrupt:
            self.interrupted = True
            if not losses:
                raise
        self._learned()
        return losses


def powered(log_weight: np.ndarray, power: float) -> np.ndarray:
    """The logarithms of a power of weights; those of zero stay -inf at power 0 as well."""
    with np.errstate(invalid="ignore"):
        return np.where(np.isfinite(log_weight), power * log_weight, log_weight)


class _Tempered(LatentWeight):
    """A power of a log-weight."""

    def __init__(self, weight: LatentWeight, power: float):
        super().__init__(weight.function, weight.latent)
        self.power = power

    def values(self, Z):
        return self.power * super().values(Z) if self.power else np.zeros(len(Z))


def next_temperature(log_weight: np.ndarray, log_ratio: np.ndarray, reached: float) -> float:
    """The largest power of the weight, at most 1, that leaves enough effective samples.

    Powers do not fall below the one that was reached.
    """

    # Samples without weight are lost at every power.
    enough = STAGE_ESS * np.isfinite(log_weight).mean()
    if not enough:
        return 1.0

    def is_enough(power: float) -> bool:
        weights = torch.from_numpy(powered(log_weight, power) + log_ratio)
        return float(effective_shares(weights)) >= enough

    return farthest_power(is_enough, reached)


def _copied(network: ScoreNetwork) -> ScoreNetwork:
    """A network with the same weights and no graph."""
    copy = ScoreNetwork(network.output.shape[0], network.hidden_layer_sizes, torch_generator(0)).to(
        network.output.dtype
    )
    copy.load_state_dict(state_of(arrays_of(network)))
    return copy
