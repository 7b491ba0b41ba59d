"""A participant written from docs/PROTOCOL.md as plainly as can be, without the kit.

It makes cups: `cup.make.v1`, undone by `cup.break.v1`, asked about with `cup.find.v1`. Its inbox is a dictionary: it is never killed.
What is done in a method of its own is what people get wrong (`planted`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
from pydantic import BaseModel, Field

from saga import START, App, Command, Event, Refusal, Saga, minutes
from saga.cloudevents import iso_time, parse_time
from saga.log.base import Log, Outgoing, Record, StoredRecord, TopicPartition, TopicSpec
from saga.log.memory import MemoryBroker, MemoryLog

PARTITIONS = 4
REMEMBERS = 30 * 24 * 3600 * 1000  # ms


class CupMade(Event, type="cup.made.v1"):
    cup_id: str
    number: int


class CupBroken(Event, type="cup.broken.v1"): ...


class KilnFired(Event, type="cup.kiln-fired.v1"): ...


class NoClay(Refusal, type="cup.no-clay.v1"): ...


class Make(Command[CupMade], service="cup", refuses=(NoClay,)):
    cup_id: str
    size: int = Field(ge=1)


class Break(Command[CupBroken], service="cup"):
    cup_id: str


class Find(Command[CupMade], service="cup"):
    cup_id: str


class Wanted(Event, type="shop.wanted.v1"):
    cup_id: str


class Data(BaseModel):
    cup_id: str


cups = Saga("cups", version=1, starts_on=Wanted, key=lambda w: w.cup_id, data=Data, deadline=minutes(5))


@cups.start
def begin(w: Wanted) -> Data:
    return Data(cup_id=w.cup_id)


@cups.step(after=START)
def make(d: Data) -> Make:
    return Make(cup_id=d.cup_id, size=1)


@make.compensate
def smash(d: Data, _sent: Make) -> Break:
    return Break(cup_id=d.cup_id)


@make.verify
def find(d: Data, _sent: Make) -> Find:
    return Find(cup_id=d.cup_id)


shelf = Saga("shelf", version=1, starts_on=CupMade, key=lambda m: m.cup_id, data=Data, deadline=minutes(5))


@shelf.start
def put(m: CupMade) -> Data:
    return Data(cup_id=m.cup_id)


shelf.expect(CupBroken, key=str, after=START, within=None, name="broken")

app = App(sagas=[cups, shelf], begin="earliest", partitions=PARTITIONS)
HUGE_SIZE = 1_000_000  # no clay for that


class Stopped(Exception):
    """What a mistake lets through: the process would end here."""


@dataclass
class Row:
    state: str
    answer: Record | None


@dataclass
class Read:
    """A command that can be read."""

    record: StoredRecord
    headers: dict[str, str]
    data: Any

    @property
    def id(self) -> str:
        return self.headers["ce_sagacommand"]

    @property
    def action(self) -> str:
        return self.headers["ce_sagaaction"]

    @property
    def subject(self) -> str:
        return self.id if self.action == "execute" else self.headers["ce_sagasubject"]


class Unreadable(Exception):
    pass


@dataclass
class Cup:
    """The right one."""

    log: Log
    inbox: dict[str, Row] = field(default_factory=dict)
    made: int = 0
    fired: list[Read] = field(default_factory=list)

    async def run(self) -> None:
        reader, commands = self.log.reader(), [TopicPartition("cup.commands", number) for number in range(PARTITIONS)]
        await reader.assign(dict.fromkeys(commands, 0))
        try:
            while True:
                records = await reader.fetch(commands, limit=100, timeout=1.0)
                for record in self.in_turn(records):
                    await self.handle(record)
        except Stopped:
            await asyncio.Event().wait()
        finally:
            await reader.close()

    def in_turn(self, records: Sequence[StoredRecord]) -> Sequence[StoredRecord]:
        return records

    async def handle(self, record: StoredRecord) -> None:
        try:
            command = self.read(record)
        except Unreadable as why:
            await self.set_aside(record, str(why))
            return
        answer = self.answer(command)
        if answer is not None:
            await self.publish(command, answer)

    async def publish(self, command: Read, answer: Record) -> None:
        await self.log.publish([Outgoing(TopicPartition("cup.events", self.partition(command)), answer)])

    def partition(self, command: Read) -> int:
        return command.record.partition

    # --- reading ----------------------------------------------------------------------------------------------------------------------

    def read(self, record: StoredRecord) -> Read:
        try:
            headers = {name: raw.decode() for name, raw in record.headers}
            data = orjson.loads(record.value or b"")
        except ValueError as error:
            raise Unreadable("json") from error
        names = [name for name, _ in record.headers]
        if len(set(names)) < len(names) or not 0 < len(headers.get("ce_sagacommand", "")) <= 1000:
            raise Unreadable("no-address")
        if headers["ce_type"] not in ("cup.make.v1", "cup.break.v1", "cup.find.v1"):
            raise Unreadable("unknown-type")
        if headers["ce_sagaaction"] not in ("execute", "compensate", "verify"):
            raise Unreadable("action")
        if headers["ce_sagaaction"] != "execute" and not headers.get("ce_sagasubject"):
            raise Unreadable("subject")
        if parse_time(headers.get("ce_time", "")) is None:
            raise Unreadable("time")
        if not (isinstance(data, dict) and isinstance(data.get("cup_id"), str)):
            raise Unreadable("schema")
        return Read(record, headers, data)

    async def set_aside(self, record: StoredRecord, why: str) -> None:
        headers = {name: raw.decode(errors="replace") for name, raw in record.headers}
        value, kept = record.value, tuple((name, raw[:1000]) for name, raw in record.headers)
        reason = (("ce_sagaorigin", record.place.encode()), ("ce_sagareason", why.encode()), ("ce_sagadetail", why.encode()))
        dead = Record(record.key, value, (*kept, *reason))
        await self.log.publish([Outgoing(TopicPartition("saga.deadletter", record.partition), dead)])
        if all(0 < len(headers.get(name, "")) <= 1000 for name in ("ce_sagacommand", "ce_sagainstance", "ce_sagaattempt")):
            read = Read(record, headers, None)
            answer = self.said(read, "failed", "saga.failed.v1", {"reason": why}, id=f"{read.id}:failed:{record.place}")
            await self.publish(read, answer)

    # --- answering --------------------------------------------------------------------------------------------------------------------

    def answer(self, command: Read) -> Record | None:
        if self.too_old(command):
            return self.expired(command)
        own = self.inbox.get(command.id)
        if own is not None and own.answer is not None:
            return self.again(command, own.answer)
        subject = self.inbox.get(command.subject)
        if command.action == "execute":
            return self.nothing(command) if subject is not None else self.execute(command)
        if subject is None:
            return self.overtaken(command)
        if subject.state != "done":
            return self.keep(command, "nothing", self.nothing(command))
        return self.undo(command) if command.action == "compensate" else self.found(command, subject)

    def again(self, _command: Read, answer: Record) -> Record:
        return answer

    def execute(self, command: Read) -> Record | None:
        if command.data.get("size", 1) >= HUGE_SIZE:
            return self.refuse(command)
        self.made += 1
        made = CupMade(cup_id=command.data["cup_id"], number=self.made)
        return self.keep(command, "done", self.said(command, "done", "cup.made.v1", made.model_dump()))

    def refuse(self, command: Read) -> Record:
        return self.keep(command, "refused", self.said(command, "refused", "cup.no-clay.v1", {}))

    def overtaken(self, command: Read) -> Record:
        if int(command.headers["ce_sagainstance"].rpartition(":")[2], 36) < round(time.time() * 1000) - REMEMBERS:
            return self.expired(command)
        self.inbox[command.subject] = Row("nothing", None)
        return self.keep(command, "nothing", self.nothing(command))

    def undo(self, command: Read) -> Record:
        return self.keep(command, "done", self.said(command, "done", "cup.broken.v1", {}))

    def found(self, command: Read, subject: Row) -> Record:
        assert subject.answer is not None
        assert subject.answer.value is not None
        return self.keep(command, "done", self.said(command, "done", "cup.made.v1", orjson.loads(subject.answer.value)))

    def nothing(self, command: Read) -> Record:
        return self.said(command, "nothing", "saga.nothing.v1", {})

    def too_old(self, command: Read) -> bool:
        decided = parse_time(command.headers["ce_time"])
        assert decided is not None
        return decided < round(time.time() * 1000) - REMEMBERS

    def expired(self, command: Read) -> Record:
        id = f"{command.id}:expired:{command.record.place}"
        return self.said(command, "expired", "saga.expired.v1", {"reason": "too old"}, id=id)

    def keep(self, command: Read, state: str, answer: Record) -> Record:
        self.inbox[command.id] = Row(state, answer)
        return answer

    def said(self, command: Read, outcome: str, type: str, data: Any, *, id: str = "") -> Record:
        headers = {
            "ce_specversion": "1.0",
            "content-type": "application/json",
            "ce_id": id or f"{command.id}:reply",
            "ce_type": type,
            "ce_source": "cup",
            "ce_time": iso_time(round(time.time() * 1000)),
            "ce_sagaoutcome": outcome,
        }
        headers |= {name: command.headers[name] for name in self.echoed() if name in command.headers}
        return Record(command.record.key, orjson.dumps(data), tuple((name, text.encode()) for name, text in headers.items()))

    def echoed(self) -> Sequence[str]:
        return ("ce_subject", "ce_sagainstance", "ce_sagacommand", "ce_sagaaction", "ce_sagaattempt", "traceparent")


class TellsEvents(Cup):
    """Right too: fires the kiln for each cup, and says so, once."""

    def execute(self, command: Read) -> Record | None:
        self.fired.append(command)
        return super().execute(command)

    async def publish(self, command: Read, answer: Record) -> None:
        for one in self.fired:
            told = (("ce_type", b"cup.kiln-fired.v1"), ("ce_id", f"{one.id}:fired".encode()), ("ce_source", b"cup"))
            event = Record(one.record.key, b"{}", told)
            await self.log.publish([Outgoing(TopicPartition("cup.events", command.record.partition), event)])
        self.fired.clear()
        await super().publish(command, answer)


@asynccontextmanager
async def working(kind: type[Cup], config: Mapping[str, str] | None = None) -> AsyncIterator[tuple[Log, Cup]]:
    """A cup maker at work, on a log in memory. `config`: of its commands' topic."""
    log = MemoryLog(MemoryBroker(session_timeout=1.0, rebalance_timeout=2.0))
    await log.open()
    await log.create([TopicSpec(name, PARTITIONS) for name in ("cup.events", "saga.deadletter")])
    await log.create([TopicSpec("cup.commands", PARTITIONS, config=config or {})])
    cup = kind(log)
    running = asyncio.create_task(cup.run())
    try:
        yield log, cup
        assert not running.done(), running.result()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await log.close()
