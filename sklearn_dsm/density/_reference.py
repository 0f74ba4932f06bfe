"""What a network corrects: spaces and mixtures there, one after another while time is left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from operator import attrgetter

import numpy as np
from sklearn.mixture import GaussianMixture
from sklearn.utils.validation import check_is_fitted

from .._random import seed_from
from ._candidates import Clock, Reference, Split
from ._mixture_search import MixtureSearch
from ._mixtures import standard_gaussian, transformed

# Shares of max_fit_time after which mixtures are no longer sought: in every space, where they
# lead, and after the first training.
EQUAL_SEARCH_SHARE, FIRST_SEARCH_SHARE, SEARCH_SHARE = 0.05, 0.1, 0.85
# A triangular map is sought where this share of the time is left, may take that one, and needs
# rows for its many numbers.
LEFT_SHARE, TRIANGULAR_SHARE, ROWS_PER_COLUMN = 0.3, 0.15, 150


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
    another mixture alone after part of its training, the rest of the time is for that mixture.
    Where time is left at the end, a triangular map follows that has to beat ``best_value``, what
    held-out rows say of the best so far, without any network.
    """
    split = split_by(marginals)
    d = split.train[0].shape[1]
    families = [[split]] if marginals != "auto" else _families(split, split_by)
    if isinstance(option, GaussianMixture):
        check_is_fitted(option)
        if option.means_.shape[1] != d:
            raise ValueError(
                f"The reference has {option.means_.shape[1]} columns, X has {d}; fit the "
                "GaussianMixture on the same columns."
            )
        yield Reference(split, transformed(option, *split.latent.as_affine()))
    elif option == "auto":
        yield from _rivals(families, random_state, clock)
        if marginals == "auto" and d > 1 and clock.left(1 - LEFT_SHARE) > 0:
            yield from _triangular(families[-1][0], random_state, clock, max_epochs, best_value())
    else:
        best = max(chain(*families), key=_gaussian_value)
        if option == "gmm":
            yield _found(MixtureSearch(best, random_state), Clock(None))
        else:
            yield Reference(best, standard_gaussian(d))


def _families(split: Split, split_by: Callable[[str], Split]) -> list[list[Split]]:
    """Spaces by column maps, bent and straight, each without a radial map and with one."""
    # Columns with several modes may hide clusters that are plain in the rows themselves.
    bent = len(split.latent.columns.curved) > 0
    splits = [split, split_by("standardize")] if bent else [split]
    twins = [(each, each.with_radial_map()) for each in splits]
    return [[twin for twin in pair if twin is not None] for pair in twins]


def _gaussian_value(split: Split) -> float:
    return split.score(standard_gaussian(split.train[0].shape[1]).score_samples)


def _rivals(families, random_state, clock):
    """The Gaussian of one space, then the mixtures of all, the best first.

    Of a family's spaces a mixture decides, which tells whether a radial map tears clusters; of
    the families the Gaussian, which tells how far the columns are from normal.
    """
    by_value = attrgetter("value")
    searches = [[MixtureSearch(space, random_state) for space in family] for family in families]
    every = list(chain(*searches))
    for k, search in enumerate(every, 1):
        search.go_on(clock, EQUAL_SEARCH_SHARE * k / len(every))
    max(every, key=by_value).go_on(clock, FIRST_SEARCH_SHARE)
    chosen = [max(family, key=by_value).split for family in searches]
    first = max(chosen, key=_gaussian_value)
    hurdle = max(search.value for search in every)
    yield Reference(first, standard_gaussian(first.train[0].shape[1]), hurdle)
    for search in sorted(every, key=by_value, reverse=True):
        if clock.left() > 0:
            yield _found(search, clock, SEARCH_SHARE)


def _found(search: MixtureSearch, clock: Clock, share: float = 1.0) -> Reference:
    mixture = search.go_on(clock, share)
    gain = search.gain_with_held_out_rows()
    return Reference(search.split, mixture, -np.inf, search.with_held_out_rows, gain)


def _triangular(straight, random_state, clock, max_epochs, wanted):
    """The Gaussian behind a triangular map of straight columns."""
    n, d = straight.train[0].shape
    if n < ROWS_PER_COLUMN * d:
        return
    seconds = TRIANGULAR_SHARE * clock.seconds
    split = straight.with_triangular_map(wanted, seconds, max_epochs, seed_from(random_state))
    if split is not None:
        yield Reference(split, standard_gaussian(d))
