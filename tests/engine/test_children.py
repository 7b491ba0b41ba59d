"""S28: a parent waits for its child's outcome, and can have it undone; a chain is begun once. S5: versions side by side."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from saga.engine.apply import SEEN_BEFORE, apply
from saga.engine.book import Book
from saga.engine.decision import Decision, Input, Kind, Request
from saga.engine.messages import UNDO
from saga.engine.state import Instance
from saga.errors import Misconfigured
from tests.engine.families import Family
from tests.engine.kit import LINE, Ordered, Part, Run, make

CHILD = make({"x": Part(), "y": Part(after=("x",))}, name="child").saga
PARENT = make({"a": Part(), "c": Part(after=("a",), child=CHILD), "z": Part(after=("c",))}).saga
KEY = "k1-c"  # of the child


def begun(*sagas: object) -> tuple[Family, Run, Run]:
    """A family whose parent has just begun its child."""
    family = Family(*(sagas or (PARENT, CHILD)))  # type: ignore[arg-type]
    parent = family.run("shop", "k1")
    parent.start()
    if "a" in parent.instance.steps:
        parent.reply("a")
    family.settle()
    return family, parent, family.run("child", KEY)


def completed() -> tuple[Family, Run, Run]:
    """The same, once the child has completed."""
    family, parent, child = begun()
    child.reply("x")
    child.reply("y")
    family.settle()
    return family, parent, child


# --- a child ------------------------------------------------------------------------------------------------------------------------


def test_s28_a_parent_begins_its_child_and_waits_for_it() -> None:
    family, parent, child = begun()
    assert parent.led[-1] == f"begin child {KEY}"
    assert child.led == ["started", "execute x#1"]
    assert parent.instance.next_timer() == (parent.instance.deadline, ""), "a child has a deadline of its own"
    child.reply("x")
    assert child.reply("y") == ["completed", "answer done"]
    family.settle()
    assert parent.status("c") == "done"
    assert parent.log == ["a", "c x,y"], "the child's data at its end is what its parent is given"
    assert parent.led[-1] == "execute z#1"


def test_s28_a_child_that_was_compensated_counts_as_refused() -> None:
    family, parent, child = begun()
    child.reply("x")
    assert child.reply("y", "refused") == ["compensate x#1"]
    assert child.reply("x", action="compensate") == ["compensated", "answer refused"]
    family.settle()
    assert parent.status("c") == "refused"
    assert parent.led[-1] == "compensate a#1", "S12: what has no effect is not undone"


def test_s28_a_completed_child_is_undone_by_a_second_run_with_its_own_outcome() -> None:
    family, parent, child = completed()
    first = child.instance.id
    assert parent.reply("z", "refused") == [f"undo {KEY}"]
    family.settle()
    assert child.led[-2:] == ["started", "compensate y#1"]
    assert child.instance.id != first
    assert child.instance.undoes == first
    assert child.sends()[-1].subject == f"{first}:y:execute", "the second run undoes what the first one did"
    assert child.reply("y", action="compensate") == ["compensate x#1"]
    assert child.reply("x", action="compensate") == ["compensated", "answer done"]
    family.settle()
    assert parent.status("c") == "compensated"
    assert parent.led[-1] == "compensate a#1", "S22: what came before the child was undone before it, or never"
    assert [decision.seq for decision in child.decisions] == list(range(1, len(child.decisions) + 1))


def test_s15_what_the_first_run_hears_late_counts_in_the_run_that_undoes_it() -> None:
    child_saga = make({"x": Part(best_effort=True), "y": Part()}, name="child").saga
    family = Family(make({"c": Part(child=child_saga), "z": Part(after=("c",))}).saga, child_saga)
    parent = family.run("shop", KEY)
    parent.start()
    family.settle()
    child = next(run for (saga, _), run in family.runs.items() if saga == "child")
    late, asked = child.answer("x"), child.answer("x", "failed")
    child.reply("y")
    child.silence()
    family.settle()
    assert (child.outcome, child.status("x")) == ("completed", "unknown")
    parent.now = child.now
    parent.reply("z", "refused")
    family.settle()
    assert child.status("x") == "compensating"
    child.feed(asked)
    assert child.note == "late", "of an attempt nobody speaks any more"
    child.feed(late)
    assert child.note == "done"
    child.reply("x", "nothing", "compensate")
    child.reply("y", action="compensate")
    assert child.outcome == "compensating", "done, and then nothing to undo: an operator has to look"
    assert child.instance.steps["x"].waits == "operator"


def test_s28_to_be_undone_twice_is_to_be_undone_once() -> None:
    family, parent, child = completed()
    parent.reply("z", "refused")
    family.collect()
    undo = family.on_its_way.popleft()
    family.deliver(undo)
    assert family.deliver(undo).note == "duplicate"
    assert family.deliver(replace(undo, id="another attempt")).note == "duplicate"
    assert child.led.count("compensate y#1") == 1
    child.reply("y", action="compensate")
    child.reply("x", action="compensate")
    told = family.deliver(replace(undo, id="and another"))
    assert [output.kind for output in told.outputs] == ["request"], "a parent that asks again is left without an answer"
    family.settle()
    assert parent.status("c") == "compensated"


def test_s28_a_child_that_is_still_on_its_way_is_called_back() -> None:
    family, parent, child = begun()
    child.reply("x")
    assert parent.operate("cancel") == [f"undo {KEY}"], "a parent waits for a child that it does not want any more"
    family.settle()
    assert child.outcome == "compensating"
    assert child.instance.cause is not None
    assert child.instance.cause.why == "parent"
    child.reply("y")
    child.reply("y", action="compensate")
    assert child.reply("x", action="compensate") == ["compensated", "answer done"]
    family.settle()
    assert parent.led[-1] == "compensate a#1"


def test_s28_a_child_that_ended_without_effect_has_nothing_to_undo() -> None:
    family, parent, child = begun()
    child.reply("x", "refused")
    assert child.outcome == "compensated"
    parent.operate("cancel")  # before the child's answer came
    family.settle()
    assert parent.status("c") == "compensated"
    assert not parent.parked


def test_s28_what_was_never_begun_has_nothing_to_undo() -> None:
    family, parent, _child = completed()
    parent.reply("z", "refused")
    family.collect()
    undo = replace(family.on_its_way.popleft(), data={"saga": "child", "key": "nobody"})
    assert [(output.kind, output.type) for output in family.deliver(undo).outputs] == [("request", "saga.nothing.v1")]  # type: ignore[union-attr]
    assert family.run("child", "nobody").state is None


def test_s28_a_child_of_another_is_not_undone() -> None:
    family, parent, child = completed()
    parent.reply("z", "refused")
    family.collect()
    undo = family.on_its_way.popleft()
    stranger = {**undo.attributes, "sagasubject": "shop:k2:1:c:execute", "sagaparent": "shop:k2:1:c:compensate"}
    decision = family.deliver(replace(undo, attributes=stranger, id="stranger"))
    assert decision.ignored
    assert child.outcome == "completed"


def test_s28_a_child_is_kept_until_its_parent_ends_and_then_released() -> None:
    family, parent, child = completed()
    assert child.instance.keep_until is None, "a child that may have to be undone was forgotten"
    assert parent.reply("z") == ["completed", f"release {KEY}"]
    family.settle()
    assert child.instance.keep_until is not None
    assert child.note == "released"
    release = next(request for request in family.said() if request.type == "saga.release.v1")
    assert family.deliver(replace(release, id="again")).ignored


def test_s28_a_child_that_nobody_waits_for_any_more_is_not_kept_for_ever() -> None:
    parent_saga = make({"c": Part(child=CHILD, undo=False)}).saga
    family, parent, child = begun(parent_saga, CHILD)
    assert parent.operate("cancel") == ["compensated", f"release {KEY}"], "what is never undone is not waited for"
    family.settle()
    assert child.outcome == "running"
    child.reply("x")
    assert child.reply("y") == ["completed"]
    assert child.instance.keep_until is not None


def test_s28_a_release_does_not_resume_a_child_that_is_parked() -> None:
    child_saga = make({"x": Part(unknown="park", attempts=1)}, name="child").saga
    family, parent, child = begun(make({"c": Part(child=child_saga, undo=False)}).saga, child_saga)
    child.timer()
    since = child.instance.parked
    parent.operate("cancel")
    family.settle()
    assert child.instance.parked == since
    assert child.led[-1] == "parked"


def test_s28_a_grandchild_is_undone_with_the_child() -> None:
    grand = make({"g": Part()}, name="grand").saga
    child_saga = make({"x": Part(), "gg": Part(after=("x",), child=grand)}, name="child").saga
    parent_saga = make({"c": Part(child=child_saga), "z": Part(after=("c",))}).saga
    family, parent, child = begun(parent_saga, child_saga, grand)
    child.reply("x")
    family.settle()
    grandchild = family.run("grand", f"{KEY}-gg")
    grandchild.reply("g")
    family.settle()
    assert (child.outcome, grandchild.instance.keep_until) == ("completed", None)
    parent.reply("z", "refused")
    family.settle()
    assert grandchild.led[-1] == "compensate g#1"
    grandchild.reply("g", action="compensate")
    family.settle()
    assert child.led[-1] == "compensate x#1"
    child.reply("x", action="compensate")
    family.settle()
    assert [run.outcome for run in (parent, child, grandchild)] == ["compensated"] * 3
    assert all(run.instance.keep_until for run in (parent, child, grandchild))


def test_s28_a_grandchild_is_released_with_the_child() -> None:
    grand = make({"g": Part()}, name="grand").saga
    child_saga = make({"gg": Part(child=grand)}, name="child").saga
    family, parent, child = begun(make({"c": Part(child=child_saga), "z": Part(after=("c",))}).saga, child_saga, grand)
    grandchild = family.run("grand", f"{KEY}-gg")
    grandchild.reply("g")
    family.settle()
    assert (child.instance.keep_until, grandchild.instance.keep_until) == (None, None)
    parent.reply("z")
    family.settle()
    assert child.instance.keep_until is not None
    assert grandchild.instance.keep_until is not None


def test_s28_a_grandchild_that_is_never_undone_is_released_by_the_run_that_undoes_its_parent() -> None:
    grand = make({"g": Part()}, name="grand").saga
    child_saga = make({"x": Part(), "gg": Part(after=("x",), child=grand, undo=False)}, name="child").saga
    parent_saga = make({"c": Part(child=child_saga), "z": Part(after=("c",))}).saga
    family, parent, child = begun(parent_saga, child_saga, grand)
    child.reply("x")
    family.settle()
    grandchild = family.run("grand", f"{KEY}-gg")
    grandchild.reply("g")
    family.settle()
    parent.reply("z", "refused")
    family.settle()
    child.reply("x", action="compensate")
    family.settle()
    assert (parent.outcome, child.outcome, grandchild.outcome) == ("compensated", "compensated", "completed")
    assert grandchild.instance.keep_until is not None, "S28: what was begun by the first run is kept for ever"


def test_s28_a_child_whose_version_is_gone_is_released_all_the_same() -> None:
    newer = make({"n": Part()}, name="child", version=2).saga
    for registered in (newer, None):
        _family, parent, child = completed()
        parent.reply("z")
        (release,) = [output for output in parent.decisions[-1].outputs if isinstance(output, Request)]
        child.saga = registered
        about = dict(release.attributes)
        child.feed(Input(Kind.PARENT, release.type, release.id, "saga", "saga.requests:0:9", data=release.data, attributes=about))
        assert (child.note, child.instance.phase) == ("released", "completed")
        assert child.instance.keep_until is not None, "S28: a child that completed under a version that is gone is kept for ever"


def test_s28_a_child_that_could_not_be_undone_is_released_once_an_operator_has_skipped_it() -> None:
    """Its effects stand, so it has completed; only that it is kept for its parent must end."""
    _family, parent, child = completed()
    parent.reply("z", "refused")
    (undo,) = [output for output in parent.decisions[-1].outputs if isinstance(output, Request)]
    child.saga = make({"n": Part()}, name="child", version=2).saga  # its own version is gone, so it cannot undo itself
    child.feed(
        Input(Kind.PARENT, undo.type, undo.id, "saga", "saga.requests:0:9", data=undo.data, attributes=dict(undo.attributes))
    )
    (no,) = [output for output in child.decisions[-1].outputs if isinstance(output, Request)]
    parent.feed(Input(Kind.REPLY, no.type, no.id, "saga", "saga.requests:0:10", data=no.data, attributes=dict(no.attributes)))
    assert parent.parked == "compensation"
    parent.operate("skip", step="c")
    assert parent.reply("a", action="compensate") == ["compensated", f"release {KEY}"], "S28: the child is kept for ever"


def test_s11_a_second_run_remembers_what_the_first_one_saw_up_to_a_number() -> None:
    """A key whose saga begins anew for years must not carry every identity that it ever saw."""
    fixed: dict[str, Any] = {
        "id": "shop:k:2",
        "saga": "shop",
        "key": "k",
        "version": 1,
        "hash": "",
        "started": 2,
        "deadline": 3,
        "digest": "",
        "trace": "",
    }
    before = Instance(**{**fixed, "id": "shop:k:1"}, seq=1, seen=[str(number) for number in range(SEEN_BEFORE + 5)])
    given = Input(Kind.REPLY, "t", "id", "source")
    after = apply(before, Decision("shop:k:2", 2, "k", given, "done", patch={**fixed, "phase": "running"}))
    assert after.seen == [*(str(number) for number in range(5, SEEN_BEFORE + 5)), given.identity]


def test_s28_a_key_that_another_began_is_a_conflict_and_counts_as_refused() -> None:
    family = Family(PARENT, CHILD)
    family.run("child", KEY).start(text="mine")
    parent = family.run("shop", "k1")
    parent.start()
    parent.reply("a")
    family.settle()
    child = family.run("child", KEY)
    assert child.led[-2:] == ["rejected", "answer refused"], "its parent is told, so it is no dead letter"
    assert parent.status("c") == "refused"
    assert "begun" not in parent.instance.steps["c"].reason
    assert "started" in parent.instance.steps["c"].reason, "the parent is not told why"


def test_s28_a_child_with_a_pivot_is_never_undone_and_its_parent_says_so() -> None:
    child_saga = make({"p": Part(pivot=True)}, name="child").saga
    parent_saga = make({"c": Part(child=child_saga, undo=False), "z": Part(after=("c",))}).saga
    family, parent, child = begun(parent_saga, child_saga)
    child.reply("p")
    assert child.instance.keep_until is not None, "what is never undone is not kept for it"
    family.settle()
    assert parent.reply("z", "refused") == ["compensated", f"release {KEY}"]
    undo = Input(Kind.PARENT, UNDO, "u", "saga", "saga.requests:0:1", attributes={
        "sagaparent": "shop:k1:1:c:compensate", "sagasubject": child.instance.parent}, data={"saga": "child", "key": KEY})  # fmt: skip
    assert child.feed(undo) == ["answer refused"]
    assert child.outcome == "completed"


def test_s28_a_child_may_be_the_pivot_or_come_after_it() -> None:
    child_saga = make({"x": Part()}, name="child").saga
    parent_saga = make({"a": Part(), "c": Part(after=("a",), child=child_saga, pivot=True)}).saga
    family, parent, child = begun(parent_saga, child_saga)
    parent.operate("cancel")
    assert parent.note == "cancelling", "S21: while the pivot is out its outcome decides"
    parent.deadline()
    child.reply("x")
    family.settle()
    assert parent.outcome == "completed"
    family, parent, child = begun(parent_saga, child_saga)
    child.reply("x", "refused")
    family.settle()
    assert parent.led[-1] == "compensate a#1"


def test_s19_a_child_after_the_pivot_that_has_no_effect_parks_and_can_be_skipped() -> None:
    child_saga = make({"x": Part()}, name="child").saga
    parent_saga = make({"p": Part(pivot=True), "c": Part(after=("p",), child=child_saga)}).saga
    family, parent, _ = begun(parent_saga, child_saga)
    parent.reply("p")
    family.settle()
    family.run("child", KEY).reply("x", "refused")
    family.settle()
    assert parent.parked == "refused"
    assert parent.operate("skip", step="c", result={"key": "k", "log": ["by hand"]})[:2] == ["completed", f"release {KEY}"]
    assert parent.log[-1] == "c by hand"


def test_s19_after_the_pivot_a_child_that_has_no_effect_is_tried_once_more_by_a_retry() -> None:
    child_saga = make({"x": Part()}, name="child").saga
    family, parent, _ = begun(make({"p": Part(pivot=True), "c": Part(after=("p",), child=child_saga)}).saga, child_saga)
    parent.reply("p")
    family.settle()
    child = family.run("child", KEY)
    child.reply("x", "refused")
    family.settle()
    assert parent.parked == "refused"
    assert parent.retry() == [f"begin child {KEY}", "resumed"]
    family.settle()
    assert child.led[-2:] == ["started", "execute x#1"], "S19: its key is taken, and no retry ever helps"
    assert child.reply("x") == ["completed", "answer done"]
    family.settle()
    assert parent.outcome == "completed"


def test_s28_a_best_effort_child_that_fails_changes_nothing() -> None:
    child_saga = make({"x": Part()}, name="child").saga
    family, parent, child = begun(make({"c": Part(child=child_saga, best_effort=True), "z": Part(after=("c",))}).saga, child_saga)
    child.reply("x", "refused")
    family.settle()
    assert parent.led[-1] == "execute z#1"


def test_s28_a_child_that_is_not_in_the_app_or_never_ends_is_refused() -> None:
    with pytest.raises(Misconfigured, match="which is not among the sagas of this app"):
        Book([PARENT])
    again = make({"x": Part()}, name="child").saga
    again.renew(lambda _data, _at: None)
    with pytest.raises(Misconfigured, match="begins anew and never ends"):
        Book([PARENT, again])


# --- chains ---------------------------------------------------------------------------------------------------------------------------


def test_s28_a_chain_is_begun_once_under_a_stable_key_and_nobody_waits() -> None:
    other = make({"x": Part()}, name="other").saga
    saga = make({"n": Part(chain=other), "z": Part(after=("n",))}).saga
    family = Family(saga, other)
    run = family.run("shop", "k1")
    assert run.start() == ["started", "begin other k1-n", "execute z#1"]
    family.collect()
    (begin,) = family.on_its_way
    assert begin.id == f"{run.instance.id}:n:execute"
    family.deliver(begin)
    assert family.deliver(begin).note == "duplicate"
    assert family.deliver(replace(begin, id="sent again by a new owner")).note == "repeated-start"
    chained = family.run("other", "k1-n")
    assert chained.led == ["started", "execute x#1", "started"], "S28: a chain was begun twice"
    chained.reply("x")
    assert chained.led[-1] == "completed"
    assert run.reply("z", "refused") == ["compensated"], "a chain is left to itself"
    for action in ("execute", "verify", "compensate"):
        answer = {"sagacommand": f"{run.instance.id}:n:{action}", "sagaoutcome": "done", "sagaattempt": "1"}
        assert run.feed(Input(Kind.REPLY, Ordered.__type__, action, "shop", "shop.events:0:1", data={}, attributes=answer)) == []
        assert run.note == "unmatched"


def test_s29_a_chain_or_child_whose_key_cannot_be_a_key_parks() -> None:
    for kind in ("chain", "child"):
        other = make({"x": Part()}, name="other").saga
        other.key = lambda _event: ""
        run = Run(make({"n": Part(**{kind: other})}).saga)  # type: ignore[arg-type]
        assert run.start() == ["started", "parked"]
        assert "other cannot start on this" in (run.instance.parked.detail if run.instance.parked else "")


# --- versions -------------------------------------------------------------------------------------------------------------------------


def test_s05_old_instances_go_on_with_their_version_and_new_ones_begin_with_the_newest() -> None:
    old, new = make(LINE).saga, make({"a": Part(), "n": Part(after=("a",))}, version=2).saga
    family = Family(new, old)
    running = Run(old)
    running.start()
    book = family.book
    assert (book.sagas["shop"], book.definition("shop"), book.definition("shop", 1)) == (new, new, old)
    running.saga = book.definition("shop", running.instance.version)
    assert running.reply("a") == ["execute b#1"], "S5: an old instance went on as the new version would"
    fresh = family.run("shop", "k2")
    fresh.start()
    assert fresh.reply("a") == ["execute n#1"]
    assert (running.instance.version, fresh.instance.version) == (1, 2)


def test_s05_an_instance_whose_version_is_gone_parks_beside_the_others() -> None:
    running = Run(make(LINE).saga)
    running.start()
    running.saga = Book([make(LINE, version=2).saga, make(LINE, version=3).saga]).definition("shop", 1)
    assert running.reply("a") == ["parked"]
    assert running.instance.parked is not None
    assert running.instance.parked.detail == "the instance runs version 1; 'shop' is registered in version 3 only"


def test_s05_events_that_only_an_old_version_waits_for_still_come_to_it() -> None:
    old, new = make({"w": Part(waits="event")}).saga, make(LINE, version=2).saga
    book = Book([old, new])
    (target,) = book.route("world.w.v1", {}, {"key": "k1"})
    assert (target.kind, target.key) == (Kind.EVENT, "k1")
    run = Run(old)
    run.start()
    assert run.event("w") == ["completed"]


def test_s05_a_version_stands_once() -> None:
    with pytest.raises(Misconfigured, match="two sagas are named 'shop' and have version 1"):
        Book([make(LINE).saga, make(LINE).saga])
