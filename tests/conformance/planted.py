"""A participant written from docs/PROTOCOL.md as plainly as can be, without the kit; and what people get wrong, one mistake at a time.

It makes cups: `cup.make.v1`, undone by `cup.break.v1`, asked about with `cup.find.v1`. Its inbox is a dictionary: it is never killed.
Each class below it is the right one with one mistake.
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


# --- mistakes, one at a time --------------------------------------------------------------------------------------------------------------


class NoInbox(Cup):
    """Runs what is executed again: the answer is made anew each time."""

    def again(self, command: Read, answer: Record) -> Record:
        return self.execute(command) or answer if command.action == "execute" else answer


class NewIdOnRepeat(Cup):
    """Sends the stored answer again, under a new id."""

    def again(self, command: Read, answer: Record) -> Record:
        others = tuple(header for header in answer.headers if header[0] != "ce_id")
        return Record(answer.key, answer.value, (*others, ("ce_id", f"{command.id}:{command.record.offset}".encode())))


class SilentOnRepeat(Cup):
    """Knows the copy, and says nothing."""

    def answer(self, command: Read) -> Record | None:
        known = self.inbox.get(command.id)
        return None if known is not None and known.answer is not None else super().answer(command)


class SecondEffectInSecret(Cup):
    """Answers a copy from its inbox, but fires the kiln again."""

    async def handle(self, record: StoredRecord) -> None:
        await super().handle(record)
        headers = dict(record.headers)
        if headers.get("ce_type") == b"cup.make.v1":
            told = (("ce_type", b"cup.kiln-fired.v1"), ("ce_id", record.place.encode()), ("ce_source", b"cup"))
            await self.log.publish([Outgoing(TopicPartition("cup.events", record.partition), Record(record.key, b"{}", told))])


class NoTombstone(Cup):
    """Says nothing to a compensation of what never came, and forgets it."""

    def overtaken(self, command: Read) -> Record:
        answer = super().overtaken(command)
        self.inbox.pop(command.subject, None)
        return answer


class DoneWithoutUndoing(Cup):
    """Says done to a compensation, or a verify, of what never came."""

    def overtaken(self, command: Read) -> Record:
        answer = super().overtaken(command)
        if command.action == "verify" or b"saga.nothing.v1" not in dict(answer.headers).values():
            return answer
        return self.keep(command, "done", self.undo(command))


class NothingAfterDone(Cup):
    """Gives nothing back, and says that there was nothing."""

    def undo(self, command: Read) -> Record:
        return self.keep(command, "nothing", self.nothing(command))


class ForgetsWhatWasUndone(Cup):
    """Deletes the row with the cup: a late copy makes another."""

    def undo(self, command: Read) -> Record:
        del self.inbox[command.subject]
        return super().undo(command)


class CannotFind(Cup):
    """Answers a verify from a place where the cup is not."""

    def found(self, command: Read, subject: Row) -> Record:
        del subject
        return self.keep(command, "nothing", self.nothing(command))


class FindsAnother(Cup):
    """Finds a cup, which is not the one."""

    def found(self, command: Read, subject: Row) -> Record:
        del subject
        other = CupMade(cup_id="another", number=0)
        return self.keep(command, "done", self.said(command, "done", "cup.made.v1", other.model_dump()))


class RefusesAnew(Cup):
    """Keeps no refusal: asked again it thinks again."""

    def refuse(self, command: Read) -> Record:
        answer = super().refuse(command)
        self.inbox[command.id] = Row("refused", None)
        return answer

    def nothing(self, command: Read) -> Record:
        row = self.inbox.get(command.id)
        return self.refuse(command) if row is not None and row.state == "refused" else super().nothing(command)


class BreaksWhatWasRefused(Cup):
    """Compensates what was never done."""

    def answer(self, command: Read) -> Record | None:
        subject = self.inbox.get(command.headers.get("ce_sagasubject", ""))
        refused = subject is not None and subject.state == "refused"
        return self.undo(command) if refused and command.action == "compensate" else super().answer(command)


class StoresFailed(Cup):
    """Keeps `failed` like any answer."""

    async def publish(self, command: Read, answer: Record) -> None:
        await super().publish(command, answer)
        self.inbox.setdefault(command.id, Row("refused", answer))


class SameIdForFailures(Cup):
    """One id for all failures of a command."""

    def said(self, command: Read, outcome: str, type: str, data: Any, *, id: str = "") -> Record:
        return super().said(command, outcome, type, data, id=f"{command.id}:failed:" if outcome == "failed" else id)


class NoEcho(Cup):
    """Answers to nobody."""

    def echoed(self) -> Sequence[str]:
        return ("ce_subject", "traceparent")


class EchoesNoAttempt(Cup):
    def echoed(self) -> Sequence[str]:
        return [name for name in super().echoed() if name != "ce_sagaattempt"]


class LosesTheTrace(Cup):
    def echoed(self) -> Sequence[str]:
        return [name for name in super().echoed() if name != "traceparent"]


class ByKey(Cup):
    """Lets its producer choose the partition."""

    def partition(self, command: Read) -> int:
        from saga.log.partition import home_of_bytes

        return home_of_bytes(command.record.key or b"", PARTITIONS)


class WithoutKey(Cup):
    def said(self, command: Read, outcome: str, type: str, data: Any, *, id: str = "") -> Record:
        made = super().said(command, outcome, type, data, id=id)
        return Record(None, made.value, made.headers)


class AnotherSource(Cup):
    def said(self, command: Read, outcome: str, type: str, data: Any, *, id: str = "") -> Record:
        made = super().said(command, outcome, type, data, id=id)
        return Record(made.key, made.value, tuple((n, b"kiln" if n == "ce_source" else raw) for n, raw in made.headers))


class LacksAField(Cup):
    """A value that its schema does not take."""

    def said(self, command: Read, outcome: str, type: str, data: Any, *, id: str = "") -> Record:
        value = {"cup_id": data["cup_id"]} if type == "cup.made.v1" else data
        return super().said(command, outcome, type, value, id=id)


class DoneUnderAnotherName(Cup):
    """Says done with a type that the command does not name."""

    def said(self, command: Read, outcome: str, type: str, data: Any, *, id: str = "") -> Record:
        return super().said(command, outcome, "cup.crafted.v1" if type == "cup.made.v1" else type, data, id=id)


class StopsAtGarbage(Cup):
    async def set_aside(self, record: StoredRecord, why: str) -> None:
        del record, why
        raise Stopped


class DoesWhatItCannotRead(Cup):
    """Takes an action that it does not know for an execute."""

    def read(self, record: StoredRecord) -> Read:
        spoiled = tuple(
            (n, b"execute" if n == "ce_sagaaction" and raw == b"participant-check" else raw) for n, raw in record.headers
        )
        other = StoredRecord(record.topic, record.partition, record.offset, record.timestamp, record.key, record.value, spoiled)
        return super().read(other)


class DeadLettersWithoutReason(Cup):
    async def set_aside(self, record: StoredRecord, why: str) -> None:
        dead = Record(record.key, record.value, tuple((name, raw[:1000]) for name, raw in record.headers))
        await self.log.publish([Outgoing(TopicPartition("saga.deadletter", record.partition), dead)])
        del why


class OutOfOrder(Cup):
    def in_turn(self, records: Sequence[StoredRecord]) -> Sequence[StoredRecord]:
        return list(reversed(records))


class DeafOnOnePartition(Cup):
    async def handle(self, record: StoredRecord) -> None:
        if record.partition != 2:
            await super().handle(record)


class NeverForgets(Cup):
    """Runs what is older than its memory."""

    def too_old(self, command: Read) -> bool:
        del command
        return False


class ClosesWhatItForgot(Cup):
    """Says nothing where it cannot know."""

    def overtaken(self, command: Read) -> Record:
        self.inbox[command.subject] = Row("nothing", None)
        return self.keep(command, "nothing", self.nothing(command))


class Silent(Cup):
    async def handle(self, record: StoredRecord) -> None:
        del record


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
