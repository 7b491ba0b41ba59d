"""A town with a payment service that answers when it is told to, and orchestrators of any code, on the log in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import orjson
from pydantic import BaseModel

from saga.app import App
from saga.engine.definition import Saga, minutes
from saga.engine.messages import Command, Event
from saga.engine.nodes import START, Node
from saga.engine.policy import Retry
from saga.engine.state import Instance, Phase
from saga.log.base import Headers, Outgoing, Record, StoredRecord, TopicPartition
from saga.log.memory import MemoryBroker, MemoryLog
from saga.log.partition import home
from saga.metrics import Metrics
from saga.orchestrate import label_names
from saga.runtime.codec import JOURNAL
from saga.runtime.fold import Fold
from saga.runtime.states import Slot
from saga.runtime.versions import GIVE_WAY_SECONDS
from saga.runtime.worker import Worker, WorkerSettings
from saga.testing.clock import run
from saga.topics import specs

PARTITIONS = 2
LONG = GIVE_WAY_SECONDS + 30


class Ordered(Event, type="order.placed.v1"):
    order_id: str


class Paid(Event, type="payment.taken.v1"):
    pass


class Pay(Command[Paid], service="payment"):
    order_id: str


class Checked(Event, type="payment.checked.v1"):
    """On a topic that version 1 reads too, but of a type that it does not name."""


class Check(Command[Checked], service="payment"):
    order_id: str


class Scored(Event, type="fraud.scored.v1"):
    """On a topic that only version 6 reads."""


class Score(Command[Scored], service="fraud"):
    order_id: str


class Delivered(Event, type="order.delivered.v1"):
    order_id: str


class Order(BaseModel):
    order_id: str


def version(number: int, *, begun: Callable[[Ordered], Order] | None = None) -> Saga[Ordered, Order]:
    """Version 1 pays; version 2 checks first; version 3 waits for the delivery too; version 6 has a score as its check."""
    shop = Saga("shop", version=number, starts_on=Ordered, key=lambda o: o.order_id, data=Order, deadline=minutes(30))
    shop.start(begun or begin)
    before: Node = START
    if number == 6:

        @shop.step(after=START, timeout=minutes(5), retry=Retry(attempts=1), compensation=None)
        def score(o: Order) -> Score:
            return Score(order_id=o.order_id)

        before = score
    elif number > 1:

        @shop.step(after=START, timeout=minutes(5), retry=Retry(attempts=1), compensation=None)
        def check(o: Order) -> Check:
            return Check(order_id=o.order_id)

        before = check

    @shop.step(after=before, timeout=minutes(5), retry=Retry(attempts=1), compensation=None)
    def pay(o: Order) -> Pay:
        return Pay(order_id=o.order_id)

    if number == 3:
        shop.expect(Delivered, key=lambda e: e.order_id, after=pay, within=None, name="delivered")
    return shop


def begin(o: Ordered) -> Order:
    return Order(order_id=o.order_id)


def other() -> Saga[Delivered, Order]:
    made = Saga("other", version=1, starts_on=Delivered, key=lambda o: o.order_id, data=Order, deadline=minutes(30))

    @made.start
    def begin(o: Delivered) -> Order:
        return Order(order_id=o.order_id)

    @made.step(after=START, timeout=minutes(5), retry=Retry(attempts=1), compensation=None)
    def pay(o: Order) -> Pay:
        return Pay(order_id=o.order_id)

    return made


class Town:
    """A broker, a payment service that answers when it is told to, and orchestrators of any code."""

    def __init__(self) -> None:
        self.broker = MemoryBroker(session_timeout=4.0, rebalance_timeout=4.0)
        self.log = MemoryLog(self.broker, "town")
        self.workers: list[tuple[Worker, asyncio.Task[None]]] = []

    async def open(self) -> None:
        await self.log.open()
        app = App(sagas=[version(1), version(2), version(3), version(6)], begin="earliest", partitions=PARTITIONS)
        await self.log.create(specs(app, replication=1, min_insync=1))

    async def orchestrate(self, *sagas: Saga[Any, Any]) -> Worker:
        log = MemoryLog(self.broker, f"o{len(self.workers)}")
        await log.open()
        app = App(sagas=sagas, begin="earliest", partitions=PARTITIONS)
        worker = Worker(app.book, log, WorkerSettings(PARTITIONS, "earliest"), Metrics(label_names(app)))
        self.workers.append((worker, asyncio.create_task(worker.run())))
        return worker

    async def stop(self, *workers: Worker) -> None:
        for worker, task in self.workers:
            if not workers or worker in workers:
                worker.stop()
                await task

    async def order(self, key: str, type: str = "order.placed.v1", id: str = "") -> None:
        headers: Headers = (("ce_id", (id or f"{type} {key}").encode()), ("ce_source", b"order"), ("ce_type", type.encode()))
        record = Record(key.encode(), orjson.dumps({"order_id": key}), headers)
        await self.log.publish([Outgoing(TopicPartition("order.events", self.home(key)), record)])

    def home(self, key: str) -> int:
        return home(key, PARTITIONS)

    async def pay(self, key: str, step: str = "pay") -> None:
        """A service does what the last command for this key and step says."""
        type = {"pay": "payment.taken.v1", "check": "payment.checked.v1", "score": "fraud.scored.v1"}[step]
        service = type.split(".")[0]
        commands = [fields(record) for record in self.records(f"{service}.commands")]
        sent = [f for f in commands if f["subject"] == key and f":{step}:" in f["sagacommand"]]
        given = {"id": f"{sent[-1]['id']}:reply", "type": type, "source": service, "sagaoutcome": "done"}
        given |= {name: sent[-1][name] for name in ("sagacommand", "sagaattempt")}
        headers: Headers = tuple((f"ce_{name}", text.encode()) for name, text in given.items())
        to = TopicPartition(f"{service}.events", self.home(key))
        await self.log.publish([Outgoing(to, Record(key.encode(), b"{}", headers))])

    def records(self, topic: str) -> list[StoredRecord]:
        found: list[StoredRecord] = []
        for number in range(PARTITIONS):
            tp = TopicPartition(topic, number)
            found += self.broker.slice(tp, *self.broker.bounds(tp))
        return found

    def state(self, key: str, saga: str = "shop") -> Instance | None:
        tp = TopicPartition(JOURNAL, self.home(key))
        fold = Fold(tp)
        for record in self.broker.slice(tp, *self.broker.bounds(tp)):
            fold.feed(record)
        return fold.get(Slot(saga, key))

    async def until(self, key: str, true: Callable[[Instance], bool], seconds: float = 20) -> Instance:
        for _ in range(int(seconds * 2)):
            state = self.state(key)
            if state is not None and true(state):
                return state
            await asyncio.sleep(0.5)
        raise AssertionError(f"{key} never came so far: {self.state(key)}; {[worker.status() for worker, _ in self.workers]}")


def fields(record: StoredRecord) -> dict[str, str]:
    return {name.removeprefix("ce_"): value.decode() for name, value in record.headers}


def at(step: str) -> Callable[[Instance], bool]:
    return lambda state: step in state.steps and state.live


def completed(state: Instance) -> bool:
    return state.phase is Phase.COMPLETED


def play(scene: Callable[[Town], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        town = Town()
        await town.open()
        await scene(town)
        await town.stop()

    run(main())
