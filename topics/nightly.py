"""A shop's day and its nightly report: sales at the till; numbers, a report, its delivery, and an alarm if the numbers are off."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from saga import Command, Event, Refusal
from topics.values import Money, Text


class SaleWanted(Event, type="sale.wanted.v1"):
    sale_id: Text
    amount: Money
    card: Text


class RungUp(Event, type="till.rung-up.v1"):
    sale_id: Text


class CardRefused(Refusal, type="till.card-refused.v1"):
    sale_id: Text


class RingUp(Command[RungUp], service="till", refuses=(CardRefused,)):
    sale_id: Text
    amount: Money
    card: Text


class NightDue(Event, type="night.due.v1"):
    """The night whose report is due. Sales until `until` are in it, and none that an earlier report had."""

    night: Text
    until: datetime


class NumbersGathered(Event, type="numbers.gathered.v1"):
    """What the journal says was sold, and what the till says of the same sales."""

    completed: int
    compensated: int
    journal_minor: int
    till_minor: int
    since: datetime | None = Field(description="Until when the report before this one was; none if it is the first.")


class NumbersForgotten(Event, type="numbers.forgotten.v1"):
    night: Text


class GatherNumbers(Command[NumbersGathered], service="numbers"):
    night: Text
    until: datetime


class ForgetNumbers(Command[NumbersForgotten], service="numbers"):
    night: Text


class ReportRendered(Event, type="press.rendered.v1"):
    html: str
    csv: str
    plot: str


class ReportShredded(Event, type="press.shredded.v1"):
    night: Text


class RenderReport(Command[ReportRendered], service="press"):
    night: Text
    until: datetime
    completed: int
    compensated: int
    journal_minor: int
    till_minor: int


class ShredReport(Command[ReportShredded], service="press"):
    night: Text


class ReportDelivered(Event, type="mailroom.delivered.v1"):
    night: Text
    mail: Text


class DeliverReport(Command[ReportDelivered], service="mailroom"):
    night: Text
    html: str
    csv: str
    plot: str


class AlarmRaised(Event, type="alarm.raised.v1"):
    """The numbers of a night are off. Whoever wants to be woken listens to this."""

    night: Text
    off_minor: int
    what: str


class RaiseAlarm(Command[AlarmRaised], service="alarm"):
    night: Text
    off_minor: int
    what: str
