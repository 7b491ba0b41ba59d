"""What the relay tells, and when."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from saga.cloudevents import header_fields
from saga.errors import Misconfigured
from saga.log.base import Outgoing, Record, TopicPartition, TopicSpec
from saga.log.memory import MemoryBroker, MemoryLog
from saga.participant import NoMeter, Settings, Store, outbox
from saga.participant.outbox import Departure
from saga.participant.relay import Relay
from saga.testing.clock import run
from tests.participant.conftest import Drive
from tests.participant.kit import Ids, NotePayment, Payment, World, command

EVENTS = TopicPartition("payment.events", 0)


class Slow(MemoryLog):
    """A log that acknowledges nothing until it is let to."""

    def __init__(self, broker: MemoryBroker) -> None:
        super().__init__(broker, "slow")
        self.acknowledges = asyncio.Event()

    async def publish(self, records: Sequence[Outgoing]) -> None:
        await self.acknowledges.wait()
        await super().publish(records)


def test_a_reply_counts_as_out_only_once_the_log_has_it(tmp_path: Path) -> None:
    """Its command's offset is committed then: a crash in between would leave a command that nobody reads again, and no answer to it."""

    async def scene() -> None:
        broker = MemoryBroker()
        log, store, told = Slow(broker), Store(f"sqlite:///{tmp_path / 'payment.db'}"), list[int]()
        await log.open()
        await log.create([TopicSpec(EVENTS.topic, 1)])
        relay = Relay("payment", store, log, Settings(), NoMeter())
        working = asyncio.create_task(relay.run())
        relay.reply(Departure(EVENTS.topic, 0, Record(b"k", b"{}")), lambda: told.append(broker.bounds(EVENTS).end))
        await asyncio.sleep(5)
        assert not told, "it was told before it was acknowledged"
        log.acknowledges.set()
        await asyncio.sleep(5)
        assert told == [1]
        working.cancel()
        store.close()

    run(scene())


def test_two_participants_on_one_store_are_refused(tmp_path: Path) -> None:
    """One would publish what the other has to say, after the other's answers perhaps."""

    async def scene() -> None:
        log, store = MemoryLog(MemoryBroker()), Store(f"sqlite:///{tmp_path / 'payment.db'}")
        await log.open()
        first = asyncio.create_task(Relay("payment", store, log, Settings(), NoMeter()).run())
        await asyncio.sleep(0)
        with pytest.raises(Misconfigured, match="this Store has a runner already"):
            await Relay("stock", store, log, Settings(), NoMeter()).run()
        first.cancel()
        store.close()

    run(scene())


def test_what_is_out_is_not_sent_again_while_its_row_is_being_deleted(tmp_path: Path) -> None:
    async def scene() -> None:
        broker = MemoryBroker()
        log, store = MemoryLog(broker), Store(f"sqlite:///{tmp_path / 'payment.db'}")
        await log.open()
        await log.create([TopicSpec(EVENTS.topic, 1)])
        relay = Relay("payment", store, log, Settings(), NoMeter())
        working = asyncio.create_task(relay.run())
        said = Departure(EVENTS.topic, 0, Record(b"k", b"{}"))
        await store.run(lambda connection: outbox.put(connection, [said], relay.id, 0))
        await relay.drained()
        async with relay.forgetting() as ids:
            assert len(ids) == 1
            await relay.drained()  # it looks, and the row is still there
        assert broker.bounds(EVENTS).end == 1
        working.cancel()
        store.close()

    run(scene())


def test_an_answer_given_again_comes_after_the_events_that_another_process_left(drive: Drive) -> None:
    """Whoever answered first may be gone, with its events still in the outbox; their key's order is promised all the same."""

    async def story(world: World) -> None:
        payment, ids = Payment(), Ids("o-1")
        await world.start(payment)
        await world.send(command(NotePayment(note="x"), ids))
        first = await world.reply(ids.command())
        before = len(await world.records())
        left = Departure(
            "payment.events", first.partition, Record(b"o-1", b"{}", (("ce_type", b"payment.left.v1"), ("ce_id", b"left")))
        )
        await world.store.run(lambda connection: outbox.put(connection, [left], "another process", world.now()))
        await world.send(command(NotePayment(note="x"), ids, attempt=2))
        await world.reply(ids.command(), 2)
        told = [header_fields(record.headers)["id"] for record in await world.records() if record.partition == first.partition]
        assert len(await world.records()) == before + 2
        assert told[-2:] == ["left", header_fields(first.headers)["id"]]

    drive(story)
