"""A batch in the making: whom an input concerns, what goes to another home, and what becomes of what is too large."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

import orjson
import pytest
from pydantic import BaseModel

import saga.runtime.batch as module
from saga.cloudevents import header_fields, parse
from saga.engine.book import Book
from saga.engine.decision import Announce, DeadLetter, Decision, Forward, Input, Kind, Request, Send
from saga.engine.definition import Saga, minutes
from saga.engine.messages import REQUESTS
from saga.engine.nodes import START
from saga.engine.policy import MAX_DATA_BYTES
from saga.log.base import Headers, StoredRecord, TopicPartition
from saga.log.partition import home
from saga.runtime.batch import Batch, Place
from saga.runtime.codec import decision_record, encode_instance, outgoing
from saga.runtime.fold import Fold
from saga.runtime.states import Slot
from tests.runtime.kit import BEGAN, HERE, placed, reply
from tests.simulation.sagas import Greet, OrderPlaced, book


def batch(number: int = 0, partitions: int = 1, sagas: Book | None = None) -> Batch:
    return Batch(Place(number, partitions, sagas or book()), Fold(HERE), BEGAN)


def take(made: Batch, record: StoredRecord) -> list[Decision]:
    before = len(made.decisions)
    made.take(record)
    return made.decisions[before:]


def key_at(number: int, partitions: int = 3) -> str:
    return next(f"k{n}" for n in range(1000) if home(f"k{n}", partitions) == number)


def forwarded(decision: Decision, to: int, offset: int = 5) -> StoredRecord:
    """The record as the partition it was forwarded to reads it."""
    (sent,) = outgoing(decision, 0, BEGAN)
    assert sent.to == TopicPartition(REQUESTS, to)
    return StoredRecord(REQUESTS, to, offset, 0, sent.record.key, sent.record.value, sent.record.headers)


class Note(BaseModel):
    key: str


def saga_by(name: str, key: Any) -> Saga[OrderPlaced, Note]:
    made = Saga(name, version=1, starts_on=OrderPlaced, key=key, data=Note, deadline=minutes(5))

    @made.start
    def begin(event: OrderPlaced) -> Note:
        return Note(key=event.order_id)

    @made.step(after=START, compensation=None)
    def greet(note: Note) -> Greet:
        return Greet(order_id=note.key)

    return made


def test_what_lives_elsewhere_is_forwarded_once_as_it_came() -> None:
    record = placed(key_at(2))
    (decision,) = take(batch(0, 3), record)
    (output,) = decision.outputs
    assert isinstance(output, Forward)
    assert (decision.note, decision.seq, output.partition) == ("forwarded", 0, 2)
    arrived = forwarded(decision, 2)
    assert (arrived.key, arrived.value) == (record.key, record.value)
    assert arrived.headers == (*record.headers, ("ce_sagaorigin", b"order.events:0:0"))
    (started,) = take(batch(2, 3), arrived)
    assert (started.note, started.input.origin, started.input.at) == ("started", "order.events:0:0", (REQUESTS, 2, 5))


def test_a_forward_that_is_not_at_home_either_goes_no_further() -> None:
    (decision,) = take(batch(0, 3), placed(key_at(2)))
    (stray,) = take(batch(1, 3), replace(forwarded(decision, 2), partition=1))
    assert (stray.note, stray.outputs) == ("not-home", ())


def test_only_our_own_topic_carries_forwards() -> None:
    """A record of another topic that pretends to be forwarded is forwarded all the same, from where it really stands."""
    record = placed(key_at(2))
    record = replace(record, headers=(*record.headers, ("ce_sagaorigin", b"no:0:0")))
    (decision,) = take(batch(0, 3), record)
    assert dict(forwarded(decision, 2).headers)["ce_sagaorigin"] == b"order.events:0:0"


def test_one_event_and_several_sagas_is_a_decision_each_here_and_a_forward_for_each_other_home() -> None:
    here, there = key_at(0), key_at(1)
    sagas = Book([saga_by("ours", lambda _: here), saga_by("ours-too", lambda _: here), saga_by("theirs", lambda _: there)])
    made = batch(0, 3, sagas)
    decisions = take(made, placed("x"))
    assert [d.note for d in decisions] == ["started", "started", "forwarded"]
    assert {d.instance.split(":")[0] for d in decisions if d.seq} == {"ours", "ours-too"}
    (arrived,) = take(batch(1, 3, sagas), forwarded(decisions[2], 1))
    assert arrived.instance.startswith("theirs:"), "the forward started again what is at home elsewhere"


@pytest.mark.parametrize("partitions", [1, 40])
def test_one_large_event_for_many_sagas_goes_into_several_batches(partitions: int) -> None:
    """With 40 partitions each saga's key lives elsewhere, and what is large is the forwards."""
    sagas = Book([saga_by(f"s{n}", lambda _, n=n: key_at(n if partitions > 1 else 0, partitions)) for n in range(30)])
    record, begin, notes = placed("x", note="x" * 250_000), 0, []
    for _ in range(30):
        made = batch(0, partitions, sagas)
        begin = made.take(record, begin)
        assert made.size < module.MAX_BATCH_BYTES + 400_000, f"{made.size} bytes in a batch"
        notes += [decision.note for decision in made.decisions]
        if not begin:
            break
        assert made.full, "a batch with room was not filled"
    assert sorted(notes) == (["forwarded"] * 29 + ["started"] if partitions > 1 else ["started"] * 30)


def test_a_repeat_in_the_same_batch_is_seen() -> None:
    made = batch()
    assert [take(made, placed("a", n))[0].note for n in range(3)] == ["started", "duplicate", "duplicate"]
    assert len(made.states) == 1


def test_a_type_that_nobody_names_makes_no_decision() -> None:
    made = batch()
    assert take(made, replace(placed("a"), headers=(("ce_type", b"no.such.v1"),))) == []
    assert (made.unnamed, made.inputs) == (1, 1)


def test_an_invalid_start_is_dead_lettered_and_its_sender_is_told() -> None:
    (decision,) = take(batch(), replace(placed("a"), value=b'{"order_id":7}'))
    dead, told = decision.outputs
    assert isinstance(dead, DeadLetter)
    assert isinstance(told, Announce)
    assert (dead.reason, told.type, told.data["reason"]) == ("schema", "saga.rejected.v1", "schema")
    assert told.data["id"] == "a"
    assert base64.b64decode(dead.raw["value"]) == b'{"order_id":7}'


def test_a_record_that_is_too_large_is_recorded_by_reference() -> None:
    (decision,) = take(batch(), placed("a", 4, note="x" * 300_000))
    assert (decision.note, decision.input.data, decision.input.origin) == ("deadletter", None, "order.events:0:4")
    assert len(decision_record(decision).value or b"") < 100_000


def test_what_was_small_enough_where_it_was_read_or_made_is_so_where_it_goes() -> None:
    """With the headers that we add it may be larger than what others may send: a parent must not wait for ever for that answer."""
    empty = placed(key_at(2), note="")
    size = module.MAX_INPUT_BYTES - max(module._size(empty), module._written(parse(empty, header_fields(empty.headers))))
    record = placed(key_at(2), note="x" * size)
    (forward,) = take(batch(0, 3), record)
    assert forward.note == "forwarded", "the test's record is too large"
    assert [decision.note for decision in take(batch(2, 3), forwarded(forward, 2))] == ["started"]
    about = {"sagacommand": f"order:{'k' * 500}:1:pay:execute", "sagaoutcome": "done", "sagaattempt": "1"}
    said = {"note": "x" * (MAX_DATA_BYTES - len(orjson.dumps({"note": ""})))}
    answer = Request("saga.completed.v1", f"{about['sagacommand']}:done", "k", said, about)
    (sent,) = outgoing(Decision("", 0, "", Input(Kind.OTHER), "", outputs=(answer,)), 0, BEGAN)
    arrived = StoredRecord(REQUESTS, 0, 0, 0, sent.record.key, sent.record.value, sent.record.headers)
    assert [decision.note for decision in take(batch(), arrived)] == ["unmatched"]


@pytest.mark.parametrize("type", ["order.placed.v1", "unheard.of.v1"])
def test_the_start_of_a_saga_that_only_newer_code_has_is_not_passed_over(type: str) -> None:
    start = Request(type, "shop:k:1:n:execute", "k", {"order_id": "k", "total": 1}, {"sagachild": "newer"})
    (sent,) = outgoing(Decision("", 0, "", Input(Kind.OTHER), "", outputs=(start,)), 0, BEGAN)
    record = StoredRecord(REQUESTS, 0, 0, 0, sent.record.key, sent.record.value, sent.record.headers)
    (decision,) = take(batch(), record)
    assert [output.reason for output in decision.outputs if isinstance(output, DeadLetter)] == ["unknown-saga"]


@pytest.mark.parametrize("depth", [100, 200, 240, 246, 250, 253, 300])
def test_whatever_depth_can_be_read_can_be_written(depth: int) -> None:
    value = b'{"order_id":"a","total":1,"more":' + b"[" * depth + b"]" * depth + b"}"
    for decision in take(batch(), replace(placed("a"), value=value)):
        assert decision_record(decision).value


@pytest.mark.parametrize("letter", ["x", "é", "€", "😀", "\\", '"'])
def test_a_batch_is_full_by_bytes_whatever_the_letters(letter: str) -> None:
    made = batch()
    size = 200_000 // len(orjson.dumps(letter)[1:-1])
    number = 0
    while not made.full:
        take(made, placed(f"k{number}", number, note=letter * size))
        number += 1
    written = sum(len(decision_record(decision).value or b"") for decision in made.decisions)
    assert written < module.MAX_BATCH_BYTES + 300_000, f"{written} bytes in a batch"


def test_a_state_that_would_grow_too_large_parks_and_the_input_is_a_dead_letter(monkeypatch: pytest.MonkeyPatch) -> None:
    made = batch()
    take(made, placed("a"))
    slot = Slot("order", "a")
    monkeypatch.setattr(module, "MAX_STATE_BYTES", len(encode_instance(made.states[slot].state)))
    (decision,) = take(made, reply(made.decisions[0].instance, "pay"))
    state = made.states[slot].state
    assert state.parked is not None
    assert (state.parked.reason, state.parked.holds, decision.note) == ("too-large", True, "deadletter")
    assert not any(isinstance(output, Send) for output in decision.outputs)
    assert [output.raw is not None for output in decision.outputs if isinstance(output, DeadLetter)] == [True]


def test_a_timer_whose_step_this_batch_has_settled_is_void() -> None:
    made = batch()
    take(made, placed("a"))
    slot = Slot("order", "a")
    due, step = made.states[slot].state.next_timer() or (0, "")
    made.now = due
    take(made, reply(made.decisions[0].instance, step))
    count = len(made.decisions)
    made.timer(slot, step, due)
    assert len(made.decisions) == count


def test_a_reply_to_a_parked_order_with_any_command_id_harms_nobody() -> None:
    """It is kept, whatever it says, and counted; a metric that took its command id apart once stopped the partition."""
    from saga.metrics import Metrics
    from saga.runtime.census import Census
    from tests.simulation import sagas

    sagas.broken.add("a")
    try:
        made = batch()
        take(made, placed("a"))
        instance = made.decisions[0].instance
        assert take(made, reply(instance, "pay"))[0].note == "parked"
    finally:
        sagas.broken.discard("a")
    metrics = Metrics(["order"])
    for tail in (":", ":x", ":pay:zzz:1:2:3"):
        headers: Headers = (("ce_type", b"payment.taken.v1"), ("ce_sagacommand", f"{instance}{tail}".encode()))
        (decision,) = take(made, StoredRecord("payment.events", 0, len(tail), 0, b"a", b"{}", headers))
        assert decision.note == "kept"
        Census(metrics).count(decision, made.result(decision), BEGAN)
    assert b"zzz" not in metrics.text()


class Bag(BaseModel):
    order_id: str
    held: Any = None  # pydantic hands on what lies here as it is


def test_a_step_that_changes_its_data_in_place_changes_nothing_of_the_fold() -> None:
    careless = Saga("careless", version=1, starts_on=OrderPlaced, key=lambda e: e.order_id, data=Bag, deadline=minutes(5))

    @careless.start
    def begin(event: OrderPlaced) -> Bag:
        return Bag(order_id=event.order_id, held={"seen": []})

    @careless.step(after=START, compensation=None)
    def greet(bag: Bag) -> Greet:
        bag.held["seen"].append("greet")
        return Greet(order_id=bag.order_id)

    @careless.step(after=greet, compensation=None)
    def greet_again(bag: Bag) -> Greet:
        bag.held["seen"].append("again")
        return Greet(order_id=bag.order_id)

    fold = Fold(HERE)
    first = Batch(Place(0, 1, Book([careless])), fold, BEGAN)
    take(first, placed("a"))
    slot, held = next(iter(first.states.items()))
    fold.instances.put(slot, held)
    before = encode_instance(held.state)
    (decision,) = take(Batch(first.place, fold, BEGAN + 1), reply(held.state.id, "greet"))  # and this batch is never appended
    assert decision.note == "done"
    assert encode_instance(held.state) == before
