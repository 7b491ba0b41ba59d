"""Reading: partitions followed from positions that we keep, and ranges that are known to be there.

aiokafka's consumer fetches ahead by itself and hands out what it has. Three of its habits are kept away from callers:
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
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer  # type: ignore[import-untyped]
from aiokafka.errors import KafkaError, OffsetOutOfRangeError  # type: ignore[import-untyped]

from saga.errors import Corrupt, InputsLost, Unavailable
from saga.log.base import StoredRecord, TopicPartition
from saga.log.kafka_client import Background, Cluster, abandon_consumer, connecting, said, within
from saga.log.kafka_records import install

logger = logging.getLogger(__name__)

LONG_POLL_MS = 200  # a fetch under way delays the first one after `assign` by as much, since a broker answers in turn
LOOK_SECONDS = 1.0  # how often a waiting `fetch` looks whether the broker is still there
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
    """One partition that is followed: where we are, and when the broker last spoke of it."""

    position: int
    told: int | None  # aiokafka's stamp of the last answer (wall clock; only compared with itself)
    heard: float  # our monotonic time when `told` was first seen


class KafkaReader:
    """The port's Reader on one consumer."""

    def __init__(self, cluster: Cluster, background: Background) -> None:
        self._cluster = cluster
        self._background = background
        self._consumer: Any = None
        self._opening = asyncio.Lock()
        self._followed: dict[TopicPartition, _Followed] = {}
        self._changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._turn = 0
        self.closed = False

    async def assign(self, positions: Mapping[TopicPartition, int]) -> None:
        await self._open()
        now = asyncio.get_running_loop().time()
        self._followed.update({partition: _Followed(offset, None, now) for partition, offset in positions.items()})
        self._apply()

    async def unassign(self, partitions: Collection[TopicPartition]) -> None:
        gone = [partition for partition in partitions if self._followed.pop(partition, None) is not None]
        if gone and self._consumer is not None:
            self._apply()

    async def fetch(self, partitions: Collection[TopicPartition], *, limit: int, timeout: float) -> list[StoredRecord]:
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout
        while True:
            if self.closed:
                raise Unavailable("the reader is closed")
            if self._followed and (self._consumer is None or self._consumer._fetcher._fetch_task.done()):
                await self._reopen()
            news = self._news()
            try:
                taken = await self._take(partitions, limit)
                left = until - loop.time()
                if taken or left <= 0:
                    return taken
                self._look(partitions)
                await asyncio.wait(news, timeout=min(left, LOOK_SECONDS), return_when=asyncio.FIRST_COMPLETED)
            finally:
                for waiter in news - {self._changed}:
                    waiter.cancel()

    def position(self, partition: TopicPartition) -> int:
        return self._followed[partition].position

    async def close(self) -> None:
        self.closed = True
        self._followed.clear()
        self._tell()
        if self._consumer is not None:
            self._background.start(abandon_consumer(self._consumer))
            self._consumer = None

    async def _open(self) -> None:
        async with self._opening:
            if self.closed:
                raise Unavailable("the reader is closed")
            if self._consumer is None:
                self._consumer = await start_consumer(
                    self._cluster, "inputs", self._background, isolation_level="read_committed", fetch_max_wait_ms=LONG_POLL_MS
                )

    async def _reopen(self) -> None:
        """The consumer's fetching has ended for a reason of its own: go on with a new one from the positions kept."""
        dead, self._consumer = self._consumer, None
        if dead is not None:
            logger.warning("the input consumer has failed and is replaced: %s", dead._fetcher._fetch_task)
            self._background.start(abandon_consumer(dead))
        await self._open()
        self._apply()

    def _apply(self) -> None:
        """Assign and seek everything in one step: no await here, or the fetcher would see partitions without a position."""
        consumer = self._consumer
        consumer.assign([self._cluster.out(partition) for partition in self._followed])
        for partition, followed in self._followed.items():
            consumer.seek(self._cluster.out(partition), followed.position)
        self._tell()

    def _tell(self) -> None:
        self._changed.set_result(None)
        self._changed = asyncio.get_running_loop().create_future()

    def _news(self) -> set[asyncio.Future[Any]]:
        """Futures of which one is done when it is worth looking again."""
        if self._consumer is None or not self._followed:
            return {self._changed}
        return {self._changed, self._consumer._fetcher._create_fetch_waiter()}

    async def _take(self, partitions: Collection[TopicPartition], limit: int) -> list[StoredRecord]:
        """What is there, without waiting. A failure is raised only when nothing was taken: it comes again with the next call."""
        taken: list[StoredRecord] = []
        self._turn += 1
        order = [partition for partition in partitions if partition in self._followed]
        if order:  # each call begins with another partition, so that a full one does not keep the others waiting
            begin = self._turn % len(order)
            order = order[begin:] + order[:begin]
        for partition in order:
            if len(taken) >= limit:
                break
            try:
                taken += await self._take_from(partition, limit - len(taken))
            except (InputsLost, Unavailable):
                if taken:
                    break
                raise
        return taken

    async def _take_from(self, partition: TopicPartition, limit: int) -> list[StoredRecord]:
        known = self._cluster.out(partition)
        consumer = self._consumer
        if known not in consumer._fetcher._records:
            return []
        try:
            lumps = await consumer.getmany(known, timeout_ms=0, max_records=limit)  # with no time-out it never suspends
        except OffsetOutOfRangeError as error:
            at = self._followed[partition].position
            raise InputsLost(f"{partition}: position {at} lies outside of what the partition holds") from error
        except KafkaError as error:
            raise Unavailable(f"read {partition}: {said(error)}") from error
        self._followed[partition].position = consumer._subscription._assigned_state(known).position
        return [stored(partition.topic, record) for record in lumps.get(known, ())]

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
