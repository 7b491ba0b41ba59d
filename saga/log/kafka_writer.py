"""Appending and publishing: an idempotent producer that is replaced when it can no longer be trusted.

Problem: an append whose answer does not come may still land. Naive way: send it again, or give up and close the producer. Both are
wrong: the first may write twice, and closing flushes, that is, sends it again. The way taken: the caller learns "unknown" in time,
the batch stays where it is, and whatever is sent to that partition later queues behind it, since the producer keeps one batch per
partition in flight and never passes one (aiokafka's sender mutes the partition until the answer is there).

A batch that failed for good has burned its sequence numbers: the broker would refuse the next one of that partition
(OutOfOrderSequence). Then the producer is retired: new work goes to a new producer, those still waiting get their answers or their
time-outs, and the last one to leave cuts it off by cancelling its sender.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from aiokafka import AIOKafkaProducer  # type: ignore[import-untyped]
from aiokafka.errors import (  # type: ignore[import-untyped]
    KafkaError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    UnknownTopicOrPartitionError,
)

from saga.errors import Rejected, Unavailable
from saga.log.base import Appended, Outgoing, Record, TopicPartition
from saga.log.kafka_client import Background, Cluster, connecting, cut, end_tasks, forget, said, unavailable, within

logger = logging.getLogger(__name__)

APPEND_BYTES = 4 * 1024 * 1024  # a batch, as `max.message.bytes` of the journal allows it
PUBLISH_BYTES = 512 * 1024  # half of what a broker takes by default (1,048,588), so that only a large record comes near
SEQUENCE_LIMIT = 2**30  # aiokafka wraps sequence numbers wrongly at 2^31 records; no batch has that many
SILENT_TIMEOUTS = 6  # so many time-outs without any answer: the brokers may have moved, and only a new client looks for them


class _Line:
    """One producer, from its start until nobody needs it."""

    def __init__(self, producer: Any, background: Background) -> None:
        self.producer = producer
        self.retired = False
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()  # done: no answer will come any more
        self.silent_since: float | None = None
        self._users = 0
        self._background = background
        self._requests: set[asyncio.Task[Any]] = set()
        self._track_requests()

    def _track_requests(self) -> None:
        """Know the tasks of the sender's produce requests: it awaits them when cancelled, and one may wait for ever."""
        send = self.producer._sender._send_produce_req

        async def tracked(node: Any, batches: Any) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._requests.add(task)
            try:
                await send(node, batches)
            finally:
                self._requests.discard(task)

        self.producer._sender._send_produce_req = tracked

    def usable_for(self, partition: Any) -> bool:
        producer = self.producer
        used_up: bool = producer._txn_manager._sequence_numbers.get(partition, 0) > SEQUENCE_LIMIT
        return not (self.retired or producer._closed or producer._sender.sender_task.done() or used_up)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        self._users += 1
        try:
            yield
        finally:
            self._users -= 1
            if self.retired and not self._users:
                self.abandon()

    async def enqueue(self, batch: Any, partition: Any) -> asyncio.Future[Any]:
        """Hand a batch to the sender; the future tells where it stands. Cancelled while it waits, nothing is sent."""
        producer = self.producer
        if partition.partition not in await producer.partitions_for(partition.topic):
            await producer.client.force_metadata_update()  # the topic may have grown
            if partition.partition not in await producer.partitions_for(partition.topic):
                raise UnknownTopicOrPartitionError(f"{partition.topic}:{partition.partition}")
        answer: asyncio.Future[Any] = await producer.send_batch(batch, partition.topic, partition=partition.partition)
        answer.add_done_callback(self._judge)  # also when the caller has given up waiting
        return answer

    def _judge(self, answer: asyncio.Future[Any]) -> None:
        if answer.cancelled():
            return
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
            logger.warning("producer %s is replaced: %s", self.producer.client._client_id, reason)
            self.retired = True
            if not self._users:
                self.abandon()

    def abandon(self) -> None:
        self.retired = True
        if not self.gone.done():
            self.gone.set_result(None)
            self._background.start(_abandon_producer(self.producer, self._requests))


async def _abandon_producer(producer: Any, requests: set[asyncio.Task[Any]]) -> None:
    """Cancel the sender, so that nothing is sent any more, not even a retry, and cut the connections."""
    producer._closed = True  # or its __del__ warns
    sender = producer._sender.sender_task
    await end_tasks([*requests, *([sender] if sender is not None else [])])
    await cut(producer.client)


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
        await self._current(None, self._deadline())

    async def close(self) -> None:
        """Nothing is flushed: every call that has not returned ends with Unavailable."""
        self._closed = True
        if self._starting is not None:
            await end_tasks([self._starting])
        if self._line is not None:
            self._line.abandon()

    async def append(self, to: TopicPartition, records: Sequence[Record]) -> Appended:
        """All records as one batch. Raises Rejected if it is too large, Unavailable if its place is not known."""
        if not records:
            raise Rejected(f"{to}: an append without records")
        stands, written = await self._write(to, records, whole=True)
        assert written == len(records)
        if stands.timestamp < 0:
            raise Unavailable(
                f"{to}: the broker did not say when it appended; the topic needs message.timestamp.type=LogAppendTime"
            )
        return stands

    async def publish(self, records: Sequence[Outgoing]) -> None:
        """All records, in order within each partition. Raises Unavailable if one is not acknowledged."""
        by_partition: dict[TopicPartition, list[Record]] = defaultdict(list)
        for to, record in records:
            by_partition[to].append(record)
        done = await asyncio.gather(*(self._publish_to(to, some) for to, some in by_partition.items()), return_exceptions=True)
        for outcome in done:
            if isinstance(outcome, BaseException):
                raise outcome

    async def _publish_to(self, to: TopicPartition, records: list[Record]) -> None:
        """One batch after the other, each after the answer to the last: a later one never lands without the earlier."""
        while records:
            try:
                _, written = await self._write(to, records, whole=False)
            except Rejected as error:
                raise Unavailable(str(error)) from error
            records = records[written:]

    async def _write(self, to: TopicPartition, records: Sequence[Record], *, whole: bool) -> tuple[Appended, int]:
        """Write one batch, of all records or of as many as fit; say where it stands and how many they were."""
        until = self._deadline()
        partition = self._cluster.out(to)
        line = await self._current(partition, until)
        with line.in_use():
            batch, written = self._batch(line, records)
            if whole and (written < len(records) or batch.size() > self._batch_bytes):
                size = sum(len(r.key or b"") + len(r.value or b"") for r in records)
                raise Rejected(f"{to}: {len(records)} records of {size} bytes do not fit a batch of {self._batch_bytes}")
            with unavailable(f"write to {to}"):
                answer = await within(self._left(until), line.enqueue(batch, partition))
            await asyncio.wait([answer, line.gone], timeout=self._left(until), return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                line.silent(SILENT_TIMEOUTS * self._cluster.timeout)
                why = "the producer was given up" if line.gone.done() else f"no answer within {self._cluster.timeout} s"
                raise Unavailable(f"{to}: {why}; {written} records may or may not be there")
            return self._stands(to, answer), written

    def _batch(self, line: _Line, records: Sequence[Record]) -> tuple[Any, int]:
        """A closed batch of the first records, and how many. A single record may be larger than the limit."""
        batch = line.producer.create_batch()
        written = 0
        for record in records:
            if batch.append(timestamp=None, key=record.key, value=record.value, headers=list(record.headers)) is None:
                break
            written += 1
        batch.close()
        return batch, written

    def _stands(self, to: TopicPartition, answer: asyncio.Future[Any]) -> Appended:
        """What the broker said. It says offset -1 for a batch it knows it has but not where (DUPLICATE_SEQUENCE_NUMBER)."""
        try:
            told = answer.result()
        except (MessageSizeTooLargeError, RecordListTooLargeError) as error:
            raise Rejected(f"{to}: the broker refuses the batch as too large (max.message.bytes): {said(error)}") from error
        except KafkaError as error:
            raise Unavailable(f"write to {to}: {said(error)}") from error
        if told is None or told.offset is None or told.offset < 0:
            raise Unavailable(f"{to}: the broker did not say where the batch stands: {told}")
        return Appended(told.offset, -1 if told.timestamp is None else told.timestamp)

    async def _current(self, partition: Any, until: float) -> _Line:
        """The producer to use now; a new one if need be, started once for all who wait. Raises Unavailable."""
        if self._closed:
            raise Unavailable("the log is closed")
        if self._line is not None and self._line.usable_for(partition):
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
        settings = self._cluster.settings(self._role)
        limits = {"max_batch_size": self._batch_bytes, "max_request_size": 2 * self._batch_bytes}
        producer = AIOKafkaProducer(**settings, **limits, enable_idempotence=True, acks="all", linger_ms=0)
        try:
            with connecting(self._cluster):
                await within(self._cluster.timeout, producer.start())
        except BaseException:
            self._background.start(_abandon_producer(producer, set()))
            raise
        finally:
            self._starting = None
        self._line = _Line(producer, self._background)
        if self._closed:
            self._line.abandon()
        return self._line

    def _deadline(self) -> float:
        return asyncio.get_running_loop().time() + self._cluster.timeout

    def _left(self, until: float) -> float:
        return max(0.0, until - asyncio.get_running_loop().time())
