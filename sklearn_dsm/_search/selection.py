"""Model selection in two phases: base densities without a network, then networks."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from operator import attrgetter
from typing import Any

import numpy as np

from .._budget import Budget
from .._checkpoint import NO_CHECKPOINT, Checkpoint
from .._evaluation.references import Reference
from .._transforms.chain import Chain
from .base_densities import Base, Family, best_gaussian, gaussian, given, spaces
from .correction import Candidate, Correction, kept_if_interrupted
from .flow_search import FlowSearch
from .mixture_search import MixtureSearch
from .progress import Progress
from .split import Split, Table
from .tuning import TUNING

_by_value = attrgetter("value")


@dataclass(frozen=True)
class Options:
    """What a fit was asked to choose between.

    Attributes
    ----------
    reference : {"auto", "gaussian", "gmm"}, a fitted density or None
    marginals : {"auto", "gaussianize", "standardize"} or None
    max_epochs : int
    checkpoint : Checkpoint
        Where the steps of the search are stored.
    """

    reference: str | Reference | None
    marginals: str | None
    max_epochs: int
    checkpoint: Checkpoint = NO_CHECKPOINT


def select(
    table: Table,
    options: Options,
    correction: Correction,
    budget: Budget,
    random_state: np.random.RandomState,
    progress: Progress,
) -> Candidate:
    """The density that the validation rows prefer.

    First every base density is fitted within a share of the budget. Then a network corrects the
    Gaussian, and is soon pruned where less is to be expected of it than of the best base density;
    this one then grows in the time that is left, and is corrected too.
    """
    with kept_if_interrupted(correction.candidates):
        searched = _searched(table, budget, random_state)
        start, families = fit_bases(searched, options, budget, random_state)
        best = max(families, key=_by_value, default=None)
        if best is None:
            correction.train_on(start)
            return correction.best()
        progress(f"best base density: {best.name}, {best.value:.4f} nats on the validation set")
        correction.yardstick = base = best.base()
        correction.train_on(start, best.expected_value(budget))
        if best.value <= correction.best_value:
            return correction.best()
        if correction.ended:
            correction.keep_without_network(base)
        else:
            best.grow(budget)
            progress(f"the same grown: {best.value:.4f} nats")
            base = best.base()
            correction.train_on(base, base.expected_value_alone)
    return correction.best()


def continued(table: Table, earlier: dict[str, Any], correction: Correction) -> Candidate:
    """The density of an earlier fit, whose network is trained further if that brings something.

    Parameters
    ----------
    earlier : dict
        Its attributes, by name.
    """
    split = Split(Chain.from_arrays(earlier["latent_map_"]), table)
    base = Base.of(split, earlier["reference_"])
    correction.train_on(base)
    return correction.best()


def _searched(table: Table, budget: Budget, random_state: np.random.RandomState) -> Table:
    """The rows to which base densities are fitted: some of many, where time is limited."""
    if np.isinf(budget.seconds):
        return table
    n = min(TUNING.searched_rows, TUNING.searched_numbers // table.X.shape[1])
    return table.some(n, random_state)


def fit_bases(
    table: Table, options: Options, budget: Budget, random_state: np.random.RandomState
) -> tuple[Base, list[Family]]:
    """What a network corrects first, and the base densities that it has to beat."""
    if isinstance(options.reference, Reference):
        return given(options.reference, table, options.marginals), []
    found, checkpoint = spaces(table, options.marginals), options.checkpoint
    if options.reference == "gmm":
        search = MixtureSearch(best_gaussian(chain(*found)).split, random_state, checkpoint)
        search.go_on(budget, TUNING.asked_for_until)
        return search.base(), []
    if options.reference != "auto":
        return best_gaussian(chain(*found)), []
    mixtures = fit_mixtures(found, budget, random_state, checkpoint)
    families: list[Family] = list(chain(*mixtures))
    straight = found[-1][0]
    if options.marginals == "auto" and FlowSearch.suits(straight):
        flows = FlowSearch(straight, random_state, options.max_epochs, checkpoint)
        flows.start(budget, max(map(_by_value, families)))
        families.append(flows)
    # A mixture tells whether radial Gaussianization tears clusters; the Gaussian tells how far
    # from normal the marginal transform leaves the features.
    preferred = (max(each, key=_best_in_space).split for each in mixtures)
    return best_gaussian(preferred), families


def _best_in_space(search: MixtureSearch) -> float:
    """The greater value of the mixture and of the Gaussian: of few rows the former may be less."""
    return max(search.value, gaussian(search.split).value)


def fit_mixtures(
    found: list[list[Split]],
    budget: Budget,
    random_state: np.random.RandomState,
    checkpoint: Checkpoint = NO_CHECKPOINT,
) -> list[list[MixtureSearch]]:
    """Mixtures in every space for equal times, and in the leading one for longer."""
    mixtures = [
        [MixtureSearch(space, random_state, checkpoint) for space in family] for family in found
    ]
    every = list(chain(*mixtures))
    began = budget.share_taken
    for k, search in enumerate(every, 1):
        search.go_on(budget, began + TUNING.mixture_share * k / len(every))
    max(every, key=_by_value).go_on(budget, TUNING.leading_until)
    return mixtures
