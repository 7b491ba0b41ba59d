"""A payment service to try the kit on, with a gateway that takes idempotency keys, and the world around it: a log, a database."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pydantic import field_validator
from sqlalchemy import Column, Connection, Integer, MetaData, String, Table, insert, select

from saga.cloudevents import CloudEvent, header_fields, iso_time, parse
from saga.engine.messages import Command, Event, Refusal
from saga.log.base import Outgoing, Record, StoredRecord, TopicPartition, TopicSpec
from saga.log.memory import Faults, MemoryBroker, MemoryLog
from saga.log.partition import home
from saga.participant import Nothing, Participant, ParticipantRunner, Refused, Settings, Store, Work
from saga.participant.inbox import Inbox, Row, State
from saga.participant.settings import NoMeter
from saga.participant.store import wall_clock

PARTITIONS = 4
PATIENCE = 20.0  # seconds until a test gives up waiting


class PaymentTaken(Event, type="payment.taken.v1"):
    payment_id: str
    amount: int


class PaymentReturned(Event, type="payment.returned.v1"):
    amount: int


class PaymentNoted(Event, type="payment.noted.v1"):
    note: str


class LedgerGrew(Event, type="payment.ledger-grew.v1"):
    note: str


class PaymentDeclined(Refusal, type="payment.declined.v1"):
    why: str


class NotesForbidden(Refusal, type="payment.notes-forbidden.v1"):
    pass


class TakePayment(Command[PaymentTaken], service="payment", refuses=(PaymentDeclined,)):
    order_id: str
    amount: int


class ReturnPayment(Command[PaymentReturned], service="payment"):
    order_id: str


class FindPayment(Command[PaymentTaken], service="payment"):
    order_id: str


class NotePayment(Command[PaymentNoted], service="payment", refuses=(NotesForbidden,)):
    note: str

    @field_validator("note", mode="before")
    @classmethod
    def _text(cls, note: Any) -> Any:
        return note["text"] if isinstance(note, dict) else note  # KeyError is no ValueError: pydantic lets it through


TABLES = MetaData()
payments = Table("payments", TABLES, Column("id", String(200), primary_key=True), Column("amount", Integer, nullable=False))
notes = Table("notes", TABLES, Column("number", Integer, primary_key=True, autoincrement=True), Column("note", String(200)))


class Gateway:
    """Money at somebody else's: one charge per key, however often it is asked.

    A key that was voided, or asked for in vain, takes no charge any more: that is what the kit asks of the other side.
    """

    def __init__(self) -> None:
        self.charged: dict[str, int] = {}
        self.voided: set[str] = set()
        self.asked: list[str] = []

    def charge(self, key: str, amount: int) -> int:
        self.asked.append(f"charge {key}")
        if amount > 1_000:
            raise Refused(PaymentDeclined(why="too much"))
        if key in self.voided:
            raise RuntimeError(f"{key} was voided")
        return self.charged.setdefault(key, amount)

    def void(self, key: str) -> int:
        self.asked.append(f"void {key}")
        self.voided.add(key)
        if key not in self.charged:
            raise Nothing
        return self.charged[key]

    def find(self, key: str) -> int:
        self.asked.append(f"find {key}")
        if key not in self.charged:
            self.voided.add(key)
            raise Nothing
        return self.charged[key]

    @property
    def balance(self) -> int:
        return sum(amount for key, amount in self.charged.items() if key not in self.voided)


class Payment:
    """The participant, and what its handlers did; `before_note` is run by the note handler before anything else."""

    def __init__(self) -> None:
        self.gateway = Gateway()
        self.runs: list[str] = []
        self.before_note: Callable[[NotePayment, Work], None] = lambda _cmd, _work: None
        self.participant = Participant("payment")

        def charge(cmd: TakePayment, work: Work) -> int:
            return self.gateway.charge(work.command_id, cmd.amount)

        def void(_cmd: ReturnPayment, work: Work) -> int:
            return self.gateway.void(work.subject_id)

        async def ask(_cmd: FindPayment, work: Work) -> int:
            return self.gateway.find(work.subject_id)

        @self.participant.handles(TakePayment, calls=charge)
        def take(_cmd: TakePayment, work: Work, charged: int) -> PaymentTaken:
            self.runs.append(work.command_id)
            work.execute(insert(payments).values(id=work.command_id, amount=charged))
            return PaymentTaken(payment_id=work.command_id, amount=charged)

        @self.participant.handles(ReturnPayment, calls=void)
        def give_back(_cmd: ReturnPayment, work: Work, amount: int) -> PaymentReturned:
            self.runs.append(work.command_id)
            work.execute(payments.delete().where(payments.c.id == work.subject_id))
            return PaymentReturned(amount=amount)

        @self.participant.handles(FindPayment, calls=ask)
        def find(_cmd: FindPayment, work: Work, amount: int) -> PaymentTaken:
            self.runs.append(work.command_id)
            return PaymentTaken(payment_id=work.subject_id, amount=amount)

        @self.participant.handles(NotePayment)
        def note(cmd: NotePayment, work: Work) -> PaymentNoted:
            self.runs.append(work.command_id)
            work.execute(insert(notes).values(note=cmd.note))
            self.before_note(cmd, work)
            work.emit(LedgerGrew(note=cmd.note), key="ledger")
            return PaymentNoted(note=cmd.note)


@dataclass
class Ids:
    """The ids of one saga instance's step, as the orchestrator makes them."""

    key: str
    started: int = field(default_factory=wall_clock)

    @property
    def instance(self) -> str:
        digits, number = "", self.started
        while number:
            number, digit = divmod(number, 36)
            digits = "0123456789abcdefghijklmnopqrstuvwxyz"[digit] + digits
        return f"checkout:{self.key}:{digits}"

    def command(self, action: str = "execute", step: str = "pay") -> str:
        return f"{self.instance}:{step}:{action}"


def command(
    message: Command[Any],
    ids: Ids,
    action: str = "execute",
    *,
    step: str = "pay",
    attempt: int = 1,
    time: int | None = None,
    about: Ids | None = None,
) -> Record:
    """A command as the orchestrator sends it. `about`: the run whose command it undoes, if that is an earlier one."""
    id = ids.command(action, step)
    attributes = {
        "sagainstance": ids.instance,
        "sagacommand": id,
        "sagaaction": action,
        "sagaattempt": str(attempt),
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    }
    if action != "execute":
        attributes["sagasubject"] = (about or ids).command("execute", step)
    sent = CloudEvent(
        message.__type__,
        f"{id}:{attempt}",
        "saga",
        message.model_dump(mode="json"),
        iso_time(ids.started if time is None else time),
        ids.key,
        attributes,
    )
    return sent.record(ids.key.encode())


class Counts(NoMeter):
    """A meter that remembers."""

    def __init__(self) -> None:
        self.results: list[tuple[str, str]] = []
        self.dead: list[str] = []
        self.duplicates = 0

    def on_command(self, service: str, command: str, result: str, seconds: float) -> None:
        assert service == "payment"
        assert seconds >= 0
        self.results.append((command, result))

    def on_duplicate(self, service: str) -> None:
        assert service == "payment"
        self.duplicates += 1

    def on_dead_letter(self, service: str, reason: str) -> None:
        assert service == "payment"
        self.dead.append(reason)


class Process:
    """One process of the service: its own connections, its own runner."""

    def __init__(self, world: World, payment: Payment, settings: Settings, faults: Faults | None) -> None:
        self.log = MemoryLog(world.broker, faults=faults)
        self.store = Store(world.url, tables=TABLES, now=world.now)
        self.meter = Counts()
        self.stop = asyncio.Event()
        self.runner = ParticipantRunner(payment.participant, self.store, self.log, settings=settings, meter=self.meter)
        self.task: asyncio.Task[None] | None = None

    async def start(self) -> Process:
        await self.log.open()
        self.task = asyncio.create_task(self.runner.run(self.stop))
        return self

    async def end(self) -> None:
        """Stop as on SIGTERM."""
        assert self.task is not None
        self.stop.set()
        await asyncio.wait_for(self.task, PATIENCE)
        await self.log.close()
        self.store.close()

    async def crash(self) -> None:
        """Nothing reaches the log any more, and nothing more runs; what was committed to the database stays."""
        assert self.task is not None
        self.log.kill()
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        self.store.close()


class World:
    """A log and a database that outlive every process of the service."""

    def __init__(self, url: str, *, virtual: bool = False) -> None:
        """`virtual`: the time of day is the event loop's too."""
        self.url = url
        self.broker = MemoryBroker(session_timeout=0.3, rebalance_timeout=2.0)
        self.log = MemoryLog(self.broker)
        self.now = self.broker.now if virtual else wall_clock
        self.store = Store(url, tables=TABLES, now=self.now)
        self.processes: list[Process] = []

    async def open(self) -> None:
        await self.log.open()
        topics = ("payment.commands", "payment.events", "saga.deadletter")
        await self.log.create([TopicSpec(topic, PARTITIONS) for topic in topics])

    async def close(self) -> None:
        for process in self.processes:
            assert process.task is not None
            if not process.task.done():
                await process.end()
        await self.log.close()
        self.store.close()

    async def start(self, payment: Payment, settings: Settings | None = None, faults: Faults | None = None) -> Process:
        self.processes.append(Process(self, payment, settings or Settings(), faults))
        return await self.processes[-1].start()

    async def send(self, *records: Record, partition: int | None = None) -> None:
        def to(record: Record) -> TopicPartition:
            number = home((record.key or b"").decode(), PARTITIONS) if partition is None else partition
            return TopicPartition("payment.commands", number)

        await self.log.publish([Outgoing(to(record), record) for record in records])

    async def records(self, topic: str = "payment.events") -> list[StoredRecord]:
        """All records of a topic so far, in order within each partition."""
        partitions = [TopicPartition(topic, number) for number in range(PARTITIONS)]
        found: list[StoredRecord] = []
        for each, held in (await self.log.bounds(partitions)).items():
            async for lump in self.log.read(each, held.start, held.end):
                found += lump
        return found

    async def until(self, count: int, topic: str = "payment.events", **headers: str) -> list[StoredRecord]:
        """Wait until that many records with these CloudEvents attributes are there."""
        found: list[StoredRecord] = []

        async def look() -> bool:
            nonlocal found
            found = [r for r in await self.records(topic) if not headers or headers.items() <= header_fields(r.headers).items()]
            return len(found) >= count

        await eventually(look, lambda: f"{count} records on {topic} with {headers}; there are {len(found)}")
        return found

    async def reply(self, id: str, count: int = 1) -> StoredRecord:
        """The `count`th reply to a command."""
        return (await self.until(count, sagacommand=id))[count - 1]

    async def row(self, id: str) -> Row:
        return await self.store.look(lambda connection: Inbox(connection, [id]).find(id))

    async def put(self, id: str, state: State, reply: Record | None = None) -> None:
        """Put an inbox row, as an earlier command left it."""
        await self.store.run(lambda connection: put(connection, id, state, reply, wall_clock()))

    async def rows(self, table: Table) -> list[Any]:
        return await self.store.look(lambda connection: _all(connection, table))


def put(connection: Connection, id: str, state: State, reply: Record | None, since: int) -> None:
    """Put an inbox row into a state."""
    rows = Inbox(connection, [id])
    rows.write(id, state, reply, since)
    rows.flush()


def _all(connection: Connection, table: Table) -> list[Any]:
    return list(connection.execute(select(table).order_by(*table.primary_key)).all())


def outcome(record: StoredRecord) -> str:
    fields = header_fields(record.headers)
    return f"{fields.get('sagaoutcome', 'event')} {fields['type']}"


def data(record: StoredRecord) -> Any:
    return parse(record).data


async def eventually(look: Callable[[], Any], what: Callable[[], str]) -> None:
    """Wait until `await look()` holds; fail, saying what was waited for."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + PATIENCE
    while not await look():
        if loop.time() > deadline:
            raise AssertionError(f"waited {PATIENCE} s for {what()}")
        await asyncio.sleep(0.01)
