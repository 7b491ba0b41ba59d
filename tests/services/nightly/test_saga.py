"""The nightly report: on time, made up for once, undone whole, and loud where the numbers are off."""

from __future__ import annotations

from datetime import UTC, datetime

from saga import hours
from saga.testing import Bench
from services.nightly.saga import nightly, sale
from topics.nightly import (
    AlarmRaised,
    CardRefused,
    DeliverReport,
    ForgetNumbers,
    GatherNumbers,
    NightDue,
    NumbersForgotten,
    NumbersGathered,
    RaiseAlarm,
    RenderReport,
    ReportDelivered,
    ReportRendered,
    ReportShredded,
    RingUp,
    RungUp,
    SaleWanted,
    ShredReport,
)
from topics.values import Money

DUE = NightDue(night="2026-01-01T02:00+01:00", until=datetime(2026, 1, 1, 1, tzinfo=UTC))


def bench(till: int = 500) -> Bench:
    made = Bench(sale, nightly)
    numbers = NumbersGathered(completed=5, compensated=1, journal_minor=500, till_minor=till, since=None)
    made.answer(GatherNumbers, numbers)
    made.answer(ForgetNumbers, lambda sent: NumbersForgotten(night=sent.night))
    made.answer(RenderReport, ReportRendered(html="a.html", csv="a.csv", plot="a.png"))
    made.answer(ShredReport, lambda sent: ReportShredded(night=sent.night))
    made.answer(DeliverReport, lambda sent: ReportDelivered(night=sent.night, mail="a.eml"))
    made.answer(RaiseAlarm, lambda sent: AlarmRaised(night=sent.night, off_minor=sent.off_minor, what=sent.what))
    return made


def test_every_night_has_its_report_and_nobody_is_woken_for_nothing() -> None:
    with bench() as b:
        b.advance(hours(72))
        nights = [case.key for case in b.cases if case.saga == "nightly"]
        assert nights == [f"2026-01-0{day}T02:00+01:00" for day in (1, 2, 3)]
        assert len(b.commands(DeliverReport)) == 3
        assert b.commands(RaiseAlarm) == []


def test_a_night_on_which_nobody_ran_is_made_up_for_once() -> None:
    with bench() as b:
        b.advance(hours(24))
        b.crash()
        b.advance(hours(24))
        assert len(b.commands(DeliverReport)) == 2


def test_numbers_that_are_off_raise_an_alarm() -> None:
    with bench(till=400) as b:
        assert b.start(DUE).outcome == "completed"
        (alarm,) = b.commands(RaiseAlarm)
        assert (alarm.night, alarm.off_minor, alarm.what) == (DUE.night, -100, "the till has -1.00 EUR against the journal")


def test_a_report_that_cannot_be_printed_gives_its_sales_to_the_next() -> None:
    with bench() as b:
        b.fail(RenderReport)
        case = b.start(DUE)
        b.settle()
        assert case.outcome == "compensated"
        assert b.commands(ForgetNumbers) == [ForgetNumbers(night=DUE.night)]
        assert b.commands(DeliverReport) == []


def test_a_refused_card_is_no_sale() -> None:
    with bench() as b:
        b.answer(RingUp, lambda sent: CardRefused(sale_id=sent.sale_id) if sent.card == "bad" else RungUp(sale_id=sent.sale_id))
        for card, outcome in (("good", "completed"), ("bad", "compensated")):
            wanted = SaleWanted(sale_id=card, amount=Money(minor=100, currency="EUR"), card=card)
            assert b.start(wanted).outcome == outcome
