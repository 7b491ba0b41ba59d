"""Schemas and AsyncAPI document: as the catalogue says, whole in themselves, and true of the records that really leave."""

from __future__ import annotations

import inspect
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from saga import App
from saga.cloudevents import CloudEvent
from saga.engine import actions, family, operate
from saga.engine.actions import ACTIONS
from saga.engine.decision import Announce, Decision, Request
from saga.engine.definition import hours
from saga.engine.messages import DEADLETTERS, Event, commands_topic, events_topic
from saga.log.base import Record, StoredRecord, TopicPartition
from saga.runtime.batch import Batch, Place
from saga.runtime.codec import JOURNAL, outgoing
from saga.runtime.fold import Fold
from saga.testing import Bench
from saga.topics import specs
from services.all import app
from tests.engine.kit import PIVOT, Part, Run, started
from tests.ops import office
from topics import generate
from topics.catalogue import MESSAGES
from topics.headers import ANNOUNCEMENT, CHILD, COMMAND, DEADLETTER, PARENT, Headers
from topics.json_schema import by_type
from topics.payment import TakePayment
from topics.protocol import ANNOUNCEMENTS, ANSWERS, CHILDREN, PARENTS, REQUESTS, Conflict, Invalid, Rejected

DOCUMENT: dict[str, Any] = json.loads((generate.HERE / "asyncapi.json").read_text("utf-8"))


def test_what_is_generated_is_as_the_catalogue_says() -> None:
    assert generate.differences() == [], "write it anew with: python -m topics.generate"


def test_a_difference_is_found_and_mended(tmp_path: Path) -> None:
    shutil.copytree(generate.HERE / "schemas", tmp_path / "schemas")
    shutil.copy(generate.HERE / "asyncapi.json", tmp_path)
    (tmp_path / "asyncapi.json").write_text("{}")
    (tmp_path / "schemas" / "order.placed.v1.json").unlink()
    (tmp_path / "schemas" / "order.forgotten.v1.json").write_text("{}")
    assert generate.differences(tmp_path) == [
        "schemas/order.placed.v1.json is missing",
        "asyncapi.json differs",
        "schemas/order.forgotten.v1.json is no message any more",
    ]
    assert generate.write(tmp_path) == len(generate.files())
    assert generate.differences(tmp_path) == []


# --- the schemas ----------------------------------------------------------------------------------------------------------------------


def schemas() -> dict[str, dict[str, Any]]:
    return {type: json.loads((generate.HERE / "schemas" / f"{type}.json").read_text("utf-8")) for type in by_type()}


def test_each_schema_says_what_it_is_and_is_open_for_more_fields() -> None:
    assert set(schemas()) >= {message.__type__ for message in MESSAGES} | {"saga.failed.v1", "saga.started.v1", "saga.retry.v1"}
    for type, schema in schemas().items():
        assert schema["$id"] == type
        assert schema["$schema"].endswith("/draft/2020-12/schema")
        assert schema["title"]
        assert schema["description"], f"{type} says nothing of itself"
        for part in parts(schema):
            if part.get("type") == "object":
                named = "properties" in part  # else it is a map, which says what its values are
                assert part["additionalProperties"] is True or not named, "unknown fields are ignored, in every message"


def parts(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from parts(part)


# --- the AsyncAPI document ------------------------------------------------------------------------------------------------------------


def at(reference: str) -> Any:
    """What a reference within the document points to. Raises KeyError if there is nothing."""
    found: Any = DOCUMENT
    for name in reference.removeprefix("#/").split("/"):
        found = found[name]
    return found


def test_every_reference_points_to_something() -> None:
    references = [part["$ref"] for part in parts(DOCUMENT) if "$ref" in part]
    assert len(references) > 100, "hardly a reference was found: this test would prove nothing"
    for reference in references:
        if reference.startswith("#/"):
            assert at(reference)
        else:
            assert (generate.HERE / reference).is_file(), f"there is no {reference}"


def test_channels_are_the_topics_as_the_app_makes_them() -> None:
    every = App(sagas=app.sagas, participants=list(app.participants.values()), begin="earliest")
    wanted = {spec.name: spec for spec in specs(every, replication=1, min_insync=1) if spec.name != JOURNAL}
    assert set(DOCUMENT["channels"]) == set(wanted)
    for name, channel in DOCUMENT["channels"].items():
        kafka = channel["bindings"]["kafka"]
        assert (channel["address"], kafka["topic"], kafka["partitions"]) == (name, name, wanted[name].partitions)
        assert kafka["topicConfiguration"]["retention.ms"] == int(wanted[name].config["retention.ms"])
        assert kafka["topicConfiguration"]["cleanup.policy"] == [wanted[name].config["cleanup.policy"]]


def test_every_service_takes_its_commands_and_answers_in_its_own_topic() -> None:
    answers = {said.type_ for said in ANSWERS}
    taken = [handler.command for participant in app.participants.values() for handler in participant.handlers.values()]
    for command in taken:
        operation, service = DOCUMENT["operations"][command.__type__], command.__service__
        assert operation["action"] == "receive"
        assert operation["channel"] == {"$ref": f"#/channels/{commands_topic(service)}"}
        assert operation["bindings"]["kafka"]["groupId"]["enum"] == [service]
        assert operation["reply"]["channel"] == {"$ref": f"#/channels/{events_topic(service)}"}
        own = {answer.__type__ for answer in (command.__reply__, *command.__refusals__)}
        assert {listed["$ref"].rpartition("/")[2] for listed in operation["reply"]["messages"]} == own | answers


def test_every_message_of_an_operation_is_one_of_its_channel() -> None:
    sent: set[str] = set()
    for operation in DOCUMENT["operations"].values():
        for side in (operation, operation.get("reply", {})):
            for listed in side.get("messages", ()):
                assert listed["$ref"].startswith(side["channel"]["$ref"] + "/messages/")
                sent.add(listed["$ref"].rpartition("/")[2])
    assert sent == set(DOCUMENT["components"]["messages"]), "a message that nobody sends or takes"


# --- the records that leave -----------------------------------------------------------------------------------------------------------


def stories() -> list[Run]:
    """Runs that, together, tell all that is ever told on saga.events."""
    completed = started({"a": Part()})
    completed.start(id="again")
    completed.reply("a")
    completed.start(id="once more")
    compensated = started(PIVOT)
    compensated.reply("a")
    compensated.start(id="other", text="another payload")
    compensated.reply("p", "refused")
    compensated.reply("a", action="compensate")
    compensated.start(id="after")
    parked = started({"a": Part(unknown="park")})
    parked.silence()
    parked.reply("a")
    return [completed, compensated, parked]


def records() -> list[tuple[str, Record]]:
    """Topic and record of all that those runs send and tell; dead letters have a test of their own."""
    left = [out for run in stories() for decision in run.decisions for out in outgoing(decision, 0, run.now)]
    return [(out.to.topic, out.record) for out in left if out.to.topic != DEADLETTERS]


def names(record: Record) -> set[str]:
    return {name for name, _ in record.headers}


def fits(record: Record, headers: Headers) -> bool:
    return set(headers.required) <= names(record) <= {*headers.required, *headers.optional}


@cache
def talks() -> tuple[Decision, ...]:
    """All decisions of a question that is escalated, a child that is undone, and one that cannot start; they tell the rest."""
    with Bench(office.refunds, office.payout, office.report) as bench:
        bench.answer(office.Take, office.Taken())
        bench.answer(office.Return, office.Returned())
        bench.refuse(office.Close, office.NotClosed(), times=1)
        bench.answer(office.Close, office.Closed())
        bench.start(office.PayOut(order_id="c-out"))
        cases = [bench.start(office.RefundAsked(order_id=key, amount=3)) for key in ("a", "b", "c")]
        bench.advance(hours(2))
        for case in cases:
            case.answer("approval", office.Verdict(ok=True), "cfo")
        bench.silence(office.Take)
        turning = bench.start(office.RefundAsked(order_id="d", amount=3))
        turning.answer("approval", office.Verdict(ok=True), "finance")
        turning.cancel()
        bench.advance(hours(1))
        return tuple(moment.decision for case in bench.cases for moment in bench.history(case.saga, case.key).moments)


def test_what_is_told_has_the_fields_of_its_schema_and_no_others() -> None:
    decisions = [decision for run in stories() for decision in run.decisions] + list(talks())
    told = [output for decision in decisions for output in decision.outputs if isinstance(output, Announce)]
    classes: dict[str, type[BaseModel]] = {**{said.type_: said for said in ANNOUNCEMENTS}, Rejected.type_: Conflict}
    assert {output.type for output in told} == set(classes), "these runs do not tell everything"
    for output in told:
        made = classes[output.type].model_validate(output.data)
        assert set(output.data) <= set(made.model_dump()), f"{output.type} has fields that its schema does not know"


def test_what_instances_say_to_each_other_is_as_documented() -> None:
    given = [decision.input for decision in talks() if decision.input.type in {said.type_ for said in PARENTS}]
    assert {one.type for one in given} == {said.type_ for said in PARENTS}
    models = by_type()
    for one in given:
        made = models[one.type].model_validate(one.data)
        assert set(one.data) == set(made.model_dump()), f"{one.type} has other fields than its schema"
    leaves = [(d, output) for d in talks() for output in d.outputs if isinstance(output, Request)]
    leaves.append((talks()[0], family.nothing("refund:a:mb2k9x1c:pay_out:compensate", "")))  # as where a start and its undo cross
    answers = [(d, output) for d, output in leaves if "sagacommand" in output.attributes]
    assert {output.type for _, output in answers} == {said.type_ for said in CHILDREN}, "a child did not say everything"
    for decision, output in leaves:
        record = next(out.record for out in outgoing(replace(decision, outputs=(output,)), 0, 0))
        answer = "sagacommand" in output.attributes
        assert fits(record, CHILD if answer else PARENT), f"{output.type}: {sorted(names(record))}"
        if answer:
            models[f"{output.type}.child"].model_validate(output.data)


@pytest.mark.parametrize("asked", REQUESTS, ids=lambda said: said.type_)
def test_what_operators_ask_has_the_fields_that_the_engine_reads(asked: type[BaseModel]) -> None:
    assert {said.type_ for said in REQUESTS} == set(ACTIONS), "an action without a schema"
    source = inspect.getsource(actions) + inspect.getsource(operate)
    for name in set(asked.model_fields) - {"saga", "key", "who", "why"}:
        assert f'data.get("{name}"' in source, f"the engine reads no {name}"


def test_the_headers_of_commands_and_announcements_are_as_documented() -> None:
    kinds = {"work.commands": COMMAND, "saga.events": ANNOUNCEMENT}
    found = records()
    assert {topic for topic, _ in found} == set(kinds)
    for topic, record in found:
        assert fits(record, kinds[topic]), f"{topic}: {sorted(names(record))}"
    subjects = [record for topic, record in found if topic == "work.commands" and "ce_sagasubject" in names(record)]
    assert subjects, "no compensation was sent"


def test_an_invalid_start_is_told_and_set_aside_as_documented() -> None:
    event = CloudEvent("order.placed.v1", "o-1", "shop", {"order_id": "o-1"}).record(b"o-1")
    batch = Batch(Place(0, 1, app.book), Fold(TopicPartition(JOURNAL, 0)), 0)
    batch.take(StoredRecord("order.events", 0, 7, 0, event.key, event.value, event.headers))
    (decision,) = batch.decisions
    dead, told = (out.record for out in outgoing(decision, 0, 0))
    assert set(DEADLETTER.required) <= names(dead)
    assert dict(dead.headers)["ce_sagaorigin"] == b"order.events:0:7"
    said = Invalid.model_validate_json(told.value or b"")
    assert (said.type, said.id, said.source, said.reason) == ("order.placed.v1", "o-1", "shop", "schema")
    assert set(json.loads(told.value or b"")) == set(Invalid.model_fields)


@pytest.mark.parametrize("message", [message for message in MESSAGES if issubclass(message, Event)])
def test_an_event_with_more_fields_than_its_schema_is_read(message: type[Event]) -> None:
    assert message.model_config["extra"] == "ignore", "the schema says that unknown fields are ignored"


def test_a_command_says_in_its_schema_what_it_is_answered() -> None:
    said = schemas()[TakePayment.__type__]["description"]
    assert "payment.taken.v1" in said
    assert "payment.declined.v1" in said
