"""The choice of a kernel's width: by a rule, or by leave-one-out log-likelihoods."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar

from .._budget import Budget
from .._core.constants import LOG_2PI
from ._boundaries import Box
from ._fourth_order import fourth_order_sums
from ._images import TooManyImagesError, log_mass, with_images
from ._kernel_sums import KernelSums, LeftOut

# Bandwidths that cross-validation starts from, in units of the rule of thumb, and how far it goes
# on beyond them where the best is the first or the last. In a box of many features, where a wide
# kernel has many images, it does not go on to wider ones.
START, LOWEST, HIGHEST = np.geomspace(0.1, 3.0, 8), 1e-9, 30.0
STEP = float(START[1] / START[0])
LOG_TOLERANCE = 0.02
# Samples whose own log-densities are compared, and how many kernels these are the sums of.
MAX_JUDGED, MAX_KERNELS, MAX_KERNELS_IN_MANY = 2000, 5 * 10**4, 10**4
# The same in a box of many features, where each has many images.
MAX_JUDGED_WITH_IMAGES, MAX_KERNELS_WITH_IMAGES = 500, 1000
# Up to so many features a grid gives the sums.
FEW_FEATURES = 2
# What is left of a sum without a sample's own kernels is summed anew where it is less than this.
MIN_LEFT = 1e-2


class Samples(NamedTuple):
    """Samples in the latent space, with what a bandwidth depends on.

    Attributes
    ----------
    rows : ndarray of shape (n_rows, d)
    share : ndarray of shape (n_rows,), positive, summing to 1
    counts : ndarray of shape (n_rows,) or None
        How many equal samples each stands for, where the weights are numbers of samples.
    number : float
        How many samples the shares are worth.
    box : Box or None
    """

    rows: np.ndarray
    share: np.ndarray
    counts: np.ndarray | None
    number: float
    box: Box | None

    def some(self, index: np.ndarray) -> Samples:
        """Part of the samples."""
        share = self.share[index]
        counts = None if self.counts is None else self.counts[index]
        number = self.number * share.sum()
        return Samples(self.rows[index], share / share.sum(), counts, number, self.box)


@dataclass(frozen=True)
class Rule:
    """The bandwidth that is best for a normal distribution, and the rate at which it falls.

    Attributes
    ----------
    deviation : float
        Standard deviation of the features.
    d : int
    smoothness : float
    order : {2, 4}
        Of the kernel.
    """

    deviation: float
    d: int
    smoothness: float
    order: int

    @property
    def rate(self) -> float:
        """By which power of the number of samples the bandwidth falls."""
        return 1 / (2 * min(self.smoothness, self.order) + self.d)

    def __call__(self, number: float) -> float:
        constant = (4 / (self.d + 2)) ** (1 / (self.d + 4))
        return float(self.deviation * constant * number**-self.rate)


class Judged(NamedTuple):
    """Samples whose leave-one-out log-densities judge a bandwidth.

    Attributes
    ----------
    samples : Samples
        All whose kernels are summed.
    judged : ndarray of int, shape (m,)
        Those that are judged.
    places : ndarray of int, shape (m,)
        Where they are in the samples that were given.
    """

    samples: Samples
    judged: np.ndarray
    places: np.ndarray

    def log_densities(self, h: float, order: int) -> tuple[np.ndarray, np.ndarray]:
        """At each of them, without one sample there; and what share of it is of equal samples."""
        samples, index = self.samples, self.judged
        kernels = with_images(samples.rows, samples.share, samples.number, h, samples.box)
        kept = self._kept()
        points, place = samples.rows[index], np.full(len(samples.rows), -1)
        place[index] = np.arange(len(index))
        mine = kernels.of(np.flatnonzero(place[kernels.owners] >= 0))
        owner = place[mine.owners]
        differences = (points[owner] - mine.centers) / h
        own = mine.weights * _kernel((differences**2).sum(1), h, points.shape[1], order)
        own = np.bincount(owner, own, len(points))
        if order > 2:
            total = fourth_order_sums(points[:, 0], kernels, h)
        else:
            sums = KernelSums(kernels.centers, kernels.weights, h)
            total = np.exp(sums.log_sums(points))
        left = total - (1 - kept) * own
        with np.errstate(divide="ignore", invalid="ignore"):
            values, repeated = np.log(left), kept * own / left
        rest = ~(left > MIN_LEFT * total)
        if order == 2 and rest.any():
            left_out = LeftOut(index[rest], kernels.owners, kept[rest])
            values[rest] = sums.exact(points[rest], left_out=left_out)[0]
            with np.errstate(divide="ignore"):
                repeated[rest] = np.exp(np.log(kept[rest] * own[rest]) - values[rest])
        least = np.log(np.finfo(float).tiny)
        values = np.where(values > least, values, least) if order > 2 else values
        return values - log_mass(kernels, h, samples.box), repeated

    def _kept(self) -> np.ndarray:
        """What share of a sample's weight is left without one of it."""
        if self.samples.counts is None:
            return np.zeros(len(self.judged))
        counts = self.samples.counts[self.judged]
        return (counts - 1) / counts

    def mean(self, values: np.ndarray) -> float:
        weight = self.samples.share[self.judged]
        return float(weight @ values / weight.sum())


def judged_samples(samples: Samples, random: np.random.RandomState) -> Judged:
    """Some samples for the kernels, and some of them to judge."""
    few, boxed = samples.rows.shape[1] <= FEW_FEATURES, samples.box is not None
    order = random.permutation(len(samples.rows))
    limit, n_judged = MAX_KERNELS if few else MAX_KERNELS_IN_MANY, MAX_JUDGED
    if boxed and not few:
        limit, n_judged = MAX_KERNELS_WITH_IMAGES, MAX_JUDGED_WITH_IMAGES
    places = order[: min(n_judged, limit)]
    if len(order) > limit:
        return Judged(samples.some(order[:limit]), np.arange(len(places)), places)
    return Judged(samples, places, places)


def best_bandwidth(judged: Judged, rule: Rule, budget: Budget) -> tuple[float, bool]:
    """The bandwidth of the largest leave-one-out log-likelihood, for the samples that are judged.

    Also whether the likelihood has a maximum that is not that of equal samples alone. If not, the
    bandwidth is that of the rule. Once the budget is over, no further bandwidth is tried.
    """
    known: dict[float, float] = {}

    def value(h: float) -> float:
        if h not in known:
            if known and budget.is_over:
                return -np.inf
            try:
                known[h] = judged.mean(judged.log_densities(h, rule.order)[0])
            except TooManyImagesError:
                known[h] = -np.inf
        return known[h]

    plain = rule(judged.samples.number)
    best = _bracketed(value, plain, _widest(judged.samples.box, plain))
    if best is None:
        return plain, False
    found = minimize_scalar(
        lambda log_h: -value(float(np.exp(log_h))),
        bounds=(np.log(best / STEP), np.log(best * STEP)),
        method="bounded",
        options={"xatol": LOG_TOLERANCE},
    )
    best = max((best, float(np.exp(found.x))), key=value)
    repeated = judged.mean(judged.log_densities(best, rule.order)[1] > 0.5)
    return (best, True) if repeated < 0.5 else (plain, False)


def _bracketed(value: Callable[[float], float], plain: float, widest: float) -> float | None:
    """The best of a geometric grid that grows until the best is within; None at its lowest end."""
    grid = [float(h) for h in plain * START if h <= widest] or [widest]
    best = max(grid, key=value)
    while best == grid[0]:
        grid.insert(0, grid[0] / STEP)
        if grid[0] < LOWEST * plain:
            return None
        best = max(grid[:2], key=value)
    while best == grid[-1] and grid[-1] * STEP <= widest:
        grid.append(grid[-1] * STEP)
        best = max(grid[-2:], key=value)
    return best


def _widest(box: Box | None, plain: float) -> float:
    """The widest bandwidth to try: a kernel as wide as a period is constant."""
    if box is None:
        return HIGHEST * plain
    highest = HIGHEST if len(box.low) <= FEW_FEATURES else START[-1]
    return min([highest * plain, *(box.high - box.low)[box.periodic]])


def _kernel(squared: np.ndarray, h: float, d: int, order: int) -> np.ndarray:
    kernel = np.exp(-0.5 * squared - d * (np.log(h) + LOG_2PI / 2))
    return kernel * (3 - squared) / 2 if order > 2 else kernel
