"""What a partition task leaves behind: positions that retention cannot overtake, and nothing of itself beside its successor."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from saga.engine.book import Book
from saga.errors import InputsLost, Unavailable
from saga.log.base import Appended, Record, TopicPartition
from saga.metrics import Metrics
from saga.runtime.batch import Place
from saga.runtime.codec import checksum, decode
from saga.runtime.fold import Fold, Position, positions_json
from saga.runtime.inputs import Inputs
from saga.runtime.journal import JournalSettings
from saga.runtime.task import MOVED_SECONDS, PartitionTask, Phase, Surroundings
from saga.testing.clock import run
from tests.runtime.kit import HERE, ORDERS, TOPICS, Counting, Pen, open_log, placed, records
from tests.runtime.test_batch import saga_by
from tests.simulation.sagas import book

COUNTS = {name: 1 for name in TOPICS if name == "saga.requests" or (name.endswith(".events") and not name.startswith("saga."))}


def surroundings(log: Any) -> Surroundings:
    settings = JournalSettings(1, "ann", {})
    reader = log.reader()
    return Surroundings(log, reader, lambda n: Place(n, 1, book()), settings, "earliest", COUNTS, Metrics(), Random(1))


async def until(task: PartitionTask, *phases: Phase) -> None:
    for _ in range(1000):
        if task.phase in phases:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"it is {task.phase}, not {phases}")


def foreign(number: int) -> Record:
    """An event on a topic of ours that no saga names."""
    return Record(b"k", b"{}", (("ce_type", b"order.viewed.v1"), ("ce_id", str(number).encode()), ("ce_source", b"shop")))


def test_retention_may_delete_what_was_read_though_nothing_of_it_was_decided() -> None:
    async def story() -> None:
        log = await open_log()
        here = surroundings(log)
        task = PartitionTask(here, 0)
        task.start()
        await until(task, Phase.RUNNING)
        log.broker.append(ORDERS, [foreign(number) for number in range(50)])
        await asyncio.sleep(MOVED_SECONDS * 1.5)
        journal = log.broker.bounds(HERE).end
        await asyncio.sleep(MOVED_SECONDS * 3)
        assert log.broker.bounds(HERE).end == journal, "a position that did not move was written down again and again"
        await task.close(1)
        log.broker.trim(ORDERS, 50)
        again = PartitionTask(here, 0)
        again.start()
        await until(again, Phase.RUNNING, Phase.STOPPED)
        assert again.problem == "", "inputs that were read long ago count as lost: the partition stops for nothing"
        await again.close(1)

    run(story())


def test_what_was_sent_is_marked_though_nothing_is_decided_after_it() -> None:
    """The next owner may come in ten days, when whoever was started by it is forgotten: told again, it would start once more (S28)."""

    async def story() -> None:
        log = await open_log()
        task = PartitionTask(surroundings(log), 0)
        task.start()
        await until(task, Phase.RUNNING)
        log.broker.append(ORDERS, [Record(record.key, record.value, record.headers) for record in [placed("a")]])
        await asyncio.sleep(MOVED_SECONDS * 0.5)
        for wait, left in ((0, 1), (MOVED_SECONDS, 0), (MOVED_SECONDS * 3, 0)):
            await asyncio.sleep(wait)
            fold, end = Fold(HERE), log.broker.bounds(HERE).end
            for record in log.broker.slice(HERE, 0, end):
                fold.feed(record)
            assert len(fold.unpublished) == left
        assert not task._journal.unmarked, "what is marked is marked again and again"
        await task.close(1)

    run(story())


def test_a_position_behind_markers_of_foreign_transactions_still_knows_the_last_record() -> None:
    async def story() -> None:
        log = await open_log()
        log.broker.append(ORDERS, [foreign(number) for number in range(5)])
        inputs = Inputs(log, 0, 1, "earliest")
        inputs.topics = dict(COUNTS)
        second = log.broker.slice(ORDERS, 1, 2)[0]
        inputs.positions[ORDERS] = Position(2, checksum(second))
        inputs.reached(ORDERS, 4)  # had 2 and 3 been markers
        inputs.reached(ORDERS, 5)
        assert inputs.positions[ORDERS] == Position(5, checksum(second), 3)
        where, _ = await inputs.find(COUNTS, ())
        assert where[ORDERS] == 5
        inputs.positions[ORDERS] = Position(5, checksum(second) + 1, 3)
        with pytest.raises(InputsLost, match="another record stands at 1 than was read there"):
            await inputs.find(COUNTS, ())
        log.broker.trim(ORDERS, 5)
        await inputs.find(COUNTS, ())

    run(story())


def test_the_gap_of_a_position_is_in_the_journal_and_an_older_journal_has_none() -> None:
    async def story() -> None:
        log = await open_log()
        pen = await Pen(log).open()
        other = TopicPartition("mail.events", 0)
        pen.positions |= {ORDERS: Position(7, 5, 3), other: Position(4, 9)}
        assert positions_json(pen.positions) == {"order.events:0": (7, 5, 3), "mail.events:0": (4, 9)}
        await pen.commit()
        fold = Fold(HERE)
        for record in log.broker.slice(HERE, 0, log.broker.bounds(HERE).end):
            fold.feed(record)
        assert fold.positions == {ORDERS: Position(7, 5, 3), other: Position(4, 9, 0)}
        assert fold.canonical() == pen.fold.canonical()

    run(story())


@pytest.mark.parametrize(
    ("header", "text", "value", "kept"),
    [
        pytest.param("ce_id", "i" * 200_000, b"1", True, id="each id is large"),
        pytest.param("ce_id", "\x01" * 200_000, b"1", False, id="each id is larger still as JSON"),
        pytest.param("traceparent", "\x01" * 200_000, b"1", False, id="so is a header"),
        pytest.param("traceparent", "t", b"[" + b",".join([b"1e15"] * 50_000) + b"]", False, id="so are numbers"),
    ],
)
def test_inputs_that_are_larger_in_the_journal_than_they_came_stop_no_partition(
    header: str, text: str, value: bytes, kept: bool
) -> None:
    async def story() -> None:
        log = await open_log()
        task = PartitionTask(surroundings(log), 0)
        for number in range(30):
            first = placed(f"o{number}")
            headers = (*(each for each in first.headers if each[0] != header), (header, f"{number}{text}".encode()))
            more = b'{"order_id":"o%d","total":7,"more":%s}' % (number, value)
            log.broker.append(ORDERS, [Record(first.key, more, headers)])
        task.start()
        await asyncio.sleep(30)
        assert (str(task.phase), task.problem) == ("running", ""), "a batch that no log takes comes again after every restart"
        letters = log.broker.bounds(TopicPartition("saga.deadletter", 0)).end
        assert (len(task.fold().instances), letters) == ((30, 0) if kept else (0, 30))
        await task.close(1)

    run(story())


@pytest.mark.parametrize("lost", [False, True])
def test_an_event_that_is_more_than_a_batch_for_all_its_sagas_together_starts_each_once(lost: bool) -> None:
    """`lost`: the owner does not get to know what became of its second batch, and goes over the event again."""

    async def story() -> None:
        memory = await open_log()
        log = Counting(memory)
        sagas = Book([saga_by(f"s{n}", lambda event: event.order_id) for n in range(30)])
        task = PartitionTask(replace(surroundings(log), place=lambda n: Place(n, 1, sagas)), 0)
        task.start()
        await until(task, Phase.RUNNING)
        before = len(log.appends)

        async def spoil(to: TopicPartition, records: Sequence[Record]) -> Appended:
            if len(log.appends) == before + 1:
                log.spoil = spoil
                return await log.log.append(to, records)
            raise Unavailable("no answer")

        log.spoil = spoil if lost else None
        large, small = placed("a", note="x" * 250_000), placed("b")
        memory.broker.append(ORDERS, [Record(each.key, each.value, each.headers) for each in (large, small)])
        await asyncio.sleep(30)
        assert (str(task.phase), task.problem) == ("running", ""), "all of an event in one batch is more than the journal takes"
        assert log.spoil is None
        assert len({state.id for state in task.fold().states()}) == 60
        assert task.positions()[ORDERS].offset == 2
        notes = Counter(value["note"] for value in map(decode, await records(log)) if value["kind"] == "decision")
        assert notes["started"] == 60
        assert (notes["duplicate"] > 0) is lost
        await task.close(1)

    run(story())


def test_a_task_whose_close_is_cut_short_leaves_its_successor_alone() -> None:
    """The group waits for so long and no longer. What is appended then must not come back to the reader that both share."""

    async def story() -> None:
        log = Counting(await open_log())
        here = surroundings(log)
        old = PartitionTask(here, 0)
        old.start()
        await until(old, Phase.RUNNING)
        held, answer = asyncio.Event(), asyncio.Event()

        async def spoil(_to: TopicPartition, _records: Sequence[Record]) -> Appended:
            held.set()
            await answer.wait()
            raise Unavailable("no answer")

        log.spoil = spoil
        first = placed("o1")
        log.broker.append(ORDERS, [Record(first.key, first.value, first.headers)])
        await held.wait()
        closing = asyncio.create_task(old.close(5))
        await asyncio.sleep(1)
        closing.cancel()
        await asyncio.wait([closing])
        new = PartitionTask(here, 0)
        new.start()
        await until(new, Phase.RUNNING)
        answer.set()
        await asyncio.sleep(1)
        second = placed("o2")
        log.broker.append(ORDERS, [Record(second.key, second.value, second.headers)])
        await asyncio.sleep(10)
        assert (str(new.phase), new.problem) == ("running", "")
        assert sorted(state.key for state in new.fold().states()) == ["o1", "o2"], "an order is never read: its partition is deaf"
        assert old.phase is Phase.CLOSED
        await new.close(1)

    run(story())
