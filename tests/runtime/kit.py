"""Builders for the runtime's tests: a pen that writes a journal through the production Journal, and the records it decides.

The saga is the simulation's (`tests/simulation/sagas.py`), in one partition where nothing else is said, so every key is at home.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from saga.engine.messages import DEADLETTERS, REQUESTS
from saga.engine.state import Action, command_id
from saga.log.base import Appended, Headers, Log, Record, StoredRecord, TopicPartition, TopicSpec
from saga.log.memory import MemoryBroker, MemoryLog
from saga.runtime.batch import Batch, Place
from saga.runtime.codec import EVENTS, JOURNAL, checksum, decode, encode
from saga.runtime.fold import Fold, Position
from saga.runtime.journal import Journal, JournalSettings
from saga.runtime.states import Slot
from tests.simulation.sagas import SERVICES, book

BEGAN = 1_800_000_000_000  # ms: when a scripted journal begins; in both logs it is after the time of the first claim
HERE = TopicPartition(JOURNAL, 0)
ORDERS = TopicPartition("order.events", 0)
REPLIES = {
    "pay": ("payment", "payment.taken.v1", {"payment_id": "p"}),
    "greet": ("mail", "mail.greeted.v1", {}),
    "reserve": ("stock", "stock.reserved.v1", {}),
    "ship": ("shipping", "shipping.booked.v1", {"tracking": "t"}),
    "confirm": ("mail", "mail.confirmed.v1", {}),
}
TOPICS = [JOURNAL, REQUESTS, EVENTS, DEADLETTERS, "order.events"] + [
    f"{service}.{kind}" for service in SERVICES for kind in ("commands", "events")
]


def specs(partitions: int) -> list[TopicSpec]:
    config = {"max.message.bytes": "4194304", "message.timestamp.type": "LogAppendTime"}
    return [TopicSpec(name, partitions, 1, config) for name in TOPICS]


def placed(key: str, offset: int = 0, id: str = "", **more: Any) -> StoredRecord:
    headers: Headers = (("ce_id", (id or key).encode()), ("ce_source", b"order"), ("ce_type", b"order.placed.v1"))
    value = orjson.dumps({"order_id": key, "total": 7, **more})
    return StoredRecord(ORDERS.topic, 0, offset, 0, key.encode(), value, headers)


def reply(instance: str, step: str, offset: int = 0) -> StoredRecord:
    """The `done` of a step's first attempt."""
    service, type, data = REPLIES[step]
    command = command_id(instance, step, Action.EXECUTE, 1)
    given = {"id": f"{command}:reply", "type": type, "source": service}
    given |= {"sagacommand": command, "sagaattempt": "1", "sagaoutcome": "done"}
    headers: Headers = tuple((f"ce_{name}", text.encode()) for name, text in given.items())
    return StoredRecord(f"{service}.events", 0, offset, 0, instance.split(":")[1].encode(), orjson.dumps(data), headers)


class Counting:
    """A log that counts appends, and does to one of them what the test says: `spoil(append)` answers in its place."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.appends: list[Sequence[Record]] = []
        self.spoil: Any = None

    async def append(self, to: TopicPartition, records: Sequence[Record]) -> Appended:
        self.appends.append(records)
        if self.spoil is not None:
            spoil, self.spoil = self.spoil, None
            answer: Appended = await spoil(to, records)
            return answer
        return await self.log.append(to, records)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.log, name)


async def open_log(broker: MemoryBroker | None = None, name: str = "") -> MemoryLog:
    broker = broker or MemoryBroker()
    log = MemoryLog(broker, name)
    await log.open()
    await log.create(specs(1))
    return log


class Pen:
    """An owner of partition 0 whose time is what the test says: each commit is one second after the last."""

    def __init__(self, log: Any, owner: str = "ann", **settings: Any) -> None:
        given: dict[str, Any] = {"snapshot_bytes": 10**9, "snapshot_ms": 10**12, **settings}
        outlines = {
            f"{saga.name} {saga.version}": {"hash": saga.graph.hash, "outline": saga.graph.outline}
            for saga in book().sagas.values()
        }
        self.log = log
        self.settings = JournalSettings(partitions=1, owner=owner, outlines=outlines, **given)
        self.journal = Journal(log, 0, self.settings, lambda: 0.0)
        self.positions: dict[TopicPartition, Position] = {}
        self.place = Place(0, 1, book())

    @property
    def fold(self) -> Fold:
        return self.journal.fold

    async def open(self, kept: Fold | None = None) -> Pen:
        await self.journal.read_to_end(kept)
        await self.journal.claim()
        self.positions = dict(self.fold.positions)
        return self

    async def commit(self, *records: StoredRecord, seconds: float = 1, published: bool = True) -> Batch:
        """Decide these records and append them; then all is published, as far as the journal can tell."""
        batch = Batch(self.place, self.fold, max(self.fold.now, BEGAN) + int(seconds * 1000))
        for record in records:
            batch.take(record)
            self.positions[TopicPartition(record.topic, record.partition)] = Position(record.offset + 1, checksum(record))
        await self.journal.commit(batch, self.positions, {"order.events": 1})
        if published:
            self.journal.all_published()
        return batch

    async def start(self, *keys: str, **options: Any) -> None:
        await self.commit(*(placed(key) for key in keys), **options)

    def id(self, key: str) -> str:
        state = self.fold.get(Slot("order", key))
        assert state is not None, f"{key} is not there"
        return state.id

    async def complete(self, key: str) -> None:
        for step in REPLIES:
            await self.commit(reply(self.id(key), step))

    async def snapshot(self) -> None:
        """Write a whole snapshot and name it."""
        self.journal.settings = JournalSettings(**{**vars(self.settings), "snapshot_bytes": 0})
        named = self.fold.restore_from
        self.fold.grown = max(self.fold.grown, self.fold.snapshot_size + 1)
        while self.fold.restore_from == named:
            await self.commit()
            self.journal.settings = self.settings


async def records(log: Any, partition: TopicPartition = HERE) -> list[StoredRecord]:
    held = (await log.bounds([partition]))[partition]
    return [record async for lump in log.read(partition, held.start, held.end) for record in lump]


def fold(journal: Iterable[StoredRecord], start: int = 0) -> Fold:
    """The fold of these records from offset `start` on, to their end."""
    made = Fold(HERE, start)
    for record in journal:
        if record.offset >= start:
            made.feed(record)
    made.check_end()
    return made


def journal_of(*values: dict[str, Any] | bytes) -> list[StoredRecord]:
    """Records with these values, from offset 0 on."""
    raw = [value if isinstance(value, bytes) else encode(value) for value in values]
    return [StoredRecord(JOURNAL, 0, offset, BEGAN, None, each) for offset, each in enumerate(raw)]


def changed(record: StoredRecord, **fields: Any) -> StoredRecord:
    """The same record with other fields in its value."""
    value = encode({**decode(record), **fields})
    return StoredRecord(record.topic, record.partition, record.offset, record.timestamp, record.key, value, record.headers)


def moved(journal: Iterable[StoredRecord], first: int) -> list[StoredRecord]:
    """The same records at offsets from `first` on: as a late retry or a duplicate of them would stand."""
    return [StoredRecord(r.topic, r.partition, first + n, r.timestamp, r.key, r.value, r.headers) for n, r in enumerate(journal)]
