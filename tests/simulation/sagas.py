"""The saga of the simulation: parallel branches, a pivot with verify, a step after it, and every kind of compensation."""

from __future__ import annotations

from pydantic import BaseModel

from saga.engine.book import Book
from saga.engine.definition import Saga, minutes, seconds
from saga.engine.messages import Command, Event, Refusal
from saga.engine.nodes import START
from saga.engine.policy import Retry


class OrderPlaced(Event, type="order.placed.v1"):
    order_id: str
    total: int


class PaymentTaken(Event, type="payment.taken.v1"):
    payment_id: str


class PaymentDeclined(Refusal, type="payment.declined.v1"):
    why: str = ""


class PaymentReturned(Event, type="payment.returned.v1"):
    pass


class TakePayment(Command[PaymentTaken], service="payment", refuses=(PaymentDeclined,)):
    order_id: str
    amount: int


class ReturnPayment(Command[PaymentReturned], service="payment"):
    order_id: str


class StockReserved(Event, type="stock.reserved.v1"):
    pass


class OutOfStock(Refusal, type="stock.out.v1"):
    pass


class StockReleased(Event, type="stock.released.v1"):
    pass


class ReserveStock(Command[StockReserved], service="stock", refuses=(OutOfStock,)):
    order_id: str


class ReleaseStock(Command[StockReleased], service="stock"):
    order_id: str


class Greeted(Event, type="mail.greeted.v1"):
    pass


class Greet(Command[Greeted], service="mail"):
    order_id: str


class Shipped(Event, type="shipping.booked.v1"):
    tracking: str


class AddressRefused(Refusal, type="shipping.refused.v1"):
    pass


class Ship(Command[Shipped], service="shipping", refuses=(AddressRefused,)):
    order_id: str


class FindShipment(Command[Shipped], service="shipping"):
    order_id: str


class Confirmed(Event, type="mail.confirmed.v1"):
    pass


class Confirm(Command[Confirmed], service="mail"):
    order_id: str


class Order(BaseModel):
    order_id: str
    total: int
    payment_id: str = ""
    tracking: str = ""


broken: set[str] = set()  # orders for which user code raises, until it is fixed

QUICK = Retry(attempts=3, first=seconds(0.2))

order = Saga("order", version=1, starts_on=OrderPlaced, key=lambda o: o.order_id, data=Order, deadline=minutes(2))


@order.start
def begin(o: OrderPlaced) -> Order:
    return Order(order_id=o.order_id, total=o.total)


@order.step(after=START, timeout=seconds(3), retry=QUICK)
def pay(o: Order) -> TakePayment:
    return TakePayment(order_id=o.order_id, amount=o.total)


@pay.done
def paid(o: Order, reply: PaymentTaken) -> Order:
    if o.order_id in broken:
        raise RuntimeError(f"{o.order_id} meets a bug of the user's")
    return o.model_copy(update={"payment_id": reply.payment_id})


@pay.compensate
def refund(_: Order, sent: TakePayment) -> ReturnPayment:
    return ReturnPayment(order_id=sent.order_id)


@order.step(after=START, timeout=seconds(3), retry=QUICK, compensation=None)
def greet(o: Order) -> Greet:
    return Greet(order_id=o.order_id)


@order.step(after=pay, timeout=seconds(3), retry=QUICK)
def reserve(o: Order) -> ReserveStock:
    return ReserveStock(order_id=o.order_id)


@reserve.compensate
def release(_: Order, sent: ReserveStock) -> ReleaseStock:
    return ReleaseStock(order_id=sent.order_id)


@order.step(after=[reserve, greet], pivot=True, timeout=seconds(3), retry=QUICK)
def ship(o: Order) -> Ship:
    return Ship(order_id=o.order_id)


@ship.verify
def find(_: Order, sent: Ship) -> FindShipment:
    return FindShipment(order_id=sent.order_id)


@ship.done
def shipped(o: Order, reply: Shipped) -> Order:
    return o.model_copy(update={"tracking": reply.tracking})


@order.step(after=ship, timeout=seconds(3), retry=QUICK)
def confirm(o: Order) -> Confirm:
    return Confirm(order_id=o.order_id)


SERVICES = ("payment", "stock", "mail", "shipping")
UNDOES = {"pay": "payment.returned.v1", "reserve": "stock.released.v1"}


def book() -> Book:
    return Book([order])
