"""What every log must do. Each scenario runs against the in-memory log and against a real Kafka broker."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from saga.errors import Corrupt, InputsLost, Misconfigured, Rejected, Unavailable
from saga.log.base import LATEST, Bounds, Outgoing, Record, StoredRecord, TopicPartition, TopicSpec
from tests.log.conftest import Adapter
from tests.log.tools import everything, outgoing, take, texts, values


def test_a_batch_stands_whole_where_its_answer_says(adapter: Adapter) -> None:
    async def scenario() -> None:
        log = await adapter.log()
        to = TopicPartition(await adapter.topic(log), 0)
        first = await log.append(to, values("a", "b", "c"))
        second = await log.append(to, values("d", "e"))
        assert (first.offset, second.offset) == (0, 3)
        stored = await everything(log, to)
        assert [(each.offset, each.value) for each in stored] == list(enumerate([b"a", b"b", b"c", b"d", b"e"]))

    adapter.run(scenario)


def test_the_answer_tells_the_append_time(adapter: Adapter) -> None:
    async def scenario() -> None:
        log = await adapter.log()
        to = TopicPartition(await adapter.topic(log), 0)
        answer = await log.append(to, values("a", "b"))
        assert [each.timestamp for each in await everything(log, to)] == [answer.timestamp] * 2

    adapter.run(scenario)


def test_batches_of_two_writers_never_mix(adapter: Adapter) -> None:
    async def scenario() -> None:
        logs = [await adapter.log("one"), await adapter.log("two")]
        to = TopicPartition(await adapter.topic(logs[0]), 0)
        said: dict[int, list[str]] = {}

        async def write(writer: int) -> None:
            for number in range(20):
                words = [f"{writer}-{number}-{part}" for part in range(3)]
                said[(await logs[writer].append(to, values(*words))).offset] = words

        await asyncio.gather(write(0), write(1))
        stored = texts(await everything(logs[0], to))
        assert len(said) == 40
        assert all(stored[base : base + 3] == words for base, words in said.items())

    adapter.run(scenario)


def test_publish_keeps_the_order_within_each_partition(adapter: Adapter) -> None:
    async def scenario() -> None:
        log = await adapter.log()
        topic = await adapter.topic(log, 3)
        whole = [str(number) for number in range(90)]
        for begin in (0, 45):
            await log.publish(
                [out for word in whole[begin : begin + 45] for out in outgoing(TopicPartition(topic, int(word) % 3), word)]
            )
        for number in range(3):
            assert texts(await everything(log, TopicPartition(topic, number))) == whole[number::3]

    adapter.run(scenario)


def test_who_looks_and_never_waits_is_given_what_comes(adapter: Adapter) -> None:
    async def scenario() -> None:
        log = await adapter.log()
        to = TopicPartition(await adapter.topic(log), 0)
        reader, seen = log.reader(), list[str]()
        await reader.assign({to: 0})
        for word in ("a", "b"):
            await log.append(to, values(word))
            async with asyncio.timeout(20):
                while word not in seen:
                    seen += texts(await reader.fetch([to], limit=9, timeout=0.0))
                    await asyncio.sleep(0.01)
        assert seen == ["a", "b"]

    adapter.run(scenario)


def test_publishing_nothing_is_done_at_once(adapter: Adapter) -> None:
    async def scenario() -> None:
        log = await adapter.log()
        await log.publish([])

    adapter.run(scenario)


def test_appending_nothing_is_a_mistake_of_the_caller(adapter: Adapter) -> None:
    async def scenario() -> None:
        log = await adapter.log()
        to = TopicPartition(await adapter.topic(log), 0)
        with pytest.raises(ValueError, match="at least one record"):
            await log.append(to, [])

    adapter.run(scenario)


def test_keys_values_and_headers_come_back_as_they_went(adapter: Adapter) -> None:
    odd = [
        Record(None, None),
        Record(b"", b""),
        Record("ключ".encode(), b"\x00\xff", (("a", b""), ("b", b"\xff\x00"), ("a", b"again"))),
        Record(b"k", None, (("ce_id", b"1"),)),
    ]

    async def scenario() -> None:
        log = await adapter.log()
        topic = await adapter.topic(log, 2)
        appended, published = TopicPartition(topic, 0), TopicPartition(topic, 1)
        await log.append(appended, odd)
        await log.publish([Outgoing(published, each) for each in odd])
        reader = log.reader()
        await reader.assign({appended: 0})
        fetched = await take(reader, [appended], len(odd))
        for stored in (await everything(log, appended), await everything(log, published), fetched):
            assert [Record(each.key, each.value, each.headers) for each in stored] == odd

    adapter.run(scenario)


def test_a_fetch_waits_for_the_first_record(adapter: Adapter) -> None:
    async def scenario() -> None:
        log = await adapter.log()
        to = TopicPartition(await adapter.topic(log), 0)
        reader = log.reader()
        await reader.assign({to: 0})
        assert await reader.fetch([to], limit=10, timeout=0.2) == []
        waiting = asyncio.create_task(reader.fetch([to], limit=10, timeout=60))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        await log.append(to, values("a"))
        assert texts(await waiting) == ["a"]
        assert reader.position(to) == 1

    adapter.run(scenario)


def test_a_fetch_keeps_to_its_limit_and_order(adapter: Adapter) -> None:
    async def scenario() -> None:
        log = await adapter.log()
        topic = await adapter.topic(log, 2)
        both = [TopicPartition(topic, 0), TopicPartition(topic, 1)]
        for each in both:
            await log.append(each, values(*(f"{each.partition}-{n}" for n in range(25))))
        reader = log.reader()
        await reader.assign(dict.fromkeys(both, 0))
        taken: list[StoredRecord] = []
        while len(taken) < 50:
            lump = await reader.fetch(both, limit=7, timeout=5)
            assert len(lump) <= 7
            taken += lump
        for each in both:
            assert [r.offset for r in taken if r.partition == each.partition] == list(range(25))
            assert reader.position(each) == 25

    adapter.run(scenario)


def test_tasks_share_a_reader_and_each_gets_its_own_partition(adapter: Adapter) -> None:
    async def scenario() -> None:
        log = await adapter.log()
        topic = await adapter.topic(log, 4)
        parts = [TopicPartition(topic, number) for number in range(4)]
        reader = log.reader()
        await reader.assign(dict.fromkeys(parts, 0))
        tasks = [asyncio.create_task(take(reader, [part], 30)) for part in parts]
        for number in range(30):
            await log.publish([out for part in parts for out in outgoing(part, f"{part.partition}-{number}")])
        for part, task in zip(parts, tasks, strict=True):
            assert texts(await task) == [f"{part.partition}-{n}" for n in range(30)]

    adapter.run(scenario)


def test_more_partitions_while_others_fetch_lose_and_repeat_nothing(adapter: Adapter) -> None:
    async def scenario() -> None:
        log = await adapter.log()
        topic = await adapter.topic(log, 6)
        parts = [TopicPartition(topic, number) for number in range(6)]
        reader = log.reader()

        async def write() -> None:
            for number in range(60):
                await log.publish([out for part in parts for out in outgoing(part, str(number))])

        writing = asyncio.create_task(write())
        tasks = []
        for part in parts:
            await reader.assign({part: 0})
            tasks.append(asyncio.create_task(take(reader, [part], 60)))
            await asyncio.sleep(0.05)
        for task in tasks:
            assert texts(await task) == [str(number) for number in range(60)]
        await writing

    adapter.run(scenario)


def test_unassigned_partitions_are_read_no_more_and_can_come_back(adapter: Adapter) -> None:
    async def scenario() -> None:
        log = await adapter.log()
        topic = await adapter.topic(log, 2)
        one, two = TopicPartition(topic, 0), TopicPartition(topic, 1)
        reader = log.reader()
        await reader.assign({one: 0, two: 0})
        for each in (one, two):
            await log.append(each, values("a", "b", "c"))
        assert len(await take(reader, [one, two], 6)) == 6
        await reader.unassign([one])
        for each in (one, two):
            await log.append(each, values("d"))
        assert [(r.partition, r.offset) for r in await take(reader, [two], 1)] == [(1, 3)]
        await reader.assign({one: 1})
        assert texts(await take(reader, [one], 3)) == ["b", "c", "d"]

    adapter.run(scenario)


def test_a_cancelled_fetch_loses_nothing(adapter: Adapter) -> None:
    async def scenario() -> None:
        log = await adapter.log()
        to = TopicPartition(await adapter.topic(log), 0)
        reader = log.reader()
        await reader.assign({to: 0})
        random = Random(5)
        taken: list[StoredRecord] = []
        for number in range(40):
            writing = asyncio.create_task(log.append(to, values(str(number))))
            fetching = asyncio.create_task(reader.fetch([to], limit=3, timeout=60))
            await asyncio.sleep(random.uniform(0, 0.01))
            fetching.cancel()
            try:
                taken += await fetching
            except asyncio.CancelledError:
                pass
            await writing
        taken += await take(reader, [to], 40 - len(taken)) if len(taken) < 40 else []
        assert texts(taken) == [str(number) for number in range(40)]

    adapter.run(scenario)


def test_a_position_outside_what_is_held_is_told(adapter: Adapter) -> None:
    async def scenario() -> None:
        log = await adapter.log()
        to = TopicPartition(await adapter.topic(log), 0)
        await log.append(to, values(*"abcdefgh"))
        await log.trim(to, 5)
        for position in (0, 4, 9):
            reader = log.reader()
            await reader.assign({to: position})
            with pytest.raises(InputsLost):
                await reader.fetch([to], limit=10, timeout=30)
            await reader.close()
        reader = log.reader()
        await reader.assign({to: 5})
        assert texts(await take(reader, [to], 3)) == ["f", "g", "h"]

    adapter.run(scenario)


def test_a_range_is_read_exactly(adapter: Adapter) -> None:
    async def scenario() -> None:
        log = await adapter.log()
        to = TopicPartition(await adapter.topic(log), 0)
        filling = Random(1).randbytes(10_000)
        for begin in range(0, 350, 50):  # 3.5 MB: more than one lump, whatever the adapter
            await log.append(to, [Record(str(number).encode(), filling) for number in range(begin, begin + 50)])
        for start, end in ((0, 350), (30, 31), (49, 51), (120, 333), (7, 7)):
            read = [record async for lump in log.read(to, start, end) for record in lump]
            assert [each.offset for each in read] == list(range(start, end))
            assert [each.key for each in read] == [str(number).encode() for number in range(start, end)]

    adapter.run(scenario)


def test_bounds_follow_writes_and_trims(adapter: Adapter) -> None:
    async def scenario() -> None:
        log = await adapter.log()
        topic = await adapter.topic(log, 2)
        one, two = TopicPartition(topic, 0), TopicPartition(topic, 1)
        assert await log.bounds([one, two]) == {one: Bounds(0, 0), two: Bounds(0, 0)}
        await log.append(one, values("a", "b", "c"))
        assert await log.bounds([one, two], committed=True) == {one: Bounds(0, 3), two: Bounds(0, 0)}
        await log.trim(one, 2)
        await log.trim(one, 2)
        assert await log.bounds([one]) == {one: Bounds(2, 3)}
        with pytest.raises(Unavailable):
            await log.bounds([TopicPartition(adapter.name("missing"), 0)])

    adapter.run(scenario)


def test_an_offset_is_found_by_time(adapter: Adapter) -> None:
    async def scenario() -> None:
        log = await adapter.log()
        to = TopicPartition(await adapter.topic(log), 0)
        assert await log.offset_at(to, 0) == 0
        await log.append(to, values("a", "b"))
        await asyncio.sleep(0.05)  # the clock must move on between the two
        second = await log.append(to, values("c"))
        assert await log.offset_at(to, 0) == 0
        assert await log.offset_at(to, second.timestamp) == 2
        assert await log.offset_at(to, second.timestamp + 60_000) == 3
        assert await log.offset_at(to, LATEST) == 3

    adapter.run(scenario)


def test_what_was_trimmed_cannot_be_read(adapter: Adapter) -> None:
    async def scenario() -> None:
        log = await adapter.log()
        to = TopicPartition(await adapter.topic(log), 0)
        await log.append(to, values(*"abcdef"))
        await log.trim(to, 4)
        with pytest.raises(Corrupt):
            async for _ in log.read(to, 3, 6):
                pass
        assert texts(await everything(log, to)) == ["e", "f"]

    adapter.run(scenario)


def test_topics_are_made_as_asked_and_described_as_they_are(adapter: Adapter) -> None:
    async def scenario() -> None:
        log = await adapter.log()
        name = adapter.name("topic")
        await log.create([TopicSpec(name, 3, 1, {"retention.ms": "-1", "max.message.bytes": "4194304"})])
        missing = adapter.name("missing")
        found = await log.describe([name, missing])
        assert list(found) == [name]
        spec = found[name]
        assert (spec.name, spec.partitions, spec.replication) == (name, 3, 1)
        assert spec.config["retention.ms"] == "-1"
        assert spec.config["max.message.bytes"] == "4194304"
        assert spec.config["cleanup.policy"] == "delete"  # not asked for: all settings are told

    adapter.run(scenario)


def test_a_topic_that_exists_is_left_alone(adapter: Adapter) -> None:
    async def scenario() -> None:
        log = await adapter.log()
        old, new = await adapter.topic(log, 2, retention_ms="1000000"), adapter.name("topic")
        await log.append(TopicPartition(old, 1), values("kept"))
        await log.create([TopicSpec(old, 5, 1, {"retention.ms": "-1"}), TopicSpec(new, 1)])
        found = await log.describe([old, new])
        assert (found[old].partitions, found[old].config["retention.ms"]) == (2, "1000000")
        assert found[new].partitions == 1
        assert texts(await everything(log, TopicPartition(old, 1))) == ["kept"]

    adapter.run(scenario)


def test_a_topic_that_cannot_be_is_refused(adapter: Adapter) -> None:
    async def scenario() -> None:
        log = await adapter.log()
        with pytest.raises(Misconfigured):
            await log.create([TopicSpec(adapter.name("topic"), 1, 1, {"no.such.setting": "1"})])
        with pytest.raises(Misconfigured):
            await log.create([TopicSpec("not a name", 1)])

    adapter.run(scenario)


def test_a_published_record_that_is_too_large_is_rejected_and_harms_nothing(adapter: Adapter) -> None:
    async def scenario() -> None:
        log = await adapter.log()
        to = TopicPartition(await adapter.topic(log, max_message_bytes="20000"), 0)
        large = Outgoing(to, Record(None, Random(7).randbytes(30_000)))
        with pytest.raises(Rejected):
            await log.publish([large])
        await log.publish(outgoing(to, "after"))
        assert texts(await everything(log, to)) == ["after"]

    adapter.run(scenario)


def test_a_batch_that_is_too_large_is_rejected_and_harms_nothing(adapter: Adapter) -> None:
    async def scenario() -> None:
        log = await adapter.log()
        to = TopicPartition(await adapter.topic(log, max_message_bytes="20000"), 0)
        await log.append(to, values("before"))
        with pytest.raises(Rejected):
            await log.append(to, [Record(None, Random(n).randbytes(8_000)) for n in range(3)])
        assert (await log.append(to, values("after"))).offset == 1

    adapter.run(scenario)
