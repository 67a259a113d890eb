"""What a rank wishes between two steps: when a checkpoint is due, and which wish is the strongest."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator

import pytest

from xmr_e2e.errors import XmrError
from xmr_e2e.signal_handlers import leaving_at_once
from xmr_e2e.training import signals
from xmr_e2e.training.signals import SIGNALS, Action, Interrupted, Signals

Make = Callable[..., Signals]


@pytest.fixture
def make() -> Iterator[Make]:
    """Makes `Signals`, which are closed when the test ends."""
    made: list[Signals] = []

    def build(minutes: float = 10.0, steps: int | None = None) -> Signals:
        made.append(Signals(minutes, steps))
        return made[-1]

    yield build
    for each in reversed(made):
        each.close()


def test_signals_end_the_process_while_nothing_is_left_to_save_and_act_as_before_afterwards() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with pytest.raises(SystemExit) as left, leaving_at_once(75):
        os.kill(os.getpid(), signal.SIGTERM)
    assert left.value.code == 75
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_a_checkpoint_is_due_after_every_so_many_steps(make: Make) -> None:
    own = make(steps=2)
    wishes = []
    for _ in range(5):
        own.step_done()
        wishes.append(own.synchronize())
        if wishes[-1] == Action.CHECKPOINT:
            own.saved()
    assert wishes == [Action.NOTHING, Action.CHECKPOINT, Action.NOTHING, Action.CHECKPOINT, Action.NOTHING]


def test_a_checkpoint_is_due_after_so_many_minutes_counted_from_the_last_one(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(signals.time, "monotonic", lambda: now)
    own = make(minutes=2.0)
    now += 119
    assert own.synchronize() == Action.NOTHING
    now += 2
    assert own.synchronize() == Action.CHECKPOINT
    own.saved()
    assert own.synchronize() == Action.NOTHING
    now += 121
    assert own.synchronize() == Action.CHECKPOINT


def test_without_a_number_of_steps_none_is_ever_enough(make: Make) -> None:
    own = make()
    assert own.synchronize() == Action.NOTHING
    for _ in range(3):
        own.step_done()
        assert own.synchronize() == Action.NOTHING


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_asks_to_stop_and_an_error_is_stronger(make: Make, number: signal.Signals) -> None:
    own = make(steps=1)
    own.step_done()
    os.kill(os.getpid(), number)
    assert own.synchronize() == Action.STOP
    own.fail(XmrError("a shard is gone"))
    assert own.synchronize() == Action.FAIL
    assert str(own.error()) == "a shard is gone"


def test_a_rank_without_an_error_says_that_another_has_one(make: Make) -> None:
    assert "another process met an error" in str(make().error())


def test_a_wait_for_a_batch_ends_at_a_signal_but_a_step_does_not(make: Make) -> None:
    own = make()
    with own.waiting():
        pass
    with pytest.raises(Interrupted), own.waiting():
        os.kill(os.getpid(), signal.SIGTERM)
        pytest.fail("the wait went on")
    os.kill(os.getpid(), signal.SIGTERM)  # outside of a wait, nothing is raised
    with pytest.raises(Interrupted), own.waiting():
        pytest.fail("a wait began after the signal")


def test_only_a_second_ctrl_c_interrupts_at_once(make: Make) -> None:
    own = make()
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
    assert own.synchronize() == Action.STOP


def test_signals_act_as_before_once_the_training_is_over(make: Make) -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    own = make()
    assert all(signal.getsignal(number) not in before for number in SIGNALS)
    own.close()
    assert [signal.getsignal(number) for number in SIGNALS] == before
