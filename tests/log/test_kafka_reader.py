"""The Kafka reader and a broker's answer that cannot be parsed: aiokafka's own fetcher and bookkeeping, on a wire that is played.

A real broker checks what it is given, so it never sends such an answer; a disk or a proxy may.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiokafka.consumer.fetcher import Fetcher  # type: ignore[import-untyped]
from aiokafka.consumer.subscription_state import SubscriptionState  # type: ignore[import-untyped]
from aiokafka.record.default_records import DefaultRecordBatchBuilder  # type: ignore[import-untyped]

from saga.errors import Unavailable
from saga.log import kafka_reader
from saga.log.base import TopicPartition
from saga.log.kafka_client import Background, Cluster
from saga.log.kafka_reader import KafkaReader
from saga.log.kafka_records import install

HERE = TopicPartition("pay.commands", 0)
RECORDS = 3


def lump(*, broken: bool) -> bytes:
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1 << 20)
    for number in range(RECORDS):
        builder.append(number, timestamp=1, key=b"k", value=b"v", headers=[])
    raw = bytearray(builder.build())
    raw[-1] ^= 0xFF if broken else 0
    return bytes(raw)


class Answer:
    API_VERSION = 4

    def __init__(self, topics: list[Any]) -> None:
        self.topics = topics


class Wire:
    """A broker with one partition, whose first answer is broken."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._metadata_max_age_ms = 300_000
        self.cluster = self
        self.asked = 0

    def leader_for_partition(self, _partition: Any) -> int:
        return 1

    def set_topics(self, _topics: Any) -> None: ...

    async def send(self, _node: int, request: Any) -> Answer:
        ((topic, ((number, offset, _limit),)),) = request.topics
        if offset >= RECORDS:
            await asyncio.Event().wait()  # nothing more comes
        self.asked += 1
        await asyncio.sleep(0)
        return Answer([(topic, [(number, 0, RECORDS, RECORDS, [], lump(broken=self.asked == 1))])])


class Consumer:
    """As much of AIOKafkaConsumer as the reader uses."""

    def __init__(self) -> None:
        self._subscription = SubscriptionState(loop=asyncio.get_running_loop())
        self._client = Wire()
        self._fetcher = Fetcher(self._client, self._subscription, isolation_level="read_committed", auto_offset_reset="none")
        self._coordinator = None
        self._closed = False

    def assign(self, partitions: Any) -> None:
        self._subscription.assign_from_user(partitions)

    def seek(self, partition: Any, offset: int) -> None:
        self._fetcher.seek_to(partition, offset)

    async def getmany(self, *partitions: Any, timeout_ms: int = 0, max_records: int | None = None) -> Any:
        with self._subscription.fetch_context():
            return await self._fetcher.fetched_records(partitions, timeout_ms / 1000, max_records)


def test_after_an_answer_that_cannot_be_parsed_the_partition_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        consumer = Consumer()

        async def connected(*_: Any, **__: Any) -> Consumer:
            return consumer

        monkeypatch.setattr(kafka_reader, "start_consumer", connected)
        reader = KafkaReader(Cluster("nowhere"), Background())
        await reader.assign({HERE: 0})
        with pytest.raises(Unavailable, match="CRC"):
            await reader.fetch([HERE], limit=500, timeout=5)
        assert reader.position(HERE) == 0
        records = await reader.fetch([HERE], limit=500, timeout=5)
        assert [record.offset for record in records] == [0, 1, 2]
        assert reader.position(HERE) == RECORDS
        await consumer._fetcher.close()

    install()
    asyncio.run(scene())
