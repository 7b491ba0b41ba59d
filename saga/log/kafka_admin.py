"""Topics: create, describe, trim. Rare work, so each call has a client of its own and nothing stays open."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete  # type: ignore[import-untyped]
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType  # type: ignore[import-untyped]
from aiokafka.errors import (  # type: ignore[import-untyped]
    InvalidReplicationFactorError,
    OffsetOutOfRangeError,
    TopicAlreadyExistsError,
    for_code,
)

from saga.errors import Misconfigured, Rejected, Unavailable
from saga.log.base import TopicPartition, TopicSpec
from saga.log.kafka_client import Cluster, connecting, cut, unavailable, within

POLL_SECONDS = 0.05  # between looks whether a new topic has leaders


class Admin:
    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def describe(self, topics: Collection[str]) -> dict[str, TopicSpec]:
        """Those that exist. It asks for all topics: asking for one by name would create it where the broker allows that."""
        async with self._client() as client:
            with unavailable("describe topics"):
                names = {self._cluster.prefix + topic: topic for topic in topics}
                shapes = await self._shapes(client, names)
                if not shapes:
                    return {}
                asked = [ConfigResource(ConfigResourceType.TOPIC, name) for name in shapes]
                answers = await within(self._cluster.timeout, client.describe_configs(asked))
            found = {}
            for code, message, _, name, entries in (resource for answer in answers for resource in answer.resources):
                if code:
                    raise Unavailable(f"settings of topic {names[name]}: {for_code(code).__name__} {message or ''}".strip())
                config = {entry[0]: entry[1] for entry in entries if entry[1] is not None}
                partitions, replication = shapes[name]
                found[names[name]] = TopicSpec(names[name], partitions, replication, config)
            return found

    async def create(self, topics: Sequence[TopicSpec]) -> None:
        """Create those that are missing, and wait until each has a leader for every partition."""
        if not topics:
            return
        wanted = {self._cluster.prefix + spec.name: spec for spec in topics}
        new = [NewTopic(name, spec.partitions, spec.replication, topic_configs=dict(spec.config)) for name, spec in wanted.items()]
        async with self._client() as client:
            with unavailable("create topics"):
                answer = await within(self._cluster.timeout, client.create_topics(new, timeout_ms=int(self._cluster.timeout * 500)))
            for name, code, *message in answer.topic_errors:
                error = for_code(code)
                if not code or error is TopicAlreadyExistsError:
                    continue
                text = f"topic {wanted[name].name}: {error.__name__} {(message or [''])[0] or ''}".strip()
                if error is InvalidReplicationFactorError:
                    text += " (for one broker on a developer's machine there is SAGA_DEV=1)"
                raise Unavailable(text) if error.retriable else Misconfigured(text)
            with unavailable("wait for new topics"):
                await within(self._cluster.timeout, self._until_led(client, set(wanted)))

    async def trim(self, partition: TopicPartition, before: int) -> None:
        async with self._client() as client:
            with unavailable(f"trim {partition}"):
                known = self._cluster.out(partition)
                try:
                    await within(self._cluster.timeout, client.delete_records({known: RecordsToDelete(before_offset=before)}))
                except OffsetOutOfRangeError as error:
                    raise Rejected(f"{partition}: cannot trim to {before}, which is beyond its end") from error

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[Any]:
        client = AIOKafkaAdminClient(**self._cluster.settings("admin"))
        try:
            with connecting(self._cluster):
                await within(self._cluster.timeout, client.start())
            yield client
        finally:
            client._closed = True
            await cut(client._client)

    async def _shapes(self, client: Any, names: Collection[str]) -> dict[str, tuple[int, int]]:
        """Partitions and replicas of the topics that exist and whose partitions all have a leader."""
        shapes = {}
        for topic in await within(self._cluster.timeout, client.describe_topics()):
            partitions = topic["partitions"]
            if topic["topic"] in names and partitions and not topic["error_code"]:
                shapes[topic["topic"]] = (len(partitions), min(len(partition["replicas"]) for partition in partitions))
        return shapes

    async def _until_led(self, client: Any, names: set[str]) -> None:
        while True:
            led = {
                topic["topic"]
                for topic in await client.describe_topics()
                if topic["partitions"] and all(partition["leader"] >= 0 for partition in topic["partitions"])
            }
            if names <= led:
                return
            await asyncio.sleep(POLL_SECONDS)
