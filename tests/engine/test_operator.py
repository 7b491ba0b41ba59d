"""S5: other versions. S29 and S30: user code that raises, parking, `retry`. S32: limits."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from pydantic import field_validator

from saga.engine.apply import apply
from saga.engine.decide import decide, refuse_growth
from saga.engine.decision import DeadLetter, Input, Kind
from saga.engine.definition import Saga
from saga.engine.messages import Command, Event
from saga.engine.nodes import START
from saga.engine.policy import MAX_DATA_BYTES, MAX_DECISIONS, MAX_KEPT
from tests.engine.kit import BEGAN, DIAMOND, LINE, PIVOT, Made, Ordered, Part, Run, Work, make, short

LARGE = "x" * (MAX_DATA_BYTES + 1)


def begun(made: Made) -> Run:
    run = Run(made.saga)
    run.start()
    return run


# --- S5 ---------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("other", [make(LINE, version=2), None, make(DIAMOND)])
def test_s05_without_its_version_an_instance_parks_says_so_and_goes_on_when_it_is_back(other: Made | None) -> None:
    made = make(LINE)
    run = begun(made)
    run.saga = other.saga if other else None
    assert run.reply("a") == ["parked"]
    assert run.parked == "version"
    assert run.instance.parked is not None
    assert "the instance runs version 1" in run.instance.parked.detail
    assert run.retry() == []
    assert run.note == "operator-refused"
    run.saga = made.saga
    assert run.retry() == ["execute b#1", "resumed"], "S29: an input was lost while the version was not there"


def test_s05_an_ended_instance_needs_no_version() -> None:
    run = begun(make({"a": Part()}))
    run.reply("a")
    run.saga = None
    assert run.reply("a", id="again") == []
    assert run.note == "after-end"
    assert run.start(id="again") == ["completed"]


def test_s05_a_timer_without_its_version_parks_too() -> None:
    run = begun(make({"a": Part()}))
    made_saga, run.saga = run.saga, None
    assert run.timer() == ["parked"]
    run.saga = made_saga
    assert run.retry() == ["resumed"]
    assert run.timer() == ["execute a#2"]


def test_s05_what_was_parked_before_parks_again_when_nothing_that_was_kept_changes_it() -> None:
    made = make({"a": Part(unknown="park", attempts=1)})
    run = begun(made)
    run.timer()
    run.saga = None
    run.reply("a", "failed")
    assert run.parked == "version"
    run.saga = made.saga
    run.retry()
    assert run.parked == "unknown", "P5: it hangs: not parked any more, and nothing will come"
    assert run.retry() == ["execute a#2", "resumed"]


# --- S29 --------------------------------------------------------------------------------------------------------------------------


def test_s29_a_start_that_raises_parks_with_the_traceback_and_goes_on_after_the_fix() -> None:
    made = make(LINE)
    made.broken.add("start")
    run = Run(made.saga)
    assert run.start() == ["started", "parked"]
    assert run.instance.parked is not None
    assert run.parked == "user-code"
    assert "Broken: start is broken" in run.instance.parked.detail
    assert run.retry() == ["parked"], "still broken"
    made.broken.clear()
    assert run.retry() == ["execute a#1", "resumed"]


PLACES = {
    "b": "the command of the next step",
    "a.done": "the function that takes the reply",
    "a.compensate": "a compensation",
    "b.verify": "a question",
}


@pytest.mark.parametrize("place", PLACES)
def test_s29_wherever_user_code_raises_the_input_is_kept_and_applied_after_the_fix(place: str) -> None:
    made = make({"a": Part(), "b": Part(after=("a",), attempts=1, verify=True)})
    run = begun(made)
    if place == "a.compensate":
        run.reply("a")
        given, expected = run.answer("b", "refused"), ["compensate a#1", "resumed"]
    elif place == "b.verify":
        run.reply("a")
        given, expected = run.answer("b", "expired"), ["verify b#1", "resumed"]
    else:
        given, expected = run.answer("a"), ["execute b#1", "resumed"]
    before = run.instance.steps
    made.broken.add(place)
    assert run.feed(given) == ["parked"]
    assert (run.parked, run.note) == ("user-code", "parked")
    assert run.instance.steps == before, f"S29: {PLACES[place]} raised, and half of the decision stood"
    assert run.feed(given) == []
    assert run.note == "duplicate", "S11: a kept input was kept twice"
    made.broken.clear()
    assert run.retry() == expected
    assert run.note == "retried"


FIXED = {"now": False}


class Weighed(Event, type="work.weighed.v1"):
    grams: int = 0

    @field_validator("grams", mode="before")
    @classmethod
    def _grams(cls, value: Any) -> Any:
        return value if FIXED["now"] else value["grams"]  # TypeError: pydantic lets it through


class Weigh(Command[Weighed], service="work"):
    pass


def _begin(event: Ordered) -> Work:
    return Work(key=event.key)


def _weigh(_data: Work) -> Weigh:
    return Weigh()


def test_s29_a_reply_on_which_a_validator_breaks_is_kept_and_applied_after_the_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    saga = Saga("shop", version=1, starts_on=Ordered, key=lambda event: event.key, data=Work, deadline=timedelta(hours=1))
    saga.start(_begin)
    saga.step(after=START, compensation=None)(_weigh)
    run = Run(saga)
    run.start()
    given = run.answer("_weigh", type=Weighed.__type__, data={"grams": 5})
    assert run.feed(given) == ["parked"]
    assert (run.parked, run.status("_weigh")) == ("user-code", "executing")
    monkeypatch.setitem(FIXED, "now", True)
    assert run.retry() == ["completed", "resumed"]
    monkeypatch.setitem(FIXED, "now", False)
    assert run.feed(replace(given, id="again")) == []
    assert run.note == "after-end", "S29: what ended was parked for a reply that nobody waits for"


def test_s29_a_kept_input_that_becomes_a_dead_letter_is_the_one_that_is_kept_there() -> None:
    made = make({"a": Part(), "b": Part()})
    run = begun(made)
    made.broken.add("a.done")
    run.reply("a")
    invalid = run.answer("b", data={"note": 5})
    run.feed(invalid)
    assert run.note == "kept"
    made.broken.clear()
    assert run.retry() == ["deadletter schema", "resumed"]
    (letter,) = (output for output in run.decisions[-1].outputs if isinstance(output, DeadLetter))
    assert letter.given == invalid.to_json(), "S29: what was kept is lost: its dead letter holds the operator's action"


def test_s29_inputs_are_kept_in_order_and_retry_applies_them_until_one_raises_again() -> None:
    made = make({"a": Part(), "b": Part(), "c": Part()})
    run = begun(made)
    made.broken |= {"a.done", "c.done"}
    run.reply("a")
    assert run.reply("b") == []
    assert run.note == "kept"
    run.reply("c")
    made.broken.discard("a.done")
    assert run.retry() == ["parked"]
    assert run.note == "parked"
    assert run.instance.data["log"] == ["a", "b"], "S29: kept inputs are applied in order until one raises"
    assert run.parked == "user-code"
    assert len(run.instance.kept) == 1
    made.broken.clear()
    assert run.retry() == ["completed", "resumed"]
    assert run.instance.data["log"] == ["a", "b", "c"]


def test_s29_a_timer_whose_user_code_raises_is_kept_too() -> None:
    made = make({"a": Part(attempts=1)})
    made.broken.add("a.compensate")
    run = begun(made)
    assert run.timer() == ["parked"]
    made.broken.clear()
    assert run.retry() == ["compensate a#1", "resumed"]


def test_s29_timers_stand_still_while_parked_and_are_due_after_the_kept_inputs() -> None:
    made = make({"a": Part(), "b": Part()})
    run = begun(made)
    made.broken.add("a.done")
    run.reply("a")
    due = run.instance.steps["b"].due
    run.now = BEGAN + 99_000
    assert run.feed(Input(Kind.TIMER, data={"step": "b", "due": due})) == []
    assert run.note == "parked"
    run.reply("b")
    made.broken.clear()
    assert run.retry() == ["completed", "resumed"], "S29: a time-out beat a reply that was kept"


def test_s29_the_deadline_only_alerts_while_parked() -> None:
    run = begun(make({"a": Part(unknown="park", attempts=1)}, deadline=20))
    run.timer()
    since = run.instance.parked
    assert run.deadline() == []
    assert run.instance.parked == since


def test_s29_empty_payloads_survive_being_kept() -> None:
    made = make({"a": Part(), "b": Part()})
    run = begun(made)
    made.broken.add("a.done")
    run.reply("a")
    run.reply("b", data={})
    made.broken.clear()
    assert run.retry() == ["completed", "resumed"], "P4: a kept event without fields was dropped"


@pytest.mark.parametrize("wrong", ["not the data", None, 7])
def test_s29_a_function_that_returns_something_else_parks(wrong: object) -> None:
    made = make(LINE)
    run = begun(made)
    step = made.saga.steps["a"]
    right, step.receive = step.receive, lambda _data, _reply: wrong  # type: ignore[assignment]
    assert run.reply("a") == ["parked"]
    assert run.instance.parked is not None
    assert "must return a Work" in run.instance.parked.detail
    step.receive = right
    assert run.retry() == ["execute b#1", "resumed"]


def test_s29_data_that_could_not_be_read_back_is_refused_when_it_is_made() -> None:
    made = make(LINE)
    run = begun(made)
    step = made.saga.steps["a"]
    right, step.receive = step.receive, lambda data, _reply: data.model_copy(update={"key": None})
    assert run.reply("a") == ["parked"], "bad data is in the journal now: no fix of the code helps"
    step.receive = right
    assert run.retry() == ["execute b#1", "resumed"]


def test_s29_user_code_that_ends_the_process_only_parks_its_instance() -> None:
    made = make(LINE)
    run = begun(made)

    def leave(_data: object, _reply: object) -> None:
        raise SystemExit(1)

    made.saga.steps["a"].receive = leave  # type: ignore[assignment]
    assert run.reply("a") == ["parked"]


def test_s29_while_parked_a_repeated_start_is_still_answered() -> None:
    made = make(LINE)
    made.broken.add("start")
    run = begun(made)
    assert run.start(id="again") == ["started"]


# --- S30: retry -------------------------------------------------------------------------------------------------------------------


def test_s30_retry_is_refused_with_the_reason_where_nothing_is_parked() -> None:
    run = begun(make({"a": Part()}))
    assert run.retry() == []
    assert (run.note, run.decisions[-1].detail) == ("operator-refused", "it is not parked but running")
    run.reply("a")
    run.retry()
    assert (run.note, run.decisions[-1].detail) == ("operator-refused", "it is not parked but completed")


def test_s30_retry_of_nothing_is_unmatched() -> None:
    given = Input(Kind.OPERATOR, "saga.retry.v1", "1", "cli", data={})
    assert decide(make(LINE).saga, None, given, BEGAN, "k1").note == "unmatched"


def test_s30_a_retry_whose_user_code_raises_is_kept_and_done_by_the_next() -> None:
    made = make({"a": Part(), "b": Part(after=("a",))})
    run = begun(made)
    run.reply("a")
    run.reply("b", "refused")
    run.reply("a", "refused", "compensate")
    made.broken.add("a.compensate")
    assert run.retry() == ["parked"]
    assert run.parked == "user-code"
    made.broken.clear()
    assert run.retry() == ["compensate a~2#1", "resumed"]


def test_s30_retry_moves_every_step_that_is_stuck() -> None:
    run = begun(make(PIVOT | {"y": Part(after=("p",))}))
    run.reply("a")
    run.reply("p")
    run.reply("z", "refused")
    run.reply("y", "expired")
    assert run.retry() == ["execute z~2#1", "execute y#2", "resumed"]


def test_s30_the_decision_holds_who_and_why() -> None:
    run = begun(make({"a": Part(unknown="park", attempts=1)}))
    run.timer()
    run.retry()
    assert (run.decisions[-1].input.data["who"], run.decisions[-1].input.data["why"]) == ("ann", "fixed")


# --- S32 --------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["start", "a", "a.done", "a.compensate"])
def test_s32_what_is_too_large_parks_and_says_so(place: str) -> None:
    made = make({"a": Part(), "b": Part(after=("a",))})
    made.text[place] = LARGE
    run = begun(made)
    for step, outcome in (("a", "done"), ("b", "refused")):
        if not run.parked:
            run.reply(step, outcome)
    assert run.parked == "too-large"
    assert run.instance.parked is not None
    assert f"at most {MAX_DATA_BYTES} are possible" in run.instance.parked.detail
    made.text.clear()
    assert "resumed" in run.retry()


def test_s32_all_commands_of_an_instance_together_are_bounded() -> None:
    made = make({name: Part() for name in "abc"})
    made.text |= dict.fromkeys("abc", "x" * 200_000)
    run = begun(made)
    assert run.parked == "too-large", "an instance's state could outgrow what a broker takes"


@pytest.mark.parametrize("kind", ["chain", "child"])
def test_s32_all_that_an_instance_starts_is_bounded(kind: str) -> None:
    other = make({"x": Part()}, name="other").saga
    made = make({name: Part(**{kind: other}) for name in "abcdefghij"})  # type: ignore[arg-type]
    made.text |= dict.fromkeys("abcdefghij", "x" * 200_000)
    assert begun(made).parked == "too-large", "a decision could outgrow what a broker takes, and block its partition"


def test_s32_the_remedies_of_an_instance_are_bounded() -> None:
    made = make({name: Part(waits="event", late=True) for name in "abc"})
    made.text |= {f"{name}.late": "x" * 200_000 for name in "abc"}
    run = begun(made)
    run.silence()
    assert run.parked == "too-large", "an instance's state could outgrow what a broker takes"


def test_s32_the_compensations_of_one_decision_are_bounded() -> None:
    made = make({name: Part() for name in "abcdef"} | {"end": Part(after=tuple("abcdef"))})
    made.text |= {f"{name}.compensate": "x" * 200_000 for name in "abcdef"}
    run = begun(made)
    for name in "abcdef":
        run.reply(name)
    run.reply("end", "refused")
    assert run.parked == "too-large", "a decision could outgrow what a broker takes, and block its partition"


def test_s32_what_is_nested_too_deeply_to_be_written_parks() -> None:
    made = make(LINE)
    run = begun(made)
    nested: list[object] = []
    for _ in range(250):
        nested = [nested]
    made.saga.steps["a"].receive = lambda data, _reply: data.model_copy(update={"log": nested})
    with pytest.warns(UserWarning, match="Pydantic serializer warnings"):
        run.reply("a")
    assert run.parked == "user-code"


def held(made: Made) -> Run:
    run = begun(made)
    made.broken.add("a.done")
    run.reply("a")
    return run


def test_s32_so_many_inputs_are_kept_and_the_next_is_a_dead_letter_that_can_be_redriven() -> None:
    run = held(make(DIAMOND))
    for _ in range(MAX_KEPT - 1):
        assert run.reply("a", "failed") == []
    late = run.answer("a", "failed")
    assert run.feed(late) == ["deadletter kept-full"]
    assert run.decisions[-1].ignored
    assert run.feed(late) == ["deadletter kept-full"], "P4: redriven, it would be taken for a duplicate"


def test_s32_kept_inputs_are_bounded_in_bytes_too() -> None:
    run = held(make(DIAMOND))
    large = {"note": "x" * 100_000}
    assert [run.reply("a", data=large) for _ in range(3)] == [[], [], ["deadletter kept-full"]]


def test_s32_the_first_input_is_kept_however_large() -> None:
    made = make(LINE)
    made.broken.add("a.done")
    run = begun(made)
    assert run.reply("a", data={"note": "x" * 262_000}) == ["parked"]
    made.broken.clear()
    assert run.retry() == ["execute b#1", "resumed"]


def test_s32_after_too_many_decisions_an_instance_parks_and_retry_gives_it_as_many_again() -> None:
    run = begun(make(LINE))
    run.instance.limit = 3
    run.reply("a", "nothing", attributes={"sagacommand": f"{run.instance.id}:x:execute"})
    assert run.reply("a") == ["parked"]
    assert run.parked == "limit"
    for _ in range(50):
        run.start()
    assert run.retry() == ["execute b#1", "resumed"], "S29: the input that met the limit was lost"
    assert run.instance.limit > run.instance.seq + MAX_DECISIONS - 10
    assert run.reply("b") == ["execute c#1"]


def test_s32_a_state_that_would_grow_too_large_parks_and_the_input_can_be_redriven() -> None:
    run = begun(make(LINE))
    given = run.answer("a")
    decision = refuse_growth(run.instance, given, run.now, 2_000_000)
    assert [short(output) for output in decision.outputs] == ["deadletter too-large", "parked"]
    apply(run.instance, decision)
    assert run.parked == "too-large"
    assert run.retry() == ["resumed"]
    assert run.feed(given) == ["execute b#1"], "P4: redriven from the dead letters, it was taken for a duplicate"
