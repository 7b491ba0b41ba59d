"""How decisions become bytes: in the journal, and on the way out. The same value always gives the same bytes.

In the journal every record is one JSON object with sorted keys; its `kind` says what it is:

    claim           {format, partitions, owner, published, restore_from, definitions}
    decision        {instance, seq, key, input, note, detail, patch, data, outputs}
    commit          {offset, count, owner, now, positions, topics, published, restore_from}
    snapshot.begin  {id, format, partitions, definitions}
    snapshot.part   {instance}
    snapshot.end    {id, count}
"""

from __future__ import annotations

import base64
import zlib
from typing import Any

import orjson

from saga.cloudevents import CloudEvent, iso_time
from saga.engine.decision import (
    Announce,
    DeadLetter,
    Decision,
    Forward,
    Input,
    Output,
    Request,
    Send,
    output_from_json,
    output_json,
)
from saga.engine.messages import DEADLETTERS, REQUESTS, commands_topic
from saga.engine.state import Instance
from saga.errors import Corrupt
from saga.log.base import Headers, Outgoing, Record, StoredRecord, TopicPartition

FORMAT = 2  # of the journal; a newer reader reads every older one. 2: requests, more kinds of steps, several runs of a key

JOURNAL = "saga.journal"
EVENTS = "saga.events"
SOURCE = "saga"  # ce_source of what the coordinator itself says


def encode(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def decode(record: StoredRecord) -> dict[str, Any]:
    """A journal record. Raises Corrupt for anything that this package did not write."""
    try:
        value = orjson.loads(record.value or b"")
        if not isinstance(value, dict) or "kind" not in value:
            raise ValueError("not an object with a kind")
    except ValueError as error:
        raise Corrupt(f"{record.place} is no journal record: {error}; only the orchestrator may write this topic") from None
    return value


def encode_instance(state: Instance) -> bytes:
    return encode(state.to_json())


def decode_instance(raw: bytes) -> Instance:
    return Instance.from_json(orjson.loads(raw))


def decision_record(decision: Decision) -> Record:
    value: dict[str, Any] = {
        "kind": "decision",
        "instance": decision.instance,
        "seq": decision.seq,
        "key": decision.key,
        "input": decision.input.to_json(),
        "note": decision.note,
    }
    if decision.detail:
        value["detail"] = decision.detail
    if decision.patch:
        value["patch"] = decision.patch
    if decision.data is not None:
        value["data"] = decision.data
    if decision.outputs:
        value["outputs"] = [output_json(output) for output in decision.outputs]
    return Record(decision.key.encode() or None, encode(value))


def decision_from_json(value: dict[str, Any]) -> Decision:
    return Decision(
        instance=value["instance"],
        seq=value["seq"],
        key=value["key"],
        input=Input.from_json(value["input"]),
        note=value["note"],
        detail=value.get("detail", ""),
        patch=value.get("patch", {}),
        data=(value["data"][0],) if "data" in value else None,
        outputs=tuple(output_from_json(output) for output in value.get("outputs", ())),
    )


def checksum(record: StoredRecord) -> int:
    """Of a record's bytes: tells a topic that was made anew from the one that was read (the last record is another)."""
    crc = zlib.crc32(record.key or b"")
    crc = zlib.crc32(record.value or b"", crc)
    for name, value in record.headers:
        crc = zlib.crc32(name.encode(), crc)
        crc = zlib.crc32(value, crc)
    return crc


# --- what leaves ------------------------------------------------------------------------------------------------------------------


def outgoing(decision: Decision, partition: int, now: int) -> list[Outgoing]:
    """The records of a decision, as they are published now and whenever they are published again. `now`: of its commit, in ms."""
    return [_outgoing(output, decision, partition, now) for output in decision.outputs]


def _outgoing(output: Output, decision: Decision, partition: int, now: int) -> Outgoing:
    match output:
        case Send():
            return Outgoing(TopicPartition(commands_topic(output.service), partition), _command(output, decision))
        case Announce():
            attributes = {"traceparent": output.trace} if output.trace else {}
            event = CloudEvent(output.type, output.id, SOURCE, output.data, iso_time(now), decision.key, attributes)
            return Outgoing(TopicPartition(EVENTS, partition), event.record(decision.key.encode()))
        case Request():
            about = dict(sorted(output.attributes.items()))  # as the journal has them: published again, it is the same bytes
            event = CloudEvent(output.type, output.id, SOURCE, output.data, iso_time(now), output.key, about)
            return Outgoing(TopicPartition(REQUESTS, output.partition), event.record(output.key.encode()))
        case DeadLetter():
            why = (("ce_sagareason", output.reason.encode()), ("ce_sagadetail", output.detail[:2000].encode(errors="replace")))
            of = decision.input if output.given is None else Input.from_json(output.given)
            return Outgoing(TopicPartition(DEADLETTERS, partition), _as_it_came(output.raw, of, decision.key, why))
        case Forward():
            return Outgoing(TopicPartition(REQUESTS, output.partition), _as_it_came(output.raw, decision.input, decision.key, ()))


def _command(send: Send, decision: Decision) -> Record:
    attributes = {"sagainstance": decision.instance, "sagacommand": send.command, "sagaaction": send.action}
    if send.subject:
        attributes["sagasubject"] = send.subject
    attributes["sagaattempt"] = str(send.attempt)
    if send.trace:
        attributes["traceparent"] = send.trace
    event = CloudEvent(
        type=send.type,
        id=f"{send.command}:{send.attempt}",
        source=SOURCE,
        data=send.data,
        time=iso_time(send.time),
        subject=decision.key,
        attributes=attributes,
    )
    return event.record(decision.key.encode())


def raw(record: StoredRecord, limit: int | None = None) -> dict[str, Any]:
    """A record's own bytes, for a forward or a dead letter. With a limit (bytes): the beginning of its key and value, and those of
    its headers that together are within it.
    """
    headers, room = [], limit
    for name, value in record.headers:
        if room is not None:
            size = len(name.encode()) + len(value)
            if size > room:
                continue
            room -= size
        headers.append([name, _text(value)])
    return {
        "key": _text(record.key and record.key[:limit]),
        "value": _text(record.value and record.value[:limit]),
        "headers": headers,
    }


# What we add to a record that goes on as it came. One that came with them (a forward, a redriven dead letter) must not have them twice:
# a header that stands twice cannot be read.
_OURS = ("ce_sagaorigin", "ce_sagareason", "ce_sagadetail")


def _as_it_came(kept: dict[str, Any] | None, given: Input, key: str, more: Headers) -> Record:
    origin = (("ce_sagaorigin", given.origin.encode()),) if given.origin else ()
    if kept is None:  # an input that was kept while its instance was parked: what is left of it is its content
        attributes = {name: text for name, text in sorted(given.attributes.items()) if f"ce_{name}" not in _OURS}
        event = CloudEvent(given.type, given.id, given.source, given.data, attributes=attributes)
        record = event.record(key.encode())
        return Record(record.key, record.value, record.headers + origin + more)
    headers = tuple((name, _bytes(value) or b"") for name, value in kept["headers"] if name not in _OURS)
    return Record(_bytes(kept["key"]), _bytes(kept["value"]), headers + origin + more)


def _text(value: bytes | None) -> str | None:
    return None if value is None else base64.b64encode(value).decode()


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)
