"""S7: events before their start and before their step. Waits: events, answers, times; what is late, and what then (S4, S19, S26)."""

from __future__ import annotations

import pytest

from saga.engine.book import Book
from saga.engine.decision import Announce, DeadLetter, Input, Kind
from saga.engine.definition import Saga
from saga.engine.policy import KEEP_EARLY, MAX_EARLY
from tests.engine.kit import BEGAN, Part, Run, event_for, make, started

WAIT = {"a": Part(), "w": Part(after=("a",), waits="event"), "z": Part(after=("w",))}
AFTER_PIVOT = {"p": Part(pivot=True), "w": Part(after=("p",), waits="event")}


def waiting(**options: object) -> Run:
    """A run whose step w waits."""
    run = started(WAIT | {"w": Part(after=("a",), waits="event", **options)})  # type: ignore[arg-type]
    run.reply("a")
    return run


def fresh(parts: dict[str, Part] = WAIT) -> Run:
    return Run(make(parts).saga)


# --- S7: before the start ---------------------------------------------------------------------------------------------------------


def test_s07_an_event_before_the_start_is_kept_and_applied_at_its_step() -> None:
    run = fresh()
    assert run.event("w", "early") == []
    assert (run.note, run.outcome) == ("early", "early")
    assert run.start() == ["started", "execute a#1"]
    assert run.reply("a") == ["execute z#1"]
    assert run.log == ["a", "w early"]


def test_s07_the_same_event_twice_before_the_start_is_kept_once() -> None:
    run = fresh({"v": Part(waits="event", event="w"), "w": Part(after=("v",), waits="event")})
    run.event("w", "one", id="same")
    run.event("w", "one", id="same")
    assert run.note == "duplicate"
    run.start()
    assert run.event("w", "one", id="same") == []
    assert (run.note, run.log) == ("duplicate", ["v one"]), "S11: a repeat of what came early was taken for another event"


def test_s07_events_before_the_start_are_applied_in_the_order_in_which_they_came() -> None:
    run = fresh({"v": Part(waits="event", event="w"), "w": Part(after=("v",), waits="event")})
    run.event("w", "one")
    run.event("w", "two")
    assert run.start() == ["started", "completed"]
    assert run.log == ["v one", "w two"]


def test_s07_what_nobody_starts_goes_to_the_dead_letters_after_a_while() -> None:
    run = fresh()
    run.event("w", "one")
    run.event("w", "two")
    assert run.timer() == ["deadletter never-started"] * 2
    assert run.now == BEGAN + KEEP_EARLY.total_seconds() * 1000
    letters = [output for output in run.decisions[-1].outputs if isinstance(output, DeadLetter)]
    assert [letter.given["data"]["note"] for letter in letters] == ["one", "two"]
    assert run.instance.keep_until == run.now
    assert run.instance.next_timer() is None


def test_s07_what_comes_after_the_strays_were_given_up_is_kept_anew() -> None:
    run = fresh()
    run.event("w", "one")
    run.timer()
    assert run.event("w", "two") == []
    assert run.note == "early"
    assert run.instance.next_timer() == (run.now + KEEP_EARLY.total_seconds() * 1000, "")
    run.start()
    run.reply("a")
    assert run.log == ["a", "w two"]


def test_s07_the_timer_of_strays_fires_once_and_not_before_its_time() -> None:
    run = fresh()
    run.event("w")
    due = run.instance.deadline
    assert run.feed(Input(Kind.TIMER, data={"step": "", "due": due})) == []
    assert run.note == "early"
    run.timer()
    assert run.feed(Input(Kind.TIMER, data={"step": "", "due": due})) == []
    assert run.note == "void", "S26: a timer fired twice"


def test_s07_so_many_are_kept_before_the_start_and_the_next_can_be_redriven() -> None:
    run = fresh()
    for number in range(MAX_EARLY):
        assert run.event("w", str(number)) == []
    assert run.event("w", "more", id="more") == ["deadletter early-full"]
    assert run.event("w", "more", id="more") == ["deadletter early-full"], "P4: redriven, it would be taken for a duplicate"
    run.start()
    run.reply("a")
    assert run.log[-1] == "w 0"


def test_s07_what_is_kept_early_is_bounded_in_bytes_too() -> None:
    run = fresh()
    large = "x" * 100_000
    assert [run.event("w", large) for _ in range(3)] == [[], [], ["deadletter early-full"]]
    run.start()
    assert [run.event("w", large) for _ in range(2)] == [["deadletter early-full"]] * 2
    assert fresh().event("w", "x" * 260_000) == [], "the first is kept, however large an input may be"


def test_s07_other_events_are_not_kept() -> None:
    book = Book([make(WAIT).saga])
    assert book.knows(event_for("w").__type__)
    assert not book.knows("world.unheard-of.v1")
    assert "world.events" in book.topics
    (target,) = book.route(event_for("w").__type__, {}, {"key": "k1"})
    assert (target.kind, target.saga, target.key) == (Kind.EVENT, "shop", "k1")


def test_s07_a_signal_before_the_start_is_kept_like_an_event() -> None:
    run = fresh()
    run.operate("signal", type=event_for("w").__type__, data={"note": "said"})
    assert run.note == "early"
    run.start()
    assert run.reply("a") == ["execute z#1"]
    assert run.log == ["a", "w said"]
    other = fresh()
    other.operate("signal", type="world.other.v1", data={})
    assert other.note == "unmatched"
    other.operate("signal", type=event_for("w").__type__, data={"note": 7})
    assert other.note == "unmatched", "what is no such event was kept"


# --- S7: before the step ------------------------------------------------------------------------------------------------------------


def test_s07_an_event_before_its_step_is_kept_and_applied_when_its_turn_comes() -> None:
    run = started(WAIT)
    assert run.event("w", "early") == []
    assert run.note == "early"
    assert run.reply("a") == ["execute z#1"]
    assert run.log == ["a", "w early"]


def test_s07_a_signal_before_its_step_is_kept_too() -> None:
    run = started(WAIT)
    run.operate("signal", type=event_for("w").__type__, data={"note": "said"})
    assert run.note == "early"
    assert run.reply("a") == ["execute z#1"]


def test_s07_so_many_are_kept_before_the_step() -> None:
    run = started(WAIT)
    for number in range(MAX_EARLY):
        run.event("w", str(number))
    assert run.event("w", "more") == ["deadletter early-full"]
    run.operate("signal", type=event_for("w").__type__, data={})
    assert run.note == "operator-refused"


def test_s07_what_came_early_and_is_never_needed_goes_with_the_end() -> None:
    run = started(WAIT)
    run.event("w")
    assert run.reply("a", "refused") == ["compensated"]
    assert run.instance.early == []
    assert run.event("w") == []
    assert run.note == "after-end"


def test_s07_an_early_event_that_has_become_invalid_is_a_dead_letter_and_no_other_input_suffers() -> None:
    run = started(WAIT)
    run.event("w", "old")
    run.event("w", "new")
    run.instance.early[0]["data"]["note"] = 7  # as if its class had been another when it came
    assert run.reply("a") == ["deadletter schema", "execute z#1"]
    assert run.log == ["a", "w new"]
    (letter,) = [output for output in run.decisions[-1].outputs if isinstance(output, DeadLetter)]
    assert letter.given["data"]["note"] == 7


def test_s07_an_event_after_its_step_is_late() -> None:
    run = waiting()
    run.event("w", "one")
    assert run.event("w", "two") == []
    assert run.note == "late"
    assert run.log == ["a", "w one"]


def test_s07_an_event_that_is_not_as_its_class_says_is_a_dead_letter() -> None:
    run = waiting()
    assert run.event("w", data={"key": "k1", "note": 7}) == ["deadletter schema"]
    assert run.event("w") == ["execute z#1"]


# --- waits ----------------------------------------------------------------------------------------------------------------------------


def test_s04_what_does_not_come_in_time_turns_the_saga_back() -> None:
    run = waiting()
    assert run.timer() == ["late", "compensate a#1"]
    assert run.instance.cause is not None
    assert (run.instance.cause.why, run.instance.cause.step) == ("late", "w")
    assert run.event("w") == []
    assert run.note == "late"


def test_s04_with_a_remedy_there_is_one_more_such_time() -> None:
    run = waiting(late=True)
    assert run.timer() == ["late", "execute w#1"]
    assert run.reply("w") == []
    assert run.instance.steps["w"].due == run.now + 60_000
    assert run.timer() == ["late", "compensate a#1"]
    told = [o.data["last"] for d in run.decisions for o in d.outputs if isinstance(o, Announce) and o.type == "saga.late.v1"]
    assert told == [False, True]


@pytest.mark.parametrize("when", ["while the remedy is out", "after it"])
def test_s04_what_comes_after_its_remedy_still_counts(when: str) -> None:
    run = waiting(late=True)
    run.timer()
    if when == "after it":
        run.reply("w")
    assert run.event("w") == ["execute z#1"]
    assert run.reply("w", id="late") == []
    assert (run.note, run.status("w")) == ("late", "done")


@pytest.mark.parametrize("how", ["refused", "silence"])
def test_s14_a_remedy_that_fails_is_the_end_of_the_wait_and_no_contradiction_later(how: str) -> None:
    run = waiting(late=True)
    run.timer()
    _ = run.silence() if how == "silence" else run.reply("w", "refused")
    assert run.status("w") == "refused"
    assert "compensate a#1" in run.led
    attempt = run.instance.steps["w"].attempt
    if how == "silence":
        assert attempt == 5, "S13: the remedy has the ordinary attempts"
    assert run.reply("w") == []
    assert run.note in ("late", "after-end"), "S15: the remedy says nothing about the event"


def test_s16_a_remedy_that_is_out_when_the_saga_turns_back_is_settled_and_waits_no_more() -> None:
    run = started({"a": Part(), "w": Part(waits="event", late=True, within=5)})
    assert run.timer() == ["late", "execute w#1"]
    assert run.reply("a", "refused") == []
    assert run.reply("w") == ["compensated"], "P5: it waited for an event that it would not take"
    assert run.status("w") == "skipped"


def test_s19_after_the_pivot_a_wait_that_is_missed_parks() -> None:
    run = started(AFTER_PIVOT)
    run.reply("p")
    assert run.timer() == ["late", "parked"]
    assert run.parked == "late"
    assert run.event("w") == ["completed", "resumed"], "an event that comes late after all resumes it"


def test_s19_after_the_pivot_an_operator_lets_a_missed_wait_go_on_or_says_what_came() -> None:
    run = started(AFTER_PIVOT)
    run.reply("p")
    run.timer()
    assert run.retry() == ["resumed"]
    assert run.timer() == ["late", "parked"]
    assert run.operate("skip", step="w", result={"note": 7}) == []
    assert run.note == "operator-refused"
    assert run.operate("skip", step="w", result={"note": "seen"}) == ["completed", "resumed"]
    assert run.log[-1] == "w seen"


def test_s25_the_deadline_ends_a_wait_without_an_end_of_its_own() -> None:
    run = waiting(within=None)
    assert run.instance.next_timer() == (run.instance.deadline, "")
    assert run.timer() == ["compensate a#1"]
    assert run.status("w") == "skipped"


def test_s26_a_wait_that_ended_has_no_timer() -> None:
    run = waiting()
    due = run.instance.steps["w"].due
    run.event("w")
    run.now = BEGAN + 3_000_000
    assert run.feed(Input(Kind.TIMER, data={"step": "w", "due": due})) == []
    assert run.note == "void"
    early = waiting()
    assert early.feed(Input(Kind.TIMER, data={"step": "w", "due": early.instance.steps["w"].due})) == []
    assert early.note == "early"


def test_s26_a_pause_ends_at_its_time_and_not_before() -> None:
    run = started({"s": Part(waits="pause", within=30), "z": Part(after=("s",))})
    due = run.instance.steps["s"].due
    assert due == BEGAN + 30_000
    assert run.feed(Input(Kind.TIMER, data={"step": "s", "due": due})) == []
    assert run.note == "early"
    assert run.timer() == ["execute z#1"]
    assert run.feed(Input(Kind.TIMER, data={"step": "s", "due": due})) == []
    assert (run.note, run.log) == ("void", ["s"])


def test_s26_while_parked_waits_and_pauses_stand_still_and_end_afterwards() -> None:
    made = make({"a": Part(), "s": Part(waits="pause", within=30)})
    run = Run(made.saga)
    run.start()
    made.broken.add("a.done")
    run.reply("a")
    assert run.instance.next_timer() is None
    made.broken.clear()
    run.now = BEGAN + 99_000
    run.retry()
    assert run.timer() == ["completed"]


@pytest.mark.parametrize("kind", ["event", "ask", "pause"])
def test_s20_a_wait_is_ended_by_a_cancel(kind: str) -> None:
    run = started({"a": Part(), "w": Part(after=("a",), waits=kind)})  # type: ignore[arg-type]
    run.reply("a")
    assert run.operate("cancel") == ["compensate a#1"]
    assert run.status("w") == "skipped"


# --- questions --------------------------------------------------------------------------------------------------------------------------

ASK = {"a": Part(), "q": Part(after=("a",), waits="ask", escalate="chief"), "z": Part(after=("q",))}


def asked() -> Run:
    run = started(ASK)
    assert run.reply("a") == ["asked"]
    return run


def test_s30_a_question_is_answered_by_the_role_that_was_asked() -> None:
    run = asked()
    assert run.answered("q", role="chief") == []
    assert (run.note, run.detail) == ("operator-refused", "q is answered by the role boss, not by chief")
    run.answered("q", role="")
    assert run.detail == "q is answered by the role boss, not by nobody in particular: `saga answer … --role boss`"
    assert run.answered("q", note="yes") == ["execute z#1"]
    assert run.log == ["a", "q yes"]
    run.answered("q", note="no")
    assert run.detail == "q does not wait any more"


def test_s30_a_question_that_is_late_is_escalated_and_then_turned_back() -> None:
    run = asked()
    assert run.timer() == ["late", "asked"]
    told = run.decisions[-1].outputs[-1]
    assert isinstance(told, Announce)
    assert (told.data["role"], told.data["until"]) == ("chief", run.now + 60_000)
    assert run.timer() == ["late", "compensate a#1"]
    again = asked()
    again.timer()
    assert again.answered("q", role="chief", note="yes") == ["execute z#1"]
    other = asked()
    other.timer()
    assert other.answered("q", role="boss", note="yes") == ["execute z#1"], "who was asked first may still answer"


def test_s30_an_answer_before_the_question_is_refused_and_a_plain_event_is_none() -> None:
    run = started(ASK)
    run.answered("q")
    assert (run.note, run.detail) == ("operator-refused", "q does not wait yet")
    run = asked()
    assert run.event("q") == []
    assert run.note == "late", "somebody without a role answered, by an event on a topic"
    assert not Book([make(ASK).saga]).knows(event_for("q").__type__)


def test_s30_an_answer_that_is_not_as_its_class_says_is_refused() -> None:
    run = asked()
    assert run.operate("signal", type=event_for("q").__type__, role="boss", data={"note": 7}) == []
    assert run.note == "operator-refused"
    assert run.answered("q") == ["execute z#1"]


def test_s29_an_answer_whose_user_code_raises_is_kept() -> None:
    made = make(ASK)
    run = Run(made.saga)
    run.start()
    run.reply("a")
    made.broken.add("q.done")
    assert run.answered("q") == ["parked"]
    made.broken.clear()
    assert run.retry() == ["execute z#1", "resumed"]


def test_s11_an_event_that_is_repeated_after_the_saga_began_anew_is_a_duplicate() -> None:
    made = make({"w": Part(waits="event"), "z": Part(after=("w",))})
    made.saga.renew(lambda data, _at: data.model_copy(update={"log": []}))
    run = Run(made.saga)
    run.start()
    first = run.instance.id
    assert run.event("w", id="month-1") == ["execute z#1"]
    assert run.reply("z") == ["completed", "started"]
    assert run.instance.id != first
    assert run.event("w", id="month-1") == []
    assert run.note == "duplicate", "S11: one event was taken by two runs"
    assert run.event("w", id="month-2") == ["execute z#1"]


def test_s07_an_event_for_the_next_run_of_a_saga_that_begins_anew_is_kept_for_it() -> None:
    saga: Saga = make({"w": Part(waits="event"), "z": Part(after=("w",))}).saga  # type: ignore[type-arg]
    saga.renew(lambda data, _at: data.model_copy(update={"log": []}))
    run = Run(saga)
    run.start()
    run.event("w", "month 1")
    assert run.event("w", "month 2") == []
    assert run.note == "early"
    assert run.reply("z") == ["completed", "started", "execute z#1"]
    assert run.log == ["w month 2"]
