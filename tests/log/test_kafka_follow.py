"""The Kafka reader and a broker that forgets, errs and moves, which a real one does not do on demand."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiokafka import TopicPartition as KafkaPartition  # type: ignore[import-untyped]
from aiokafka.protocol.fetch import FetchRequest_v11, FetchResponse_v11  # type: ignore[import-untyped]
from aiokafka.record.util import calc_crc32c  # type: ignore[import-untyped]

from saga.errors import InputsLost, Unavailable
from saga.log import kafka_follow
from saga.log.base import TopicPartition
from saga.log.kafka_client import Background, Cluster
from saga.log.kafka_follow import Followers
from saga.log.kafka_reader import KafkaReader
from tests.log.kafka_played import Played, batch
from tests.log.tools import take

HERE, THERE, ELSEWHERE = TopicPartition("pay.commands", 0), TopicPartition("pay.commands", 1), TopicPartition("ship.commands", 0)
TOPICS = {"pay.commands": 2, "ship.commands": 1}
OUT_OF_RANGE = 1


def out(partition: TopicPartition) -> Any:
    return KafkaPartition(*partition)


class Process:
    """What a process has: followers that its readers share."""

    def __init__(self, broker: Played, timeout: float = 5.0) -> None:
        self.cluster = Cluster(broker.bootstrap, timeout=timeout)
        self.background = Background()
        self.followers = Followers(self.cluster, self.background)

    def reader(self) -> KafkaReader:
        return KafkaReader(self.cluster, self.followers)


def play(scene: Callable[[Played, Process], Awaitable[None]], **more: float) -> None:
    async def whole() -> None:
        async with Played(**TOPICS) as broker:
            process = Process(broker, **more)
            try:
                await scene(broker, process)
            finally:
                process.followers.close()
                await process.background.finish()

    asyncio.run(whole())


def texts(records: list[Any]) -> list[str]:
    return [record.value.decode() for record in records]


def test_readers_of_a_process_share_one_session_that_names_what_has_changed() -> None:
    async def scene(broker: Played, process: Process) -> None:
        first, second = process.reader(), process.reader()
        await first.assign({HERE: 0, THERE: 0})
        await second.assign({ELSEWHERE: 0})
        broker.write(out(HERE), b"a", b"b")
        assert texts(await take(first, [HERE, THERE], 2)) == ["a", "b"]
        broker.write(out(ELSEWHERE), b"c")
        assert texts(await take(second, [ELSEWHERE], 1)) == ["c"]
        broker.write(out(HERE), b"d")
        assert texts(await take(first, [HERE, THERE], 1)) == ["d"]
        assert len(broker.sessions) == 1
        (epoch, wanted), *_ = broker.sessions.values()
        assert wanted.keys() == {out(HERE), out(THERE), out(ELSEWHERE)}
        assert epoch == len(broker.fetches)
        named = [sum(len(parts) for _, parts in request.topics) for request in broker.fetches]
        assert named[0] in (2, 3)
        assert max(named[2:], default=0) <= 1, named

    play(scene)


def test_two_readers_of_one_partition_each_get_all_of_it() -> None:
    async def scene(broker: Played, process: Process) -> None:
        readers = [process.reader(), process.reader()]
        for reader in readers:
            await reader.assign({HERE: 0})
        broker.write(out(HERE), b"a", b"b")
        for reader in readers:
            assert texts(await take(reader, [HERE], 2)) == ["a", "b"]

    play(scene)


def test_nobody_is_asked_while_nobody_waits_and_that_is_no_silence() -> None:
    async def scene(broker: Played, process: Process) -> None:
        reader = process.reader()
        await reader.assign({HERE: 0})
        assert await reader.fetch([HERE], limit=1, timeout=0.3) == []
        await asyncio.sleep(0.5)  # the long poll under way ends
        asked = len(broker.fetches)
        await asyncio.sleep(1.0)  # longer than the time limit
        assert len(broker.fetches) == asked
        assert await reader.fetch([HERE], limit=1, timeout=0.3) == []

    play(scene, timeout=0.8)


def test_after_an_answer_that_cannot_be_parsed_the_partition_is_asked_for_again() -> None:
    async def scene(broker: Played, process: Process) -> None:
        reader = process.reader()
        raw = bytearray(batch(0, b"a", b"b"))
        raw[-1] ^= 0xFF
        broker.write(out(HERE), b"a", b"b", data=bytes(raw))
        await reader.assign({HERE: 0})
        with pytest.raises(Unavailable, match="CRC"):
            await reader.fetch([HERE], limit=500, timeout=5)
        assert reader.position(HERE) == 0
        broker.logs[out(HERE)] = [(2, batch(0, b"a", b"b"))]  # it was on the way only
        for _ in range(3):  # what was fetched meanwhile may be broken as well
            try:
                assert texts(await take(reader, [HERE], 2)) == ["a", "b"]
                break
            except Unavailable:
                pass
        assert reader.position(HERE) == 2

    play(scene)


@pytest.mark.parametrize("nonsense", [bytes(70), batch(0, b"a")[:-1]], ids=["no batches", "half a batch"])
def test_bytes_that_are_no_batches_are_told_and_not_asked_for_without_end(nonsense: bytes) -> None:
    async def scene(broker: Played, process: Process) -> None:
        reader = process.reader()
        broker.write(out(HERE), b"a", data=nonsense)
        await reader.assign({HERE: 0})
        with pytest.raises(Unavailable):
            await reader.fetch([HERE], limit=1, timeout=5)
        await asyncio.sleep(0.3)
        assert len(broker.fetches) < 5

    play(scene)


def test_a_position_outside_is_told_to_its_own_reader_only() -> None:
    async def scene(broker: Played, process: Process) -> None:
        reader = process.reader()

        def refuse(request: Any) -> bytes | None:
            asked = {KafkaPartition(topic, part[0]) for topic, parts in request.topics for part in parts}
            if isinstance(request, FetchRequest_v11) and out(HERE) in asked:
                answer = FetchResponse_v11(0, 0, max(broker.sessions), [(HERE.topic, [(0, OUT_OF_RANGE, -1, -1, -1, [], -1, b"")])])
                return bytes(answer.encode())
            return None

        broker.fault = refuse
        await reader.assign({HERE: 99, THERE: 0})
        with pytest.raises(InputsLost, match=r"pay\.commands:0: position 99"):
            await reader.fetch([HERE], limit=1, timeout=5)
        broker.write(out(THERE), b"a")
        assert texts(await take(reader, [THERE], 1)) == ["a"]

    play(scene)


def test_a_session_that_was_forgotten_an_answer_that_was_lost_and_nonsense_change_nothing() -> None:
    async def scene(broker: Played, process: Process) -> None:
        reader = process.reader()
        await reader.assign({HERE: 0, THERE: 0})
        seen = []
        for number in range(12):
            broker.write(out(HERE), b"%d" % number)
            if number % 4 == 1:
                broker.sessions.clear()
            elif number % 4 == 2:
                broker.lose_answers = 1
            elif number % 4 == 3:
                broker.fault = once(b"\0\0\0\0\0\0\0\0\0\0\0\0\0\1\0\5only")
            seen += texts(await take(reader, [HERE, THERE], 1))
        assert seen == [str(number) for number in range(12)]

    def once(answer: bytes) -> Callable[[Any], bytes | None]:
        left = [answer]
        return lambda _: left.pop() if left else None

    play(scene)


def test_a_partition_is_followed_to_its_new_leader_and_others_are_not_held_up() -> None:
    async def scene(broker: Played, process: Process) -> None:
        reader = process.reader()
        await reader.assign({HERE: 0, THERE: 0})
        seen: dict[str, list[str]] = {HERE.topic: []}
        for number in range(4):
            broker.lead(out(HERE), 2 if number % 2 == 0 else 1)
            broker.write(out(THERE), b"there %d" % number)
            assert texts(await take(reader, [THERE], 1)) == [f"there {number}"]
            broker.write(out(HERE), b"here %d" % number)
            seen[HERE.topic] += texts(await take(reader, [HERE], 1))
        assert seen[HERE.topic] == [f"here {number}" for number in range(4)]

    play(scene)


def test_a_partition_that_nobody_takes_is_kept_up_to_a_bound_and_goes_on_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_follow, "KEPT_BYTES", 300)

    async def scene(broker: Played, process: Process) -> None:
        reader = process.reader()
        await reader.assign({HERE: 0, THERE: 0})
        for number in range(20):
            broker.write(out(HERE), b"%d" % number)
            broker.write(out(THERE), b"%d" % number)
            assert texts(await take(reader, [THERE], 1)) == [str(number)]
        (_, wanted), *_ = broker.sessions.values()
        assert out(HERE) not in wanted, "it is asked for, though nobody takes it"
        assert texts(await take(reader, [HERE], 20)) == [str(number) for number in range(20)]

    play(scene)


def test_one_full_answer_is_fetched_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a partition with much to read, beside idle ones, would get an answer for each long poll of theirs."""
    monkeypatch.setattr(kafka_follow, "KEPT_BYTES", len(batch(0, b"a")))

    async def scene(broker: Played, process: Process) -> None:
        reader, asked = process.reader(), list[bool]()
        await reader.assign({HERE: 0, THERE: 0})
        for _ in range(2):
            broker.write(out(HERE), b"a")
            for _ in range(3):  # so that the broker was asked since
                broker.write(out(THERE), b"b")
                await take(reader, [THERE], 1)
            (_, wanted), *_ = broker.sessions.values()
            asked.append(out(HERE) in wanted)
        assert asked == [True, False]

    play(scene)


def test_a_silent_broker_makes_it_unavailable_with_the_reason() -> None:
    async def scene(broker: Played, process: Process) -> None:
        reader = process.reader()
        await reader.assign({HERE: 0})
        broker.lose_answers = 10**6
        with pytest.raises(Unavailable, match=r"pay\.commands:0: no answer from its leader for \d s \(.*closed"):
            await reader.fetch([HERE], limit=1, timeout=30)
        broker.lose_answers = 0
        broker.write(out(HERE), b"a")
        assert texts(await take(reader, [HERE], 1)) == ["a"]

    play(scene, timeout=1.0)


@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_assigned_anew_and_wherever_nothing_is_lost_or_repeated(seed: int) -> None:
    async def scene(broker: Played, process: Process) -> None:
        chance, reader, all_of_it = random.Random(seed), process.reader(), [HERE, THERE, ELSEWHERE]
        wrote, at = dict.fromkeys(all_of_it, 0), dict.fromkeys(all_of_it, 0)
        await reader.assign(at)
        for _ in range(150):
            partition = chance.choice(all_of_it)
            match chance.randrange(6):
                case 0 | 1:
                    broker.write(out(partition), *(b"%d" % (wrote[partition] + more) for more in range(3)))
                    wrote[partition] += 3
                case 2:
                    await reader.unassign([partition])
                    at[partition] = chance.randint(0, wrote[partition])
                    await reader.assign({partition: at[partition]})
                case 3:
                    broker.sessions.clear()
                case _:
                    for record in await reader.fetch(all_of_it, limit=chance.randint(1, 9), timeout=0.01):
                        place = TopicPartition(record.topic, record.partition)
                        assert (record.offset, record.value) == (at[place], b"%d" % at[place])
                        at[place] += 1
        for partition in all_of_it:
            await take(reader, [partition], wrote[partition] - at[partition])
            assert reader.position(partition) == wrote[partition]

    play(scene)


def test_who_never_waits_is_given_what_comes_all_the_same() -> None:
    async def scene(broker: Played, process: Process) -> None:
        reader, seen = process.reader(), list[str]()
        await reader.assign({HERE: 0})
        broker.write(out(HERE), b"a")
        async with asyncio.timeout(5):
            while not seen:  # as a partition's task does while it writes a snapshot
                seen += texts(await reader.fetch([HERE], limit=1, timeout=0.0))
                await asyncio.sleep(0.01)
        assert seen == ["a"]

    play(scene)


def test_a_batch_that_cannot_be_unpacked_is_told_and_what_lies_around_it_is_not_skipped() -> None:
    async def scene(broker: Played, process: Process) -> None:
        reader = process.reader()
        broker.write(out(HERE), b"a")
        broker.write(out(HERE), b"b", data=packed_badly(batch(1, b"b")))
        broker.write(out(HERE), b"c")
        await reader.assign({HERE: 0})
        assert texts(await reader.fetch([HERE], limit=9, timeout=5)) == ["a"]
        for _ in range(2):
            with pytest.raises(Unavailable, match="cannot be unpacked"):
                await reader.fetch([HERE], limit=9, timeout=5)
            assert reader.position(HERE) == 1

    def packed_badly(data: bytes) -> bytes:
        """It says that it is gzip, and is not; its checksum is right."""
        rest = data[21:22] + bytes([data[22] | 1]) + data[23:]
        return data[:17] + int(calc_crc32c(rest)).to_bytes(4, "big") + rest

    play(scene)


def test_a_reader_that_connects_while_the_log_closes_leaves_nothing_open() -> None:
    async def scene(broker: Played, process: Process) -> None:
        reader = process.reader()
        assigning = asyncio.create_task(reader.assign({HERE: 0}))
        await asyncio.sleep(0)  # it has begun to connect
        process.followers.close()
        with pytest.raises(Unavailable, match="closed"):
            await assigning
        await process.background.finish()
        assert len(asyncio.all_tasks()) == 1 + len([task for task in broker._tasks if not task.done()])

    play(scene)
