"""A whole shop on any log: the production Worker, participants that always say yes, and what became of an order or a bad record."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import orjson

from saga.engine.messages import DEADLETTERS, commands_topic, events_topic
from saga.engine.state import Phase
from saga.log.base import Headers, Log, Outgoing, Record, StoredRecord, TopicPartition, TopicSpec
from saga.log.partition import home
from saga.metrics import Metrics
from saga.runtime.states import Slot
from saga.runtime.worker import Worker, WorkerSettings
from tests.runtime.kit import REPLIES, specs
from tests.simulation.sagas import SERVICES, book

PARTITIONS = 2
PATIENCE = 60.0  # seconds until something must have happened


class Shop:
    def __init__(self, log: Log, partitions: int = PARTITIONS) -> None:
        self.log = log
        self.partitions = partitions
        self.metrics = Metrics(["order", *(step for step in REPLIES), "order.events"])
        self.worker = Worker(book(), log, WorkerSettings(partitions, "earliest", owner="ann"), self.metrics)
        self.orders = 0
        self.participants: list[asyncio.Task[None]] = []

    async def participant(self, service: str) -> None:
        """Answers each command with `done`: nothing here compensates."""
        reader = self.log.reader()
        mine = [TopicPartition(commands_topic(service), n) for n in range(self.partitions)]
        await reader.assign(dict.fromkeys(mine, 0))
        while True:
            for record in await reader.fetch(mine, limit=100, timeout=5):
                await self.log.publish([self.answer(service, record)])

    def answer(self, service: str, record: StoredRecord) -> Outgoing:
        given = {name: value for name, value in record.headers if name in ("ce_sagacommand", "ce_sagaattempt")}
        _, type, data = REPLIES[given["ce_sagacommand"].decode().split(":")[3]]
        headers: Headers = (
            ("ce_id", given["ce_sagacommand"] + b":reply"),
            ("ce_type", type.encode()),
            ("ce_source", service.encode()),
            ("ce_sagaoutcome", b"done"),
            *given.items(),
        )
        return Outgoing(TopicPartition(events_topic(service), record.partition), Record(record.key, orjson.dumps(data), headers))

    async def order(self) -> str:
        """Place a good order and see it completed; gives its instance id."""
        return await self.completed(await self.place())

    async def place(self) -> str:
        self.orders += 1
        key = f"good-{self.orders}"
        headers: Headers = (("ce_id", key.encode()), ("ce_source", b"order"), ("ce_type", b"order.placed.v1"))
        to = TopicPartition("order.events", home(key, self.partitions))
        await self.log.publish([Outgoing(to, Record(key.encode(), orjson.dumps({"order_id": key, "total": 1}), headers))])
        return key

    async def completed(self, key: str) -> str:
        task = self.worker.tasks
        number = home(key, self.partitions)

        def done() -> bool:
            state = task[number].fold().get(Slot("order", key)) if number in task else None
            return state is not None and state.phase is Phase.COMPLETED

        await self.until(done, f"{key} to be completed")
        state = task[number].fold().get(Slot("order", key))
        assert state is not None
        return state.id

    async def until(self, holds: Callable[[], bool], what: str, patience: float = PATIENCE) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + patience
        while not holds():
            assert loop.time() < end, f"waited {patience} s for {what}; the partitions are {self.worker.status()}"
            await asyncio.sleep(0.02)

    async def position(self, tp: TopicPartition) -> int:
        """Up to where an input is decided, or was only counted."""
        reader = self.worker.tasks[tp.partition % self.partitions]._inputs
        return reader.positions[tp].offset

    def count(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0

    def series(self) -> int:
        return sum(len(metric.samples) for metric in self.metrics.registry.collect())

    async def dead(self) -> list[StoredRecord]:
        found: list[StoredRecord] = []
        for tp, held in (await self.log.bounds([TopicPartition(DEADLETTERS, n) for n in range(self.partitions)])).items():
            found += [record async for lump in self.log.read(tp, held.start, held.end) for record in lump]
        return found


@asynccontextmanager
async def shop(log: Log, more: tuple[TopicSpec, ...] = ()) -> AsyncIterator[Shop]:
    """A shop that is open: its topics made, every partition running."""
    await log.create([*more, *specs(PARTITIONS)])
    made = Shop(log)
    tasks = made.participants = [asyncio.create_task(made.participant(service)) for service in SERVICES]
    working = asyncio.create_task(made.worker.run())
    try:
        await made.until(lambda: made.worker.ready and len(made.worker.tasks) == PARTITIONS, "the worker")
        yield made
    finally:
        made.worker.stop()
        await asyncio.wait([working], timeout=30)
        for task in [*tasks, working]:
            task.cancel()
        await asyncio.gather(*tasks, working, return_exceptions=True)
