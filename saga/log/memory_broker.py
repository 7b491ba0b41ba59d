"""The cluster that several in-memory logs share: topics, partitions, records, groups. No I/O, no threads, no wall clock."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from saga.errors import Corrupt, Rejected, Unavailable
from saga.log.base import LATEST, Appended, Bounds, Record, StoredRecord, TopicPartition, TopicSpec
from saga.log.memory_group import Group
from saga.log.topic_settings import DEFAULTS, batch_size, check_spec


class _Partition:
    def __init__(self) -> None:
        self.start = 0
        self.records: list[StoredRecord] = []

    @property
    def end(self) -> int:
        return self.start + len(self.records)


class MemoryBroker:
    """A cluster in memory. Time is the running loop's, in seconds, plus `epoch` (the broker's clock at loop time 0, s since 1970).

    `session_timeout`, `rebalance_timeout`: of its groups, in seconds. While it is down (`up = False`) it answers nobody.
    """

    def __init__(
        self,
        *,
        epoch: float = 1_767_225_600.0,
        session_timeout: float = 10.0,
        rebalance_timeout: float = 10.0,
    ) -> None:
        self.epoch = epoch
        self.up = True
        self._session_timeout = session_timeout
        self._rebalance_timeout = rebalance_timeout
        self._topics: dict[str, TopicSpec] = {}
        self._partitions: dict[TopicPartition, _Partition] = {}
        self._groups: dict[str, Group] = {}
        self._waiting: dict[TopicPartition, dict[asyncio.Future[None], None]] = {}
        self._clients: list[object] = []

    def now(self) -> int:
        """The broker's clock, in ms since 1970."""
        return int((self.epoch + asyncio.get_running_loop().time()) * 1000)

    # Topics

    def create(self, topics: Sequence[TopicSpec]) -> None:
        """Create those that do not exist yet. Raises Misconfigured for a name, number or setting that Kafka would refuse."""
        for topic in topics:
            check_spec(topic)
        for topic in topics:
            if topic.name not in self._topics:
                config = {**DEFAULTS, **topic.config}
                self._topics[topic.name] = TopicSpec(topic.name, topic.partitions, topic.replication, config)
                self._fill(topic.name)

    def describe(self, topic: str) -> TopicSpec | None:
        return self._topics.get(topic)

    def delete_topic(self, topic: str) -> None:
        """Delete a topic with all it holds; groups forget their offsets on it."""
        spec = self._topics.pop(topic)
        for number in range(spec.partitions):
            partition = TopicPartition(topic, number)
            del self._partitions[partition]
            for group in self._groups.values():
                group.offsets.pop(partition, None)
            self._wake(partition)

    def recreate(self, topic: str) -> None:
        """Delete a topic and make it anew with the same settings: offsets begin at 0 again."""
        spec = self._topics[topic]
        self.delete_topic(topic)
        self.create([spec])

    def grow(self, topic: str, partitions: int) -> None:
        """Give a topic more partitions."""
        spec = self._topics[topic]
        self._topics[topic] = TopicSpec(topic, max(partitions, spec.partitions), spec.replication, spec.config)
        self._fill(topic)

    def _fill(self, topic: str) -> None:
        for number in range(self._topics[topic].partitions):
            self._partitions.setdefault(TopicPartition(topic, number), _Partition())

    # Records

    def append(self, to: TopicPartition, records: Sequence[Record]) -> Appended:
        """Put a batch at the end. Raises Unavailable if there is no such partition, Rejected if the batch is too large."""
        held = self._find(to)
        self.check_size(to, records)
        now, base = self.now(), held.end
        held.records.extend(
            StoredRecord(to.topic, to.partition, base + i, now, each.key, each.value, tuple(each.headers))
            for i, each in enumerate(records)
        )
        self._wake(to)
        return Appended(base, now)

    def check_size(self, to: TopicPartition, records: Sequence[Record]) -> None:
        """Raises Rejected if these records are too large to stand in one batch there."""
        spec = self._topics.get(to.topic)
        limit = int((spec.config if spec is not None else DEFAULTS)["max.message.bytes"])
        if (size := batch_size(records)) > limit:
            raise Rejected(f"{to}: a batch of {size} bytes is over max.message.bytes={limit}")

    def bounds(self, partition: TopicPartition) -> Bounds:
        held = self._find(partition)
        return Bounds(held.start, held.end)

    def slice(self, partition: TopicPartition, start: int, end: int) -> list[StoredRecord]:
        """The records from `start` up to `end`. Raises Corrupt if the partition does not hold all of them."""
        held = self._find(partition)
        if start < held.start or end > held.end:
            raise Corrupt(f"{partition}: offsets {start} to {end} were asked for, but it holds {held.start} to {held.end}")
        return held.records[start - held.start : end - held.start]

    def offset_at(self, partition: TopicPartition, timestamp: int) -> int:
        held = self._find(partition)
        if timestamp == LATEST:
            return held.end
        return next((each.offset for each in held.records if each.timestamp >= timestamp), held.end)

    def trim(self, partition: TopicPartition, before: int) -> None:
        """Delete all below `before`. Raises Rejected if that is beyond the end."""
        held = self._find(partition)
        if before > held.end:
            raise Rejected(f"{partition}: cannot trim before {before}, it ends at {held.end}")
        if before > held.start:
            del held.records[: before - held.start]
            held.start = before
            self._wake(partition)

    def _find(self, partition: TopicPartition) -> _Partition:
        if partition not in self._partitions:
            raise Unavailable(f"{partition} does not exist")
        return self._partitions[partition]

    # Waiting readers, groups, clients

    def wait(self, partition: TopicPartition, waiter: asyncio.Future[None]) -> None:
        """Have this future resolved at the next change of the partition."""
        self._waiting.setdefault(partition, {})[waiter] = None

    def forget(self, partition: TopicPartition, waiter: asyncio.Future[None]) -> None:
        self._waiting.get(partition, {}).pop(waiter, None)

    def _wake(self, partition: TopicPartition) -> None:
        for waiter in self._waiting.pop(partition, {}):
            if not waiter.done():
                waiter.set_result(None)

    def group(self, name: str, topic: str) -> Group:
        """The consumer group of this name, made at its first use. Raises Unavailable if there is no such topic."""
        if topic not in self._topics:
            raise Unavailable(f"{topic} does not exist")
        if name not in self._groups:
            self._groups[name] = Group(lambda: self._count(topic), self._session_timeout, self._rebalance_timeout)
        return self._groups[name]

    def _count(self, topic: str) -> int:
        return self._topics[topic].partitions if topic in self._topics else 0

    def keep(self, client: object) -> int:
        """Hold a client for ever and say the how many-th it is.

        What awaits a killed client is reachable through it only; were it collected, its `finally` blocks would run.
        """
        self._clients.append(client)
        return len(self._clients)
