"""S19, S21: the pivot. S22 to S24: compensating. S25: the deadline, in every phase."""

from __future__ import annotations

import pytest

from tests.engine.kit import BEGAN, DIAMOND, FORK, LINE, PIVOT, Part, Run, make, started


def at_pivot(part: Part | None = None) -> Run:
    """`a` is done, the pivot's command is out, `z` comes after it."""
    run = started(PIVOT | {"p": part or Part(after=("a",), pivot=True, verify=True, attempts=1)}, deadline=100)
    assert run.reply("a") == ["execute p#1"]
    return run


def test_s19_after_the_pivot_a_step_is_tried_until_it_succeeds() -> None:
    run = at_pivot()
    run.reply("p")
    run.deadline()
    for attempt in range(2, 12):
        assert run.reply("z", "failed") == []
        assert run.timer() == [f"execute z#{attempt}"], "S19: given up after the pivot"
    assert run.reply("z") == ["completed"]


def test_s19_a_refusal_after_the_pivot_parks_and_is_repeated_under_a_new_id() -> None:
    run = at_pivot()
    run.reply("p")
    assert run.reply("z", "refused") == ["parked"]
    assert run.parked == "refused"
    assert run.retry() == ["execute z~2#1", "resumed"]
    assert run.reply("z") == ["completed"]


def test_s19_an_earlier_round_that_was_done_after_all_is_a_contradiction() -> None:
    run = at_pivot()
    run.reply("p")
    run.reply("z", "refused")
    run.retry()
    assert run.reply("z", round=1) == ["parked"]
    assert run.parked == "contradiction"
    assert run.retry() == ["completed", "resumed"]


def test_s19_two_rounds_that_are_both_done_are_a_contradiction() -> None:
    run = started(PIVOT | {"y": Part(after=("p",))})
    run.reply("a")
    run.reply("p")
    run.reply("z", "refused")
    run.reply("y", "refused")
    run.retry()
    run.reply("z", round=1)
    run.retry()
    assert run.status("z") == "done"
    assert run.reply("z", round=2) == ["parked"], "an effect was done twice and nobody heard of it"
    assert run.parked == "contradiction"


def test_s19_beside_a_refusal_a_step_that_fails_without_end_does_not_hide_it_from_the_operator() -> None:
    run = started(PIVOT | {"y": Part(after=("p",), attempts=3)})
    run.reply("a")
    run.reply("p")
    assert run.reply("z", "refused") == []
    led = run.silence()
    assert led == ["execute y#2", "execute y#3", "parked"], "P5: it waits for an operator whom nobody calls"
    assert run.parked == "refused"
    assert run.retry() == ["execute z~2#1", "resumed"]
    assert run.timer() == ["execute y#4"]


def test_s19_nothing_before_the_pivot_is_compensated_whatever_happens_after_it() -> None:
    run = at_pivot()
    run.reply("p")
    for outcome in ("failed", "expired", "refused", "nothing"):
        run.reply("z", outcome)
        run.retry()
    assert not [what for what in run.led if what.startswith("compensate")]


def test_s21_a_pivot_that_is_unknown_is_verified_and_goes_neither_forward_nor_back() -> None:
    run = at_pivot()
    assert run.timer() == ["verify p#1"]
    assert run.silence() == ["verify p#2", "verify p#3", "verify p#4", "verify p#5", "parked"]
    assert run.instance.phase == "running"
    assert run.retry() == ["verify p#6", "resumed"]
    assert run.reply("p", "done", "verify") == ["execute z#1"]


def test_s21_a_pivot_that_verify_denies_turns_the_saga_back() -> None:
    run = at_pivot()
    run.timer()
    assert run.reply("p", "nothing", "verify") == ["compensate a#1"]


@pytest.mark.parametrize("unknown", [None, "park"])
def test_s21_a_pivot_that_cannot_be_verified_parks(unknown: None) -> None:
    run = at_pivot(Part(after=("a",), pivot=True, attempts=1, unknown=unknown))
    assert run.timer() == ["parked"]
    assert run.parked == "unknown"
    assert run.reply("p") == ["execute z#1", "resumed"]


def test_s21_an_expired_pivot_is_unknown() -> None:
    run = at_pivot()
    assert run.reply("p", "expired") == ["verify p#1"]


def test_s21_a_refused_pivot_turns_the_saga_back() -> None:
    run = at_pivot()
    assert run.reply("p", "refused") == ["compensate a#1"]
    assert run.reply("a", "done", "compensate") == ["compensated"]


def test_s21_a_pivot_that_happened_after_it_was_denied_parks_for_good() -> None:
    run = at_pivot()
    run.reply("p", "refused")
    assert run.reply("p") == ["parked"]
    assert run.retry() == []
    assert run.note == "operator-refused", "S19: compensation went on although the pivot happened"
    assert run.reply("a", "done", "compensate") == []
    assert run.parked == "contradiction"


def test_s21_while_the_pivot_is_out_the_deadline_only_ends_its_attempts() -> None:
    run = at_pivot(Part(after=("a",), pivot=True, verify=True, attempts=9, timeout=200))
    assert run.deadline() == []
    assert run.instance.phase == "running"
    assert run.timer() == ["verify p#1"], "S21: a further attempt after the deadline"
    assert run.reply("p", "done", "verify") == ["execute z#1"], "S21: the pivot's outcome decides, not the deadline"


def test_s21_the_deadline_ends_a_pivots_pause() -> None:
    run = at_pivot(Part(after=("a",), pivot=True, verify=True, attempts=9))
    run.reply("p", "failed")
    assert run.deadline() == ["verify p#1"]


def test_s21_a_failure_of_the_pivot_after_the_deadline_is_the_last() -> None:
    run = at_pivot(Part(after=("a",), pivot=True, attempts=9, timeout=200))
    run.deadline()
    assert run.reply("p", "failed") == ["parked"]
    assert run.retry() == ["execute p#2", "resumed"]


# --- compensating -----------------------------------------------------------------------------------------------------------------


def test_s22_compensation_is_in_reverse_order_and_parallel_where_independent() -> None:
    run = started(DIAMOND | {"e": Part(after=("d",))})
    for step in "abcd":
        run.reply(step)
    assert run.reply("e", "refused") == ["compensate d#1"]
    assert run.reply("d", "done", "compensate") == ["compensate b#1", "compensate c#1"]
    assert run.reply("c", "done", "compensate") == [], "S22: a was compensated before b was"
    assert run.reply("b", "done", "compensate") == ["compensate a#1"]
    assert run.reply("a", "done", "compensate") == ["compensated"]


def test_s22_a_step_with_nothing_to_undo_does_not_break_the_order() -> None:
    parts = DIAMOND | {"b": Part(after=("a",), undo=False), "e": Part(after=("d",))}
    run = started(parts)
    for step in "abcd":
        run.reply(step)
    run.reply("e", "refused")
    assert run.reply("d", "done", "compensate") == ["compensate c#1"]
    assert run.reply("c", "done", "compensate") == ["compensate a#1"]


def test_s22_order_holds_across_a_step_with_nothing_to_undo() -> None:
    run = started({"a": Part(), "b": Part(after=("a",), undo=False), "c": Part(after=("b",)), "d": Part(after=("c",))})
    for step in "abc":
        run.reply(step)
    assert run.reply("d", "refused") == ["compensate c#1"], "S22: a must wait for c, which depended on it through b"
    assert run.reply("c", "done", "compensate") == ["compensate a#1"]


def test_s22_branches_go_back_each_at_its_own_pace() -> None:
    run = started({"a": Part(), "b": Part(after=("a",)), "x": Part(), "y": Part(after=("x",)), "end": Part(after=("b", "y"))})
    for step in "axby":
        run.reply(step)
    assert run.reply("end", "refused") == ["compensate b#1", "compensate y#1"]
    assert run.reply("y", "done", "compensate") == ["compensate x#1"]
    assert run.reply("x", "done", "compensate") == []
    assert run.reply("b", "done", "compensate") == ["compensate a#1"]


def test_s22_a_compensation_gets_the_command_as_it_was_sent_and_names_it() -> None:
    run = started(LINE)
    run.reply("a")
    run.reply("b", "refused")
    execute, undo = run.sends()[0], run.sends()[-1]
    assert (undo.action, undo.subject) == ("compensate", execute.command)
    assert undo.command == f"{run.instance.id}:a:compensate"


def test_s22_where_nothing_is_to_undo_the_saga_ends_at_once() -> None:
    run = started({"a": Part(undo=False), "b": Part(after=("a",))})
    run.reply("a")
    assert run.reply("b", "refused") == ["compensated"]


def going_back(**options: float) -> Run:
    run = started({"a": Part(attempts=1), "b": Part(after=("a",))}, **options)
    run.reply("a")
    assert run.reply("b", "refused") == ["compensate a#1"]
    return run


def test_s23_a_compensation_has_its_own_larger_budget() -> None:
    run = going_back()
    led = run.silence()
    assert led == [f"compensate a#{n}" for n in range(2, 11)] + ["parked"]
    assert len({send.command for send in run.sends() if send.action == "compensate"}) == 1


def test_s23_the_deadline_does_not_stop_a_compensation() -> None:
    run = going_back(deadline=100)
    assert run.deadline() == []
    run.reply("a", "failed", "compensate")
    assert run.timer() == ["compensate a#2"]
    assert run.reply("a", "done", "compensate") == ["compensated"]


def test_s23_a_compensation_never_waits_for_ever_though_its_step_may() -> None:
    run = started({"a": Part(timeout=None), "b": Part(after=("a",))}, deadline=100)
    run.reply("a")
    run.reply("b", "refused")
    run.deadline()
    assert run.timer() == []
    assert run.timer() == ["compensate a#2"], "S4: a compensation hung, its reply was lost and the deadline was over"


def test_s24_a_compensation_that_cannot_succeed_parks() -> None:
    run = going_back()
    assert run.reply("a", "refused", "compensate") == ["parked"]
    assert run.parked == "compensation"
    assert run.instance.phase == "compensating", "S24: it is never 'failed, done'"
    assert run.retry() == ["compensate a~2#1", "resumed"]
    assert run.reply("a", "done", "compensate") == ["compensated"]


def test_s24_after_its_budget_a_compensation_can_be_tried_on_under_the_same_id() -> None:
    run = going_back()
    run.silence()
    assert run.retry() == ["compensate a#11", "resumed"]
    assert run.reply("a", "done", "compensate", attempt=3) == ["compensated"], "S10: done counts whichever attempt brought it"


def test_s24_the_independent_ones_still_run_and_the_dependent_wait() -> None:
    run = started({"a": Part(), "b": Part(after=("a",)), "x": Part(), "y": Part(after=("x",)), "end": Part(after=("b", "y"))})
    for step in "axby":
        run.reply(step)
    run.reply("end", "refused")
    assert run.reply("b", "refused", "compensate") == []
    assert run.reply("y", "done", "compensate") == ["compensate x#1"], "S24: an independent branch was not undone"
    assert run.reply("x", "done", "compensate") == ["parked"], "S24: it parks when all that is independent is undone"
    assert run.retry() == ["compensate b~2#1", "resumed"]
    assert run.reply("b", "done", "compensate") == ["compensate a#1"]


def test_s24_a_late_answer_to_a_compensation_that_was_given_up_resumes() -> None:
    run = going_back()
    run.silence()
    assert run.reply("a", "done", "compensate", attempt=1) == ["compensated", "resumed"]


# --- the deadline -----------------------------------------------------------------------------------------------------------------


def test_s25_before_the_pivot_the_deadline_turns_the_saga_back() -> None:
    run = started(LINE, deadline=5)
    run.reply("a")
    assert run.timer() == [], "S16: the attempt that is out settles first"
    assert run.note == "deadline"
    assert run.timer() == ["compensate b#1"], "S25: the deadline beats further attempts"
    assert run.reply("b", "nothing", "compensate") == ["compensate a#1"]
    assert run.instance.cause is not None
    assert run.instance.cause.why == "deadline"


def test_s25_the_deadline_beats_a_pause() -> None:
    run = started({"a": Part(attempts=9)}, deadline=5)
    run.reply("a", "failed")
    assert run.deadline() == ["compensate a#1"]


def test_s25_the_deadline_ends_a_wait_without_time_out() -> None:
    run = started({"a": Part(timeout=None)}, deadline=5)
    assert run.instance.next_timer() == (BEGAN + 5000, "")
    assert run.timer() == ["compensate a#1"]


def test_s25_a_branch_without_time_out_settles_at_the_deadline_on_the_way_back_too() -> None:
    run = started({"a": Part(timeout=None), "b": Part()}, deadline=100)
    assert run.reply("b", "refused") == []
    assert run.timer() == ["compensate a#1"]


def test_s25_while_a_step_is_verified_the_deadline_waits_for_the_answer() -> None:
    run = started({"a": Part(attempts=1, verify=True), "b": Part(after=("a",))}, deadline=12)
    run.timer()
    assert run.timer() == []
    assert run.note == "deadline"
    assert run.reply("a", "done", "verify") == ["compensate a#1"], "S25: it happened, and it is undone; nothing new is started"


def test_s25_a_done_that_comes_before_the_deadline_is_decided_counts() -> None:
    run = started({"a": Part(), "b": Part(after=("a",))}, deadline=5)
    run.now += 6000
    assert run.reply("a") == ["execute b#1"]


def test_s25_after_the_pivot_the_deadline_only_alerts() -> None:
    run = at_pivot()
    run.reply("p")
    assert run.deadline() == []
    assert run.note == "deadline"
    assert run.instance.phase == "running"
    assert run.reply("z") == ["completed"]


def test_s25_the_deadline_changes_nothing_on_the_way_back() -> None:
    run = started(FORK, deadline=5)
    run.reply("a", "refused")
    assert run.deadline() == []
    assert run.instance.cause is not None
    assert run.instance.cause.why == "refused"
    assert run.reply("b") == ["compensate b#1"]


def test_s25_a_deadline_that_passed_while_parked_counts_when_the_instance_goes_on() -> None:
    made = make(LINE, deadline=50)
    run = Run(made.saga)
    run.start()
    made.broken.add("b")
    run.reply("a")
    run.now += 60_000
    assert run.instance.next_timer() is None
    made.broken.clear()
    assert run.retry() == ["execute b#1", "resumed"]
    assert run.timer() == []
    assert run.note == "deadline"
    assert run.instance.phase == "compensating"
