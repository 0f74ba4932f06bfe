"""The density of one target: a pool of a fixed mixture of residuals and of networks."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from scipy.special import logsumexp
from sklearn.model_selection import KFold

from .._budget import Budget
from .._core.arrays import tensor_of
from .._core.random import torch_generator
from .._evaluation.latent_density import chunks
from .._tabular.heads import Normals, averaged
from . import _normal_laws as laws
from ._networks import MixtureNetworks, apart, of_state, started
from ._residuals import FixedMixture
from ._training import Members, train_members

# Networks of residuals, of targets given what the residuals' ones see, of targets given the
# features alone, and of targets given what is known of neighbours too.
KINDS = ("residuals", "targets", "features", "neighbours")
# Samples from which networks are trained.
NETWORK_ROWS = 200


class Size(NamedTuple):
    """How networks are made for tables of a size.

    Attributes
    ----------
    most_rows : float
        Samples up to which this is so.
    n_folds, n_members : int
        Folds of the samples, and how many of these have networks that did not see them. With more
        samples, longer training of fewer networks gains more than an average over many.
    width, n_components : int
    dropout : float
    """

    most_rows: float
    n_folds: int
    n_members: int
    width: int
    n_components: int
    dropout: float


SIZES = (
    Size(2000, 10, 10, 32, 3, 0.2),
    Size(10_000, 5, 2, 64, 3, 0.1),
    Size(np.inf, 10, 1, 96, 6, 0.0),
)
# The log-weight of components that are there to make starts alike: gradients vanish too.
NO_WEIGHT = -60.0
# Samples that are evaluated at once.
CHUNK = 2000
# Samples by which a pool is weighed, at most.
JUDGED_ROWS = 10_000
# The weights of the pool: samples that the fixed mixture has more, iterations, the least weight.
PRIOR_SAMPLES, EM_ITERATIONS, LEAST_WEIGHT = 1.0, 300, 0.01


class Samples(NamedTuple):
    """Samples of one target and what the regressors say of them, without having seen them.

    Attributes
    ----------
    given : ndarray of shape (n, n_context)
        The context, what is known of neighbours, mean and log-scale, standardised.
    target, mean, log_scale, weight : ndarray of shape (n,)
    ratio : float
        By which residuals are shrunk.
    n_neighbours : int
        Columns of ``given`` about neighbours.
    """

    given: np.ndarray
    target: np.ndarray
    mean: np.ndarray
    log_scale: np.ndarray
    weight: np.ndarray
    ratio: float
    n_neighbours: int = 0

    def take(self, rows) -> Samples:
        """Some of the samples."""
        given, target, mean, log_scale, weight = (part[rows] for part in self[:5])
        return Samples(given, target, mean, log_scale, weight, *self[5:])

    @property
    def kinds(self) -> tuple[str, ...]:
        """Of networks."""
        return KINDS if self.n_neighbours else KINDS[:-1]

    @property
    def residual(self) -> np.ndarray:
        return (self.target - self.mean) * np.exp(-self.log_scale) * self.ratio


class Pool:
    """The law of one target given features, a mixture of normals for each sample.

    Parameters
    ----------
    fixed : FixedMixture
        Of residuals.
    centre, spread : float
        Of targets.
    kinds : tuple of str
        Of networks.
    """

    def __init__(self, fixed: FixedMixture, centre: float, spread: float, kinds: tuple[str, ...]):
        self.fixed, self.centre, self.spread, self.kinds = fixed, centre, spread, kinds
        self.shares = np.eye(len(kinds) + 1)[0]
        self.state: dict[str, np.ndarray] = {}

    def laws(self, given: np.ndarray, mean: np.ndarray, log_scale: np.ndarray) -> Normals:
        """Mixtures (n, n_components) of targets."""
        parts, kept = [self.fixed_laws(mean, log_scale)], self.shares > 0
        if self.state:
            kinds = np.flatnonzero(kept[1:])
            members = zip(*(each.chunk(len(kinds)) for each in self._members(given)), strict=True)
            for kind, of_folds in zip(kinds, members, strict=True):
                part = self.in_units(Normals(*of_folds), self.kinds[kind], mean, log_scale)
                parts.append(averaged(part))
        return _pooled(parts, self.shares[kept])

    def keep(self, networks: MixtureNetworks, shares: np.ndarray) -> None:
        """Take weights, and the networks that have one."""
        self.shares = shares
        n_folds = len(networks.starts) // len(self.kinds)
        kept = np.repeat(shares[1:] > 0, n_folds)
        if kept.any():
            self.state = {
                name: part.numpy()[kept].copy() for name, part in networks.state_dict().items()
            }

    def fixed_laws(self, mean, log_scale) -> Normals:
        """Mixtures (n, k) of targets by the mixture of residuals."""
        weights, means, scales = self.fixed.parts
        scale = np.exp(log_scale)[:, None]
        return Normals(
            tensor_of(np.broadcast_to(np.log(weights), (len(mean), len(weights))).copy()),
            tensor_of(mean[:, None] + scale * means),
            tensor_of(log_scale[:, None] + np.log(scales)),
        )

    @torch.no_grad()
    def _members(self, given: np.ndarray) -> Normals:
        state = {name: torch.from_numpy(part) for name, part in self.state.items()}
        return of_state(state)(tensor_of(given))

    def in_units(self, law: Normals, kind: str, mean, log_scale) -> Normals:
        """Members' laws (n_members, n, k) of residuals or standardised targets, of targets."""
        if kind == "residuals":
            shift, log_factor = tensor_of(mean)[:, None], tensor_of(log_scale)[:, None]
        else:
            shift = torch.tensor(self.centre, dtype=torch.float64)
            log_factor = torch.tensor(np.log(self.spread), dtype=torch.float64)
        return Normals(
            law.log_weight, shift + torch.exp(log_factor) * law.mean, law.log_scale + log_factor
        )


class PoolFit(NamedTuple):
    """A pool, and what was found of its own samples.

    Attributes
    ----------
    pool : Pool
    judged : ndarray of shape (n_judged,)
        Numbers of the samples whose density is known under members that did not see them.
    pit, log_density : ndarray of shape (n_judged,)
        Of these samples.
    stop_reason : str
    """

    pool: Pool
    judged: np.ndarray
    pit: np.ndarray
    log_density: np.ndarray
    stop_reason: str


def fit_pool(
    samples: Samples,
    fixed: FixedMixture,
    centre: float,
    spread: float,
    max_epochs: int,
    budget: Budget,
    seed: int,
) -> PoolFit:
    """Train networks fold by fold and weigh them by samples that they did not see.

    Parameters
    ----------
    samples : Samples
    fixed : FixedMixture
        Of residuals.
    centre, spread : float
        Of targets.
    """
    pool = Pool(fixed, centre, spread, samples.kinds)
    n, z = len(samples.target), samples.residual
    by_mixture = fixed.unseen + np.log(samples.ratio) - samples.log_scale
    alone = PoolFit(pool, np.arange(n), fixed.cdf(z), by_mixture, "too_few_samples")
    if not max_epochs or n < NETWORK_ROWS:
        return alone
    if budget.is_over:
        return alone._replace(stop_reason="max_fit_time")
    size = next(each for each in SIZES if n <= each.most_rows)
    folds = _folds(n, size.n_folds, seed)[: size.n_members]
    standard = (samples.target - centre) / spread
    targets = np.stack([z if kind == "residuals" else standard for kind in pool.kinds])
    networks = _networks(samples, size, fixed, seed)
    # Networks that see the features alone have no dropout, so that the pool can choose.
    rates = [size.dropout * (kind != "features") for kind in pool.kinds]
    members = Members(
        np.repeat(targets, size.n_members, axis=0),
        np.tile(folds, (len(pool.kinds), 1)),
        np.repeat(rates, size.n_members),
    )
    record = train_members(
        networks, samples.given, members, samples.weight, max_epochs, budget, seed
    )
    unseen_by_some = np.flatnonzero(folds.any(0))
    rows = np.random.RandomState([seed, 3]).permutation(unseen_by_some)[:JUDGED_ROWS]
    rows.sort()
    judged = samples.take(rows)
    unseen = _unseen(networks, judged, folds[:, rows], pool)
    each = [law.log_density(tensor_of(judged.target)).numpy() for law in unseen[1:]]
    log_density = np.column_stack([by_mixture[rows], *each])
    pool.keep(networks, pool_weights(log_density, judged.weight))
    pit = laws.cdf(_pooled(unseen, pool.shares), judged.target)
    pooled = logsumexp(log_density, axis=1, b=pool.shares)
    return PoolFit(pool, rows, pit, pooled, record.stop_reason)


def pool_weights(log_density: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Weights of candidates (n, n_candidates) in a mixture, by maximum likelihood (EM).

    The first candidate has a sample more than there are, and those of small weight have none.
    """
    density = np.exp(log_density - log_density.max(1, keepdims=True))
    shares = np.full(density.shape[1], 1 / density.shape[1])
    for iteration in range(2 * EM_ITERATIONS):
        if iteration == EM_ITERATIONS:
            shares[1:][shares[1:] < LEAST_WEIGHT] = 0
        joint = density * shares
        found = (weight / joint.sum(1)) @ joint
        found[0] += PRIOR_SAMPLES
        shares = found / found.sum()
    return shares


def _folds(n: int, n_folds: int, seed: int) -> np.ndarray:
    """Whether a sample is in a fold (n_folds, n)."""
    folds = np.zeros((n_folds, n), dtype=bool)
    split = KFold(n_folds, shuffle=True, random_state=np.random.RandomState([seed, 2]))
    for fold, (_, test) in zip(folds, split.split(folds[0]), strict=True):
        fold[test] = True
    return folds


def _networks(samples: Samples, size: Size, fixed: FixedMixture, seed: int) -> MixtureNetworks:
    """Networks before their training, all folds of a kind side by side."""
    kinds, n_inputs = samples.kinds, samples.given.shape[1]
    visible = np.ones((len(kinds), n_inputs), dtype=bool)
    visible[: KINDS.index("neighbours"), n_inputs - 2 - samples.n_neighbours : -2] = False
    visible[KINDS.index("features"), -2:] = False
    of_residuals, plain = started(*fixed.parts, size.n_components), apart(size.n_components)
    starts = _alike([of_residuals if kind == "residuals" else plain for kind in kinds])
    visible, starts = (np.repeat(part, size.n_members, axis=0) for part in (visible, starts))
    return MixtureNetworks(visible, starts, size.width, torch_generator(seed))


def _alike(starts: list[np.ndarray]) -> np.ndarray:
    """Starts with equally many components; those that are added have no weight and get none."""
    n_components = max(start.shape[1] for start in starts)
    found = np.zeros((len(starts), 3, n_components))
    found[:, 0] = NO_WEIGHT
    for k, start in enumerate(starts):
        found[k, :, : start.shape[1]] = start
    return found


@torch.no_grad()
def _unseen(networks: MixtureNetworks, samples: Samples, folds, pool: Pool) -> list[Normals]:
    """Laws (n, k) of targets by the fixed mixture, and by members of each kind without the sample.

    Parameters
    ----------
    folds : ndarray of bool, of shape (n_folds, n)
    """
    double = of_state(networks.state_dict())
    located = samples.mean, samples.log_scale - np.log(samples.ratio)
    member = np.arange(len(pool.kinds))[:, None] * len(folds) + folds.argmax(0)
    found = []
    for rows in chunks(len(samples.target), CHUNK):
        law, of_rows = double(tensor_of(samples.given[rows])), member[:, rows]
        found.append([each[of_rows, np.arange(of_rows.shape[1])] for each in law])
    of_kinds = zip(*(torch.cat(each, 1) for each in zip(*found, strict=True)), strict=True)
    return [
        pool.fixed_laws(*located),
        *(
            pool.in_units(Normals(*law), kind, *located)
            for kind, law in zip(pool.kinds, of_kinds, strict=True)
        ),
    ]


def _pooled(parts: list[Normals], shares: np.ndarray) -> Normals:
    """One mixture of several with shares, without those that have none."""
    kept = [
        law._replace(log_weight=law.log_weight + np.log(share))
        for law, share in zip(parts, shares, strict=True)
        if share
    ]
    return Normals(*(torch.cat(each, -1) for each in zip(*kept, strict=True)))
