"""Plays the orchestrator to one participant: sends commands, hears what is answered, a conversation for each key.

An answer belongs to the conversation whose ids it echoes. One that echoes nothing is still heard by its key, or a participant that
forgets its headers would look like one that says nothing. Within a conversation one command is asked at a time, so what comes next is
its answer. No group is joined: `<service>.events` and `saga.deadletter` are followed from where they end when this begins.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from saga.cloudevents import CloudEvent, iso_time, parse_json
from saga.conformance.offers import CommandClass
from saga.engine import trace
from saga.engine.messages import DEADLETTERS, PROTOCOL_TYPES, commands_topic, events_topic
from saga.engine.state import Action, instance_id, instance_of
from saga.errors import Misconfigured, Unreadable
from saga.log.base import Log, Outgoing, Record, StoredRecord, TopicPartition
from saga.log.partition import home
from saga.ops.operate import wall_clock

NAME = "participant-check"  # the saga's name in every id, and how every key begins
OUTCOMES = ("done", "refused", "nothing", "failed", "expired")
GRACE = 1.0  # seconds that an answer which echoes is waited for once one came that does not
NAMELESS = "answers do not echo their command's id, so they cannot be told apart"
_LOOK = 0.5  # seconds of one fetch
_FETCH = 500  # records of one fetch


class Heard:
    """A record that the participant wrote, read without complaint: what is wrong with it is for others to say."""

    def __init__(self, record: StoredRecord) -> None:
        self.record = record
        self.fields: dict[str, str] = {}
        self.doubled: list[str] = []
        for name, raw in record.headers:
            if name in self.fields:
                self.doubled.append(name)
            self.fields[name] = (raw or b"").decode(errors="replace")

    def __getitem__(self, header: str) -> str:
        return self.fields.get(header, "")

    @property
    def outcome(self) -> str:
        return self["ce_sagaoutcome"]

    @property
    def type(self) -> str:
        return self["ce_type"]

    @property
    def data(self) -> Any:
        """Its value; None if it is no JSON."""
        try:
            return parse_json(self.record.value)
        except Unreadable:
            return None

    @property
    def bytes(self) -> tuple[object, ...]:
        """What makes it the same answer as another."""
        return self.record.key, self.record.value, tuple(sorted((name, raw or b"") for name, raw in self.record.headers))

    def __str__(self) -> str:
        return f"{self.outcome or 'no ce_sagaoutcome'}, {self.type or 'no ce_type'}"


@dataclass(frozen=True)
class Sent:
    """A command as it was sent."""

    command: CommandClass
    id: str
    step: str
    action: Action
    attempt: int
    to: TopicPartition
    record: Record

    @property
    def types(self) -> dict[str, tuple[str, ...]]:
        """By outcome: the types that this command may be answered with."""
        said = {outcome: (type,) for outcome, type in PROTOCOL_TYPES.items()}
        return said | {"done": (self.command.__reply__.__type__,), "refused": tuple(r.__type__ for r in self.command.__refusals__)}


@dataclass
class Talk:
    """One conversation: a key, and all that was heard of it."""

    key: str
    instance: str
    number: int  # the partition number of its commands
    traceparent: str
    decided: int  # ms: ce_time of its commands
    turn: int = 0  # which of the given samples it has
    heard: list[Heard] = field(default_factory=list)
    dead: list[Heard] = field(default_factory=list)

    def command_id(self, step: str, action: Action) -> str:
        return f"{self.instance}:{step}:{action}"

    def sent(self, command: CommandClass, payload: Any, step: str, action: Action = Action.EXECUTE, attempt: int = 1) -> CloudEvent:
        """A command of this conversation, as the coordinator would send it."""
        id = self.command_id(step, action)
        attributes = {
            "sagainstance": self.instance,
            "sagacommand": id,
            "sagaaction": str(action),
            **({} if action is Action.EXECUTE else {"sagasubject": self.command_id(step, Action.EXECUTE)}),
            "sagaattempt": str(attempt),
            "traceparent": self.traceparent,
        }
        return CloudEvent(command.__type__, f"{id}:{attempt}", "saga", payload, iso_time(self.decided), self.key, attributes)

    def events(self) -> dict[str, str]:
        """What was told beside answers: the type of each event, by its id."""
        return {
            f"{one['ce_source']} {one['ce_id']}": one.type for one in self.heard if not one["ce_sagacommand"] and not one.outcome
        }


class Player:
    """An async context. `patience`: seconds that an answer is waited for."""

    def __init__(self, log: Log, service: str, patience: float) -> None:
        self.service = service
        self.patience = patience
        self.sent = 0
        self.partitions: dict[str, int] = {}
        self.nameless = False  # an answer came that does not echo its command's id
        self.answered: Callable[[Talk, Sent, Heard], None] = lambda _talk, _sent, _heard: None
        self._log = log
        self.keys = f"{NAME}-{secrets.token_hex(3)}"  # how every key of this check begins
        self._talks: dict[str, Talk] = {}  # by key, by instance, by trace
        self._news = asyncio.Event()
        self._listening: asyncio.Task[None] | None = None
        self._count = 0

    async def __aenter__(self) -> Player:
        self.partitions = await found_topics(self._log, self.service)
        followed = [
            TopicPartition(topic, number)
            for topic in (events_topic(self.service), DEADLETTERS)
            for number in range(self.partitions[topic])
        ]
        ends = {partition: held.end for partition, held in (await self._log.bounds(followed)).items()}
        self._listening = asyncio.create_task(self._listen(ends))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._listening is not None
        self._listening.cancel()
        await asyncio.gather(self._listening, return_exceptions=True)

    # --- sending ----------------------------------------------------------------------------------------------------------------------

    def talk(self, *, number: int | None = None, away: bool = False, age: int = 0) -> Talk:
        """A new conversation. `number`: a key whose home it is; `away`: on another partition than its key's home, where there is one;
        `age`: of its instance, in ms.
        """
        count = self.partitions[commands_topic(self.service)]
        while True:
            self._count += 1
            key = f"{self.keys}-{self._count}"
            at = home(key, count)
            if number is None or at == number % count:
                break
        now = wall_clock() - age
        talk = Talk(key, instance_id(NAME, key, now), (at + away) % count, trace.begin(key), now)
        self._talks[key] = self._talks[talk.instance] = self._talks[trace.trace_id(talk.traceparent)] = talk
        return talk

    async def send(self, talk: Talk, *events: tuple[CommandClass, CloudEvent]) -> list[Sent]:
        """Commands, one right after the other."""
        sent = [self._sent(talk, command, event) for command, event in events]
        await self.publish(talk, [one.record for one in sent])
        return sent

    async def publish(self, talk: Talk, records: Sequence[Record]) -> None:
        """Records on the commands topic, whatever they are."""
        to = TopicPartition(commands_topic(self.service), talk.number)
        await self._log.publish([Outgoing(to, record) for record in records])
        self.sent += len(records)

    async def ask(self, talk: Talk, command: CommandClass, event: CloudEvent) -> tuple[Sent, Heard | None]:
        """Send a command and wait for its answer; None if there is none in time."""
        before = len(talk.heard)
        (sent,) = await self.send(talk, (command, event))
        return sent, await self.answer(talk, sent, before)

    def _sent(self, talk: Talk, command: CommandClass, event: CloudEvent) -> Sent:
        attributes = event.attributes
        id = attributes["sagacommand"]
        return Sent(
            command,
            id,
            id.removeprefix(f"{talk.instance}:").rpartition(":")[0],
            Action(attributes["sagaaction"]),
            int(attributes["sagaattempt"]),
            TopicPartition(commands_topic(self.service), talk.number),
            event.record(talk.key.encode()),
        )

    # --- hearing ----------------------------------------------------------------------------------------------------------------------

    async def until(self, holds: Callable[[], bool], patience: float | None = None) -> bool:
        """Wait until something holds of what was heard; False if it does not in time. Raises what ended the listening."""
        loop = asyncio.get_running_loop()
        end = loop.time() + (self.patience if patience is None else patience)
        assert self._listening is not None
        while not holds():
            if self._listening.done():
                self._listening.result()
            left = end - loop.time()
            if left <= 0:
                return False
            news = asyncio.create_task(self._news.wait())
            try:
                await asyncio.wait([news, self._listening], timeout=left, return_when=asyncio.FIRST_COMPLETED)
            finally:
                news.cancel()
        return True

    async def answer(self, talk: Talk, sent: Sent, before: int = 0) -> Heard | None:
        """Of what is heard after the first `before`: the first that echoes the command, or that can only be meant as its answer."""

        def echoes() -> Heard | None:
            return next((one for one in talk.heard[before:] if one["ce_sagacommand"] == sent.id), None)

        def meant() -> Heard | None:
            possible = {type for types in sent.types.values() for type in types}
            others = (one for one in talk.heard[before:] if not one["ce_sagacommand"].startswith(f"{talk.instance}:"))
            return next((one for one in others if one.outcome or one.type in possible), None)

        await self.until(lambda: (echoes() or meant()) is not None)
        if echoes() is None and meant() is not None:
            await self.until(lambda: echoes() is not None, GRACE)
        if (found := echoes() or meant()) is not None:
            self.nameless |= not found["ce_sagacommand"]
            self.answered(talk, sent, found)
        return found

    async def _listen(self, ends: Mapping[TopicPartition, int]) -> None:
        reader = self._log.reader()
        try:
            await reader.assign(ends)
            while True:
                for record in await reader.fetch(list(ends), limit=_FETCH, timeout=_LOOK):
                    self._hear(Heard(record))
                self._news.set()
                self._news = asyncio.Event()
        finally:
            await reader.close()

    def _hear(self, heard: Heard) -> None:
        talk = self._talk_of(heard)
        if talk is not None:
            (talk.dead if heard.record.topic == DEADLETTERS else talk.heard).append(heard)

    def _talk_of(self, heard: Heard) -> Talk | None:
        key = (heard.record.key or b"").decode(errors="replace")
        echoed, of_id = instance_of(heard["ce_sagacommand"]), instance_of(heard["ce_id"])
        for name in (echoed, heard["ce_sagainstance"], key, heard["ce_subject"], of_id, trace.trace_id(heard["traceparent"])):
            if name in self._talks:
                return self._talks[name]
        return None


async def found_topics(log: Log, service: str) -> dict[str, int]:
    """How many partitions each topic has that is needed. Raises Misconfigured for one that is not there."""
    wanted = (commands_topic(service), events_topic(service), DEADLETTERS)
    there = await log.describe(wanted)
    if missing := [topic for topic in wanted if topic not in there]:
        raise Misconfigured(f"there is no topic {', '.join(missing)} here: `saga topics apply` makes it")
    return {topic: there[topic].partitions for topic in wanted}
