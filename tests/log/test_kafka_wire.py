"""The bytes of our own requests and answers, against aiokafka's schemas, and what is read of batches, against aiokafka's parser."""

from __future__ import annotations

import asyncio
import random
from io import BytesIO
from struct import pack
from typing import Any

import pytest
from aiokafka import TopicPartition as KafkaPartition  # type: ignore[import-untyped]
from aiokafka.consumer.fetcher import READ_COMMITTED, PartitionRecords  # type: ignore[import-untyped]
from aiokafka.errors import CorruptRecordException, IncompatibleBrokerVersion  # type: ignore[import-untyped]
from aiokafka.protocol.api import RequestHeader_v1  # type: ignore[import-untyped]
from aiokafka.protocol.fetch import FetchRequest_v11, FetchResponse_v11  # type: ignore[import-untyped]
from aiokafka.protocol.produce import ProduceRequest_v7, ProduceResponse_v7  # type: ignore[import-untyped]
from aiokafka.record.default_records import DefaultRecordBatchBuilder  # type: ignore[import-untyped]
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder  # type: ignore[import-untyped]
from aiokafka.record.memory_records import MemoryRecords  # type: ignore[import-untyped]

from saga.log.base import Record, StoredRecord, TopicPartition
from saga.log.kafka_fetch import LAST_EPOCH, FetchAnswer, FetchCall, Limits, Part, Session, end_of
from saga.log.kafka_produce import Batch, Placed, ProduceAnswer, produce
from saga.log.kafka_records import Lump

LIMITS = Limits(200, 5000, 1000)
A, B, C = KafkaPartition("a.events", 0), KafkaPartition("a.events", 3), KafkaPartition("größer", 1)
HERE = TopicPartition("t", 0)


def asked(session: int, epoch: int, partitions: dict[Any, int], forgotten: list[Any]) -> bytes:
    """The request as aiokafka writes it."""
    topics: dict[str, list[Any]] = {}
    for (topic, number), offset in partitions.items():
        topics.setdefault(topic, []).append((number, -1, offset, -1, LIMITS.each))
    gone: dict[str, list[int]] = {}
    for topic, number in forgotten:
        gone.setdefault(topic, []).append(number)
    return bytes(FetchRequest_v11(-1, 200, 1, 5000, 1, session, epoch, list(topics.items()), list(gone.items()), "").encode())


def test_the_head_of_a_request_is_as_aiokafka_writes_it() -> None:
    theirs = RequestHeader_v1(FetchRequest_v11(), correlation_id=77, client_id="saga-ä").encode()
    assert FetchCall(b"").build_request_header(77, "saga-ä").encode() == theirs


def test_a_session_names_all_at_first_and_then_what_has_changed() -> None:
    session = Session(LIMITS)
    assert session.ask({A: 5, B: 0, C: 2**40}).encode() == asked(0, 0, {A: 5, B: 0, C: 2**40}, [])
    assert session.answered(FetchAnswer(0, 9, []))
    assert session.ask({A: 5, B: 0, C: 2**40}).encode() == asked(9, 1, {}, [])
    session.answered(FetchAnswer(0, 9, []))
    assert session.ask({A: 6, C: 2**40}).encode() == asked(9, 2, {A: 6}, [B])
    session.answered(FetchAnswer(0, 9, []))
    assert session.ask({A: 6, C: 2**40, B: 0}).encode() == asked(9, 3, {B: 0}, [])


def test_a_session_begins_anew_when_an_answer_is_lost_the_broker_forgot_it_or_gives_none() -> None:
    session = Session(LIMITS)
    session.ask({A: 5})
    session.answered(FetchAnswer(0, 9, []))
    session.ask({A: 5})
    session.lost()
    assert session.ask({A: 5}).encode() == asked(9, 0, {A: 5}, []), "with the id, so that the broker ends the old one"
    session.answered(FetchAnswer(0, 10, []))
    session.ask({A: 5})
    assert not session.answered(FetchAnswer(70, 0, []))
    assert session.ask({A: 5}).encode() == asked(0, 0, {A: 5}, [])
    session.answered(FetchAnswer(0, 0, []))
    assert session.ask({A: 5}).encode() == asked(0, 0, {A: 5}, []), "the broker has no room for sessions"


def test_after_the_last_epoch_comes_the_first() -> None:
    session = Session(LIMITS)
    session.ask({A: 5})
    session.answered(FetchAnswer(0, 9, []))
    session._epoch = LAST_EPOCH
    assert session.ask({A: 5}).encode() == asked(9, LAST_EPOCH, {}, [])
    session.answered(FetchAnswer(0, 9, []))
    assert session.ask({A: 5}).encode() == asked(9, 1, {}, [])


def test_an_answer_to_a_fetch_is_read_as_aiokafka_writes_it() -> None:
    topics = [
        (A.topic, [(0, 0, 10, 9, 1, [(7, 3), (8, 2**33)], -1, b"some"), (3, 1, -1, -1, -1, None, -1, None)]),
        (C.topic, [(1, 0, 10, 10, 0, [], 2, b"")]),
    ]
    frame = BytesIO(b"head" + FetchResponse_v11(0, 0, 12345, topics).encode())
    frame.seek(4)
    assert FetchAnswer.decode(frame) == FetchAnswer(
        0, 12345, [Part(A, 0, [(7, 3), (8, 2**33)], b"some"), Part(B, 1, [], b""), Part(C, 0, [], b"")]
    )
    assert FetchAnswer.decode(BytesIO(FetchResponse_v11(5, 70, 0, []).encode())) == FetchAnswer(70, 0, [])


def test_a_produce_request_and_its_answer_are_as_aiokafka_has_them() -> None:
    theirs = ProduceRequest_v7(None, -1, 5000, [(A.topic, [(0, b"one"), (3, b"three")]), (C.topic, [(1, b"")])]).encode()
    assert produce({A: b"one", B: b"three", C: b""}, 5000).encode() == theirs
    answer = ProduceResponse_v7([(A.topic, [(0, 0, 41, 1_700_000_000_000, 3), (3, 6, -1, -1, -1)])], 0).encode()
    assert ProduceAnswer.decode(BytesIO(answer)).parts == {A: (0, Placed(41, 1_700_000_000_000)), B: (6, Placed(-1, -1))}


def test_a_broker_that_is_too_old_is_told_so() -> None:
    with pytest.raises(IncompatibleBrokerVersion, match=r"FetchCall 0 to 8; we send 11, of Kafka 2\.3"):
        FetchCall(b"").prepare({1: (0, 8)})


def new_batch(limit: int) -> Batch:
    async def scene() -> Batch:
        return Batch(limit)

    return asyncio.run(scene())


def test_a_batch_is_as_aiokafka_builds_it_and_has_its_numbers() -> None:
    batch = new_batch(1 << 20)
    assert batch.add(Record(b"k", b"v", (("name", b"value"),)))
    assert batch.add(Record(None, None))
    batch.seal((7, 2), 40)
    ours = MemoryRecords(batch.data).next_batch()
    assert (ours.producer_id, ours.producer_epoch, ours.base_sequence, ours.next_offset) == (7, 2, 40, 2)
    assert [(each.key, each.value, each.headers) for each in ours] == [(b"k", b"v", [("name", b"value")]), (None, None, [])]


def test_a_full_batch_takes_no_more_but_always_one() -> None:
    batch = new_batch(100)
    assert batch.add(Record(b"k", b"v" * 500))
    assert not batch.add(Record(b"k", b"v"))
    assert batch.count == 1


# --- what was fetched -----------------------------------------------------------------------------------------------------------------


def written(base: int, count: int, *, producer: int = -1, control: bytes | None = None, transactional: bool = False) -> bytes:
    """A batch as a broker keeps it: with its place, and for transactions what it writes itself."""
    builder = DefaultRecordBatchBuilder(2, 0, int(transactional), producer, 0 if producer >= 0 else -1, 0, 1 << 20)
    for number in range(count):
        builder.append(
            number, timestamp=5, key=control or b"k%d" % (base + number), value=b"v", headers=[("h", b"x"), ("none", None)]
        )
    raw = bytearray(builder.build())
    raw[0:8] = pack(">q", base)
    if control is not None:
        raw[22] |= 0x20  # attributes: a control batch, under whose checksum they are
        raw[17:21] = pack(">I", _crc32c(bytes(raw[21:])))
    return bytes(raw)


def _crc32c(data: bytes) -> int:
    from aiokafka.record.util import calc_crc32c  # type: ignore[import-untyped]

    return int(calc_crc32c(data))


ABORT, COMMIT = pack(">hh", 0, 0), pack(">hh", 0, 1)


def someone_elses_log(seed: int) -> tuple[bytes, list[tuple[int, int]], int]:
    """Batches of three transactional producers and a plain one, in any order; which transactions were aborted; and where they end."""
    chance = random.Random(seed)
    data, aborted, at, began = b"", [], 10, dict[int, int]()
    for _ in range(chance.randint(0, 12)):
        producer = chance.choice((-1, 1, 2, 3))
        if producer >= 0 and producer in began and chance.random() < 0.5:
            marker = chance.choice((ABORT, COMMIT))
            if marker == ABORT:
                aborted.append((producer, began[producer]))
            del began[producer]
            data, at = data + written(at, 1, producer=producer, control=marker, transactional=True), at + 1
            continue
        if producer >= 0:
            began.setdefault(producer, at)
        count = chance.randint(1, 3)
        data, at = data + written(at, count, producer=producer, transactional=producer >= 0), at + count + chance.randint(0, 1)
    return data, aborted, at


@pytest.mark.parametrize("seed", range(60))
def test_a_lump_holds_what_aiokafka_reads_of_it_in_any_portions(seed: int) -> None:
    chance = random.Random(seed)
    data, aborted, _ = someone_elses_log(seed)
    data += data[: chance.randint(0, 60)]  # the broker cuts off what does not fit
    begin = chance.choice((10, 11, 12))
    theirs = PartitionRecords(KafkaPartition("t", 0), MemoryRecords(data), list(aborted), begin, None, None, True, READ_COMMITTED)
    expected = [(each.offset, each.key, each.value, len(each.headers)) for each in theirs]
    lump, taken = Lump(HERE, data, list(aborted), begin), list[StoredRecord]()
    while not lump.done:
        before = len(taken)
        lump.take(taken, before + chance.randint(1, 4))
        assert len(taken) > before or lump.done
    assert [(each.offset, each.key, each.value, len(each.headers)) for each in taken] == expected
    assert lump.next_fetch_offset == theirs.next_fetch_offset == max(begin, end_of(data, begin))
    assert all(each.headers == (("h", b"x"), ("none", b"")) for each in taken), "a header without a value has an empty one"


def test_the_end_of_batches_of_before_kafka_0_11() -> None:
    for magic in (0, 1):
        builder = LegacyRecordBatchBuilder(magic, 0, 1 << 20)
        for offset in (20, 21, 22):
            builder.append(offset, timestamp=1 if magic else None, key=None, value=b"v")
        data = bytes(builder.build())
        assert end_of(data, 20) == 23
        assert end_of(data[:-1], 20) == 22


def test_the_end_of_nothing_is_where_it_began_and_nonsense_is_told() -> None:
    assert end_of(b"", 7) == 7
    assert end_of(written(7, 3)[:-1], 7) == 7
    with pytest.raises(CorruptRecordException):
        end_of(bytes(100), 7)
    with pytest.raises(CorruptRecordException):
        end_of(pack(">qiib", 7, 14, 0, 2) + bytes(9), 7)  # too short for what it says that it is
