"""S20, S21, S23: cancel. S30: each thing an operator may do, where it is allowed, and the reason where it is not."""

from __future__ import annotations

from typing import Any

import pytest

from saga.engine.decision import DeadLetter
from saga.engine.state import digest
from tests.engine.kit import LINE, PIVOT, Made, Part, Run, event_for, make, started

STUCK = {"a": Part(), "b": Part(after=("a",), unknown="park", attempts=1), "c": Part(after=("b",))}


def begun(made: Made) -> Run:
    run = Run(made.saga)
    run.start()
    return run


def stuck() -> Run:
    """Step b is unknown, and the instance is parked for it."""
    run = started(STUCK)
    run.reply("a")
    assert run.timer() == ["parked"]
    return run


def at_pivot() -> Run:
    """The pivot's command is out."""
    run = started(PIVOT)
    run.reply("a")
    return run


def past_pivot() -> Run:
    run = at_pivot()
    run.reply("p")
    return run


def holding(parts: dict[str, Part] = LINE, broken: str = "a.done") -> tuple[Made, Run]:
    """User code raised on the reply of a: it is kept."""
    made = make(parts)
    made.broken.add(broken)
    run = begun(made)
    run.reply("a")
    assert run.parked == "user-code"
    return made, run


def refused(run: Run, why: str) -> None:
    assert (run.note, run.detail) == ("operator-refused", why)
    assert run.decisions[-1].ignored
    assert run.decisions[-1].outputs == ()


# --- S20: cancel ----------------------------------------------------------------------------------------------------------------------


def test_s20_a_cancel_before_the_pivot_compensates() -> None:
    run = started(LINE)
    run.reply("a")
    assert run.operate("cancel") == []
    assert (run.note, run.outcome) == ("cancelled", "compensating")
    assert run.reply("b") == ["compensate b#1"], "S16: what is on its way settles first"
    run.reply("b", action="compensate")
    assert run.reply("a", action="compensate") == ["compensated"]
    assert run.instance.cause is not None
    assert (run.instance.cause.why, run.instance.cause.detail) == ("cancelled", "ann: fixed")


def test_s20_a_cancel_ends_pauses_between_attempts_and_waits_without_an_end() -> None:
    run = started({"a": Part(timeout=None)})
    assert run.operate("cancel") == ["compensate a#1"]
    run = started({"a": Part()})
    run.reply("a", "failed")
    assert run.operate("cancel") == ["compensate a#1"]


def test_s20_a_cancel_after_the_pivot_is_refused_with_the_reason() -> None:
    run = past_pivot()
    run.operate("cancel")
    refused(run, "its pivot went through: from here there is only forward")
    assert run.reply("z") == ["completed"]


def test_s20_of_a_cancel_and_the_completion_the_first_one_wins() -> None:
    run = started({"a": Part()})
    run.reply("a")
    run.operate("cancel")
    refused(run, "it has ended")
    run = started({"a": Part()})
    run.operate("cancel")
    assert run.reply("a") == ["compensate a#1"], "the completion came second"


def test_s20_a_saga_without_a_pivot_can_be_cancelled_until_its_end() -> None:
    run = started(LINE)
    run.reply("a")
    run.reply("b")
    run.operate("cancel")
    assert run.reply("c") == ["compensate c#1"]


def test_s20_a_parked_instance_can_be_cancelled() -> None:
    run = stuck()
    assert run.operate("cancel") == ["parked"], "what is to be looked at by an operator (unknown='park') still is"
    assert run.outcome == "compensating"
    assert run.retry() == ["compensate b#1", "resumed"]


def test_s20_an_instance_whose_start_raises_can_be_cancelled() -> None:
    made = make(LINE)
    made.broken.add("start")
    run = begun(made)
    assert run.operate("cancel") == ["compensated", "resumed"], "no operator could ever end it"
    assert run.sends() == []


# --- S21 --------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("outcome", "led"), [("done", ["execute z#1"]), ("refused", ["compensate a#1"])])
def test_s21_a_cancel_while_the_pivot_is_out_waits_for_its_outcome(outcome: str, led: list[str]) -> None:
    run = at_pivot()
    assert run.operate("cancel") == []
    assert (run.note, run.outcome) == ("cancelling", "running")
    assert run.reply("p", outcome) == led


@pytest.mark.parametrize("how", ["failed", "silence"])
def test_s21_a_cancel_while_the_pivot_is_out_ends_its_attempts(how: str) -> None:
    run = at_pivot()
    run.operate("cancel")
    led = run.timer() if how == "silence" else run.reply("p", "failed")
    assert led == ["verify p#1"], "S21: another attempt of a pivot that is not wanted any more"
    assert run.reply("p", "nothing", "verify") == ["compensate a#1"]
    run = at_pivot()
    run.reply("p", "failed")
    assert run.operate("cancel") == ["verify p#1"], "S21: the pause before an attempt is an attempt still to come"


def test_s21_while_nobody_knows_whether_the_pivot_happened_cancel_is_refused() -> None:
    run = started({"a": Part(), "p": Part(after=("a",), pivot=True, attempts=1)})
    run.reply("a")
    run.timer()
    assert run.parked == "unknown"
    for action in ("cancel", "compensate"):
        run.operate(action)
        refused(run, "nobody knows whether its pivot happened; skip the pivot, with or without a result, or retry it")
    assert run.operate("skip", step="p", nothing=True) == ["compensate a#1", "resumed"]


# --- S23 --------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", ["cancel", "compensate"])
def test_s23_a_cancel_does_not_stop_a_compensation(action: str) -> None:
    run = started(LINE)
    run.reply("a")
    run.reply("b", "refused")
    before = run.instance.steps
    run.operate(action)
    refused(run, "it compensates already")
    assert run.instance.steps == before
    run.reply("a", "failed", "compensate")
    run.operate(action)
    assert run.timer() == ["compensate a#2"], "S23: the retries of a compensation ended"


def test_s23_an_event_or_signal_does_not_stop_a_compensation() -> None:
    run = started({"a": Part(), "b": Part(after=("a",)), "w": Part(after=("b",), waits="event")})
    run.reply("a")
    run.reply("b", "refused")
    assert run.event("w") == []
    run.operate("signal", type=event_for("w").__type__, data={})
    assert run.note == "operator-refused"
    assert run.status("a") == "compensating"


# --- S30: compensate --------------------------------------------------------------------------------------------------------------------


def test_s30_compensate_turns_back_and_takes_what_is_stuck_for_unknown() -> None:
    run = stuck()
    assert run.operate("compensate") == ["compensate b#1", "resumed"]
    assert run.instance.cause is not None
    assert run.instance.cause.why == "operator"
    run = past_pivot()
    run.operate("compensate")
    refused(run, "its pivot went through: from here there is only forward")


def test_s30_compensate_ends_a_question_that_nobody_answers() -> None:
    run = started({"a": Part(verify=True, attempts=1)})
    run.timer()
    while not run.parked:
        run.timer()
    assert run.parked == "unverified"
    assert run.operate("compensate") == ["compensate a#1", "resumed"]


# --- S30: skip ----------------------------------------------------------------------------------------------------------------------------


def test_s30_skip_puts_the_given_result_in_the_place_of_a_reply() -> None:
    run = stuck()
    assert run.operate("skip", step="b", result={"note": "by hand"}) == ["execute c#1", "resumed"]
    assert run.log == ["a", "b"]
    assert run.reply("c", "refused") == ["compensate b#1"], "what was done by hand is undone like what was done"


def test_s30_skip_with_nothing_says_that_it_never_happened() -> None:
    run = stuck()
    assert run.operate("skip", step="b", nothing=True) == ["compensate a#1", "resumed"]
    assert run.reply("b") == ["parked"], "S15: a contradiction of what an operator said"
    assert run.parked == "contradiction"


def test_s30_skip_is_refused_where_nothing_is_stuck_or_the_result_does_not_fit() -> None:
    run = started(LINE)
    run.operate("skip", step="a", result={})
    refused(run, "a is not stuck; no step is: a is being tried (attempt 1); skip it once that is given up")
    run = stuck()
    run.operate("skip", step="a", result={})
    refused(run, "a is not stuck; b is")
    run.operate("skip", result={})
    refused(run, "no step is not stuck; b is")
    run.operate("skip", step="b", result={"note": 7})
    refused(run, "note: Input should be a valid string")
    assert run.parked == "unknown"


def test_s30_after_the_pivot_a_step_cannot_be_said_not_to_have_happened() -> None:
    run = past_pivot()
    run.reply("z", "refused")
    run.operate("skip", step="z", nothing=True)
    refused(run, "it is after the pivot, where there is no way back: give a result")
    assert run.operate("skip", step="z", result={}) == ["completed", "resumed"]


def test_s15_what_was_done_by_hand_since_it_was_denied_and_is_done_after_all_is_a_contradiction() -> None:
    run = past_pivot()
    run.reply("z", "refused")
    run.operate("skip", step="z", result={})
    assert run.outcome == "completed"
    assert run.reply("z") == ["deadletter contradiction"], "S15: done twice, and nobody hears of it"
    run = started(PIVOT | {"y": Part(after=("p",))})
    run.reply("a")
    run.reply("p")
    run.reply("z", "refused")
    run.reply("y", "expired")
    run.operate("skip", step="z", result={})
    assert run.reply("z") == ["parked"]
    assert run.parked == "contradiction"


def test_s30_skip_of_a_compensation_says_that_it_was_done_by_hand() -> None:
    run = started(LINE)
    run.reply("a")
    run.reply("b", "refused")
    run.reply("a", "refused", "compensate")
    assert run.parked == "compensation"
    assert run.operate("skip", step="a") == ["compensated", "resumed"]
    assert run.instance.steps["a"].answer == "skipped"


def test_s30_skip_after_a_contradiction_lets_stand_what_was_said_before() -> None:
    run = started(LINE)
    run.reply("a")
    run.reply("b", "refused")
    late = run.answer("b")
    run.feed(late)
    assert run.parked == "contradiction"
    assert run.reply("a", action="compensate") == []
    assert run.note == "kept"
    run.operate("skip", step="a")
    refused(run, "it is parked for what contradicts b, not for a; skip lets stand what was said before")
    assert run.operate("skip", step="b") == ["deadletter contradiction", "compensated", "resumed"]
    (letter,) = [output for output in run.decisions[-1].outputs if isinstance(output, DeadLetter)]
    assert letter.given == late.to_json()


def test_s30_what_was_meant_for_another_reason_waves_no_contradiction_through() -> None:
    run = started(LINE)
    run.reply("a")
    run.reply("b", "refused")
    assert run.reply("b") == ["parked"]
    assert run.operate("resume", parked="version") == []
    assert (run.note, run.parked) == ("operator-refused", "contradiction")
    assert "resumed" in run.operate("resume", parked="contradiction")


def test_s30_what_was_meant_for_another_run_does_not_touch_this_one() -> None:
    run = started(LINE)
    assert run.operate("cancel", instance="shop:k1:before") == []
    refused(run, f"this was meant for shop:k1:before, and now it is {run.instance.id}")
    run.operate("cancel", instance=run.instance.id)
    assert run.note == "cancelled"


def test_s30_retry_after_a_contradiction_lets_stand_what_was_said_last() -> None:
    run = started(LINE)
    run.reply("a")
    run.reply("b", "refused")
    run.reply("b")
    assert run.retry() == ["compensate b#1", "resumed"]
    run.reply("b", action="compensate")
    assert run.reply("a", action="compensate") == ["compensated"], "it was on its way already"


# --- S30: edit, resume, signal ------------------------------------------------------------------------------------------------------------


def test_s30_edit_changes_the_data_while_parked_and_nothing_else() -> None:
    run = stuck()
    before, since = run.instance.steps, run.instance.parked
    assert run.operate("edit", data={"key": "k1", "text": "new"}) == []
    assert run.note == "edited"
    assert (run.instance.data["text"], run.instance.steps, run.instance.parked) == ("new", before, since)
    run.operate("edit", data={"text": "no key"})
    refused(run, "key: Field required")
    seen = digest(run.instance.data)
    assert run.operate("edit", data={"key": "k1", "text": "newer"}, was=seen) == []
    assert (run.note, run.instance.data["text"]) == ("edited", "newer")
    run.operate("edit", data={"key": "k1", "text": "lost"}, was=seen)
    refused(run, "somebody else has changed its data meanwhile; look again")
    run = started(LINE)
    run.operate("edit", data={"key": "k1"})
    refused(run, "data is edited only while it is parked, when nothing else changes it")


def test_s30_edit_with_kept_inputs_comes_before_them() -> None:
    made, run = holding()
    assert run.operate("edit", data={"key": "k1", "log": ["edited"]}) == []
    assert run.parked == "user-code"
    made.broken.clear()
    assert run.retry() == ["execute b#1", "resumed"]
    assert run.log == ["edited", "a"]


def test_s30_resume_applies_what_was_kept_and_sends_nothing_again() -> None:
    made, run = holding()
    made.broken.clear()
    assert run.operate("resume") == ["execute b#1", "resumed"]
    run = stuck()
    run.operate("resume")
    refused(run, "no input is kept for it; retry, skip or compensate what is stuck")
    run = started(LINE)
    run.operate("resume")
    refused(run, "it is not parked but running")


def test_s30_a_signal_settles_the_wait_and_is_refused_where_none_is() -> None:
    run = started({"w": Part(waits="event"), "z": Part(after=("w",))})
    run.operate("signal", type="world.other.v1", data={})
    refused(run, "no step waits for world.other.v1; this saga waits for world.w.v1")
    run.operate("signal", type=event_for("w").__type__, data={"note": 7})
    refused(run, "note: Input should be a valid string")
    run.operate("signal", type=event_for("w").__type__, step="z", data={})
    refused(run, "z waits for no world.w.v1; w does")
    assert run.operate("signal", type=event_for("w").__type__, data={"note": "said"}) == ["execute z#1"]
    run.operate("signal", type=event_for("w").__type__, data={})
    refused(run, "w does not wait any more")
    run = started(LINE)
    run.operate("signal", type="world.w.v1", data={})
    refused(run, "no step waits for world.w.v1; this saga waits for no event at all")


# --- S30 with kept inputs -----------------------------------------------------------------------------------------------------------------


def test_s30_cancel_with_kept_inputs_turns_back_and_then_takes_them() -> None:
    made, run = holding()
    made.broken.clear()
    assert run.operate("cancel") == ["compensate a#1", "resumed"]
    assert run.log == ["a"]


def test_s30_cancel_with_kept_inputs_that_still_raise_parks_again() -> None:
    made, run = holding()
    assert run.operate("cancel") == ["parked"]
    assert (run.note, run.parked, run.outcome) == ("parked", "user-code", "compensating")
    made.broken.clear()
    assert run.retry() == ["compensate a#1", "resumed"]


ACTIONS: dict[str, dict[str, Any]] = {
    "cancel": {},
    "compensate": {},
    "skip": {"step": "b", "result": {"note": 7}},
    "edit": {"data": {"log": 7}},
}


@pytest.mark.parametrize("action", ACTIONS)
def test_s30_what_is_refused_leaves_kept_inputs_where_they_are(action: str) -> None:
    made, run = holding(PIVOT | {"a": Part(), "y": Part(after=("p",))})
    made.broken.clear()
    run.retry()
    run.reply("p")
    made.broken.add("z.done")
    run.reply("z")
    run.reply("y")
    kept = list(run.instance.kept)
    assert len(kept) == 2
    assert run.operate(action, **ACTIONS[action]) == []
    assert run.note == "operator-refused"
    assert run.instance.kept == kept, f"P4: {action} was refused, and what was kept is gone"
    made.broken.clear()
    assert run.retry() == ["completed", "resumed"]


def test_s29_a_signal_waits_its_turn_behind_what_is_kept() -> None:
    parts = LINE | {"w": Part(after=("a",), waits="event"), "v": Part(after=("w",), waits="event", event="w")}
    made, run = holding(parts)
    run.event("w", "one")
    assert run.operate("signal", type=event_for("w").__type__, data={"note": "two"}) == []
    assert run.note == "kept"
    made.broken.clear()
    run.retry()
    assert run.log == ["a", "w one", "v two"], "S29: a signal overtook what was kept"


@pytest.mark.parametrize("action", [*ACTIONS, "retry", "resume", "signal"])
def test_s30_nothing_is_done_to_what_has_ended(action: str) -> None:
    run = started({"a": Part()})
    run.reply("a")
    run.operate(action, **ACTIONS.get(action, {}))
    assert run.note == "operator-refused"
    assert run.detail in ("it has ended", "it is not parked but completed")
    assert run.decisions[-1].ignored


def test_s30_a_refused_action_does_not_take_effect_when_it_comes_again() -> None:
    run = started(LINE)
    run.operate("resume", id="one")
    run.operate("resume", id="one")
    assert run.note == "duplicate"


def test_s29_user_code_that_raises_for_an_operators_action_is_kept_with_it() -> None:
    made = make(LINE)
    run = begun(made)
    run.reply("a")
    run.reply("b", "failed")
    made.broken.add("b.compensate")
    assert run.operate("cancel") == ["parked"]
    made.broken.clear()
    assert run.retry() == ["compensate b#1", "resumed"], "S30: the operator's action was lost"
