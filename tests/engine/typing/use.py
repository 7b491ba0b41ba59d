"""A saga as a user writes it: mypy --strict accepts all of it. Read by test_typing, which adds one mistake at a time."""

from __future__ import annotations

from datetime import timedelta

from pydantic import BaseModel

from saga.engine.definition import Saga, minutes
from saga.engine.messages import Command, Event, Refusal
from saga.engine.nodes import START
from saga.engine.policy import Retry


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


class StockReserved(Event, type="inventory.reserved.v1"):
    pass


class StockReleased(Event, type="inventory.released.v1"):
    pass


class ReserveStock(Command[StockReserved], service="inventory"):
    order_id: str


class ReleaseStock(Command[StockReleased], service="inventory"):
    order_id: str


class ShipmentBooked(Event, type="shipping.booked.v1"):
    tracking: str


class BookShipment(Command[ShipmentBooked], service="shipping"):
    order_id: str


class FindShipment(Command[ShipmentBooked], service="shipping"):
    order_id: str


class OrderConfirmed(Event, type="order.confirmed.v1"):
    pass


class ConfirmOrder(Command[OrderConfirmed], service="order"):
    order_id: str


class Checkout(BaseModel):
    order_id: str
    total: int
    payment_id: str = ""


class Refund(BaseModel):
    order_id: str


checkout = Saga(
    "checkout",
    version=1,
    starts_on=OrderPlaced,
    key=lambda o: o.order_id,
    data=Checkout,
    deadline=minutes(30),
    remember=timedelta(days=1),
)


@checkout.start
def begin(o: OrderPlaced) -> Checkout:
    return Checkout(order_id=o.order_id, total=o.total)


@checkout.step(after=START, retry=Retry(attempts=3), unknown="compensate")
def pay(c: Checkout) -> TakePayment:
    return TakePayment(order_id=c.order_id, amount=c.total)


@pay.done
def paid(c: Checkout, reply: PaymentTaken) -> Checkout:
    return c.model_copy(update={"payment_id": reply.payment_id})


@pay.compensate
def refund(_c: Checkout, sent: TakePayment) -> ReturnPayment:
    return ReturnPayment(order_id=sent.order_id)


@checkout.step(after=pay, timeout=None)
def reserve(c: Checkout) -> ReserveStock:
    return ReserveStock(order_id=c.order_id)


@reserve.compensate
def release(_c: Checkout, sent: ReserveStock) -> ReleaseStock:
    return ReleaseStock(order_id=sent.order_id)


@checkout.step(after=[pay, reserve], pivot=True)
def ship(c: Checkout) -> BookShipment:
    return BookShipment(order_id=c.order_id)


@ship.verify
def find(_c: Checkout, sent: BookShipment) -> FindShipment:
    return FindShipment(order_id=sent.order_id)


@checkout.step(after=ship)
def confirm(c: Checkout) -> ConfirmOrder:
    return ConfirmOrder(order_id=c.order_id)


checkout.check()
