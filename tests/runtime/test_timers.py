"""The index of timers: the earliest first, one per instance, and what was settled costs nothing."""

from __future__ import annotations

from saga.engine.state import Instance, Phase, StepState
from saga.runtime.states import Slot
from saga.runtime.timers import Timers


def state(key: str, phase: Phase = Phase.RUNNING, deadline: int = 10_000, **due: int | None) -> Instance:
    steps = {name: StepState(due=at) for name, at in due.items()}
    return Instance(f"s:{key}:1", "s", key, 1, "h", 0, deadline, "d", phase=phase, steps=steps)


def slot(key: str) -> Slot:
    return Slot("s", key)


def test_what_is_due_comes_earliest_first_and_stays_until_it_is_replaced() -> None:
    timers = Timers()
    timers.set(slot("b"), state("b", pay=20))
    timers.set(slot("a"), state("a", pay=10))
    assert timers.next_due() == 10
    for _ in range(2):
        assert timers.due(20, 10) == [(slot("a"), "pay", 10), (slot("b"), "pay", 20)]
    assert timers.due(15, 10) == [(slot("a"), "pay", 10)]
    assert timers.due(20, 1) == [(slot("a"), "pay", 10)]
    assert timers.due(9, 10) == []


def test_a_settled_timer_is_gone_and_a_new_one_takes_its_place() -> None:
    timers = Timers()
    timers.set(slot("a"), state("a", pay=10))
    timers.set(slot("a"), state("a", pay=30))
    assert timers.due(29, 10) == []
    assert timers.due(30, 10) == [(slot("a"), "pay", 30)]
    timers.set(slot("a"), state("a", phase=Phase.COMPLETED, pay=30))
    assert timers.next_due() is None


def test_a_timer_that_comes_back_to_an_earlier_time_fires_once() -> None:
    timers = Timers()
    for due in (10, 30, 10, 30, 10):
        timers.set(slot("a"), state("a", pay=due))
    assert timers.due(10, 10) == [(slot("a"), "pay", 10)]


def test_an_instance_has_its_nearest_timer_and_the_deadline_is_one() -> None:
    timers = Timers()
    timers.set(slot("a"), state("a", deadline=15, pay=20, greet=None))
    assert timers.due(20, 10) == [(slot("a"), "", 15)]
