"""Sagas of every kind of step, for what operators see and do."""

from __future__ import annotations

from datetime import datetime, timedelta

from pydantic import BaseModel

from saga.app import App
from saga.engine.calendar import Slot
from saga.engine.definition import Saga, days, hours, minutes, seconds
from saga.engine.messages import Command, Event, Refusal
from saga.engine.nodes import START, unless
from saga.engine.policy import Retry


class OrderPlaced(Event, type="order.placed.v1"):
    order_id: str
    lines: tuple[str, ...] = ()
    express: bool = False


class Taken(Event, type="payment.taken.v1"): ...


class Returned(Event, type="payment.returned.v1"): ...


class Declined(Refusal, type="payment.declined.v1"):
    reason: str


class Take(Command[Taken], service="payment", refuses=(Declined,)):
    order_id: str


class Return(Command[Returned], service="payment"):
    order_id: str


class Reserved(Event, type="stock.reserved.v1"):
    shelf: int = 0


class Released(Event, type="stock.released.v1"): ...


class Out(Refusal, type="stock.out.v1"):
    reason: str = "none left"


class Reserve(Command[Reserved], service="stock", refuses=(Out,)):
    sku: str


class Release(Command[Released], service="stock"):
    sku: str


class Sent(Event, type="shipping.sent.v1"): ...


class Courier(Command[Sent], service="shipping"):
    order_id: str


class Post(Command[Sent], service="shipping"):
    order_id: str


class Told(Event, type="crm.told.v1"): ...


class Unwilling(Refusal, type="crm.unwilling.v1"):
    reason: str = "closed on Sundays"


class Tell(Command[Told], service="crm", refuses=(Unwilling,)):
    order_id: str


class Picked(Event, type="carrier.picked.v1"):
    order_id: str


class Chased(Event, type="carrier.chased.v1"): ...


class Chase(Command[Chased], service="carrier"):
    order_id: str


class Points(Event, type="loyalty.points_due.v1"):
    order_id: str


class Order(BaseModel):
    order_id: str
    lines: list[str]
    express: bool
    shelves: list[int] = []


class Account(BaseModel):
    order_id: str
    turns: int = 0


loyalty = Saga("loyalty", version=1, starts_on=Points, key=lambda e: e.order_id, data=Account, deadline=days(3))


@loyalty.start
def count(e: Points) -> Account:
    return Account(order_id=e.order_id)


loyalty.pause(hours(1), after=START, name="rest")


@loyalty.renew
def another(a: Account, _at: datetime) -> Account | None:
    return a.model_copy(update={"turns": a.turns + 1}) if a.turns < 7 else None


order = Saga("order", version=1, starts_on=OrderPlaced, key=lambda e: e.order_id, data=Order, deadline=minutes(30))


@order.start
def begin(e: OrderPlaced) -> Order:
    return Order(order_id=e.order_id, lines=list(e.lines), express=e.express)


@order.step(after=START, timeout=seconds(5), retry=Retry(attempts=2))
def pay(o: Order) -> Take:
    return Take(order_id=o.order_id)


@pay.compensate
def refund(_o: Order, sent: Take) -> Return:
    return Return(order_id=sent.order_id)


@order.step(after=pay, best_effort=True, compensation=None)
def crm(o: Order) -> Tell:
    return Tell(order_id=o.order_id)


@order.each(lambda o: o.lines, after=pay, at_once=3)
def reserve(_o: Order, line: str) -> Reserve:
    return Reserve(sku=line)


@reserve.done
def shelved(o: Order, _line: str, reply: Reserved) -> Order:
    return o.model_copy(update={"shelves": [*o.shelves, reply.shelf]})


@reserve.compensate
def release(_o: Order, line: str, _sent: Reserve) -> Release:
    return Release(sku=line)


@order.step(after=reserve, pivot=True, when=lambda o: o.express, timeout=seconds(5), retry=Retry(attempts=2), unknown="park")
def courier(o: Order) -> Courier:
    return Courier(order_id=o.order_id)


@order.step(after=reserve, pivot=True, when=unless(courier), timeout=seconds(5), retry=Retry(attempts=2), unknown="park")
def post(o: Order) -> Post:
    return Post(order_id=o.order_id)


picked = order.expect(Picked, key=lambda e: e.order_id, after=[courier, post], within=hours(4))


@picked.late
def chase(o: Order) -> Chase:
    return Chase(order_id=o.order_id)


@order.starts(loyalty, after=picked)
def thank(o: Order) -> Points:
    return Points(order_id=o.order_id)


# --- a question, a child ------------------------------------------------------------------------------------------------------------


class RefundAsked(Event, type="refunds.asked.v1"):
    order_id: str
    amount: int


class Verdict(Event, type="office.verdict.v1"):
    ok: bool
    note: str = ""


class PayOut(Event, type="refunds.due.v1"):
    order_id: str


class Closed(Event, type="office.closed.v1"): ...


class NotClosed(Refusal, type="office.not_closed.v1"):
    reason: str = "a form is missing"


class Close(Command[Closed], service="office", refuses=(NotClosed,)):
    order_id: str


class Refund(BaseModel):
    order_id: str
    amount: int
    ok: bool = False
    notes: dict[str, str] = {}


payout = Saga("payout", version=1, starts_on=PayOut, key=lambda e: e.order_id, data=Account, deadline=minutes(10))


@payout.start
def open_account(e: PayOut) -> Account:
    return Account(order_id=e.order_id)


@payout.step(after=START, timeout=seconds(5))
def transfer(a: Account) -> Take:
    return Take(order_id=a.order_id)


@transfer.compensate
def fetch_back(_a: Account, sent: Take) -> Return:
    return Return(order_id=sent.order_id)


refunds = Saga("refund", version=1, starts_on=RefundAsked, key=lambda e: e.order_id, data=Refund, deadline=days(5))


@refunds.start
def asked(e: RefundAsked) -> Refund:
    return Refund(order_id=e.order_id, amount=e.amount)


approval = refunds.ask(Verdict, after=START, within=hours(2), role="finance", escalate="cfo", name="approval")


@approval.done
def decided(r: Refund, v: Verdict) -> Refund:
    return r.model_copy(update={"ok": v.ok, "notes": {"words": str(100 // r.amount)}})  # raises for an amount of 0


@refunds.child(payout, after=approval, when=lambda r: r.ok)
def pay_out(r: Refund) -> PayOut:
    return PayOut(order_id=f"{r.order_id}-out")


@refunds.step(after=pay_out, compensation=None, timeout=seconds(5), retry=Retry(attempts=2), unknown="park")
def close(r: Refund) -> Close:
    return Close(order_id=r.order_id)


# --- only what needs no service: for the commands as processes ------------------------------------------------------------------------

forms = Saga("form", version=1, starts_on=RefundAsked, key=lambda e: e.order_id, data=Refund, deadline=days(5))


@forms.start
def form_asked(e: RefundAsked) -> Refund:
    return Refund(order_id=e.order_id, amount=e.amount)


form_approval = forms.ask(Verdict, after=START, within=hours(2), role="finance", escalate="cfo", name="approval")


@form_approval.done
def form_decided(r: Refund, v: Verdict) -> Refund:
    return r.model_copy(update={"ok": v.ok, "notes": {"words": str(100 // r.amount)}})


form_picked = forms.expect(Picked, key=lambda e: e.order_id, after=form_approval, within=hours(4))


# --- by the clock -------------------------------------------------------------------------------------------------------------------


class ReportDue(Event, type="report.due.v1"):
    day: str


class Report(BaseModel):
    day: str


report = Saga("report", version=1, starts_on=ReportDue, key=lambda e: e.day, data=Report, deadline=hours(2))


@report.start
def report_begin(e: ReportDue) -> Report:
    return Report(day=e.day)


report.pause(timedelta(minutes=5), after=START, name="collect")


@report.every("0 2 * * *", tz="Europe/Berlin")
def nightly(slot: Slot) -> ReportDue:
    return ReportDue(day=slot.at.date().isoformat())


app = App(sagas=[forms, report], begin="earliest", partitions=2)
