"""What only the in-memory log can do: fail on purpose, crash, pause, and do it all again from the same seed."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from random import Random
from typing import Any

import pytest

from saga.errors import InputsLost, Rejected, Unavailable
from saga.log.base import Outgoing, Record, TopicPartition, TopicSpec
from saga.log.memory import Faults, MemoryLog
from saga.testing.clock import run
from tests.log.tools import TO, Owner, client, cluster, everything, outgoing, texts, values, waits


def test_a_lost_append_is_not_there() -> None:
    async def scenario() -> None:
        broker, witness = await cluster()
        log = await client(broker, "a", Faults(Random(1), append_lost=1))
        with pytest.raises(Unavailable):
            await log.append(TO, values("a"))
        await asyncio.sleep(100)
        assert await everything(witness, TO) == []

    run(scenario())


def test_an_append_whose_answer_is_lost_is_there() -> None:
    async def scenario() -> None:
        broker, witness = await cluster()
        log = await client(broker, "a", Faults(Random(1), append_answer_lost=1))
        with pytest.raises(Unavailable):
            await log.append(TO, values("a", "b"))
        assert texts(await everything(witness, TO)) == ["a", "b"]

    run(scenario())


def test_a_late_append_lands_whole_after_writes_of_others() -> None:
    async def scenario() -> None:
        broker, witness = await cluster()
        log = await client(broker, "a", Faults(Random(1), append_late=1, late_within=3))
        with pytest.raises(Unavailable):
            await log.append(TO, values("late 1", "late 2"))
        await witness.append(TO, values("other"))
        assert texts(await everything(witness, TO)) == ["other"]
        await asyncio.sleep(3)
        assert texts(await everything(witness, TO)) == ["other", "late 1", "late 2"]

    run(scenario())


def test_a_publish_that_fails_leaves_a_first_part() -> None:
    words = ["a", "b", "c", "d"]

    async def scenario(seed: int) -> int:
        broker, witness = await cluster()
        log = await client(broker, "a", Faults(Random(seed), publish_lost=1))
        with pytest.raises(Unavailable):
            await log.publish(outgoing(TO, *words))
        there = texts(await everything(witness, TO))
        assert there == words[: len(there)]
        return len(there)

    assert {run(scenario(seed)) for seed in range(40)} == {0, 1, 2, 3}


def test_a_late_publish_ends_up_whole() -> None:
    async def scenario(seed: int) -> None:
        broker, witness = await cluster()
        log = await client(broker, "a", Faults(Random(seed), publish_late=1, late_within=3))
        with pytest.raises(Unavailable):
            await log.publish(outgoing(TO, "a", "b", "c"))
        await asyncio.sleep(3)
        assert texts(await everything(witness, TO)) == ["a", "b", "c"]

    for seed in range(5):
        run(scenario(seed))


def test_copies_of_a_publish_come_later() -> None:
    async def scenario() -> None:
        broker, witness = await cluster()
        log = await client(broker, "a", Faults(Random(1), publish_twice=1, late_within=3))
        await log.publish(outgoing(TO, "a", "b", "c"))
        assert texts(await everything(witness, TO)) == ["a", "b", "c"]
        await asyncio.sleep(3)
        copies = texts(await everything(witness, TO))[3:]
        assert copies
        assert copies == ["a", "b", "c"][-len(copies) :]

    run(scenario())


def test_faults_come_as_often_as_asked_and_stop_when_healed() -> None:
    async def scenario() -> None:
        broker, witness = await cluster()
        faults = Faults(Random(1), append_lost=0.2, append_answer_lost=0.2, append_late=0.1, latency=0.1)
        log = await client(broker, "a", faults)

        async def failures() -> int:
            failed = 0
            for number in range(200):
                try:
                    await log.append(TO, values(str(number)))
                except Unavailable:
                    failed += 1
            return failed

        assert 70 < await failures() < 130
        faults.off()
        await asyncio.sleep(5)
        before = (await witness.bounds([TO]))[TO].end
        assert await failures() == 0
        assert (await witness.bounds([TO]))[TO].end == before + 200

    run(scenario())


def test_writes_of_one_client_keep_their_order_whatever_the_latency() -> None:
    async def scenario(seed: int) -> None:
        broker, witness = await cluster()
        log = await client(broker, "a", Faults(Random(seed), latency=1))
        started: list[str] = []

        async def publish(word: str) -> None:
            started.append(word)
            await log.publish(outgoing(TO, word))

        await asyncio.gather(*(publish(str(n)) for n in range(20)))
        assert texts(await everything(witness, TO)) == started

    for seed in range(5):
        run(scenario(seed), seed=seed)


def test_an_append_goes_on_when_its_caller_is_cancelled() -> None:
    async def scenario() -> None:
        broker, witness = await cluster()
        log = await client(broker, "a", Faults(Random(1), latency=1))
        task = asyncio.create_task(log.append(TO, values("a")))
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.sleep(1)
        assert task.cancelled()
        assert texts(await everything(witness, TO)) == ["a"]

    run(scenario())


def test_a_killed_client_never_returns_and_runs_no_clean_up() -> None:
    cleaned: list[str] = []

    async def scenario() -> None:
        broker, witness = await cluster()
        log = await client(broker, "a", Faults(Random(1), latency=1))
        reader = log.reader()
        await reader.assign({TO: 0})

        async def guarded(coroutine: Coroutine[Any, Any, Any]) -> None:
            try:
                await coroutine
            finally:
                cleaned.append("finally")

        tasks = [
            asyncio.create_task(guarded(each)) for each in (log.append(TO, values("a")), reader.fetch([TO], limit=1, timeout=5))
        ]
        await asyncio.sleep(0.01)
        log.kill()
        log.resume()  # a crash is for good
        await asyncio.sleep(100)
        later = (log.append(TO, values("b")), log.bounds([TO]), log.create([TopicSpec("u", 1)]), log.close(), reader.close())
        tasks += [await waits(each) for each in later]
        assert not any(task.done() for task in tasks)
        assert cleaned == []
        assert texts(await everything(witness, TO)) == ["a"]  # it was on its way
        assert await witness.describe(["u"]) == {}

    run(scenario())
    assert cleaned == ["finally"] * 2  # only when the whole run was over


def test_a_paused_client_goes_on_where_it_was() -> None:
    async def scenario() -> None:
        broker, witness = await cluster()
        log = await client(broker, "a")
        reader = log.reader()
        await reader.assign({TO: 0})
        fetching = asyncio.create_task(reader.fetch([TO], limit=10, timeout=5))
        await asyncio.sleep(1)
        log.pause()
        appending = await waits(log.append(TO, values("mine")))
        await witness.append(TO, values("other"))
        assert not fetching.done()
        log.resume()
        assert (await appending).offset == 1
        assert texts(await fetching)[0] == "other"

    run(scenario())


def test_while_the_broker_is_down_every_call_is_unavailable() -> None:
    async def scenario() -> None:
        broker, log = await cluster()
        reader = log.reader()
        await reader.assign({TO: 0})
        broker.up = False
        for call in (
            log.append(TO, values("a")),
            log.publish(outgoing(TO, "a")),
            log.bounds([TO]),
            reader.fetch([TO], limit=1, timeout=9),
        ):
            with pytest.raises(Unavailable):
                await call
        broker.up = True
        assert await everything(log, TO) == []

    run(scenario())


def test_a_topic_that_is_missing_or_was_made_anew() -> None:
    async def scenario() -> None:
        broker, log = await cluster()
        await log.append(TO, values("a", "b"))
        reader = log.reader()
        await reader.assign({TO: 2})
        fetching = asyncio.create_task(reader.fetch([TO], limit=1, timeout=60))
        await asyncio.sleep(1)
        broker.recreate("t")
        with pytest.raises(InputsLost):
            await fetching
        assert asyncio.get_running_loop().time() < 2, "a waiting fetch must be woken, not find out at its time-out"
        broker.delete_topic("t")
        with pytest.raises(Unavailable):
            await log.append(TO, values("c"))
        with pytest.raises(Unavailable):
            await reader.fetch([TO], limit=1, timeout=60)

    run(scenario())


def test_a_waiting_fetch_is_woken_by_an_assignment_and_by_close() -> None:
    async def scenario() -> None:
        _, log = await cluster()
        await log.append(TO, values("a"))
        reader = log.reader()
        fetching = await waits(reader.fetch([TO], limit=1, timeout=60), 1)
        await reader.assign({TO: 0})
        assert texts(await fetching) == ["a"]
        fetching = await waits(reader.fetch([TO], limit=1, timeout=60), 1)
        await reader.close()
        with pytest.raises(Unavailable):
            await fetching
        assert asyncio.get_running_loop().time() < 3

    run(scenario())


def test_a_topic_can_grow() -> None:
    async def scenario() -> None:
        broker, log = await cluster()
        broker.grow("t", 3)
        assert (await log.describe(["t"]))["t"].partitions == 3
        assert (await log.append(TopicPartition("t", 2), values("a"))).offset == 0

    run(scenario())


def test_a_batch_is_measured_over_keys_values_and_headers() -> None:
    async def scenario() -> None:
        _, log = await cluster()
        fits = Record(b"k" * 500_000, b"v" * 500_000, (("h", b"h" * 48_587),))
        assert (await log.append(TO, [fits])).offset == 0
        with pytest.raises(Rejected):
            await log.append(TO, [fits, Record(b"1", None)])
        with pytest.raises(Rejected):
            await log.publish([Outgoing(TO, Record(None, b"fits")), Outgoing(TO, Record(None, b"v" * 1_048_589))])
        assert (await log.bounds([TO]))[TO].end == 1

    run(scenario())


def test_a_client_that_is_not_open_says_so() -> None:
    async def scenario() -> None:
        broker, log = await cluster()
        with pytest.raises(RuntimeError, match="not open"):
            await MemoryLog(broker, "never opened").bounds([TO])
        await log.close()
        with pytest.raises(RuntimeError, match="not open"):
            await log.append(TO, values("a"))

    run(scenario())


def _play(seed: int) -> list[tuple[int, int, bytes | None]]:
    """A script with every fault, two writers, a group and a crash; what stands in the end."""

    async def scenario() -> list[tuple[int, int, bytes | None]]:
        random = Random(seed)
        broker, witness = await cluster(2)
        changed = asyncio.Condition()
        logs = []
        for name in ("a", "b", "c"):
            faults = Faults(random, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, latency=0.05)
            logs.append(await client(broker, name, faults))
            await logs[-1].join("g", "t", Owner(changed))

        async def write(log: MemoryLog) -> None:
            for number in range(40):
                to, word = TopicPartition("t", number % 2), f"{log.name}{number}"
                try:
                    await log.append(to, values(word))
                    await log.publish(outgoing(to, f"{word} p", f"{word} q"))
                except Unavailable:
                    await asyncio.sleep(random.uniform(0, 0.1))

        writing = [asyncio.create_task(write(log)) for log in logs]
        await asyncio.sleep(1)
        logs[0].kill()
        await asyncio.gather(*writing[1:])
        await asyncio.sleep(20)
        return [(r.offset, r.timestamp, r.value) for n in range(2) for r in await everything(witness, TopicPartition("t", n))]

    return run(scenario(), seed=seed)


def test_the_same_seed_gives_the_same_log() -> None:
    plays = [_play(seed) for seed in range(5)]
    assert plays == [_play(seed) for seed in range(5)]
    assert all(len(play) > 100 for play in plays)
    assert len({tuple(play) for play in plays}) == 5
