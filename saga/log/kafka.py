"""The log on Kafka: the production adapter of the port, on aiokafka 0.14.

It is put together here from parts with one idea each: `kafka_writer` (append and publish), `kafka_follow` (fetch what is followed),
`kafka_reader` (hand it out; read ranges), `kafka_group` (ownership), `kafka_admin` (topics), `kafka_security` (TLS and logins) and
`kafka_client` (time limits, letting go). Beneath the first two stand `kafka_produce`, `kafka_fetch`, `kafka_records` and `kafka_wire`:
what goes over aiokafka's connections.

No transactions: the port relies on single batches of an idempotent producer only. Batches are not compressed: the journal is read by
the process that wrote it, on the same cores that would decompress it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import Any

from aiokafka.errors import NodeNotReadyError, UnknownTopicOrPartitionError  # type: ignore[import-untyped]

from saga.errors import Unavailable
from saga.log.base import LATEST, Appended, Bounds, Listener, Outgoing, Record, StoredRecord, TopicPartition, TopicSpec
from saga.log.kafka_admin import Admin
from saga.log.kafka_client import Background, Cluster, abandon_consumer, unavailable, within
from saga.log.kafka_follow import Followers
from saga.log.kafka_group import KafkaMembership
from saga.log.kafka_reader import KafkaReader, RangeReader, start_consumer
from saga.log.kafka_security import client_security
from saga.log.kafka_writer import APPEND_BYTES, PUBLISH_BYTES, Writer


class KafkaLog:
    """The port's Log on a Kafka cluster.

    `prefix` stands before every topic and group name on the brokers, and nowhere else. `security` is as `kafka_security`
    has it; Misconfigured if it does not fit. `timeout` is the limit in seconds for one call, `session_timeout` the time
    after which the group goes on without a member that is silent.
    """

    def __init__(
        self,
        bootstrap: str,
        *,
        client_id: str = "saga",
        prefix: str = "",
        security: Mapping[str, Any] | None = None,
        timeout: float = 10.0,
        session_timeout: float = 10.0,
    ) -> None:
        self._cluster = Cluster(bootstrap, client_id, prefix, client_security(security or {}), timeout)
        self._session_timeout = session_timeout
        self._background = Background()
        # Two producers, so that publishing does not wait for the journal: each sends one request per broker at a time.
        self._journal = Writer(self._cluster, "journal", APPEND_BYTES, self._background)
        self._outputs = Writer(self._cluster, "outputs", PUBLISH_BYTES, self._background)
        self._admin = Admin(self._cluster)
        self._ranges = RangeReader(self._cluster, self._background)
        self._followers = Followers(self._cluster, self._background)
        self._askers: dict[str, Any] = {}
        self._asking = asyncio.Lock()
        self._readers: list[KafkaReader] = []
        self._memberships: list[KafkaMembership] = []

    async def open(self) -> None:
        """Raises Unavailable if the brokers cannot be reached. Later it finds them again by itself."""
        await asyncio.gather(self._journal.open(), self._outputs.open())

    async def close(self) -> None:
        """Leaves its groups and lets go of everything; whatever is still being written has an unknown outcome."""
        for membership in self._memberships:
            await membership.leave()
        for reader in self._readers:
            await reader.close()
        self._followers.close()
        await asyncio.gather(self._journal.close(), self._outputs.close(), self._ranges.close())
        for asker in self._askers.values():
            self._background.start(abandon_consumer(asker))
        self._askers.clear()
        await self._background.finish()

    async def append(self, to: TopicPartition, records: Sequence[Record]) -> Appended:
        return await self._journal.append(to, records)

    async def publish(self, records: Sequence[Outgoing]) -> None:
        await self._outputs.publish(records)

    def read(self, partition: TopicPartition, start: int, end: int) -> AsyncIterator[list[StoredRecord]]:
        return self._ranges.read(partition, start, end)

    async def bounds(self, partitions: Collection[TopicPartition], *, committed: bool = False) -> dict[TopicPartition, Bounds]:
        # With read_committed the broker answers ListOffsets for the end with the last stable offset (KIP-98).
        found: dict[TopicPartition, Bounds]
        found = await self._ask("read_committed" if committed else "read_uncommitted", partitions, _bounds)
        return found

    async def offset_at(self, partition: TopicPartition, timestamp: int) -> int:
        if timestamp != LATEST:

            async def first_since(asker: Any, known: Mapping[TopicPartition, Any]) -> Any:
                asked = known[partition]
                return (await asker.offsets_for_times({asked: max(timestamp, 0)}))[asked]

            found = await self._ask("read_uncommitted", [partition], first_since)
            if found is not None:
                return int(found.offset)
        return (await self.bounds([partition]))[partition].end

    def reader(self) -> KafkaReader:
        reader = KafkaReader(self._cluster, self._followers)
        self._readers = [each for each in self._readers if not each.closed] + [reader]
        return reader

    async def join(self, group: str, topic: str, listener: Listener) -> KafkaMembership:
        membership = KafkaMembership(self._cluster, self._background, group, topic, self._session_timeout)
        await membership.join(listener)
        self._memberships.append(membership)
        return membership

    async def trim(self, partition: TopicPartition, before: int) -> None:
        await self._admin.trim(partition, before)

    async def describe(self, topics: Collection[str]) -> dict[str, TopicSpec]:
        return await self._admin.describe(topics)

    async def create(self, topics: Sequence[TopicSpec]) -> None:
        await self._admin.create(topics)

    async def _ask(self, isolation: str, partitions: Collection[TopicPartition], question: Any) -> Any:
        """Put a question about partitions to a consumer that never reads. One that failed is replaced."""
        async with self._asking:
            if isolation not in self._askers:
                self._askers[isolation] = await start_consumer(
                    self._cluster, "offsets", self._background, isolation_level=isolation
                )
        asker = self._askers[isolation]
        known = {partition: self._cluster.out(partition) for partition in partitions}
        try:
            with unavailable(f"offsets of {', '.join(map(str, partitions))}"):
                return await within(self._cluster.timeout, _when_known(asker, known, question))
        except Unavailable as error:
            unknown = isinstance(error.__cause__, UnknownTopicOrPartitionError)
            if not unknown and self._askers.get(isolation) is asker:
                del self._askers[isolation]
                self._background.start(abandon_consumer(asker))
            raise


async def _when_known(asker: Any, known: Mapping[TopicPartition, Any], question: Any) -> Any:
    """aiokafka would ask for a partition that does not exist until its time is over; look first, once."""
    if missing := _missing(asker, known):
        for partition in missing:
            asker._client.add_topic(partition.topic)
        if not await asker._client.force_metadata_update():
            raise NodeNotReadyError("no broker told which topics there are")
        if missing := _missing(asker, known):
            raise UnknownTopicOrPartitionError(", ".join(f"{partition.topic}:{partition.partition}" for partition in missing))
    return await question(asker, known)


def _missing(asker: Any, known: Mapping[TopicPartition, Any]) -> list[Any]:
    return [p for p in known.values() if p.partition not in (asker.partitions_for_topic(p.topic) or ())]


async def _bounds(asker: Any, known: Mapping[TopicPartition, Any]) -> dict[TopicPartition, Bounds]:
    asked = list(known.values())
    starts, ends = await asyncio.gather(asker.beginning_offsets(asked), asker.end_offsets(asked))
    return {partition: Bounds(starts[name], ends[name]) for partition, name in known.items()}
