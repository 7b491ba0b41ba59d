"""What only the log on Kafka has to stand: large batches, foreign transactions and bytes, lost answers, a broker that stalls or dies."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from random import Random
from typing import TypeVar
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer  # type: ignore[import-untyped]
from aiokafka.consumer.fetcher import READ_COMMITTED  # type: ignore[import-untyped]
from aiokafka.record.default_records import DefaultRecordBatchBuilder  # type: ignore[import-untyped]

from infra.broker import Broker, BrokerUnavailable
from saga.errors import Rejected, Unavailable
from saga.log import kafka_records
from saga.log.base import Bounds, Outgoing, Record, StoredRecord, TopicPartition, TopicSpec
from saga.log.kafka import KafkaLog
from tests.conftest import SessionBroker, temporary_folder
from tests.kafka.proxy import PRODUCE, Proxy
from tests.log.tools import Owner, everything, outgoing, take, texts, until, values

pytestmark = pytest.mark.kafka

T = TypeVar("T")
JOURNAL = {"message.timestamp.type": "LogAppendTime", "max.message.bytes": "4194304"}


@asynccontextmanager
async def client(bootstrap: str, *, prefix: str = "", timeout: float = 10.0) -> AsyncIterator[KafkaLog]:
    log = KafkaLog(bootstrap, prefix=prefix, timeout=timeout, session_timeout=6.0)
    try:
        await log.open()
        yield log
    finally:
        await log.close()


async def journal(log: KafkaLog, partitions: int = 1) -> TopicPartition:
    topic = f"journal-{uuid4().hex[:8]}"
    await log.create([TopicSpec(topic, partitions, 1, JOURNAL)])
    return TopicPartition(topic, 0)


async def in_the_end(attempt: Callable[[], Awaitable[T]]) -> T:
    """What `attempt` gives once the broker is back; every failure until then must be Unavailable."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await attempt()
            except Unavailable:
                await asyncio.sleep(0.1)  # what a caller does


@pytest.fixture(scope="module")
def own() -> Iterator[Broker]:
    """A broker that these tests may pause and kill."""
    with temporary_folder() as folder:
        broker = Broker(folder, heap="512m")
        try:
            broker.start()
        except BrokerUnavailable as reason:
            pytest.skip(f"no Kafka broker: {reason}")
        try:
            yield broker
        finally:
            broker.stop()


def test_a_large_batch_passes_and_a_larger_one_is_refused_before_it_is_sent(broker: SessionBroker) -> None:
    async def scenario() -> None:
        async with client(broker.bootstrap) as log:
            to = await journal(log)
            large = [Record(str(n).encode(), Random(n).randbytes(50_000)) for n in range(30)]
            assert (await log.append(to, large)).offset == 0
            with pytest.raises(Rejected):
                await log.append(to, large * 3)
            with pytest.raises(Rejected):
                await log.append(to, [Record(None, bytes(5_000_000))])
            assert (await log.append(to, values("next"))).offset == 30
            assert [each.value for each in await everything(log, to)][:30] == [record.value for record in large]

    asyncio.run(scenario())


def test_a_prefix_is_known_to_nobody_else(broker: SessionBroker) -> None:
    async def scenario() -> None:
        changed = asyncio.Condition()
        async with client(broker.bootstrap, prefix="team.") as log, client(broker.bootstrap) as plain:
            to = await journal(log, 2)
            await log.append(to, values("a"))
            await log.publish(outgoing(TopicPartition(to.topic, 1), "b"))
            reader = log.reader()
            await reader.assign({to: 0})
            assert [(each.topic, each.value) for each in await take(reader, [to], 1)] == [(to.topic, b"a")]
            owner = Owner(changed)
            group = await log.join("group", to.topic, owner)
            await until(changed, lambda: owner.owned == frozenset({0, 1}))
            await group.commit({to: 1})
            assert await group.committed([to]) == {to: 1}
            assert list(await log.describe([to.topic])) == [to.topic]
            assert await plain.describe([to.topic]) == {}
            assert texts(await everything(plain, TopicPartition(f"team.{to.topic}", 1))) == ["b"]

    asyncio.run(scenario())


def test_positions_pass_the_markers_of_foreign_transactions(broker: SessionBroker) -> None:
    async def scenario() -> None:
        async with client(broker.bootstrap) as log:
            to = await journal(log)
            foreign = AIOKafkaProducer(bootstrap_servers=broker.bootstrap, transactional_id=uuid4().hex)
            await foreign.start()
            try:
                async with foreign.transaction():
                    await foreign.send_and_wait(to.topic, b"kept", partition=0)
                await foreign.begin_transaction()
                await foreign.send_and_wait(to.topic, b"aborted", partition=0)
                await foreign.abort_transaction()
                reader = log.reader()
                await reader.assign({to: 0})
                stable = (await log.bounds([to], committed=True))[to].end
                assert stable == 4  # two records and two markers
                seen = []
                async with asyncio.timeout(30):
                    while reader.position(to) < stable:
                        seen += await reader.fetch([to], limit=10, timeout=0.1)
                assert texts(seen) == ["kept"]
                await foreign.begin_transaction()
                await foreign.send_and_wait(to.topic, b"open", partition=0)
                assert await log.bounds([to], committed=True) == {to: Bounds(0, 4)}
                assert await log.bounds([to]) == {to: Bounds(0, 5)}
                assert await reader.fetch([to], limit=10, timeout=0.5) == []
                assert reader.position(to) == 4
                assert texts(await everything(log, to)) == ["kept", "aborted", "open"]
                await foreign.commit_transaction()
                assert texts(await take(reader, [to], 1)) == ["open"]
            finally:
                await foreign.stop()

    asyncio.run(scenario())


def test_a_header_key_that_is_not_utf8_is_handed_out_escaped(broker: SessionBroker) -> None:
    class Bytes(str):
        def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:  # noqa: ARG002 - str's signature
            return b"bad\xff"

    async def scenario() -> None:
        async with client(broker.bootstrap) as log:
            to = await journal(log)
            odd = Record(b"k", b"odd", ((Bytes("bad"), b"v"),))
            foreign = AIOKafkaProducer(bootstrap_servers=broker.bootstrap)
            await foreign.start()
            try:
                batch = _batch([Record(None, b"before"), odd, Record(None, b"after")])
                await (await foreign.send_batch(batch, to.topic, partition=0))
            finally:
                await foreign.stop()
            await log.append(to, values("next"))
            reader = log.reader()
            await reader.assign({to: 0})
            for stored in (await take(reader, [to], 4), await everything(log, to)):
                assert texts(stored) == ["before", "odd", "after", "next"]
                assert stored[1].headers == (("bad\\xff", b"v"),)

    asyncio.run(scenario())


def _batch(records: list[Record]) -> object:
    """A batch written by aiokafka's Python encoder, which takes odd header keys."""
    from aiokafka.producer.message_accumulator import BatchBuilder  # type: ignore[import-untyped]
    from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy

    batch = BatchBuilder(100_000, 0)
    batch._builder = _DefaultRecordBatchBuilderPy(2, 0, 0, -1, -1, 0, 100_000)
    for record in records:
        batch.append(timestamp=None, key=record.key, value=record.value, headers=list(record.headers))
    batch.close()
    return batch


def test_an_empty_control_batch_is_stepped_over() -> None:
    def batch(base: int, value: bytes | None) -> bytes:
        builder = DefaultRecordBatchBuilder(2, 0, 1, 7, 0, 0, 1000)
        builder.append(0, timestamp=1, key=b"\0\0\0\1", value=value, headers=[])
        return struct.pack(">q", base) + bytes(builder.build())[8:]

    emptied = bytearray(batch(1, None)[:61])  # the header of a batch, without its record
    struct.pack_into(">i", emptied, 8, 61 - 12)
    struct.pack_into(">h", emptied, 21, 0x30)  # transactional, control
    struct.pack_into(">i", emptied, 57, 0)
    kafka_records.install()
    lump = kafka_records._Lump(batch(0, b"a") + bytes(emptied) + batch(2, b"b"))
    partition = TopicPartition("t", 0)
    found = list(kafka_records._Records(partition, lump, [], 0, None, None, False, READ_COMMITTED))
    assert [(record.offset, record.value) for record in found] == [(0, b"a"), (2, b"b")]


def test_a_lost_answer_gives_the_true_place_and_no_duplicate(own: Broker) -> None:
    async def scenario() -> None:
        random, cuts = Random(3), 0

        async def cut_some(api_key: int) -> bool:
            nonlocal cuts
            cut = api_key == PRODUCE and random.random() < 0.3
            cuts += cut
            return not cut

        async with Proxy(own.port) as proxy, client(proxy.bootstrap) as log:
            to = await journal(log)
            proxy.responses = cut_some
            said = {number: (await log.append(to, values(str(number), "end"))).offset for number in range(25)}
            proxy.responses = Proxy(0).responses
            assert cuts >= 3, "the proxy must have cut some answers"
            assert said == {number: 2 * number for number in range(25)}
            assert texts(await everything(log, to)) == [word for number in range(25) for word in (str(number), "end")]

    asyncio.run(scenario())


def test_a_stalled_broker_makes_the_outcome_unknown_and_later_appends_queue_behind(own: Broker) -> None:
    async def scenario() -> None:
        async with client(own.bootstrap, timeout=2.0) as log:
            to = await journal(log, 2)
            out = TopicPartition(to.topic, 1)
            await log.append(to, values("before"))
            await log.publish(outgoing(out, "1"))
            own.pause()
            try:
                begun = asyncio.get_running_loop().time()
                with pytest.raises(Unavailable):
                    await log.append(to, values("stalled"))
                assert asyncio.get_running_loop().time() - begun < 4
                with pytest.raises(Unavailable):
                    await log.publish(outgoing(out, "2"))
            finally:
                own.resume()
            after = await in_the_end(lambda: log.append(to, values("after")))
            stored = texts(await in_the_end(lambda: everything(log, to)))
            assert stored == ["before", "stalled", "after"], "what was in flight lands once, and before what came later"
            assert stored[after.offset] == "after"
            await in_the_end(lambda: log.publish([*outgoing(out, "2"), *outgoing(out, "3")]))
            first_copies = list(dict.fromkeys(texts(await in_the_end(lambda: everything(log, out)))))
            assert first_copies == ["1", "2", "3"]

    asyncio.run(scenario())


def test_the_log_recovers_from_a_broker_that_was_killed(own: Broker) -> None:
    async def scenario() -> None:
        changed = asyncio.Condition()
        async with client(own.bootstrap, timeout=4.0) as log:
            to = await journal(log, 2)
            reader, owner = log.reader(), Owner(changed)
            await reader.assign({to: 0})
            group = await log.join(uuid4().hex, to.topic, owner)
            await until(changed, lambda: owner.owned == frozenset({0, 1}))
            await log.append(to, values("before"))
            assert texts(await take(reader, [to], 1)) == ["before"]
            own.kill()
            with pytest.raises(Unavailable):
                await log.append(to, values("lost or late"))
            with pytest.raises(Unavailable):
                await log.bounds([to])
            with pytest.raises(Unavailable):
                await reader.fetch([to], limit=1, timeout=30)
            await asyncio.to_thread(own.start)
            after = await in_the_end(lambda: log.append(to, values("after")))
            stored = await in_the_end(lambda: everything(log, to))
            assert stored[after.offset].value == b"after"
            assert texts(stored) in (["before", "after"], ["before", "lost or late", "after"])
            await in_the_end(lambda: log.publish([Outgoing(to, Record(None, b"out"))]))
            seen: list[StoredRecord] = []
            while len(seen) < len(stored):
                seen += await in_the_end(lambda: reader.fetch([to], limit=10, timeout=5))
            assert texts(seen) == [*texts(stored)[1:], "out"]
            await in_the_end(lambda: group.commit({to: 1}))
            assert await in_the_end(lambda: group.committed([to])) == {to: 1}

    asyncio.run(scenario())


def test_a_membership_whose_machinery_died_gives_up_and_joins_again(broker: SessionBroker) -> None:
    async def scenario() -> None:
        changed, both = asyncio.Condition(), frozenset({0, 1})
        async with client(broker.bootstrap) as log:
            to, owner = await journal(log, 2), Owner(changed)
            group = await log.join(uuid4().hex, to.topic, owner)
            await until(changed, lambda: owner.owned == both)

            async def broken() -> None:
                raise RuntimeError("an error nobody foresaw")

            coordinator = group._consumer._coordinator
            coordinator.ensure_coordinator_known = broken
            coordinator.request_rejoin()
            await until(changed, lambda: len(owner.history) >= 3)
            assert owner.history == [("assigned", both), ("revoked", both), ("assigned", both)]
            assert group._consumer._coordinator is not coordinator
            await in_the_end(lambda: group.commit({to: 1}))

    asyncio.run(scenario())
