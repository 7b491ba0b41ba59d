"""What the examples of docs/SEMANTICS.md take for granted: messages, data, and a saga `order` with its first step, `pay`."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel

from saga import (
    START,
    App,
    Command,
    Event,
    Retry,
    Saga,
    Slot,
    TurnBack,
    days,
    hours,
    minutes,
    seconds,
    unless,
)


class OrderPlaced(Event, type="order.placed.v1"):
    order_id: str
    lines: list[str]
    express: bool = False
    arrives: datetime | None = None


class Paid(Event, type="payment.paid.v1"):
    pass


class Returned(Event, type="payment.returned.v1"):
    pass


class Pay(Command[Paid], service="payment"):
    order_id: str


class Return(Command[Returned], service="payment"):
    order_id: str


class Reserved(Event, type="stock.reserved.v1"):
    shelf: str = ""


class Released(Event, type="stock.released.v1"):
    pass


class Reserve(Command[Reserved], service="stock"):
    order_id: str
    sku: str


class Release(Command[Released], service="stock"):
    order_id: str
    sku: str


class Shipped(Event, type="shipping.shipped.v1"):
    pass


class Ship(Command[Shipped], service="shipping"):
    order_id: str


class FindShipment(Command[Shipped], service="shipping"):
    order_id: str


class Delivered(Event, type="carrier.delivered.v1"):
    order_id: str
    by: str


class Chased(Event, type="carrier.chased.v1"):
    pass


class Chase(Command[Chased], service="carrier"):
    order_id: str


class Verdict(Event, type="finance.verdict.v1"):
    ok: bool


class Order(BaseModel):
    order_id: str
    lines: list[str]
    shelf: str = ""
    express: bool = False
    ok: bool = False
    delivered_by: str = ""
    months: int = 0


class InvoiceAsked(Event, type="invoice.asked.v1"):
    invoice_id: str


class Invoice(BaseModel):
    invoice_id: str


invoice = Saga("invoice", version=1, starts_on=InvoiceAsked, key=lambda e: e.invoice_id, data=Invoice, deadline=hours(1))


@invoice.start
def begin_invoice(e: InvoiceAsked) -> Invoice:
    return Invoice(invoice_id=e.invoice_id)


@invoice.step(after=START)
def charge(i: Invoice) -> Pay:
    return Pay(order_id=i.invoice_id)


@charge.compensate
def credit(_i: Invoice, sent: Pay) -> Return:
    return Return(order_id=sent.order_id)


order = Saga("order", version=1, starts_on=OrderPlaced, key=lambda e: e.order_id, data=Order, deadline=days(30))


@order.start
def begin(e: OrderPlaced) -> Order:
    return Order(order_id=e.order_id, lines=e.lines, express=e.express)


@order.step(after=START)
def pay(o: Order) -> Pay:
    return Pay(order_id=o.order_id)


@pay.compensate
def refund(_o: Order, sent: Pay) -> Return:
    return Return(order_id=sent.order_id)


__all__ = [
    "START",
    "App",
    "Chase",
    "Delivered",
    "Retry",
    "Slot",
    "TurnBack",
    "Verdict",
    "minutes",
    "seconds",
    "unless",
]
