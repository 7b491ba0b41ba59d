"""What the log refuses for good is set aside and holds up nobody: what an orchestrator decided, and what a service says."""

from __future__ import annotations

import asyncio
from pathlib import Path

from sqlalchemy import select

from saga import Participant, Work
from saga.cloudevents import header_fields
from saga.deadletter import SAMPLE, publish_or_set_aside
from saga.engine.messages import DEADLETTERS, Command, Event
from saga.log.base import Outgoing, Record, StoredRecord, TopicPartition, TopicSpec
from saga.log.memory import MemoryBroker, MemoryLog
from saga.participant import ParticipantRunner, Store
from saga.participant.outbox import table
from saga.testing.clock import run
from tests.log.tools import values
from tests.participant.kit import Ids, command, eventually

SMALL = {"max.message.bytes": "100000"}
LARGE = "x" * 200_000


async def opened(*topics: TopicSpec) -> MemoryLog:
    log = MemoryLog(MemoryBroker())
    await log.open()
    await log.create([*topics, TopicSpec(DEADLETTERS, 1)])
    return log


async def everything(log: MemoryLog, topic: str) -> list[StoredRecord]:
    where = TopicPartition(topic, 0)
    held = (await log.bounds([where]))[where]
    return [record async for lump in log.read(where, held.start, held.end) for record in lump]


def test_the_others_are_published_and_the_refused_one_is_kept_with_the_reason() -> None:
    async def scene() -> None:
        log, told = await opened(TopicSpec("pay.commands", 1, 1, SMALL)), list[str]()
        before, after = values("before", "after")
        records = [before, Record(b"k", LARGE.encode(), (("ce_type", b"pay.take.v1"),)), after]
        await publish_or_set_aside(log, [Outgoing(TopicPartition("pay.commands", 0), record) for record in records], told.append)
        assert told == ["pay.commands"]
        assert [record.value for record in await everything(log, "pay.commands")] == [b"before", b"after"]
        (aside,) = await everything(log, DEADLETTERS)
        fields = header_fields(aside.headers)
        assert (fields["type"], fields["sagareason"]) == ("pay.take.v1", "too-large")
        assert "pay.commands:0" in fields["sagadetail"]
        assert aside.value == LARGE.encode()[:SAMPLE]

    run(scene())


def test_where_not_even_its_beginning_is_taken_it_is_told_that_there_was_one() -> None:
    async def scene() -> None:
        log = MemoryLog(MemoryBroker())
        await log.open()
        await log.create([TopicSpec("pay.commands", 1, 1, SMALL), TopicSpec(DEADLETTERS, 1, 1, {"max.message.bytes": "10000"})])
        large = Outgoing(TopicPartition("pay.commands", 0), Record(b"k", LARGE.encode()))
        await publish_or_set_aside(log, [large], lambda _: None)
        (aside,) = await everything(log, DEADLETTERS)
        assert (aside.value, header_fields(aside.headers)["sagareason"]) == (None, "too-large")

    run(scene())


class Done(Event, type="big.done.v1"): ...


class Fact(Event, type="big.fact.v1"):
    text: str


class Do(Command[Done], service="big"): ...


big = Participant("big")


@big.handles(Do)
def do(_: Do, work: Work) -> Done:
    work.emit(Fact(text=LARGE))
    return Done()


def test_an_event_of_a_service_that_its_topic_does_not_take_is_kept_there_too(tmp_path: Path) -> None:
    async def story() -> None:
        log = await opened(TopicSpec("big.commands", 1), TopicSpec("big.events", 1, 1, SMALL))
        store, stop = Store(f"sqlite:///{tmp_path / 's.db'}"), asyncio.Event()
        running = asyncio.create_task(ParticipantRunner(big, store, log).run(stop))
        await log.publish([Outgoing(TopicPartition("big.commands", 0), command(Do(), Ids("k1")))])

        async def replied() -> bool:
            return [header_fields(record.headers)["type"] for record in await everything(log, "big.events")] == ["big.done.v1"]

        await eventually(replied, lambda: "the reply")
        stop.set()
        await running
        (aside,) = await everything(log, DEADLETTERS)
        assert header_fields(aside.headers)["type"] == "big.fact.v1"
        with store.read() as connection:
            assert connection.execute(select(table.c.id)).all() == []
        store.close()

    asyncio.run(story())
