"""One thread or all of them, by a clock that the test winds."""

import threading
from types import SimpleNamespace

import pytest
import torch

from sklearn_dsm._training import TrainingSettings, threads

GIVEN = 3


@pytest.fixture(autouse=True)
def given_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(GIVEN)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def clock(monkeypatch):
    fake = SimpleNamespace(now=0.0)
    monkeypatch.setattr(threads.time, "perf_counter", lambda: fake.now)
    return fake


def settings(**changes):
    common = {"max_epochs": 1, "batch_size": 1, "learning_rate": 1.0, "n_iter_no_change": 1}
    return TrainingSettings(**(common | {"max_fit_time": 60.0} | changes))


def trained(choice, clock, seconds_of_step, until):
    """Make steps up to a time; the numbers of threads after each of them."""
    numbers = []
    while clock.now < until:
        choice.on_batch_begin(None)
        clock.now += seconds_of_step(torch.get_num_threads())
        choice.on_batch_end(None)
        numbers.append(torch.get_num_threads())
    return numbers


def quiet(n_threads):
    return 0.03 / n_threads


def busy(n_threads):
    return 0.03 if n_threads == 1 else 0.3


@pytest.mark.parametrize(("machine", "fastest"), [(quiet, GIVEN), (busy, 1)])
def test_training_takes_the_number_of_threads_whose_steps_are_faster(clock, machine, fastest):
    with threads.ThreadChoice(settings()) as choice:
        numbers = trained(choice, clock, machine, 8.0)
    assert numbers[-1] == fastest
    assert numbers.count(fastest) > 0.9 * len(numbers)


@pytest.mark.parametrize(("first", "then", "fastest"), [(quiet, busy, 1), (busy, quiet, GIVEN)])
def test_the_choice_follows_the_machine(clock, first, then, fastest):
    with threads.ThreadChoice(settings()) as choice:
        trained(choice, clock, first, 8.0)
        numbers = trained(choice, clock, then, 30.0)
    assert numbers[-1] == fastest


def test_on_a_quiet_machine_little_time_goes_to_trials(clock):
    with threads.ThreadChoice(settings()) as choice:
        n_steps = len(trained(choice, clock, quiet, 60.0))
    assert n_steps > 0.99 * 60.0 / quiet(GIVEN)


def test_the_number_is_put_back_after_an_error(clock):
    with pytest.raises(ZeroDivisionError), threads.ThreadChoice(settings()) as choice:
        trained(choice, clock, busy, 8.0)
        assert torch.get_num_threads() == 1
        raise ZeroDivisionError
    assert torch.get_num_threads() == GIVEN


@pytest.mark.parametrize("changes", [{"max_fit_time": None}, {"device": "cuda"}])
def test_without_a_limit_and_on_a_gpu_the_threads_stay(clock, changes):
    with threads.ThreadChoice(settings(**changes)) as choice:
        assert set(trained(choice, clock, busy, 8.0)) == {GIVEN}


def test_threads_of_a_program_do_not_choose_for_each_other(clock):
    numbers = set()

    def work():
        torch.set_num_threads(GIVEN)
        with threads.ThreadChoice(settings()) as choice:
            numbers.update(trained(choice, clock, busy, 8.0))

    worker = threading.Thread(target=work)
    worker.start()
    worker.join()
    assert numbers == {GIVEN}
