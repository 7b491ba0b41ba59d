"""What a saga's own code decides from what came for a step: to turn back; and what it must not put into the data."""

from __future__ import annotations

from functools import cached_property

import pytest
from pydantic import BaseModel

from saga import START, Command, Event, Refusal, Saga, TurnBack, hours
from saga.testing import Bench, explore


class Wanted(Event, type="trip.wanted.v1"):
    trip_id: str


class Booked(Event, type="hotel.booked.v1"):
    price: int


class Cancelled(Event, type="hotel.cancelled.v1"): ...


class Ticketed(Event, type="air.ticketed.v1"): ...


class Book(Command[Booked], service="hotel"):
    trip_id: str


class Cancel(Command[Cancelled], service="hotel"):
    trip_id: str


class Full(Refusal, type="air.full.v1"): ...


class Ticket(Command[Ticketed], service="air", refuses=(Full,)):
    trip_id: str


class Rated(Event, type="rating.rated.v1"): ...


class Rate(Command[Rated], service="rating"):
    trip_id: str


class Strange:
    def __str__(self) -> str:
        return None  # type: ignore[return-value]


class Verdict(Event, type="office.verdict.v1"):
    trip_id: str
    ok: bool


class Trip(BaseModel):
    trip_id: str
    room: int = 0

    @cached_property
    def name(self) -> str:
        return self.trip_id.upper()


def trip(*, limit: int = 100, late_no: object = None, wrong: object = None) -> Saga[Wanted, Trip]:
    """hotel → approval → ticket, the pivot. A room that costs more than `limit`, and a person's no, turn it back."""
    saga = Saga("trip", version=1, starts_on=Wanted, key=lambda w: w.trip_id, data=Trip, deadline=hours(9))

    @saga.start
    def begin(w: Wanted) -> Trip:
        return Trip(trip_id=w.trip_id)

    @saga.step(after=START)
    def hotel(t: Trip) -> Book:
        return Book(trip_id=t.name.lower())

    @hotel.done
    def booked(t: Trip, reply: Booked) -> Trip:
        if reply.price > limit:
            raise TurnBack(f"{reply.price} is too much")
        return t.model_copy(update={wrong or "room": reply.price})  # type: ignore[dict-item]

    @hotel.compensate
    def cancel(_: Trip, sent: Book) -> Cancel:
        return Cancel(trip_id=sent.trip_id)

    approval = saga.ask(Verdict, after=hotel, within=hours(1), role="office", name="approval")

    @approval.done
    def decided(t: Trip, verdict: Verdict) -> Trip:
        if not verdict.ok:
            raise TurnBack("the office said no")
        return t

    @saga.step(after=approval, pivot=True)
    def ticket(t: Trip) -> Ticket:
        return Ticket(trip_id=t.trip_id)

    @ticket.done
    def ticketed(t: Trip, _reply: Ticketed) -> Trip:
        if late_no is not None:
            raise TurnBack(late_no)
        return t

    return saga


def test_a_persons_no_turns_back_and_what_was_done_is_undone() -> None:
    with Bench(trip()) as b:
        b.answer(Book, Booked(price=80))
        case = b.start(Wanted(trip_id="t"))
        case.answer("approval", Verdict(trip_id="t", ok=False), role="office")
        assert case.outcome == "compensated"
        assert (case.steps["hotel"], case.steps["approval"]) == ("compensated", "done")
        assert b.commands(Ticket) == []
        assert "its own code turned back at approval (the office said no)" in case.why()


def test_a_reply_that_will_not_do_is_undone_like_any_other() -> None:
    with Bench(trip(limit=50)) as b:
        b.answer(Book, Booked(price=80))
        case = b.start(Wanted(trip_id="t"))
        assert case.outcome == "compensated"
        assert b.commands(Cancel) == [Cancel(trip_id="t")]
        assert "turns back: its own code turned back at hotel (80 is too much)" in case.story()


def test_from_the_pivot_on_it_is_a_mistake_and_parks() -> None:
    with Bench(trip(late_no="too late for that")) as b:
        b.answer(Book, Booked(price=80))
        case = b.start(Wanted(trip_id="t"))
        case.answer("approval", Verdict(trip_id="t", ok=True), role="office")
        assert case.parked == "user-code"
        assert "ticket wants to turn back, but from the pivot on there is only forward: too late for that" in case.why()


def test_a_name_that_is_no_field_is_not_dropped_in_silence() -> None:
    with Bench(trip(wrong="rom")) as b:
        b.answer(Book, Booked(price=80))
        case = b.start(Wanted(trip_id="t"))
        assert case.parked == "user-code"
        assert "hotel set 'rom', which Trip has not; is 'room' meant?" in case.why()


def test_a_cached_property_of_the_data_is_no_strange_name() -> None:
    with Bench(trip()) as b:
        b.answer(Book, Booked(price=80))
        assert b.start(Wanted(trip_id="t")).data.room == 80


def test_a_name_that_is_no_text_parks_too() -> None:
    with Bench(trip(wrong=7)) as b:
        b.answer(Book, Booked(price=80))
        assert b.start(Wanted(trip_id="t")).parked == "user-code"


@pytest.mark.parametrize("reason", ["\ud800", Strange()], ids=["no UTF-8", "no text"])
def test_a_reason_that_cannot_be_written_harms_nobody(reason: object) -> None:
    with Bench(trip(late_no=reason)) as b:
        b.answer(Book, Booked(price=80))
        case = b.start(Wanted(trip_id="t"))
        case.answer("approval", Verdict(trip_id="t", ok=True), role="office")
        assert case.parked == "user-code"


def test_what_turns_back_already_is_not_parked_by_a_late_no() -> None:
    saga = trip()

    @saga.step(after=saga.steps["hotel"], best_effort=True, compensation=None)
    def rate(t: Trip) -> Rate:
        return Rate(trip_id=t.trip_id)

    @rate.done
    def rated(_t: Trip, _reply: Rated) -> Trip:
        raise TurnBack("a bad hotel")

    with Bench(saga) as b:
        b.answer(Book, Booked(price=80))
        b.silence(Rate)
        b.refuse(Ticket, Full())
        case = b.start(Wanted(trip_id="t"))
        case.answer("approval", Verdict(trip_id="t", ok=True), role="office")
        assert case.state == "compensating"
        b.reply(case, Rate, Rated())
        assert (case.outcome, case.steps["hotel"]) == ("compensated", "compensated")


@pytest.mark.parametrize("ok", [True, False])
def test_explore_finds_nothing(ok: bool) -> None:
    explore(trip(), start=Wanted(trip_id="t"), replies={Book: Booked(price=80), Verdict: Verdict(trip_id="t", ok=ok)})
