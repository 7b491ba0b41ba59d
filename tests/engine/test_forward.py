"""S12 to S16: refusals, retries, unknown outcomes, late successes, parallel branches."""

from __future__ import annotations

import pytest

from tests.engine.kit import BEGAN, DIAMOND, FORK, LINE, Part, Run, make, started


def test_s12_a_refused_step_is_not_compensated_its_predecessors_are() -> None:
    run = started(LINE)
    run.reply("a")
    run.reply("b")
    assert run.reply("c", "refused") == ["compensate b#1"]
    assert run.reply("b", "done", "compensate") == ["compensate a#1"]
    assert run.reply("a", "done", "compensate") == ["compensated"]
    assert run.instance.cause is not None
    assert (run.instance.cause.why, run.instance.cause.step) == ("refused", "c")
    assert run.status("c") == "refused"


def test_s12_a_refusal_is_final_and_not_tried_again() -> None:
    run = started({"a": Part(attempts=9)})
    assert run.reply("a", "refused") == ["compensated"]


def test_s12_nothing_in_answer_to_a_command_means_no_effect_too() -> None:
    run = started(LINE)
    run.reply("a")
    assert run.reply("b", "nothing") == ["compensate a#1"], "S12: a tombstone's answer is final and means no effect"


def test_s13_a_failure_is_retried_under_the_same_id_with_the_next_number_after_a_growing_pause() -> None:
    run = started({"a": Part(attempts=4)})
    pauses = []
    for _ in range(3):
        assert run.reply("a", "failed") == []
        due = run.instance.next_timer()
        assert due is not None
        pauses.append(due[0] - run.now)
        run.timer()
    sends = run.sends()
    assert [send.attempt for send in sends] == [1, 2, 3, 4]
    assert len({send.command for send in sends}) == 1, "I13: an attempt has another command id"
    assert {send.time for send in sends} == {BEGAN}, "S13: the time of a command is that of its first decision"
    for number, pause in enumerate(pauses):
        assert 500 * 2**number <= pause <= 1000 * 2**number, "S13: the pause is 50 to 100 % of the full one, which doubles"


def test_s13_jitter_comes_from_the_instance_and_not_from_chance() -> None:
    def pause(key: str) -> int:
        run = Run(make({"a": Part()}).saga, key)
        run.start()
        run.reply("a", "failed")
        due = run.instance.next_timer()
        assert due is not None
        return due[0]

    assert pause("k1") == pause("k1")
    assert len({pause(f"k{n}") for n in range(20)}) > 10, "S13: instances march in step"


def test_s13_a_time_out_is_retried_like_a_failure() -> None:
    run = started({"a": Part(attempts=2)})
    assert run.timer() == []
    assert run.note == "timed-out"
    assert run.timer() == ["execute a#2"]
    assert run.note == "retry"
    assert run.reply("a", attempt=1) == ["completed"], "S10: done counts whichever attempt brought it"


def test_s13_failures_and_time_outs_use_up_one_budget_and_end_as_unknown() -> None:
    run = started({"a": Part(attempts=3)})
    run.reply("a", "failed")
    run.timer()
    run.timer()
    run.timer()
    assert run.reply("a", "failed") == ["compensate a#1"]
    assert run.instance.cause is not None
    assert run.instance.cause.why == "unknown"


def test_s13_once_a_sibling_has_failed_what_will_be_undone_is_not_tried_again() -> None:
    run = started({"a": Part(attempts=9), "b": Part()})
    run.reply("a", "failed")
    assert run.reply("b", "refused") == ["compensate a#1"], "S13: a step in its pause is unknown at once"


def test_s13_an_attempt_that_is_out_when_a_sibling_fails_is_the_last() -> None:
    run = started({"a": Part(attempts=9), "b": Part()})
    assert run.reply("b", "refused") == []
    assert run.reply("a", "failed") == ["compensate a#1"]


@pytest.mark.parametrize(
    ("part", "led", "stands"),
    [
        (Part(attempts=1, verify=True), ["verify a#1"], "verifying"),
        (Part(attempts=1, verify=True, unknown="verify"), ["verify a#1"], "verifying"),
        (Part(attempts=1, verify=True, unknown="compensate"), ["compensate a#1"], "compensating"),
        (Part(attempts=1, verify=True, unknown="park"), ["parked"], "executing"),
        (Part(attempts=1), ["compensate a#1"], "compensating"),
        (Part(attempts=1, unknown="park"), ["parked"], "executing"),
        (Part(attempts=1, undo=False), ["parked"], "executing"),
        (Part(attempts=1, undo=False, verify=True), ["verify a#1"], "verifying"),
    ],
)
def test_s14_a_step_without_an_answer_is_unknown_and_treated_by_its_policy(part: Part, led: list[str], stands: str) -> None:
    run = started({"a": part})
    assert run.timer() == led
    assert run.status("a") == stands


def unverified() -> Run:
    run = started({"a": Part(attempts=1, verify=True), "b": Part(after=("a",))})
    assert run.timer() == ["verify a#1"]
    return run


def test_s14_done_in_answer_to_verify_is_the_steps_reply() -> None:
    run = unverified()
    assert run.reply("a", "done", "verify") == ["execute b#1"]
    assert run.instance.data["log"] == ["a"]


def test_s14_nothing_in_answer_to_verify_counts_as_refused() -> None:
    run = unverified()
    assert run.reply("a", "nothing", "verify") == ["compensated"]
    assert run.status("a") == "refused"


def test_s14_verify_names_the_command_it_asks_about() -> None:
    run = unverified()
    execute, verify = run.sends()
    assert (verify.subject, verify.action, execute.subject) == (execute.command, "verify", "")


def test_s14_no_answer_to_verify_parks_and_a_late_reply_resumes() -> None:
    run = unverified()
    assert run.silence() == ["verify a#2", "verify a#3", "verify a#4", "verify a#5", "parked"]
    assert run.parked == "unverified"
    assert run.reply("a") == ["execute b#1", "resumed"], "S29: the late reply of a step that was unknown resumes the instance"


def test_s14_a_participant_that_refuses_to_say_parks_and_is_asked_under_a_new_id() -> None:
    run = unverified()
    assert run.reply("a", "refused", "verify") == ["parked"]
    assert run.retry() == ["verify a~2#1", "resumed"], "a repeat of a stored refusal needs a new command id"
    assert run.reply("a", "done", "verify") == ["execute b#1"]


def test_s14_what_the_first_verify_brings_late_counts_too() -> None:
    run = unverified()
    run.reply("a", "refused", "verify")
    run.retry()
    assert run.reply("a", "done", "verify", round=1) == ["execute b#1"]


def test_s14_a_compensation_that_is_asked_for_an_unknown_step_may_be_answered_nothing() -> None:
    run = started({"a": Part(attempts=1)})
    run.timer()
    assert run.reply("a", "nothing", "compensate") == ["compensated"]


def test_s14_unknown_without_compensation_or_verify_needs_no_operator_when_the_saga_goes_back_anyway() -> None:
    for first in ("a times out, then b is refused", "b is refused, then a times out"):
        run = started({"a": Part(undo=False, attempts=1, timeout=5), "b": Part(timeout=500)})
        if first.startswith("a"):
            assert run.timer() == []
            assert run.reply("b", "refused") == ["compensated"], f"parked without need: {first}"
        else:
            run.reply("b", "refused")
            assert run.timer() == ["compensated"], f"parked without need: {first}"


def test_s14_an_unanswered_verify_needs_no_operator_when_the_saga_goes_back_anyway() -> None:
    run = started({"a": Part(attempts=1, verify=True), "b": Part(timeout=5000)}, deadline=10_000)
    run.timer()
    for _ in range(9):
        run.timer()
    assert run.instance.steps["a"].waits == "operator"
    assert run.reply("b", "refused") == ["compensate a#1"], "parked without need: it is compensated, whether it happened or not"


def test_s14_park_on_purpose_parks_also_on_the_way_back() -> None:
    run = started({"a": Part(unknown="park", attempts=1), "b": Part()})
    run.reply("b", "refused")
    assert run.timer() == ["parked"]
    assert run.retry() == ["compensate a#1", "resumed"], "S13: what will be undone is not tried again"


def test_s14_a_parked_unknown_step_can_be_tried_again() -> None:
    run = started({"a": Part(unknown="park", attempts=1)})
    run.timer()
    assert run.retry() == ["execute a#2", "resumed"]
    assert run.reply("a") == ["completed"]


# --- S15: a late success, wherever its step stands ---------------------------------------------------------------------------------


def test_s15_late_done_while_verifying_is_the_steps_reply() -> None:
    run = unverified()
    assert run.reply("a") == ["execute b#1"]
    assert run.reply("a", "done", "verify", round=1) == []
    assert run.note == "late"


def test_s15_late_done_of_a_step_given_up_is_noted_and_compensated_as_one_that_happened() -> None:
    run = started({"a": Part(attempts=1, timeout=5), "b": Part(timeout=500)})
    run.timer()
    assert run.status("a") == "unknown"
    assert run.reply("a") == []
    assert (run.status("a"), run.note) == ("done", "done")
    assert run.instance.data["log"] == ["a"], "S15: the late reply's data may be what its compensation needs"
    assert run.reply("b", "refused") == ["compensate a#1"]


def test_s15_late_done_while_compensating_is_noted_and_nothing_to_undo_is_then_not_believed() -> None:
    run = started({"a": Part(attempts=1)})
    run.timer()
    assert run.reply("a") == []
    assert run.instance.steps["a"].succeeded, "S15: a late success was ignored"
    assert run.reply("a", "nothing", "compensate") == ["parked"], "an effect is left behind"
    assert run.retry() == ["compensate a~2#1", "resumed"]
    assert run.reply("a", "done", "compensate") == ["compensated"]


def test_s15_late_done_while_its_compensation_is_out_is_undone_by_it() -> None:
    run = started({"a": Part(attempts=1)})
    run.timer()
    run.reply("a")
    assert run.reply("a", "done", "compensate") == ["compensated"]


def test_s15_late_done_after_it_was_undone_is_only_late() -> None:
    run = started({"z": Part(), "a": Part(after=("z",), attempts=1)})
    run.reply("z")
    run.timer()
    run.reply("a", "done", "compensate")
    assert run.reply("a") == []
    assert run.note == "late"


def told_nothing() -> Run:
    """`a` timed out, and its compensation was answered `nothing`; `z` is still being compensated."""
    run = started({"z": Part(), "a": Part(after=("z",), attempts=1)})
    run.reply("z")
    run.timer()
    assert run.reply("a", "nothing", "compensate") == ["compensate z#1"]
    return run


def test_s15_done_after_nothing_to_undo_is_a_contradiction_and_parks() -> None:
    run = told_nothing()
    assert run.reply("a") == ["parked"]
    assert run.parked == "contradiction"
    assert run.reply("z", "done", "compensate") == [], "S15: after a contradiction nothing more is sent"
    assert run.retry() == ["compensate a~2#1", "resumed"], "S15: what happened after all is undone, under a new id"
    assert run.reply("a", "done", "compensate") == ["compensated"]


def test_s15_done_after_a_refusal_is_a_contradiction_and_parks() -> None:
    run = started(LINE)
    run.reply("a")
    run.reply("b", "refused")
    assert run.reply("b") == ["parked"]
    assert run.parked == "contradiction"
    assert run.retry() == ["compensate b#1", "resumed"]
    assert run.silence()[-1] == "parked", "the effects that contradicted are compensated, or an operator hears of it"


def test_s15_done_after_verify_said_nothing_is_a_contradiction() -> None:
    run = started({"z": Part(), "a": Part(after=("z",), attempts=1, verify=True)})
    run.reply("z")
    run.timer()
    run.reply("a", "nothing", "verify")
    assert run.reply("a") == ["parked"]
    assert run.parked == "contradiction"


def test_s15_a_contradiction_after_the_end_changes_nothing_and_is_kept_as_a_dead_letter() -> None:
    run = started({"a": Part()})
    run.reply("a", "refused")
    assert run.reply("a") == ["deadletter contradiction"]
    assert run.note == "contradiction", "S15: a contradiction was swallowed"
    assert run.instance.phase == "compensated"


def test_s15_a_late_success_after_the_end_runs_no_user_code_and_changes_nothing() -> None:
    made = make({"a": Part(undo=False, attempts=1), "b": Part()})
    run = Run(made.saga)
    run.start()
    run.reply("b", "refused")
    run.timer()
    assert run.instance.phase == "compensated"
    made.broken.add("a.done")
    assert run.reply("a") == []
    assert run.note == "after-end", "I11: user code that raised after the end parked an instance that had ended"


def test_s15_a_late_refusal_settles_a_step_that_was_given_up() -> None:
    run = started({"a": Part(attempts=1, timeout=5), "b": Part(timeout=500)})
    run.timer()
    run.reply("a", "refused")
    assert run.reply("b", "refused") == ["compensated"], "S12: what was refused is not compensated"


def test_s15_a_late_refusal_does_not_stop_a_compensation_that_is_out() -> None:
    run = started({"a": Part(attempts=1)})
    run.timer()
    assert run.reply("a", "refused") == []
    assert run.note == "late"
    assert run.reply("a", "nothing", "compensate") == ["compensated"]


@pytest.mark.parametrize("outcome", ["refused", "failed", "nothing", "expired"])
def test_s15_what_comes_after_done_is_late(outcome: str) -> None:
    run = started(LINE)
    run.reply("a")
    assert run.reply("a", outcome) == []
    assert run.note == "late"
    assert run.decisions[-1].ignored


# --- S16 --------------------------------------------------------------------------------------------------------------------------


def test_s16_compensation_waits_for_every_branch() -> None:
    run = started(DIAMOND)
    run.reply("a")
    assert run.reply("b", "refused") == [], "S16: compensated while a branch was still on its way"
    assert run.reply("c") == ["compensate c#1"]
    assert run.reply("c", "done", "compensate") == ["compensate a#1"]


def test_s16_nothing_new_is_started_once_a_branch_has_failed() -> None:
    run = started({"a": Part(), "b": Part(), "c": Part(after=("b",))})
    run.reply("a", "refused")
    assert run.reply("b") == ["compensate b#1"], "S16: a step was started after another had failed"


def test_s16_a_branch_without_a_further_attempt_settles_at_its_time_out() -> None:
    run = started({"a": Part(), "b": Part(attempts=9)})
    run.reply("a", "refused")
    assert run.timer() == ["compensate b#1"]
    assert run.now == BEGAN + 10_000


def test_s16_a_branch_that_is_being_verified_is_waited_for() -> None:
    run = started({"a": Part(attempts=1, verify=True, timeout=5), "b": Part(timeout=500), "c": Part(timeout=900)})
    run.timer()
    run.reply("c")
    assert run.reply("b", "refused") == [], "S16: c was compensated although a has not settled"
    assert run.reply("a", "nothing", "verify") == ["compensate c#1"]


def test_s16_a_verify_that_nobody_answers_on_the_way_back_ends_in_a_compensation() -> None:
    run = started({"a": Part(attempts=1, verify=True, timeout=5), "b": Part(timeout=500)})
    run.timer()
    run.reply("b", "refused")
    led = run.silence()
    assert led[:5] == ["verify a#2", "verify a#3", "verify a#4", "verify a#5", "compensate a#1"]


def test_s16_a_join_waits_for_all_before_it() -> None:
    run = started(DIAMOND)
    assert run.reply("a") == ["execute b#1", "execute c#1"]
    assert run.reply("c") == []
    assert run.reply("b") == ["execute d#1"]
    assert run.reply("d") == ["completed"]
    assert run.instance.data["log"] == ["a", "c", "b", "d"]


def test_s16_two_refusals_have_one_cause_and_the_first_counts() -> None:
    run = started(FORK)
    run.reply("a", "refused")
    assert run.reply("b", "refused") == ["compensated"]
    assert run.instance.cause is not None
    assert run.instance.cause.step == "a"
