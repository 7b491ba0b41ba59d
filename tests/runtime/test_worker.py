"""The worker and its tasks: they come and go in order, what one cannot do does not stop the others, and nothing is said twice."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any

import pytest

from saga.engine.messages import REQUESTS
from saga.errors import Misconfigured
from saga.log.base import Log, Outgoing, Record, TopicPartition, TopicSpec
from saga.log.memory import MemoryBroker, MemoryLog
from saga.metrics import Metrics
from saga.runtime.codec import JOURNAL, decode
from saga.runtime.fold import Fold
from saga.runtime.task import SUCCESSORS, Phase
from saga.runtime.worker import LOOK_AROUND_SECONDS, Worker, WorkerSettings
from saga.testing.clock import run
from tests.runtime.kit import specs
from tests.runtime.shop import PARTITIONS, shop
from tests.simulation.sagas import book


async def client(broker: MemoryBroker, name: str = "") -> MemoryLog:
    log = MemoryLog(broker, name)
    await log.open()
    return log


def journal(broker: MemoryBroker, number: int) -> Fold:
    tp = TopicPartition(JOURNAL, number)
    fold = Fold(tp)
    for record in broker.slice(tp, *broker.bounds(tp)):
        fold.feed(record)
    return fold


def claims(broker: MemoryBroker) -> list[str]:
    tps = [TopicPartition(JOURNAL, number) for number in range(PARTITIONS)]
    values = [decode(record) for tp in tps for record in broker.slice(tp, *broker.bounds(tp))]
    return [value["owner"] for value in values if value["kind"] == "claim"]


def test_every_phase_can_be_reached_and_left_and_closed_is_the_end() -> None:
    assert set(SUCCESSORS) == set(Phase)
    assert all(Phase.CLOSED in after for phase, after in SUCCESSORS.items() if phase is not Phase.CLOSED)
    assert SUCCESSORS[Phase.CLOSED] == ()
    assert SUCCESSORS[Phase.STOPPED] == (Phase.CLOSED,), "a stopped partition waits for a person"
    reached = {after for successors in SUCCESSORS.values() for after in successors}
    assert reached == set(Phase)


def test_a_graceful_stop_publishes_what_was_decided_and_leaves_at_once() -> None:
    async def scene() -> None:
        broker = MemoryBroker(session_timeout=1000, rebalance_timeout=1000)
        loop = asyncio.get_running_loop()
        async with shop(await client(broker)) as place:
            await place.order()
        stopped = loop.time()
        assert not place.worker.tasks
        other = Worker(book(), await client(broker), WorkerSettings(PARTITIONS, "earliest", owner="bob"), Metrics())
        working = asyncio.create_task(other.run())
        await place.until(lambda: bool(other.tasks) and other.ready, "the next worker")
        assert loop.time() - stopped < 5, "the next one had to wait for a time-out of the group"
        assert all(not task.fold().unpublished for task in other.tasks.values())
        other.stop()
        await working

    run(scene())


def test_what_comes_back_goes_on_from_the_fold_it_had() -> None:
    async def scene() -> None:
        broker = MemoryBroker()
        async with shop(await client(broker)) as place:
            for _ in range(2):
                await place.order()
            folds = {number: task.fold() for number, task in place.worker.tasks.items()}
            await place.worker.revoked(frozenset(folds))
            place.worker.assigned(frozenset(folds))
            await place.until(lambda: place.worker.ready, "the partitions to be back")
            assert {number: task.fold() is folds[number] for number, task in place.worker.tasks.items()} == {0: True, 1: True}
            await place.order()
            for number, task in place.worker.tasks.items():
                assert task.fold().canonical() == journal(broker, number).canonical()

    run(scene())


def test_a_partition_that_is_stopped_does_not_stop_the_others_and_says_why() -> None:
    async def scene() -> None:
        broker = MemoryBroker()
        log = await client(broker)
        await log.create(specs(PARTITIONS))
        broker.append(TopicPartition(JOURNAL, 0), [Record(None, b"garbage")])
        worker = Worker(book(), log, WorkerSettings(PARTITIONS, "earliest", owner="ann"), Metrics())
        working = asyncio.create_task(worker.run())
        async with asyncio.timeout(60):
            while {task.phase for task in worker.tasks.values()} != {Phase.STOPPED, Phase.RUNNING}:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        assert worker.status()[1] == "running"
        assert "Corrupt: saga.journal:0:0 is no journal record" in worker.status()[0]
        assert not worker.ready
        worker.stop()
        await working

    run(scene())


def test_a_changed_definition_without_a_new_version_ends_the_worker_with_the_difference() -> None:
    async def scene() -> None:
        broker = MemoryBroker()
        async with shop(await client(broker)) as place:
            await place.order()
        graph = book().sagas["order"].graph
        before = graph.hash, graph.outline
        graph.hash, graph.outline = "changed", {name: text for name, text in graph.outline.items() if name != "greet"}
        try:
            worker = Worker(book(), await client(broker), WorkerSettings(PARTITIONS, "earliest", owner="bob"), Metrics())
            with pytest.raises(Misconfigured, match=r"order version 1 changed, but its version did not(.|\n)*greet"):
                await worker.run()
        finally:
            graph.hash, graph.outline = before
        assert set(claims(broker)) == {"ann"}, "it claimed all the same"

    run(scene())


def narrow(topic: str) -> tuple[TopicSpec, ...]:
    """The topic with one partition, which the owner of number 0 reads."""
    return tuple(TopicSpec(spec.name, 1, 1, spec.config) for spec in specs(PARTITIONS) if spec.name == topic)


def test_a_deleted_input_topic_stops_only_who_reads_it_until_its_loss_is_accepted() -> None:
    async def scene() -> None:
        broker = MemoryBroker()
        async with shop(await client(broker), narrow("order.events")) as place:
            orders = TopicPartition("order.events", 0)
            broker.append(orders, [Record(b"k", b"{}", (("ce_type", b"order.viewed.v1"),))])
            await place.until(lambda: place.worker.tasks[0].positions()[orders].offset == 1, "the position to be written down", 100)
            broker.delete_topic("order.events")
            await place.until(lambda: place.worker.tasks[0].phase is Phase.STOPPED, "the reader of the topic to stop")
            claimed = claims(broker)
            await asyncio.sleep(60)
            status = place.worker.status()
            assert status[1] == "running", "what never read the topic stopped with it"
            assert "InputsLost: topic order.events was deleted" in status[0]
            assert "--accept-loss order.events:0" in status[0]
            assert not place.worker.ready
            assert place.count("saga_partition_phase", partition="0", phase="stopped") == 1
            assert claims(broker) == claimed, "it claimed its partition over and over"
            await place.worker.revoked(frozenset({0, 1}))
            place.worker.assigned(frozenset({0, 1}))
            await place.until(lambda: place.worker.status()[1] == "running", "the other partition to be back")
            await place.until(lambda: place.worker.tasks[0].phase is Phase.STOPPED, "it to stop again after a rebalance")
        with pytest.raises(Misconfigured, match=r"there is no topic order\.events; create it"):
            await Worker(book(), await client(broker), WorkerSettings(PARTITIONS, "earliest"), Metrics()).run()
        broker.create(narrow("order.events"))
        log = await client(broker)
        stopped = Worker(book(), log, WorkerSettings(PARTITIONS, "earliest", owner="bob"), Metrics())
        assert "ends at 0, before the position 1" in (await problems(stopped))[0]
        accepting = Worker(book(), log, WorkerSettings(PARTITIONS, "earliest", owner="cid", accept_loss=[orders]), Metrics())
        assert await problems(accepting) == ["", ""]

    run(scene())


async def problems(worker: Worker) -> list[str]:
    """Of each partition, once it runs or has stopped."""
    working = asyncio.create_task(worker.run())
    async with asyncio.timeout(60):
        while not worker.tasks or {task.phase for task in worker.tasks.values()} - {Phase.STOPPED, Phase.RUNNING}:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    found = [worker.tasks[number].problem for number in range(PARTITIONS)]
    worker.stop()
    await working
    return found


def test_a_topic_that_is_missing_for_a_moment_stops_nobody() -> None:
    """As where a broker has just come up and does not know all topics yet."""

    async def scene() -> None:
        broker = MemoryBroker()
        log = Forgetful(await client(broker))
        async with shop(log) as place:
            looks = log.looks
            log.forgets = 1
            await place.until(lambda: log.looks > looks + 2, "three looks at the topics")
            assert set(place.worker.status().values()) == {"running"}
            await place.order()

    run(scene())


class Forgetful:
    """A log that does not know one topic, for as many looks as the test says."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.looks = self.forgets = 0

    async def describe(self, topics: Collection[str]) -> dict[str, TopicSpec]:
        self.looks += 1
        found = await self.log.describe(topics)
        if self.forgets:
            self.forgets -= 1
            del found["order.events"]
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self.log, name)


@pytest.mark.parametrize(
    ("missing", "says"), [("order.events", "there is no topic order.events"), (REQUESTS, "no topic saga.requests")]
)
def test_a_worker_without_its_topics_does_not_begin(missing: str, says: str) -> None:
    async def scene() -> None:
        log = await client(MemoryBroker())
        await log.create([spec for spec in specs(PARTITIONS) if spec.name != missing])
        with pytest.raises(Misconfigured, match=says):
            await Worker(book(), log, WorkerSettings(PARTITIONS, "earliest"), Metrics()).run()

    run(scene())


def test_an_app_with_another_number_of_partitions_does_not_begin() -> None:
    async def scene() -> None:
        log = await client(MemoryBroker())
        await log.create(specs(PARTITIONS))
        with pytest.raises(Misconfigured, match=r"saga\.requests has 2 partitions; the app says 5"):
            await Worker(book(), log, WorkerSettings(5, "earliest"), Metrics()).run()

    run(scene())


def test_a_topic_that_is_no_longer_needed_stops_nobody() -> None:
    """Its position stays in the journal; reading its end for the timers once stopped every partition that had one."""

    async def scene() -> None:
        broker = MemoryBroker()
        log: Log = await client(broker)
        async with shop(log) as place:
            await place.order()
            number, task = next(iter(place.worker.tasks.items()))
            gone = TopicPartition("gone.events", number)
            task._inputs.positions[gone] = task._inputs.positions[TopicPartition("order.events", number)]
            while gone not in task.positions():
                await place.order()
            await place.worker.revoked(frozenset(range(PARTITIONS)))
            place.worker.assigned(frozenset(range(PARTITIONS)))
            await place.until(lambda: place.worker.ready, "the partitions to be back")
            for participant in place.participants:
                participant.cancel()
            for _ in range(4):
                await place.place()
            await asyncio.sleep(60)  # nobody answers: timers fire, and ask for the ends of all that is read
            assert set(place.worker.status().values()) == {"running"}
            for one in place.worker.tasks.values():
                assert any(step.attempt > 1 for state in one.fold().states() for step in state.steps.values()), "no timer fired"
            assert gone in place.worker.tasks[number].positions(), "its position must be kept: the topic may be needed again"

    run(scene())


def test_lag_tools_are_told_how_far_the_requests_are_read_and_nothing_else() -> None:
    """Positions are in the journal. A group that had offsets of a team's own topics would show lag in topics that it does not consume."""

    async def scene() -> None:
        async with shop(await client(MemoryBroker())) as place:
            await place.order()
            await place.log.publish(
                [Outgoing(TopicPartition(REQUESTS, number), Record(b"k", b"{}")) for number in range(PARTITIONS)]
            )
            await asyncio.sleep(2 * LOOK_AROUND_SECONDS)
            membership = place.worker._membership
            assert membership is not None
            read = [tp for task in place.worker.tasks.values() for tp in task.positions()]
            assert {tp.topic for tp in read} > {REQUESTS}
            ends = await place.log.bounds([tp for tp in read if tp.topic == REQUESTS])
            assert await membership.committed(read) == {tp: held.end for tp, held in ends.items()}

    run(scene())
