"""Sagas to draw: one with every kind of step and of option, a wide one, a long one."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel

from saga import START, Command, Event, Refusal, Retry, Saga, days, hours, minutes, seconds, unless


class OrderPlaced(Event, type="order.placed.v1"):
    order_id: str
    lines: tuple[str, ...] = ()
    express: bool = False


class Order(BaseModel):
    order_id: str
    lines: tuple[str, ...] = ()
    express: bool = False
    until: datetime = datetime(2026, 1, 1)


class Taken(Event, type="payment.taken.v1"): ...


class Returned(Event, type="payment.returned.v1"): ...


class Declined(Refusal, type="payment.declined.v1"): ...


class Take(Command[Taken], service="payment", refuses=(Declined,)): ...


class Find(Command[Taken], service="payment"): ...


class Return(Command[Returned], service="payment"): ...


class Reserved(Event, type="stock.reserved.v1"): ...


class Released(Event, type="stock.released.v1"): ...


class Reserve(Command[Reserved], service="stock"):
    sku: str


class Release(Command[Released], service="stock"):
    sku: str


class Sent(Event, type="carrier.sent.v1"): ...


class Send(Command[Sent], service="carrier"): ...


class Chase(Command[Sent], service="carrier"): ...


class PickedUp(Event, type="carrier.picked-up.v1"):
    order_id: str


class Verdict(Event, type="office.verdict.v1"):
    ok: bool


class Noted(Event, type="crm.noted.v1"): ...


class Note(Command[Noted], service="crm"): ...


def small(name: str) -> Saga[OrderPlaced, Order]:
    """A saga that others can start: one step, undone by nothing."""
    saga = Saga(name, version=1, starts_on=OrderPlaced, key=lambda o: o.order_id, data=Order, deadline=hours(1))

    @saga.start
    def begin(order: OrderPlaced) -> Order:
        return Order(order_id=order.order_id)

    @saga.step(after=START, compensation=None)
    def note(_: Order) -> Note:
        return Note()

    return saga


audit, rating = small("audit"), small("rating")
every = Saga("every-kind", version=3, starts_on=OrderPlaced, key=lambda o: o.order_id, data=Order, deadline=days(2))


@every.start
def begin(order: OrderPlaced) -> Order:
    return Order.model_validate(order.model_dump())


@every.step(after=START, timeout=seconds(10), retry=Retry(attempts=1))
def pay(_: Order) -> Take:
    return Take()


@pay.compensate
def refund(_: Order, _sent: Take) -> Return:
    return Return()


@pay.verify
def find(_: Order, _sent: Take) -> Find:
    return Find()


@every.each(lambda o: o.lines, after=pay, at_once=4)
def reserve(_: Order, line: str) -> Reserve:
    return Reserve(sku=line)


@reserve.compensate
def release(_: Order, line: str, _sent: Reserve) -> Release:
    return Release(sku=line)


@every.child(audit, after=pay)
def check(o: Order) -> OrderPlaced:
    return OrderPlaced(order_id=o.order_id)


@every.step(after=pay, best_effort=True, compensation=None, timeout=minutes(1.5))
def note(_: Order) -> Note:
    return Note()


approval = every.ask(Verdict, after=[reserve, check], within=hours(2), role="finance", escalate="cfo")


@every.step(after=approval, pivot=True, when=lambda o: o.express and o.lines[0] > '"<&#')
def courier(_: Order) -> Send:
    return Send()


@every.step(after=approval, pivot=True, when=unless(courier), unknown="park")
def post(_: Order) -> Send:
    return Send()


picked = every.expect(PickedUp, key=lambda e: e.order_id, after=[courier, post], within=hours(4), name="picked_up")


@picked.late
def chase(_: Order) -> Chase:
    return Chase()


cool = every.pause(days(14), after=picked, name="cool_off")
until = every.pause(lambda o: o.until, after=picked, name="until", when=courier)


@every.step(after=[cool, until], timeout=seconds(5))
def close(_: Order) -> Note:
    return Note()


@every.starts(rating, after=cool, best_effort=True)
def rate(o: Order) -> OrderPlaced:
    return OrderPlaced(order_id=o.order_id)


def _step(saga: Saga[Any, Order], name: str, after: Any, **options: Any) -> Any:
    def function(_: Order) -> Reserve:
        return Reserve(sku=name)

    function.__name__ = name
    step = saga.step(after=after, **options)(function)
    if not options:

        @step.compensate
        def undo(_: Order, _sent: Reserve) -> Release:
            return Release(sku=name)

    return step


def wide(steps: int) -> Saga[OrderPlaced, Order]:
    """One, then so many side by side, then one."""
    saga = Saga("wide", version=1, starts_on=OrderPlaced, key=lambda o: o.order_id, data=Order, deadline=hours(1))
    saga.start(begin)
    first = _step(saga, "first", START)
    _step(saga, "last", [_step(saga, f"beside_{n}", first) for n in range(steps)], compensation=None)
    return saga


def long(steps: int) -> Saga[OrderPlaced, Order]:
    """So many, one after the other; the pivot is in the middle."""
    saga = Saga("long", version=1, starts_on=OrderPlaced, key=lambda o: o.order_id, data=Order, deadline=hours(1))
    saga.start(begin)
    last: Any = START
    for n in range(steps // 2):
        last = _step(saga, f"step_{n}", last)
    last = _step(saga, "pivot", last, pivot=True)
    for n in range(steps // 2 + 1, steps):
        last = _step(saga, f"a_step_with_a_name_that_is_too_long_for_its_box_{n}", last, timeout=minutes(1))
    return saga


def ladder(rungs: int) -> Saga[OrderPlaced, Order]:
    """So many rows of two steps, each after both of the row above, and nothing to undo: 2 ** rungs ways lead through it."""
    saga = Saga("ladder", version=1, starts_on=OrderPlaced, key=lambda o: o.order_id, data=Order, deadline=hours(1))
    saga.start(begin)
    last: Any = START
    for n in range(rungs):
        last = [_step(saga, f"{side}_{n}", last, compensation=None) for side in ("left", "right")]
    return saga


ALL = [every, audit, wide(12), wide(5), long(20)]
