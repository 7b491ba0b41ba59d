"""Whatever somebody puts on a topic that we read: it gets a clear answer, and the next good order goes through as if nothing had been.

What is unreadable or invalid becomes a dead letter with its own bytes, its headers, its origin and the reason. A type that nobody
names, and a reply that answers nothing, are counted and no more.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import uuid
from dataclasses import dataclass
from random import Random

import pytest

from saga.log.base import Headers, Log, Outgoing, Record, TopicPartition
from saga.log.memory import MemoryBroker, MemoryLog
from saga.log.partition import home
from saga.runtime.batch import KEPT_OF_LARGE
from saga.testing.clock import run
from tests.conftest import SessionBroker
from tests.runtime.shop import PARTITIONS, Shop, shop

PLACED: Headers = (("ce_id", b"bad"), ("ce_source", b"order"), ("ce_type", b"order.placed.v1"))
GOOD = b'{"order_id":"bad","total":1}'


@dataclass(frozen=True)
class Bad:
    """A record, and its answer: a dead letter's reason, or what it is counted as, or the key of the order that it starts."""

    name: str
    value: bytes | None = GOOD
    headers: Headers = PLACED
    dead: str = ""
    counted: str = ""
    starts: str = ""
    key: bytes | None = b"bad"
    topic: str = "order.events"
    answers: str = ""  # a step of a completed order that it pretends to answer


def reply(outcome: bytes = b"done", type: bytes = b"payment.taken.v1", attempt: bytes = b"1") -> Headers:
    return (("ce_id", b"r"), ("ce_source", b"payment"), ("ce_type", type), ("ce_sagaoutcome", outcome), ("ce_sagaattempt", attempt))


def typed(type: bytes) -> Headers:
    return (("ce_id", b"bad"), ("ce_source", b"order"), ("ce_type", type))


def timed(time: bytes, id: bytes) -> Headers:
    return (("ce_id", id), ("ce_source", b"order"), ("ce_type", b"order.placed.v1"), ("ce_time", time))


LIST = [
    Bad("null key", b'{"order_id":"null-key","total":1}', starts="null-key", key=None, headers=(("ce_type", b"order.placed.v1"),)),
    Bad("null value", None, dead="no-value"),
    Bad("empty value", b"", dead="no-value"),
    Bad("random bytes", Random(1).randbytes(500), dead="json"),
    Bad("invalid UTF-8", b'{"order_id":"\xff\xfe","total":1}', dead="json"),
    Bad("half a surrogate", b'{"order_id":"\\ud800","total":1}', dead="json"),
    Bad("deep nesting", b"[" * 100_000, dead="json"),
    Bad(
        "nesting that can be read but not be written",
        b'{"order_id":"x","total":1,"more":' + b"[" * 250 + b"]" * 250 + b"}",
        dead="json",
    ),
    Bad("NaN", b'{"order_id":"bad","total":NaN}', dead="json"),
    Bad("infinity", b'{"order_id":"bad","total":1e999}', dead="json"),
    Bad("duplicate keys", b'{"order_id":"bad","total":1,"total":2}', dead="duplicate-key"),
    Bad("huge integer", b'{"order_id":"bad","total":' + b"9" * 40 + b"}", dead="huge-integer"),
    Bad("wrong schema", b'{"order_id":7}', dead="schema"),
    Bad("no object", b'"order"', dead="schema"),
    Bad("pickle bytes", pickle.dumps({"order_id": "bad"}), dead="json"),
    Bad("unknown type", headers=typed(b"order.eaten.v1"), counted="unnamed"),
    Bad("unknown version", headers=typed(b"order.placed.v99"), counted="unnamed"),
    Bad("no headers", headers=(), dead="no-type"),
    Bad("doubled header", headers=(*PLACED, ("ce_id", b"two")), dead="doubled-header"),
    Bad("header not UTF-8", headers=(*PLACED, ("ce_subject", b"\xff")), dead="header-encoding"),
    Bad("another specversion", headers=(*PLACED, ("ce_specversion", b"0.3")), dead="specversion"),
    Bad("1 MB header", headers=(*PLACED, ("ce_note", b"x" * 1_000_000)), dead="too-large"),
    Bad("1 MB header that is not UTF-8", headers=(*PLACED, ("ce_note", b"\xff" * 1_000_000)), dead="header-encoding"),
    Bad("1 MB key", key=b"k" * 1_000_000, dead="too-large"),
    Bad("1 MB value", b'{"order_id":"bad","x":"' + b"x" * 1_000_000 + b'"}', dead="too-large"),
    Bad("many large headers", headers=(*PLACED, *((f"h{n}", b"x" * 60_000) for n in range(15))), dead="too-large"),
    Bad("a key of control characters", b'{"order_id":"a\\nb","total":1}', dead="key"),
    Bad("an empty key", b'{"order_id":"","total":1}', dead="key"),
    Bad(
        "key unlike the value's id",
        b'{"order_id":"unlike","total":1}',
        starts="unlike",
        headers=timed(b"2026-01-01T00:00:00Z", b"u"),
    ),
    Bad(
        "ce_time of the year 9999", b'{"order_id":"y9999","total":1}', starts="y9999", headers=timed(b"9999-12-31T23:59:59Z", b"t1")
    ),
    Bad("ce_time of the year 0", b'{"order_id":"y0","total":1}', starts="y0", headers=timed(b"0000-00-00T00:00:00Z", b"t2")),
    Bad("ce_time of −1", b'{"order_id":"minus","total":1}', starts="minus", headers=timed(b"-1", b"t3")),
    Bad("reply to an unknown instance", b"{}", (*reply(), ("ce_sagacommand", b"order:nobody:1:pay:execute")), counted="unmatched"),
    Bad("reply to an unknown saga", b"{}", (*reply(), ("ce_sagacommand", b"eat:k:1:pay:execute")), counted="unmatched"),
    Bad("reply to nothing", b"{}", (*reply(), ("ce_sagacommand", b":::")), counted="unmatched"),
    Bad("reply to no command at all", b"{}", reply(), counted="unmatched"),
    Bad("reply to another step", b"{}", reply(), answers="eat:execute", topic="payment.events", counted="unmatched"),
    Bad("reply from another service's topic", b"{}", reply(), answers="pay:execute", topic="stock.events", counted="wrong-service"),
    Bad("reply with a command id cut short", b"{}", reply(), answers="x", topic="payment.events", counted="unmatched"),
    Bad("reply with a strange outcome", b"{}", reply(b"maybe"), answers="pay:execute", topic="payment.events", counted="unmatched"),
]


async def send(place: Shop, bad: Bad, order: str) -> TopicPartition:
    headers = bad.headers
    if bad.answers:
        headers = (*headers, ("ce_sagacommand", f"{order}:{bad.answers}".encode()))
    number = home(order.split(":")[1], PARTITIONS) if bad.answers else 1
    to = TopicPartition(bad.topic, number)
    await place.log.publish([Outgoing(to, Record(bad.key, bad.value, headers))])
    return to


async def check(place: Shop, bad: Bad) -> None:
    """Send one bad record to a running shop: it is answered as it should, and a good order still completes."""
    order = await place.order()
    before = len(await place.dead())
    counted = place.count("saga_ignored_total", reason=bad.counted)
    to = await send(place, bad, order)
    end = (await place.log.bounds([to]))[to].end

    await place.until(lambda: place.worker.tasks[to.partition]._inputs.positions[to].offset >= end, f"{bad.name} to be read")
    await place.order()
    assert not [status for status in place.worker.status().values() if status != "running"], f"{bad.name}: {place.worker.status()}"
    dead = (await place.dead())[before:]
    assert len(dead) == (1 if bad.dead else 0), f"{bad.name}: {[dict(record.headers) for record in dead]}"
    if bad.dead:
        check_dead_letter(bad, dict(dead[0].headers), dead[0].key, dead[0].value, f"{to}:{end - 1}")
    if bad.counted:
        assert place.count("saga_ignored_total", reason=bad.counted) == counted + 1, f"{bad.name} was not counted as {bad.counted}"
    if bad.starts:
        await place.completed(bad.starts)


def check_dead_letter(bad: Bad, headers: dict[str, bytes], key: bytes | None, value: bytes | None, origin: str) -> None:
    assert headers["ce_sagareason"] == bad.dead.encode(), f"{bad.name}: {headers['ce_sagareason']!r}"
    assert headers["ce_sagaorigin"] == origin.encode()
    assert headers["ce_sagadetail"]
    large = len(bad.key or b"") + len(bad.value or b"") + sum(len(each) for _, each in bad.headers) > 256 * 1024
    if large:
        assert (key, value) == (bad.key and bad.key[:KEPT_OF_LARGE], bad.value and bad.value[:KEPT_OF_LARGE])
    else:
        assert (key, value) == (bad.key, bad.value), f"{bad.name}: the original bytes were not kept"
        assert headers.items() >= dict(bad.headers).items(), f"{bad.name}: the original headers were not kept"


@pytest.mark.parametrize("bad", LIST, ids=lambda bad: bad.name)
def test_bad_input_gets_its_answer_and_harms_nobody(bad: Bad) -> None:
    async def scene() -> None:
        log = MemoryLog(MemoryBroker())
        await log.open()
        async with shop(log) as place:
            await check(place, bad)

    run(scene())


@pytest.mark.parametrize("year", [9999, 0, -1])
def test_a_records_timestamp_does_not_matter(year: int) -> None:
    async def scene() -> None:
        log = MemoryLog(MemoryBroker())
        await log.open()
        async with shop(log) as place:
            epoch = log.broker.epoch
            log.broker.epoch = {9999: 253_402_300_799.0, 0: 0.0, -1: -0.001}[year] - asyncio.get_running_loop().time()
            order = await place.order()
            log.broker.epoch = epoch
            assert order
            await place.order()

    run(scene())


async def ten_thousand_types(place: Shop) -> None:
    await place.order()
    series = place.series()
    to = TopicPartition("order.events", 0)
    await place.log.publish([Outgoing(to, Record(b"k", b"{}", (("ce_type", f"order.t{n}.v1".encode()),))) for n in range(10_000)])
    end = (await place.log.bounds([to]))[to].end
    await place.until(lambda: place.worker.tasks[0]._inputs.positions[to].offset >= end, "10,000 types to be read")
    await place.order()
    assert place.count("saga_ignored_total", reason="unnamed") == 10_000
    assert place.series() <= series + 5, f"the number of series went from {series} to {place.series()}"
    assert not await place.dead()


def test_ten_thousand_unknown_types_are_counted_and_make_no_new_series() -> None:
    async def scene() -> None:
        log = MemoryLog(MemoryBroker())
        await log.open()
        async with shop(log) as place:
            await ten_thousand_types(place)

    run(scene())


@pytest.mark.kafka
def test_the_same_list_on_a_real_broker(broker: SessionBroker) -> None:
    from saga.log.kafka import KafkaLog

    async def scene() -> None:
        log: Log = KafkaLog(broker.bootstrap, client_id=f"bad-{os.getpid()}", prefix=f"bad{uuid.uuid4().hex[:8]}.")
        await log.open()
        try:
            async with shop(log) as place:
                for bad in LIST:
                    await check(place, bad)
                dead = place.count("saga_ignored_total", reason="unnamed")
                assert dead >= 2
        finally:
            await log.close()

    asyncio.run(scene())
