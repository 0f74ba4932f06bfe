"""The latent space of a kernel estimate, and the bandwidth in it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .._budget import Budget
from .._transforms.chain import Chain
from .._transforms.fitting import fit_latent_map, linear_map
from .._transforms.marginal import MarginalTransform
from ._bandwidth import Judged, Rule, Samples, best_bandwidth, judged_samples
from ._boundaries import Box

# A feature may be heavy-tailed if its standard deviation is so many times that of a normal
# distribution with the same first and ninth decile, and more by what chance does with n samples,
# in units of n^(-1/2).
HEAVY, CHANCE, DECILES_OF_NORMAL = 1.1, 3.0, 2.563
# What marginal transforms must gain: in nats, and in standard errors. A sample's own gain counts
# up to a limit, so that no single one decides.
MIN_GAIN, MIN_ERRORS, MAX_OWN_GAIN = 0.02, 1.2, 25.0


@dataclass(frozen=True)
class Table:
    """The samples as they are given, each row once where weights are counts.

    Attributes
    ----------
    rows : ndarray of shape (n_rows, d)
    weight : ndarray of shape (n_rows,), positive
    counts : bool
        Whether the weights are numbers of samples.
    number : float
        How many samples the weights are worth.
    box : Box or None
    """

    rows: np.ndarray
    weight: np.ndarray
    counts: bool
    number: float
    box: Box | None

    @property
    def unit(self) -> float:
        """What a bandwidth of one in the latent space is in the units of the parameter."""
        if self.box is None or self.rows.shape[1] > 1:
            return 1.0
        return float(self.box.scales(self.rows, self.weight)[1][0])

    @property
    def heavy_tailed(self) -> bool:
        """Whether a feature has a much larger standard deviation than its deciles suggest."""
        share, least = self.weight / self.weight.sum(), HEAVY + CHANCE / np.sqrt(self.number)
        for x in self.rows.T:
            order = np.argsort(x)
            ends = np.searchsorted(np.cumsum(share[order]), [0.1, 0.9]).clip(max=len(x) - 1)
            low, high = x[order][ends]
            deviation = np.sqrt(share @ (x - share @ x) ** 2)
            if deviation > least * (high - low) / DECILES_OF_NORMAL:
                return True
        return False


@dataclass(frozen=True)
class Space:
    """A map to the latent space, the samples there, and how a bandwidth is chosen there.

    Attributes
    ----------
    latent : Chain
    samples : Samples
    rule : Rule
    seed : int
        Of the samples that judge bandwidths.
    budget : Budget
        Of the search for a bandwidth.
    """

    latent: Chain
    samples: Samples
    rule: Rule
    seed: int
    budget: Budget

    @property
    def curved(self) -> bool:
        """Whether marginal transforms bend a feature."""
        return len(self.latent.part(MarginalTransform).curved) > 0

    @property
    def n_transform_parameters(self) -> int:
        """How many numbers the marginal transforms estimate, beyond a mean and a deviation."""
        marginal = self.latent.part(MarginalTransform)
        components = np.isfinite(marginal.log_weights).sum(1)
        return int((3 * (components - 1)).sum())

    @cached_property
    def judged(self) -> Judged:
        return judged_samples(self.samples, np.random.RandomState(self.seed))

    @cached_property
    def judged_width(self) -> tuple[float, bool]:
        """The best bandwidth for the samples that are judged, and whether there is one."""
        return best_bandwidth(self.judged, self.rule, self.budget)

    def bandwidth(self, name: str) -> tuple[float, bool]:
        """The bandwidth by this name for all samples, and whether it was found."""
        if name == "minimax":
            return self.rule(self.samples.number), True
        width, found = self.judged_width
        shrunk = (self.judged.samples.number / self.samples.number) ** self.rule.rate
        return width * shrunk, found

    def log_likelihoods(self, name: str, table: Table) -> np.ndarray:
        """Leave-one-out log-densities of the samples that are judged, in the units of the input."""
        width = self.judged_width[0] if name == "cv" else self.rule(self.judged.samples.number)
        values, _ = self.judged.log_densities(width, self.rule.order)
        return values + self.latent.forward(table.rows[self.judged.places])[1]


def latent_space(
    table: Table, marginals: str, smoothness: float, seed: int, budget: Budget
) -> Space:
    """The space of standardised features with bounds, or of whitened ones without.

    Parameters
    ----------
    table : Table
    marginals : {"standardize", "gaussianize"}
    smoothness : float
    seed : int
    budget : Budget
    """
    rows, weight, d = table.rows, table.weight, table.rows.shape[1]
    if table.box is None:
        nobody = np.zeros(len(rows), dtype=bool)
        latent, box = fit_latent_map(rows, weight, nobody, marginals), None
    else:
        location, scale = table.box.scales(rows, weight)
        latent, box = linear_map(location, scale), table.box.mapped(location, scale)
    Z, share = latent.forward(rows)[0], weight / weight.sum()
    samples = Samples(Z, share, weight if table.counts else None, table.number, box)
    deviation = np.sqrt(share @ (Z - share @ Z) ** 2).mean() if box is None else 1.0
    order = 4 if d == 1 and smoothness > 2 else 2
    return Space(latent, samples, Rule(float(deviation), d, smoothness, order), seed, budget)


def better_space(plain: Space, bent: Space, name: str, table: Table) -> Space:
    """That of marginal transforms where its likelihood is clearly larger, else the plain one."""
    gain = bent.log_likelihoods(name, table) - plain.log_likelihoods(name, table)
    gain = gain.clip(-MAX_OWN_GAIN, MAX_OWN_GAIN)
    # By so much transforms suit the samples they were fitted to better than others.
    optimism = bent.n_transform_parameters / table.number
    mean = plain.judged.mean(gain) - optimism
    spread = np.sqrt(plain.judged.mean((gain - optimism - mean) ** 2) / len(gain))
    return bent if mean > max(MIN_GAIN, MIN_ERRORS * spread) else plain
