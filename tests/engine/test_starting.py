"""S6 and S8: what a start comes to. S9 to S11: which replies count."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from pydantic import field_validator

from saga.engine.actions import RETRY
from saga.engine.book import Book
from saga.engine.decide import decide
from saga.engine.decision import Announce, DeadLetter, Input, Kind, Send
from saga.engine.definition import Saga
from saga.engine.messages import EXPIRED, Event
from saga.engine.nodes import START
from saga.errors import Misconfigured, Unreadable
from tests.engine.kit import BEGAN, DIAMOND, LINE, Did, Do, Ordered, Part, Run, Work, make, short, started

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_s06_a_start_makes_an_instance_and_sends_the_first_commands() -> None:
    run = Run(make({"a": Part(), "b": Part()}).saga)
    assert run.start() == ["started", "execute a#1", "execute b#1"]
    assert run.note == "started"
    assert run.instance.data == {"key": "k1", "log": [], "text": ""}


def test_s06_the_same_start_again_is_answered_and_has_no_second_effect() -> None:
    run = started(LINE)
    assert run.start(id="another id") == ["started"], "S6: the sender of a repeated start is told that it runs"
    assert run.note == "repeated-start"
    assert run.decisions[-1].outputs[0] == run.decisions[0].outputs[0], "S6: the answer to a repeat is the same record"


def test_s06_another_payload_under_the_same_key_is_a_conflict() -> None:
    run = started(LINE)
    assert run.start(id="another id", text="something else") == ["rejected", "deadletter conflict"]
    assert run.note == "conflict"
    assert run.decisions[-1].ignored, "S6: a conflict changed the instance"


@pytest.mark.parametrize(("outcome", "end"), [("done", "completed"), ("refused", "compensated")])
def test_s06_after_the_end_the_recorded_outcome_is_answered(outcome: str, end: str) -> None:
    run = started({"a": Part()})
    assert run.reply("a", outcome) == [end]
    told = run.decisions[-1].outputs[0]
    assert run.start(id="another id") == [end], "S6: a finished saga started again, or did not say how it ended"
    assert run.decisions[-1].outputs[0] == told, "S6: the answer after the end is the same record as the outcome was"


def test_s06_the_same_input_is_a_duplicate_before_it_is_a_repeated_start() -> None:
    run = started(LINE)
    assert run.start() == []
    assert run.note == "duplicate", "S6: S11 is tried first"


def test_s06_a_finished_instance_says_until_when_it_is_remembered() -> None:
    run = started({"a": Part()})
    run.now += 5
    run.reply("a")
    assert run.instance.ended == BEGAN + 5
    assert run.instance.keep_until == BEGAN + 5 + 7 * 24 * 3600 * 1000


def test_s08_an_invalid_start_cannot_be_routed_and_says_why() -> None:
    book = Book([make(LINE).saga])
    with pytest.raises(Unreadable, match=r"schema: shop\.ordered\.v1: key: Field required"):
        book.route(Ordered.__type__, {}, {"no": "key"})


@pytest.mark.parametrize("key", ["", "x" * 513, "with\nnewline"])
def test_s08_a_key_that_cannot_be_a_key_is_refused(key: str) -> None:
    with pytest.raises(Unreadable, match="printable text"):
        Book([make(LINE).saga]).route(Ordered.__type__, {}, {"key": key})


def test_s08_a_key_may_hold_what_separates_the_parts_of_an_id() -> None:
    run = Run(make(LINE).saga, key="a:b%3A/ü")
    run.start()
    (target,) = Book([make(LINE).saga]).route(Did.__type__, {"sagacommand": run.sends()[0].command}, {})
    assert (target.kind, target.key, target.instance) == (Kind.REPLY, "a:b%3A/ü", run.instance.id)


def test_s08_an_operator_says_who_and_why() -> None:
    book = Book([make(LINE).saga])
    said = {"saga": "shop", "key": "k1", "who": "ann", "why": "fixed"}
    assert [(t.kind, t.key) for t in book.route(RETRY, {}, said)] == [(Kind.OPERATOR, "k1")]
    for name in said:
        with pytest.raises(Unreadable):
            book.route(RETRY, {}, said | {name: ""})


def test_s08_types_that_no_definition_names_are_not_known() -> None:
    book = Book([make(LINE).saga])
    assert book.knows(Did.__type__)
    assert book.knows(EXPIRED)
    assert not book.knows("shop.unheard-of.v1")
    assert set(book.topics) == {"shop.events", "work.events"}


def test_s08_a_bad_key_function_of_one_saga_takes_nothing_from_the_others() -> None:
    def bad(_event: Ordered) -> str:
        raise RuntimeError("no key today")

    good, other = make(LINE).saga, make(LINE, name="other").saga
    other.key = bad
    data = {"key": "k1"}
    targets = Book([good, other]).route(Ordered.__type__, {}, data)
    expected = [(Kind.START, "shop", "k1"), (Kind.OTHER, "other", "k1")]
    assert [(t.kind, t.saga, t.key) for t in targets] == expected, "P4: one bad saga took the input from another"
    decision = decide(other, None, Input(Kind.OTHER, Ordered.__type__, "1", "shop", data=data), BEGAN, "k1")
    assert (decision.note, decision.seq) == ("deadletter", 0)
    assert [short(output) for output in decision.outputs] == ["deadletter key"], "P4: what one saga could not take was dropped"


class Listed(Event, type="shop.listed.v1"):
    key: str

    @field_validator("key", mode="before")
    @classmethod
    def _first(cls, value: Any) -> Any:
        return value[0]["sku"]  # IndexError, KeyError or TypeError: pydantic makes a ValidationError of none of them


@pytest.mark.parametrize("key", [[], [{}], 7])
def test_s08_a_start_on_which_a_validator_breaks_is_refused_like_an_invalid_one(key: Any) -> None:
    saga = Saga("listed", version=1, starts_on=Listed, key=lambda event: event.key, data=Work, deadline=timedelta(hours=1))
    saga.start(_begin)
    saga.step(after=START, compensation=None)(_do)
    with pytest.raises(Unreadable, match=r"schema: shop\.listed\.v1: a validator of Listed raised"):
        Book([saga]).route(Listed.__type__, {}, {"key": key})


def _begin(event: Listed) -> Work:
    return Work(key=event.key)


def _do(_data: Work) -> Do:
    return Do(step="a")


def test_s32_a_trace_is_carried_on_but_not_a_burden() -> None:
    """Its size counts once for each command: a large one would make a decision that no log takes."""
    for given in (TRACE, TRACE + "x" * 100_000):
        run = Run(make({f"s{number}": Part() for number in range(30)}).saga)
        attributes = {"traceparent": given}
        run.feed(Input(Kind.START, Ordered.__type__, "1", "shop", "shop.events:0:1", data={"key": "k1"}, attributes=attributes))
        carried = {output.trace for output in run.decisions[0].outputs if isinstance(output, Send | Announce)}
        assert len(carried) == 1, "what one start led to is not in one trace"
        (trace,) = carried
        assert len(trace) == len(TRACE)
        assert (trace == given) == (given == TRACE), "a valid trace goes on as it came, another is begun anew"


def test_s08_two_sagas_cannot_have_one_name() -> None:
    with pytest.raises(Misconfigured, match="two sagas are named 'shop'"):
        Book([make(LINE).saga, make(LINE).saga])


def test_s09_a_command_that_is_out_is_compensated_though_nobody_ever_answered_it() -> None:
    run = started({"a": Part(unknown="compensate", attempts=1)})
    assert run.timer() == ["compensate a#1"], "S9: a compensation counts as registered when its command is decided"


def test_s10_a_reply_to_nothing_that_was_sent_changes_nothing() -> None:
    run = started(LINE)
    wrong = {
        "a step that is not out": run.answer("b"),
        "a step that does not exist": run.answer("x"),
        "another run": run.answer("a", attributes={"sagacommand": "shop:k1:zzz:a:execute"}),
        "a verify that was never asked": run.answer("a", "done", "verify", round=1),
        "a compensation that was never sent": run.answer("a", "done", "compensate", round=1),
        "a round that never was": run.answer("a", round=2),
        "an outcome that does not exist": run.answer("a", attributes={"sagaoutcome": "perhaps"}),
        "no outcome": run.answer("a", attributes={"sagaoutcome": ""}),
        "another type": run.answer("a", type="work.undone.v1"),
        "refused with the type of done": run.answer("a", "refused", type=Did.__type__),
        "done with a protocol type": run.answer("a", type=EXPIRED),
        "no command": run.answer("a", attributes={"sagacommand": f"{run.instance.id}:"}),
    }
    for what, given in wrong.items():
        assert run.feed(given) == [], f"S10: {what} led to something"
        assert run.note == "unmatched", f"S10: {what} was taken for a reply"
        assert run.decisions[-1].ignored, f"S10: {what} changed the instance"
    assert run.reply("a") == ["execute b#1"]


def test_s10_a_reply_from_another_services_topic_changes_nothing() -> None:
    run = started(LINE)
    assert run.reply("a", origin="shop.events:0:7") == []
    assert run.note == "wrong-service"
    assert run.decisions[-1].ignored


@pytest.mark.parametrize("outcome", ["failed", "expired"])
@pytest.mark.parametrize("attempt", [0, 1, 3])
def test_s10_failed_and_expired_count_only_for_the_attempt_that_waits(outcome: str, attempt: int) -> None:
    run = started({"a": Part(attempts=5)})
    run.reply("a", "failed")
    run.timer()
    assert run.reply("a", outcome, attempt=attempt) == []
    assert run.note == "late", f"S10: {outcome} of attempt {attempt} was taken for that of attempt 2"


def test_s10_a_second_failed_for_the_same_attempt_does_not_count_again() -> None:
    run = started({"a": Part(attempts=5)})
    run.reply("a", "failed")
    due = run.instance.next_timer()
    assert run.reply("a", "failed") == []
    assert run.note == "late"
    assert run.instance.next_timer() == due


def test_s10_a_reply_whose_payload_is_invalid_is_a_dead_letter_and_the_step_still_waits() -> None:
    run = started(LINE)
    assert run.reply("a", data={"note": 7}) == ["deadletter schema"]
    assert run.decisions[-1].ignored
    assert run.reply("a") == ["execute b#1"], "S10: a repaired reply, redriven, no longer counts"


def test_s10_an_input_for_no_instance_has_no_number() -> None:
    given = Input(Kind.REPLY, Did.__type__, "1", "work", attributes={"sagacommand": "shop:k1:x:a:execute"})
    decision = decide(make(LINE).saga, None, given, BEGAN, "k1")
    assert (decision.instance, decision.seq, decision.note, decision.ignored) == ("", 0, "unmatched", True)


def test_s11_a_duplicate_is_a_decision_that_changes_nothing() -> None:
    run = started({"a": Part(attempts=5)})
    failed = run.answer("a", "failed")
    run.feed(failed)
    run.timer()
    assert run.feed(failed) == []
    assert run.note == "duplicate"
    assert run.decisions[-1].ignored


def test_s11_without_id_and_source_an_input_is_known_by_where_it_first_stood() -> None:
    run = started(DIAMOND)
    first: dict[str, Any] = {"id": "", "source": "", "origin": "work.events:3:7"}
    run.reply("a", **first)
    run.reply("b", **first)
    assert run.note == "duplicate"
    run.reply("b", **first | {"origin": "work.events:3:8"})
    assert run.note == "done"


def test_s11_an_operators_action_that_was_refused_does_not_take_effect_when_it_comes_again() -> None:
    made = make(LINE)
    run = Run(made.saga)
    run.start()
    assert run.retry(id="r1") == []
    assert run.note == "operator-refused"
    made.broken.add("b")
    run.reply("a")
    assert run.parked == "user-code"
    run.retry(id="r1")
    assert run.note == "duplicate", "S11: a retry was refused to the operator, and took effect when its record came again"


def test_s11_expired_counts_as_unknown_before_the_pivot() -> None:
    run = started({"a": Part()})
    assert run.reply("a", "expired") == ["compensate a#1"]


@pytest.mark.parametrize(("parts", "undo"), [({"p": Part(pivot=True), "z": Part(after=("p",))}, False), ({"a": Part()}, True)])
def test_s11_expired_parks_after_the_pivot_and_in_compensation(parts: dict[str, Part], undo: bool) -> None:
    run = started(parts)
    if undo:
        run.reply("a", "expired")
        assert run.reply("a", "expired", "compensate") == ["parked"]
        assert run.parked == "compensation"
    else:
        run.reply("p")
        assert run.reply("z", "expired") == ["parked"]
        assert run.parked == "expired"


def test_s11_what_went_to_the_dead_letters_keeps_the_reason_but_not_the_values() -> None:
    run = started(LINE)
    run.reply("a", data={"note": {"secret": "4711"}})
    (letter,) = run.decisions[-1].outputs
    assert isinstance(letter, DeadLetter)
    assert "note" in letter.detail
    assert "4711" not in letter.detail
