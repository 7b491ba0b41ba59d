"""The producer and a broker that loses answers, moves and refuses: each batch is there once, in order, or its writer is told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiokafka import TopicPartition as KafkaPartition  # type: ignore[import-untyped]
from aiokafka.protocol.produce import ProduceResponse_v7  # type: ignore[import-untyped]
from aiokafka.record.memory_records import MemoryRecords  # type: ignore[import-untyped]

from saga.errors import Rejected, Unavailable
from saga.log.base import Appended, Outgoing, Record, TopicPartition
from saga.log.kafka_client import Background, Cluster
from saga.log.kafka_writer import Writer
from tests.log.kafka_played import Played
from tests.log.tools import values

HERE, THERE = TopicPartition("pay.commands", 0), TopicPartition("pay.commands", 1)
MESSAGE_TOO_LARGE, OUT_OF_ORDER, DUPLICATE = 10, 45, 46


def out(partition: TopicPartition) -> Any:
    return KafkaPartition(*partition)


def play(scene: Callable[[Played, Writer], Awaitable[None]], timeout: float = 5.0, batch_bytes: int = 1 << 20) -> None:
    async def whole() -> None:
        async with Played(**{"pay.commands": 2}) as broker:
            background = Background()
            writer = Writer(Cluster(broker.bootstrap, timeout=timeout), "journal", batch_bytes, background)
            await writer.open()
            try:
                await scene(broker, writer)
            finally:
                await writer.close()
                await background.finish()

    asyncio.run(whole())


def landed(broker: Played, partition: TopicPartition) -> list[tuple[int, list[bytes]]]:
    """The batches of a partition: first sequence number and values."""
    batches = [MemoryRecords(data).next_batch() for at, data in broker.produced if at == out(partition)]
    return [(batch.base_sequence, [record.value for record in batch]) for batch in batches]


def test_appends_of_one_turn_go_out_together_and_numbers_count_records() -> None:
    async def scene(broker: Played, writer: Writer) -> None:
        requests: list[Any] = []
        broker.fault = lambda request: requests.append(request)
        placed = await asyncio.gather(writer.append(HERE, values("a", "b")), writer.append(THERE, values("c")))
        assert list(placed) == [Appended(0, 5), Appended(0, 5)]
        await writer.append(HERE, values("d"))
        assert [len(request.topics[0][1]) for request in requests] == [2, 1]
        assert landed(broker, HERE) == [(0, [b"a", b"b"]), (2, [b"d"])]

    play(scene)


def test_a_lost_answer_is_asked_for_with_the_same_bytes_and_what_comes_later_waits() -> None:
    async def scene(broker: Played, writer: Writer) -> None:
        await writer.append(HERE, values("a"))
        broker.lose_answers = 2
        first = asyncio.create_task(writer.append(HERE, values("b")))
        await asyncio.sleep(0)
        await asyncio.gather(first, writer.append(HERE, values("c")))
        assert landed(broker, HERE) == [(0, [b"a"]), (1, [b"b"]), (2, [b"c"])]

    play(scene)


def test_a_batch_follows_its_partition_to_the_new_leader() -> None:
    async def scene(broker: Played, writer: Writer) -> None:
        await writer.append(HERE, values("a"))
        broker.lead(out(HERE), 2)
        await asyncio.gather(writer.append(HERE, values("b")), writer.append(THERE, values("c")))
        assert landed(broker, HERE) == [(0, [b"a"]), (1, [b"b"])]

    play(scene)


def test_a_partition_without_a_leader_for_too_long_is_unavailable_and_the_next_producer_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scene(broker: Played, writer: Writer) -> None:
        broker.lead(out(HERE), -1)
        with pytest.raises(Unavailable, match=r"pay\.commands:0"):
            await writer.append(HERE, values("a"))
        told = [line for line in caplog.messages if "sent again" in line]
        assert len(told) == len(set(told)) == 1, "it was tried some ten times, and the log says so once"
        broker.lead(out(HERE), 1)
        await writer.append(HERE, values("b"))
        assert [values for _, values in landed(broker, HERE)][-1] == [b"b"]

    play(scene, timeout=1.0)


def test_after_a_refusal_for_good_a_new_producer_is_used() -> None:
    async def scene(broker: Played, writer: Writer) -> None:
        before = writer._line
        broker.fault = lambda _: bytes(ProduceResponse_v7([("pay.commands", [(0, OUT_OF_ORDER, -1, -1, -1)])], 0).encode())
        with pytest.raises(Unavailable, match="OutOfOrderSequence"):
            await writer.append(HERE, values("a"))
        broker.fault = lambda _: None
        await writer.append(HERE, values("b"))
        assert before is not None
        assert before.producer.ended
        assert writer._line is not before

    play(scene)


def test_a_batch_that_is_there_but_nobody_knows_where_is_unknown_and_the_producer_goes_on() -> None:
    async def scene(broker: Played, writer: Writer) -> None:
        before = writer._line
        broker.fault = lambda _: bytes(ProduceResponse_v7([("pay.commands", [(0, DUPLICATE, 0, 5, 0)])], 0).encode())
        with pytest.raises(Unavailable, match="did not say where"):
            await writer.append(HERE, values("a"))
        broker.fault = lambda _: None
        await writer.append(HERE, values("b"))
        assert landed(broker, HERE) == [(0, [b"a"]), (1, [b"b"])]
        assert writer._line is before

    play(scene)


def test_a_refusal_of_what_was_sent_before_does_not_say_that_it_is_not_there() -> None:
    async def scene(broker: Played, writer: Writer) -> None:
        too_large = bytes(ProduceResponse_v7([("pay.commands", [(0, MESSAGE_TOO_LARGE, -1, -1, -1)])], 0).encode())
        broker.fault = lambda _: too_large
        with pytest.raises(Rejected):
            await writer.append(HERE, values("a"))
        broker.fault = lambda _: None if broker.lose_answers else too_large
        broker.lose_answers = 1
        with pytest.raises(Unavailable, match="sent before"):
            await writer.append(HERE, values("b"))
        assert landed(broker, HERE)[-1] == (0, [b"b"])

    play(scene)


def test_an_answer_that_says_nothing_of_a_batch_leaves_it_unknown() -> None:
    async def scene(broker: Played, writer: Writer) -> None:
        broker.fault = lambda _: bytes(ProduceResponse_v7([], 0).encode())
        with pytest.raises(Unavailable, match="has not answered for it"):
            await writer.append(HERE, values("a"))

    play(scene)


def test_what_is_given_up_is_unknown_at_once_and_never_sent_again() -> None:
    async def scene(broker: Played, writer: Writer) -> None:
        broker.lose_answers = 10**6
        waiting = asyncio.create_task(writer.append(HERE, values("a")))
        await broker.written.wait()
        await writer.close()
        with pytest.raises(Unavailable, match="given up"):
            await waiting
        sent = 10**6 - broker.lose_answers
        await asyncio.sleep(0.3)  # longer than the pause before a retry
        assert 10**6 - broker.lose_answers <= sent

    play(scene)


def test_a_publish_that_takes_several_batches_keeps_its_order() -> None:
    async def scene(broker: Played, writer: Writer) -> None:
        records = [Outgoing(HERE if number % 3 else THERE, Record(b"k", b"%02d" % number * 20)) for number in range(40)]
        await writer.publish(records)
        for partition in (HERE, THERE):
            came = [value for _, some in landed(broker, partition) for value in some]
            assert came == [record.value for to, record in records if to == partition]
            assert len(landed(broker, partition)) > 1

    play(scene, batch_bytes=300)
