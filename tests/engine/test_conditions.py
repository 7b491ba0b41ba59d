"""S18: conditions. S1 and S2: paths that exclude each other, joins behind them, and steps whose failure changes nothing (best effort)."""

from __future__ import annotations

import pytest

from saga.errors import DefinitionError
from tests.engine.kit import Made, Part, Run, make, started


def begun(made: Made) -> Run:
    run = Run(made.saga)
    run.start()
    return run


# --- S18 --------------------------------------------------------------------------------------------------------------------------


def test_s18_a_step_runs_only_if_its_condition_holds_and_is_asked_once() -> None:
    made = make({"a": Part(), "b": Part(after=("a",), when="?"), "c": Part(after=("b",))})
    made.no.add("b")
    run = begun(made)
    assert made.asked == [], "S18: asked before its turn"
    assert run.reply("a") == ["execute c#1"]
    assert run.status("b") == "skipped"
    made.no.clear()
    run.silence()
    assert made.asked == ["b"], "S18: the condition was asked more than once"
    assert run.status("b") == "skipped"


def test_s18_a_skipped_step_is_not_compensated_and_those_before_it_are() -> None:
    made = make({"a": Part(), "b": Part(after=("a",), when="?"), "c": Part(after=("b",))})
    made.no.add("b")
    run = begun(made)
    run.reply("a")
    assert run.reply("c", "refused") == ["compensate a#1"]
    assert run.reply("a", action="compensate") == ["compensated"]


def test_s18_a_condition_that_holds_changes_nothing() -> None:
    run = begun(make({"a": Part(when="?"), "b": Part(after=("a",))}))
    assert run.led == ["started", "execute a#1"]
    assert run.reply("a") == ["execute b#1"]


@pytest.mark.parametrize("express", [True, False])
def test_s18_of_a_step_and_its_unless_exactly_one_runs(express: bool) -> None:
    made = make({"air": Part(when="?"), "sea": Part(when="!air"), "told": Part(after=("air", "sea"))})
    made.no |= set() if express else {"air"}
    run = begun(made)
    ran, skipped = ("air", "sea") if express else ("sea", "air")
    assert run.led == ["started", f"execute {ran}#1"]
    assert run.status(skipped) == "skipped"
    assert run.reply(ran) == ["execute told#1"], "S2: a join waits for the side that was skipped"


def test_s18_when_a_step_follows_another_that_step_may_be_named() -> None:
    made = make({"gift": Part(when="?"), "other": Part(), "card": Part(after=("gift", "other"), when="gift")})
    made.no.add("gift")
    run = begun(made)
    assert run.reply("other") == ["completed"]
    assert run.status("card") == "skipped"


def test_s18_a_condition_that_raises_parks_and_is_asked_again_after_the_fix() -> None:
    made = make({"a": Part(), "b": Part(after=("a",), when="?")})
    run = begun(made)
    made.broken.add("b.when")
    assert run.reply("a") == ["parked"]
    made.broken.clear()
    assert run.retry() == ["execute b#1", "resumed"]


def test_s18_maps_waits_and_pauses_have_conditions_too() -> None:
    made = make(
        {
            "m": Part(when="?", items=2),
            "w": Part(after=("m",), waits="event", when="?"),
            "s": Part(after=("w",), waits="pause", when="?"),
            "z": Part(after=("s",)),
        }
    )
    made.no |= {"m", "w", "s"}
    run = begun(made)
    assert run.led == ["started", "execute z#1"]
    assert made.asked == ["m", "w", "s"], "S17: the items of a step that was skipped were asked for"


def test_s18_a_skipped_map_is_not_undone() -> None:
    made = make({"m": Part(when="?", items=2), "z": Part(after=("m",))})
    made.no.add("m")
    assert begun(made).reply("z", "refused") == ["compensated"]


# --- S2: a join after an if ---------------------------------------------------------------------------------------------------------


def test_s02_a_join_after_an_if_waits_for_the_side_that_runs_and_is_undone_through_it() -> None:
    parts = {
        "a": Part(),
        "yes": Part(after=("a",), when="?"),
        "more": Part(after=("yes",), when="yes"),
        "no": Part(after=("a",), when="!yes"),
        "join": Part(after=("more", "no")),
    }
    run = started(parts)
    assert run.reply("a") == ["execute yes#1"]
    assert run.status("no") == "skipped"
    assert run.reply("yes") == ["execute more#1"]
    assert run.reply("more") == ["execute join#1"]
    assert run.reply("join", "refused") == ["compensate more#1"]
    assert run.reply("more", action="compensate") == ["compensate yes#1"]
    assert run.reply("yes", action="compensate") == ["compensate a#1"]
    made = make(parts)
    made.no.add("yes")
    run = begun(made)
    assert run.reply("a") == ["execute no#1"]
    assert run.reply("no") == ["execute join#1"]
    assert run.reply("join", "refused") == ["compensate no#1"]


# --- S1: exclusive paths ------------------------------------------------------------------------------------------------------------

TWO_WAYS = {
    "a": Part(),
    "air": Part(after=("a",), pivot=True, when="?"),
    "sea": Part(after=("a",), pivot=True, when="!air"),
    "told": Part(after=("air", "sea")),
}


@pytest.mark.parametrize("express", [True, False])
def test_s01_each_of_two_paths_that_exclude_each_other_has_its_pivot(express: bool) -> None:
    made = make(TWO_WAYS)
    made.no |= set() if express else {"air"}
    pivot = "air" if express else "sea"
    run = begun(made)
    assert run.reply("a") == [f"execute {pivot}#1"]
    assert run.operate("cancel") == []
    assert run.note == "cancelling", "S21: while the pivot is out its outcome decides"
    assert run.reply(pivot) == ["execute told#1"]
    assert run.operate("cancel") == []
    assert (run.note, run.detail) == ("operator-refused", "its pivot went through: from here there is only forward")
    assert run.reply("told") == ["completed"]


@pytest.mark.parametrize("express", [True, False])
def test_s01_the_pivot_of_either_path_turns_back_when_it_is_refused(express: bool) -> None:
    made = make(TWO_WAYS)
    made.no |= set() if express else {"air"}
    run = begun(made)
    run.reply("a")
    assert run.reply("air" if express else "sea", "refused") == ["compensate a#1"]


WITH_AND_WITHOUT = {
    "p": Part(pivot=True, when="?"),
    "walk": Part(when="!p"),
    "z": Part(after=("p", "walk")),
}


def test_s01_on_the_path_without_a_pivot_all_can_be_undone_until_what_is_never_undone_begins() -> None:
    made = make(WITH_AND_WITHOUT)
    made.no.add("p")
    run = begun(made)
    assert run.operate("cancel") == []
    assert run.note == "cancelled", "S20: refused though no pivot was reached"
    assert run.reply("walk") == ["compensate walk#1"]
    run = begun(made)
    assert run.reply("walk") == ["execute z#1"]
    run.operate("cancel")
    assert run.detail == "it is past its pivot, which was skipped: from here there is only forward"
    assert run.deadline() == []
    assert run.outcome == "running", "S25: turned back past the pivot"


def test_s01_what_is_after_a_pivot_does_not_begin_while_another_path_may_still_fail() -> None:
    with pytest.raises(DefinitionError, match=r"z is after a pivot and is never undone, but walk may fail .*; put it after walk"):
        make(WITH_AND_WITHOUT | {"z": Part(after=("p",))})
    make(WITH_AND_WITHOUT | {"z": Part(after=("p",), when="p")})  # these two never run both


# --- S1: best effort ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["refused", "silence", "failed", "expired"])
def test_s01_a_best_effort_that_fails_changes_nothing(how: str) -> None:
    run = started({"a": Part(best_effort=True, undo=False, attempts=1), "b": Part(after=("a",))})
    led = run.timer() if how == "silence" else run.reply("a", how)
    assert led == ["execute b#1"], f"S1: a best effort that ended with {how} stopped its saga"
    assert run.instance.cause is None
    assert run.reply("b") == ["completed"]


def test_s01_a_best_effort_that_was_done_or_may_have_been_is_undone() -> None:
    for outcome in ("done", ""):
        run = started({"a": Part(best_effort=True, attempts=1), "b": Part(after=("a",))})
        _ = run.reply("a", outcome) if outcome else run.timer()
        assert run.reply("b", "refused") == ["compensate a#1"]
    run = started({"a": Part(best_effort=True), "b": Part(after=("a",))})
    run.reply("a", "refused")
    assert run.reply("b", "refused") == ["compensated"], "S12: a refusal means no effect"


def test_s01_a_best_effort_beside_the_pivot_and_after_it_is_no_reason_to_wait_for_an_operator() -> None:
    run = started({"p": Part(pivot=True), "beside": Part(best_effort=True), "z": Part(after=("p",), best_effort=True, undo=False)})
    run.reply("p")
    run.reply("beside", "refused")
    assert run.reply("z", "refused") == ["completed"]


@pytest.mark.parametrize("how", ["silence", "refused", "expired"])
def test_s01_a_best_effort_that_is_asked_about_in_vain_calls_no_operator(how: str) -> None:
    run = started({"a": Part(best_effort=True, verify=True, undo=False, attempts=1), "b": Part(after=("a",))})
    assert run.timer() == ["verify a#1"]
    for _ in range(9):
        if run.status("a") == "verifying":
            _ = run.timer() if how == "silence" else run.reply("a", how, "verify")
    assert run.status("a") == "unknown"
    assert run.led[-1] == "execute b#1", "S1: a best effort parked its saga"


def test_s01_a_best_effort_that_is_done_late_is_taken() -> None:
    run = started({"a": Part(best_effort=True, attempts=1), "b": Part(after=("a",))})
    run.timer()
    assert run.reply("a") == []
    assert (run.status("a"), run.log) == ("done", ["a"])


def test_s01_the_end_waits_for_a_best_effort_to_settle() -> None:
    run = started({"a": Part(), "n": Part(best_effort=True, attempts=1)})
    assert run.reply("a") == []
    assert run.timer() == ["completed"]


def test_s01_a_best_effort_wait_that_is_missed_changes_nothing() -> None:
    run = started({"w": Part(waits="event", best_effort=True), "b": Part(after=("w",))})
    assert run.timer() == ["late", "execute b#1"]


def test_s13_a_cancel_while_the_pivot_is_out_ends_no_attempts_but_the_pivots() -> None:
    run = started({"p": Part(pivot=True), "z": Part(after=("p",), best_effort=True, undo=False, attempts=3)})
    run.operate("cancel")
    run.reply("p")
    run.reply("z", "failed")
    assert run.timer() == ["execute z#2"], "the pivot went through, so the cancel is void"
