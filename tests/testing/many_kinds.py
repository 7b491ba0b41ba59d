"""Small sagas, each with another kind of step, for exploring them. None has a mistake, but for what a test gives them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from pydantic import BaseModel

from saga import START, Command, Event, Refusal, Retry, Saga, hours, minutes, seconds, unless

BRIEF = Retry(attempts=2)


class Ordered(Event, type="shop.ordered.v1"):
    order_id: str
    skus: list[str]
    express: bool = False


class Reserved(Event, type="stock.reserved.v1"):
    sku: str


class OutOfStock(Refusal, type="stock.out.v1"):
    sku: str


class Reserve(Command[Reserved], service="stock", refuses=(OutOfStock,)):
    sku: str


class Released(Event, type="stock.released.v1"):
    pass


class Release(Command[Released], service="stock"):
    sku: str


class Shipped(Event, type="shipping.shipped.v1"):
    order_id: str


class Ship(Command[Shipped], service="shipping"):
    order_id: str


class Noted(Event, type="crm.noted.v1"):
    pass


class Note(Command[Noted], service="crm"):
    order_id: str


class Picked(Event, type="carrier.picked.v1"):
    order_id: str


class Chased(Event, type="carrier.chased.v1"):
    pass


class Chase(Command[Chased], service="carrier"):
    order_id: str


class Verdict(Event, type="desk.verdict.v1"):
    good: bool


class Order(BaseModel):
    order_id: str
    skus: list[str] = []
    reserved: list[str] = []
    express: bool = False
    good: bool = False


STARTED = Ordered(order_id="o1", skus=["a", "b"])


def empty(name: str) -> Saga[Ordered, Order]:
    saga = Saga(name, version=1, starts_on=Ordered, key=lambda o: o.order_id, data=Order, deadline=hours(1))

    @saga.start
    def begin(o: Ordered) -> Order:
        return Order(order_id=o.order_id, skus=o.skus, express=o.express)

    return saga


def ship(o: Order) -> Ship:
    return Ship(order_id=o.order_id)


def mapped(
    released: Callable[[Order, str, Reserve], Release] | None = None, at_once: int = 2, pivot: bool = True
) -> Saga[Ordered, Order]:
    """Every item is reserved, then all are shipped."""
    saga = empty("mapped")

    @saga.each(lambda o: o.skus, after=START, at_once=at_once, timeout=seconds(5), retry=BRIEF)
    def reserve(_: Order, sku: str) -> Reserve:
        return Reserve(sku=sku)

    @reserve.done
    def put(o: Order, sku: str, _: Reserved) -> Order:
        return o.model_copy(update={"reserved": sorted([*o.reserved, sku])})

    @reserve.compensate
    def release(o: Order, sku: str, sent: Reserve) -> Release:
        return released(o, sku, sent) if released is not None else Release(sku=sku)

    options: dict[str, Any] = {"pivot": True} if pivot else {"compensation": None}
    saga.step(after=reserve, timeout=seconds(5), retry=BRIEF, **options)(ship)
    return saga


def branching() -> Saga[Ordered, Order]:
    """Express orders are noted first, others reserved; then they are shipped. The note is wanted, not needed."""
    saga = empty("branching")

    @saga.step(after=START, when=lambda o: o.express, best_effort=True, timeout=seconds(5), retry=BRIEF)
    def note(o: Order) -> Note:
        return Note(order_id=o.order_id)

    @saga.step(after=START, when=unless(note), timeout=seconds(5), retry=BRIEF)
    def reserve(o: Order) -> Reserve:
        return Reserve(sku=o.skus[0])

    @reserve.compensate
    def release(_: Order, sent: Reserve) -> Release:
        return Release(sku=sent.sku)

    saga.step(after=[note, reserve], pivot=True, timeout=seconds(5), retry=BRIEF)(ship)
    return saga


def awaiting(*, after_pivot: bool = False, remedy: bool = True) -> Saga[Ordered, Order]:
    """Reserved, then somebody picks it up; who does not is chased. `after_pivot`: it is shipped first."""
    saga = empty("awaiting")

    @saga.step(after=START, timeout=seconds(5), retry=BRIEF)
    def reserve(o: Order) -> Reserve:
        return Reserve(sku=o.skus[0])

    @reserve.compensate
    def release(_: Order, sent: Reserve) -> Release:
        return Release(sku=sent.sku)

    options: dict[str, Any] = {"pivot": True, "timeout": seconds(5), "retry": BRIEF}
    first = saga.step(after=reserve, **options)(ship) if after_pivot else reserve
    picked = saga.expect(Picked, key=lambda e: e.order_id, after=first, within=minutes(5))
    if remedy:

        @picked.late
        def chase(o: Order) -> Chase:
            return Chase(order_id=o.order_id)

    if not after_pivot:
        saga.step(after=picked, **options)(ship)
    return saga


def asking(*, patient: bool = False) -> Saga[Ordered, Order]:
    """Somebody at the desk says whether it is good; then, after a while, it is shipped if it is. `patient`: only the deadline ends it."""
    saga = empty("asking")

    @saga.step(after=START, timeout=seconds(5), retry=BRIEF)
    def reserve(o: Order) -> Reserve:
        return Reserve(sku=o.skus[0])

    @reserve.compensate
    def release(_: Order, sent: Reserve) -> Release:
        return Release(sku=sent.sku)

    verdict = saga.ask(Verdict, after=reserve, within=None if patient else minutes(5), role="desk", escalate="boss")

    @verdict.done
    def heard(o: Order, v: Verdict) -> Order:
        return o.model_copy(update={"good": v.good})

    a_while = saga.pause(minutes(1), after=verdict, name="a_while")
    saga.step(after=a_while, when=lambda o: o.good, pivot=True, timeout=seconds(5), retry=BRIEF)(ship)
    return saga


def child() -> Saga[Ordered, Order]:
    """What the parent starts: it reserves, and that can be undone."""
    saga = empty("child")

    @saga.step(after=START, timeout=seconds(5), retry=BRIEF)
    def reserve(o: Order) -> Reserve:
        return Reserve(sku=o.skus[0])

    @reserve.compensate
    def release(_: Order, sent: Reserve) -> Release:
        return Release(sku=sent.sku)

    return saga


def parent(kid: Saga[Ordered, Order], other: Saga[Ordered, Order], *, chain_first: bool = False) -> Saga[Ordered, Order]:
    """A child, then the pivot, then a chain; or the chain too early."""
    saga = empty("parent")

    @saga.child(kid, after=START)
    def delegate(o: Order) -> Ordered:
        return Ordered(order_id=f"{o.order_id}-1", skus=o.skus)

    @delegate.done
    def came(o: Order, k: Order) -> Order:
        return o.model_copy(update={"reserved": k.skus})

    def follow(o: Order) -> Ordered:
        return Ordered(order_id=f"{o.order_id}-2", skus=o.skus)

    first = saga.starts(other, after=delegate)(follow) if chain_first else delegate
    shipping = saga.step(after=first, pivot=True, timeout=seconds(5), retry=BRIEF)(ship)
    if not chain_first:
        saga.starts(other, after=shipping)(follow)
    return saga


def renewing() -> Saga[Ordered, Order]:
    """It ships, and begins anew until there is nothing left."""
    saga = empty("renewing")
    saga.step(after=START, timeout=seconds(5), retry=BRIEF, compensation=None)(ship)

    @saga.renew
    def again(o: Order, _: datetime) -> Order | None:
        return o.model_copy(update={"skus": o.skus[1:]}) if o.skus else None

    return saga
