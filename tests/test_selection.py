"""Model selection: base densities first, then networks that correct the best of them."""

from dataclasses import replace

import numpy as np
import pytest

from sklearn_dsm import DSMDensityEstimator, NonFiniteLossError
from sklearn_dsm._budget import Budget
from sklearn_dsm._search import correction as correction_module
from sklearn_dsm._search import selection
from sklearn_dsm._search.base_densities import Family, gaussian, spaces
from sklearn_dsm._search.correction import Correction
from sklearn_dsm._search.flow_search import FlowSearch
from sklearn_dsm._search.mixture_search import MixtureSearch
from sklearn_dsm._search.progress import Progress
from sklearn_dsm._search.selection import Options, fit_bases, select
from sklearn_dsm._search.split import Table
from sklearn_dsm._search.tuning import TUNING
from sklearn_dsm._training import TrainingRecord

AUTO = Options("auto", "auto", 3)


def ring(n, seed=0):
    random = np.random.RandomState(seed)
    angle = 2 * np.pi * random.rand(n)
    return 3 * np.stack([np.cos(angle), np.sin(angle)], 1) + 0.3 * random.standard_normal((n, 2))


def tabled(X):
    return Table(X, np.ones(len(X)), np.arange(len(X)) % 10 == 0)


class Recorded:
    """In the place of the networks: what they are given, and a value that they come to."""

    def __init__(self, gain=0.0, stop_reason="no_change"):
        self.asked, self.candidates = [], []
        self.gain, self.ended = gain, stop_reason == "callback"
        self.best_value = -np.inf

    def train_on(self, base, prune_below=-np.inf):
        self.asked.append((base, prune_below))
        self.candidates.append(base)
        self.best_value = max(self.best_value, base.value + self.gain)

    def keep_without_network(self, base):
        self.asked.append((base, None))
        self.candidates.append(base)

    def best(self):
        return max(self.candidates, key=lambda base: base.value)


@pytest.fixture
def chosen():
    """(table, gain, options, budget) -> what the networks were asked for."""

    def run(table, gain=0.0, options=AUTO, budget=None, **outcome):
        networks = Recorded(gain, **outcome)
        random = np.random.RandomState(0)
        select(table, options, networks, budget or Budget(None), random, Progress())
        return networks.asked

    return run


def test_a_network_corrects_the_gaussian_and_then_the_base_density_that_it_did_not_beat(chosen):
    (start, prune_below), (best, alone) = chosen(tabled(ring(1000)))
    assert len(start.reference.weights_) == 1 and len(best.reference.weights_) > 3
    assert start.value < prune_below == pytest.approx(best.value)
    assert best.value < alone == best.expected_value_alone


def test_a_network_that_beats_the_base_densities_is_the_only_one(chosen):
    assert len(chosen(tabled(ring(1000)), gain=10.0)) == 1


def test_a_callback_ends_the_selection_with_the_best_base_density(chosen):
    (_, prune_below), (best, never) = chosen(tabled(ring(1000)), stop_reason="callback")
    assert best.value == pytest.approx(prune_below) and never is None


@pytest.mark.parametrize("reference", ["gaussian", "gmm", None])
def test_what_was_asked_for_is_corrected_alone_and_never_pruned(chosen, reference):
    ((base, prune_below),) = chosen(tabled(ring(1000)), options=Options(reference, "auto", 3))
    assert prune_below == -np.inf
    assert (len(base.reference.weights_) > 1) == (reference == "gmm")


def test_base_densities_know_their_value(chosen):
    for base, _ in chosen(tabled(ring(1000))):
        assert base.value == pytest.approx(base.split.score(base.reference.score_samples))


class Hurried(Budget):
    """Time for so many sizes of mixtures until one leads, and plenty later on."""

    def __init__(self, n_sizes):
        super().__init__(1e6)
        self.n_sizes = n_sizes

    def left(self, until=1.0):
        if until > 2 * selection.TUNING.leading_until:
            return super().left(until)
        self.n_sizes -= 1
        return self.n_sizes + 1


def test_the_best_base_density_grows_in_the_time_that_is_left(chosen, monkeypatch):
    monkeypatch.setattr(FlowSearch, "suits", lambda split: False)
    families, fitted = [], selection.fit_bases

    def watched(*options):
        start, found = fitted(*options)
        families.extend((family, family.value) for family in found)
        return start, found

    monkeypatch.setattr(selection, "fit_bases", watched)
    (_, prune_below), (grown, _) = chosen(tabled(ring(3000)), budget=Hurried(4))
    early = max(value for _, value in families)
    assert prune_below > early + 0.01 and grown.value > early + 0.01


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_best_base_density_counts_where_no_time_is_left_to_correct_it(monkeypatch):
    table, budget = ring(2000), Budget(1e6)
    fitted = selection.fit_bases

    def late(*options):
        found = fitted(*options)
        options[2].seconds = 0.0
        return found

    monkeypatch.setattr(selection, "fit_bases", late)
    monkeypatch.setattr("sklearn_dsm.density._dsm.Budget", lambda seconds: budget)
    density = DSMDensityEstimator(max_epochs=1, random_state=0).fit(table)
    assert not density.network_weights_ and density.stop_reason_ == "max_fit_time"
    assert len(density.reference_.weights_) > 3


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("fault", ["diverges", "no time"])
def test_what_the_first_network_brought_outlives_the_second(monkeypatch, fault):
    """The fit ends with the best base density, and tells of the epochs there were."""
    budget, plain, calls = Budget(1e6), Correction._train, []

    def trained(correction, base, prune_below):
        calls.append(base)
        if len(calls) == 2:
            raise NonFiniteLossError("diverged")
        record = plain(correction, base, prune_below)
        if fault == "no time":
            correction.budget.seconds = 0.0
        return record

    monkeypatch.setattr(Correction, "_train", trained)
    monkeypatch.setattr("sklearn_dsm.density._dsm.Budget", lambda seconds: budget)
    options = {"max_epochs": 5, "learning_rate": 1e-6, "random_state": 0}
    density = DSMDensityEstimator(**options).fit(ring(1000))
    assert len(calls) == (2 if fault == "diverges" else 1)
    assert not density.network_weights_ and len(density.reference_.weights_) > 3
    assert density.n_epochs_ == 2 and density.stop_reason_ == "pruned"


def test_a_network_that_diverges_first_ends_the_fit(monkeypatch):
    def diverged(correction, base, prune_below):
        raise NonFiniteLossError("diverged")

    monkeypatch.setattr(Correction, "_train", diverged)
    with pytest.raises(NonFiniteLossError):
        DSMDensityEstimator(random_state=0).fit(ring(200))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_network_scored_on_some_rows_is_compared_with_the_best_base_density(monkeypatch):
    """Its value is then nearer to that on all rows than by comparison with a Gaussian."""
    monkeypatch.setattr("sklearn_dsm._evaluation.latent_density.MAX_SCORED_ROWS", 64)
    errors, plain = [], Correction._scored

    def scored(correction, candidate):
        found, rows = plain(correction, candidate)
        assert rows == slice(64) and correction.yardstick.value > candidate.base_value + 0.3
        builder, base = correction.builder, candidate.base
        density = builder.density(base.reference, candidate.weights, "ode", found.plan)
        value = base.split.score(lambda Z: density.log_density(Z)[0])
        correction.yardstick = None
        by_base, _ = plain(correction, candidate)
        errors.append((abs(found.value - value), abs(by_base.value - value)))
        return found, rows

    monkeypatch.setattr(Correction, "_scored", scored)
    monkeypatch.setattr(MixtureSearch, "expected_value", lambda search, budget: -np.inf)
    DSMDensityEstimator(max_epochs=15, random_state=0).fit(ring(6000))
    assert errors[0][0] < 0.5 * errors[0][1]


def test_the_time_of_mixtures_begins_after_the_transforms():
    """Where transforms take long there are mixtures to choose between nevertheless."""
    budget = Budget(20.0)
    budget.taken += 0.5 * budget.seconds
    _, families = fit_bases(tabled(ring(600)), AUTO, budget, np.random.RandomState(0))
    assert max(len(f.gains) for f in families if isinstance(f, MixtureSearch)) > 0


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_network_is_pruned_where_it_is_behind(monkeypatch):
    """It has a fifth of its epochs for that, and its density is not considered."""
    records, plain = [], Correction._train

    def trained(correction, base, prune_below):
        records.append(plain(correction, base, prune_below))
        return records[-1]

    monkeypatch.setattr(Correction, "_train", trained)
    options = {"max_epochs": 10, "learning_rate": 1e-6, "random_state": 0}
    density = DSMDensityEstimator(**options).fit(ring(1000))
    assert records[0].stop_reason == "pruned" and records[0].n_epochs == 2
    assert len(density.reference_.weights_) > 3 and len(records) == 2


def test_a_flow_is_among_the_base_densities_where_there_are_features_and_rows_for_it():
    random = np.random.RandomState(0)
    for X, suits in ((ring(600), True), (ring(600)[:, :1], False), (ring(300), False)):
        _, families = fit_bases(tabled(X), AUTO, Budget(None), random)
        assert any(isinstance(family, FlowSearch) for family in families) is suits
        assert all(isinstance(family, Family) for family in families)
        assert sum(isinstance(family, MixtureSearch) for family in families) >= 1


def test_the_gaussian_to_correct_is_that_of_a_space_which_mixtures_prefer():
    table = tabled(np.exp(ring(1000)))
    start, families = fit_bases(table, AUTO, Budget(None), np.random.RandomState(0))
    values = [gaussian(split).value for family in spaces(table, "auto") for split in family]
    assert start.value in values and start.value <= max(values)
    assert max(family.value for family in families) >= start.value


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_an_interrupt_of_the_first_network_keeps_a_better_base_density(monkeypatch):
    def interrupted(correction, base, prune_below):
        return TrainingRecord(n_epochs=1, stop_reason="interrupted")

    monkeypatch.setattr(Correction, "_train", interrupted)
    density = DSMDensityEstimator(random_state=0)
    with pytest.raises(KeyboardInterrupt):
        density.fit(ring(1000))
    assert len(density.reference_.weights_) > 3
    assert density.stop_reason_ == "interrupted" and density.n_epochs_ == 1


def test_base_densities_see_some_of_many_rows_and_networks_all(monkeypatch):
    """Where time is limited: transforms of all of them would take it."""
    trained, plain = [], correction_module.train

    def watched(model, loss, levels, rows, *others):
        trained.append(len(rows[0]))
        return plain(model, loss, levels, rows, *others)

    monkeypatch.setattr(correction_module, "train", watched)
    monkeypatch.setattr(selection, "TUNING", replace(TUNING, searched_rows=500))
    searched, plain_spaces = [], selection.spaces

    def seen(table, marginals):
        searched.append(len(table.X))
        return plain_spaces(table, marginals)

    monkeypatch.setattr(selection, "spaces", seen)
    for limit, n_searched in ((1000.0, 500), (None, 2000)):
        DSMDensityEstimator(max_epochs=2, max_fit_time=limit, random_state=0).fit(ring(2000))
        assert searched.pop() == n_searched and set(trained) == {1800}


def test_some_rows_of_a_table_keep_their_order_and_their_weights():
    X, weight = ring(300), np.arange(1.0, 301.0)
    whole = Table(X, weight / weight.mean(), np.arange(300) % 10 == 0)
    part = whole.some(100, np.random.RandomState(0))
    which = [int(np.flatnonzero((row == X).all(1))[0]) for row in part.X]
    assert which == sorted(set(which)) and len(which) == 100
    np.testing.assert_allclose(part.weight, weight[which] / weight[which].mean())
    np.testing.assert_array_equal(part.held_out, whole.held_out[which])
    assert whole.some(300, np.random.RandomState(0)) is whole
