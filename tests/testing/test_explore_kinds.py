"""`explore` on every kind of step: nothing is found where nothing is wrong, and what is planted is found."""

from __future__ import annotations

import copy
from typing import Any, cast

import pytest

from saga import START, Misconfigured, Saga
from saga.engine import actions, advance
from saga.engine import replies as replies_module
from saga.engine.decision import Decision
from saga.engine.draft import Draft
from saga.engine.settle import turn_back
from saga.engine.state import Cause, Status, Waits
from saga.testing import Replies, Report, explore
from saga.testing.exploration.judge import Judge
from saga.testing.exploration.moves import faults, go_on
from saga.testing.exploration.samples import Samples
from saga.testing.exploration.watched import Watch
from saga.testing.exploration.world import Setting, World
from tests.testing.many_kinds import (
    STARTED,
    Note,
    Order,
    Ordered,
    Picked,
    Release,
    Reserve,
    Ship,
    Verdict,
    asking,
    awaiting,
    branching,
    child,
    empty,
    mapped,
    parent,
    renewing,
    ship,
)


def other() -> Saga[Ordered, Order]:
    saga = empty("other")
    saga.step(after=START, compensation=None)(ship)
    return saga


EXPRESS = STARTED.model_copy(update={"express": True})
BOTH_VERDICTS: Replies = {Verdict: [Verdict(good=True), Verdict(good=False)]}


@pytest.mark.parametrize(
    ("saga", "more"),
    [
        (mapped(), {}),
        (mapped(at_once=1), {}),
        (branching(), {}),
        (branching(), {"start": EXPRESS, "no_effect": [Note]}),
        (awaiting(), {}),
        (awaiting(remedy=False), {}),
        (awaiting(after_pivot=True), {}),
        (asking(), {"replies": BOTH_VERDICTS}),
        (asking(patient=True), {}),
        (child(), {}),
        (parent(child(), other()), {}),
        (renewing(), {"no_effect": [Ship]}),
    ],
    ids=lambda value: value.name if isinstance(value, Saga) else "+".join(value),
)
def test_no_two_faults_break_a_promise_whatever_the_kind(saga: Saga[Any, Any], more: dict[str, Any]) -> None:
    faults = 1 if saga.name == "mapped" else 2  # with two it takes seconds; checkout has a mapped step, and plays two
    report = explore(saga, faults=faults, **{"start": STARTED, **more})
    report.assert_ok()
    assert report.outcomes["completed"] > 2
    assert report.outcomes["compensated"] > 1


def faults_of(saga: Saga[Any, Any], replies: Replies | None = None) -> set[str]:
    """In words, every fault that is tried along the run without any."""
    watch, samples = Watch(saga), Samples(saga, STARTED, replies or {})
    world: World | None = World(Setting(watch.saga, samples, Judge(watch, (), ())))
    found: set[str] = set()
    while world is not None:
        found |= {fault.words for fault in faults(world)}
        world = go_on(world)
    return found


def test_what_is_awaited_comes_never_twice_and_before_its_turn() -> None:
    tried = faults_of(awaiting())
    event = "the event for picked (Picked)"
    assert {f"{event} never comes", f"{event} comes twice"} <= tried
    early = {fault for fault in tried if fault.startswith(f"{event} comes before its turn")}
    assert f"{event} comes before its turn, after: nothing at all" in early, "it may come before the start"
    assert f"{event} comes before its turn, after: shop says shop.ordered.v1" in early


def test_an_answer_comes_never_and_may_be_another_one() -> None:
    tried = faults_of(asking(), BOTH_VERDICTS)
    assert "the answer to verdict (Verdict) is Verdict(good=False)" in tried
    assert "the answer to verdict (Verdict) never comes" in tried
    assert not any("before its turn" in fault for fault in tried), "nobody answers what was not asked"


def test_a_child_ends_in_each_way_and_is_never_lost() -> None:
    tried = faults_of(parent(child(), other()))
    name = "delegate (the saga child)"
    assert {f"{name} is compensated", f"{name} cannot start", f"{name} comes twice", f"the answer to {name} is lost"} <= tried
    assert f"{name} is lost" not in tried


def test_each_item_has_its_faults_and_they_overtake_each_other() -> None:
    tried = faults_of(mapped())
    for item in ("reserve/0 (Reserve)", "reserve/1 (Reserve)"):
        assert {f"{item} is refused: OutOfStock", f"{item} is lost at every attempt"} <= tried
    assert "reserve/0 (Reserve) is overtaken by all that is on its way" in tried


def test_a_cancel_a_crash_and_the_deadline_come_after_every_decision() -> None:
    tried = faults_of(child())
    for what in ("an operator cancels it", "the saga's deadline passes"):
        assert f"{what}, after: shop says shop.ordered.v1" in tried
    assert "the orchestrator crashes, after: shop says shop.ordered.v1; what it sent is sent again" in tried


# --- what is planted is found -----------------------------------------------------------------------------------------------------


def only(report: Report) -> tuple[str, str, tuple[str, ...]]:
    assert len(report.failures) == 1, str(report)
    return report.failures[0].kind, report.failures[0].step, report.failures[0].faults


def test_items_that_nothing_undoes_are_found() -> None:
    saga = copy.copy(mapped())
    saga.steps = {name: copy.copy(step) for name, step in saga.steps.items()}
    saga.steps["reserve"].compensation = saga.steps["reserve"].compensation_class = None
    kind, step, (fault,) = only(explore(saga, start=STARTED, faults=1))
    assert (kind, step) == ("left behind", "reserve")
    assert fault == "reserve/0 (Reserve) is refused: OutOfStock"


def test_an_items_compensation_that_depends_on_the_others_is_found() -> None:
    def by_place(o: Order, sku: str, _: Reserve) -> Release:
        return Release(sku=f"{len(o.reserved)}-{sku}")

    kind, step, faults = only(explore(mapped(by_place, pivot=False), start=STARTED, faults=1, no_effect=[Ship]))
    assert (kind, step) == ("varies", "reserve:compensate")
    assert len(faults) == 1


def test_a_note_that_is_wanted_and_not_undone_is_found() -> None:
    assert only(explore(branching(), start=EXPRESS, faults=1))[:2] == ("left behind", "note")


def test_a_chain_before_the_pivot_is_found() -> None:
    kid, kin = child(), other()
    saga = empty("parent")

    @saga.starts(kin, after=START)
    def follow(o: Order) -> Ordered:
        return Ordered(order_id=f"{o.order_id}-2", skus=o.skus)

    @saga.child(kid, after=follow)
    def delegate(o: Order) -> Ordered:
        return Ordered(order_id=f"{o.order_id}-1", skus=o.skus)

    report = explore(saga, start=STARTED, faults=1)
    kind, step, (fault,) = only(report)
    assert (kind, step) == ("left behind", "follow")
    assert fault == "delegate (the saga child) is compensated"
    assert "Start it after the pivot" in report.failures[0].advice
    explore(saga, start=STARTED, faults=1, no_effect=[kin]).assert_ok()


def test_an_event_for_another_instance_is_refused_as_a_sample() -> None:
    with pytest.raises(Misconfigured, match="picked would never get it"):
        explore(awaiting(), start=STARTED, replies={Picked: Picked(order_id="o2")})


# --- an engine with a mistake that only one kind of step shows -------------------------------------------------------------------------


def test_an_engine_that_forgets_the_items_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = advance._to_undo
    monkeypatch.setattr(advance, "_to_undo", lambda draft, name: "/" not in name and honest(draft, name))
    assert not explore(mapped(pivot=False), start=STARTED, faults=1, no_effect=[Ship]).ok


def test_an_engine_that_takes_a_remedy_for_a_step_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replies_module, "Waiting", ())
    assert not explore(awaiting(), start=STARTED).ok


def test_an_engine_that_drops_what_comes_early_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "saga.engine.decide._keep_stray", lambda _saga, _early, given, _event, _now, key: Decision("", 0, key, given, "unmatched")
    )
    report = explore(awaiting(), start=STARTED, faults=1)
    assert any("before its turn" in fault for failure in report.failures for fault in failure.faults), str(report)


def test_an_engine_whose_cancel_forgets_to_compensate_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def forget(draft: Draft, _data: object) -> str:
        turn_back(draft, Cause("cancelled"))
        for name in draft.state.steps:
            draft.set(name, status=Status.SKIPPED, waits=Waits.NOTHING, due=None)
        return "cancelled"

    monkeypatch.setitem(cast("dict[str, Any]", actions.ACTIONS), actions.CANCEL, forget)
    report = explore(child(), start=STARTED, faults=1)
    assert any("an operator cancels it" in fault for failure in report.failures for fault in failure.faults), str(report)
