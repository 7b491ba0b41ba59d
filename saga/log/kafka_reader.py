"""Reading: partitions followed from positions that we keep, and ranges that are known to be there.

aiokafka's consumer fetches ahead by itself and hands out what it has. Four of its habits are kept away from callers:
- It asks a broker for more only when nothing is left of the last answer. So one task takes all that is there, at once.
- `getmany` over several partitions loses what it took from the first if the second one's data cannot be parsed. So it is asked for
  one partition at a time, without waiting; waiting is done on its "something new" future. Between taking records and returning
  them there is no await that could be cancelled.
- `assign` replaces everything and forgets positions. Positions are kept here, and all are sought again in the same step, before any
  other task or the fetcher can run.
- An unreachable broker is only logged. A partition that the broker has not spoken of for the whole time limit is Unavailable.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaConsumer  # type: ignore[import-untyped]
from aiokafka.errors import KafkaError, OffsetOutOfRangeError  # type: ignore[import-untyped]

from saga.errors import Corrupt, InputsLost, Unavailable
from saga.log.base import StoredRecord, TopicPartition
from saga.log.kafka_client import Background, Cluster, abandon_consumer, connecting, forget, said, within
from saga.log.kafka_records import install

logger = logging.getLogger(__name__)

LONG_POLL_MS = 200  # a fetch under way delays the first one after `assign` by as much, since a broker answers in turn
LOOK_SECONDS = 1.0  # how often a waiting `fetch` looks whether the broker is still there
READY_BYTES = 1024 * 1024  # of one partition: more is not taken from the consumer; it holds as much again
LEFT_SECONDS = 0.02  # until a partition that is full, or has a problem, is looked at again
RECORD_BYTES = 300  # that a record takes beside its key and value, its headers included
LUMP_BYTES = 4 * 1024 * 1024  # per partition and fetch of a range: the largest batch of a journal
IDLE_CONSUMERS = 2  # kept for the next restore: connecting costs more than reading a short range


async def start_consumer(cluster: Cluster, role: str, background: Background, **settings: Any) -> Any:
    """A started AIOKafkaConsumer without a group. Raises Unavailable."""
    install()
    defaults = {"enable_auto_commit": False, "auto_offset_reset": "none"}
    consumer = AIOKafkaConsumer(**cluster.settings(role), **defaults, **settings)
    try:
        with connecting(cluster):
            await within(cluster.timeout, consumer.start())
    except BaseException:
        background.start(abandon_consumer(consumer))
        raise
    return consumer


def stored(topic: str, record: Any) -> StoredRecord:
    """aiokafka's record as ours. A header without a value has an empty one here."""
    headers = tuple((name, value or b"") for name, value in record.headers)
    return StoredRecord(topic, record.partition, record.offset, record.timestamp, record.key, record.value, headers)


@dataclass
class _Followed:
    """One partition that is followed: what is ready to be fetched, where we are, and when the broker last spoke of it."""

    position: int  # up to where `fetch` has returned all there is
    read: int  # up to where the consumer has, with what is ready
    heard: float  # our monotonic time when `told` was first seen
    told: int | None = None  # aiokafka's stamp of the last answer (wall clock; only compared with itself)
    ready: deque[StoredRecord] = field(default_factory=deque)
    bytes: int = 0  # of what is ready
    problem: InputsLost | Unavailable | None = None  # met behind what is ready
    waiter: asyncio.Future[None] | None = None

    @property
    def room(self) -> bool:
        return self.problem is None and self.bytes < READY_BYTES


def _size(record: Any) -> int:
    return RECORD_BYTES + len(record.key or b"") + len(record.value or b"")


class KafkaReader:
    """The port's Reader on one consumer.

    What the consumer has fetched is taken from it at once (`_pump`), not when its user asks. For aiokafka asks a broker again only when
    nothing is left of its last answer, or after 100 ms. With some partitions on one consumer each would wait for the slowest user.
    """

    def __init__(self, cluster: Cluster, background: Background) -> None:
        self._cluster = cluster
        self._background = background
        self._consumer: Any = None
        self._pumping: asyncio.Task[None] | None = None
        self._opening = asyncio.Lock()
        self._followed: dict[TopicPartition, _Followed] = {}
        self._turn = 0
        self.closed = False

    async def assign(self, positions: Mapping[TopicPartition, int]) -> None:
        await self._open()
        now = asyncio.get_running_loop().time()
        self._wake(positions)
        self._followed.update({partition: _Followed(offset, offset, now) for partition, offset in positions.items()})
        self._apply()

    async def unassign(self, partitions: Collection[TopicPartition]) -> None:
        self._wake(partitions)
        gone = [partition for partition in partitions if self._followed.pop(partition, None) is not None]
        if gone and self._consumer is not None:
            self._apply()

    async def fetch(self, partitions: Collection[TopicPartition], *, limit: int, timeout: float) -> list[StoredRecord]:
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout
        while True:
            if self.closed:
                raise Unavailable("the reader is closed")
            if self._followed and (self._pumping is None or self._pumping.done()):
                await self._reopen()
            taken = self._take(partitions, limit)
            left = until - loop.time()
            if taken or left <= 0:
                return taken
            self._look(partitions)
            waiter = loop.create_future()
            for partition in partitions:
                if followed := self._followed.get(partition):
                    followed.waiter = waiter
            await asyncio.wait([waiter], timeout=min(left, LOOK_SECONDS))

    def position(self, partition: TopicPartition) -> int:
        return self._followed[partition].position

    async def close(self) -> None:
        self.closed = True
        self._wake(list(self._followed))
        self._followed.clear()
        self._let_go()

    def _wake(self, partitions: Collection[TopicPartition]) -> None:
        for partition in partitions:
            if (followed := self._followed.get(partition)) and followed.waiter and not followed.waiter.done():
                followed.waiter.set_result(None)

    # --- the consumer -----------------------------------------------------------------------------------------------------------------

    async def _open(self) -> None:
        async with self._opening:
            if self.closed:
                raise Unavailable("the reader is closed")
            if self._consumer is None:
                consumer = await start_consumer(
                    self._cluster, "inputs", self._background, isolation_level="read_committed", fetch_max_wait_ms=LONG_POLL_MS
                )
                if self.closed:
                    self._background.start(abandon_consumer(consumer))
                    raise Unavailable("the reader is closed")
                self._consumer = consumer
                self._pumping = asyncio.get_running_loop().create_task(self._pump(self._consumer))
                forget(self._pumping)

    async def _reopen(self) -> None:
        """The consumer's fetching has ended for a reason of its own: go on with a new one from where it was."""
        dead = self._let_go()
        if dead is not None:
            logger.warning("the input consumer has failed and is replaced: %s", dead._fetcher._fetch_task)
        await self._open()
        self._apply()

    def _let_go(self) -> Any:
        consumer, self._consumer = self._consumer, None
        if self._pumping is not None:
            self._pumping.cancel()
        if consumer is not None:
            self._background.start(abandon_consumer(consumer))
        return consumer

    def _apply(self) -> None:
        """Assign and seek everything in one step: no await here, or the fetcher would see partitions without a position."""
        consumer = self._consumer
        consumer.assign([self._cluster.out(partition) for partition in self._followed])
        for partition, followed in self._followed.items():
            consumer.seek(self._cluster.out(partition), followed.read)

    async def _pump(self, consumer: Any) -> None:
        """Take what the consumer fetches, as soon as it is there."""
        while not consumer._fetcher._fetch_task.done():
            waiter = consumer._fetcher._create_fetch_waiter()
            left = False
            for known in list(consumer._fetcher._records):
                if (followed := self._followed.get(self._cluster.back(known))) is None:
                    continue
                if followed.room:
                    await self._draw(consumer, known, followed)
                left = left or not followed.room
            # What is left keeps the consumer from asking on for a moment: its user comes by soon. After a problem, too, nobody is asked
            # for that partition again before the consumer was asked for what it has.
            news = [waiter, consumer._fetcher._fetch_task]
            await asyncio.wait(news, timeout=LEFT_SECONDS if left else None, return_when=asyncio.FIRST_COMPLETED)
            waiter.cancel()

    async def _draw(self, consumer: Any, known: Any, followed: _Followed) -> None:
        """What the consumer has of one partition. With no time-out `getmany` never suspends."""
        partition = self._cluster.back(known)
        try:
            records = (await consumer.getmany(known, timeout_ms=0)).get(known, ())
        except OffsetOutOfRangeError as error:
            followed.problem = InputsLost(f"{partition}: position {followed.read} lies outside of what the partition holds")
            followed.problem.__cause__ = error
        except Exception as error:  # of whatever kind: it is this partition's, and the others go on
            followed.problem = Unavailable(f"read {partition}: {said(error) if isinstance(error, KafkaError) else repr(error)}")
            followed.problem.__cause__ = error
        else:
            followed.ready += [stored(partition.topic, record) for record in records]
            followed.bytes += sum(map(_size, records))
            followed.read = consumer._subscription._assigned_state(known).position
            if not followed.ready:
                followed.position = followed.read
        self._wake([partition])

    # --- what is ready ----------------------------------------------------------------------------------------------------------------

    def _take(self, partitions: Collection[TopicPartition], limit: int) -> list[StoredRecord]:
        """What is ready, without waiting. A problem is raised only when nothing was taken."""
        taken: list[StoredRecord] = []
        self._turn += 1
        order = [(partition, followed) for partition in partitions if (followed := self._followed.get(partition))]
        if order:  # each call begins with another partition, so that a full one does not keep the others waiting
            begin = self._turn % len(order)
            order = order[begin:] + order[:begin]
        for _, followed in order:
            ready = followed.ready
            while ready and len(taken) < limit:
                record = ready.popleft()
                followed.bytes -= _size(record)
                followed.position = record.offset + 1
                taken.append(record)
            if not ready:
                followed.position = followed.read
        if not taken:
            for _, followed in order:
                if followed.problem is not None:
                    problem, followed.problem = followed.problem, None
                    raise problem
        return taken

    def _look(self, partitions: Collection[TopicPartition]) -> None:
        """Raises Unavailable if the broker has said nothing about one of these for the whole time limit."""
        now = asyncio.get_running_loop().time()
        for partition in partitions:
            if (followed := self._followed.get(partition)) is None:
                continue
            told = self._consumer._subscription._assigned_state(self._cluster.out(partition)).timestamp
            if told != followed.told:
                followed.told, followed.heard = told, now
            elif now - followed.heard > self._cluster.timeout:
                raise Unavailable(f"{partition}: no answer from its leader for {now - followed.heard:.0f} s")


class RangeReader:
    """Reads ranges of a partition that are known to be there, aborted foreign writes included; for restores and tools."""

    def __init__(self, cluster: Cluster, background: Background) -> None:
        self._cluster = cluster
        self._background = background
        self._idle: list[Any] = []

    async def read(self, partition: TopicPartition, start: int, end: int) -> AsyncIterator[list[StoredRecord]]:
        if start >= end:
            return
        consumer = self._idle.pop() if self._idle else await self._connect()
        healthy = False
        try:
            known = self._cluster.out(partition)
            consumer.assign([known])
            consumer.seek(known, start)
            position, moved = start, asyncio.get_running_loop().time()
            while position < end:
                records = await self._lump(consumer, partition, start)
                now = asyncio.get_running_loop().time()
                reached = consumer._subscription._assigned_state(known).position
                if reached > position:
                    position, moved = reached, now
                elif now - moved > self._cluster.timeout:
                    raise Unavailable(f"{partition}: nothing came at {position} (of {end}) for {self._cluster.timeout} s")
                if wanted := [record for record in records if record.offset < end]:
                    yield wanted
                    moved = asyncio.get_running_loop().time()
            consumer.pause(known)  # or it would fetch on
            healthy = True
        finally:
            if healthy and len(self._idle) < IDLE_CONSUMERS:
                self._idle.append(consumer)
            else:
                self._background.start(abandon_consumer(consumer))

    async def close(self) -> None:
        while self._idle:
            self._background.start(abandon_consumer(self._idle.pop()))

    async def _connect(self) -> Any:
        # The range is there, so a fetch need not wait at the broker for more to come.
        settings = {"isolation_level": "read_uncommitted", "fetch_max_wait_ms": 10, "max_partition_fetch_bytes": LUMP_BYTES}
        return await start_consumer(self._cluster, "ranges", self._background, **settings)

    async def _lump(self, consumer: Any, partition: TopicPartition, start: int) -> list[StoredRecord]:
        known = self._cluster.out(partition)
        try:
            lumps = await consumer.getmany(known, timeout_ms=100)
        except OffsetOutOfRangeError as error:
            raise Corrupt(f"{partition}: asked from {start}, which the partition does not hold") from error
        except KafkaError as error:
            raise Unavailable(f"read {partition}: {said(error)}") from error
        if consumer._fetcher._fetch_task.done():
            raise Unavailable(f"read {partition}: the consumer has failed")
        return [stored(partition.topic, record) for record in lumps.get(known, ())]
