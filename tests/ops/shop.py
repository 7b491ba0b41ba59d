"""A small shop to look at: its saga, its participants with a script, and a world of both around the production worker.

The participants know only the protocol. What they answer to whom is written down beforehand; whatever is not, they do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from random import Random
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel

from saga.app import App
from saga.engine.book import Book
from saga.engine.definition import Saga, minutes, seconds
from saga.engine.messages import DEADLETTERS, REQUESTS, Command, Event, Refusal
from saga.engine.nodes import START
from saga.engine.policy import Retry
from saga.log.base import Headers, Log, Outgoing, Record, StoredRecord, TopicPartition, TopicSpec
from saga.log.memory import MemoryBroker, MemoryLog
from saga.log.partition import home
from saga.metrics import Metrics
from saga.ops.look import History, Journals
from saga.runtime.codec import EVENTS, JOURNAL
from saga.runtime.worker import Worker, WorkerSettings
from saga.testing.clock import run

T = TypeVar("T")

PARTITIONS = 3
SERVICES = ("payment", "stock", "shipping", "mail")


class OrderPlaced(Event, type="order.placed.v1"):
    order_id: str
    total: int


class PaymentTaken(Event, type="payment.taken.v1"):
    payment_id: str


class PaymentDeclined(Refusal, type="payment.declined.v1"):
    reason: str


class PaymentReturned(Event, type="payment.returned.v1"):
    pass


class TakePayment(Command[PaymentTaken], service="payment", refuses=(PaymentDeclined,)):
    order_id: str
    amount: int


class ReturnPayment(Command[PaymentReturned], service="payment"):
    order_id: str


class StockReserved(Event, type="stock.reserved.v1"):
    pass


class StockReleased(Event, type="stock.released.v1"):
    pass


class ReserveStock(Command[StockReserved], service="stock"):
    order_id: str


class ReleaseStock(Command[StockReleased], service="stock"):
    order_id: str


class Shipped(Event, type="shipping.booked.v1"):
    tracking: str


class AddressRefused(Refusal, type="shipping.refused.v1"):
    reason: str


class Ship(Command[Shipped], service="shipping", refuses=(AddressRefused,)):
    order_id: str


class FindShipment(Command[Shipped], service="shipping"):
    order_id: str


class Told(Event, type="mail.told.v1"):
    pass


class Tell(Command[Told], service="mail"):
    order_id: str


class Order(BaseModel):
    order_id: str
    total: int
    payment_id: str = ""
    tracking: str = ""


def make(*, broken: bool = False) -> Saga[OrderPlaced, Order]:
    """The saga; with `broken` the code that takes the payment's reply raises."""
    shop = Saga("shop", version=1, starts_on=OrderPlaced, key=lambda o: o.order_id, data=Order, deadline=minutes(10))

    @shop.start
    def begin(o: OrderPlaced) -> Order:
        return Order(order_id=o.order_id, total=o.total)

    @shop.step(after=START, timeout=seconds(5), retry=Retry(attempts=3))
    def pay(o: Order) -> TakePayment:
        return TakePayment(order_id=o.order_id, amount=o.total)

    @pay.done
    def paid(o: Order, reply: PaymentTaken) -> Order:
        if broken:
            raise KeyError("payment_ref")
        return o.model_copy(update={"payment_id": reply.payment_id})

    @pay.compensate
    def refund(_: Order, sent: TakePayment) -> ReturnPayment:
        return ReturnPayment(order_id=sent.order_id)

    @shop.step(after=pay, timeout=seconds(5))
    def reserve(o: Order) -> ReserveStock:
        return ReserveStock(order_id=o.order_id)

    @reserve.compensate
    def release(_: Order, sent: ReserveStock) -> ReleaseStock:
        return ReleaseStock(order_id=sent.order_id)

    @shop.step(after=reserve, pivot=True, timeout=seconds(3), retry=Retry(attempts=1))
    def ship(o: Order) -> Ship:
        return Ship(order_id=o.order_id)

    @ship.verify
    def find(_: Order, sent: Ship) -> FindShipment:
        return FindShipment(order_id=sent.order_id)

    @ship.done
    def shipped(o: Order, reply: Shipped) -> Order:
        return o.model_copy(update={"tracking": reply.tracking})

    @shop.step(after=ship, timeout=seconds(5))
    def tell(o: Order) -> Tell:
        return Tell(order_id=o.order_id)

    return shop


app = App(sagas=[make()], begin="earliest", partitions=PARTITIONS)
broken_app = App(sagas=[make(broken=True)], begin="earliest", partitions=PARTITIONS)

# What a participant says, by "<step> <action>": outcome, type, data.
Said = tuple[str, str, Mapping[str, Any]]
SILENCE: Said = ("silence", "", {})
FAILED: Said = ("failed", "saga.failed.v1", {"reason": "gateway timeout"})
NOTHING: Said = ("nothing", "saga.nothing.v1", {})
DECLINED: Said = ("refused", "payment.declined.v1", {"reason": "no money left"})
NO_SUCH_STREET: Said = ("refused", "shipping.refused.v1", {"reason": "no such street"})
DONE: dict[str, Said] = {
    "pay execute": ("done", "payment.taken.v1", {"payment_id": "p-77"}),
    "pay compensate": ("done", "payment.returned.v1", {}),
    "reserve execute": ("done", "stock.reserved.v1", {}),
    "reserve compensate": ("done", "stock.released.v1", {}),
    "ship execute": ("done", "shipping.booked.v1", {"tracking": "T-1"}),
    "ship verify": ("done", "shipping.booked.v1", {"tracking": "T-1"}),
    "tell execute": ("done", "mail.told.v1", {}),
}


class Participants:
    """All services at once. `script`: what to say, in order, for "<key> <step> <action>"; after that, and else, it is done."""

    def __init__(self, log: Log, script: Mapping[str, list[Said]], *, pause: float = 0.2) -> None:
        self.log = log
        self.script = {name: list(said) for name, said in script.items()}
        self.pause = pause

    async def run(self) -> None:
        reader = self.log.reader()
        commands = [TopicPartition(f"{service}.commands", n) for service in SERVICES for n in range(PARTITIONS)]
        await reader.assign(dict.fromkeys(commands, 0))
        while True:
            for record in await reader.fetch(commands, limit=50, timeout=60.0):
                await self._answer(record)

    async def _answer(self, record: StoredRecord) -> None:
        given = {name.removeprefix("ce_"): value.decode() for name, value in record.headers}
        step, action = given["sagacommand"].split(":")[3], given["sagaaction"]
        written = self.script.get(f"{given['subject']} {step} {action}")
        outcome, type, data = written.pop(0) if written else DONE[f"{step} {action}"]
        if outcome == "silence":
            return
        await asyncio.sleep(self.pause)  # what a service's work takes
        headers = {
            "specversion": "1.0",
            "id": f"{given['id']}:reply",
            "type": type,
            "source": "services",
            "sagacommand": given["sagacommand"],
            "sagaattempt": given["sagaattempt"],
            "sagaoutcome": outcome,
        }
        reply = Record(record.key, orjson.dumps(data), tuple((f"ce_{name}", text.encode()) for name, text in headers.items()))
        await self.log.publish([Outgoing(TopicPartition(record.topic.replace(".commands", ".events"), record.partition), reply)])


async def place(log: Log, *keys: str) -> None:
    """Orders come in, in the partition of their key."""
    for key in keys:
        headers: Headers = (("ce_id", key.encode()), ("ce_source", b"order"), ("ce_type", b"order.placed.v1"))
        order = Record(key.encode(), orjson.dumps({"order_id": key, "total": 4200}), headers)
        await log.publish([Outgoing(TopicPartition("order.events", home(key, PARTITIONS)), order)])


class Shop:
    """The world under virtual time: a broker, participants with a script, one orchestrator at a time."""

    def __init__(self, script: Mapping[str, list[Said]]) -> None:
        self.broker = MemoryBroker(session_timeout=4.0, rebalance_timeout=4.0)
        names = [JOURNAL, REQUESTS, EVENTS, DEADLETTERS, "order.events"]
        names += [f"{service}.{kind}" for service in SERVICES for kind in ("commands", "events")]
        self.broker.create([TopicSpec(name, PARTITIONS, 1, {"max.message.bytes": "4194304"}) for name in names])
        self.log = MemoryLog(self.broker, "test")
        self.participants = Participants(self.log, script)
        self._worker: Worker | None = None
        self._working: asyncio.Task[None] | None = None

    async def open(self, **settings: Any) -> None:
        await self.log.open()
        self._tasks = [asyncio.create_task(self.participants.run())]
        await self.orchestrate(**settings)

    async def orchestrate(self, *, broken: bool = False, **settings: Any) -> None:
        """One orchestrator takes over from the last; `broken`: its definition raises."""
        await self.stop()
        given = WorkerSettings(PARTITIONS, "earliest", **settings)
        self._worker = Worker(Book([make(broken=broken)]), self.log, given, Metrics(), Random(0))
        self._working = asyncio.create_task(self._worker.run())

    async def stop(self) -> None:
        if self._worker is not None and self._working is not None:
            self._worker.stop()
            await self._working

    def now(self) -> int:
        return self.broker.now()

    async def history(self, key: str) -> History:
        (found,) = await Journals(self.log).histories(key)
        return found

    async def until(self, key: str, true: Callable[[History], bool]) -> History:
        """The key's history, once that is true of it; under virtual time waiting costs nothing."""
        for _ in range(1000):
            for history in await Journals(self.log).histories(key):
                if true(history):
                    return history
            await asyncio.sleep(0.5)
        raise AssertionError(f"it never came so far: {[h.state for h in await Journals(self.log).histories(key)]}")


def ended(history: History) -> bool:
    return history.state is not None and not history.state.live


def parked(history: History) -> bool:
    return history.state is not None and history.state.parked is not None


def play(script: Mapping[str, list[Said]], scene: Callable[[Shop], Coroutine[Any, Any, T]], **settings: Any) -> T:
    """Run a scene in a shop, under virtual time."""

    async def main() -> T:
        shop = Shop(script)
        await shop.open(**settings)
        result = await scene(shop)
        await shop.stop()
        return result

    return run(main())
