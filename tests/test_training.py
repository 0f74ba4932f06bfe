"""Laws of the training loop."""

from __future__ import annotations

import gc
import math
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_dsm import DSM, VP, NonFiniteLossError
from sklearn_dsm._core.averaging import WeightAverage
from sklearn_dsm._core.likelihood import bound as bounds
from sklearn_dsm._core.likelihood.bound import HeldOutBound
from sklearn_dsm._core.losses.loss import TrainingRows
from sklearn_dsm._core.losses.registry import LOSSES
from sklearn_dsm._core.noise.level_sampling import LogisticLevels
from sklearn_dsm._core.precision import half_precision
from sklearn_dsm._core.scores.corrected import CorrectedScore
from sklearn_dsm._core.scores.network import ScoreNetwork
from sklearn_dsm._training import TrainingSettings, train
from sklearn_dsm._training.callbacks import MIN_LAST_EPOCHS, Schedule
from sklearn_dsm._training.judges import GainJudge
from sklearn_dsm._training.net import RecordedNet

LEVELS = LogisticLevels(*VP().log_snr_range)
N_TRAIN, N_HELD_OUT, HELD_OUT_DRAWS = 500, 256, 8192


class Recorded(DSM):
    """Denoising score matching that remembers the rows of every batch."""

    def __init__(self):
        self.batches = []

    def __call__(self, model, examples, levels, generator):
        self.batches.append((examples.rows.clone(), examples.weight.clone()))
        return DSM()(model, examples, levels, generator)


class Interrupting(DSM):
    """Denoising score matching that is interrupted in a batch."""

    def __init__(self, batch):
        self.batch, self.n_batches = batch, 0

    def __call__(self, model, examples, levels, generator):
        self.n_batches += 1
        if self.n_batches == self.batch:
            raise KeyboardInterrupt
        return DSM()(model, examples, levels, generator)


def settings(**changes):
    common = {
        "max_epochs": 5,
        "batch_size": 100,
        "learning_rate": 0.02,
        "n_iter_no_change": 50,
        "min_batches": 10,
        "held_out_draws": HELD_OUT_DRAWS,
    }
    return TrainingSettings(**(common | changes))


@pytest.fixture
def fresh(bimodal, generator):
    """seed -> an untrained model."""

    def build(seed=0):
        network = ScoreNetwork(1, (12, 12), generator(seed)).double()
        return CorrectedScore(bimodal(3.0).gaussian, network)

    return build


@pytest.fixture
def table(bimodal):
    """(n, seed) -> rows of a bimodal density with weights of one."""
    ones = partial(torch.ones, dtype=torch.float64)
    return lambda n, seed: TrainingRows(bimodal(3.0).draw(n, seed), ones(n))


@pytest.fixture
def fit(fresh, table, generator):
    """Train a fresh model; the record."""

    def run(seed=0, loss=None, on_epoch=lambda record: False, n_train=N_TRAIN, **changes):
        return train(
            fresh(seed),
            loss or DSM(),
            LEVELS,
            table(n_train, 1),
            table(N_HELD_OUT, 2),
            settings(**changes),
            generator(seed),
            on_epoch,
        )

    return run


def equal(first, second):
    return first.keys() == second.keys() and all(
        np.array_equal(first[name], second[name]) for name in first
    )


def test_every_epoch_is_recorded(fit):
    seen = []
    record = fit(on_epoch=lambda record: seen.append((record.n_epochs, record.gains[-1])))
    assert record.stop_reason == "max_epochs"
    assert record.n_epochs == len(record.loss_curve) == len(record.gains) == 5
    assert seen == list(enumerate(record.gains, 1))
    assert record.best_gain == max(record.gains) > 0
    assert all(math.isfinite(loss) for loss in record.loss_curve)


def test_weights_are_arrays_that_fit_the_network(fit, fresh):
    weights, state = fit().weights, fresh().network.state_dict()
    assert weights.keys() == state.keys()
    for name, value in weights.items():
        assert type(value) is np.ndarray
        assert value.shape == tuple(state[name].shape)
        assert np.isfinite(value).all()


def test_the_best_gain_is_that_of_the_returned_weights(fit, fresh, table, generator):
    """The held-out draws are the generator's first."""
    record, rows, model = fit(), table(N_HELD_OUT, 2)[0], fresh()
    n_draws = HELD_OUT_DRAWS // (2 * N_HELD_OUT)
    bound = HeldOutBound.draw(rows, LEVELS, n_draws, generator(0))
    model.network.load_state_dict({k: torch.from_numpy(v) for k, v in record.weights.items()})
    assert float(bound.gain(model).mean()) == pytest.approx(record.best_gain, rel=1e-12)


def test_held_out_weights_weigh_the_gain(fresh, table, generator):
    rows = table(N_HELD_OUT, 2).rows
    weight = 2 * torch.rand(N_HELD_OUT, generator=generator(5), dtype=torch.float64)
    weight = weight / weight.mean()
    model = fresh()
    record = train(
        model,
        DSM(),
        LEVELS,
        table(N_TRAIN, 1),
        TrainingRows(rows, weight),
        settings(),
        generator(0),
    )
    bound = HeldOutBound.draw(rows, LEVELS, HELD_OUT_DRAWS // (2 * N_HELD_OUT), generator(0))
    model.network.load_state_dict({k: torch.from_numpy(v) for k, v in record.weights.items()})
    assert float((weight * bound.gain(model)).mean()) == pytest.approx(record.best_gain, rel=1e-12)


@pytest.mark.parametrize(
    ("n_features", "n_train", "n_held_out", "seed"),
    [(1, 12, 256, 0), (2, 10, 4, 1), (1, 6, 2, 18), (4, 30, 2, 2)],
)
def test_no_epoch_loses_against_the_reference(
    mixture, generator, n_features, n_train, n_held_out, seed
):
    """Held-out rows set the gain of each band of levels, so a correction cannot do harm."""
    problem, random = mixture(n_features, 2, seed).whitened(), generator(seed)
    network = ScoreNetwork(n_features, (16, 16), random).double()
    tables = [
        TrainingRows(problem.draw(n, seed + shift), torch.ones(n, dtype=torch.float64))
        for n, shift in ((n_train, 0), (n_held_out, 1000))
    ]
    hasty = settings(
        max_epochs=12, batch_size=32, learning_rate=0.05, min_batches=30, held_out_draws=512
    )
    model = CorrectedScore(problem.gaussian, network)
    record = train(model, DSM(), LEVELS, *tables, hasty, random)
    assert min(record.gains) >= -1e-15


def test_dropout_is_off_where_the_gain_is_measured(bimodal, table, generator):
    def model():
        network = ScoreNetwork(1, (12, 12), generator(0), dropout=0.3).double()
        return CorrectedScore(bimodal(3.0).gaussian, network)

    rows = table(N_HELD_OUT, 2)
    record = train(model(), DSM(), LEVELS, table(N_TRAIN, 1), rows, settings(), generator(0))
    bound = HeldOutBound.draw(rows[0], LEVELS, HELD_OUT_DRAWS // (2 * N_HELD_OUT), generator(0))
    best = model().eval()
    best.network.load_state_dict({k: torch.from_numpy(v) for k, v in record.weights.items()})
    assert float(bound.gain(best).mean()) == pytest.approx(record.best_gain, rel=1e-12)


def test_the_gain_stays_below_the_truth_and_approaches_it(fit, table, bimodal, clean):
    """No score gains more than log p / g on average."""
    problem, rows = bimodal(3.0), table(N_HELD_OUT, 2)[0]
    gap = problem.log_density(rows) - problem.gaussian.log_density(rows, clean)
    record = fit(max_epochs=30, min_batches=20)
    noise = 4 * gap.std() / math.sqrt(HELD_OUT_DRAWS)
    assert 0.8 * gap.mean() < record.best_gain < gap.mean() + noise


def test_weights_that_ran_away_are_worth_nothing(fresh, table, generator):
    model, (rows, weight, *_) = fresh(), table(N_HELD_OUT, 2)
    judge = GainJudge(HeldOutBound.draw(rows, LEVELS, 4, generator(0)), weight, residual=True)
    assert judge.measure(model)[0] == 0
    with torch.no_grad():
        model.network.output.fill_(1e200)
    assert judge.measure(model)[0] == -math.inf


def test_one_epoch_trains(fit):
    """The step size must not be zero in the only epoch there is."""
    record = fit(max_epochs=1)
    assert record.n_epochs == 1
    assert record.gains[0] != 0
    assert record.weights is not None


def test_the_last_epoch_trains(fresh, table, generator):
    model, seen = fresh(), []

    def remember(record):
        seen.append(model.network.output.detach().clone())

    rows = table(N_TRAIN, 1), table(N_HELD_OUT, 2)
    train(model, DSM(), LEVELS, *rows, settings(max_epochs=4), generator(0), remember)
    assert len(seen) == 4
    assert not any(torch.equal(first, second) for first, second in pairwise(seen))


def test_true_from_the_hook_stops(fit):
    record = fit(on_epoch=lambda record: record.n_epochs == 3, max_epochs=50)
    assert record.stop_reason == "callback"
    assert record.n_epochs == len(record.gains) == 3


def test_no_change_stops_and_leaves_no_weights_where_nothing_gained(fit):
    record = fit(learning_rate=1e-300, n_iter_no_change=4, max_epochs=50)
    assert record.stop_reason == "no_change"
    assert record.n_epochs == 4 + MIN_LAST_EPOCHS
    assert record.weights is None
    assert record.best_gain == 0.0


def test_an_interrupt_after_an_epoch_keeps_the_best_weights(fit):
    best = {}

    def interrupt(record):
        best[record.best_gain] = record.weights
        if record.n_epochs == 6:
            raise KeyboardInterrupt

    record = fit(on_epoch=interrupt, max_epochs=50)
    assert record.stop_reason == "interrupted"
    assert record.n_epochs == 6
    assert record.best_gain == max(best)
    assert equal(record.weights, best[max(best)])


def test_an_interrupt_changes_nothing_before_it(fit):
    """The epochs until then are those of the same fit left alone."""

    def interrupt(record):
        if record.n_epochs == 3:
            raise KeyboardInterrupt

    stopped = fit(on_epoch=interrupt, max_epochs=8)
    finished = fit(max_epochs=8)
    assert stopped.loss_curve == finished.loss_curve[:3]
    assert stopped.gains[:3] == finished.gains[:3]


def test_an_interrupt_after_an_epoch_records_every_epoch_once(fit):
    def interrupt(record):
        if record.n_epochs == 3:
            raise KeyboardInterrupt

    record = fit(on_epoch=interrupt)
    assert len(record.gains) == len(record.loss_curve) == record.n_epochs == 3


def test_an_interrupt_in_the_first_epoch_keeps_what_it_learned(fit):
    record = fit(loss=Interrupting(batch=31), max_epochs=50, min_batches=40)
    assert record.stop_reason == "interrupted"
    assert record.n_epochs == 0
    assert record.best_gain > 0
    assert record.weights is not None


def test_an_interrupt_before_the_first_step_ends_with_no_weights(fit):
    record = fit(loss=Interrupting(batch=1))
    assert record.weights is None
    assert record.best_gain == 0.0


def test_max_fit_time_stops_with_the_best_weights(fit):
    started = time.perf_counter()
    record = fit(max_fit_time=0.5, max_epochs=10**6, n_iter_no_change=10**6)
    assert time.perf_counter() - started < 10
    assert record.stop_reason == "max_fit_time"
    assert record.n_epochs == len(record.gains) == len(record.loss_curve)
    assert record.best_gain >= max(record.gains) > 0
    assert record.weights is not None


def test_steps_too_large_name_the_learning_rate(fit):
    with pytest.raises(NonFiniteLossError, match=r"Lower learning_rate \(now 1e\+30\)"):
        fit(learning_rate=1e30)


@pytest.mark.parametrize(
    ("n_train", "batch_size", "min_batches"),
    [(30, 100, 4), (30, 10, 2), (35, 10, 2), (500, 100, 3), (7, 64, 5)],
)
def test_an_epoch_has_equal_batches_and_takes_every_row_evenly(
    fit, table, n_train, batch_size, min_batches
):
    loss = Recorded()
    changes = {"batch_size": batch_size, "min_batches": min_batches, "max_epochs": 2}
    fit(loss=loss, n_train=n_train, **changes)
    n_batches = max(math.ceil(n_train / batch_size), min_batches)
    assert len(loss.batches) == 2 * n_batches
    assert all(len(rows) == batch_size for rows, _ in loss.batches)
    rows = table(n_train, 1)[0]
    epochs = loss.batches[:n_batches], loss.batches[n_batches:]
    orders = [torch.cat([rows for rows, _ in epoch]) for epoch in epochs]
    for order in orders:
        counts = (order == rows.T).sum(0)
        assert counts.sum() == n_batches * batch_size
        assert counts.max() - counts.min() <= 1
    assert not torch.equal(*orders)


def test_rows_keep_their_weights(fresh, table, generator):
    rows = table(50, 1).rows
    loss = Recorded()
    rest = table(N_HELD_OUT, 2), settings(batch_size=20, max_epochs=1), generator(0)
    train(fresh(), loss, LEVELS, TrainingRows(rows, rows[:, 0] ** 2), *rest)
    for batch, weight in loss.batches:
        assert torch.equal(weight, batch[:, 0] ** 2)


def test_a_seed_gives_the_same_weights_to_the_bit(fit):
    first, again, other = fit(seed=3), fit(seed=3), fit(seed=4)
    assert equal(first.weights, again.weights)
    assert first.loss_curve == again.loss_curve
    assert first.gains == again.gains
    assert not equal(first.weights, other.weights)


def test_fits_in_two_threads_do_not_disturb_each_other(fit):
    alone = [fit(seed=seed) for seed in (3, 4)]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda seed: fit(seed=seed), (3, 4)))
    for first, second in zip(alone, together, strict=True):
        assert equal(first.weights, second.weights)
        assert first.gains == second.gains


def test_the_global_random_states_are_left_alone(fit):
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()
    fit()
    assert torch.equal(torch_state, torch.get_rng_state())
    for before, after in zip(numpy_state, np.random.get_state(), strict=True):
        assert np.array_equal(before, after)


def test_single_precision_trains_as_double_does(fresh, table, generator):
    """The estimator's own precision: rows and network in float32."""
    single = [
        TrainingRows(*(part.float() for part in table(n, s)[:2]))
        for n, s in ((N_TRAIN, 1), (256, 2))
    ]
    model = fresh().float()
    record = train(model, DSM(), LEVELS, *single, settings(), generator(0))
    assert record.best_gain > 0
    assert record.weights["output"].dtype == np.float32


@pytest.mark.parametrize("verbose", [0, 4])
def test_progress_is_printed_only_when_asked_for(fit, capsys, verbose):
    fit(verbose=verbose)
    assert capsys.readouterr().out.count("epoch") == (5 if verbose else 0)


# The average of the weights, half precision, and the end of a fit


def test_the_average_of_constant_weights_is_these_weights():
    module = torch.nn.Linear(3, 2)
    average = WeightAverage(module)
    for _ in range(20):
        average.update(module)
    torch.testing.assert_close(average.module.weight, module.weight)
    assert average.module.weight is not module.weight


def test_the_average_weighs_weights_by_the_products_of_the_decays(monkeypatch):
    monkeypatch.setattr("sklearn_dsm._core.averaging.EMA_DECAY", 0.9)
    module = torch.nn.Linear(1, 1, bias=False)
    average, expected = WeightAverage(module), module.weight.item()
    for n in range(1, 200):
        with torch.no_grad():
            module.weight.fill_(math.sin(n))
        average.update(module)
        decay = min(0.9, n / (9 + n))
        expected = decay * expected + (1 - decay) * math.sin(n)
    assert average.module.weight.item() == pytest.approx(expected, abs=1e-4)


def test_half_precision_changes_the_loss_by_its_rounding(bimodal, generator):
    network = ScoreNetwork(1, (32, 32), generator(0))
    with torch.no_grad():
        network.output += 0.3
    model = CorrectedScore(bimodal(3.0).gaussian, network).float()
    rows = bimodal(3.0).draw(400, 1).float()

    def loss():
        return DSM()(model, TrainingRows(rows, torch.ones(400)), LEVELS, generator(5)).item()

    full = loss()
    with half_precision(torch.device("cpu")):
        half = loss()
    assert half == pytest.approx(full, rel=0.05)


# The compiler imports what is deprecated.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "loss",
    ["dsm", *(pytest.param(loss, marks=pytest.mark.slow) for loss in ("bsm", "fd_ssm", "lcss"))],
)
def test_a_compiled_network_trains_as_an_eager_one(fit, loss):
    """Also where copies of it are averaged and frozen."""
    eager, compiled = (
        fit(loss=LOSSES[loss](), max_epochs=2, compile=compile) for compile in (False, True)
    )
    assert compiled.loss_curve == pytest.approx(eager.loss_curve, rel=1e-6)
    assert compiled.weights.keys() == eager.weights.keys()
    for name, weight in eager.weights.items():
        np.testing.assert_allclose(compiled.weights[name], weight, atol=1e-6)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiler_that_fails_is_named_with_the_way_out(fit, monkeypatch):
    def broken(graph, inputs):
        raise OSError("no compiler here")

    plain = ScoreNetwork.compile
    monkeypatch.setattr(ScoreNetwork, "compile", lambda self: plain(self, backend=broken))
    with pytest.raises(RuntimeError, match=r"no compiler here.*compile=False"):
        fit(compile=True)


def test_an_early_end_takes_the_rate_to_zero():
    group, plan = {"lr": 0.0}, settings(max_epochs=1000, learning_rate=1.0)
    net = SimpleNamespace(history=[None], optimizer_=SimpleNamespace(param_groups=[group]))
    schedule = Schedule(plan)
    schedule.on_train_begin(net)

    def rate(epoch):
        net.history = [None] * (epoch + 1)
        schedule.on_batch_begin(net)
        return group["lr"]

    for _ in range(50):
        rate(0)
    cosine = [0.5 * (1 + math.cos(math.pi * epoch / 1000)) for epoch in range(110)]
    assert rate(99) == pytest.approx(cosine[99])
    schedule.end_early(20)
    assert schedule.first_last_epochs == (20, 28)
    assert [rate(epoch) for epoch in range(20, 29)] == pytest.approx(
        [cosine[20 + k] * (1 - k / 8) for k in range(9)]
    )
    schedule.end_early(100)
    assert schedule.first_last_epochs == (100, 130)


@pytest.mark.parametrize(
    ("max_epochs", "max_fit_time", "patience"),
    [(1000, None, 15), (1000, 1e6, 15), (10**9, 100.0, 20)],
    ids=["epochs", "epochs first", "time first"],
)
def test_patience_follows_the_time_of_a_run_that_ends_by_it(max_epochs, max_fit_time, patience):
    """After 10 epochs in a tenth of the time there will be 100, and a fifth of them is 20."""
    plan = settings(max_epochs=max_epochs, max_fit_time=max_fit_time, n_iter_no_change=15)
    schedule = Schedule(plan)
    schedule.on_train_begin(None)
    schedule.started -= 10
    assert schedule.patience(10) == pytest.approx(patience, rel=1e-2)


def test_what_would_stay_behind_is_pruned(fit):
    """If it gained as much whenever the epochs double; after the first epoch that says so."""
    plan = {"max_epochs": 40, "learning_rate": 1e-3}
    whole = fit(**plan)

    def expected(epoch: int) -> float:
        early, half = max(whole.gains[:epoch]), max([0.0, *whole.gains[: epoch // 2]])
        return early + math.log2(40 / epoch) * (early - half)

    def pruned(below: float, first: int, last: int) -> int | None:
        record = fit(**plan, prune_below=below, pruned_between=(first / 40, last / 40))
        assert record.gains == whole.gains[: record.n_epochs]
        return record.n_epochs if record.stop_reason == "pruned" else None

    values = {epoch: expected(epoch) for epoch in range(8, 21)}
    below = (values[8] + values[20]) / 2
    assert values[20] < below - 0.1
    first = min(epoch for epoch, value in values.items() if value < below)
    assert 8 < first < 20 and pruned(below, 8, 20) == first
    assert pruned(below, 8, first - 1) is None
    assert pruned(values[8] + 1e-3, 8, 20) == 8
    assert pruned(1e9, 4, 20) == 4


def test_an_early_end_goes_back_to_the_best_weights(fit):
    """Unlike the training loss, the held-out gains do not fall behind in the last epochs."""
    record = fit(max_epochs=400, n_iter_no_change=3, learning_rate=0.05)
    assert record.stop_reason == "no_change"
    waited = record.n_epochs - MIN_LAST_EPOCHS
    assert record.gains[-1] > max(record.gains[:waited]) - 0.02


def test_the_held_out_gain_is_the_same_however_many_draws_are_taken_at_once(
    fresh, table, generator, monkeypatch
):
    rows, model = table(30, 2)[0], fresh()
    bound = HeldOutBound.draw(rows, LEVELS, 17, generator(0))
    with torch.no_grad():
        model.network.output.normal_(generator=generator(1))
    gains = []
    for n_rows, most in ((1, 30), (70, 30), (10**6, 30), (10**6, 7)):
        monkeypatch.setitem(bounds.ROWS_AT_ONCE, "cpu", n_rows)
        monkeypatch.setitem(bounds.MAX_ROWS, "cpu", most)
        gains.append(bound.gain(model))
    for gain in gains[1:]:
        torch.testing.assert_close(gain, gains[0], rtol=1e-10, atol=1e-12)


def test_a_net_and_its_recording_go_with_their_last_reference():
    """And do not wait for a collection of cycles, during which a GPU's memory would be held."""
    net = RecordedNet(
        nn.Linear,
        nn.Identity,
        module__in_features=1,
        module__out_features=1,
        batch_loss=lambda module, rows: module(rows).mean(),
        generator=torch.Generator(),
    ).initialize()
    step = weakref.ref(net.step)
    gc.collect()
    gc.disable()
    try:
        del net
        assert step() is None
    finally:
        gc.enable()
