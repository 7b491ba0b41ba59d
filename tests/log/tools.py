"""What the log tests share: records in short, a listener one can wait for, taking until there is enough, an in-memory cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Iterable
from typing import Any

from saga.log.base import Log, Outgoing, Reader, Record, StoredRecord, TopicPartition, TopicSpec
from saga.log.memory import Faults, MemoryBroker, MemoryLog

TO = TopicPartition("t", 0)


async def cluster(partitions: int = 1) -> tuple[MemoryBroker, MemoryLog]:
    """A broker with topic `t`, and a client without faults."""
    broker = MemoryBroker(session_timeout=10, rebalance_timeout=5)
    log = await client(broker, "witness")
    await log.create([TopicSpec("t", partitions)])
    return broker, log


async def client(broker: MemoryBroker, name: str, faults: Faults | None = None) -> MemoryLog:
    log = MemoryLog(broker, name, faults)
    await log.open()
    return log


async def waits(coroutine: Coroutine[Any, Any, Any], seconds: float = 100) -> asyncio.Task[Any]:
    """Start it and see that it does not return within so many seconds of virtual time."""
    task = asyncio.create_task(coroutine)
    await asyncio.sleep(seconds)
    assert not task.done()
    return task


def values(*texts: str) -> list[Record]:
    return [Record(None, text.encode()) for text in texts]


def texts(records: Iterable[StoredRecord]) -> list[str]:
    return [(each.value or b"").decode() for each in records]


def outgoing(to: TopicPartition, *words: str) -> list[Outgoing]:
    return [Outgoing(to, record) for record in values(*words)]


async def everything(log: Log, partition: TopicPartition) -> list[StoredRecord]:
    """All that a partition holds now."""
    held = (await log.bounds([partition]))[partition]
    return [record async for lump in log.read(partition, held.start, held.end) for record in lump]


async def take(reader: Reader, partitions: Collection[TopicPartition], number: int) -> list[StoredRecord]:
    """Fetch until there are `number` records."""
    records: list[StoredRecord] = []
    while len(records) < number:
        records += await reader.fetch(partitions, limit=100, timeout=5)
    return records


class Owner:
    """A listener that keeps what it owns and a history; `changed` is shared by the members of a test."""

    def __init__(self, changed: asyncio.Condition) -> None:
        self.owned: frozenset[int] = frozenset()
        self.history: list[tuple[str, frozenset[int]]] = []
        self._changed = changed

    def assigned(self, partitions: frozenset[int]) -> None:
        self.owned = partitions
        self.history.append(("assigned", partitions))
        self._tell = asyncio.ensure_future(self._notify())

    async def revoked(self, partitions: frozenset[int]) -> None:
        self.owned = frozenset()
        self.history.append(("revoked", partitions))
        await self._notify()

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()


async def until(changed: asyncio.Condition, holds: Callable[[], bool]) -> None:
    async with changed, asyncio.timeout(60):
        await changed.wait_for(holds)
