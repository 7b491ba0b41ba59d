"""Appending and publishing: an idempotent producer that is replaced when it can no longer be trusted.

Problem: an append whose answer does not come may still land. Naive way: send it again, or give up and close the producer. Both are
wrong: the first may write twice, and closing flushes, that is, sends it again. The way taken: the caller learns "unknown" in time,
the batch stays where it is, and whatever is sent to that partition later queues behind it, since the producer keeps one batch per
partition in flight and never passes one (`kafka_produce`).

A batch that failed for good has burned its sequence numbers: the broker would refuse the next one of that partition
(OutOfOrderSequence). Then the producer is retired: new work goes to a new producer, those still waiting get their answers or their
time-outs, and the last one to leave cuts it off.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from aiokafka.errors import KafkaError, MessageSizeTooLargeError, RecordListTooLargeError  # type: ignore[import-untyped]

from saga.errors import Rejected, Unavailable
from saga.log.base import Appended, Outgoing, Record, TopicPartition
from saga.log.kafka_client import Background, Cluster, connecting, end_tasks, forget, said, unavailable, within
from saga.log.kafka_produce import Batch, Placed, Producer

logger = logging.getLogger(__name__)

APPEND_BYTES = 4 * 1024 * 1024  # a batch, as `max.message.bytes` of the journal allows it
PUBLISH_BYTES = 512 * 1024  # half of what a broker takes by default (1,048,588), so that only a large record comes near
SEQUENCE_LIMIT = 2**30  # a new producer, rather than numbers that begin again at 2^31 records; no batch has that many
SILENT_TIMEOUTS = 6  # so many time-outs without any answer: the brokers may have moved, and only a new client looks for them

Written = tuple[Appended, int]  # where a batch stands, and how many records it has


class _Line:
    """One producer, from its start until nobody needs it."""

    def __init__(self, producer: Producer) -> None:
        self.producer = producer
        self.retired = False
        self.silent_since: float | None = None
        self._users = 0

    def usable_for(self, partition: Any) -> bool:
        used_up = self.producer.sequences.get(partition, 0) > SEQUENCE_LIMIT
        return not (self.retired or self.producer.ended or used_up)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        self._users += 1
        try:
            yield
        finally:
            self._users -= 1
            if self.retired and not self._users:
                self.producer.abandon()

    def send(self, partition: Any, batch: Batch) -> None:
        """Hand a batch to the producer, which knows the partition; `batch.answer` tells where it stands."""
        batch.answer.add_done_callback(self._judge)  # also when the caller has given up waiting
        self.producer.send(partition, batch)

    def _judge(self, answer: asyncio.Future[Placed]) -> None:
        if (error := answer.exception()) is None:
            self.silent_since = None
        else:
            self.retire(said(error))

    def silent(self, limit: float) -> None:
        """An answer did not come in time. One missing answer is no reason to replace a producer; `limit` seconds of them are."""
        now = asyncio.get_running_loop().time()
        self.silent_since = self.silent_since or now
        if now - self.silent_since > limit:
            self.retire(f"no answer for {limit:.0f} s")

    def retire(self, reason: str) -> None:
        if not self.retired:
            logger.warning("producer %s is replaced: %s", self.producer.name, reason)
            self.retired = True
            if not self._users:
                self.producer.abandon()


class Writer:
    """Writes batches through one producer at a time. `batch_bytes` is the most that goes into one."""

    def __init__(self, cluster: Cluster, role: str, batch_bytes: int, background: Background) -> None:
        self._cluster = cluster
        self._role = role
        self._batch_bytes = batch_bytes
        self._background = background
        self._line: _Line | None = None
        self._starting: asyncio.Task[_Line] | None = None
        self._closed = False

    async def open(self) -> None:
        """Raises Unavailable."""
        await self._current((), self._deadline())

    async def close(self) -> None:
        """Nothing is flushed: every call that has not returned ends with Unavailable."""
        self._closed = True
        if self._starting is not None:
            await end_tasks([self._starting])
        if self._line is not None:
            self._line.producer.abandon()

    async def append(self, to: TopicPartition, records: Sequence[Record]) -> Appended:
        """All records as one batch. Raises Rejected if it is too large, Unavailable if its place is not known."""
        if not records:
            raise ValueError("an append needs at least one record")
        stands, written = (await self._write({to: records}, whole=True))[to]
        assert written == len(records)
        if stands.timestamp < 0:
            raise Unavailable(
                f"{to}: the broker did not say when it appended; the topic needs message.timestamp.type=LogAppendTime"
            )
        return stands

    async def publish(self, records: Sequence[Outgoing]) -> None:
        """All records, in order within each partition. Raises Unavailable if one is not acknowledged, Rejected if one never will be."""
        left: dict[TopicPartition, list[Record]] = defaultdict(list)
        for to, record in records:
            left[to].append(record)
        while left:  # one batch of each after the answer to its last: a later one never lands without the earlier
            written = await self._write(left)
            left = {to: some[count:] for to, some in left.items() if (count := written[to][1]) < len(some)}

    async def _write(
        self, records: Mapping[TopicPartition, Sequence[Record]], *, whole: bool = False
    ) -> dict[TopicPartition, Written]:
        """Write one batch to each partition, of all its records or of as many as fit; say where it stands and how many they were."""
        until = self._deadline()
        known = {to: self._cluster.out(to) for to in records}
        line = await self._current(known.values(), until)
        with line.in_use():
            batches = {to: self._batch(to, some, whole) for to, some in records.items()}
            for to, partition in known.items():
                if not line.producer.knows(partition):
                    with unavailable(f"write to {to}"):
                        await within(self._left(until), line.producer.find(partition))
            if line.producer.ended:  # meanwhile
                raise Unavailable("the producer was given up; nothing was written")
            for to, batch in batches.items():
                line.send(known[to], batch)
            answers = [batch.answer for batch in batches.values()]
            _, missing = await asyncio.wait(answers, timeout=self._left(until))
            if missing:
                line.silent(SILENT_TIMEOUTS * self._cluster.timeout)
                to, batch = next((to, batch) for to, batch in batches.items() if not batch.answer.done())
                raise Unavailable(
                    f"{to}: no answer within {self._cluster.timeout} s; {batch.count} records may or may not be there"
                )
            return {to: (self._stands(to, batch.answer), batch.count) for to, batch in batches.items()}

    def _batch(self, to: TopicPartition, records: Sequence[Record], whole: bool) -> Batch:
        """A batch of the first records. A single record may be larger than the limit. Raises Rejected if it must be `whole` and is not."""
        batch = Batch(self._batch_bytes)
        for record in records:
            if not batch.add(record):
                break
        if whole and (batch.count < len(records) or batch.size() > self._batch_bytes):
            size = sum(len(r.key or b"") + len(r.value or b"") for r in records)
            raise Rejected(f"{to}: {len(records)} records of {size} bytes do not fit a batch of {self._batch_bytes}")
        return batch

    def _stands(self, to: TopicPartition, answer: asyncio.Future[Placed]) -> Appended:
        """What the broker said. It says offset -1 for a batch it knows it has but not where (DUPLICATE_SEQUENCE_NUMBER)."""
        try:
            placed = answer.result()
        except (MessageSizeTooLargeError, RecordListTooLargeError) as error:
            raise Rejected(f"{to}: the broker refuses the batch as too large (max.message.bytes): {said(error)}") from error
        except KafkaError as error:
            raise Unavailable(f"write to {to}: {said(error)}; it may or may not be there") from error
        if placed.offset < 0:
            raise Unavailable(f"{to}: the broker did not say where the batch stands: {placed}")
        return Appended(*placed)

    async def _current(self, partitions: Collection[Any], until: float) -> _Line:
        """The producer to use now; a new one if need be, started once for all who wait. Raises Unavailable."""
        if self._closed:
            raise Unavailable("the log is closed")
        if self._line is not None and all(map(self._line.usable_for, partitions)):
            return self._line
        if self._line is not None:
            self._line.retire("it has failed or is used up")
            self._line = None
        if self._starting is None:
            self._starting = asyncio.get_running_loop().create_task(self._start())
            forget(self._starting)
        starting = self._starting
        await asyncio.wait([starting], timeout=self._left(until))
        if not starting.done():
            raise Unavailable(f"no connection to {self._cluster.bootstrap} within {self._cluster.timeout} s")
        return starting.result()

    async def _start(self) -> _Line:
        producer = Producer(self._cluster, self._role, self._background)
        try:
            with connecting(self._cluster):
                await within(self._cluster.timeout, producer.start())
        except BaseException:
            producer.abandon()
            raise
        finally:
            self._starting = None
        self._line = _Line(producer)
        if self._closed:
            producer.abandon()
        return self._line

    def _deadline(self) -> float:
        return asyncio.get_running_loop().time() + self._cluster.timeout

    def _left(self, until: float) -> float:
        return max(0.0, until - asyncio.get_running_loop().time())
