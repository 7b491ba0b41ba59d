"""Reading: partitions followed from positions that we keep, and ranges that are known to be there.

What is followed is fetched by the process's follower (`kafka_follow`); a reader takes of it what is its own. Between taking records and
returning them there is no await that could be cancelled. An unreachable broker is no error by itself; a partition that its broker has
not spoken of for the whole time limit, though it was asked, is Unavailable.

Ranges are read by aiokafka's consumers, which suit them: one partition, from one place to another, as fast as it goes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer  # type: ignore[import-untyped]
from aiokafka.errors import KafkaError, OffsetOutOfRangeError  # type: ignore[import-untyped]

from saga.errors import Corrupt, InputsLost, Unavailable
from saga.log.base import StoredRecord, TopicPartition
from saga.log.kafka_client import Background, Cluster, abandon_consumer, connecting, said, within
from saga.log.kafka_follow import Followed, Followers
from saga.log.kafka_records import install, stored

LOOK_SECONDS = 1.0  # how often a waiting `fetch` looks whether the broker is still there
LUMP_BYTES = 4 * 1024 * 1024  # per partition and fetch of a range: the largest batch of a journal
IDLE_CONSUMERS = 2  # kept for the next restore: connecting costs more than reading a short range


class KafkaReader:
    """The port's Reader on the followers of a process."""

    def __init__(self, cluster: Cluster, followers: Followers) -> None:
        self._cluster = cluster
        self._followers = followers
        self._followed: dict[TopicPartition, Followed] = {}
        self._waiters: set[asyncio.Future[None]] = set()
        self._turn = 0
        self.closed = False

    async def assign(self, positions: Mapping[TopicPartition, int]) -> None:
        self._drop(positions)
        for partition, offset in positions.items():
            known = self._cluster.out(partition)
            follower = await self._followers.free_for(known)
            if self.closed:
                raise Unavailable("the reader is closed")
            self._drop([partition])  # somebody else may have assigned it while we waited
            self._followed[partition] = followed = Followed(follower, partition, offset)
            follower.follow(known, followed)
        self._tell()

    async def unassign(self, partitions: Collection[TopicPartition]) -> None:
        self._drop(partitions)
        self._tell()

    async def fetch(self, partitions: Collection[TopicPartition], *, limit: int, timeout: float) -> list[StoredRecord]:
        clock = asyncio.get_running_loop().time
        until = clock() + timeout
        while True:
            if self.closed:
                raise Unavailable("the reader is closed")
            followed = [(each, self._followed[each]) for each in partitions if each in self._followed]
            taken = self._take(followed, limit)
            if taken:
                return taken
            if (left := until - clock()) <= 0:
                for follower in {each.follower for _, each in followed}:
                    follower.ask_once()
                return taken
            await self._news([each for _, each in followed], min(left, LOOK_SECONDS))
            self._listen_for(followed)

    def position(self, partition: TopicPartition) -> int:
        return self._followed[partition].position

    async def close(self) -> None:
        self.closed = True
        self._drop(list(self._followed))
        self._tell()

    def _drop(self, partitions: Iterable[TopicPartition]) -> None:
        for partition in partitions:
            if (followed := self._followed.pop(partition, None)) is not None:
                followed.follower.unfollow(self._cluster.out(partition))

    def _tell(self) -> None:
        """Those who wait look again at what there is."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def _news(self, followed: Sequence[Followed], seconds: float) -> None:
        """Return when it is worth looking again, or after some seconds."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(seconds, _done, waiter)
        followers = {each.follower for each in followed}
        places = [self._waiters, *(each.waiters for each in followed)]
        for place in places:
            place.add(waiter)
        for follower in followers:
            follower.wait(1)
        try:
            await waiter
        finally:
            timer.cancel()
            for follower in followers:
                follower.wait(-1)
            for place in places:
                place.discard(waiter)

    def _take(self, followed: Sequence[tuple[TopicPartition, Followed]], limit: int) -> list[StoredRecord]:
        """What is there, without waiting. A failure is raised only when nothing was taken: it comes again with the next call."""
        taken: list[StoredRecord] = []
        self._turn += 1
        begin = self._turn % len(followed) if followed else 0
        for partition, each in (*followed[begin:], *followed[:begin]):  # a full one does not keep the others waiting
            if len(taken) >= limit:
                break
            if each.empty:
                continue
            try:
                taken += each.take(limit - len(taken))
            except KafkaError as error:
                if taken:
                    break
                if isinstance(error, OffsetOutOfRangeError):
                    raise InputsLost(f"{partition}: position {each.position} lies outside of what the partition holds") from error
                raise Unavailable(f"read {partition}: {said(error)}") from error
        return taken

    def _listen_for(self, followed: Sequence[tuple[TopicPartition, Followed]]) -> None:
        """Raises Unavailable if the broker has said nothing about one of these for the whole time limit, though it was asked."""
        for partition, each in followed:
            silent = each.follower.asking - each.heard
            if silent > self._cluster.timeout and self._followed.get(partition) is each:
                why = each.follower.problem
                raise Unavailable(f"{partition}: no answer from its leader for {silent:.0f} s{why and f' ({why})'}")


def _done(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


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
        return [stored(partition.topic, partition.partition, record) for record in lumps.get(known, ())]
