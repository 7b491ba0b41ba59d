"""An idempotent producer: it writes batches, each exactly once and in order, for as long as anybody keeps it.

Of a partition one batch is on its way at a time, and what comes later waits behind it. A batch has its sequence number from when it is
first sent; whatever becomes of a request that may pass (no leader, a lost connection, no answer), the same bytes are sent again, and the
broker drops what it has already (KIP-98). A batch that fails for good has burned its numbers: the broker would refuse the next one, so
then the producer must be replaced. That, and how long anybody waits, is `kafka_writer`'s business.

aiokafka's own producer does the same, in four tasks and a dozen turns of the event loop for each batch. Here a batch that finds its
broker free is sent with the loop's next turn, together with all others that came in this one.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from struct import Struct
from typing import Any, NamedTuple

from aiokafka import TopicPartition as KafkaPartition  # type: ignore[import-untyped]
from aiokafka.client import AIOKafkaClient  # type: ignore[import-untyped]
from aiokafka.errors import (  # type: ignore[import-untyped]
    DuplicateSequenceNumber,
    KafkaError,
    NoError,
    NotLeaderForPartitionError,
    UnknownTopicOrPartitionError,
    for_code,
)
from aiokafka.protocol.transaction import InitProducerIdRequest  # type: ignore[import-untyped]
from aiokafka.record.default_records import DefaultRecordBatchBuilder  # type: ignore[import-untyped]

from saga.log.base import Record
from saga.log.kafka_client import Background, Cluster, cut, end_tasks, said
from saga.log.kafka_wire import INT, SHORT, Call, ask, topic_at, topics

logger = logging.getLogger(__name__)

RETRY = 0.1  # seconds before a batch is sent again, as aiokafka and Java have it
REQUEST_BYTES = 32 * 1024 * 1024  # of one request; a broker takes 100 MiB (socket.request.max.bytes)
ALL_REPLICAS = -1
NO_TRANSACTION = SHORT.pack(-1)
NOBODY = (None, -1)  # how aiokafka calls the leader of a partition that has none

_ASK = Struct(">hi")  # acknowledgements, milliseconds the broker may take
_PARTITION = Struct(">ii")  # number, length of the batch
_PLACED = Struct(">ihqqq")  # number, error, offset, append time, log start


class Placed(NamedTuple):
    """Where a broker says a batch stands. `offset` is -1 if it knows only that it has it; `timestamp` is -1 if the writer's counts."""

    offset: int
    timestamp: int


class ProduceAnswer(NamedTuple):
    """What a broker says of each partition: an error's code, 0 for none, and the place."""

    parts: Mapping[Any, tuple[int, Placed]]

    @classmethod
    def decode(cls, frame: BytesIO) -> ProduceAnswer:
        data, at = frame.getvalue(), frame.tell()
        (count,) = INT.unpack_from(data, at)
        at += INT.size
        parts = {}
        for _ in range(count):
            topic, partitions, at = topic_at(data, at)
            for _ in range(partitions):
                number, error, offset, timestamp, _ = _PLACED.unpack_from(data, at)
                parts[KafkaPartition(topic, number)] = error, Placed(offset, timestamp)
                at += _PLACED.size
        return cls(parts)


class ProduceCall(Call):
    API_KEY, API_VERSION, SINCE = 0, 7, "2.1"
    RESPONSE_TYPE = ProduceAnswer


def produce(batches: Mapping[Any, bytes], timeout: int) -> ProduceCall:
    """A request that writes a batch to each partition; `timeout` in ms is how long it may wait for its replicas."""
    by_topic: dict[str, list[bytes]] = {}
    for (topic, number), data in batches.items():
        by_topic.setdefault(topic, []).append(_PARTITION.pack(number, len(data)) + data)
    return ProduceCall(NO_TRANSACTION + _ASK.pack(ALL_REPLICAS, timeout) + topics(by_topic))


class Batch:
    """Records for one partition, up to `limit` bytes; a single record may be larger."""

    def __init__(self, limit: int) -> None:
        loop = asyncio.get_running_loop()
        self.count = 0
        self.since = loop.time()
        self.answer: asyncio.Future[Placed] = loop.create_future()
        self.data = b""  # from when it is sent
        self.trouble = ""  # why it is sent again, if it is: then it may be there already
        self._builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, limit)

    def add(self, record: Record) -> bool:
        """Whether there was room for it."""
        if self._builder.append(self.count, None, record.key, record.value, list(record.headers)) is None:
            return False
        self.count += 1
        return True

    def size(self) -> int:
        return int(self._builder.size())

    def seal(self, producer: tuple[int, int], sequence: int) -> None:
        self._builder.set_producer_state(*producer, sequence)
        self.data = bytes(self._builder.build())


class Producer:
    """One producer id, from `start` until `abandon`."""

    def __init__(self, cluster: Cluster, role: str, background: Background) -> None:
        self.name = f"{cluster.client_id}-{role}"
        self.sequences: dict[Any, int] = {}  # the next of each partition
        self.ended = False
        self._background = background
        self._client = AIOKafkaClient(**cluster.settings(role))
        self._timeout = int(cluster.settings(role)["request_timeout_ms"])
        self._id = (-1, -1)  # with its epoch
        self._queues: dict[Any, deque[Batch]] = {}  # what is not acknowledged; the first of each may be on its way
        self._muted: set[Any] = set()  # partitions with a batch on its way, or that rest after a failure
        self._busy: set[Any] = set()  # brokers with a request on its way
        self._tasks: set[asyncio.Task[None]] = set()
        self._turn: asyncio.Handle | None = None
        self._looking = False

    async def start(self) -> None:
        """Find the brokers and get an id. Raises KafkaError; has no time limit."""
        await self._client.bootstrap()
        while True:
            try:
                answer = await self._client.send(self._client.get_random_node(), InitProducerIdRequest(None, 0))
                error = for_code(answer.error_code)
            except KafkaError as failed:
                if not failed.retriable:
                    raise
                error = type(failed)
            if error is NoError:
                self._id = answer.producer_id, answer.producer_epoch
                return
            if not error.retriable:
                raise error
            await self._client.force_metadata_update()
            await asyncio.sleep(RETRY)

    def knows(self, partition: Any) -> bool:
        """Whether it may be sent to; if not, ask `find`."""
        return partition.partition in (self._client.cluster.partitions_for_topic(partition.topic) or ())

    async def find(self, partition: Any) -> None:
        """Raises KafkaError if there is no such partition."""
        await self._client._wait_on_metadata(partition.topic)
        if not self.knows(partition):
            await self._client.force_metadata_update()  # the topic may have grown
            if not self.knows(partition):
                raise UnknownTopicOrPartitionError(f"{partition.topic}:{partition.partition}")

    def send(self, partition: Any, batch: Batch) -> None:
        """Send it after all that was given for the partition before; `batch.answer` tells where it stands, or raises KafkaError."""
        assert not self.ended, f"{self.name} was given up"
        self._queues.setdefault(partition, deque()).append(batch)
        self._soon()

    def abandon(self) -> None:
        """Send nothing more, not even a retry, and cut the connections: what has no answer yet may have been written or not."""
        if self.ended:
            return
        self.ended = True
        if self._turn is not None:
            self._turn.cancel()
        for queue in self._queues.values():
            for batch in queue:
                _settle(batch, KafkaError("the producer was given up"))
        self._queues.clear()
        self._background.start(_let_go(list(self._tasks), self._client))

    # --- its pieces -------------------------------------------------------------------------------------------------------------------

    def _soon(self) -> None:
        """Send with the next turn of the loop: what else is given in this one goes with it."""
        if self._turn is None and not self.ended:
            self._turn = asyncio.get_running_loop().call_soon(self._send_all)

    def _send_all(self) -> None:
        """A request to each broker that has none on its way, with the first batch of each partition that it leads."""
        self._turn = None
        leader_of = self._client.cluster.leader_for_partition
        requests: dict[Any, dict[Any, Batch]] = {}
        lost = []
        for partition, queue in self._queues.items():
            if partition in self._muted:
                continue
            node = leader_of(partition)
            if node in NOBODY:
                lost.append(partition)
            elif node not in self._busy:
                requests.setdefault(node, {})[partition] = queue[0]
        for node, batches in requests.items():
            self._start(self._request(node, self._sealed(batches)))
            self._busy.add(node)
        if lost and not self._looking:
            self._looking = True
            self._start(self._look_for_leaders(lost))

    def _sealed(self, batches: Mapping[Any, Batch]) -> dict[Any, Batch]:
        """Those that go into one request, with their numbers, which they keep."""
        size = 0
        sealed: dict[Any, Batch] = {}
        for partition, batch in batches.items():
            if not batch.data:
                sequence = self.sequences.get(partition, 0)
                batch.seal(self._id, sequence)
                self.sequences[partition] = sequence + batch.count
            size += len(batch.data)
            if sealed and size > REQUEST_BYTES:
                break
            sealed[partition] = batch
        self._muted.update(sealed)
        return sealed

    def _start(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _request(self, node: Any, batches: Mapping[Any, Batch]) -> None:
        try:
            call = produce({partition: batch.data for partition, batch in batches.items()}, self._timeout)
            answer: ProduceAnswer = await ask(self._client, node, call)
        except KafkaError as error:
            for partition in batches:
                self._failed(partition, error)
        except Exception as error:  # a bug, of ours or aiokafka's: nobody knows what was written
            logger.exception("%s: a request to node %s", self.name, node)
            for partition in batches:
                self._failed(partition, KafkaError(said(error)))
        else:
            for partition in batches:
                self._answered(partition, *answer.parts.get(partition, (None, None)))
        self._busy.discard(node)
        self._soon()

    def _answered(self, partition: Any, code: int | None, placed: Placed | None) -> None:
        if code is None or placed is None:
            self._failed(partition, KafkaError("the broker has not answered for it"))
        elif (error := for_code(code)) is NoError:
            self._end(partition, placed)
        elif error is DuplicateSequenceNumber:  # it is there, and it is not known where
            self._end(partition, Placed(-1, -1))
        else:
            self._failed(partition, error())

    def _failed(self, partition: Any, error: KafkaError) -> None:
        """What may pass is tried again; the batch stays the first of its partition."""
        if self.ended:
            return
        batch = self._queues[partition][0]
        if not error.retriable:
            doubt = KafkaError(f"{said(error)}, but it was sent before, with an unknown outcome")
            self._end(partition, doubt if batch.trouble else error)
            return
        if said(error) != batch.trouble:  # a broker that is down is told once, not ten times a second
            batch.trouble = said(error)
            logger.warning("%s: a batch for %s:%d is sent again until it is there: %s", self.name, *partition, batch.trouble)
        if error.invalid_metadata:
            self._client.force_metadata_update()
        asyncio.get_running_loop().call_later(RETRY, self._rested, partition)

    def _rested(self, partition: Any) -> None:
        self._muted.discard(partition)
        self._soon()

    def _end(self, partition: Any, outcome: Placed | KafkaError) -> None:
        if self.ended:
            return  # it was settled as unknown
        queue = self._queues[partition]
        _settle(queue.popleft(), outcome)
        if not queue:
            del self._queues[partition]
        self._muted.discard(partition)

    async def _look_for_leaders(self, lost: Sequence[Any]) -> None:
        """Partitions without a leader: look for it; a batch that has waited too long for one has failed."""
        for partition in lost:
            self._client.add_topic(partition.topic)  # a client that knew all topics knows only what was added, once something was
        await self._client.force_metadata_update()
        await asyncio.sleep(RETRY)
        self._looking = False
        for partition in lost:
            queue = self._queues.get(partition)  # it may have been sent meanwhile, and have lost its leader again
            if not queue or partition in self._muted or self._client.cluster.leader_for_partition(partition) not in NOBODY:
                continue
            if asyncio.get_running_loop().time() - queue[0].since > self._timeout / 1000:
                self._end(partition, NotLeaderForPartitionError(f"{partition.topic}:{partition.partition} has no leader"))
        self._soon()


def _settle(batch: Batch, outcome: Placed | KafkaError) -> None:
    if isinstance(outcome, Placed):
        batch.answer.set_result(outcome)
    else:
        batch.answer.set_exception(outcome)


async def _let_go(tasks: Iterable[asyncio.Task[None]], client: Any) -> None:
    await end_tasks(tasks)
    await cut(client)
