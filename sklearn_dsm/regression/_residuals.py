"""The density of standardised residuals: one mixture for all samples, and what corrects it."""

from __future__ import annotations

import numpy as np
import torch
from scipy.special import log_ndtr, logsumexp, ndtr, ndtri
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import KFold

from .._budget import Budget
from .._core.arrays import tensor_of
from .._core.likelihood.ode import SolverPlan
from .._core.likelihood.solvers import sample, to_noise
from .._core.losses.denoising import DSM
from .._core.losses.loss import TrainingRows
from .._core.noise.level import NoiseLevel
from .._core.noise.level_sampling import LogisticLevels
from .._core.random import torch_generator
from .._evaluation.builder import DensityBuilder
from .._evaluation.latent_density import SAMPLE_STEPS, LatentDensity, chunks
from .._mixtures.em import MAX_ITERATIONS, TOLERANCE, WeightedEM, start_posterior
from .._mixtures.parameters import full_covariances
from .._training import TrainingSettings, train

# Numbers of components that are compared by cross-validation, and the least variance of each.
MAX_COMPONENTS, N_FOLDS, REG_COVAR = 5, 5, 2e-3
# Samples from which a network is tried, and the share of them that judges it.
NETWORK_ROWS, HELD_OUT_SHARE = 400, 0.15
LEVELS = LogisticLevels(-12.0, 12.0)
BISECTIONS = 60


def chosen_mixture(
    z: np.ndarray, weight: np.ndarray, seed: int, budget: Budget | None = None
) -> GaussianMixture:
    """The mixture of residuals z (n, d) that cross-validation prefers, in number and start."""
    random, budget = np.random.RandomState(seed), budget or Budget()
    folds = list(KFold(min(N_FOLDS, len(z)), shuffle=True, random_state=random).split(z))
    best, lead = (1, _clusters), -np.inf
    for k in range(1, MAX_COMPONENTS + 1):
        if k > 1 and (k * (z.shape[1] + 1) > len(folds[0][0]) // 2 or budget.is_over):
            break
        earlier = lead
        for start in (_clusters, _shells)[: min(k, 2)]:
            total = 0.0
            for train_rows, test_rows in folds:
                found = _mixture(z[train_rows], weight[train_rows], k, start, random)
                total += float(weight[test_rows] @ found.score_samples(z[test_rows]))
            if total > lead:
                best, lead = (k, start), total
        if lead <= earlier:
            break
    return _mixture(z, weight, *best, random)


def _mixture(z, weight, n_components, start, random) -> GaussianMixture:
    em = WeightedEM(z, weight, "full", REG_COVAR)
    posterior = start(z, weight, n_components, random)
    return em.run(em.maximize(em.moments(posterior)), MAX_ITERATIONS, TOLERANCE).mixture


def _clusters(z, weight, n_components, random) -> torch.Tensor:
    """Shares (k, n) of clusters, for several modes."""
    return start_posterior(z, weight, n_components, random)


def _shells(z, weight, n_components, random) -> torch.Tensor:
    """Shares (k, n) of shells around the mean that each hold equally many, for heavy tails."""
    radius = np.linalg.norm(z - np.average(z, axis=0, weights=weight), axis=1)
    ends = np.quantile(radius, np.arange(1, n_components) / n_components)
    shells = np.searchsorted(ends, radius)
    return tensor_of(shells == np.arange(n_components)[:, None]).double()


def network_options(n_context: int) -> dict:
    """Layers of a network that corrects residuals given a context."""
    return {
        "hidden_layer_sizes": (64, 64),
        "sine_share": 0.0,
        "dropout": 0.1,
        "n_context": n_context,
    }


def builder_for(n_targets: int, n_context: int, device: torch.device) -> DensityBuilder:
    return DensityBuilder(n_targets, network_options(n_context), LEVELS, 1e-3, device)


def corrected(
    builder: DensityBuilder,
    mixture: GaussianMixture,
    z: np.ndarray,
    context: np.ndarray,
    weight: np.ndarray,
    settings: TrainingSettings,
    seed: int,
):
    """The weights of a network that corrects the mixture, empty where it gains nothing.

    Also the samples that judged it (a mask), and the record of the training.
    """
    random = np.random.RandomState(seed)
    held_out = np.zeros(len(z), dtype=bool)
    held_out[random.permutation(len(z))[: max(1, round(HELD_OUT_SHARE * len(z)))]] = True
    model = builder.score_model(mixture, {}, seed).float()
    train_rows, judges = (
        TrainingRows(
            tensor_of(z[rows]).float(),
            tensor_of(weight[rows] / weight[rows].mean()).float(),
            tensor_of(context[rows]).float(),
        )
        for rows in (~held_out, held_out)
    )
    record = train(model, DSM(), LEVELS, train_rows, judges, settings, torch_generator(seed))
    weights = record.weights or {}
    if weights:
        plain = builder.density(mixture, {}, "ode", SolverPlan())
        learned = builder.density(mixture, weights, "ode", SolverPlan())
        gains = (
            learned.log_density(z[held_out], context[held_out])[0]
            - plain.log_density(z[held_out])[0]
        )
        share = weight[held_out] / weight[held_out].sum()
        mean = float(share @ gains)
        stderr = float(np.sqrt((share**2) @ (gains - mean) ** 2))
        weights = weights if mean > stderr else {}
    return weights, held_out, record


class ResidualCurves:
    """Distribution functions and quantiles of one residual given contexts."""

    def __init__(self, density: LatentDensity, mixture: GaussianMixture):
        self.density, self.mixture = density, mixture
        self.exact = density.model is density.reference

    def cdf(self, z: np.ndarray, context: np.ndarray) -> np.ndarray:
        """Probabilities (n,) of residuals below z (n,)."""
        if self.exact:
            return self._mixture_cdf(z, 1.0, 0.0)
        return self._mixture_cdf(self._ends(z, context), *self._noisiest())

    def log_mass(self, low: np.ndarray, high: np.ndarray, context: np.ndarray) -> np.ndarray:
        """Logarithms (n,) of the probabilities of residuals between low and high (n,).

        Ends may be infinite. Far in the tails differences of distribution functions are zero, and
        these are not.
        """
        if self.exact:
            return self._mixture_log_mass(low, high, 1.0, 0.0)
        ends = self._ends(low, context), self._ends(high, context)
        return self._mixture_log_mass(*ends, *self._noisiest())

    def quantiles(self, probabilities: np.ndarray, context: np.ndarray) -> np.ndarray:
        """Quantiles (n, k) at probabilities (k,) for each of n contexts."""
        if self.exact:
            found = self._mixture_quantiles(probabilities, 1.0, 0.0)
            return np.broadcast_to(found, (len(context), len(found)))
        starts = self._mixture_quantiles(probabilities, *self._noisiest())
        every = np.repeat(context, len(starts), axis=0)
        rows = np.tile(starts, len(context))[:, None]
        return self._carried(sample, rows, every).reshape(len(context), len(starts))

    def quantile_of_each(self, probabilities: np.ndarray, context: np.ndarray) -> np.ndarray:
        """Quantiles (n,), each at a probability of its own, for n contexts."""
        if self.exact:
            return self._mixture_quantiles(probabilities, 1.0, 0.0)
        starts = self._mixture_quantiles(probabilities, *self._noisiest())
        return self._carried(sample, starts[:, None], context)

    def _ends(self, z: np.ndarray, context: np.ndarray) -> np.ndarray:
        """Where the flow carries residuals (n,); infinite ones stay."""
        ends, finite = z.copy(), np.isfinite(z)
        ends[finite] = self._carried(to_noise, z[finite, None], context[finite])
        return ends

    def _noisiest(self) -> tuple[float, float]:
        level = NoiseLevel.from_log_snr(torch.tensor(LEVELS.low, dtype=torch.float64))
        return float(level.a), float(level.v)

    @torch.no_grad()
    def _carried(self, solve, rows: np.ndarray, context: np.ndarray) -> np.ndarray:
        found = np.empty(len(rows))
        for part in chunks(len(rows), 2**14):
            given = tensor_of(context[part])
            x = tensor_of(rows[part])
            found[part] = solve(
                self.density.model, x, LEVELS, SAMPLE_STEPS["ode"], context=given
            ).numpy()[:, 0]
        return found

    def _parts(self, a: float, v: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        variances = full_covariances(self.mixture)[:, 0, 0]
        return self.mixture.weights_, a * self.mixture.means_[:, 0], np.sqrt(a**2 * variances + v)

    def _mixture_cdf(self, z: np.ndarray, a: float, v: float) -> np.ndarray:
        weights, means, deviations = self._parts(a, v)
        return ndtr((z[:, None] - means) / deviations) @ weights

    def _mixture_log_mass(self, low, high, a: float, v: float) -> np.ndarray:
        weights, means, deviations = self._parts(a, v)
        low, high = ((end[:, None] - means) / deviations for end in (low, high))
        # In the lower tail both distribution functions are small, and their ratio is exact.
        low, high = np.where(low > 0, -high, low), np.where(low > 0, -low, high)
        upper = log_ndtr(high)
        with np.errstate(divide="ignore"):
            each = upper + np.log(-np.expm1(np.minimum(log_ndtr(low) - upper, 0)))
        return logsumexp(each, b=weights, axis=1)

    def _mixture_quantiles(self, probabilities: np.ndarray, a: float, v: float) -> np.ndarray:
        """By bisection between the quantiles of the components."""
        _, means, deviations = self._parts(a, v)
        each = means + deviations * ndtri(probabilities)[:, None]
        low, high = each.min(1), each.max(1)
        for _ in range(BISECTIONS):
            middle = 0.5 * (low + high)
            below = self._mixture_cdf(middle, a, v) < probabilities
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        return 0.5 * (low + high)
