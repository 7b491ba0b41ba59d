"""The sagas of the second simulation: a family of them, with every kind of step that the first one does not have.

trip     nights (a reservation for each) ─▶ visa (a child) ─▶ ship [pivot] ─▶ weather (an event, best effort) ─▶ bonus (a chain)
visa     pay ─▶ reserve        without a pivot: it is undone by a second run when the trip fails after it
bonus    greet, unless the trip is an odd one; then mail
"""

from __future__ import annotations

from pydantic import BaseModel

from saga.engine.book import Book
from saga.engine.definition import Saga, minutes, seconds
from saga.engine.messages import Event
from saga.engine.nodes import START, unless
from tests.simulation.sagas import (
    QUICK,
    Confirm,
    Greet,
    OrderPlaced,
    ReleaseStock,
    ReserveStock,
    ReturnPayment,
    Ship,
    TakePayment,
)


class Weather(Event, type="weather.reported.v1"):
    trip_id: str


class VisaWanted(Event, type="visa.wanted.v1"):
    trip_id: str
    total: int


class BonusDue(Event, type="bonus.due.v1"):
    trip_id: str
    total: int


class Trip(BaseModel):
    order_id: str
    total: int
    nights: list[int]
    visa: str = ""
    weather: bool = False


class Small(BaseModel):
    trip_id: str
    total: int


trip = Saga("trip", version=1, starts_on=OrderPlaced, key=lambda o: o.order_id, data=Trip, deadline=minutes(4))


@trip.start
def begin(o: OrderPlaced) -> Trip:
    return Trip(order_id=o.order_id, total=o.total, nights=list(range(o.total % 5)))


@trip.each(lambda t: t.nights, after=START, at_once=2, timeout=seconds(3), retry=QUICK)
def reserve(t: Trip, night: int) -> ReserveStock:
    return ReserveStock(order_id=f"{t.order_id}-{night}")


@reserve.compensate
def release(_: Trip, _night: int, sent: ReserveStock) -> ReleaseStock:
    return ReleaseStock(order_id=sent.order_id)


visa = Saga("visa", version=1, starts_on=VisaWanted, key=lambda v: f"visa-{v.trip_id}", data=Small, deadline=minutes(2))


@visa.start
def wanted(v: VisaWanted) -> Small:
    return Small(trip_id=v.trip_id, total=v.total)


@visa.step(after=START, timeout=seconds(3), retry=QUICK)
def pay(s: Small) -> TakePayment:
    return TakePayment(order_id=s.trip_id, amount=s.total)


@pay.compensate
def refund(_: Small, sent: TakePayment) -> ReturnPayment:
    return ReturnPayment(order_id=sent.order_id)


bonus = Saga("bonus", version=1, starts_on=BonusDue, key=lambda b: f"bonus-{b.trip_id}", data=Small, deadline=minutes(2))


@bonus.start
def due(b: BonusDue) -> Small:
    return Small(trip_id=b.trip_id, total=b.total)


@bonus.step(after=START, timeout=seconds(3), retry=QUICK, compensation=None, when=lambda s: s.total % 2 == 0)
def greet(s: Small) -> Greet:
    return Greet(order_id=s.trip_id)


@bonus.step(after=START, timeout=seconds(3), retry=QUICK, compensation=None, when=unless(greet))
def confirm(s: Small) -> Confirm:
    return Confirm(order_id=s.trip_id)


@trip.child(visa, after=reserve)
def apply_for(t: Trip) -> VisaWanted:
    return VisaWanted(trip_id=t.order_id, total=t.total)


@apply_for.done
def granted(t: Trip, v: Small) -> Trip:
    return t.model_copy(update={"visa": v.trip_id})


@trip.step(after=apply_for, pivot=True, timeout=seconds(3), retry=QUICK)
def ship(t: Trip) -> Ship:
    return Ship(order_id=t.order_id)


weather = trip.expect(Weather, key=lambda w: w.trip_id, after=ship, within=minutes(3), best_effort=True)


@weather.done
def reported(t: Trip, _: Weather) -> Trip:
    return t.model_copy(update={"weather": True})


@trip.starts(bonus, after=ship)
def reward(t: Trip) -> BonusDue:
    return BonusDue(trip_id=t.order_id, total=t.total)


def trips() -> Book:
    return Book([trip, visa, bonus])
