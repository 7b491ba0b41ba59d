"""Sagas as users write them, with every kind of step: mypy --strict accepts all of it. test_typing adds one mistake at a time."""

from __future__ import annotations

from datetime import datetime, timedelta

from pydantic import BaseModel

from saga import START, Command, Event, Participant, Refusal, Retry, Saga, Slot, Work, days, hours, minutes, unless


class OrderPlaced(Event, type="order.placed.v1"):
    order_id: str
    total: int
    lines: list[str]


class PaymentTaken(Event, type="payment.taken.v1"):
    payment_id: str


class PaymentDeclined(Refusal, type="payment.declined.v1"):
    reason: str


class PaymentReturned(Event, type="payment.returned.v1"):
    pass


class TakePayment(Command[PaymentTaken], service="payment", refuses=(PaymentDeclined,)):
    order_id: str
    amount: int


class ReturnPayment(Command[PaymentReturned], service="payment"):
    order_id: str


class StockReserved(Event, type="inventory.reserved.v1"):
    pass


class StockReleased(Event, type="inventory.released.v1"):
    pass


class ReserveStock(Command[StockReserved], service="inventory"):
    order_id: str
    sku: str


class ReleaseStock(Command[StockReleased], service="inventory"):
    order_id: str
    sku: str


class ShipmentBooked(Event, type="shipping.booked.v1"):
    order_id: str
    tracking: str


class BookShipment(Command[ShipmentBooked], service="shipping"):
    order_id: str


class FindShipment(Command[ShipmentBooked], service="shipping"):
    order_id: str


class OrderConfirmed(Event, type="order.confirmed.v1"):
    pass


class ConfirmOrder(Command[OrderConfirmed], service="order"):
    order_id: str


class Checkout(BaseModel):
    order_id: str
    total: int
    lines: list[str] = []
    payment_id: str = ""


checkout = Saga(
    "checkout",
    version=1,
    starts_on=OrderPlaced,
    key=lambda o: o.order_id,
    data=Checkout,
    deadline=minutes(30),
    remember=timedelta(days=1),
)


@checkout.start
def begin(o: OrderPlaced) -> Checkout:
    return Checkout(order_id=o.order_id, total=o.total, lines=o.lines)


@checkout.step(after=START, retry=Retry(attempts=3), unknown="compensate")
def pay(c: Checkout) -> TakePayment:
    return TakePayment(order_id=c.order_id, amount=c.total)


@pay.done
def paid(c: Checkout, reply: PaymentTaken) -> Checkout:
    return c.model_copy(update={"payment_id": reply.payment_id})


@pay.compensate
def refund(_c: Checkout, sent: TakePayment) -> ReturnPayment:
    return ReturnPayment(order_id=sent.order_id)


@checkout.each(lambda c: c.lines, after=pay, at_once=5, timeout=None)
def reserve(c: Checkout, line: str) -> ReserveStock:
    return ReserveStock(order_id=c.order_id, sku=line)


@reserve.done
def reserved(c: Checkout, _line: str, _reply: StockReserved) -> Checkout:
    return c


@reserve.compensate
def release(c: Checkout, line: str, _sent: ReserveStock) -> ReleaseStock:
    return ReleaseStock(order_id=c.order_id, sku=line)


@checkout.step(after=[pay, reserve], pivot=True)
def ship(c: Checkout) -> BookShipment:
    return BookShipment(order_id=c.order_id)


@ship.verify
def find(_c: Checkout, sent: BookShipment) -> FindShipment:
    return FindShipment(order_id=sent.order_id)


@checkout.step(after=ship)
def confirm(c: Checkout) -> ConfirmOrder:
    return ConfirmOrder(order_id=c.order_id)


@checkout.step(after=ship, when=lambda c: c.total > 100, best_effort=True)
def thank(c: Checkout) -> ConfirmOrder:
    return ConfirmOrder(order_id=c.order_id)


@checkout.step(after=ship, when=unless(thank), best_effort=True)
def remind(c: Checkout) -> ConfirmOrder:
    return ConfirmOrder(order_id=c.order_id)


# --- several services are told, one of them if it can be ---------------------------------------------------------------------------


class CustomerChanged(Event, type="customer.changed.v1"):
    change_id: str
    customer_id: str


class BillingUpdated(Event, type="billing.updated.v1"):
    pass


class BillingReverted(Event, type="billing.reverted.v1"):
    pass


class CrmUpdated(Event, type="crm.updated.v1"):
    pass


class UpdateBilling(Command[BillingUpdated], service="billing"):
    customer_id: str


class RevertBilling(Command[BillingReverted], service="billing"):
    customer_id: str


class UpdateCrm(Command[CrmUpdated], service="crm"):
    customer_id: str


class Change(BaseModel):
    customer_id: str


change = Saga("customer-change", version=1, starts_on=CustomerChanged, key=lambda e: e.change_id, data=Change, deadline=hours(1))


@change.start
def changed(e: CustomerChanged) -> Change:
    return Change(customer_id=e.customer_id)


@change.step(after=START)
def billing(c: Change) -> UpdateBilling:
    return UpdateBilling(customer_id=c.customer_id)


@billing.compensate
def revert(c: Change, _sent: UpdateBilling) -> RevertBilling:
    return RevertBilling(customer_id=c.customer_id)


@change.step(after=START, best_effort=True)
def crm(c: Change) -> UpdateCrm:
    return UpdateCrm(customer_id=c.customer_id)


# --- what nobody commands is watched --------------------------------------------------------------------------------------------------


class ParcelPicked(Event, type="carrier.picked.v1"):
    order_id: str


class ParcelDelivered(Event, type="carrier.delivered.v1"):
    order_id: str


class Chased(Event, type="carrier.chased.v1"):
    pass


class ChaseCarrier(Command[Chased], service="carrier"):
    order_id: str


class Parcel(BaseModel):
    order_id: str
    seen: datetime | None = None


parcel = Saga("parcel", version=1, starts_on=ShipmentBooked, key=lambda e: e.order_id, data=Parcel, deadline=days(7))


@parcel.start
def booked(e: ShipmentBooked) -> Parcel:
    return Parcel(order_id=e.order_id)


picked = parcel.expect(ParcelPicked, key=lambda e: e.order_id, after=START, within=hours(4))
delivered = parcel.expect(ParcelDelivered, key=lambda e: e.order_id, after=picked, within=days(3))
rest = parcel.pause(hours(1), after=delivered, name="rest")


@picked.done
def was_picked(p: Parcel, _event: ParcelPicked) -> Parcel:
    return p


@delivered.late
def chase(p: Parcel) -> ChaseCarrier:
    return ChaseCarrier(order_id=p.order_id)


@rest.done
def rested(p: Parcel, at: datetime) -> Parcel:
    return p.model_copy(update={"seen": at})


@parcel.renew
def once_more(_p: Parcel, _at: datetime) -> Parcel | None:
    return None


# --- a person is asked, another saga is started ---------------------------------------------------------------------------------------


class RefundAsked(Event, type="refund.asked.v1"):
    order_id: str


class Verdict(Event, type="finance.verdict.v1"):
    ok: bool


class Refund(BaseModel):
    order_id: str
    ok: bool = False


refunds = Saga("refund", version=1, starts_on=RefundAsked, key=lambda e: e.order_id, data=Refund, deadline=days(5))


@refunds.start
def asked(e: RefundAsked) -> Refund:
    return Refund(order_id=e.order_id)


approval = refunds.ask(Verdict, after=START, within=days(2), role="finance", escalate="board")


@approval.done
def decided(r: Refund, v: Verdict) -> Refund:
    return r.model_copy(update={"ok": v.ok})


@refunds.child(change, after=approval)
def notify_crm(r: Refund) -> CustomerChanged:
    return CustomerChanged(change_id=r.order_id, customer_id="")


@notify_crm.done
def notified(r: Refund, _child: Change) -> Refund:
    return r


@refunds.starts(checkout, after=notify_crm)
def another_order(r: Refund) -> OrderPlaced:
    return OrderPlaced(order_id=f"{r.order_id}-again", total=0, lines=[])


# --- by the clock -----------------------------------------------------------------------------------------------------------------------


class ReportDue(Event, type="report.due.v1"):
    day: str


class Report(BaseModel):
    day: str


report = Saga("nightly-report", version=1, starts_on=ReportDue, key=lambda r: r.day, data=Report, deadline=hours(2))


@report.start
def due(e: ReportDue) -> Report:
    return Report(day=e.day)


@report.step(after=START, compensation=None)
def write(r: Report) -> UpdateCrm:
    return UpdateCrm(customer_id=r.day)


@report.every("0 2 * * *", tz="Europe/Berlin")
def tonight(slot: Slot) -> ReportDue:
    return ReportDue(day=slot.at.date().isoformat())


# --- a participant ----------------------------------------------------------------------------------------------------------------------

payment = Participant("payment")


@payment.handles(TakePayment)
async def take(_cmd: TakePayment, work: Work) -> PaymentTaken:
    return PaymentTaken(payment_id=work.command_id)


for saga in (checkout, change, parcel, refunds, report):
    saga.check()
