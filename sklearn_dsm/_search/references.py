"""What a network corrects: spaces and mixtures there, one after another while time is left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from itertools import chain
from operator import attrgetter
from typing import NamedTuple

import numpy as np
from sklearn.mixture import GaussianMixture
from sklearn.utils.validation import check_is_fitted

from .._evaluation.mixtures import standard_gaussian, transformed
from .._random import seed_from
from .._transforms.autoregressive import AutoregressiveTransform, fit_autoregressive
from .._transforms.fitting import as_affine
from .._transforms.marginal import MarginalTransform
from .candidates import Reference
from .clock import Clock
from .mixture_search import MixtureSearch
from .split import Split

# Shares of max_fit_time after which mixtures are no longer sought: in every space, where they
# lead, and after the first training.
EQUAL_SEARCH_SHARE, FIRST_SEARCH_SHARE, SEARCH_SHARE = 0.05, 0.1, 0.85
# An autoregressive flow needs rows for its many numbers. A trial of either number of layers may
# take the first share of max_fit_time, the flows the second, and they are sought last where the
# third is left.
TRIAL_SHARE, AUTOREGRESSIVE_SHARE, LEFT_SHARE, ROWS_PER_COLUMN = 0.07, 0.35, 0.3, 150
# Of max_fit_time, what mixtures that were asked for may take.
ASKED_FOR_SHARE = 0.5
MAX_MAPS = 3
N_FOLDS = 5
NOT_FITTED = (
    "The reference is a %(name)s that is not fitted. Fit it first; within a search or a "
    "cross-validation, whose clones forget their fit, give FrozenEstimator(mixture)."
)
# One layer suits columns that depend on those before them; a second goes the other way.
NUMBERS_OF_LAYERS = (1, 2)

_by_value = attrgetter("value")


def references(
    option: str | GaussianMixture | None,
    marginals: str | None,
    split_by: Callable[[str | None], Split],
    random_state: np.random.RandomState,
    clock: Clock,
    max_epochs: int,
    best_value: Callable[[], float],
) -> Iterator[Reference]:
    """What to correct: mixtures in several spaces, and values that training must reach.

    ``split_by`` gives the rows behind a kind of column maps. Where "auto" bends columns, lines are
    considered as well, and either with and without a radial map. Where a network is behind
    another mixture alone and not on its way to more, the rest of the time is for that mixture.
    An autoregressive flow, which has to beat ``best_value``, what held-out rows say of the best so
    far, without any network, follows at the end where time is left; at once where a trial of it
    is ahead of the network after part of its training.
    """
    split = split_by(marginals)
    d = split.train[0].shape[1]
    families = [[split]] if marginals != "auto" else _families(split, split_by)
    if isinstance(option, GaussianMixture):
        check_is_fitted(option, msg=NOT_FITTED)
        if option.means_.shape[1] != d:
            raise ValueError(
                f"The reference has {option.means_.shape[1]} columns, X has {d}; fit the "
                "GaussianMixture on the same columns."
            )
        yield Reference(split, transformed(option, *as_affine(split.latent)))
    elif option == "auto":
        search = _AutoregressiveSearch(families[-1][0], random_state, clock, max_epochs)
        autoregressive = search if marginals == "auto" and d > 1 and search.has_rows else None
        yield from _rivals(families, random_state, clock, best_value, autoregressive)
    else:
        best = max(chain(*families), key=_gaussian_value)
        if option == "gmm":
            yield _found(MixtureSearch(best, random_state), clock, ASKED_FOR_SHARE)
        else:
            yield _gaussian(best)


def _families(split: Split, split_by: Callable[..., Split]) -> list[list[Split]]:
    """Spaces by column maps, bent and straight, each without a radial map and with one.

    Where rows are few, only the better of the two.
    """
    splits = [split]
    # Columns with several modes may hide clusters that are plain in the rows themselves.
    if len(split.latent.part(MarginalTransform).curved) > 0:
        splits.append(split_by("standardize"))
        if split.is_of_few_rows:
            splits = [splits[int(np.argmax(_cross_validated(split, split_by)))]]
    twins = [(each, each.with_radial_map()) for each in splits]
    return [[twin for twin in pair if twin is not None] for pair in twins]


def _cross_validated(split: Split, split_by: Callable[..., Split]) -> list[float]:
    """What the rows of every fold say of a Gaussian of the others, bent columns first."""
    fold = np.random.default_rng(0).permutation(len(split.table[0])) % N_FOLDS
    return [
        float(np.mean([_gaussian_value(split_by(kind, fold == k)) for k in range(N_FOLDS)]))
        for kind in ("auto", "standardize")
    ]


def _gaussian(split: Split, hurdle: float = -np.inf, final_hurdle: float = -np.inf) -> Reference:
    normal = standard_gaussian(split.train[0].shape[1])
    return Reference(
        split, normal, hurdle, final_hurdle, lambda clock: (split.map_of_all_rows(), normal)
    )


def _gaussian_value(split: Split) -> float:
    return split.score(_gaussian(split).mixture.score_samples)


def _rivals(families, random_state, clock, best_value, autoregressive):
    """The Gaussian of one space, then the mixtures of all, the best first, and the flows.

    Of a family's spaces a mixture decides, which tells whether a radial map tears clusters; of
    the families the Gaussian, which tells how far the columns are from normal.
    """
    searches = [[MixtureSearch(space, random_state) for space in family] for family in families]
    every = list(chain(*searches))
    for k, search in enumerate(every, 1):
        search.go_on(clock, EQUAL_SEARCH_SHARE * k / len(every))
    leading = max(every, key=_by_value)
    leading.go_on(clock, FIRST_SEARCH_SHARE)
    chosen = [max(family, key=_by_value).split for family in searches]
    first = max(chosen, key=_gaussian_value)
    hurdle = max(search.value for search in every)
    trial = autoregressive.value_of_trial(hurdle) if autoregressive else -np.inf
    # A map on trial will gain too, by how much is not known.
    yield _gaussian(first, trial, max(hurdle, leading.outlook(clock, SEARCH_SHARE)))
    ahead = trial > max(hurdle, best_value())
    if ahead:
        yield from autoregressive.references(best_value())
    for search in sorted(every, key=_by_value, reverse=True):
        # Without time to correct it, the best of all still is one.
        if clock.left() > 0 or search.value > best_value():
            yield _found(search, clock, SEARCH_SHARE)
    if autoregressive and not ahead and clock.left(1 - LEFT_SHARE) > 0:
        yield from autoregressive.references(best_value())


def _found(search: MixtureSearch, clock: Clock, share: float) -> Reference:
    mixture = search.go_on(clock, share)
    gain = search.gain_with_held_out_rows()
    return Reference(
        search.split,
        mixture,
        # A network that would not come to what held-out rows bring takes the time for them. Few
        # of them cannot tell so early.
        final_hurdle=search.value + gain if search.enough else -np.inf,
        with_held_out_rows=search.with_held_out_rows,
        gain_alone=gain,
    )


class _AutoregressiveSearch:
    """Autoregressive flows of straight columns, and the Gaussian behind them."""

    def __init__(self, straight, random_state, clock, max_epochs):
        self.straight, self.random_state = straight, random_state
        self.clock, self.max_epochs = clock, max_epochs
        n, d = straight.train[0].shape
        self.has_rows = n >= ROWS_PER_COLUMN * d
        self.fits: list[_AutoregressiveFit] = []

    @cached_property
    def rows(self) -> Split:
        return self.straight.in_column_order()

    @property
    def best(self) -> _AutoregressiveFit | None:
        """The map that held-out rows prefer so far."""
        return max(self.fits, key=_by_value, default=None)

    def value_of_trial(self, wanted: float) -> float:
        """What held-out rows say of a map that had little time; -inf where time is unlimited."""
        if np.isfinite(self.clock.seconds):
            self._go_on(wanted, TRIAL_SHARE * self.clock.seconds)
        return -np.inf if self.best is None else self.best.value

    def references(self, wanted: float) -> Iterator[Reference]:
        """The Gaussian behind the best map, also one of a trial, where it has what is wanted.

        The second has the shift after the scale. Where time is limited and they take a small part
        of it, one more of the better kind follows.
        """
        stage = Clock(AUTOREGRESSIVE_SHARE * self.clock.seconds)
        self._go_on(wanted, stage.left())
        for k in range(1, MAX_MAPS):
            unlimited = k == 1 and np.isinf(stage.seconds)
            if self.best is None or not (unlimited or stage.seconds / (k + 1) < stage.left()):
                break
            self._go_on(wanted, stage.left(), k == 1 or self.best.shift_last)
        if self.best is not None and self.best.value > wanted:
            yield _gaussian(self.rows.behind(self.best.autoregressive))

    def _go_on(self, wanted: float, most_seconds: float, shift_last: bool = False) -> None:
        """Fit the maps in question, so many seconds each, up to one that is wanted.

        The first that were fitted settle the number of layers.
        """
        rows = self.rows
        for n_layers in NUMBERS_OF_LAYERS if self.best is None else (self.best.n_layers,):
            seconds = min(most_seconds, self.clock.left())
            if seconds <= 0:
                return
            found = fit_autoregressive(
                rows.train,
                rows.held_out,
                n_layers,
                shift_last,
                wanted - rows.mean_log_slope,
                seconds,
                self.max_epochs,
                seed_from(self.random_state),
            )
            if found is not None:
                autoregressive, value = found
                value += rows.mean_log_slope
                self.fits.append(_AutoregressiveFit(value, n_layers, shift_last, autoregressive))
                if value > wanted:
                    return


class _AutoregressiveFit(NamedTuple):
    """A map of so many layers and a kind, and what held-out rows say of it, in input units."""

    value: float
    n_layers: int
    shift_last: bool
    autoregressive: AutoregressiveTransform
