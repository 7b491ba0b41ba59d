"""A command as it stands in the log, and the answers to it on the wire."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from pydantic import ValidationError

from saga.cloudevents import CloudEvent, iso_time, parse, parse_time
from saga.engine import trace
from saga.engine.messages import EXPIRED, FAILED, NOTHING, Command, Event, Message, events_topic, faults
from saga.engine.state import Action, instance_of
from saga.errors import Unreadable
from saga.log.base import StoredRecord
from saga.participant.inbox import MAX_ID
from saga.participant.outbox import Departure
from saga.participant.participant import Handler

REASON = 2_000  # characters of an error that go into a reply: enough to see what is wrong, never a record too large

_time = lru_cache(maxsize=4)(iso_time)  # under load many answers are of the same millisecond


class Address(NamedTuple):
    """Whom an answer goes to: what a reply echoes, read from the command's headers alone.

    `key` is the saga's: the record's; or what the instance id says if the record has none that is text.
    """

    record: StoredRecord
    service: str
    key: str
    command_id: str
    instance: str
    action: str
    attempt: str
    subject: str
    traceparent: str

    def _answer(self, outcome: str, type: str, id: str, data: Any, now: int) -> Departure:
        attributes = {
            "sagainstance": self.instance,
            "sagacommand": self.command_id,
            "sagaaction": self.action,
            "sagaattempt": self.attempt,
            "sagaoutcome": outcome,
            "traceparent": self.traceparent,
        }
        event = CloudEvent(type, id, self.service, data, _time(now), self.subject, attributes)
        return Departure(events_topic(self.service), self.record.partition, event.record(self.record.key))

    def settled(self, outcome: str, message: Message | None, now: int, *, command_id: str = "") -> Departure:
        """`done`, `refused` or `nothing` (no message): ce_id `<sagacommand>:reply`, kept and sent again as it is.

        `command_id`: the subject's, when the answer is kept as the execute's own.
        """
        to = self if not command_id else self._replace(command_id=command_id, action=Action.EXECUTE)
        type = message.__type__ if message else NOTHING
        data = message.model_dump(mode="json") if message else {}
        return to._answer(outcome, type, f"{to.command_id}:reply", data, now)

    def told(self, type: str, data: Any, now: int) -> Departure:
        """`done` with the payload of another reply: what a verify found."""
        return self._answer("done", type, f"{self.command_id}:reply", data, now)

    def failed(self, reason: str, now: int) -> Departure:
        """A technical failure of this attempt; never kept. Its id has the record's place in it: new for each copy that fails."""
        return self._answer("failed", FAILED, f"{self.command_id}:failed:{self.record.place}", {"reason": reason[:REASON]}, now)

    def expired(self, reason: str, now: int) -> Departure:
        """Older than what is remembered: whether it was done is not known."""
        return self._answer("expired", EXPIRED, f"{self.command_id}:expired:{self.record.place}", {"reason": reason}, now)

    def event(self, event: Event, key: str, number: int, now: int) -> Departure:
        """A domain event of the handler: ce_id `<sagacommand>:event:<number>`, so a second run of it tells the same fact."""
        attributes = {"traceparent": self.traceparent}
        id = f"{self.command_id}:event:{number}"
        told = CloudEvent(
            event.__type__, id, self.service, event.model_dump(mode="json"), _time(now), subject=key, attributes=attributes
        )
        return Departure(events_topic(event.__service__), None, told.record(key.encode()))


class Received(NamedTuple):
    """A command that can be handled. `decided`: when the saga first decided it, ms since 1970.

    `started`: when its run started; or, where it is about what an earlier run did, that one.
    """

    address: Address
    handler: Handler
    payload: Command[Any]
    action: Action
    subject_id: str
    attempt: int
    decided: int
    started: int

    @property
    def subject(self) -> str:
        """The id of the execute command whose row decides: the command's own, or that of the one it is about."""
        return self.subject_id or self.address.command_id


def read_address(record: StoredRecord, fields: Mapping[str, str], service: str) -> Address | None:
    """The address in a record's headers; None if nobody could be answered."""
    ids = (fields.get("sagacommand", ""), fields.get("sagainstance", ""))
    if not all(i and len(i) <= MAX_ID and i.isprintable() for i in ids) or not _number(fields.get("sagaattempt", "")):
        return None
    return Address(
        record=record,
        service=service,
        key=_key(record) or ids[1],
        command_id=ids[0],
        instance=ids[1],
        action=fields.get("sagaaction", ""),
        attempt=fields["sagaattempt"],
        subject=fields.get("subject", "")[:MAX_ID],
        traceparent=trace.read(fields.get("traceparent", "")) or trace.begin(ids[1]),
    )


def read_command(address: Address, fields: Mapping[str, str], handlers: Mapping[str, Handler]) -> Received:
    """The command at an address. Raises Unreadable, with a reason, for one that no try will ever make work."""
    event = parse(address.record, fields)
    handler = handlers.get(event.type)
    if handler is None:
        raise Unreadable("unknown-type", f"{address.service!r} has no handler for {event.type[:200]!r}")
    if address.action not in tuple(Action):
        raise Unreadable("action", f"ce_sagaaction is {address.action[:64]!r}")
    action = Action(address.action)
    subject_id = "" if action is Action.EXECUTE else fields.get("sagasubject", "")
    if action is not Action.EXECUTE and not (subject_id and len(subject_id) <= MAX_ID and subject_id.isprintable()):
        raise Unreadable("subject", f"a {action} needs ce_sagasubject, the id of the command it is about")
    decided = parse_time(event.time)
    if decided is None:
        raise Unreadable("time", f"ce_time is {event.time[:64]!r}: without it nobody knows whether the command is too old")
    try:
        payload = handler.command.model_validate(event.data)
    except ValidationError as error:
        raise Unreadable("schema", f"not a valid {event.type}: {faults(error)}"[:REASON]) from None
    except Exception as error:  # pydantic lets through what a validator raises, unless it is a ValueError
        what = f"a validator of {handler.command.__name__} raised {type(error).__name__}"
        raise Unreadable("schema", f"not a valid {event.type}: {what}") from error
    started = _started(address.instance, decided)
    if subject_id:  # a run that undoes an earlier one (S28) is young, but what it is about is as old as that
        started = min(started, _started(instance_of(subject_id), decided))
    return Received(address, handler, payload, action, subject_id, int(address.attempt), decided, started)


def _key(record: StoredRecord) -> str:
    try:
        return (record.key or b"").decode()
    except UnicodeDecodeError:
        return ""


def _started(instance: str, decided: int) -> int:
    """When an instance started: the last part of its id, in base 36; 0, which is older than anything, if it has none."""
    run = instance.rpartition(":")[2]
    if run.isascii() and run.isalnum() and len(run) <= 10:
        return min(int(run, 36), decided)
    return 0


def _number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and 0 < len(text) < 10
