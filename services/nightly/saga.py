"""The nightly report: each night the day's numbers are gathered, printed and delivered; and if they are off, somebody is told.

    every night ───▶ gather ───▶ print ───▶ deliver ───▶ warn
                                            pivot        only if the numbers are off

A night on which no orchestrator ran is made up for once. Until the report is in the mail all of it can be undone, so the next report
has the sales that this one would have had. Beside it, the process that is reported on: a sale.
"""

from __future__ import annotations

from pydantic import BaseModel

from saga import START, Retry, Saga, Slot, minutes, seconds
from services.nightly.settings import NIGHT, ZONE
from topics.nightly import (
    DeliverReport,
    ForgetNumbers,
    GatherNumbers,
    NightDue,
    NumbersGathered,
    RaiseAlarm,
    RenderReport,
    ReportRendered,
    RingUp,
    SaleWanted,
    ShredReport,
)
from topics.values import Money

SOON = seconds(10)


class Sale(BaseModel):
    sale_id: str
    amount: Money
    card: str


sale = Saga("sale", version=1, starts_on=SaleWanted, key=lambda wanted: wanted.sale_id, data=Sale, deadline=minutes(10))


@sale.start
def wanted(s: SaleWanted) -> Sale:
    return Sale(sale_id=s.sale_id, amount=s.amount, card=s.card)


@sale.step(after=START, timeout=SOON, compensation=None)
def ring_up(s: Sale) -> RingUp:
    return RingUp(sale_id=s.sale_id, amount=s.amount, card=s.card)


class Report(BaseModel):
    due: NightDue
    numbers: NumbersGathered | None = None
    printed: ReportRendered | None = None

    @property
    def off_minor(self) -> int:
        """By how much journal and till disagree; 0 if they do not."""
        return 0 if self.numbers is None else self.numbers.till_minor - self.numbers.journal_minor


nightly = Saga("nightly", version=1, starts_on=NightDue, key=lambda due: due.night, data=Report, deadline=minutes(30))


@nightly.every(NIGHT, tz=ZONE, missed="once", overlap="queue")
def night(slot: Slot) -> NightDue:
    return NightDue(night=slot.at.isoformat(timespec="minutes"), until=slot.at)


@nightly.start
def begin(due: NightDue) -> Report:
    return Report(due=due)


@nightly.step(after=START, timeout=seconds(60))
def gather(r: Report) -> GatherNumbers:
    return GatherNumbers(night=r.due.night, until=r.due.until)


@gather.done
def gathered(r: Report, reply: NumbersGathered) -> Report:
    return r.model_copy(update={"numbers": reply})


@gather.compensate
def forget(_: Report, sent: GatherNumbers) -> ForgetNumbers:
    return ForgetNumbers(night=sent.night)


@nightly.step(after=gather, timeout=seconds(60))
def render(r: Report) -> RenderReport:
    assert r.numbers is not None
    return RenderReport(night=r.due.night, until=r.due.until, **r.numbers.model_dump(exclude={"since"}))


@render.done
def printed(r: Report, reply: ReportRendered) -> Report:
    return r.model_copy(update={"printed": reply})


@render.compensate
def shred(_: Report, sent: RenderReport) -> ShredReport:
    return ShredReport(night=sent.night)


@nightly.step(
    after=render, pivot=True, timeout=SOON, retry=Retry(attempts=20)
)  # a mail may be tried as often as need be: it is one file
def deliver(r: Report) -> DeliverReport:
    assert r.printed is not None
    return DeliverReport(night=r.due.night, html=r.printed.html, csv=r.printed.csv, plot=r.printed.plot)


@nightly.step(after=deliver, timeout=SOON, when=lambda r: r.off_minor != 0)
def warn(r: Report) -> RaiseAlarm:
    what = f"the till has {r.off_minor / 100:+.2f} EUR against the journal"
    return RaiseAlarm(night=r.due.night, off_minor=r.off_minor, what=what)
