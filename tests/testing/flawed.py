"""A shop whose saga has one mistake, of the kind that people make: for what is to be found by exploring it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, PrivateAttr, SecretStr

from saga import START, Command, Event, Refusal, Retry, Saga, minutes, seconds


class Ordered(Event, type="shop.ordered.v1"):
    order_id: str
    total: int


class Taken(Event, type="payment.taken.v1"):
    payment_id: str


class Declined(Refusal, type="payment.declined.v1"):
    reason: str


class Returned(Event, type="payment.returned.v1"):
    pass


class Take(Command[Taken], service="payment", refuses=(Declined,)):
    order_id: str


class Return(Command[Returned], service="payment"):
    order_id: str = ""
    payment_id: str = ""


class Reserved(Event, type="stock.reserved.v1"):
    shelf: str


class Released(Event, type="stock.released.v1"):
    pass


class Reserve(Command[Reserved], service="stock"):
    order_id: str
    payment_id: str = ""


class Release(Command[Released], service="stock"):
    order_id: str
    tracking: str = ""


class Booked(Event, type="shipping.booked.v1"):
    tracking: str


class NoWay(Refusal, type="shipping.no-way.v1"):
    reason: str


class Book(Command[Booked], service="shipping", refuses=(NoWay,)):
    order_id: str


class Unbooked(Event, type="shipping.unbooked.v1"):
    pass


class Unbook(Command[Unbooked], service="shipping"):
    order_id: str


class PutBack(Command[Returned], service="payment"):
    """A compensation of what the stock did, which another service is asked for."""

    order_id: str


class Order(BaseModel):
    order_id: str
    payment_id: str = ""
    shelf: str = ""
    tracking: str = ""
    card: SecretStr = SecretStr("")
    _note: str = PrivateAttr("")


def paid(o: Order, reply: Taken) -> Order:
    return o.model_copy(update={"payment_id": reply.payment_id})


def reserved(o: Order, reply: Reserved) -> Order:
    return o.model_copy(update={"shelf": reply.shelf})


def booked(o: Order, reply: Booked) -> Order:
    return o.model_copy(update={"tracking": reply.tracking})


def refund(_: Order, sent: Take) -> Return:
    return Return(order_id=sent.order_id)


def release(_: Order, sent: Reserve) -> Release:
    return Release(order_id=sent.order_id)


def reserve(o: Order) -> Reserve:
    return Reserve(order_id=o.order_id)


@dataclass
class Shop:
    """pay → reserve → book, or pay and reserve at once (`parallel`); each function may be another one than the right one."""

    paid: Callable[[Order, Taken], Order] = paid
    reserved: Callable[[Order, Reserved], Order] = reserved
    refund: Callable[[Order, Take], Any] | None = refund
    release: Callable[[Order, Reserve], Any] | None = release
    reserve: Callable[[Order], Reserve] = reserve
    parallel: bool = False

    def saga(self) -> Saga[Ordered, Order]:
        shop = Saga("shop", version=1, starts_on=Ordered, key=lambda o: o.order_id, data=Order, deadline=minutes(10))

        @shop.start
        def begin(o: Ordered) -> Order:
            return Order(order_id=o.order_id)

        brief: dict[str, Any] = {"timeout": seconds(5), "retry": Retry(attempts=2)}

        @shop.step(after=START, **brief, **_unless(self.refund))
        def pay(o: Order) -> Take:
            return Take(order_id=o.order_id)

        take_stock = shop.step(after=START if self.parallel else pay, **brief, **_unless(self.release))(self.reserve)
        pay.done(self.paid)
        take_stock.done(self.reserved)
        if self.refund is not None:
            pay.compensate(self.refund)
        if self.release is not None:
            take_stock.compensate(self.release)

        @shop.step(after=[pay, take_stock] if self.parallel else take_stock, **brief)
        def book(o: Order) -> Book:
            return Book(order_id=o.order_id)

        book.done(booked)

        @book.compensate
        def unbook(_: Order, sent: Book) -> Unbook:
            return Unbook(order_id=sent.order_id)

        return shop


def _unless(compensation: object) -> dict[str, Any]:
    return {"compensation": None} if compensation is None else {}
